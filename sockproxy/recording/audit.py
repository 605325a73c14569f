"""The audit trail: events are chained and given to sinks, and a request waits for its line where that is promised.

Owns the order of lines, which of them must be kept before its request may go on, and what follows if a sink fails. Must
not know what an event says (`event`), what a sink is made of (`sinks`), nor how trails are read (`trail`). Begin at
`AuditTrail.decided`, then `Chain.record`. How lines are chained, and how anybody can check it: `event`.

A line is chained when its event happens, and waits in memory until the sink takes it; a sink that fails is offered the
same bytes again. So the order in the file is that of the events, and a failing sink never leaves a gap in the chain.
What comes while as much as `PENDING_BYTES_MAX` waits does not enter the chain: it is lost, and counted. A request that
is refused because of its line leaves both its lines as soon as the sink takes them: decided (allow), completed (503).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

import orjson

from sockproxy.errors import AuditRefused, ConfigError, Finding
from sockproxy.exchange import Exchange, Served
from sockproxy.judging.catalogue import Access, Classified
from sockproxy.judging.policy import Effect
from sockproxy.recording.checkpoint import Cause, Seal
from sockproxy.recording.event import (
    GENESIS,
    Event,
    canonical,
    chain_hash,
    completed_event,
    decided_event,
    encodable,
    hash_of,
    with_hash,
    with_hash_behind_body,
)
from sockproxy.recording.levels import Levels
from sockproxy.recording.prepared import Lines, Place, lines

BATCH_BYTES = 64 << 10
"""What may wait for the end of the loop's turn: a pipe's worth, about 70 events. Above: written at once."""

PENDING_BYTES_MAX = 1 << 20
"""What may wait for a sink that fails: about a thousand events, for it to come back to. Above: new events are lost."""

OnFailure = Literal["deny-writes", "deny-all", "continue"]
CountEvents = Callable[[str, str, int], None]
"""(sink, result, how many). Results: `RESULTS`."""

_NO_SEALS: Mapping[str, Seal] = MappingProxyType({})

RESULTS = ("written", "failed", "lost", "omitted")
"""`written`: lines that the sink took; `failed`: attempts to write that it did not take whole, the lines wait and are
offered again; `lost`: events that will never be in the trail; `omitted`: those of which a rule says that there be no record."""


class Sink(Protocol):
    """Where the lines of one trail go. Its methods raise nothing but ConfigError."""

    name: str
    last_line: bytes  # the last whole line that was there at start, without its newline; b"" if there was none
    fragment: bytes  # what stands behind it: the beginning of a line whose writer was interrupted

    rotates: bool  # whether it ever is full

    @property
    def is_full(self) -> bool:
        """Whether it is time to go on in a new file."""

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        """How many of these bytes are kept for good. Fewer than all is a failure, and the rest is offered again. `may_wait`:
        a request waits for this, so a slow sink may be waited for, shortly."""

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

    def close(self) -> None:
        """Takes nothing any more."""


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


class AuditTrail:
    """The observer that tells every sink of every exchange, and the only one that may refuse.

    `schedule_flush` gets a function to call at the end of the loop's turn (`loop.call_soon`). `flush` may be called at
    any time; a failed sink is tried again with the next event, or sooner by whoever calls it now and then.
    """

    def __init__(
        self,
        sinks: Sequence[tuple[Sink, OnFailure]],
        schedule_flush: Callable[[Callable[[], None]], None],
        count_events: CountEvents,
        lines: Lines = lines,
        levels: Levels | None = None,
        seals: Mapping[str, Seal] = _NO_SEALS,
    ) -> None:
        """`lines`: that of `prepared`, or its compiled twin. `levels`: where not all is recorded alike. `seals`: for those
        sinks, by name, whose trails are signed."""
        self._levels = levels
        self._chains = tuple(
            Chain(sink, on_failure, count_events, lines, seals.get(sink.name), has_bodies=levels is not None)
            for sink, on_failure in sinks
        )
        self._schedule_flush = schedule_flush
        self._is_flush_scheduled = False

    @property
    def cut_bytes(self) -> dict[str, int]:
        """Sink -> how many bytes of an interrupted line were cut off its end at start; for the log."""
        return {chain.sink.name: chain.cut_bytes for chain in self._chains if chain.cut_bytes}

    @property
    def missing_lines(self) -> dict[str, tuple[int, int]]:
        """Sink -> the first and the last `seq` of lines that were signed, and are not in the trail any more; for the log."""
        return {chain.sink.name: chain.missing for chain in self._chains if chain.missing is not None}

    def states(self, tail_bytes_max: int) -> list[TrailState]:
        """Where each sink's trail is, with its last lines of so many bytes."""
        return [chain.state(tail_bytes_max) for chain in self._chains]

    def decided(self, exchange: Exchange) -> None:
        """Records the decision. When this returns, the line of an allowed request that may change the engine is kept by
        every sink. Raises AuditRefused if one is not and its `on_failure` forbids to go on."""
        if not self._chains:
            return
        event = decided_event(exchange)
        is_allowed = exchange.decision is not None and exchange.decision.effect is Effect.ALLOW
        has_effect = is_allowed and may_change_engine(exchange.classified)
        refusing: Chain | None = None
        for chain in self._chains if self._levels is None else self._told(self._levels, exchange, event):
            is_owed = has_effect or (is_allowed and chain.on_failure == "deny-all")
            is_kept = chain.record(event, at_once=is_owed)
            if is_owed and not is_kept and chain.on_failure != "continue":
                refusing = refusing or chain
        self._flush_later()
        if refusing is not None:
            raise AuditRefused(refusing.sink.name)

    def completed(self, exchange: Exchange) -> None:
        """Records the outcome, as soon as may be. Never raises: what happened has happened."""
        if not self._chains:
            return
        event = completed_event(exchange)
        for chain in self._chains if self._levels is None else self._told(self._levels, exchange, event):
            chain.record(event, at_once=False)
        self._flush_later()

    def served(self, batch: Sequence[Served], id_prefix: str, epoch: float) -> None:
        """Records decision and outcome of reads at once (see `prepared`) and offers them to the sinks, since the batch has
        waited already; not for sinks that are owed reads."""
        if self._levels is not None:
            batch = self._without_omitted(batch)
        for chain in self._chains:
            chain.record_served(batch, id_prefix, epoch)
        self.flush()

    def _told(self, levels: Levels, exchange: Exchange, event: Event) -> Iterator["Chain"]:
        """The chains that get an event, each when the event says as much as it gets."""
        for chain in self._chains:
            if levels.fit(event, chain.sink.name, exchange):
                yield chain
            else:
                chain.omit(1)

    def _without_omitted(self, batch: Sequence[Served]) -> Sequence[Served]:
        kept = [served for served in batch if served[0][0] is not None]
        for chain in self._chains if len(kept) < len(batch) else ():
            chain.omit(2 * (len(batch) - len(kept)))
        return kept

    def flush(self) -> None:
        """Offers everything that waits to its sink."""
        self._is_flush_scheduled = False
        for chain in self._chains:
            chain.flush()

    def reopen(self) -> None:
        """After the files were moved away: goes on in new ones, with the same chains. Raises ConfigError with all that
        went wrong; a sink that cannot be reopened stays with its old file."""
        self._is_flush_scheduled = False
        findings: list[Finding] = []
        for chain in self._chains:
            try:
                chain.reopen()
            except ConfigError as error:
                findings += error.findings
        if findings:
            raise ConfigError(tuple(findings))

    def sync(self) -> tuple[str, ...]:
        """Forces to disk what the sinks have kept; the names of those that could not. Takes as long as the disk does, so it is
        for another thread."""
        return tuple(chain.sink.name for chain in self._chains if not chain.sink.sync())

    def close(self) -> None:
        """Writes what waits and closes the sinks; what they do not take is lost."""
        for chain in self._chains:
            chain.close()

    def _flush_later(self) -> None:
        if self._is_flush_scheduled:
            return
        for chain in self._chains:
            if chain.pending_bytes:
                self._is_flush_scheduled = True
                self._schedule_flush(self.flush)
                return


class Chain:
    """One sink's trail: the place in the chain, and the lines that wait for the sink."""

    __slots__ = (
        "_count_events",
        "_lines",
        "_pending",
        "_pending_lines",
        "_prev",
        "_seal",
        "_seq",
        "_with_hash",
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
        seal: Seal | None = None,
        *,
        has_bodies: bool = False,
    ) -> None:
        """Goes on where the sink's last line ends. Raises ConfigError if that is not a line of a trail."""
        end = Place(*read_position(sink.name, sink.last_line))
        self._seq, self._prev = end
        self.began_at = self._seq
        self.cut_bytes = _cut_fragment(sink)
        self.missing: tuple[int, int] | None = None
        self.sink = sink
        self.on_failure = on_failure
        self._count_events = count_events
        self._lines = lines
        self._seal = seal
        # hot: chosen here, since nearly every request comes by.
        self.flush: Callable[..., bool] = self._offer_and_tend if seal or sink.rotates else self._offer
        self._with_hash = with_hash_behind_body if has_bodies else with_hash
        self._pending: list[bytes] = []
        self._pending_lines = 0
        self.pending_bytes = 0
        if seal is not None:
            self._seq, self._prev = seal.begin(end, sink.last_line)
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
            self.sink.last_lines(tail_bytes_max),
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
        if is_kept and self.sink.is_full:
            self._rotate()
        if is_kept and seal is not None and not seal.keep():
            self._count_events(self.sink.name, "failed", 1)
        return is_kept

    def _rotate(self) -> None:
        self._sign("rotate")
        if self._offer() and not self.sink.rotate():
            self._count_events(self.sink.name, "failed", 1)

    def reopen(self) -> None:
        """Ends a file that was moved away, and goes on in a new one. Raises ConfigError."""
        self._sign("rotate")
        self.flush()
        self.sink.reopen()

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
        line = self._with_hash(text, self._prev.encode())
        self._pending.append(line)
        self._pending_lines += 1
        self.pending_bytes += len(line)

    def _sign(self, cause: Cause) -> None:
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


def may_change_engine(classified: Classified | None) -> bool:
    """Whether a request may change the engine: all but what the catalogue knows, in that API version, as a read."""
    if classified is None or classified.operation is None or not classified.in_version:
        return True
    return classified.operation.access is not Access.READ


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


def _cut_fragment(sink: Sink) -> int:
    # A line that was not written whole was never acknowledged, nothing was done on its account. But a file whose only
    # line looks like nothing of ours was named by mistake, and is left as it is.
    head = sink.fragment[: len(_BEGINNINGS[0])]
    if not head:
        return 0
    is_ours = any(beginning.startswith(head[: len(beginning)]) for beginning in _BEGINNINGS)
    if not sink.last_line and not is_ours and head.strip(b"\0"):
        raise _unusable(sink.name, "is not an audit trail: it does not begin with an event")
    length = len(sink.fragment)
    sink.cut_fragment()
    return length


def _unusable(sink: str, message: str) -> ConfigError:
    return ConfigError((Finding(sink, 0, "", message),))
