"""What is open: streams and tunnels, by which decision they go on, and how an administrator ends one.

Owns what is told of them, in the same words as the audit event. Must not know how they are carried (`forwarding`), nor who
asks (`admin`, `reloading`). Begin at `tell_streams`.
"""

import logging
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Any, NamedTuple

from sockproxy.exchange import Exchange
from sockproxy.forwarding.serving.connections import Connections, OpenStream
from sockproxy.recording.event import PRINCIPAL_FIELDS, rfc3339

log = logging.getLogger("sockproxy")

TOLD_MAX = 1000
"""Streams that are told at a time, those first that go on by what does not hold any more, then the oldest: telling one takes
some 10 us, in which nothing else is served."""

LOGGED_MAX = 20
"""Of those that a reload leaves behind, how many have a line in the log; all are in the list."""

ENDED = "ended by an administrator"

Told = dict[str, Any]
"""`{"count": 2, "old": 1, "streams": [...]}`: `count` and `old` are of all, also where not all are told."""


class StreamControl(NamedTuple):
    """What the admin listener may do with streams. Each may raise OSError, where others have to be asked."""

    tell: Callable[[], Told]
    end: Callable[[str], bool]
    """By the id of the exchange; False if there is none."""


def tell_streams(connections: Connections) -> Told:
    """All that are open in this process."""
    return _merged([_tell(one) for one in connections.streams()])


def merge_streams(told: Iterable[Told]) -> Told:
    """What several processes tell, as one."""
    parts = list(told)
    merged = _merged([one for part in parts for one in part["streams"]])
    return merged | {key: sum(part[key] for part in parts) for key in ("count", "old")}


def end_stream(connections: Connections, id: str) -> bool:
    """Ends one on both sides; False if there is none of that id."""
    for stream in connections.streams():
        if stream.exchange.id == id:
            log.info("stream-ended", extra=_named(stream.exchange))
            stream.trip.end(ENDED)
            return True
    return False


def log_old_streams(connections: Connections) -> int:
    """Says which streams go on by a policy that does not hold for their clients any more; how many there are."""
    old = [stream for stream in connections.streams() if stream.is_old]
    for stream in nsmallest(LOGGED_MAX, old, key=lambda one: one.exchange.received_time):
        log.info("old-stream", extra=_named(stream.exchange))
    return len(old)


def _merged(streams: list[Told]) -> Told:
    first = nsmallest(TOLD_MAX, streams, key=lambda one: (not one["is_old"], one["since"]))
    return {"count": len(streams), "old": sum(one["is_old"] for one in streams), "streams": first}


def _tell(stream: OpenStream) -> Told:
    exchange = stream.exchange
    operation, kind, name = _resource(exchange)
    decision = exchange.decision
    return {
        "id": exchange.id,
        "since": rfc3339(exchange.received_time),
        "listener": exchange.listener,
        "principal": {field: getattr(exchange.principal, field) for field in PRINCIPAL_FIELDS},
        "operation": operation,
        "resource": {"kind": kind, "name": name},
        "policy": decision.policy if decision else "",
        "policy_revision": decision.policy_revision if decision else "",
        "is_old": stream.is_old,
        "bytes_in": stream.trip.bytes_in,
        "bytes_out": stream.trip.bytes_out,
    }


def _named(exchange: Exchange) -> dict[str, str]:
    """For the log."""
    operation, kind, name = _resource(exchange)
    decision = exchange.decision
    return {
        "exchange": exchange.id,
        "principal": exchange.principal.key,
        "operation": operation,
        "resource": f"{kind} {name}".strip(),
        "policy": decision.policy if decision else "",
        "policy_revision": decision.policy_revision if decision else "",
        "since": rfc3339(exchange.received_time),
    }


def _resource(exchange: Exchange) -> tuple[str, str, str]:
    classified = exchange.classified
    if classified is None or classified.operation is None:
        return "", "", ""
    return classified.operation.operation_id, classified.resource_kind, classified.resource_name
