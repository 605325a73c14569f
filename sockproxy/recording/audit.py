"""The audit trail: every exchange is told to every sink, and a request waits for its line where that is promised.

Owns which lines must be kept before their request may go on, and what follows if a sink fails. Must not know what an event
says (`event`), how its line is chained and waits (`chain`), nor how trails are read (`trail`). Begin at `AuditTrail.decided`.

A request that is refused because of its line leaves both its lines as soon as the sink takes them: decided (allow),
completed (503).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from sockproxy.errors import AuditRefused, ConfigError, Finding
from sockproxy.exchange import Exchange, Served
from sockproxy.judging.catalogue import Access, Classified
from sockproxy.judging.policy import Effect
from sockproxy.recording.chain import Chain, CountEvents, OnFailure, Sink, TrailState
from sockproxy.recording.event import Event, completed_event, decided_event
from sockproxy.recording.levels import Levels
from sockproxy.recording.prepared import Lines, lines

if TYPE_CHECKING:
    from sockproxy.recording.checkpoint import Seal  # in memory only where a trail is signed

_NO_SEALS: Mapping[str, "Seal"] = MappingProxyType({})


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
        seals: Mapping[str, "Seal"] = _NO_SEALS,
    ) -> None:
        """`lines`: that of `prepared`, or its compiled twin. `levels`: where not all is recorded alike. `seals`: for those
        sinks, by name, whose trails are signed."""
        self._levels = levels
        self._chains = tuple(
            Chain(sink, on_failure, count_events, lines, seals.get(sink.name)) for sink, on_failure in sinks
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
        return tuple(chain.sink.name for chain in self._chains if not chain.sync())

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


def may_change_engine(classified: Classified | None) -> bool:
    """Whether a request may change the engine: all but what the catalogue knows, in that API version, as a read."""
    if classified is None or classified.operation is None or not classified.in_version:
        return True
    return classified.operation.access is not Access.READ
