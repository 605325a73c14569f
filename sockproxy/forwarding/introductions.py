"""Introductions: connections whose clients are told apart by their containers, until the engine has said which they are.

Owns that each is served by the gate of whom it then is, and their number. Must not know how the engine is asked
(`containers`), nor what is served. Begin at `Introductions.begin`.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from sockproxy.forwarding.connections import Connections
from sockproxy.forwarding.containers import Containers
from sockproxy.forwarding.shared import Gate, Proxy
from sockproxy.judging.identity import Peer, Principal, identify


class Introductions:
    """Those that are under way; no more than handshakes, since they hold as little."""

    def __init__(self, proxy: Proxy, connections: Connections, containers: Containers) -> None:
        self._proxy = proxy
        self._connections = connections
        self._containers = containers
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        gate_of: Callable[[Peer], Gate],
        sock: socket.socket,
        peer: Peer,
        principal: Principal,
        on_closed: Callable[[Principal], None],
    ) -> None:
        """Finds out who a client is, and serves it to its end; then `on_closed` is called."""
        if len(self._tasks) >= self._proxy.limits.handshakes_max:
            self._proxy.observers.limit_hit("handshakes_max")
            sock.close()
            on_closed(principal)
            return
        task = self._proxy.loop.create_task(self._introduce(gate_of, sock, peer, principal, on_closed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Ends all of them: nobody of them has been asked for anything yet."""
        for task in list(self._tasks):
            task.cancel()

    async def _introduce(
        self,
        gate_of: Callable[[Peer], Gate],
        sock: socket.socket,
        peer: Peer,
        principal: Principal,
        on_closed: Callable[[Principal], None],
    ) -> None:
        try:
            known = await self._containers.introduce(peer, time.time())
        except asyncio.CancelledError:
            sock.close()
            on_closed(principal)
            raise
        self._connections.enter(sock, gate_of(known), identify(known), on_closed, known)
