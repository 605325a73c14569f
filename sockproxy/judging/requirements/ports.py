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
from sockproxy.judging.requirements.places import CREATE, HOST, SERVICES, START, TASK, host_config, no_containers, task
from sockproxy.judging.requirements.wording import listed, shown

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
        address = None if found is None else _address(found[1] or found[2] or "")
        ports = None if found is None else EVERY_PORT if found[3] == "*" else _ports(found[3])
        if found is None or ports is None or (address is None and (found[1] or found[2])):
            raise ValueError(f'{shown(text)} is no port: "80", "8000-8999", "127.0.0.1:*", "[::1]:53/udp"')
        return cls(address, ports, found[4])


class Published(NamedTuple):
    """Ports that are asked for: where, as what text, and what that comes to; None for what cannot be read."""

    field: str
    text: str
    address: Address | None
    ports: tuple[int, int] | None
    protocol: str


def make_ports(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That every port fits one of the patterns."""
    written = tuple(patterns)
    allowed = tuple(map(Pattern.parse, written))
    is_any = any(pattern == (None, EVERY_PORT, None) for pattern in allowed)

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None or is_any:
            return unmet
        for one in _of_service(facts) if facts.operation_id in SERVICES else _of_container(facts):
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
                f"{HOST}.PortBindings.{port}[{at}]", binding.get("HostIp", ""), binding.get("HostPort", ""), protocol
            )


def _bound(field: str, address_text: str, port_text: str, protocol: str) -> Published:
    address = _address(address_text)
    ports = _ports(port_text or "0") if address is not None or not address_text else None
    text = f"is {shown(f'{address_text}:{port_text}' if address_text else port_text)}"
    return Published(field, text if port_text or address_text else "is chosen by the engine", address, ports, protocol)


def _of_service(facts: Facts) -> Iterator[Published]:
    for at, port in enumerate(facts.body.get("EndpointSpec", {}).get("Ports", ())):
        number = str(port.get("PublishedPort", 0))
        yield _bound(f"EndpointSpec.Ports[{at}].PublishedPort", "", number, port.get("Protocol", "tcp").lower())
    for place, holder in (("", facts.body), (f"{TASK}.", task(facts))):
        for at, network in enumerate(holder.get("Networks", ())):
            if network.get("Target", "") == "host":
                yield Published(f"{place}Networks[{at}].Target", 'is "host", where all ports are', None, None, "")


def _ports(text: str) -> tuple[int, int] | None:
    found = _PORTS.fullmatch(text)
    if found is None:
        return None
    first = int(found[1])
    last = int(found[2] or found[1])
    if first > last or last > PORT_MAX:
        return None
    # An engine that may choose the port may choose any.
    return EVERY_PORT if first == 0 else (first, last)


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:  # lawful: what is no address fits no pattern that has one
        return None
    return getattr(address, "ipv4_mapped", None) or address


KIND = Kind(frozenset({CREATE, START, *SERVICES}), make_ports)
