"""Trails read back: is the chain whole, and what happened.

Owns the reading of audit files, in the order in which they are given (oldest first; `.gz` as log rotation leaves them),
line by line and in bounded memory. Must not know how lines come about; what a line says and how lines are chained is
`event`'s. Begin at `verify`.

A trail that begins anew behind the end of another (a stream's, with each process; a file's, after it was moved away and
the process ended before its next event) is counted in `trails`, and no break: a cut end shows in no case.
"""

import gzip
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple, cast

import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.judging.identity import Peer, PeerKind
from sockproxy.recording.event import (
    EVENT_VERSION,
    FIELDS,
    GENESIS,
    PRINCIPAL_FIELDS,
    Event,
    chain_hash,
)
from sockproxy.recording.sinks import LINE_BYTES_MAX

OPEN_IDS_MAX = 100_000
"""Exchanges that are decided and not completed, remembered while reading; more than the proxy may have connections."""

_TOO_LONG = f"is longer than {LINE_BYTES_MAX >> 20} MiB: not an audit trail"


ANYWHERE = ""
"""In the place of a previous hash: a trail whose older files are not at hand, and of which nothing is known."""


class BreakKind(StrEnum):
    """What is wrong with a line, or before it."""

    UNREADABLE = "unreadable"  # not JSON, not an event, or of another version
    CHANGED = "changed"  # does not carry its own hash, or another line stood before it
    REMOVED = "removed"  # lines are missing before it
    DUPLICATE = "duplicate"  # was there already, or stands too late
    SEQ_GAP = "seq-gap"  # follows the line before by its hash, but not by its number
    TORN = "torn"  # the file ends within it
    END = "end"  # the trail does not end with the expected hash


class Break(NamedTuple):
    """The first place where a trail is not what was written."""

    file: str
    line: int
    kind: BreakKind
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind.value}: {self.message}"


@dataclass(slots=True)
class Report:
    """What `verify` found, up to the first break. `last_hash` is worth noting elsewhere. `unfinished`: decided, and not
    completed (in flight, lost, or ended with the process); telling, but no break."""

    files: int = 0
    lines: int = 0
    trails: int = 0
    decided: int = 0
    completed: int = 0
    unfinished: int = 0
    first_seq: int = 0
    last_seq: int = 0
    last_hash: str = ""
    broken: Break | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every line is what was written, where it was written."""
        return self.broken is None


def verify(paths: Sequence[str], *, expected_last_hash: str = "", previous_hash: str = GENESIS) -> Report:
    """Checks the chain over the files. `previous_hash`: that of the line before the first, if older files are not at
    hand. Raises ConfigError for a file that cannot be read."""
    verifier = _Verifier(previous_hash)
    for line in _read_lines(paths):
        verifier.check(line)
        if verifier.report.broken:
            break
    report = verifier.report
    report.files = len(paths)
    report.unfinished = verifier.unfinished
    if report.is_whole and expected_last_hash and report.last_hash != expected_last_hash:
        message = f"the last hash is {report.last_hash or 'missing'}, expected {expected_last_hash}"
        report.broken = Break(verifier.file or ", ".join(paths), verifier.line, BreakKind.END, message)
    return report


def read_events(paths: Sequence[str]) -> Iterator[Event]:
    """All events, one after the other. Raises ConfigError for what cannot be read; a torn last line is left out."""
    for line in _read_lines(paths):
        if len(line.raw) > LINE_BYTES_MAX:
            raise ConfigError((Finding(line.file, line.number, "", _TOO_LONG),))
        if not line.raw.endswith(b"\n"):
            continue
        event = parse_line(line.raw)
        if isinstance(event, str):
            raise ConfigError((Finding(line.file, line.number, "", event),))
        yield event


def read_verified(paths: Sequence[str]) -> Iterator[Event]:
    """All events, and the chain of each file is checked on the way, from wherever the file begins. Raises ConfigError for
    the first break, and for what cannot be read; a torn last line is left out."""
    for path in paths:
        verifier = _Verifier(ANYWHERE)
        for line in _read_lines([path]):
            is_torn = not line.raw.endswith(b"\n") and len(line.raw) <= LINE_BYTES_MAX
            if is_torn:
                continue
            event = verifier.check(line)
            if event is None:
                raise ConfigError((verifier.finding(),))
            yield event


def describe(event: Event) -> str:
    """One event as one line for people."""
    outcome = ""
    if event["stage"] == "completed":
        outcome = f" {_text(event, 'status') or 'unanswered'} {_number(event, 'duration_ms')} ms"
    would = f" (shadow: {_text(event, 'shadow')})" if event["shadow"] else ""
    rule = f"{_text(event, 'rule')}: " if event["rule"] else ""
    text = (
        f"{_text(event, 'time')} {_text(event, 'stage'):9} {_text(event, 'effect'):5}{would}{outcome} "
        f"{operation_of(event)} {principal_of(event)} {_text(event, 'method')} {_text(event, 'target')} "
        f"[{rule}{_text(event, 'reason')}]"
    )
    # A TLS subject, or a forged line, may hold what a terminal would obey.
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def operation_of(event: Event) -> str:
    """The operation's name, "unknown" where the catalogue knew none."""
    return _text(event, "operation") or "unknown"


def peer_of(event: Event) -> Peer:
    """Who asked, as the judge was told."""
    principal = cast("dict[str, Any]", event["principal"])  # an object, as parse_line made sure
    facts: dict[str, Any] = {key: principal.get(key) for key in PRINCIPAL_FIELDS if key != "kind"}
    kind: PeerKind = "tcp" if principal.get("kind") == "tcp" else "unix"
    return Peer(_text(event, "listener"), kind, **facts)


def principal_of(event: Event) -> str:
    """Who asked, as short as it is telling: TLS subject, container, uid, or address without its port."""
    principal = cast("dict[str, object]", event["principal"])  # an object, as parse_line made sure
    for key in ("tls_subject", "container"):
        if principal.get(key):
            return str(principal[key])
    if principal.get("uid") is not None:
        return f"uid:{principal['uid']}"
    return str(principal.get("address") or "").rpartition(":")[0] or "unknown"


class _Line(NamedTuple):
    file: str
    number: int
    raw: bytes


class _Verifier:
    """The place in the chain, and what was seen on the way to it."""

    def __init__(self, previous_hash: str) -> None:
        self.report = Report()
        self.file = ""
        self.line = 0
        self._hash = previous_hash
        self._seq = 0 if previous_hash == GENESIS else None
        self._first_hashes = _Recent(OPEN_IDS_MAX)
        self._open_ids = _Recent(OPEN_IDS_MAX)

    @property
    def unfinished(self) -> int:
        return self._open_ids.forgotten + len(self._open_ids)

    def finding(self) -> Finding:
        """The break, as what is wrong with a file."""
        file, line, kind, message = self.report.broken or Break(self.file, self.line, BreakKind.UNREADABLE, "")
        return Finding(file, line, "", f"{kind.value}: {message}")

    def check(self, line: _Line) -> Event | None:
        """Goes one line on, or puts the break into the report and returns None."""
        self.file, self.line = line.file, line.number
        if len(line.raw) > LINE_BYTES_MAX:
            self._break(BreakKind.UNREADABLE, _TOO_LONG)
            return None
        if not line.raw.endswith(b"\n"):
            self._break(BreakKind.TORN, "ends within a line: its writer was interrupted, or the rest was removed")
            return None
        event = parse_line(line.raw)
        if isinstance(event, str):
            self._break(BreakKind.UNREADABLE, event)
            return None
        claimed = _text(event, "hash")
        prev = _text(event, "prev")
        if _has_double_keys(line.raw, event) or claimed != chain_hash(prev, _without_hash(event)):
            self._break(BreakKind.CHANGED, f"seq {event['seq']} does not carry its own hash")
            return None
        self._hash = self._hash or prev
        if not self._is_linked(cast("int", event["seq"]), prev, claimed):  # an integer, as parse_line made sure
            return None
        self._count(event, claimed)
        return event

    def _is_linked(self, seq: int, prev: str, claimed: str) -> bool:
        if seq == 1 and prev == GENESIS and self._seq is not None:
            return self._begins(claimed)
        if prev == self._hash and (self._seq is None or seq == self._seq + 1):
            return True
        expected = (self._seq or 0) + 1
        if prev == self._hash:
            self._break(BreakKind.SEQ_GAP, f"seq {seq} follows by its hash, but seq {expected} is due")
        elif seq < expected:
            self._break(BreakKind.DUPLICATE, f"seq {seq} comes again or too late, seq {expected} is due")
        elif seq > expected:
            self._break(BreakKind.REMOVED, f"lines are missing before seq {seq}, seq {expected} is due")
        else:
            self._break(BreakKind.CHANGED, f"seq {seq} was written behind another line than the one that stands here")
        return False

    def _begins(self, claimed: str) -> bool:
        if claimed in self._first_hashes:
            self._break(BreakKind.DUPLICATE, "a trail begins here for the second time: is a file given twice?")
            return False
        self._first_hashes.add(claimed)
        return True

    def _count(self, event: Event, claimed: str) -> None:
        report = self.report
        seq = cast("int", event["seq"])
        if not report.lines:
            report.first_seq = seq
        report.trails += 1 if seq == 1 or not report.lines else 0
        report.lines += 1
        report.last_seq = self._seq = seq
        report.last_hash = self._hash = claimed
        if event["stage"] == "decided":
            report.decided += 1
            self._open_ids.add(_text(event, "id"))
        else:
            report.completed += 1
            self._open_ids.remove(_text(event, "id"))

    def _break(self, kind: BreakKind, message: str) -> None:
        self.report.broken = Break(self.file, self.line, kind, message)


class _Recent:
    """A set of strings that forgets the oldest when there are too many, and counts those."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._items: OrderedDict[str, None] = OrderedDict()
        self.forgotten = 0

    def __contains__(self, item: str) -> bool:
        return item in self._items

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: str) -> None:
        self._items[item] = None
        if len(self._items) > self._size_max:
            self._items.popitem(last=False)
            self.forgotten += 1

    def remove(self, item: str) -> None:
        self._items.pop(item, None)


def _read_lines(paths: Iterable[str]) -> Iterator[_Line]:
    for path in paths:
        try:
            with _open(path) as file:
                number = 0
                while raw := file.readline(LINE_BYTES_MAX + 1):
                    number += 1
                    yield _Line(path, number, raw)
        except (OSError, EOFError, zlib.error) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ConfigError((Finding(path, 0, "", f"cannot be read: {reason}"),)) from error


def _open(path: str) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb"))


def parse_line(raw: bytes) -> Event | str:
    """The event, or what is wrong with the line."""
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "is not JSON"
    if not isinstance(event, dict) or not all(key in event for key in FIELDS):
        return "is JSON, but not an audit event"
    if event["v"] != EVENT_VERSION:
        return f"is an event of version {event['v']}, this reads version {EVENT_VERSION}"
    if not isinstance(event["seq"], int) or not isinstance(event["principal"], dict):
        return "is JSON, but not an audit event"
    return event


def _without_hash(event: Event) -> Event:
    return {key: value for key, value in event.items() if key != "hash"}


def _has_double_keys(raw: bytes, event: Event) -> bool:
    # The canonical form does not show them, and which of two values a reader shows is the reader's choice.
    if orjson.dumps(event) == raw[:-1]:
        return False
    try:
        json.loads(raw, object_pairs_hook=_refuse_double_keys)
    except (ValueError, RecursionError):
        return True
    return False


def _refuse_double_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _text(event: Event, key: str) -> str:
    value = event[key]
    return "" if value is None else str(value)


def _number(event: Event, key: str) -> float:
    value = event[key]
    return value if isinstance(value, int | float) else 0
