"""Deadlines: all time limits of the data path on one coarse clock.

Owns when a wait has lasted too long. Must not know what is waited for. One timer per request would cost more than
the rest of its bookkeeping; here a limit costs one entry in a dict, and a tick looks only at the entries that are due.
"""

import asyncio
from collections.abc import Callable
from itertools import count

_TICK_SECONDS_MAX = 1.0


class Deadline:
    """One running limit. With `progress`, the limit begins anew as long as that number has changed since the last look."""

    __slots__ = ("expire", "last", "number", "progress", "seconds", "until")

    def __init__(
        self, number: int, seconds: float, until: float, expire: Callable[[], None], progress: Callable[[], int] | None
    ) -> None:
        self.number = number
        self.seconds = seconds
        self.until = until
        self.expire = expire
        self.progress = progress
        self.last = progress() if progress is not None else 0


class Deadlines:
    """Starts and stops limits. A limit expires at most one tick late: a second, or a quarter of the shortest limit."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._numbers = count(1)
        # By duration: in each dict the entries stand in the order in which they are due.
        self._running: dict[float, dict[int, Deadline]] = {}
        self._sweeps: list[tuple[float, Callable[[float], None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(
        self, seconds: float, expire: Callable[[], None], progress: Callable[[], int] | None = None
    ) -> Deadline | None:
        """Calls `expire` in `seconds` unless stopped before; 0 seconds mean never (None)."""
        if not seconds:
            return None
        deadline = Deadline(next(self._numbers), seconds, self._loop.time() + seconds, expire, progress)
        self._running.setdefault(seconds, {})[deadline.number] = deadline
        if self._timer is None:
            self._schedule()
        return deadline

    def stop(self, deadline: Deadline | None) -> None:
        """Ends a limit; None and one that has expired are fine."""
        if deadline is not None:
            self._running.get(deadline.seconds, {}).pop(deadline.number, None)

    def sweep(self, seconds: float, look: Callable[[float], None]) -> None:
        """Calls `look` with the loop's time at every tick, for waits that are too many and too short for an entry each;
        `seconds` is the limit that it looks after (0: none, it is not called)."""
        if seconds:
            self._sweeps.append((seconds, look))
            if self._timer is None:
                self._schedule()

    def close(self) -> None:
        """Ends all limits."""
        self._running.clear()
        self._sweeps.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        lengths = [*self._running, *(seconds for seconds, _ in self._sweeps)]
        tick = min(_TICK_SECONDS_MAX, min(lengths) / 4)
        self._timer = self._loop.call_later(tick, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = None
        try:
            for running in list(self._running.values()):  # an expiry may start a limit of a new duration
                for deadline in _due(running, now):
                    if running.pop(deadline.number, None) is not None:  # else another one's end has ended it, too
                        self._end_or_renew(deadline, now)
            for _, look in self._sweeps:
                look(now)
        finally:
            if self._timer is None and (self._sweeps or any(self._running.values())):
                self._schedule()

    def _end_or_renew(self, deadline: Deadline, now: float) -> None:
        if deadline.progress is not None and (reached := deadline.progress()) != deadline.last:
            deadline.last = reached
            deadline.until = now + deadline.seconds
            self._running[deadline.seconds][deadline.number] = deadline
        else:
            deadline.expire()


def _due(running: dict[int, Deadline], now: float) -> list[Deadline]:
    due = []
    for deadline in running.values():
        if deadline.until > now:
            break
        due.append(deadline)
    return due
