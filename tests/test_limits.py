"""Limits: every one of them is hit, at the limit and one above; what is above gets a clear answer and is counted.

`BOUNDS` has a row for each field of `Limits`, and a test fails where one is missing.
"""

import asyncio
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from sockproxy.forwarding.address import Address, TlsFiles, parse_address
from sockproxy.forwarding.deadlines import Deadlines
from sockproxy.forwarding.downstream.binding import bind
from sockproxy.forwarding.downstream.handshakes import Handshakes
from sockproxy.forwarding.downstream.listener import Arrival, Census, Listener
from sockproxy.forwarding.downstream.tls import ServerTls
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import identify
from sockproxy.operating.app import bind_all
from sockproxy.operating.config import config_from_options
from sockproxy.operating.service import Service
from tests.certificates import Authority
from tests.exchanges import CATALOGUE
from tests.streams import Peer, World, open_world, until

HEAD_END = b"\r\n\r\n"
PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
START = b"POST /v1.41/containers/x/start HTTP/1.1\r\nHost: d\r\n\r\n"
UPLOAD = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n\r\n"
PAUSE = b"POST /v1.41/containers/x/pause HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n"  # denied
ATTACH = b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

Story = Callable[[World], Awaitable[None]]


async def ask(world: World, request: bytes) -> tuple[Peer, bytes]:
    """A new client with an answer of the proxy's own: status line and all, but for the body."""
    client = await world.connect()
    await client.send(request)
    return client, await client.receive_until(HEAD_END)


async def pass_through(world: World, request: bytes, answer: bytes = OK) -> Peer:
    """A new client whose request is answered by the engine."""
    client = await world.connect()
    await client.send(request)
    engine = await world.accept()
    await engine.receive_until(HEAD_END)
    await engine.send(answer)
    assert await client.receive(len(answer)) == answer
    return client


def padded(head: bytes, size: int) -> bytes:
    """The head with a field that makes it as long as this."""
    return head[:-2] + b"X: %b\r\n\r\n" % (b"x" * (size - len(head) - 5))


def refuses(request: bytes, status: int) -> Story:
    async def story(world: World) -> None:
        _, head = await ask(world, request)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert not world.engine_was_called()

    return story


def passes(request: bytes, answer: bytes = OK) -> Story:
    async def story(world: World) -> None:
        await pass_through(world, request, answer)

    return story


def fails(request: bytes, status: int, answer: bytes = b"") -> Story:
    """The engine says this (nothing: it takes its time), and the client gets that status."""

    async def story(world: World) -> None:
        client = await world.connect()
        await client.send(request)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(answer)
        head = await client.receive_until(HEAD_END)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" not in head  # harms nobody, not even this client
        assert await engine.receive_all() == b""

    return story


# --- bodies


def denied(size: int, *, is_kept: bool) -> Story:
    async def story(world: World) -> None:
        _, head = await ask(world, PAUSE % size + b"x" * size)
        assert head.startswith(b"HTTP/1.1 403 ")
        assert (b"Connection: close" in head) is not is_kept

    return story


async def body_comes_in_pieces(world: World) -> None:
    client = await world.connect()
    await client.send(UPLOAD + b"a")
    engine = await world.accept()
    await engine.receive_until(HEAD_END + b"a")
    await client.send(b"bcd")
    assert await engine.receive(3) == b"bcd"
    await engine.send(OK)
    assert await client.receive(len(OK)) == OK


async def body_stops_coming(world: World) -> None:
    _, head = await ask(world, UPLOAD + b"a")
    assert head.startswith(b"HTTP/1.1 408 ")
    engine = await world.accept()
    assert (await engine.receive_all()).endswith(HEAD_END + b"a")


JUDGING = """
version: 1
policies:
  judging:
    allow:
      - {operations: [ContainerCreate], require: {images: [x]}}
      - {operations: [ContainerStop, ExecResize], require: {target: {names: [x]}}}
"""
STOP = b"POST /v1.41/containers/x/stop HTTP/1.1\r\nHost: d\r\n\r\n"
RESIZE = b"POST /v1.41/exec/x/resize HTTP/1.1\r\nHost: d\r\n\r\n"
THERE = b'{"Id": "%b", "Name": "/x"}' % (b"a" * 64)
OF_IT = b'{"ID": "%b", "ContainerID": "x"}' % (b"b" * 64)


def is_judged_by(request: bytes, *answers: bytes, passes: bool) -> Story:
    """The engine is asked, says this, and gets the request or does not."""

    async def story(world: World) -> None:
        client = await world.connect()
        await client.send(request)
        engine = await world.accept()
        for answer in answers:
            await engine.receive_until(HEAD_END)
            await engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        if passes:
            engine = await world.accept()
            await engine.receive_until(HEAD_END)
            await engine.send(OK)
        assert (await client.receive_until(HEAD_END)).startswith(b"HTTP/1.1 200" if passes else b"HTTP/1.1 403")
        assert not world.engine_was_called()

    return story


def judged(body: bytes) -> bytes:
    head = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


# --- connections


@asynccontextmanager
async def open_front(world: World) -> AsyncIterator[str]:
    """A listener in front of the proxy."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = f"{folder}/d.sock"
        front = Listener(
            "front",
            bind(parse_address(path)),
            Census(world.proxy.limits),
            lambda came: world.connections.enter(came.sock, world.gate, came.principal, came.on_closed),
            world.connections.send_away,
            world.limits_hit.append,
        )
        readiness = Readiness(asyncio.get_running_loop())
        front.start(readiness)
        yield path
        front.stop_accepting()
        readiness.end()


def connections(count: int, *, is_last_refused: bool) -> Story:
    async def story(world: World) -> None:
        async with open_front(world) as path:
            clients = []
            for _ in range(count):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(path)
                clients.append(Peer(sock))
            if is_last_refused:
                assert (await clients.pop().receive_until(HEAD_END)).startswith(b"HTTP/1.1 503 ")
            for client in clients:  # those inside are served all the same
                await client.send(b"GET /a//b HTTP/1.1\r\nHost: d\r\n\r\n")
                assert (await client.receive_until(HEAD_END)).startswith(b"HTTP/1.1 400 ")
                client.close()

    return story


@asynccontextmanager
async def open_tls(world: World) -> AsyncIterator[Callable[[], Peer]]:
    """A way in with TLS, without a certificate of the client's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        own = Authority(Path(folder) / "own")
        handshakes, tls = Handshakes(world.proxy, world.connections), ServerTls(TlsFiles(own.cert, own.key, None))

        def connect() -> Peer:
            near, far = socket.socketpair()
            near.setblocking(False)
            facts = PeerFacts("front", "tcp")
            handshakes.begin(tls, lambda _: world.gate, Arrival(near, facts, identify(facts), lambda _: None))
            return Peer(far)

        yield connect
        handshakes.cancel()


async def hands_are_shaken(world: World) -> None:
    async with open_tls(world) as connect:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await asyncio.open_connection(sock=connect().sock, ssl=context, server_hostname="")


async def hands_are_not_shaken(world: World) -> None:
    async with open_tls(world) as connect:
        assert await connect().receive_all() == b""


async def two_shake_hands_at_once(world: World) -> None:
    async with open_tls(world) as connect:
        first, second = connect(), connect()
        assert await second.receive_all() == b""
        first.close()


async def head_comes_in_pieces(world: World) -> None:
    client = await world.connect()
    for start in range(0, len(PING), 9):
        await client.send(PING[start : start + 9])
        await asyncio.sleep(0)
    engine = await world.accept()
    await engine.receive_until(HEAD_END)
    await engine.send(OK)
    assert await client.receive(len(OK)) == OK


async def pause_is_short(world: World) -> None:
    client = await pass_through(world, PING)
    await client.send(b"GET /a//b HTTP/1.1\r\nHost: d\r\n\r\n")
    assert (await client.receive_until(HEAD_END)).startswith(b"HTTP/1.1 400 ")


async def pause_is_long(world: World) -> None:
    client = await pass_through(world, PING)
    assert await client.receive_all() == b""


# --- the engine


@asynccontextmanager
async def crowded_engine(world: World) -> AsyncIterator[socket.socket]:
    """An engine whose queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        listening.setblocking(False)
        crowd = [socket.socket() for _ in range(3)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
        loop, hangups = asyncio.get_running_loop(), HangupWatch(asyncio.get_running_loop())
        address = Address("tcp", host="127.0.0.1", port=listening.getsockname()[1])
        engine = world.proxy.engine = Engine(address, world.proxy.limits, loop, hangups)
        try:
            yield listening
        finally:
            for sock in crowd:
                sock.close()
            engine.close()
            hangups.close()


async def engine_does_not_accept(world: World) -> None:
    async with crowded_engine(world):
        _, head = await ask(world, PING)
        assert head.startswith(b"HTTP/1.1 502 ")
        assert b"Connection: close" not in head


def concurrent(count: int, kept: int) -> Story:
    async def story(world: World) -> None:
        clients = [await world.connect() for _ in range(count)]
        engines = []
        for client in clients:
            await client.send(START)
            engines.append(await world.accept())
        for client, engine in zip(clients, engines, strict=True):
            await engine.receive_until(HEAD_END)
            await engine.send(OK)
            assert await client.receive(len(OK)) == OK
        await until(lambda: world.busy_count == 0)
        assert world.proxy.engine.idle_count == kept
        for engine in engines[kept:]:
            assert await engine.receive_all() == b""

    return story


# --- tunnels and ends


async def tunnel_is_used(world: World) -> None:
    client = await pass_through(world, ATTACH, UPGRADED)
    await client.send(b"ls\n")
    client.finish()


async def tunnel_is_silent(world: World) -> None:
    client = await pass_through(world, ATTACH, UPGRADED)
    assert await client.receive_all() == b""


async def rest_is_read_so_that_the_answer_arrives(world: World) -> None:
    client = await world.connect()
    await client.send(b"GET /a//b HTTP/1.1\r\nHost: d\r\n\r\n" + b"x" * 100_000)
    assert (await client.receive_all()).startswith(b"HTTP/1.1 400 ")
    client.finish()
    await world.endings[-1].wait()


async def rest_never_ends(world: World) -> None:
    client, head = await ask(world, b"GET /a//b HTTP/1.1\r\nHost: d\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            await client.send(b"x" * 1000)
            await asyncio.sleep(0)


@asynccontextmanager
async def open_service(drain_seconds: float) -> AsyncIterator[tuple[Service, Peer, Peer]]:
    """A whole service with a request under way: the client, and the engine's side, where the request has come."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/engine.sock")
        listening.listen()
        listening.setblocking(False)
        options = {"listen": f"unix://{folder}/d.sock", "engine": f"unix://{folder}/engine.sock"}
        config = config_from_options(CATALOGUE, policy="allow-all", **options)
        config = replace(config, limits=replace(config.limits, drain_seconds=drain_seconds))
        service = Service(config, bind_all(config))
        await service.start()
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(f"{folder}/d.sock")
        client = Peer(sock)
        await client.send(START)
        loop = asyncio.get_running_loop()
        while True:  # the service asks for the engine's health as well
            engine = Peer((await loop.sock_accept(listening))[0])
            if (await engine.receive_until(HEAD_END)).startswith(b"POST "):
                break
            engine.close()
        yield service, client, engine
        client.close()
        engine.close()


async def what_is_under_way_ends_in_time(world: World) -> None:
    async with open_service(world.proxy.limits.drain_seconds) as (service, client, engine):
        draining = asyncio.create_task(service.drain())
        await asyncio.sleep(0)
        await engine.send(OK)
        assert (await client.receive_all()).endswith(b"OK")
        await draining


async def what_is_under_way_is_cut_off(world: World) -> None:
    async with open_service(world.proxy.limits.drain_seconds) as (service, client, engine):
        await service.drain()
        assert await client.receive_all() == b""
        assert await engine.receive_all() == b""


# --- all of them


class Bound(NamedTuple):
    """A value for a limit, what just fits, what exceeds it, and whether that is told as `limits_hit`: all that is
    refused or ended against somebody's will, not the usual end of what nobody uses any more."""

    value: float
    fits: Story
    exceeds: Story
    is_told: bool = True
    policy: str = "allow-all"


BOUNDS = {
    "head_bytes_max": Bound(100, passes(padded(PING, 100)), refuses(padded(PING, 101), 431)),
    "target_bytes_max": Bound(
        8, passes(PING.replace(b"/_ping", b"/_ping?a")), refuses(PING.replace(b"/_ping", b"/_ping?ab"), 431)
    ),
    "fields_max": Bound(
        3,
        passes(PING[:-2] + b"A: 1\r\nB: 2\r\n\r\n"),
        refuses(PING[:-2] + b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n", 431),
    ),
    "engine_head_bytes_max": Bound(
        100,
        passes(PING, padded(b"HTTP/1.1 204 No Content\r\n\r\n", 100)),
        fails(PING, 502, padded(b"HTTP/1.1 204 No Content\r\n\r\n", 101)),
    ),
    "discarded_body_bytes_max": Bound(
        10, denied(10, is_kept=True), denied(11, is_kept=False), is_told=False, policy="kubernetes-1.4"
    ),
    "judged_body_bytes_max": Bound(
        14, passes(judged(b'{"Image": "x"}')), refuses(judged(b'{"Image": "x" }'), 413), policy=JUDGING
    ),
    "judged_bodies_bytes_max": Bound(
        14, passes(judged(b'{"Image": "x"}')), refuses(judged(b'{"Image": "x" }'), 503), policy=JUDGING
    ),
    "connections_max": Bound(2, connections(2, is_last_refused=False), connections(3, is_last_refused=True)),
    "connections_per_principal_max": Bound(
        2, connections(2, is_last_refused=False), connections(3, is_last_refused=True)
    ),
    "head_seconds": Bound(0.1, head_comes_in_pieces, refuses(PING[:9], 408)),
    "handshake_seconds": Bound(0.5, hands_are_shaken, hands_are_not_shaken),
    "handshakes_max": Bound(1, hands_are_shaken, two_shake_hands_at_once),
    "keep_alive_seconds": Bound(0.1, pause_is_short, pause_is_long, is_told=False),
    "body_idle_seconds": Bound(0.1, body_comes_in_pieces, body_stops_coming),
    "connect_seconds": Bound(0.1, passes(PING), engine_does_not_accept),
    "engine_read_answer_seconds": Bound(0.1, passes(PING), fails(PING, 504)),
    "engine_write_answer_seconds": Bound(0.1, passes(START), fails(START, 504)),
    "inquiry_seconds": Bound(
        0.1,
        is_judged_by(STOP, THERE, passes=True),
        is_judged_by(STOP, passes=False),
        policy=JUDGING,
    ),
    "inquiry_bytes_max": Bound(
        len(THERE),
        is_judged_by(STOP, THERE, passes=True),
        is_judged_by(STOP, THERE + b" ", passes=False),
        policy=JUDGING,
    ),
    "inquiry_questions_max": Bound(
        1,
        is_judged_by(STOP, THERE, passes=True),
        is_judged_by(RESIZE, OF_IT, passes=False),
        policy=JUDGING,
    ),
    "tunnel_idle_seconds": Bound(0.1, tunnel_is_used, tunnel_is_silent),
    "linger_seconds": Bound(0.1, rest_is_read_so_that_the_answer_arrives, rest_never_ends, is_told=False),
    "drain_seconds": Bound(0.3, what_is_under_way_ends_in_time, what_is_under_way_is_cut_off, is_told=False),
    "engine_idle_connections_max": Bound(2, concurrent(2, 2), concurrent(3, 2), is_told=False),
}

# The clock of all limits ticks four times within the shortest one that is known when it starts.
QUICK = {"engine_read_answer_seconds": 1.0}


@asynccontextmanager
async def open_bounded(name: str) -> AsyncIterator[World]:
    bound = BOUNDS[name]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(JUDGING)
        file.flush()
        policy = file.name if bound.policy == JUDGING else bound.policy
        async with asyncio.timeout(10), open_world(policy, **(QUICK | {name: bound.value})) as world:
            yield world


def test_every_limit_has_its_row() -> None:
    refuses_nothing = {"audited_body_bytes_max"}  # what is above it passes: `test_levels`
    assert set(BOUNDS) | refuses_nothing == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("name", BOUNDS)
async def test_what_fits_is_served(name: str) -> None:
    async with open_bounded(name) as world:
        await BOUNDS[name].fits(world)
        assert world.limits_hit == []


@pytest.mark.parametrize("name", BOUNDS)
async def test_what_exceeds_gets_a_clear_answer(name: str) -> None:
    async with open_bounded(name) as world:
        await BOUNDS[name].exceeds(world)


@pytest.mark.parametrize("name", [name for name, bound in BOUNDS.items() if bound.is_told])
async def test_what_exceeds_is_counted_by_its_name(name: str) -> None:
    async with open_bounded(name) as world:
        await BOUNDS[name].exceeds(world)
        assert world.limits_hit == [name]


@pytest.mark.parametrize("name", [name for name, bound in BOUNDS.items() if not bound.is_told])
async def test_what_ends_in_the_usual_way_is_not_counted(name: str) -> None:
    async with open_bounded(name) as world:
        await BOUNDS[name].exceeds(world)
        assert world.limits_hit == []


TIMES = [field.name for field in fields(Limits) if field.name.endswith("_seconds")]


async def test_a_time_of_0_is_not_limited() -> None:
    async with asyncio.timeout(10), open_world(**dict.fromkeys(TIMES, 0)) as world:
        silent = await world.connect()
        tunnel = await pass_through(world, ATTACH, UPGRADED)
        client = await pass_through(world, PING)
        assert world.limits_hit == []
        for peer in (silent, tunnel, client):
            peer.finish()


async def test_a_chunked_body_is_discarded_up_to_the_same_limit() -> None:
    head = PAUSE.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    async with asyncio.timeout(10), open_world("kubernetes-1.4", discarded_body_bytes_max=4) as world:
        _, answer = await ask(world, head + b"4\r\nabcd\r\n0\r\n\r\n")
        assert b"Connection: close" not in answer
        _, answer = await ask(world, head + b"5\r\nabcde\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"Connection: close" in answer


async def test_an_engine_that_takes_its_time_with_a_body_is_not_the_clients_fault() -> None:
    # `body_idle_seconds` is about a client of which no byte comes "while the engine waits for it".
    size = 4 << 20
    async with asyncio.timeout(10), open_world(body_idle_seconds=0.1, **QUICK) as world:
        client = await world.connect()
        head = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % size
        sending = asyncio.create_task(client.send(head + b"x" * size))
        engine = await world.accept()
        for _ in range(2):  # others, for which it does wait, come to their end meanwhile
            await body_stops_coming(world)
        receiving = asyncio.create_task(engine.receive(10_000 + size))
        await until(lambda: sending.done() or receiving.done())
        assert not receiving.done()
        await engine.send(OK)
        assert await client.receive(len(OK)) == OK
        receiving.cancel()


async def test_what_ends_at_a_limit_may_start_another() -> None:
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    deadlines = Deadlines(loop)
    ended = {"second": asyncio.Event(), "other": asyncio.Event()}
    deadlines.start(0.05, lambda: deadlines.start(0.07, ended["second"].set))
    deadlines.start(0.06, lambda: deadlines.start(0.08, ended["other"].set))  # the clock goes on
    async with asyncio.timeout(5):
        for event in ended.values():
            await event.wait()
    deadlines.close()
    assert faults == []
