"""The clients' connections: each on the express way, where all begin, or served by a task, the plain way.

Owns how long a connection lasts and which way it goes. Must not know what a request is (`proxy`). Begin at `Connections`.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

from sockproxy.exchange import Exchange, Stage
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.forwarding.moving.sockets import detach, open_stream
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.answering import refuse_connection
from sockproxy.forwarding.serving.callers import Caller, Outcome
from sockproxy.forwarding.serving.direct import Direct
from sockproxy.forwarding.serving.express import Express
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.proxy import SERVE
from sockproxy.forwarding.serving.shared import Proxy, Trip
from sockproxy.judging.catalogue import STREAMS
from sockproxy.judging.identity import Peer, Principal

_SENT_AWAY_MAX = 100  # connections above the limits that are still answered; beyond that they are cut off


class OpenStream(NamedTuple):
    """A stream or tunnel that goes on. `is_old`: what it was decided by does not hold for its client any more."""

    trip: Trip
    is_old: bool

    @property
    def exchange(self) -> Exchange:
        """What is known of its request."""
        return self.trip.exchange


class Connections:
    """The clients' connections: each on the express way, where all begin, or served by a task, the plain way."""

    def __init__(self, proxy: Proxy, readiness: Readiness) -> None:
        self._proxy = proxy
        self._direct = Direct(proxy)
        self._express = Express(proxy, readiness, self._serve, self._direct.serve)
        self._tasks: dict[asyncio.Task[None], Caller] = {}
        self._sent_away: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Those that are open, without those that are sent away."""
        return len(self._express.callers) + len(self._tasks)

    @property
    def express_busy_count(self) -> int:
        """Connections to the engine that the express way uses."""
        return self._express.busy_count

    @property
    def express_untold_count(self) -> int:
        """Exchanges under way on the express way of which no observer was told yet."""
        return self._express.untold_count

    @property
    def express_idle_count(self) -> int:
        """Connections to the engine that the express way keeps."""
        return self._express.idle_count

    def enter(
        self,
        sock: socket.socket,
        gate: Gate,
        principal: Principal,
        on_closed: Callable[[Principal], None],
        peer: Peer | None = None,
        secured: Stream | None = None,
    ) -> None:
        """Serves a connection to its end; then `on_closed` is called. `peer`: see `lead`. `secured`: its stream where there is
        TLS in between, and so no express way."""
        caller = Caller(self._express, sock, gate, principal, on_closed, peer)
        if secured is None:
            self._express.enter(caller)
        else:
            self._keep(self._serve_stream(caller, secured), caller)

    def lead(self, gate_of: Callable[[Peer], Gate]) -> None:
        """Every connection whose peer is known goes on by the gate that is told for it; what it has under way stays decided."""
        for caller in (*self._express.callers, *self._tasks.values()):
            if caller.peer is not None:
                caller.go_by(gate_of(caller.peer))

    def streams(self) -> Iterator[OpenStream]:
        """The streams and tunnels that are open."""
        for caller in self._tasks.values():
            trip = caller.trip
            if trip is None or trip.exchange.stage is not Stage.FORWARDED:
                continue
            classified, decision = trip.exchange.classified, trip.exchange.decision
            operation = None if classified is None else classified.operation
            if decision is not None and operation is not None and operation.traffic in STREAMS:
                yield OpenStream(trip, decision.policy_revision != caller.gate.policy.revision)

    def send_away(self, sock: socket.socket, limit: str) -> None:
        """Answers one who is one too many; what they have sent is read, so that the answer arrives."""
        if len(self._sent_away) >= _SENT_AWAY_MAX:
            sock.close()
            return
        task = self._proxy.loop.create_task(refuse_connection(self._proxy, sock, limit))
        self._sent_away.add(task)
        task.add_done_callback(self._sent_away.discard)

    def _serve(self, caller: Caller, outcome: Outcome, received: bytes) -> None:
        self._keep(self._go_on(caller, outcome, received), caller)

    def _keep(self, serving: Coroutine[Any, Any, None], caller: Caller) -> None:
        task = self._proxy.loop.create_task(serving)
        self._tasks[task] = caller
        task.add_done_callback(self._tasks.pop)

    async def _go_on(self, caller: Caller, outcome: Outcome, received: bytes) -> None:
        """Goes on with a connection of the express way."""
        client = await open_stream(self._proxy.loop, self._proxy.hangups, caller.sock, received)
        await self._serve_stream(caller, client, outcome)

    async def _serve_stream(self, caller: Caller, client: Stream, outcome: Outcome = Outcome.REQUEST) -> None:
        """Serves one request after the other, until the connection ends or goes the express way again."""
        proxy, is_over = self._proxy, True
        try:
            while await SERVE[outcome](proxy, client, caller) and await _comes_next(proxy, client):
                outcome = Outcome.REQUEST
                if self._is_usual(client, caller.gate) and (bare := detach(client)) is not None:
                    is_over = False
                    caller.sock = bare
                    self._express.enter(caller, client.take_all())
                    return
            client.close()
            if client.unsent_bytes:
                await _within(proxy, client, client.sent())
        finally:
            client.abort()
            if is_over:
                caller.on_closed(caller.principal)

    def _is_usual(self, client: Stream, gate: Gate) -> bool:
        """What has come is one request that is known, or can be served at once, and there is nothing else to care for."""
        if client.saw_eof or client.unsent_bytes or self._proxy.is_draining:
            return False
        return client.received in gate.known or self._direct.may_serve(gate, client.received)

    def drain(self) -> None:
        """Begins nothing new: what is under way is finished."""
        self._proxy.drain()
        self._express.drain()

    async def finished(self, seconds: float) -> None:
        """Returns when all connections have ended, after `drain`; those that take longer than that are cut off."""
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=seconds)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)


async def _comes_next(proxy: Proxy, client: Stream) -> bool:
    """Waits for the next request; False at the end, or when its time is over."""
    await _take_turns(proxy, client)
    if proxy.is_draining:
        return False
    deadline = proxy.deadlines.start(proxy.limits.keep_alive_seconds, client.expire)
    proxy.waiting.add(client)
    try:
        return await client.wait_for_bytes()
    except TimeoutError:
        return False  # lawful: it was idle for too long, or the proxy drains
    finally:
        proxy.waiting.discard(client)
        proxy.deadlines.stop(deadline)


async def _take_turns(proxy: Proxy, client: Stream) -> None:
    """Before a request: a client that does not read its answers is not served, and one that has sent many lets others go
    first."""
    if client.is_write_paused:
        await _within(proxy, client, client.drain())
    elif client.has_bytes:
        await asyncio.sleep(0)


async def _within(proxy: Proxy, client: Stream, sending: Coroutine[Any, Any, None]) -> None:
    """Waits for a client to take what was sent, as long as it takes something now and then."""
    deadline = proxy.deadlines.start(proxy.limits.keep_alive_seconds, client.abort, lambda: client.unsent_bytes)
    try:
        await sending
    finally:
        proxy.deadlines.stop(deadline)
