"""Readiness: which of the bare sockets can be read, told by one epoll of our own that the loop watches.

Owns that epoll, and nothing of what is read. Must not know what the sockets are for. Begin at `Readiness.watch`.

An event loop's transport costs 10 us for each connection (objects, registrations, calls later): more than all else that is
done for a short one. A bare socket here costs an entry in a dict, and one turn of the loop serves all that are ready.
"""

import asyncio
import select
import socket
from collections.abc import Callable

_EVENTS_A_TURN = 64  # then the loop's other work has its turn; level-triggered, so that nothing is lost


class Readiness:
    """Calls back who has something to read: bytes, an end or an error, which the next `recv` tells."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        """Calls `ready` whenever there is something to read, and perhaps when there is not. It must not raise."""
        descriptor = sock.fileno()
        self._ready[descriptor] = ready
        self._epoll.register(descriptor, select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        """Ends that, if it was watched; the socket stays open."""
        if self._ready.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def close(self, sock: socket.socket) -> None:
        """Closes a socket, watched or not."""
        self._ready.pop(sock.fileno(), None)
        sock.close()  # the kernel takes it out of the epoll

    def end(self) -> None:
        """Watches nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._ready.clear()

    def _turn(self) -> None:
        """hot: once for all that have become ready since the last turn."""
        ready = self._ready
        for descriptor, _ in self._epoll.poll(0, _EVENTS_A_TURN):
            call = ready.get(descriptor)
            if call is not None:  # else an earlier one of this turn has ended it
                call()
