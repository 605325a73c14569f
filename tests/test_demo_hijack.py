"""Connections that the demo engine gives to a program, told as dialogues. What is expected is what dockerd 20.10 did."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sockproxy.operating.demo.api import hijack
from tests.demo import UPGRADE, Bench, ask, attach, connect, create, demo_engine, frame, request, start_exec

ENGINE_FIELDS = ["Api-Version: 1.41", "Docker-Experimental: false", "Ostype: linux", "Server: Docker/20.10.24 (linux)"]
RAW = "Content-Type: application/vnd.docker.raw-stream"
UPGRADED = ["HTTP/1.1 101 UPGRADED", RAW, "Connection: Upgrade", "Upgrade: tcp"]
PING = request("GET", "/_ping")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with demo_engine(tmp_path) as bench:
        yield bench


HEADS = (  # (fields of the request, head of an attach)
    (UPGRADE, UPGRADED),
    ("Upgrade: \r\n", UPGRADED),
    ("Upgrade: anything\r\n", UPGRADED),
    ("", ["HTTP/1.1 200 OK", RAW]),
)


@pytest.mark.parametrize(("fields", "head"), HEADS)
async def test_attach_heads(bench: Bench, fields: str, head: list[str]) -> None:
    client = await connect(bench)
    await client.say(request("POST", "/containers/console/attach?stream=1&stdout=1", fields=fields))
    assert await client.hear_head() == head


@pytest.mark.parametrize(("fields", "head"), [(UPGRADE, UPGRADED), ("", ["HTTP/1.1 200 OK", RAW])])
async def test_exec_start_heads(bench: Bench, fields: str, head: list[str]) -> None:
    created = await ask(bench, "POST", "/containers/web/exec", {"Cmd": ["echo", "hi"], "AttachStdout": True})
    client = await connect(bench)
    await client.say(request("POST", f"/exec/{created.document['Id']}/start", {}, fields))
    assert await client.hear_head() == head + ENGINE_FIELDS
    assert await client.hear_end() == frame(1, b"hi\n")


async def test_attach_before_the_start_and_half_close(bench: Bench) -> None:
    script = "cat; echo done; echo err >&2; exit 4"
    await create(bench, "job", "sh", "-c", script, is_started=False, OpenStdin=True, StdinOnce=True)
    client = await attach(bench, "job")
    await ask(bench, "POST", "/containers/job/start")
    await client.say("abc\n")
    await client.hear(frame(1, b"abc\n"))
    client.finish()
    assert await client.hear_end() == frame(1, b"done\n") + frame(2, b"err\n")
    assert (await ask(bench, "POST", "/containers/job/wait")).document["StatusCode"] == 4


async def test_exec_with_half_close(bench: Bench) -> None:
    id, client = await start_exec(bench, "web", "sh", "-c", "cat; echo done; exit 4")
    await client.say("abc\n")
    await client.hear(frame(1, b"abc\n"))
    client.finish()
    assert await client.hear_end() == frame(1, b"done\n")
    found = (await ask(bench, "GET", f"/exec/{id}/json")).document
    assert (found["Running"], found["ExitCode"]) == (False, 4)
    process = {"tty": False, "entrypoint": "sh", "arguments": ["-c", "cat; echo done; exit 4"], "privileged": False}
    assert found["ProcessConfig"] == process


async def test_end_of_stdin_ends_an_attach_whose_program_keeps_its_stdin(bench: Bench) -> None:
    await create(bench, "job", "cat", OpenStdin=True)
    client = await attach(bench, "job")
    await client.say("abc\n")
    await client.hear(frame(1, b"abc\n"))
    client.finish()
    assert await client.hear_end() == b""
    again = await attach(bench, "job")
    await again.say("x\n")
    await again.hear(frame(1, b"x\n"))


async def test_end_of_sending_does_not_end_an_attach_without_stdin(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "read x; echo late", is_started=False, OpenStdin=True, StdinOnce=True)
    watching = await attach(bench, "job", "stdout=1")
    watching.finish()
    await ask(bench, "POST", "/containers/job/start")
    client = await attach(bench, "job", "stdin=1")
    await client.say("\n")
    assert await watching.hear_end() == frame(1, b"late\n")


async def test_only_the_streams_that_were_asked_for(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "echo out; echo err >&2", is_started=False)
    clients = [await attach(bench, "job", streams) for streams in ("stdout=1", "stderr=1", "stdout=1&stderr=1")]
    await ask(bench, "POST", "/containers/job/start")
    out, err = frame(1, b"out\n"), frame(2, b"err\n")
    assert [await client.hear_end() for client in clients] == [out, err, out + err]


async def test_attach_replays_the_log_first(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "echo before; read x; echo after", OpenStdin=True)
    async with asyncio.timeout(5):
        while not (await ask(bench, "GET", "/containers/job/logs?stdout=1")).body:
            await asyncio.sleep(0)
    client = await attach(bench, "job", "stdin=1&stdout=1&logs=1")
    await client.hear(frame(1, b"before\n"))
    await client.say("\n")
    assert await client.hear_end() == frame(1, b"after\n")
    past = await connect(bench)
    await past.say(request("POST", "/containers/job/attach?logs=1&stdout=1"))
    await past.hear_head()
    assert await past.hear_end() == frame(1, b"before\n") + frame(1, b"after\n")


ATTACH_REFUSED = (
    ("nope", "HTTP/1.1 404 Not Found", b"No such container: nope\r\n"),
    ("paused", "HTTP/1.1 409 Conflict", b"container paused is paused, unpause the container before attach\r\n"),
)


@pytest.mark.parametrize(("name", "status", "text"), ATTACH_REFUSED)
async def test_an_attach_is_refused_without_a_length(bench: Bench, name: str, status: str, text: bytes) -> None:
    await create(bench, "paused", "sleep", "100")
    await ask(bench, "POST", "/containers/paused/pause")
    client = await connect(bench)
    await client.say(request("POST", f"/containers/{name}/attach?stream=1", fields=UPGRADE))
    assert await client.hear_head() == [status, RAW]
    assert await client.hear_end() == text


async def test_a_detached_exec_is_an_ordinary_answer_whatever_the_upgrade(bench: Bench) -> None:
    created = await ask(bench, "POST", "/containers/web/exec", {"Cmd": ["sleep", "100"]})
    client = await connect(bench)
    await client.say(request("POST", f"/exec/{created.document['Id']}/start", {"Detach": True}, UPGRADE))
    answer = await client.hear_answer()
    assert (answer.status, answer.headers["Content-Length"]) == (200, "0")
    await client.say(PING)
    assert (await client.hear_answer()).body == b"OK"
    assert (await ask(bench, "GET", f"/exec/{created.document['Id']}/json")).document["Running"]


async def test_why_an_exec_does_not_start_stands_in_the_stream(bench: Bench) -> None:
    id, client = await start_exec(bench, "web", "nope")
    text = b'unable to start container process: exec: "nope": executable file not found in $PATH: unknown\r\n'
    assert await client.hear_end() == frame(1, b"OCI runtime exec failed: exec failed: " + text)
    assert (await ask(bench, "GET", f"/exec/{id}/json")).document["ExitCode"] == 126
    again = await connect(bench)
    await again.say(request("POST", f"/exec/{id}/start", {}, UPGRADE))
    await again.hear_head()
    assert await again.hear_end() == frame(1, f"Error: Exec command {id} has already run\r\n".encode())
    detached = await ask(bench, "POST", f"/exec/{id}/start", {"Detach": True})
    assert (detached.status, detached.document["message"]) == (409, f"Error: Exec command {id} has already run")


async def test_execs_do_not_outlive_the_program_of_their_container(bench: Bench) -> None:
    await create(bench, "job", "sleep", "100")
    id, client = await start_exec(bench, "job", "sleep", "100")
    await ask(bench, "POST", "/containers/job/kill")
    assert await client.hear_end() == b""
    assert (await ask(bench, "GET", f"/exec/{id}/json")).status == 404


@pytest.mark.parametrize("head", ["attach", "exec"])
async def test_bytes_that_come_before_the_answer_are_lost(bench: Bench, head: str) -> None:
    await create(bench, "job", "cat", OpenStdin=True, StdinOnce=True)
    created = await ask(
        bench, "POST", "/containers/job/exec", {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
    )
    requests = {
        "attach": request("POST", "/containers/job/attach?stream=1&stdin=1&stdout=1", fields=UPGRADE),
        "exec": request("POST", f"/exec/{created.document['Id']}/start", {}, UPGRADE),
    }
    client = await connect(bench)
    await client.say(requests[head] + b"early\n")
    await client.hear_head()
    await client.say("abc\n")
    client.finish()
    assert await client.hear_end() == frame(1, b"abc\n")


async def test_a_client_that_goes_away_leaves_the_program_running(bench: Bench) -> None:
    id, client = await start_exec(bench, "web", "sh", "-c", "read x; sleep 100")
    client.writer.transport.abort()
    assert (await ask(bench, "GET", f"/exec/{id}/json")).document["Running"]


async def test_a_slow_reader_holds_the_program_back_and_loses_nothing(bench: Bench) -> None:
    _, client = await start_exec(bench, "web", "head", "-c", "20M", "/dev/zero")
    received = 0
    while head := await client.reader.read(8):
        received += len(await client.reader.readexactly(int.from_bytes(head[4:], "big")))
    assert received == 20 << 20


async def test_much_in_both_directions_at_once(bench: Bench) -> None:
    _, client = await start_exec(bench, "web", "cat")
    sent = bytes(range(256)) * 8192

    async def send() -> None:
        await client.say(*(sent[at : at + 10_000] for at in range(0, len(sent), 10_000)))
        client.finish()

    sending = asyncio.create_task(send())
    received = b""
    while head := await client.reader.read(8):
        received += await client.reader.readexactly(int.from_bytes(head[4:], "big"))
    await sending
    assert received == sent


# --- ordinary exchanges with half-close


async def test_requests_are_answered_after_the_client_has_finished(bench: Bench) -> None:
    client = await connect(bench)
    await client.say(PING * 3)
    client.finish()
    for _ in range(3):
        assert (await client.hear_answer()).body == b"OK"
    assert await client.hear_end() == b""


async def test_an_idle_connection_ends_with_its_client(bench: Bench) -> None:
    client = await connect(bench)
    client.finish()
    assert await client.hear_end() == b""


INCOMPLETE = (
    b"GET /_pi",
    b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{}",
    b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    PING + b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{}",
)


@pytest.mark.parametrize("raw", INCOMPLETE)
async def test_what_never_comes_to_its_end_is_given_up(bench: Bench, raw: bytes) -> None:
    client = await connect(bench)
    await client.say(raw)
    client.finish()
    assert b"201 Created" not in await client.hear_end()


CANCELLED = b'{"Error":{"Message":"context canceled"},"StatusCode":-1}\n'
STREAMS = (
    ("GET", "/events", b""),
    ("GET", "/containers/db/logs?stdout=1&follow=1&tail=0", b""),
    ("POST", "/containers/web/wait", CANCELLED),
    ("POST", "/v1.29/containers/web/wait", CANCELLED),
)


@pytest.mark.parametrize(("method", "target", "body"), STREAMS)
async def test_a_stream_ends_when_its_client_stops_sending(bench: Bench, method: str, target: str, body: bytes) -> None:
    client = await connect(bench)
    await client.say(request(method, target))
    client.finish()
    assert (await client.hear_answer()).body == body
    assert await client.hear_end() == b""


async def test_what_cannot_be_read_is_answered_400(bench: Bench) -> None:
    client = await connect(bench)
    await client.say("GET /_ping HTTP/1.1\r\nHost : d\r\n\r\n")
    answer = await client.hear_end()
    assert b" 400 Bad Request\r\n" in answer
    assert answer.endswith(b"400 Bad Request")


# --- terminals


async def test_a_terminal_is_resized_while_a_client_is_attached(bench: Bench) -> None:
    await create(bench, "job", "sh", Tty=True, OpenStdin=True)
    client = await attach(bench, "job")
    await client.say("watch-size\r")
    await client.hear_until(b"0 0\r\n")
    assert (await ask(bench, "POST", "/containers/job/resize?h=40&w=132")).status == 200
    await client.hear(b"40 132\r\n")
    await client.say(b"\x03")
    await client.hear(b"^C\r\n/ # ")
    await client.say(b"stty size\r")
    await client.hear(b"stty size\r\n40 132\r\n/ # ")


async def test_an_exec_is_resized_when_it_has_started(bench: Bench) -> None:
    config = {"Cmd": ["sh"], "Tty": True, "AttachStdin": True, "AttachStdout": True}
    created = await ask(bench, "POST", "/containers/web/exec", config)
    early = await ask(bench, "POST", f"/exec/{created.document['Id']}/resize?h=1&w=2")
    assert (early.status, early.document["message"]) == (500, "timeout waiting for exec session ready")
    client = await connect(bench)
    await client.say(request("POST", f"/exec/{created.document['Id']}/start", {"Tty": True}, UPGRADE))
    await client.hear_until(b"/ # ")
    assert (await ask(bench, "POST", f"/exec/{created.document['Id']}/resize?h=1&w=2")).status == 200
    await client.say("stty size; exit\r")
    assert b"1 2\r\n" in await client.hear_end()
    late = await ask(bench, "POST", f"/exec/{created.document['Id']}/resize?h=1&w=2")
    assert (late.status, late.document["message"]) == (404, "no such exec")


async def test_a_resize_without_a_terminal_is_taken_and_does_nothing(bench: Bench) -> None:
    assert (await ask(bench, "POST", "/containers/web/resize?h=40&w=132")).status == 200
    _, client = await start_exec(bench, "web", "stty", "size")
    assert await client.hear_end() == frame(2, b"stty: standard input: Inappropriate ioctl for device\n")


async def test_detach_keys_end_the_attach_and_not_the_program(bench: Bench) -> None:
    client = await attach(bench, "console")
    await client.say("ab\x10")
    await client.say("\x11cd\r")
    assert b"cd" not in await client.hear_end()
    assert (await ask(bench, "GET", "/containers/console/json")).document["State"]["Running"]


DETACH = (  # (typed, keys) -> (to the process, held back, has detached)
    (b"abc", b"\x10\x11", (b"abc", b"", False)),
    (b"abc\x10", b"\x10\x11", (b"abc", b"\x10", False)),
    (b"a\x10\x11b", b"\x10\x11", (b"a", b"", True)),
    (b"\x10\x10\x11", b"\x10\x11", (b"\x10", b"", True)),
    (b"ax", b"x", (b"a", b"", True)),
)


@pytest.mark.parametrize(("typed", "keys", "expected"), DETACH)
def test_detach_keys_are_found(typed: bytes, keys: bytes, expected: tuple[bytes, bytes, bool]) -> None:
    assert hijack.split_detach_keys(typed, keys) == expected


def test_detach_keys_are_read() -> None:
    assert hijack.parse_detach_keys("") == b"\x10\x11"
    assert hijack.parse_detach_keys("ctrl-a,x") == b"\x01x"
    with pytest.raises(ValueError, match="Invalid detach keys"):
        hijack.parse_detach_keys("foo")


@pytest.mark.parametrize("has_terminal", [True, False])
async def test_attach_over_a_websocket(bench: Bench, has_terminal: bool) -> None:
    await create(bench, "job", "cat", OpenStdin=True, StdinOnce=True, Tty=has_terminal)
    connector = aiohttp.UnixConnector(bench.socket_path)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect("http://d/containers/job/attach/ws?stream=1&stdin=1&stdout=1") as socket,
    ):
        await socket.send_bytes(b"abc\r" if has_terminal else b"abc\n")
        heard, expected = b"", b"abc\r\nabc\r\n" if has_terminal else b"abc\n"
        while heard != expected:
            heard += await socket.receive_bytes(timeout=5)
    assert (await ask(bench, "GET", "/containers/job/attach/ws")).status == 400


async def test_documents_longer_than_the_buffer_come_in_chunks(bench: Bench) -> None:
    client = await connect(bench)
    await client.say(request("GET", "/containers/web/json"), PING)
    answer = await client.hear_answer()
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert json.loads(answer.body)["Name"] == "/web"
    assert (await client.hear_answer()).headers["Content-Length"] == "2"
