"""Who somebody is by what is known of them: whether a match holds of a peer.

Owns what a match may ask, how it is written, and when it holds. Must not know how the facts of a peer are gathered
(`forwarding.downstream`) nor what a policy means. Begin at `KEYS`, then `holds`, `first_of`.

All that a match asks has to hold; a fact that is not known meets nothing. But where only the engine could say whether a match
holds, and has not, no later one counts: who keeps it from answering must not become somebody else by that. `*` stands for any
characters, `?` for one:

    uid, gid          of a unix peer: the user and the group that its process ran with when it connected
    exe               a pattern over the path of its executable; `*` includes slashes
    container         the container that it runs in: the beginning of its id, or a pattern over that; or a pattern over its
                      name, and patterns over its labels' values, all of which it must have
    tls_subject       of a client certificate: one attribute ("CN=ci-*": all of that type have to fit), or the whole
                      subject as RFC 4514 writes it ("CN=ci-*,O=Example"), part by part
    tls_san           a pattern over one of its alternative names, with its kind: "DNS:*.example.com"
    spiffe_id         a pattern over its SPIFFE id, which it has if its only URI is one
    tls_fingerprint   the SHA-256 of the certificate in hexadecimal, colons or not
    cidr              the network that its address is of
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple

from sockproxy.judging.identity import Peer, host_of


@dataclass(frozen=True, slots=True)
class Resident:
    """What is asked of a container beside its id. `name`: a pattern, "" for any."""

    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()


Wanted = int | str | tuple[str, ...] | Resident | IPv4Network | IPv6Network
"""What one key of a match asks: a number, a pattern, the patterns of a subject's parts, a container, a network."""

SAN_KINDS = ("DNS", "URI", "IP", "email")

_SUBJECT_PART = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)=.+", re.DOTALL)
_CONTAINER_BEGINNING = re.compile(r"[0-9a-f]{12,64}")  # 12 digits are what docker shows of an id
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SPIFFE = "spiffe://"


class Match(NamedTuple):
    """What has to hold of a peer, by the keys of `KEYS`. One that asks nothing holds for everybody."""

    asked: tuple[tuple[str, Wanted], ...] = ()


ANYBODY = Match()


def holds(match: Match, peer: Peer) -> bool:
    """Whether all that a match asks is so."""
    return all(KEYS[key].meets(wanted, peer) for key, wanted in match.asked)


def first_of(matches: Iterable[Match], peer: Peer) -> int | None:
    """The place of the first match that holds; None if none does, or if one that comes before might."""
    for at, match in enumerate(matches):
        if holds(match, peer):
            return at
        if not peer.is_introduced and _might_hold(match, peer):
            return None
    return None


def _might_hold(match: Match, peer: Peer) -> bool:
    """Whether it depends on what the engine would say of a peer."""
    return peer.kind in asks_engine(match) and all(
        key == "container" or KEYS[key].meets(wanted, peer) for key, wanted in match.asked
    )


def asks_engine(match: Match) -> frozenset[str]:
    """Of which kinds of peers only the engine can tell whether they are meant: a unix peer's container is known by its control
    group, but not its name, and nothing of the container of a tcp peer."""
    wanted = dict(match.asked).get("container")
    if wanted is None:
        return frozenset()
    return frozenset({"unix", "tcp"}) if isinstance(wanted, Resident) else frozenset({"tcp"})


def parse_key(key: str, value: str | int) -> Wanted:
    """What a key of a match asks, from what stands in a configuration. Raises ValueError with one line for people."""
    return KEYS[key].parse(str(value))


# --- reading what is asked


def _parse_number(text: str) -> Wanted:
    return int(text)


def _parse_pattern(text: str) -> Wanted:
    return text


def _parse_container(text: str) -> Wanted:
    if "*" in text or "?" in text:
        return text
    if not _CONTAINER_BEGINNING.fullmatch(text):
        raise ValueError("expected a container's id, or its first 12 digits or more, or a pattern with *")
    return f"{text}*"


def _parse_subject(text: str) -> Wanted:
    parts = tuple(part.lstrip(" ") for part in _split(text, ","))
    if not all(_SUBJECT_PART.fullmatch(part) for part in parts):
        raise ValueError('expected a subject, as in "CN=ci-*" or "CN=ci-*,O=Example"')
    return tuple(_with_small_types(part) for part in parts)


def _parse_san(text: str) -> Wanted:
    kind = text.partition(":")[0]
    if kind not in SAN_KINDS or kind == text:
        raise ValueError(
            f'expected the kind of name before it, one of {", ".join(SAN_KINDS)}, as in "DNS:*.example.com"'
        )
    return _comparable_san(text)


def _parse_spiffe_id(text: str) -> Wanted:
    if not text.startswith(_SPIFFE):
        raise ValueError('expected a SPIFFE id, as in "spiffe://example.org/ci/*"')
    return text


def _parse_fingerprint(text: str) -> Wanted:
    digits = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError("expected the SHA-256 of a certificate, 64 hexadecimal digits")
    return digits


def _parse_network(text: str) -> Wanted:
    try:
        return ip_network(text)
    except ValueError:
        pass  # lawful: which of two things is wrong is told below
    try:
        near = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError('expected a network, as in "10.0.0.0/8"') from error
    raise ValueError(f'is no network but an address in one; did you mean "{near}"?')


# --- whether it is so


def _is_uid(wanted: Wanted, peer: Peer) -> bool:
    return peer.uid == wanted


def _is_gid(wanted: Wanted, peer: Peer) -> bool:
    return peer.gid == wanted


def _is_exe(wanted: Wanted, peer: Peer) -> bool:
    return _fits(peer.exe, wanted)


def _is_container(wanted: Wanted, peer: Peer) -> bool:
    if not isinstance(wanted, Resident):
        return _fits(peer.container, wanted)
    if wanted == Resident() or (wanted.name and not _fits(peer.container_name, wanted.name)):
        return False
    labels = dict(peer.container_labels)
    return all(_fits(labels.get(name), value) for name, value in wanted.labels)


def _is_subject(wanted: Wanted, peer: Peer) -> bool:
    if not isinstance(wanted, tuple) or not peer.tls_subject:
        return False
    parts = tuple(map(_with_small_types, _split(peer.tls_subject, ",")))
    if len(wanted) > 1:
        return len(parts) == len(wanted) and all(map(_fits, parts, wanted))
    # One attribute. A second one of its type must fit as well: which of them counts is read differently elsewhere.
    attributes = [attribute for part in parts for attribute in _split(part, "+")]
    kind = wanted[0].partition("=")[0]
    of_kind = [attribute for attribute in attributes if attribute.partition("=")[0] == kind]
    return bool(of_kind) and all(_fits(attribute, wanted[0]) for attribute in of_kind)


def _is_san(wanted: Wanted, peer: Peer) -> bool:
    return any(_fits(_comparable_san(name), wanted) for name in peer.tls_sans)


def _is_spiffe_id(wanted: Wanted, peer: Peer) -> bool:
    uris = [name.removeprefix("URI:") for name in peer.tls_sans if name.startswith("URI:")]
    # X509-SVID, 2: a certificate with more than one URI is to be refused.
    return len(uris) == 1 and uris[0].startswith(_SPIFFE) and _fits(uris[0], wanted)


def _is_fingerprint(wanted: Wanted, peer: Peer) -> bool:
    return peer.tls_fingerprint is not None and peer.tls_fingerprint == wanted


def _is_in_network(wanted: Wanted, peer: Peer) -> bool:
    if not isinstance(wanted, IPv4Network | IPv6Network) or peer.address is None:
        return False
    try:
        address = ip_address(host_of(peer.address))
    except ValueError:
        return False  # lawful: no address is in no network
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # as a socket for both families tells it
    return address in wanted


def _fits(value: str | None, pattern: Wanted) -> bool:
    return value is not None and isinstance(pattern, str) and fnmatchcase(value, pattern.replace("[", "[[]"))


def _split(text: str, separator: str) -> list[str]:
    """The parts of a subject between separators that are not escaped."""
    parts = [""]
    for piece in re.findall(r"\\.|[^\\]|\\\Z", text, re.DOTALL):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _with_small_types(part: str) -> str:
    """RFC 4514, 2: the names of attribute types are the same in upper and lower case."""
    attributes = (attribute.partition("=") for attribute in _split(part, "+"))
    return "+".join(f"{kind.lower()}{equals}{value}" for kind, equals, value in attributes)


def _comparable_san(name: str) -> str:
    return name if not name.startswith("DNS:") else f"DNS:{name[4:].lower()}"  # RFC 4343: names ignore case


Kind = Literal["unix", "tcp", "certificate", "any"]
"""Of whom a fact is known: unix peers, tcp peers, peers with a client certificate, or all."""


class Key(NamedTuple):
    """A key of a match: who has such a fact, how what it asks is read, and whether it is so."""

    kind: Kind
    parse: Callable[[str], Wanted]
    meets: Callable[[Wanted, Peer], bool]


KEYS: Mapping[str, Key] = {
    "uid": Key("unix", _parse_number, _is_uid),
    "gid": Key("unix", _parse_number, _is_gid),
    "exe": Key("unix", _parse_pattern, _is_exe),
    "container": Key("any", _parse_container, _is_container),
    "tls_subject": Key("certificate", _parse_subject, _is_subject),
    "tls_san": Key("certificate", _parse_san, _is_san),
    "spiffe_id": Key("certificate", _parse_spiffe_id, _is_spiffe_id),
    "tls_fingerprint": Key("certificate", _parse_fingerprint, _is_fingerprint),
    "cidr": Key("tcp", _parse_network, _is_in_network),
}
