"""Hang-ups: which half-closed connections are gone for good, told by one epoll of our own that the loop watches.

Owns that epoll. Must not know what a connection is for. Begin at `HangupWatch.watch`.
"""

import asyncio
import os
import select
from collections.abc import Callable


class HangupWatch:
    """Tells which of the half-closed connections are gone for good.

    A peer that has closed looks like one that has finished sending: both are an end of stream. The kernel tells them apart by
    EPOLLHUP, which an event loop reports only together with readiness to read, and that is permanent after an end of stream.
    So those connections, and only those, are watched by an epoll of their own that asks for nothing but the hang-up, and
    the loop watches that epoll.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._report)

    def watch(self, descriptor: int, hung_up: Callable[[], None]) -> int:
        """Calls `hung_up` when the peer of a connection is gone; returns what `forget` takes (-1: it cannot be watched)."""
        try:
            duplicate = os.dup(descriptor)  # the transport closes its own at a moment of its choosing
        except OSError:
            return -1  # lawful: it is closed already, or none is left; the hang-up shows when something is written
        self._watched[duplicate] = hung_up
        self._epoll.register(duplicate, 0)
        return duplicate

    def forget(self, watched_as: int) -> None:
        """Ends a watch."""
        if self._watched.pop(watched_as, None) is not None:
            self._epoll.unregister(watched_as)
            os.close(watched_as)

    def close(self) -> None:
        """Ends all watches."""
        for watched_as in list(self._watched):
            self.forget(watched_as)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _report(self) -> None:
        for watched_as, _ in self._epoll.poll(0):
            hung_up = self._watched.get(watched_as)
            if hung_up is not None:  # else an earlier one of this turn has ended it
                hung_up()  # whoever is told forgets the watch
