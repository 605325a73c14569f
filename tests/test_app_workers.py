"""`sockproxy serve --workers N` as a whole: one admin listener, one end, and nobody left behind."""

import asyncio
import json
import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from sockproxy.recording.trail import verify
from tests.ports import free_port
from tests.streams import until
from tests.test_app import HELD, READ, STREAM, Program, failed, open_all, start, with_token, write_config

RAW_STREAM = b"Content-Type: application/vnd.docker.raw-stream"
WORKERS = ("--config", "{folder}/sockproxy.yaml", "--workers", "2")


def children(program: Program) -> list[int]:
    """The workers."""
    pid = program.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").is_symlink() and os.path.exists(f"/proc/{pid}/exe")


async def test_their_metrics_are_one_and_their_trails_are_whole() -> None:
    async with open_all(*WORKERS) as (program, _):
        for _ in range(20):
            assert await program.ask(READ) == (200, b"[]")
        sample = (
            'sockproxy_decisions_total{effect="allow",operation="ContainerList",policy="own",reason="allowed-by-rule"}'
        )
        assert await program.metric(sample) == 20
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        assert not program.socket.exists()
        trails = [path for path in program.folder.glob("audit.jsonl*") if path.stat().st_size]
        reports = [verify([str(path)]) for path in trails]
        assert all(report.is_whole for report in reports)
        assert sum(report.decided for report in reports) == 20


HOSTILE = (  # what somebody may send who wants more series; {} is another word each time
    "GET /v1.41/containers/{}/json HTTP/1.1\r\nHost: d\r\nUser-Agent: {}\r\n\r\n",
    "GET /v1.41/containers/json?status=404&{}={} HTTP/1.1\r\nHost: {}\r\n\r\n",
    "GET /v1.41/containers/json?status=599 HTTP/1.1\r\nHost: d\r\n{}: {}\r\n\r\n",
    "GET /v1.{}/containers/json HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /{} HTTP/1.1\r\nHost: d\r\n\r\n",
    "BREW-{} /containers/json HTTP/1.1\r\nHost: d\r\n\r\n",
    "DELETE /v1.41/containers/%22{}%0A HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /{} HTTP/1.1\r\n\r\n",
    "{}\r\n\r\n",
)


async def test_what_clients_send_makes_no_series() -> None:
    async with open_all(*WORKERS) as (program, _):
        seen = []
        for words in (range(1000, 1025), range(2000, 2050)):
            for word in words:
                for text in HOSTILE:
                    await program.ask(text.replace("{}", str(word)).encode())
            _, told = await program.get("/metrics")
            seen.append({line.rpartition(" ")[0] for line in told.splitlines() if not line.startswith("#")})
        assert seen[0] == seen[1]
        assert len([sample for sample in seen[1] if sample.startswith("sockproxy_requests_total")]) < 12
        assert len(seen[1]) < 400


async def test_who_connects_while_they_drain_is_turned_away_at_once() -> None:
    async with open_all(*WORKERS) as (program, engine):
        busy = await program.connect()
        await busy.send(HELD)
        await engine.is_asked()
        program.signal(signal.SIGTERM)
        await program.event("draining")
        await program.event("draining")
        try:
            late = await program.connect()
            assert await late.receive_all() == b""
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # nobody listens any more
        except ConnectionResetError:
            pass  # the socket was closed while it waited to be accepted
        engine.release.set()
        assert (await busy.receive_until(b"[]")).endswith(b"[]")
        assert await program.ended() == 0


async def test_they_do_not_outlive_their_parent() -> None:
    async with open_all(*WORKERS) as (program, _):
        workers = children(program)
        assert len(workers) == 2
        program.process.kill()
        await program.process.wait()
        await until(lambda: not any(map(is_there, workers)))


async def test_a_worker_that_dies_ends_the_service() -> None:
    async with open_all(*WORKERS) as (program, _):
        os.kill(children(program)[0], signal.SIGKILL)
        assert await program.ended() == 1
        assert "worker-ended" in [event["event"] for event in program.events]


async def test_a_reload_reaches_all_and_comes_never_too_early() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_config(folder, "ContainerList")
        program = await start(folder, *(option.format(folder=folder) for option in WORKERS))
        async with asyncio.timeout(20):
            await program.event("listening")
            program.signal(signal.SIGHUP)
            await program.started()
            write_config(folder, "VolumeList")
            program.signal(signal.SIGHUP)
            await program.event("reloaded")
            await program.event("reloaded")
            assert (await program.ask(READ))[0] == 403
            program.close()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0


async def test_each_of_them_takes_a_file_that_has_changed() -> None:
    async with open_all(*WORKERS) as (program, _):
        write_config(program.folder, "VolumeList")
        assert (await program.event("reloaded"))["changed"] == str(program.folder / "sockproxy.yaml")
        await program.event("reloaded")
        for _ in range(10):
            assert (await program.ask(READ))[0] == 403


async def test_the_streams_of_all_are_told_and_ended_at_one_place() -> None:
    async with open_all(*WORKERS) as (program, engine):
        clients = []
        while len({one["id"].partition("-")[0] for one in (await program.streams())["streams"]}) < 2:
            client = await program.connect()  # until each of them has one
            await client.send(STREAM)
            await engine.is_asked()
            clients.append(client)
        while (told := await program.streams())["count"] < len(clients):
            pass
        assert told["count"] == len(told["streams"]) == len(clients)
        for stream in told["streams"]:
            assert await program.post(f"/streams/{stream['id']}/end", with_token(program)) == 200
        for client in clients:
            assert await client.receive_all() == b""
        assert (await program.streams())["count"] == 0


async def test_what_a_worker_cannot_do_is_said(tmp_path: Path) -> None:
    write_config(tmp_path, "ContainerList", audit="/nowhere/audit.jsonl")
    code, said = await failed(tmp_path, *(option.format(folder=tmp_path) for option in WORKERS))
    assert code == 1
    assert "there is no folder /nowhere for it" in said


RECORDING = """
version: 1
engine: unix://{folder}/engine.sock
listeners: [{{address: "unix://{folder}/d.sock", policy: recorded}}]
admin: tcp://127.0.0.1:{port}
recordings: {{directory: {folder}/sessions}}
policies:
  recorded:
    allow:
      - {{operations: [ContainerAttach], record: true}}
      - operations: [ContainerResize]
"""


async def play_terminal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine of one container, whose terminal says nothing."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            is_attach = b"/attach" in head
            writer.write(b"HTTP/1.1 200 OK\r\n" + (RAW_STREAM if is_attach else b"Content-Length: 0") + b"\r\n\r\n")


async def test_a_session_is_told_of_new_sizes_by_whichever_of_them_they_came_to() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        server = await asyncio.start_unix_server(play_terminal, f"{folder}/engine.sock")
        (folder / "sockproxy.yaml").write_text(RECORDING.format(folder=folder, port=free_port()))
        program = await start(folder, *(option.format(folder=folder) for option in WORKERS))
        async with asyncio.timeout(20):
            await program.started()
            session = await program.connect()
            await session.send(b"POST /v1.41/containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
            await session.receive_until(b"\r\n\r\n")
            for width in range(100, 120):  # each by a connection of its own, and so to either of them
                resize = f"POST /v1.41/containers/web/resize?h=50&w={width} HTTP/1.1\r\nHost: d\r\n\r\n"
                assert (await program.ask(resize.encode()))[0] == 200
            (cast,) = (folder / "sessions").iterdir()
            await until(lambda: len(cast.read_text().splitlines()) > 20)
            sizes = [json.loads(line)[2] for line in cast.read_text().splitlines()[1:]]
            assert sorted(sizes) == [f"{width}x50" for width in range(100, 120)]
            program.close()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0
        server.close()
