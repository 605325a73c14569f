"""A request that was recorded, to be judged again: its body as far as the record has it, and what in it is only a mark.

Owns which of a record's values stand for themselves. Must not know what is asked of them. Begin at `body_of`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from sockproxy.judging.catalogue import parse_target
from sockproxy.judging.payload import read_query
from sockproxy.judging.payload.text import Path, show_path
from sockproxy.judging.requirements.facts import Unmet
from sockproxy.recording.event import Event
from sockproxy.recording.redaction import MARK

_IN_BASE64 = "Data"  # the field whose value has to be base64: a mark there would not be read

_OPTIONS = ("DriverOpts", "Options")


def body_of(event: Event) -> bytes | None:
    """The body to judge again; None where the record has none."""
    body = event["body"]
    return orjson.dumps(_readable(body)) if isinstance(body, dict | list) else None


def opaque(event: Event, unmet: Iterable[Unmet]) -> list[str]:
    """The fields that fail and of which the record has no value but a mark: what is required of them cannot be evaluated."""
    marked = [show_path(path) for path in _marks(event["body"], ())]
    query = read_query(parse_target(str(event["method"]), str(event["target"])).query)
    marked += [f"query.{name}" for name, values in query.values.items() if any(MARK in value for value in values)]
    fields = dict.fromkeys(one.field for one in unmet)
    return [field for field in fields if any(_is_about(field, one) for one in marked)]


def _is_about(field: str, marked: str) -> bool:
    """Whether a mark may be the reason why a field fails. Options are judged together."""
    place, _, name = marked.rpartition(".")
    options = place if place.endswith(_OPTIONS) and name else marked
    return _is_of(field, options) or _is_of(options, field)


def _is_of(inner: str, outer: str) -> bool:
    return inner.startswith(outer) and inner[len(outer) : len(outer) + 1] in ("", ".", "[")


def _marks(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _marks(inner, (*path, step))
    elif isinstance(value, str) and MARK in value:
        yield path


def _readable(value: Any) -> Any:
    if isinstance(value, list):
        return [_readable(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: "" if name == _IN_BASE64 and str(inner).startswith(MARK) else _readable(inner)
        for name, inner in value.items()
    }
