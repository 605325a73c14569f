"""The two lines of a read on the express way, prepared but for what differs from one request to the next.

Owns nothing new: a prepared line is cut from the plain one (`event`), and a property test holds both side by side.
Must not know sinks or chains' failures. Begin at `prepare`.

hot: 4 us for both lines where the plain way takes 10 (python -m timeit); without, they are half of what a small GET costs.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import orjson

from sockproxy.exchange import Exchange, Times
from sockproxy.judging.identity import Principal
from sockproxy.recording.event import (
    PRINCIPAL_FIELDS,
    Event,
    completed_event,
    decided_event,
    milliseconds,
    rfc3339,
)

# What differs, in the order of a line.
_DECIDED = ("id", "prev", "principal", "seq", "time")
_COMPLETED = ("bytes_out", "duration_ms", "engine_ms", "id", "prev", "principal", "seq", "status", "time")


class Prepared(NamedTuple):
    """The two lines of one kind of request, cut in two where the hash stands, and at everything that differs."""

    decided_front: str
    decided_back: tuple[str, ...]
    completed_front: tuple[str, ...]
    completed_back: tuple[str, ...]


class Place(NamedTuple):
    """Where a chain is: the number and the hash of its last line."""

    seq: int
    prev: str


def prepare(exchange: Exchange) -> Prepared:
    """What is the same in all exchanges that differ from this one only in id, principal, times, status and the answer's
    length."""
    completed = completed_event(exchange)
    completed["bytes_in"] = 0  # a read on the express way has no body
    (decided_front,), decided_back = _cut(decided_event(exchange), _DECIDED)
    return Prepared(decided_front, decided_back, *_cut(completed, _COMPLETED))


def _cut(event: Event, varying: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The canonical form in front of the hash and behind it, each cut at the values of `varying`."""
    sides: tuple[list[str], list[str]] = ["{"], [""]
    for key in sorted(event):
        pieces = sides[key > "hash"]
        pieces[-1] += f'"{key}":'
        if key in varying:
            pieces.append("")
        else:
            pieces[-1] += orjson.dumps(event[key], option=orjson.OPT_SORT_KEYS).decode()
        pieces[-1] += ","
    front, back = sides
    back[-1] = back[-1].removesuffix(",") + "}"
    return tuple(front), tuple(back)


def lines(
    prepared: Prepared, exchange_id: str, principal: Principal, times: Times, status: int, bytes_out: int, place: Place
) -> tuple[bytes, Place]:
    """Both lines of one request, chained behind `place`, and where the chain is then."""
    who = _principal(principal)
    received_time, received_at, forwarded_at, answered_at, completed_at = times
    seq, prev = place
    front, (p0, p1, p2, p3, p4, p5), (f0, f1, f2, f3), (b0, b1, b2, b3, b4, b5, b6) = prepared

    time = rfc3339(received_time)
    back = f'{p0}"{exchange_id}"{p1}"{prev}"{p2}{who}{p3}{seq + 1}{p4}"{time}"{p5}'
    first = hashlib.sha256(f"{prev}{front}{back}".encode()).hexdigest()
    decided = f'{front}"hash":"{first}",{back}'

    duration = str(milliseconds(completed_at - received_at))
    engine = str(milliseconds(answered_at - forwarded_at))
    time = rfc3339(received_time + (completed_at - received_at))
    front = f"{f0}{bytes_out}{f1}{duration}{f2}{engine}{f3}"
    back = f'{b0}"{exchange_id}"{b1}"{first}"{b2}{who}{b3}{seq + 2}{b4}{status}{b5}"{time}"{b6}'
    second = hashlib.sha256(f"{first}{front}{back}".encode()).hexdigest()
    return f'{decided}\n{front}"hash":"{second}",{back}\n'.encode(), Place(seq + 2, second)


@lru_cache(maxsize=4096)  # one for each process that is connected
def _principal(principal: Principal) -> str:
    facts = {name: getattr(principal, name) for name in PRINCIPAL_FIELDS}
    return orjson.dumps(facts, option=orjson.OPT_SORT_KEYS).decode()
