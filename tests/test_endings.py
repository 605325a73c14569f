"""Awkward moments of the data path: ends, closings and hang-ups that come at the wrong time, and clients who do not read."""

import asyncio
import re
import socket
import struct

import pytest

from sockproxy.exchange import Stage
from tests.streams import Peer, World, open_pairs, open_world, until

HEAD_END = b"\r\n\r\n"
GET = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
RAW = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
EXEC_BODY = b'{"Detach":false}'
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


async def answer_known(world: World) -> tuple[Peer, Peer]:
    """A client whose next GET goes the express way, and the engine's end of the connection that is kept for it."""
    client = await world.connect()
    await client.send(GET)
    engine = await world.accept()
    for number in range(2):
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        await client.receive_until(b"[]")
        if number == 0:
            await client.send(GET)
    return client, engine


@pytest.mark.parametrize(("upgrade", "answer"), [(UPGRADE, UPGRADED), (b"", RAW)], ids=["101", "200"])
async def test_body_early_bytes_and_end_in_one_go_are_all_delivered(upgrade: bytes, answer: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        head = b"POST /v1.41/exec/abc/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n" + upgrade
        await client.send(head + b"Content-Length: %d\r\n\r\n" % len(EXEC_BODY) + EXEC_BODY + b"input")
        client.finish()
        engine = await world.accept()
        await engine.receive_until(EXEC_BODY)
        await engine.send(answer)
        assert await engine.receive_all() == b"input"


@pytest.mark.parametrize("size", [1000, 100_000])
async def test_who_hangs_up_behind_a_body_is_noticed(size: int) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"POST /v1.41/build HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        assert len(await engine.receive(size)) == size
        client.close()
        assert await engine.receive_all() == b""


@pytest.mark.parametrize("behind", [b"", b"X", b"X" * 100_000], ids=["nothing", "a-byte", "more-than-is-buffered"])
async def test_who_hangs_up_behind_pipelined_bytes_is_noticed(behind: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n" + behind)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.receive_until(HEAD_END)
        client.close()
        assert await engine.receive_all() == b""


async def test_two_hang_ups_in_one_turn_are_both_noticed() -> None:
    async with open_pairs(2) as [(first, first_peer), (second, second_peer)]:
        first_peer.finish()
        second_peer.finish()
        await until(lambda: first.saw_eof and second.saw_eof)
        first.watch_hangup()
        first_peer.close()
        await until(lambda: first.is_closing)
        second.watch_hangup()  # before the first one's end has been told
        await until(lambda: first.is_lost)
        second_peer.close()
        await until(lambda: second.is_lost)


async def test_a_connection_that_is_closing_is_not_kept() -> None:
    async with open_world() as world:
        stream = await world.proxy.engine.connect()
        await world.accept()
        stream.close()
        world.proxy.engine.release(stream, is_reusable=True)
        assert world.proxy.engine.acquire_idle() is None


FORMS = [
    b"application/x-www-form-urlencoded",
    b"Application/X-WWW-Form-Urlencoded; charset=x",
    b"multipart/form-data; boundary=x",
    "appl\u0130cation/x-www-form-urlencoded".encode(),  # what lower-cases to a form by Unicode
    "\u00a0application/x-www-form-urlencoded".encode(),  # what is trimmed by Unicode
    "\u0085application/x-www-form-urlencoded".encode(),
    b"",
    b"form",
]


@pytest.mark.parametrize("content_type", FORMS)
async def test_a_body_that_an_engine_may_take_for_a_form_is_refused(content_type: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        head = b"POST /v1.41/containers/x/rename?name=a HTTP/1.1\r\nHost: d\r\nContent-Length: 6\r\nContent-Type: "
        await client.send(head + content_type + b"\r\n\r\nname=b")
        assert (await client.receive_until(HEAD_END)).startswith(b"HTTP/1.1 400 ")
        assert not world.engine_was_called()


@pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b"plain/text", b"application/x-tar; a=b"])
async def test_other_types_pass(content_type: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        head = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Type: "
        await client.send(head + content_type + b"\r\n\r\nx")
        assert content_type in await (await world.accept()).receive_until(HEAD_END)


async def test_one_who_sends_many_requests_lets_others_go_first() -> None:
    async with open_world("kubernetes-1.4") as world:
        greedy, modest = await world.connect(), await world.connect()
        await greedy.send(b"GET /x HTTP/1.1\r\nHost:\r\n\r\n" * 2000)
        await modest.send(b"GET /y HTTP/1.1\r\nHost:\r\n\r\n")
        await modest.receive_until(HEAD_END)
        assert len(world.exchanges) < 1000


async def test_who_does_not_read_its_denials_is_not_served_on() -> None:
    async with open_world("kubernetes-1.4", keep_alive_seconds=0.1) as world:
        client = await world.connect()
        sending = asyncio.create_task(client.send(b"GET /x HTTP/1.1\r\nHost:\r\n\r\n" * 60_000))
        await world.endings[0].wait()  # its time is over
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await sending
        assert len(world.exchanges) < 10_000


async def test_what_is_under_way_when_time_is_over_is_recorded() -> None:
    async with open_world() as world:
        client, engine = await answer_known(world)
        told, decided = len(world.exchanges), len(world.decided)
        await client.send(GET)
        await engine.receive_until(HEAD_END)
        assert world.connections.express_busy_count == 1
        world.connections.drain()
        await until(lambda: len(world.decided) > decided)  # the plain way has taken it over
        await world.connections.finished(0.01)
        assert [exchange.stage for exchange in world.exchanges[told:]] == [Stage.FAILED]
        assert await engine.receive_all() == b""
        assert world.busy_count == 0


async def test_draining_does_not_wait_for_a_tunnel_that_the_engine_has_ended() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\n" + UPGRADE + b"\r\n")
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(UPGRADED + b"bye")
        engine.finish()
        assert (await client.receive_all()).endswith(b"bye")
        world.connections.drain()
        await world.endings[0].wait()
        assert world.exchanges[0].stage is Stage.ANSWERED


async def test_an_engine_that_takes_its_time_with_a_body_is_not_the_clients_fault() -> None:
    size = 4 << 20
    async with open_world(body_idle_seconds=0.05) as world:
        client = await world.connect()
        head = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % size
        sending = asyncio.create_task(client.send(head + b"x" * size))
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        ended = asyncio.Event()
        world.proxy.deadlines.start(0.3, ended.set)  # six times the limit
        await ended.wait()
        assert world.limits_hit == []
        assert len(await engine.receive(size)) == size
        await sending


async def test_a_late_end_of_the_engine_after_100_continue() -> None:
    async with open_world() as world:
        client = await world.connect()
        head = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        answer = (await client.receive_until(HEAD_END)).decode()
        assert answer.startswith("HTTP/1.1 404 ")
        assert re.search("connection: close", answer, re.IGNORECASE)  # whether the body comes is not known
        assert await client.receive_all() == b"no"


async def test_an_early_reset_is_no_ones_trouble() -> None:
    async with open_world() as world:
        for _ in range(20):
            client = await world.connect()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await asyncio.gather(*(ended.wait() for ended in world.endings))
        client = await world.connect()
        await client.send(GET)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        assert (await client.receive_until(b"[]")).endswith(b"[]")


async def test_tunnels_that_have_ended_leave_nothing_behind() -> None:
    async with open_world() as world:
        before = running_limits(world)
        for _ in range(3):
            client = await world.connect()
            await client.send(b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\n" + UPGRADE + b"\r\n")
            engine = await world.accept()
            await engine.receive_until(HEAD_END)
            await engine.send(UPGRADED)
            await client.receive_until(HEAD_END)
            client.finish()
            engine.finish()
            await world.endings[-1].wait()
        assert running_limits(world) == before
        assert not world.proxy.ended_tunnels
        assert world.busy_count == 0


def running_limits(world: World) -> int:
    return sum(map(len, world.proxy.deadlines._running.values()))


async def test_who_hangs_up_behind_pipelined_bytes_on_the_express_way_is_noticed() -> None:
    async with open_world() as world:
        client, engine = await answer_known(world)
        await client.send(GET)
        await engine.receive_until(HEAD_END)
        await client.send(GET)  # while the first is not answered
        client.close()
        assert await engine.receive_all() == b""
