"""Engine: connections are kept for the next request, and only such as can carry one; an engine that is away comes back."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sockproxy.errors import EngineError, EngineErrorReason
from sockproxy.forwarding.address import Address
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.upstream.engine import Engine
from tests.streams import Peer, read_some, until

PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


class Dockerd:
    """The engine that the test plays."""

    def __init__(self, family: socket.AddressFamily, place: object, backlog: int = 100) -> None:
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        self._sock.bind(place)  # type: ignore[arg-type]
        self._sock.listen(backlog)
        self._sock.setblocking(False)
        self._peers: list[Peer] = []

    async def accept(self) -> Peer:
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        self._peers.append(Peer(sock))
        return self._peers[-1]

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def close(self) -> None:
        self._sock.close()
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def open_engine(address: Address, **limits: float) -> AsyncIterator[Engine]:
    loop = asyncio.get_running_loop()
    hangups = HangupWatch(loop)
    engine = Engine(address, replace(Limits(), **limits), loop, hangups)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            yield engine
    finally:
        engine.close()
        hangups.close()


@asynccontextmanager
async def open_both(folder: Path, **limits: float) -> AsyncIterator[tuple[Engine, Dockerd]]:
    """An engine that answers at a unix socket."""
    path = str(folder / "engine.sock")
    dockerd = Dockerd(socket.AF_UNIX, path)
    try:
        async with open_engine(Address("unix", path=path), **limits) as engine:
            yield engine, dockerd
    finally:
        dockerd.close()


# --- keeping connections


async def test_a_connection_is_kept_and_taken_again(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        assert engine.acquire_idle() is None
        stream = await engine.connect()
        peer = await dockerd.accept()
        assert (engine.busy_count, engine.idle_count, engine.is_up) == (1, 0, True)
        engine.release(stream, is_reusable=True)
        assert (engine.busy_count, engine.idle_count) == (0, 1)
        assert engine.acquire_idle() is stream
        assert (engine.busy_count, engine.idle_count) == (1, 0)
        stream.write(b"request")
        assert await peer.receive(7) == b"request"
        await peer.send(b"answer")
        assert await read_some(stream) == b"answer"


async def test_the_one_used_last_is_taken_first(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, _):
        streams = [await engine.connect() for _ in range(3)]
        for stream in streams:
            engine.release(stream, is_reusable=True)
        assert [engine.acquire_idle() for _ in range(4)] == [*reversed(streams), None]


@pytest.mark.parametrize(("engine_idle_connections_max", "kept"), [(2, 2), (1, 1), (0, 0)])
async def test_no_more_are_kept_than_the_limit(tmp_path: Path, engine_idle_connections_max: int, kept: int) -> None:
    async with open_both(tmp_path, engine_idle_connections_max=engine_idle_connections_max) as (engine, dockerd):
        streams = [await engine.connect() for _ in range(2)]
        peers = [await dockerd.accept() for _ in range(2)]
        for stream in streams:
            engine.release(stream, is_reusable=True)
        assert (engine.idle_count, engine.busy_count) == (kept, 0)
        for peer in peers[kept:]:
            assert await peer.receive_all() == b""


async def test_what_did_not_end_cleanly_is_closed(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        stream = await engine.connect()
        peer = await dockerd.accept()
        engine.release(stream, is_reusable=False)
        assert await peer.receive_all() == b""
        assert (engine.idle_count, engine.busy_count) == (0, 0)


async def test_a_half_closed_connection_is_not_kept(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        stream = await engine.connect()
        await dockerd.accept()
        stream.write_eof()
        engine.release(stream, is_reusable=True)
        assert engine.idle_count == 0


async def test_bytes_that_nobody_took_end_a_connection(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        stream = await engine.connect()
        peer = await dockerd.accept()
        await peer.send(b"more than was asked for")
        await until(lambda: stream.has_bytes)
        engine.release(stream, is_reusable=True)
        assert engine.idle_count == 0
        assert await peer.receive_all() == b""


async def test_a_kept_connection_that_ends_is_dropped_and_closed(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        first, second = await engine.connect(), await engine.connect()
        peers = [await dockerd.accept(), await dockerd.accept()]
        engine.release(first, is_reusable=True)
        engine.release(second, is_reusable=True)
        peers[1].finish()
        await until(lambda: engine.idle_count == 1)
        assert await peers[1].receive_all() == b""
        assert engine.acquire_idle() is first


async def test_bytes_that_nobody_asked_for_are_no_answer(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        clean, stream = await engine.connect(), await engine.connect()
        _, peer = await dockerd.accept(), await dockerd.accept()
        engine.release(clean, is_reusable=True)
        engine.release(stream, is_reusable=True)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await until(lambda: stream.has_bytes)
        assert engine.acquire_idle() is clean
        assert (engine.idle_count, engine.busy_count) == (0, 1)


async def test_a_kept_connection_that_says_something_and_ends_is_dropped(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        stream = await engine.connect()
        peer = await dockerd.accept()
        engine.release(stream, is_reusable=True)
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        peer.finish()
        await until(lambda: stream.saw_eof)
        assert engine.idle_count == 0


async def test_closing_closes_the_kept_ones(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        kept, busy = await engine.connect(), await engine.connect()
        peers = [await dockerd.accept(), await dockerd.accept()]
        engine.release(kept, is_reusable=True)
        engine.close()
        assert await peers[0].receive_all() == b""
        busy.write(b"goes on")
        assert await peers[1].receive(7) == b"goes on"


# --- bare ones


async def test_a_kept_connection_becomes_a_bare_socket_and_a_stream_again(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        engine.release(await engine.connect(), is_reusable=True)
        peer = await dockerd.accept()
        bare = engine.take_bare()
        assert bare is not None
        assert (engine.idle_count, engine.busy_count, engine.bare_count) == (0, 0, 1)
        bare.send(b"there")
        assert await peer.receive(5) == b"there"
        await peer.send(b"and back")
        stream = await engine.adopt(bare, b"once ")
        assert (engine.idle_count, engine.busy_count, engine.bare_count) == (0, 1, 0)
        await until(lambda: stream.received == b"once and back")
        stream.take_all()
        engine.release(stream, is_reusable=True)
        assert engine.idle_count == 1


async def test_without_a_kept_connection_there_is_no_bare_one(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        assert engine.take_bare() is None
        engine.release(await engine.connect(), is_reusable=True)
        (await dockerd.accept()).close()
        await until(lambda: engine.idle_count == 0)
        assert engine.take_bare() is None
        assert engine.bare_count == 0


async def test_bare_ones_count_for_the_limit_until_they_are_dropped(tmp_path: Path) -> None:
    async with open_both(tmp_path, engine_idle_connections_max=1) as (engine, dockerd):
        first, second = await engine.connect(), await engine.connect()
        peer, _ = await dockerd.accept(), await dockerd.accept()
        engine.release(first, is_reusable=True)
        bare = engine.take_bare()
        assert bare is not None
        engine.release(second, is_reusable=True)
        assert engine.idle_count == 0  # it was closed
        engine.drop_bare(bare)
        assert await peer.receive_all() == b""
        engine.release(await engine.connect(), is_reusable=True)
        assert engine.idle_count == 1


async def test_what_is_not_sent_yet_goes_out_before_anything_else(tmp_path: Path) -> None:
    # The rest of a body that the engine has answered already: a bare socket would send the next request in its place.
    body = b"x" * (1 << 20)
    async with open_both(tmp_path) as (engine, dockerd):
        stream = await engine.connect()
        peer = await dockerd.accept()
        stream.write(body)
        engine.release(stream, is_reusable=True)
        assert engine.take_bare() is None
        assert (engine.idle_count, engine.busy_count, engine.bare_count) == (1, 0, 0)
        assert engine.acquire_idle() is stream
        stream.write(b"next")
        assert await peer.receive(len(body) + 4) == body + b"next"
        engine.release(stream, is_reusable=True)
        assert engine.take_bare() is not None


async def test_a_connection_that_was_bare_is_dropped_when_it_ends(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (engine, dockerd):
        engine.release(await engine.connect(), is_reusable=True)
        peer = await dockerd.accept()
        bare = engine.take_bare()
        assert bare is not None
        engine.release(await engine.adopt(bare, b""), is_reusable=True)
        assert engine.idle_count == 1
        peer.finish()
        await until(lambda: engine.idle_count == 0)
        assert await peer.receive_all() == b""


# --- whether it is there


async def test_an_engine_that_is_away_is_told_and_found_again(tmp_path: Path) -> None:
    path = str(tmp_path / "engine.sock")
    async with open_engine(Address("unix", path=path)) as engine:
        for _ in range(2):
            with pytest.raises(EngineError) as raised:
                await engine.connect()
            assert (raised.value.status, raised.value.reason) == (502, EngineErrorReason.UNREACHABLE)
            assert path in raised.value.detail
            assert not engine.is_up
        assert await engine.ping() is False
        assert not engine.is_reachable
        dockerd = Dockerd(socket.AF_UNIX, path)
        await engine.connect()
        assert engine.is_up
        dockerd.close()


async def test_a_socket_file_without_anybody_behind_it_is_unreachable(tmp_path: Path) -> None:
    path = str(tmp_path / "engine.sock")
    Dockerd(socket.AF_UNIX, path).close()
    async with open_engine(Address("unix", path=path)) as engine:
        with pytest.raises(EngineError) as raised:
            await engine.connect()
        assert raised.value.reason is EngineErrorReason.UNREACHABLE


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_an_engine_at_a_tcp_address(family: socket.AddressFamily, host: str) -> None:
    dockerd = Dockerd(family, (host, 0))
    async with open_engine(Address("tcp", host=host, port=dockerd.port)) as engine:
        stream = await engine.connect()
        peer = await dockerd.accept()
        stream.write(b"x")
        assert await peer.receive(1) == b"x"
        sock = stream.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    dockerd.close()


async def test_connecting_is_limited_in_time_and_succeeds_when_there_is_room() -> None:
    dockerd = Dockerd(socket.AF_INET, ("127.0.0.1", 0), backlog=0)
    crowd = []
    for _ in range(3):  # the queue is full: from now on a connection waits
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", dockerd.port))
        crowd.append(sock)
    async with open_engine(Address("tcp", host="127.0.0.1", port=dockerd.port), connect_seconds=0.05) as engine:
        with pytest.raises(EngineError) as raised:
            await engine.connect()
        assert (raised.value.status, raised.value.reason) == (502, EngineErrorReason.CONNECT_TIMEOUT)
        assert (engine.is_up, engine.busy_count) == (False, 0)
        await dockerd.accept()
        await engine.connect()
        assert engine.is_up
    for sock in crowd:
        sock.close()
    dockerd.close()


ANSWERS = {
    "ok": (PONG, True),
    "error": (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", False),
    "nonsense": (b"SSH-2.0-OpenSSH\r\n\r\n", False),
    "half": (b"HTTP/1.1 200 OK\r\nCont", False),
    "nothing": (b"", False),
    "too-much": (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 5000), False),
}


@pytest.mark.parametrize(("answer", "is_up"), ANSWERS.values(), ids=ANSWERS)
async def test_a_ping_is_whether_the_engine_answers_200(tmp_path: Path, answer: bytes, is_up: bool) -> None:
    async with open_both(tmp_path, engine_head_bytes_max=1000) as (engine, dockerd):
        pinging = asyncio.create_task(engine.ping())
        peer = await dockerd.accept()
        assert (await peer.receive_until(b"\r\n\r\n")).startswith(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n")
        await peer.send(answer)
        peer.finish()
        assert await pinging is is_up
        assert engine.is_up is is_up
        assert engine.is_reachable, "it accepted the connection, whatever it said then"
        assert (engine.busy_count, engine.idle_count) == (0, 0)


async def test_a_ping_is_limited_in_time(tmp_path: Path) -> None:
    async with open_both(tmp_path, connect_seconds=0.05) as (engine, dockerd):
        pinging = asyncio.create_task(engine.ping())
        peer = await dockerd.accept()
        assert await pinging is False
        assert (await peer.receive_all()).startswith(b"GET /_ping ")
        assert (engine.is_up, engine.is_reachable) == (False, True)
        assert engine.busy_count == 0
