"""JSON text, read so that nothing of it is lost: one value, each name once, in UTF-8.

Owns the strict reading of text and what is refused in it. Must not know what the values mean (`types`) or who sent them.
Begin at `parse_json`. orjson does the reading: it takes exactly the grammar of RFC 8259 and refuses what engines of
different ages take differently or not at all (text behind the value, a byte order mark, bytes that are not UTF-8, half
of a surrogate pair). The one thing that it does not tell is a name that stands twice; that is found by counting.
"""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

import orjson

DEPTH_MAX = 100
"""Levels of nesting. The deepest field of the engine's API lies at 10; Go's own limit is 10 000, orjson's 254 for writing."""

VALUES_MAX = 20_000
"""Commas in a text, hence about as many values: they are read in at most 20 ms, during which nobody else is served. The largest
bodies that clients send (a seccomp profile, a swarm config in base64) have a few thousand."""

Path = tuple[str | int, ...]
"""Where something stands: names of fields, keys of maps, indexes."""

_PLAIN = re.compile(r"[A-Za-z0-9_./-]{1,64}")


class Misread(Exception):
    """A text that is refused: `what` is wrong, at `steps`, which are collected on the way out, the innermost first."""

    def __init__(self, what: str, *steps: str | int) -> None:
        super().__init__(what)
        self.what = what
        self.steps = list(steps)

    def __str__(self) -> str:
        path = show_path(reversed(self.steps))
        return f"{path} {self.what}" if path else self.what


class UnknownField(Misread):
    """Refused only because the engine's API has no field of that name."""


def show_path(steps: Iterable[str | int]) -> str:
    """`HostConfig.Mounts[1].Target`. A name with unusual characters is not repeated: what is shown goes to logs."""
    shown = ""
    for step in steps:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            shown += ("." if shown else "") + show_name(step)
    return shown


def show_name(name: str) -> str:
    """A name as it may be shown to people."""
    return name if _PLAIN.fullmatch(name) else "(a name with unusual characters)"


def parse_json(raw: bytes) -> object:
    """The value that a JSON text stands for; raises Misread for what is no JSON, or not of one meaning only."""
    if len(raw) > VALUES_MAX and raw.count(b",") > VALUES_MAX:
        raise Misread(f"has more than {VALUES_MAX} values")
    try:
        value: object = orjson.loads(raw)
        written = orjson.dumps(value)
    except orjson.JSONDecodeError as error:
        raise Misread(_fault(raw, error)) from error
    except orjson.JSONEncodeError as error:
        raise Misread(f"is nested deeper than {DEPTH_MAX} levels") from error
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX:
        _check_depth(value)
    # hot: what is written as orjson writes it, as Go's clients do, says each name once, as orjson does: nothing was dropped.
    if not raw.startswith(written) and _may_say_twice(raw, written):
        _check_names_once(raw)
    return value


def _may_say_twice(raw: bytes, written: bytes) -> bool:
    # hot: orjson takes the last of two equal names, and drops the first with the ":" behind it. Nothing else makes a ":"
    # vanish, unless one is written as an escape. 2 us for 2 KiB; json with a hook for pairs would take 10 (timeit).
    has_colon_escaped = b"\\" in raw and (b"\\u003a" in raw or b"\\u003A" in raw)
    return has_colon_escaped or raw.count(b":") != written.count(b":")


def _fault(raw: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError:  # lawful: this only says better what is wrong
        return "is not UTF-8"
    if not raw.strip(b" \t\r\n"):
        return "is empty"
    # The position is orjson's, the text is of a fixed set and never repeats what was sent.
    return f"is not JSON: {error}"


class _Twice(NamedTuple):
    """Stands for an object in which a name stands twice."""

    name: str


def _check_names_once(raw: bytes) -> None:
    # Go reads scalars again, merges objects and maps, and fills lists over their old elements. No client writes a name twice.
    def once(pairs: list[tuple[str, object]]) -> object:
        names: dict[str, object] = {}
        for name, value in pairs:
            if name in names:
                return _Twice(name)
            names[name] = value
        return names

    twice = _find_twice(json.loads(raw, object_pairs_hook=once), ())
    if twice is not None:
        raise Misread("stands twice in one object", *reversed(twice))


def _find_twice(value: object, path: Path) -> Path | None:
    if isinstance(value, _Twice):
        return (*path, value.name)
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, (_find_twice(inner, (*path, step)) for step, inner in steps)), None)


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        if not level:
            return
        level = [inner for outer in level for inner in _inner(outer)]
    raise Misread(f"is nested deeper than {DEPTH_MAX} levels")


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
