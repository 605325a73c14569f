"""One sink's trail: where it is in the chain, and the lines that wait for the sink.

Owns the order of lines, what is asked of a sink (`Sink`, `TrailFile`), and what waits while one fails. Must not know which
requests wait for their line (`audit`), what an event says (`event`), nor what a sink is made of (`sinks`). Begin at
`Chain.record`. How lines are chained, and how anybody can check it: `event`.

A line is chained when its event happens, and waits in memory until the sink takes it; a sink that fails is offered the
same bytes again. So the order in the file is that of the events, and a failing sink never leaves a gap in the chain.
What comes while as much as `PENDING_BYTES_MAX` waits does not enter the chain: it is lost, and counted.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.exchange import Served
from sockproxy.recording.event import (
    GENESIS,
    Event,
    canonical,
    chain_hash,
    encodable,
    hash_of,
    with_hash,
    with_hash_behind_body,
)
from sockproxy.recording.prepared import Lines, Place, lines

if TYPE_CHECKING:
    from sockproxy.recording.checkpoint import Cause, Seal  # in memory only where a trail is signed

BATCH_BYTES = 64 << 10
"""What may wait for the end of the loop's turn: a pipe's worth, about 70 events. Above: written at once."""

PENDING_BYTES_MAX = 1 << 20
"""What may wait for a sink that fails: about a thousand events, for it to come back to. Above: new events are lost."""

OnFailure = Literal["deny-writes", "deny-all", "continue"]
CountEvents = Callable[[str, str, int], None]
"""(sink, result, how many). Results: `RESULTS`."""

RESULTS = ("written", "failed", "lost", "omitted")
"""`written`: lines that the sink took; `failed`: attempts to write that it did not take whole, the lines wait and are
offered again; `lost`: events that will never be in the trail; `omitted`: those of which a rule says that there be no record."""


class Sink(Protocol):
    """Where the lines of one trail go. Its methods raise nothing."""

    name: str

    @property
    def file(self) -> "TrailFile | None":
        """The same as what can be read back and moved away. None: what it took is out of reach, so a chain on it begins anew
        with each process."""

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        """How many of these bytes are kept for good. Fewer than all is a failure, and the rest is offered again. `may_wait`:
        a request waits for this, so a slow sink may be waited for, shortly."""

    def close(self) -> None:
        """Takes nothing any more."""


class TrailFile(Protocol):
    """What a chain asks of a sink that is a file. Its methods raise nothing but ConfigError."""

    last_line: bytes  # the last whole line that was there at start, without its newline; b"" if there was none
    fragment: bytes  # what stands behind it: the beginning of a line whose writer was interrupted

    rotates: bool  # whether it ever is full

    @property
    def is_full(self) -> bool:
        """Whether it is time to go on in a new file."""

    def cut_fragment(self) -> None:
        """Removes `fragment` from what is kept."""

    def reopen(self) -> None:
        """Goes on in a new file if the old one was moved away."""

    def rotate(self) -> bool:
        """Moves the file away that is full, and goes on in a new one. Whether that could be done."""

    def sync(self) -> bool:
        """Forces to disk what is kept, in whatever thread. Whether that could be done."""

    def last_lines(self, bytes_max: int) -> list[bytes]:
        """The last whole lines that can be read back, without their newlines, of so many bytes at most."""


class TrailState(NamedTuple):
    """Where one sink's trail is, as its writer knows it. `began_at`: the number of the line that was the last when this process
    began; `waiting`: lines that the sink did not take yet."""

    sink: str
    on_failure: OnFailure
    seq: int
    hash: str
    began_at: int
    waiting: int
    cut_bytes: int
    last_lines: list[bytes]


class Chain:
    """One sink's trail: the place in the chain, and the lines that wait for the sink."""

    __slots__ = (
        "_count_events",
        "_file",
        "_lines",
        "_pending",
        "_pending_lines",
        "_prev",
        "_seal",
        "_seq",
        "began_at",
        "cut_bytes",
        "flush",
        "missing",
        "on_failure",
        "pending_bytes",
        "sink",
    )

    def __init__(
        self,
        sink: Sink,
        on_failure: OnFailure,
        count_events: CountEvents,
        lines: Lines = lines,
        seal: "Seal | None" = None,
    ) -> None:
        """Goes on where the sink's last line ends. Raises ConfigError if that is not a line of a trail."""
        file = self._file = sink.file
        last_line = b"" if file is None else file.last_line
        end = Place(*read_position(sink.name, last_line))
        self._seq, self._prev = end
        self.began_at = self._seq
        self.cut_bytes = 0 if file is None else _cut_fragment(sink.name, file)
        self.missing: tuple[int, int] | None = None
        self.sink = sink
        self.on_failure = on_failure
        self._count_events = count_events
        self._lines = lines
        self._seal = seal
        # hot: chosen here, since nearly every request comes by.
        self.flush: Callable[..., bool] = self._offer
        if seal is not None or (file is not None and file.rotates):
            self.flush = self._offer_and_tend
        self._pending: list[bytes] = []
        self._pending_lines = 0
        self.pending_bytes = 0
        if seal is not None:
            self._seq, self._prev = seal.begin(end, last_line)
            self.missing = (end.seq + 1, self._seq) if 0 < end.seq < self._seq else None  # an empty file was moved away
            self._sign("start")

    def record(self, event: Event, *, at_once: bool) -> bool:
        """Chains the event. Whether it is kept by the sink if `at_once`, otherwise whether it will be offered to it."""
        if self.pending_bytes >= PENDING_BYTES_MAX and not self._has_room(1):
            return False
        self._append(event)
        if at_once:
            return self.flush(may_wait=True)
        if self.pending_bytes >= BATCH_BYTES:
            self.flush()
        return True

    def record_served(self, batch: Sequence[Served], id_prefix: str, epoch: float) -> None:
        """Chains the two lines of each of these reads."""
        if not self._has_room(2 * len(batch)):
            return
        both, place = self._lines(batch, id_prefix, epoch, Place(self._seq, self._prev))
        self._seq, self._prev = place
        self._pending.append(both)
        self._pending_lines += 2 * len(batch)
        self.pending_bytes += len(both)

    def omit(self, events: int) -> None:
        """Counts events of which there is to be no record."""
        self._count_events(self.sink.name, "omitted", events)

    def state(self, tail_bytes_max: int) -> TrailState:
        """Where it is."""
        return TrailState(
            *(
                self.sink.name,
                self.on_failure,
                self._seq,
                self._prev,
                self.began_at,
                self._pending_lines,
                self.cut_bytes,
            ),
            [] if self._file is None else self._file.last_lines(tail_bytes_max),
        )

    def _has_room(self, events: int) -> bool:
        """Whether more may wait; if not, these events are lost, and counted."""
        if self.pending_bytes >= PENDING_BYTES_MAX:
            self.flush()
            if self.pending_bytes >= PENDING_BYTES_MAX:
                self._count_events(self.sink.name, "lost", events)
                return False
        return True

    def _offer(self, *, may_wait: bool = False) -> bool:
        """Offers all lines that wait. Whether none is left."""
        if not self._pending:
            return True
        lines = b"".join(self._pending)
        kept = self.sink.write(lines, may_wait=may_wait)
        if kept == len(lines):
            self._count_events(self.sink.name, "written", self._pending_lines)
            self._pending.clear()
            self._pending_lines = self.pending_bytes = 0
            return True
        self._keep_pending(lines[kept:])
        return False

    def _offer_and_tend(self, *, may_wait: bool = False) -> bool:
        """The same, with a checkpoint behind them where one is due, and a new file where the old one is full."""
        seal = self._seal
        if seal is not None and seal.is_due(self._seq):
            self._sign("interval")
        is_kept = self._offer(may_wait=may_wait)
        if is_kept and self._file is not None and self._file.is_full:
            self._rotate(self._file)
        if is_kept and seal is not None and not seal.keep():
            self._count_events(self.sink.name, "failed", 1)
        return is_kept

    def _rotate(self, file: TrailFile) -> None:
        self._sign("rotate")
        if self._offer() and not file.rotate():
            self._count_events(self.sink.name, "failed", 1)

    def reopen(self) -> None:
        """Ends a file that was moved away, and goes on in a new one. Raises ConfigError."""
        self._sign("rotate")
        self.flush()
        if self._file is not None:
            self._file.reopen()

    def sync(self) -> bool:
        """Forces to disk what a file has kept. Whether that could be done; what is out of reach is not owed."""
        return self._file is None or self._file.sync()

    def close(self) -> None:
        """Offers what waits once more, counts the rest as lost, closes the sink."""
        self._sign("end")
        if not self.flush(may_wait=True):
            self._count_events(self.sink.name, "lost", self._pending_lines)
        self._pending.clear()
        self._pending_lines = self.pending_bytes = 0
        self.sink.close()

    def _append(self, event: Event) -> None:
        event["seq"] = self._seq + 1
        event["prev"] = self._prev
        try:
            text = canonical(event)
        except orjson.JSONEncodeError:
            text = canonical(encodable(event))
        self._prev = hash_of(self._prev, text)
        self._seq += 1
        line = (with_hash if event["body"] is None else with_hash_behind_body)(text, self._prev.encode())
        self._pending.append(line)
        self._pending_lines += 1
        self.pending_bytes += len(line)

    def _sign(self, cause: "Cause") -> None:
        """Lets a checkpoint follow, if there are lines that none has signed."""
        if self._seal is not None and self._seal.is_open(self._seq):
            line, (self._seq, self._prev) = self._seal.checkpoint(cause, Place(self._seq, self._prev))
            self._pending.append(line)
            self._pending_lines += 1
            self.pending_bytes += len(line)

    def _keep_pending(self, rest: bytes) -> None:
        rest_lines = rest.count(b"\n")
        self._count_events(self.sink.name, "failed", 1)
        if rest_lines < self._pending_lines:
            self._count_events(self.sink.name, "written", self._pending_lines - rest_lines)
        self._pending = [rest]
        self._pending_lines = rest_lines
        self.pending_bytes = len(rest)


def read_position(sink: str, last_line: bytes) -> tuple[int, str]:
    """`seq` and `hash` of a trail's last line, (0, GENESIS) if there is none. Raises ConfigError if it is not one, or
    was changed: going on behind it would make the break look like ours."""
    if not last_line:
        return 0, GENESIS
    try:
        event = orjson.loads(last_line)
        claimed, seq, prev = event.pop("hash"), event["seq"], event["prev"]
        is_sound = isinstance(seq, int) and claimed == chain_hash(prev, event)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise _unusable(sink, "its last line is not an audit event: not a trail, or damaged; move it away") from None
    if not is_sound:
        raise _unusable(sink, "its last line does not carry its own hash, so it was changed; keep it and move it away")
    return seq, claimed


_BEGINNINGS = (b'{"api_version":', b'{"cause":')
"""Of an event, and of a checkpoint."""


def _cut_fragment(sink: str, file: TrailFile) -> int:
    # A line that was not written whole was never acknowledged, nothing was done on its account. But a file whose only
    # line looks like nothing of ours was named by mistake, and is left as it is. (One beside an older file of ours was not.)
    head = file.fragment[: len(_BEGINNINGS[0])]
    if not head:
        return 0
    is_ours = any(beginning.startswith(head[: len(beginning)]) for beginning in _BEGINNINGS)
    if not file.last_line and not is_ours and head.strip(b"\0"):
        raise _unusable(sink, "is not an audit trail: it does not begin with an event")
    length = len(file.fragment)
    file.cut_fragment()
    return length


def _unusable(sink: str, message: str) -> ConfigError:
    return ConfigError((Finding(sink, 0, "", message),))
