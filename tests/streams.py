"""Streams over real sockets, for the tests of the data path: what is under test on one end, a plain socket on the other."""

import asyncio
import select
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from sockproxy.data import load_secrets
from sockproxy.errors import AuditRefused
from sockproxy.exchange import Exchange, Served
from sockproxy.forwarding.address import Address
from sockproxy.forwarding.deadlines import Deadlines
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.connections import Connections
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.shared import Extents, Observers, Proxy
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import Principal, identify
from sockproxy.operating.config import load_policy
from sockproxy.operating.known import load_catalogue, load_known_bodies
from sockproxy.operating.twins import Twins, find_twins
from sockproxy.recording.redaction import Redactor, hide_all

PRINCIPAL = identify(PeerFacts("listener", "unix", uid=1000, gid=1000, pid=1))


class Peer:
    """The far end of a stream: what the test reads and writes."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def receive(self, count: int) -> bytes:
        """Exactly `count` bytes, fewer only at the end."""
        got = b""
        while len(got) < count and (piece := await self._loop.sock_recv(self.sock, count - len(got))):
            got += piece
        return got

    async def receive_until(self, mark: bytes) -> bytes:
        """Up to and with `mark`, byte by byte, so that nothing behind it is taken; fewer only at the end."""
        got = b""
        while not got.endswith(mark) and (piece := await self._loop.sock_recv(self.sock, 1)):
            got += piece
        return got

    async def receive_all(self) -> bytes:
        got = b""
        while piece := await self._loop.sock_recv(self.sock, 1 << 16):
            got += piece
        return got

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


@asynccontextmanager
async def open_pairs(count: int) -> AsyncIterator[list[tuple[Stream, Peer]]]:
    """`count` streams, each with its far end."""
    loop = asyncio.get_running_loop()
    hangups = HangupWatch(loop)
    pairs = []
    for _ in range(count):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        _, stream = await loop.create_unix_connection(lambda: Stream(loop, hangups), sock=near)
        pairs.append((stream, Peer(far)))
    try:
        yield pairs
    finally:
        for stream, peer in pairs:
            stream.abort()
            peer.close()
        hangups.close()


async def read_some(stream: Stream) -> bytes:
    """What has arrived at a stream, at least one byte; b"" at the end. Raises TimeoutError (`expire` was called)."""
    await stream.wait_for_bytes()
    return stream.take_all()


async def until(holds: Callable[[], object]) -> None:
    """Lets the loop turn until a condition holds; the test's own time limit ends it otherwise."""
    while not holds():
        await asyncio.sleep(0)


class World:
    """A proxy between the test as its clients and the test as its engine, over real unix sockets.

    `connect` is a new client; `accept` is the next connection that the proxy opens to the engine."""

    def __init__(
        self,
        proxy: Proxy,
        gate: Gate,
        engine_socket: socket.socket,
        exchanges: list[Exchange],
        twins: Twins | None = None,
    ) -> None:
        self.proxy = proxy
        self.gate = gate
        self.exchanges = exchanges  # those that are completed
        self.decided: list[str] = []
        self.limits_hit: list[str] = []
        self.served: list[tuple[Exchange, int, int]] = []  # what went the express way
        self.refuses_records = False
        self._engine_socket = engine_socket
        self.readiness = (twins or find_twins()).make_readiness(asyncio.get_running_loop())
        self.connections = Connections(proxy, self.readiness)
        self._peers: list[Peer] = []
        self.endings: list[asyncio.Event] = []  # of the connections, in their order

    async def connect(self, principal: Principal = PRINCIPAL) -> Peer:
        """A client, served by the proxy from now on."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        near.setblocking(False)
        ended = asyncio.Event()
        self.endings.append(ended)
        self.connections.enter(near, self.gate, principal, lambda _: ended.set())
        return self._keep(Peer(far))

    async def accept(self) -> Peer:
        """The engine's end of the next connection that the proxy opens."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self._engine_socket)
        return self._keep(Peer(sock))

    def engine_was_called(self) -> bool:
        """Whether a connection to the engine waits to be accepted."""
        return bool(select.select([self._engine_socket], [], [], 0)[0])

    @property
    def busy_count(self) -> int:
        """Connections to the engine that carry a request, on whichever way."""
        return self.proxy.engine.busy_count + self.connections.express_busy_count

    def stop_engine(self) -> None:
        """From now on the engine cannot be reached."""
        self._engine_socket.close()

    async def close(self) -> None:
        self.connections.drain()
        await self.connections.finished(0)
        for peer in self._peers:
            peer.close()
        self.readiness.end()

    def _keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    # Observers

    def observe_decided(self, exchange: Exchange) -> None:
        self.decided.append(exchange.id)
        if self.refuses_records:
            raise AuditRefused("test")


class _Observers:
    def __init__(self) -> None:
        self.world: World | None = None

    def decided(self, exchange: Exchange) -> None:
        if self.world is not None:
            self.world.observe_decided(exchange)

    def completed(self, exchange: Exchange) -> None:
        if self.world is not None:
            self.world.exchanges.append(exchange)

    def account(self, exchange: Exchange) -> Exchange:
        return exchange

    def served(self, served: Served) -> None:
        if self.world is not None:
            self.world.served.append((served[0], *served[-2:]))

    def limit_hit(self, limit: str) -> None:
        if self.world is not None:
            self.world.limits_hit.append(limit)


@asynccontextmanager
async def open_world(
    policy: str = "allow-all",
    extents: Extents | None = None,
    *,
    observers: Observers | None = None,
    has_express: bool = True,
    twins: Twins | None = None,
    **limits: float,
) -> AsyncIterator[World]:
    """A proxy with that built-in policy and those limits. `extents`: where more than facts are recorded. `observers`: who is
    told, else the world itself."""
    loop = asyncio.get_running_loop()
    catalogue = load_catalogue()
    hangups = HangupWatch(loop)
    deadlines = Deadlines(loop)
    own = _Observers()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = f"{folder}/engine.sock"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)
        listening.listen()
        listening.setblocking(False)
        set_limits = replace(Limits(), **limits)  # type: ignore[arg-type]
        engine = Engine(Address("unix", path=path), set_limits, loop, hangups)
        proxy = Proxy(
            *(catalogue, load_known_bodies, engine, set_limits, deadlines, observers or own, "test"),
            redact_target=Redactor(load_secrets(), hide_all).target,
            extents=extents,
            has_express=has_express,
        )
        own.world = world = World(proxy, Gate("listener", load_policy(policy, catalogue)), listening, [], twins)
        try:
            yield world
        finally:
            await world.close()
            engine.close()
            deadlines.close()
            hangups.close()
            listening.close()
