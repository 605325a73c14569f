"""`ports`: which ports of the host may be published, at which of its addresses.

Owns the form of a pattern, `[ADDRESS:]PORTS[/PROTOCOL]`. Must not know which ports are free. Begin at `Pattern.parse`.

    8000-8999            these ports, at whatever address
    127.0.0.1:*          any port of that address, and one that the engine chooses
    [::1]:8080/udp       this port and protocol

A port that is not named, or 0, is chosen by the engine; so are all under PublishAllPorts. That fits only `*`. A container
in the host's own network has all its ports, and one in the network of another has those of the other, whatever they are.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Self

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.places import (
    CREATE,
    HOST,
    SERVICES,
    START,
    host_config,
    may_be_id,
    no_containers,
    service_networks,
)
from sockproxy.judging.requirements.wording import keyed, listed, shown

PORT_MAX = 65535
EVERY_PORT = (0, PORT_MAX)
"""What `*` stands for, and a port that the engine chooses, which may be any."""

_PATTERN = re.compile(r"(?:(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):)?(\*|[0-9]{1,5}(?:-[0-9]{1,5})?)(?:/(tcp|udp|sctp))?")
_PORTS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")

Address = IPv4Address | IPv6Address


class Pattern(NamedTuple):
    """Ports that are allowed; None: at whatever address, of whatever protocol."""

    address: Address | None
    ports: tuple[int, int]
    protocol: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is no pattern."""
        found = _PATTERN.fullmatch(text)
        address = None if found is None else parse_address(found[1] or found[2] or "")
        ports = None if found is None else EVERY_PORT if found[3] == "*" else parse_ports(found[3])
        is_chosen = ports == EVERY_PORT and found is not None and found[3] != "*"  # a 0, which is no port
        if found is None or ports is None or is_chosen or (address is None and (found[1] or found[2])):
            raise ValueError(f'{shown(text)} is no port: "80", "8000-8999", "127.0.0.1:*", "[::1]:53/udp"')
        return cls(address, ports, found[4])


class Published(NamedTuple):
    """Ports that are asked for: where, as what text, and what that comes to; None for what cannot be read."""

    field: str
    text: str
    address: Address | None
    ports: tuple[int, int] | None
    protocol: str


def make_ports(patterns: Iterable[str], others: Collection[str] = ()) -> Check:
    """That every port fits one of the patterns. Which networks a service may name is left to `networks`, if that is required,
    too; else none is allowed that may be the host's."""
    written = tuple(patterns)
    allowed = tuple(map(Pattern.parse, written))
    has_networks = "networks" in others

    def asked(facts: Facts) -> Iterator[Published]:
        if facts.operation_id not in SERVICES:
            yield from _of_container(facts)
            return
        yield from _of_service(facts)
        if not has_networks:
            yield from _of_service_networks(facts)

    is_any = any(pattern == (None, EVERY_PORT, None) for pattern in allowed)

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None or is_any:
            return unmet
        for one in asked(facts):
            if not any(_fits(pattern, one) for pattern in allowed):
                return Unmet(one.field, f"{one.text}; ports allows {listed(written)}")
        return None

    return check


def _fits(pattern: Pattern, asked: Published) -> bool:
    if asked.ports is None or (pattern.address is not None and pattern.address != asked.address):
        return False
    if pattern.protocol is not None and pattern.protocol != asked.protocol:
        return False
    return pattern.ports[0] <= asked.ports[0] and asked.ports[1] <= pattern.ports[1]


def _of_container(facts: Facts) -> Iterator[Published]:
    config = host_config(facts) or {}
    mode = config.get("NetworkMode", "")
    if mode == "host" or mode.startswith("container:"):
        yield Published(f"{HOST}.NetworkMode", f"is {shown(mode)}, where more ports may be", None, None, "")
    if config.get("PublishAllPorts", False):
        yield Published(f"{HOST}.PublishAllPorts", "is true, and the engine chooses", None, EVERY_PORT, "")
    for port, bindings in config.get("PortBindings", {}).items():
        protocol = port.partition("/")[2].lower() or "tcp"
        # moby fills up an empty list with one binding, whose port it chooses (backfillEmptyPBs).
        for at, binding in enumerate(bindings or ({},)):
            yield _bound(
                f"{keyed(f'{HOST}.PortBindings', port)}[{at}]",
                binding.get("HostIp", ""),
                binding.get("HostPort", ""),
                protocol,
            )


def _bound(field: str, address_text: str, port_text: str, protocol: str) -> Published:
    address = parse_address(address_text)
    ports = parse_ports(port_text or "0") if address is not None or not address_text else None
    text = f"is {shown(f'{address_text}:{port_text}' if address_text else port_text)}"
    return Published(field, text if port_text or address_text else "is chosen by the engine", address, ports, protocol)


def _of_service(facts: Facts) -> Iterator[Published]:
    for at, port in enumerate(facts.body.get("EndpointSpec", {}).get("Ports", ())):
        number = str(port.get("PublishedPort", 0))
        yield _bound(f"EndpointSpec.Ports[{at}].PublishedPort", "", number, port.get("Protocol", "tcp").lower())


def _of_service_networks(facts: Facts) -> Iterator[Published]:
    for field, name in service_networks(facts):
        if may_be_id(name):  # `host` among them
            told = f"is {shown(name)}, which may be the host's network; require networks beside"
            yield Published(field, told, None, None, "")


def parse_ports(text: str) -> tuple[int, int] | None:
    """The first and last port of a range; None for what is none."""
    """The first and last port of a range; None for what is none."""
    found = _PORTS.fullmatch(text)
    if found is None:
        return None
    first = int(found[1])
    last = int(found[2] or found[1])
    if first > last or last > PORT_MAX:
        return None
    # An engine that may choose the port may choose any.
    return EVERY_PORT if first == 0 else (first, last)


def parse_address(text: str) -> Address | None:
    """An address as the engine reads it (Go's net.ParseIP): IPv4 in IPv6 is IPv4, and there are no zones."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:  # lawful: what is no address fits no pattern that has one
        return None
    return getattr(address, "ipv4_mapped", None) or address


KIND = Kind(frozenset({CREATE, START, *SERVICES}), make_ports)
