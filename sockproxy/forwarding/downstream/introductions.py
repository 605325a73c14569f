"""Introductions: connections whose clients are told apart by their containers, until the engine has said which they are.

Owns that each is served by the gate of whom it then is, and their number, in all and of one principal. Must not know how the
engine is asked (`containers`), nor what is served. Begin at `Introductions.begin`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from sockproxy.forwarding.downstream.listener import Arrival
from sockproxy.forwarding.serving.connections import Connections
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.forwarding.upstream.containers import Containers
from sockproxy.judging.identity import Peer, identify

SHARE_OF_ONE = 4
"""One principal has a quarter of the places at most: who is in no container waits half a second, as often as it connects."""


class Introductions:
    """Those that are under way; no more than handshakes, since they hold as little."""

    def __init__(self, proxy: Proxy, connections: Connections, containers: Containers) -> None:
        self._proxy = proxy
        self._connections = connections
        self._containers = containers
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_one: Counter[str] = Counter()

    def begin(self, gate_of: Callable[[Peer], Gate], arrival: Arrival) -> None:
        """Finds out who a client is, and serves it to its end."""
        places, key = self._proxy.limits.handshakes_max, arrival.principal.key
        if len(self._tasks) >= places or self._of_one[key] >= max(1, places // SHARE_OF_ONE):
            self._proxy.observers.limit_hit("handshakes_max")
            arrival.drop()
            return
        task = self._proxy.loop.create_task(self._introduce(gate_of, arrival))
        self._tasks.add(task)
        self._of_one[key] += 1
        task.add_done_callback(lambda task: self._leave(task, key))

    def cancel(self) -> None:
        """Ends all of them: nobody of them has been asked for anything yet."""
        for task in list(self._tasks):
            task.cancel()

    def _leave(self, task: asyncio.Task[None], key: str) -> None:
        self._tasks.discard(task)
        self._of_one[key] -= 1
        if not self._of_one[key]:
            del self._of_one[key]

    async def _introduce(self, gate_of: Callable[[Peer], Gate], arrival: Arrival) -> None:
        try:
            known = await self._containers.introduce(arrival.peer, time.time())
        except BaseException:  # lawful: it goes on; whatever happened, nothing must be left
            arrival.drop()
            raise
        self._connections.enter(arrival.sock, gate_of(known), identify(known), arrival.on_closed, known)
