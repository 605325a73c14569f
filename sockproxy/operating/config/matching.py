"""What a listener's clients are told apart by: match documents -> Match, and what is wrong with them.

Owns the looking up of users and groups, and the checks that a match can hold at all. Must not know policies. Begin at
`read_match`; what a match means is in `judging.clients`.
"""

import grp
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from sockproxy.forwarding.address import Address
from sockproxy.judging.clients import ANYBODY, KEYS, Match, Resident, Wanted, parse_key
from sockproxy.operating.config.document import (
    ClientDocument,
    ContainerDocument,
    ListenerDocument,
    MatchDocument,
)
from sockproxy.operating.config.validation import Findings
from sockproxy.operating.config.wording import Path, did_you_mean, quoted

_KERNEL_ID_MAX = 2**32 - 2  # the last one means "none"

_WHO_HAS_IT = {
    "unix": "only clients of a unix socket have it",
    "tcp": "only clients of a tcp address have it",
    "certificate": "only clients with a certificate have it: this listener has no `tls` with a `client_ca`",
}
"""Kind of a key -> why it cannot hold at another listener."""


def read_match(path: Path, document: MatchDocument | None, findings: Findings) -> Match:
    """What a document asks. Whatever is wrong becomes a finding."""
    if document is None:
        return ANYBODY
    asked: list[tuple[str, Wanted]] = []
    for key, value in _given(document).items():
        place = (*path, key)
        if isinstance(value, ContainerDocument):
            asked.append((key, _resident(place, value, findings)))
            continue
        if not findings.add_unless_printable(place, str(value)):
            continue
        try:
            asked.append((key, parse_key(key, _number_of(key, value))))
        except ValueError as error:
            findings.add(place, str(error))
    if not _given(document) and not findings.is_told_below(path):
        findings.add(path, "asks nothing; to mean everybody, leave it out")
    return Match(tuple(asked))


def _resident(path: Path, document: ContainerDocument, findings: Findings) -> Resident:
    if not (document.name or document.labels or findings.is_told_below(path)):
        findings.add(path, 'asks nothing; to mean any container, write "*" in its place')
    labels = tuple(sorted(document.labels.items()))
    for one in (document.name or "", *(text for label in labels for text in label)):
        findings.add_unless_printable(path, one)
    return Resident(document.name or "", labels)


def check_match_keys(path: Path, listener: ListenerDocument, address: Address, findings: Findings) -> None:
    """Adds a finding for each key that can never hold at this listener."""
    kinds = _kinds(listener, address)
    for index, client in enumerate(listener.clients or ()):
        for key in _given(client.match) if client.match is not None else ():
            kind = KEYS[key].kind
            if kind not in kinds and kind != "any":
                findings.add((*path, "clients", index, "match", key), f"can never match: {_WHO_HAS_IT[kind]}")


def check_reachable(path: Path, clients: Sequence[ClientDocument], findings: Findings) -> None:
    """Adds a finding for each client behind one that means everybody, or the same."""
    seen: list[MatchDocument | None] = []
    for index, client in enumerate(clients):
        before = next((place for place, one in enumerate(seen) if one is None or one == client.match), None)
        seen.append(client.match)
        if before is not None:
            whom = "everybody" if clients[before].match is None else "the same"
            findings.add((*path, index), f"can never match: {path[0]}[{path[1]}].clients[{before}] means {whom}")


def _given(document: MatchDocument) -> dict[str, str | int | ContainerDocument]:
    values = {field.name: getattr(document, field.name) for field in fields(document)}
    return {key: value for key, value in values.items() if value is not None}


def _kinds(listener: ListenerDocument, address: Address) -> set[str]:
    """Of which kinds the facts are that clients of a listener may have."""
    kinds: set[str] = {"unix", "tcp"} if address.scheme == "systemd" and listener.tls is None else {address.scheme}
    if listener.tls is not None:
        kinds |= {"tcp"} | ({"certificate"} if listener.tls.client_ca is not None else set())
    return kinds


def _number_of(key: str, value: str | int) -> str | int:
    """The number of a user or a group; other values as they are. Raises ValueError if there is none of that name."""
    if key not in _LOOK_UP:
        return value
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        return _LOOK_UP[key](value)
    if not 0 <= int(value) <= _KERNEL_ID_MAX:
        raise ValueError(f"no number of a user or a group: {quoted(str(value))[1:-1]}")
    return value


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        near = did_you_mean(name, (entry.pw_name for entry in pwd.getpwall()))
        raise ValueError(f"no user {quoted(name)} on this machine{near}") from None


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        near = did_you_mean(name, (entry.gr_name for entry in grp.getgrall()))
        raise ValueError(f"no group {quoted(name)} on this machine{near}") from None


_LOOK_UP: Mapping[str, Callable[[str], int]] = {"uid": _uid, "gid": _gid}
