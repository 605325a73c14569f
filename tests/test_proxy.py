"""The data path, told as dialogues between a client, the proxy and an engine that the test plays."""

import asyncio
import re

import pytest

from sockproxy.exchange import Stage
from tests.streams import Peer, World, open_world, until

GET = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
HEAD_END = b"\r\n\r\n"


async def read_answer(client: Peer) -> tuple[int, str, bytes]:
    """One answer with a Content-Length: status, head, body."""
    head = (await client.receive_until(HEAD_END)).decode("latin-1")
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    body = await client.receive(int(length[1]) if length else 0)
    return int(head.split(" ", 2)[1]), head, body


async def serve_one(world: World, answer: bytes = OK) -> tuple[Peer, bytes]:
    """The engine takes one connection and one head, and answers."""
    engine = await world.accept()
    head = await engine.receive_until(HEAD_END)
    await engine.send(answer)
    return engine, head


# --- ordinary exchanges


async def test_a_request_goes_to_the_engine_in_canonical_form() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(
            b"GET /v1.41/%63ontainers/json?all=1 HTTP/1.1\r\nHost: evil\r\nX-Kept:  a \r\nConnection: X-Gone, keep-alive\r\n"
            b"X-Gone: 1\r\nUpgrade: h2c\r\nTE: trailers\r\n\r\n"
        )
        _, head = await serve_one(world)
        lines = head.decode().split("\r\n")
        assert lines[0] == "GET /v1.41/containers/json?all=1 HTTP/1.1"
        assert sorted(lines[1:-2]) == ["Host: docker", "X-Kept: a"]
        assert await read_answer(client) == (200, OK[:-2].decode(), b"[]")


async def test_keep_alive_uses_one_connection_on_both_sides() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine, _ = await serve_one(world)
        await read_answer(client)
        for _ in range(3):
            await client.send(GET)
            await engine.receive_until(HEAD_END)
            await engine.send(OK)
            assert (await read_answer(client))[0] == 200
        assert not world.engine_was_called()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"".join(GET.replace(b"json", b"json?limit=%d" % number) for number in range(3)))
        engine = await world.accept()
        for number in range(3):
            assert b"limit=%d" % number in await engine.receive_until(HEAD_END)
            await engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert [(await read_answer(client))[2] for _ in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 5\r\n\r\nhello", id="content-length"),
        pytest.param(
            b"Transfer-Encoding: Chunked\r\n\r\n003\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            id="chunked-in-canonical-framing",
        ),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
            id="trailers",
        ),
    ],
)
async def test_bodies_go_to_the_engine(sent: bytes, expected: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\n" + sent)
        engine = await world.accept()
        head = b"POST /v1.41/images/load HTTP/1.1\r\nHost: docker\r\n" + expected
        assert await engine.receive(len(head)) == head
        await engine.send(OK)
        assert (await read_answer(client))[0] == 200


async def test_a_large_body_is_streamed_both_ways_at_once() -> None:
    size = 8 << 20
    async with open_world() as world:
        client = await world.connect()
        sending = asyncio.create_task(
            client.send(
                b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % size + b"u" * size
            )
        )
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        answering = asyncio.create_task(engine.send(b"d" * size))
        assert await engine.receive(size) == b"u" * size
        await client.receive_until(HEAD_END)
        assert await client.receive(size) == b"d" * size
        await asyncio.gather(sending, answering)
        await until(lambda: world.exchanges)
        assert (world.exchanges[0].bytes_in, world.exchanges[0].bytes_out) == (size, size)


async def test_small_chunks_reach_the_client_when_they_come() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        engine, _ = await serve_one(world, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.receive_until(HEAD_END)
        for number in range(5):
            chunk = b"2\r\n%d\n\r\n" % number
            await engine.send(chunk)
            assert await client.receive(len(chunk)) == chunk


NO_BODY = [
    ("GET", "204 No Content", ""),
    ("GET", "304 Not Modified", ""),
    ("HEAD", "200 OK", "Content-Length: 17\r\n"),
]


@pytest.mark.parametrize(("method", "status", "field"), NO_BODY)
async def test_answers_without_a_body(method: str, status: str, field: str) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET.replace(b"GET", method.encode()))
        engine, _ = await serve_one(world, f"HTTP/1.1 {status}\r\n{field}\r\n".encode())
        assert await client.receive_until(HEAD_END) == f"HTTP/1.1 {status}\r\n{field}\r\n".encode()
        await client.send(GET)
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        assert (await read_answer(client))[2] == b"[]"


async def test_a_body_that_ends_with_the_connection() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine, _ = await serve_one(world, b"HTTP/1.1 200 OK\r\n\r\nabc")
        engine.close()
        assert await client.receive_all() == b"HTTP/1.1 200 OK\r\n\r\nabc"


async def test_interim_answers_and_100_continue() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(
            b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        engine = await world.accept()
        assert b"Expect: 100-continue" in await engine.receive_until(HEAD_END)
        await engine.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await client.receive_until(HEAD_END) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ab")
        assert await engine.receive(2) == b"ab"
        await engine.send(OK)
        assert (await read_answer(client))[0] == 200


async def test_http_1_0_gets_no_chunks_and_no_interim_answers() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"GET /v1.41/containers/json HTTP/1.0\r\n\r\n")
        await serve_one(
            world,
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )
        assert await client.receive_all() == b"HTTP/1.0 200 OK\r\n\r\nabcde"


# --- the proxy's own answers


async def test_a_denial_names_all_and_keeps_the_connection() -> None:
    async with open_world("kubernetes-1.4") as world:
        client = await world.connect()
        for body in (b"", b'{"a":1}'):
            await client.send(
                b"POST /v1.41/containers/x/pause HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            status, head, text = await read_answer(client)
            assert status == 403
            assert text == (
                b'{"message":"sockproxy: ContainerPause denied by policy kubernetes-1.4: no rule allows it"}\n'
            )
            assert "Connection" not in head
            assert f"Sockproxy-Request-Id: {world.exchanges[-1].id}" in head
        assert not world.engine_was_called()
        assert [exchange.stage for exchange in world.exchanges] == [Stage.DENIED, Stage.DENIED]


async def test_below_api_1_24_a_denial_is_plain_text() -> None:
    async with open_world("kubernetes-1.4") as world:
        client = await world.connect()
        await client.send(b"POST /v1.23/containers/x/pause HTTP/1.1\r\nHost: d\r\n\r\n")
        status, head, text = await read_answer(client)
        assert (status, text) == (
            403,
            b"sockproxy: ContainerPause denied by policy kubernetes-1.4: no rule allows it\n",
        )
        assert "text/plain" in head


async def test_a_denied_upload_is_answered_at_once_and_closed() -> None:
    async with open_world("kubernetes-1.4") as world:
        client = await world.connect()
        await client.send(b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 999999999\r\n\r\nx")
        status, head, _ = await read_answer(client)
        assert status == 403
        assert "Connection: close" in head


async def test_what_cannot_be_read_is_answered_400_and_closed() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"GET /a//b HTTP/1.1\r\nHost: d\r\n\r\n" + GET)
        status, head, _ = await read_answer(client)
        assert status == 400
        assert "Connection: close" in head
        client.finish()
        assert await client.receive_all() == b""
        assert not world.engine_was_called()
        assert world.exchanges[0].stage is Stage.REJECTED


async def test_a_form_as_body_is_refused() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(
            b"POST /v1.41/containers/x/kill?signal=CONT HTTP/1.1\r\nHost: d\r\nContent-Length: 11\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nsignal=KILL"
        )
        assert (await read_answer(client))[0] == 400
        assert not world.engine_was_called()


async def test_broken_chunks_never_look_whole_to_the_engine() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(
            b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n-1\r\n"
        )
        engine = await world.accept()
        assert not (await engine.receive_all()).endswith(b"0\r\n\r\n")
        assert (await read_answer(client))[0] == 400


async def test_an_audit_that_refuses_lets_nothing_through() -> None:
    async with open_world() as world:
        world.refuses_records = True
        client = await world.connect()
        await client.send(GET)
        assert (await read_answer(client))[0] == 503
        assert not world.engine_was_called()


async def test_an_engine_that_cannot_be_reached_is_502_and_the_connection_stays() -> None:
    async with open_world() as world:
        world.stop_engine()
        client = await world.connect()
        for _ in range(2):
            await client.send(GET)
            status, head, _ = await read_answer(client)
            assert status == 502
            assert "Connection" not in head


async def test_an_engine_that_never_answers_is_504() -> None:
    async with open_world(engine_read_answer_seconds=0.05) as world:
        client = await world.connect()
        await client.send(GET)
        engine = await world.accept()
        assert (await read_answer(client))[0] == 504
        assert (await engine.receive_all()).startswith(b"GET ")


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"],
)
async def test_an_engine_that_answers_nonsense_is_502(answer: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        await serve_one(world, answer)
        assert (await read_answer(client))[0] == 502


# --- tunnels

ATTACH = b"POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
RAW = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("request_head", "answer"),
    [
        pytest.param(ATTACH, UPGRADED, id="101"),
        pytest.param(ATTACH.replace(b"Connection: Upgrade\r\nUpgrade: tcp\r\n", b""), RAW, id="200-raw-stream"),
    ],
)
async def test_a_tunnel_loses_nothing_and_half_closes_both_ways(request_head: bytes, answer: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(request_head + b"early ")
        engine = await world.accept()
        assert (b"Upgrade: tcp" in await engine.receive_until(HEAD_END)) == (answer is UPGRADED)
        await engine.send(answer + b"first ")
        assert await client.receive(len(answer) + 6) == answer + b"first "
        await client.send(b"late")
        client.finish()
        assert await engine.receive_all() == b"early late"
        await engine.send(b"and more")
        engine.close()
        assert await client.receive_all() == b"and more"
        await until(lambda: world.exchanges)
        exchange = world.exchanges[0]
        assert (exchange.stage, exchange.is_tunnel, exchange.bytes_in, exchange.bytes_out) == (
            Stage.ANSWERED,
            True,
            10,
            14,
        )


async def test_early_bytes_wait_for_the_engines_head() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(ATTACH + b"early")
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            engine.sock.recv(1)
        await engine.send(UPGRADED)
        assert await engine.receive(5) == b"early"


async def test_an_answer_that_is_no_tunnel_returns_to_keep_alive() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(
            b"POST /v1.41/exec/abc/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            b'Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{"Detach":true}'
        )
        engine = await world.accept()
        await engine.receive_until(b"true}")
        await engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await read_answer(client))[0] == 200
        await client.send(GET)
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        assert (await read_answer(client))[2] == b"[]"


async def test_an_unasked_101_is_not_believed() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        await serve_one(world, b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        assert (await read_answer(client))[0] == 502


async def test_a_client_that_leaves_a_tunnel_closes_the_engines_side() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(ATTACH)
        engine, _ = await serve_one(world, UPGRADED)
        await client.receive(len(UPGRADED))
        client.finish()
        assert await engine.receive_all() == b""
        client.close()
        await until(lambda: world.exchanges)
        with pytest.raises(BrokenPipeError):
            while True:
                await engine.send(b"x")


async def test_an_idle_tunnel_ends_at_its_limit() -> None:
    async with open_world(tunnel_idle_seconds=0.05) as world:
        client = await world.connect()
        await client.send(ATTACH)
        await serve_one(world, UPGRADED)
        await client.receive(len(UPGRADED))
        assert await client.receive_all() == b""
        assert world.limits_hit == ["tunnel_idle_seconds"]


# --- endings


async def test_a_half_close_is_passed_on_in_every_exchange() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        client.finish()
        engine = await world.accept()
        assert (await engine.receive_all()).startswith(b"GET ")
        await engine.send(OK)
        assert (await client.receive_all()).endswith(b"[]")


async def test_a_client_that_goes_away_closes_the_engines_connection() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        engine, _ = await serve_one(world, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.receive_until(HEAD_END)
        client.close()
        assert await engine.receive_all() == b""
        await until(lambda: world.exchanges)
        with pytest.raises(BrokenPipeError):
            while True:
                await engine.send(b"x")
        assert world.exchanges[0].stage is Stage.FAILED


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"],
)
async def test_an_engine_that_goes_away_in_a_body_leaves_no_proper_end(head: bytes) -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine, _ = await serve_one(world, head + b"ab")
        engine.close()
        assert await client.receive_all() == head + b"ab"
        assert world.exchanges[0].stage is Stage.FAILED


async def test_a_kept_connection_that_the_engine_closed_is_not_used() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine, _ = await serve_one(world)
        await read_answer(client)
        engine.close()
        await until(lambda: world.proxy.engine.idle_count == 0)
        await client.send(GET)
        await serve_one(world)
        assert (await read_answer(client))[0] == 200


async def test_a_stale_connection_is_retried_once_for_a_get() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine, _ = await serve_one(world)
        await read_answer(client)
        await client.send(GET)
        await until(lambda: world.busy_count == 1)
        engine.close()  # with the request unread: the kernel tells the proxy by a reset
        await serve_one(world)
        assert (await read_answer(client))[0] == 200


async def test_a_write_is_never_repeated() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine, _ = await serve_one(world)
        await read_answer(client)
        await client.send(b"POST /v1.41/containers/x/start HTTP/1.1\r\nHost: d\r\n\r\n")
        await until(lambda: world.busy_count == 1)
        engine.close()
        assert (await read_answer(client))[0] == 502
        assert not world.engine_was_called()


# --- limits and drain

TOO_MUCH = [
    ("head_bytes_max", 100, b"GET /%s HTTP/1.1\r\nHost: d\r\n\r\n" % (b"x" * 100), 431),
    ("fields_max", 2, b"GET / HTTP/1.1\r\nHost: d\r\nA: 1\r\nB: 2\r\n\r\n", 431),
    ("head_seconds", 0.05, b"GET / HTTP/1.1\r\n", 408),
]


@pytest.mark.parametrize(("limit", "value", "sent", "status"), TOO_MUCH, ids=[row[0] for row in TOO_MUCH])
async def test_over_a_limit_is_a_clear_answer(limit: str, value: float, sent: bytes, status: int) -> None:
    async with open_world(**{limit: value}) as world:
        client = await world.connect()
        await client.send(sent)
        assert (await read_answer(client))[0] == status
        assert world.limits_hit == [limit]
        assert not world.engine_was_called()


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    async with open_world(head_seconds=0.05) as world:
        client = await world.connect()
        assert await client.receive_all() == b""


async def test_a_body_that_stops_coming_ends_the_exchange() -> None:
    async with open_world(body_idle_seconds=0.05) as world:
        client = await world.connect()
        await client.send(b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\nx")
        engine = await world.accept()
        assert (await engine.receive_all()).endswith(b"x")
        assert (await read_answer(client))[0] == 408


async def test_draining_closes_idle_connections_and_finishes_the_others() -> None:
    async with open_world() as world:
        idle, busy = await world.connect(), await world.connect()
        await busy.send(GET)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        world.connections.drain()
        assert await idle.receive_all() == b""
        await engine.send(OK)
        assert b"[]" in await busy.receive_all()
