"""What is shown of requests and trails to those who look at the page.

Owns which facts of an audit event are shown, name by name: what else an event may hold one day, bodies above all, is not. Texts
are cut, and what would make a page or a terminal misread them is escaped, since names come from requests, so from strangers.
Must not know who looks, nor when. Begin at `row`.
"""

from collections.abc import Iterable
from copy import copy
from typing import Any

import orjson

from sockproxy.exchange import LAST_STAGES, Exchange, Served
from sockproxy.judging.identity import Principal
from sockproxy.recording.chain import TrailState
from sockproxy.recording.event import GENESIS, Event, chain_hash, completed_event, decided_event
from sockproxy.recording.prepared import Place, lines

KEPT_CHARACTERS_MAX = 4096
"""An exchange with longer texts is kept only as what is shown of it: a hundred of the longest would be 130 MiB."""

TEXT_CHARACTERS_MAX = 300
"""What is shown of a text; a target may have 256 KiB, a user agent a mebibyte."""

TAIL_BYTES_MAX = 16 << 10
"""What is read of a trail's end; a line has some 900 bytes."""

TAIL_LINES_MAX = 8

Told = dict[str, Any]
"""What can be said as JSON."""

Kept = Exchange | Told
"""An exchange as it is, or what is shown of it."""

_SHOWN = (
    *("id", "time", "stage", "listener", "operation", "method", "target", "api_version", "effect", "reason", "rule"),
    *("policy", "shadow", "status", "bytes_in", "bytes_out", "duration_ms", "engine_ms", "user_agent"),
)
_SHOWN_OF_LINE = ("seq", "time", "stage", "operation", "method", "effect", "status", "id", "hash")


def kept(exchange: Exchange) -> Kept:
    """What may be remembered of an exchange. The exchange itself, in nearly all cases: to make a row of it takes 8 us, which is
    left to whoever looks at it. Never its bodies."""
    if exchange.extent is not None:
        exchange = copy(exchange)
        exchange.extent = None
    is_long = len(exchange.target) + len(exchange.user_agent) > KEPT_CHARACTERS_MAX
    return row(exchange) if is_long else exchange


def row(exchange: Kept) -> Told:
    """What is shown of an exchange."""
    if not isinstance(exchange, Exchange):
        return exchange
    is_over = exchange.stage in LAST_STAGES
    return _row(completed_event(exchange) if is_over else decided_event(exchange), exchange.principal)


def rows_of_served(batch: Iterable[Served], id_prefix: str, epoch: float) -> list[Told]:
    """What is shown of reads of the express way. `epoch`: see `prepared.lines`."""
    place = Place(0, GENESIS)
    # What a rule leaves out of the record has no lines, and is counted only.
    recorded = (served for served in batch if served[0][0] is not None)
    return [
        _row(orjson.loads(lines((served,), id_prefix, epoch, place)[0].splitlines()[1]), served[2])
        for served in recorded
    ]


def _row(event: Event, principal: Principal) -> Told:
    resource: Any = event["resource"]
    told = {name: shown(event[name]) for name in _SHOWN}
    told["resource"] = shown(f"{resource['kind']} {resource['name']}".strip())
    told["who"] = shown(principal.container or principal.exe or principal.key)
    told["principal"] = shown(principal.key)
    return told


def trail_told(state: TrailState) -> Told:
    """Where a trail is, with its last lines, and whether they are what the writer has written."""
    events = [_line(raw) for raw in state.last_lines[-TAIL_LINES_MAX:]]
    tail = [{name: shown(event.get(name)) for name in _SHOWN_OF_LINE} for event in events]
    return {
        "sink": shown(state.sink),
        "on_failure": state.on_failure,
        "seq": state.seq,
        "hash": state.hash,
        "began_at": state.began_at,
        "waiting": state.waiting,
        "cut_bytes": state.cut_bytes,
        "is_whole": None if not events or state.waiting else _is_whole(events, state),
        "tail": tail,
    }


def _line(raw: bytes) -> Event:
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}  # lawful: it is shown as what it is, no line of a trail
    return event if isinstance(event, dict) else {}


def _is_whole(events: list[Event], state: TrailState) -> bool:
    """Whether these lines follow one another, each carries its own hash, and the last is the writer's last."""
    previous = events[0].get("prev")
    for event in events:
        bare = {key: value for key, value in event.items() if key != "hash"}
        if event.get("prev") != previous or chain_hash(str(previous), bare) != event.get("hash"):
            return False
        previous = event["hash"]
    return previous == state.hash


def shown(value: Any) -> Any:
    """A text in a form that nobody can misread; other values as they are."""
    if not isinstance(value, str):
        return value
    text = value if value.isprintable() else value.encode("unicode_escape").decode()
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[: TEXT_CHARACTERS_MAX - 1]}…"
