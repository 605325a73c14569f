"""The lines of audit files, read back: in which order files belong, and what a line is.

Owns the reading of files (`.gz` as log rotation leaves them), line by line and in bounded memory, and the form of an event
and of a checkpoint. Must not know how lines are chained (`verifying`). Begin at `read_lines`.
"""

import gzip
import json
import os
import stat
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.recording.checkpoint import CHECKPOINT_FIELDS, is_checkpoint
from sockproxy.recording.event import EVENT_VERSION, FIELDS, Event
from sockproxy.recording.sinks.file import LINE_BYTES_MAX

TOO_LONG = f"is longer than {LINE_BYTES_MAX >> 20} MiB: not an audit trail"

_END_BYTES = 1 << 20
"""Of a file, for its last line: a longer one leaves it to the times in which order files belong."""

_NOT_AN_EVENT = "is JSON, but not an audit event"
_EVENT_KEYS = frozenset(FIELDS)
_STAGES = ("decided", "completed")
_CHECKPOINT_KEYS = frozenset(CHECKPOINT_FIELDS)


class Line(NamedTuple):
    """A line of a file, with its newline if it has one; cut where it is too long."""

    file: str
    number: int
    raw: bytes


def read_lines(paths: Iterable[str]) -> Iterator[Line]:
    """All lines of these files. Raises ConfigError for a file that cannot be read."""
    for path in paths:
        try:
            with _open(path) as file:
                number = 0
                while raw := file.readline(LINE_BYTES_MAX + 1):
                    number += 1
                    yield Line(path, number, raw)
        except (OSError, EOFError, zlib.error) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ConfigError((Finding(path, 0, "", f"cannot be read: {reason}"),)) from error


def _open(path: str) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb"))


class _Ends(NamedTuple):
    """What joins a file to others."""

    time: str
    seq: int
    prev: str
    last_hash: str


def in_order(paths: Sequence[str]) -> tuple[str, ...]:
    """The files of a trail from the oldest on: each behind the one whose last line its first one follows, otherwise by the
    time of its first line. As given where one of them can be read only once. Raises ConfigError."""
    if len(paths) < 2 or not all(_is_regular(path) for path in paths):
        return tuple(paths)
    ends = {path: _ends(path) for path in paths}  # a file that is given twice stands once here, and is told of below
    behind = {one.prev: path for path, one in ends.items() if one.prev}
    followed = {one.last_hash for one in ends.values()}
    firsts = [path for path in ends if ends[path].prev not in followed]
    ordered: dict[str, None] = {}
    # Those that are no trail's first are in a ring: forged, and told of by the chain.
    for first in sorted(firsts, key=lambda path: ends[path][:2]) + list(ends):
        path: str | None = first
        while path is not None and path not in ordered:
            ordered[path] = None
            path = behind.get(ends[path].last_hash)
    twice = list(paths)
    for path in ordered:
        twice.remove(path)
    return (*ordered, *twice)


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False  # lawful: whoever reads it says what is wrong


def _ends(path: str) -> _Ends:
    """Of a file whose lines are no events, what there is of it: reading it says what is wrong."""
    first = next(iter(read_lines([path])), Line(path, 0, b"")).raw
    begin, end = _object(first), _object(_last_line(path))
    seq = begin.get("seq")
    return _Ends(
        str(begin.get("time") or ""),
        seq if isinstance(seq, int) else 0,
        str(begin.get("prev") or ""),
        str(end.get("hash") or path),
    )


def _last_line(path: str) -> bytes:
    if path.endswith(".gz"):  # has to be unpacked from its beginning
        return (deque(read_lines([path]), maxlen=1) or [Line(path, 0, b"")])[0].raw
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES))
        return file.read().removesuffix(b"\n").rpartition(b"\n")[2]


def _object(raw: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def parse_line(raw: bytes) -> Event | str:
    """The event or checkpoint, or what is wrong with the line."""
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "is not JSON"
    if not isinstance(event, dict) or not (_is_event(event) or _is_checkpoint(event)):
        return _NOT_AN_EVENT
    if event["v"] != EVENT_VERSION:
        return f"is an event of version {event['v']!r:.20}, this reads version {EVENT_VERSION}"
    if type(event["seq"]) is not int or not (is_checkpoint(event) or type(event["principal"]) is dict):
        return _NOT_AN_EVENT
    return event


def _is_event(event: Event) -> bool:
    return event.keys() >= _EVENT_KEYS and event["stage"] in _STAGES


def _is_checkpoint(event: Event) -> bool:
    return is_checkpoint(event) and event.keys() >= _CHECKPOINT_KEYS


def has_double_keys(raw: bytes, event: Event) -> bool:
    """Whether a key stands twice in a line; `event` is what was read of it."""
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


def text_of(event: Event, key: str) -> str:
    """A value as text; null is none."""
    value = event[key]
    return "" if value is None else str(value)


def number_of(event: Event, key: str) -> float:
    """A value as a number; what is none is 0."""
    value = event[key]
    return value if isinstance(value, int | float) else 0
