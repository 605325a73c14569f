"""What is seen of a serving process while somebody looks: requests as they are decided and completed, the last denials, where
its trails are.

Owns how much is kept for that, and that it costs nothing while nobody looks: the first `look` puts the window between the
observers and the metrics, and it is taken out again when nobody has looked for a while. Must not know who looks (`watchers`),
nor what is shown of a request (`showing`). Begin at `Window.look`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from sockproxy.exchange import Exchange, Served
from sockproxy.judging.catalogue import Access
from sockproxy.judging.policy import Effect, Policy
from sockproxy.operating.admin.showing import TAIL_BYTES_MAX, Kept, Told, kept, row, rows_of_served, trail_told
from sockproxy.operating.observers import Observers
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.metrics import Metrics

NOTABLE_MAX = 60
"""Denials, failures and what may change the engine that are shown of the time between two looks: nobody reads more a second."""

READS_MAX = 20
"""The same of other reads, the last ones. All are counted."""

ROWS_MAX = 100
"""Of all processes together."""

DENIALS_SHOWN_MAX = 30
"""Kinds of denials: those of one operation, for one reason, to one principal are one kind."""

LEFT_SECONDS = 4.0
"""Nobody looks any more when nobody has for so long: those who do, look every second."""

Suggest = Callable[[Exchange, Policy | None], Told]


class Sights(NamedTuple):
    """What those who look may ask. Each may raise OSError, where other processes have to be asked."""

    look: Callable[[], Told]
    policies: Callable[[str], Told]
    """Those in use, by all operations of an API version ("": the newest known)."""


class Window:
    """One process's. While it is open it stands before the metrics, and is told what they are told."""

    def __init__(
        self,
        metrics: Metrics,
        observers: Observers,
        trail: AuditTrail,
        policies: Callable[[], Mapping[str, Policy]],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """`policies`: those in force now. `later` calls a function after some seconds."""
        self._metrics = metrics
        self._observers = observers
        self._trail = trail
        self._policies = policies
        self._later = later
        self._notable: dict[str, Kept] = {}  # by id, the last one told of at the end
        self._others: dict[str, Kept] = {}
        self._served: deque[Served] = deque(maxlen=READS_MAX)
        self._seen = 0
        self._suggested: dict[str, Told] = {}
        self.is_open = False
        self._is_looked_through = False

    # --- who looks

    def look(self) -> Told:
        """What has happened since the last look, the last denials, and where the trails are."""
        self._is_looked_through = True
        if not self.is_open:
            self.is_open = True
            self._observers.count_by(self)
            self._later(LEFT_SECONDS, self._close_if_left)
        self._observers.tell_served()
        self._trail.flush()
        told = {
            "seen": self._seen,
            "rows": self._rows(),
            "denials": self._denials(),
            "trails": [trail_told(state) for state in self._trail.states(TAIL_BYTES_MAX)],
        }
        self._clear()
        return told

    def _close_if_left(self) -> None:
        if self._is_looked_through:
            self._is_looked_through = False
            self._later(LEFT_SECONDS, self._close_if_left)
        else:
            self.is_open = False
            self._observers.count_by(self._metrics)
            self._clear()

    def _clear(self) -> None:
        self._seen = 0
        self._notable.clear()
        self._others.clear()
        self._served.clear()

    # --- what is told, in the place of the metrics

    def decided(self, exchange: Exchange) -> None:
        """A request that is not over yet; shown if it lasts."""
        self._metrics.decided(exchange)
        self._keep(exchange)

    def completed(self, exchange: Exchange) -> None:
        """A request that is over."""
        self._metrics.completed(exchange)
        self._seen += 1
        self._keep(exchange)

    def served(self, batch: Sequence[Served]) -> None:
        """Reads of the express way."""
        self._metrics.served(batch)
        self._seen += len(batch)
        self._served.extend(batch[-READS_MAX:])

    def _keep(self, exchange: Exchange) -> None:
        held, held_max = (self._notable, NOTABLE_MAX) if _is_notable(exchange) else (self._others, READS_MAX)
        held.pop(exchange.id, None)
        held[exchange.id] = kept(exchange)
        if len(held) > held_max:
            del held[next(iter(held))]

    # --- what is shown

    def _rows(self) -> list[Told]:
        found = self._others | self._notable  # a read that has failed was in the one, and is in the other
        epoch = time.time() - time.monotonic()
        return [*map(row, found.values()), *rows_of_served(self._served, self._observers.id_prefix, epoch)]

    def _denials(self) -> list[Told]:
        """The last kinds of denials, each with what would allow it."""
        kinds: dict[tuple[str, ...], Told] = {}
        for denial in reversed(self._observers.denials):
            one = row(denial)
            kind = _kind_of(one)
            if kind in kinds:
                kinds[kind]["times"] += 1
            elif len(kinds) < DENIALS_SHOWN_MAX:
                kinds[kind] = one | {"times": 1, "remedy": self._remedy(denial, one)}
        self._suggested = {one["id"]: one["remedy"] for one in kinds.values()}
        return list(kinds.values())

    def _remedy(self, denial: Kept, shown: Told) -> Told:
        # Imported here: it brings the reading of trails along, which nobody needs who does not look.
        from sockproxy.operating.admin.suggesting import suggest, unsuggested

        if not isinstance(denial, Exchange):
            return unsuggested()
        policy = self._policies().get(shown["policy"])
        return self._suggested.get(shown["id"]) or suggest(denial, policy)


def _is_notable(exchange: Exchange) -> bool:
    decision, classified = exchange.decision, exchange.classified
    if decision is None or classified is None or exchange.engine_error_reason is not None:
        return True
    operation = classified.operation
    is_denied = Effect.DENY in (decision.effect, decision.shadow)
    return is_denied or operation is None or operation.access is not Access.READ


def _kind_of(denial: Told) -> tuple[str, ...]:
    return tuple(str(denial[name]) for name in ("operation", "policy", "rule", "reason", "principal"))


def merge_looks(told: Iterable[Told]) -> Told:
    """What several processes tell, as one."""
    parts = list(told)
    newest = sorted((one for part in parts for one in part["denials"]), key=itemgetter("time"), reverse=True)
    kinds: dict[tuple[str, ...], Told] = {}
    for one in newest:
        last = kinds.setdefault(_kind_of(one), one | {"times": 0})
        last["times"] += one["times"]
    rows = sorted((one for part in parts for one in part["rows"]), key=itemgetter("time"))
    return {
        "seen": sum(part["seen"] for part in parts),
        "rows": rows[-ROWS_MAX:],
        "denials": list(kinds.values())[:DENIALS_SHOWN_MAX],
        "trails": [one for part in parts for one in part["trails"]],
    }
