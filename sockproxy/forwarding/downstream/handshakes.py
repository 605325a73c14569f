"""Handshakes: connections to a TLS listener, until it is known who they are.

Owns the limits of a handshake, and that whoever fails it is told of and forgotten. Must not know TLS itself (`tls`), nor
what is served (`proxy`). Begin at `Handshakes.begin`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from sockproxy.forwarding.downstream.listener import Arrival
from sockproxy.forwarding.downstream.tls import ServerTls, client_facts, open_secured
from sockproxy.forwarding.serving.connections import Connections
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.judging.identity import Peer, identify

log = logging.getLogger(__name__)

Introduce = Callable[[Peer, float], Awaitable[Peer]]
"""Finds out what else is known of a peer that came at that time, in seconds since the epoch."""


class Handshakes:
    """Those that are under way."""

    def __init__(self, proxy: Proxy, connections: Connections) -> None:
        self._proxy = proxy
        self._connections = connections
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        server: ServerTls,
        gate_of: Callable[[Peer], Gate],
        arrival: Arrival,
        introduce: Introduce | None = None,
    ) -> None:
        """Shakes hands with a client, whose gate is then chosen by what its certificate says, and serves it to its end.
        `introduce` finds out more of it, if that is asked for."""
        if len(self._tasks) >= self._proxy.limits.handshakes_max:
            self._proxy.observers.limit_hit("handshakes_max")
            arrival.drop()
            return
        task = self._proxy.loop.create_task(self._shake_hands(server, gate_of, arrival, introduce))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._tasks)

    def cancel(self) -> None:
        """Ends all of them: nobody of them has asked for anything yet."""
        for task in list(self._tasks):
            task.cancel()

    async def _shake_hands(
        self, server: ServerTls, gate_of: Callable[[Peer], Gate], arrival: Arrival, introduce: Introduce | None
    ) -> None:
        proxy, came_at = self._proxy, time.time()
        sock, peer, *_ = arrival
        is_served = False
        try:
            client, tls = await open_secured(
                proxy.loop, proxy.hangups, sock, server.context, proxy.limits.handshake_seconds
            )
            try:
                known = peer._replace(**client_facts(tls)._asdict())
                if introduce is not None:
                    known = await introduce(known, came_at)
                self._connections.enter(sock, gate_of(known), identify(known), lambda _: arrival.leave(), known, client)
                is_served = True
            finally:
                if not is_served:
                    client.abort()
        except TimeoutError:
            # Lawful: a client that takes too long is one that has gone.
            proxy.observers.limit_hit("handshake_seconds")
            _tell(peer, "too slow")
        except OSError as error:
            # Lawful: it was no client of ours, and has been told.
            _tell(peer, getattr(error, "reason", None) or str(error))
        finally:
            if not is_served:
                arrival.leave()


def _tell(peer: Peer, reason: str) -> None:
    log.info("handshake-failed", extra={"listener": peer.listener, "address": peer.address, "reason": reason})
