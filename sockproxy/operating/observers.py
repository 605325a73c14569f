"""What is told of every exchange, and in which order: audit, metrics, log.

Owns that order, and the batches in which reads of the express way are told of. Must not know where lines and numbers go
(`recording`). Begin at `Observers`.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sockproxy.errors import AuditRefused
from sockproxy.exchange import Exchange, Served
from sockproxy.judging.policy import Effect
from sockproxy.operating.admin.showing import Kept, kept
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.levels import Levels
from sockproxy.recording.metrics import Account, Metrics
from sockproxy.recording.prepared import Prepared, prepare

if TYPE_CHECKING:
    from sockproxy.recording.terminals import Terminals

log = logging.getLogger("sockproxy")

_SERVED_MAX = 32  # reads that wait to be told of: 50 KiB of lines, since larger blocks cost a page fault a page


DENIALS_MAX = 100
"""The last denials are kept for who looks later, since it is they that make somebody look."""


class Counting(Protocol):
    """What counts: the metrics, or who stands before them while somebody looks (`live`)."""

    def decided(self, exchange: Exchange) -> None: ...

    def completed(self, exchange: Exchange) -> None: ...

    def served(self, batch: Sequence[Served]) -> None: ...


class Observers:
    """Audit first, since it may refuse; then the metrics; then the log, which names denials only."""

    def __init__(
        self,
        trail: AuditTrail,
        metrics: Metrics,
        id_prefix: str,
        schedule: Callable[[Callable[[], None]], None],
        recorder: "Terminals | None" = None,
        levels: Levels | None = None,
    ) -> None:
        """`recorder`: of sessions, which has to know of the sizes of their terminals."""
        self._levels = levels
        self._trail = trail
        self._metrics = metrics
        self._counting: Counting = metrics
        self.id_prefix = id_prefix
        self.denials: deque[Kept] = deque(maxlen=DENIALS_MAX)
        self._schedule = schedule
        self._recorder = recorder
        self._served: list[Served] = []  # not told of yet
        self._count_before = 0  # how many there were a turn ago

    def decided(self, exchange: Exchange) -> None:
        if self._served:
            self.tell_served()
        self._counting.decided(exchange)
        try:
            self._trail.decided(exchange)
        except AuditRefused:
            self._metrics.audit_rejected()
            raise

    def completed(self, exchange: Exchange) -> None:
        if self._served:
            self.tell_served()
        self._trail.completed(exchange)
        self._counting.completed(exchange)
        if self._recorder is not None:
            self._recorder.completed(exchange)
        decision = exchange.decision
        if decision is not None and Effect.DENY in (decision.effect, decision.shadow):
            log_denial(exchange)
            self.denials.append(kept(exchange))
        elif exchange.engine_error_reason is not None:
            log.warning("engine-failed", extra={"exchange": exchange.id, "reason": exchange.detail})
        elif exchange.bad_request_reason is not None:
            log.info("bad-request", extra={"exchange": exchange.id, "reason": exchange.detail})

    def count_by(self, counting: Counting) -> None:
        """From now on what is counted is told to this one, which tells the metrics."""
        self._counting = counting

    def account(self, exchange: Exchange) -> tuple[Prepared | None, Account]:
        is_recorded = self._levels is None or not self._levels.leaves_out(exchange)
        return prepare(exchange) if is_recorded else None, self._metrics.account(exchange)

    def served(self, served: Served) -> None:
        """hot: told of together with others, when a turn of the loop has brought no more of them: after the answer, then, and
        without a timer, which would cost a wake-up."""
        if not self._served:
            self._count_before = 0
            self._schedule(self._tell_if_quiet)
        self._served.append(served)
        if len(self._served) >= _SERVED_MAX:
            self.tell_served()

    def _tell_if_quiet(self) -> None:
        count = len(self._served)
        if count > self._count_before:
            self._count_before = count
            self._schedule(self._tell_if_quiet)
        elif count:
            self.tell_served()

    def tell_served(self) -> None:
        """Tells of what went the express way, in its order."""
        batch, self._served = self._served, []
        try:
            self._counting.served(batch)
            self._trail.served(batch, self.id_prefix, time.time() - time.monotonic())
        except Exception:
            # Lawful: these reads have been answered, and whoever happens to be told of next must not pay for a fault of ours.
            log.exception("records-lost", extra={"reads": len(batch)})

    def limit_hit(self, limit: str) -> None:
        self._metrics.limit_hit(limit)


def log_denial(exchange: Exchange) -> None:
    """One line that answers "why was I denied?"."""
    decision, classified = exchange.decision, exchange.classified
    if decision is None or classified is None:
        return
    operation = classified.operation
    log.warning(
        "denied" if decision.effect is Effect.DENY else "would-be-denied",
        extra={
            "operation": operation.operation_id if operation else "unknown",
            "policy": decision.policy,
            "rule": decision.rule or "none",
            "reason": decision.detail,
            "listener": exchange.listener,
            "exchange": exchange.id,
        },
    )
