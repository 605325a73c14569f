"""The running program: it answers, drains on SIGTERM, reloads on SIGHUP, keeps its record and tells how it is.

Each test starts `sockproxy serve` as a process of its own, in front of a small engine that the test plays.
"""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sockproxy.forwarding.address import Address
from sockproxy.forwarding.limits import Limits
from sockproxy.operating import run
from sockproxy.operating.config import config_from_options, load_policy
from sockproxy.operating.greeting import greeting, metrics_url
from sockproxy.recording.trail import read_events, verify
from tests.certificates import Authority
from tests.exchanges import CATALOGUE
from tests.ports import free_port
from tests.streams import Peer
from tests.uncovered import uncovered_environment

HEAD_END = b"\r\n\r\n"
READ = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
VOLUMES = b"GET /v1.41/volumes HTTP/1.1\r\nHost: d\r\n\r\n"
HELD = b"GET /v1.41/containers/held/json HTTP/1.1\r\nHost: d\r\n\r\n"  # answered when the test says so
WRITE = b"POST /v1.41/containers/web/start HTTP/1.1\r\nHost: d\r\n\r\n"


class SmallEngine:
    """Answers everything with 200, or with the status that a query asks for; HELD when it is released."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.requests: list[str] = []
        self.release = asyncio.Event()
        self._held = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def is_asked(self) -> None:
        """Returns when HELD has come."""
        await self._held.wait()

    def stop(self) -> None:
        """Is away: nobody listens, and who was connected is not any more."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        Path(self.path).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line = (await reader.readuntil(HEAD_END)).decode().split("\r\n")[0].removesuffix(" HTTP/1.1")
                self.requests.append(line)
                if "held" in line:
                    self._held.set()
                    await self.release.wait()
                asked = re.search(r"[?&]status=([1-5][0-9][0-9])", line)
                status = asked[1] if asked else "200"
                writer.write(f"HTTP/1.1 {status} OK\r\nContent-Length: 2\r\n\r\n[]".encode())


class Program:
    """A running `sockproxy serve`."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.process = process
        self.socket = folder / "d.sock"
        self.events: list[dict[str, str]] = []
        self.admin = ""
        self._peers: list[Peer] = []

    async def event(self, name: str) -> dict[str, str]:
        """The next event of that name in the log."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(f"no {name} in {self.events}")

    async def started(self) -> "Program":
        self.admin = (await self.event("admin"))["address"].replace("tcp://", "http://")
        assert (await self.get("/healthz"))[0] == 200  # its loop turns: all handlers are in their places
        return self

    async def connect(self) -> Peer:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.socket))
        self._peers.append(Peer(sock))
        return self._peers[-1]

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        return await exchange(await self.connect(), request)

    async def get(self, path: str) -> tuple[int, str]:
        """From the admin listener."""
        async with aiohttp.ClientSession() as session, session.get(self.admin + path) as answer:
            return answer.status, await answer.text()

    async def streams(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((await self.get("/streams"))[1])
        return told

    async def post(self, path: str, headers: dict[str, str] | None = None) -> int:
        async with aiohttp.ClientSession() as session, session.post(self.admin + path, headers=headers) as answer:
            return answer.status

    async def metric(self, sample: str) -> float:
        _, text = await self.get("/metrics")
        found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        assert found, f"no {sample}"
        return float(found[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """The exit code; what was still logged is in `events`."""
        assert self.process.stderr is not None
        self.events += [json.loads(line) for line in (await self.process.stderr.read()).splitlines()]
        return await self.process.wait()

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


async def exchange(client: Peer, request: bytes) -> tuple[int, bytes]:
    """Status and body."""
    await client.send(request)
    head = await client.receive_until(HEAD_END)
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length, head
    return int(head.split()[1]), await client.receive(int(length[1]))


CONFIG = """\
version: 1
engine: unix://{folder}/engine.sock
admin: tcp://127.0.0.1:0
admin_token_file: token
listeners:
  - {{address: "unix://{folder}/d.sock", mode: "0660", policy: own}}
audit:
  - {{file: {audit}}}
policies:
  own:
    allow:
      - operations: [{allowed}]
"""


def write_config(folder: Path, *allowed: str, audit: str = "") -> None:
    text = CONFIG.format(folder=folder, audit=audit or folder / "audit.jsonl", allowed=", ".join(allowed))
    (folder / "sockproxy.yaml").write_text(text)


async def start(folder: Path, *options: str) -> Program:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sockproxy", "serve", *(options or ("--config", str(folder / "sockproxy.yaml")))),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    return Program(folder, process)


@asynccontextmanager
async def open_all(*options: str, audit: str = "") -> AsyncIterator[tuple[Program, SmallEngine]]:
    """A program and its engine; `{folder}` in the options is the folder of both."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_config(
            folder, "ContainerList", "ContainerInspect", "ContainerStart", "VolumeList", "SystemEvents", audit=audit
        )
        engine = SmallEngine(f"{folder}/engine.sock")
        await engine.start()
        program = await start(folder, *(option.format(folder=folder) for option in options))
        try:
            async with asyncio.timeout(20):
                yield await program.started(), engine
        finally:
            program.close()
            engine.stop()
            if program.process.returncode is None:
                program.process.kill()
                await program.process.wait()


# --- what is in memory

NOT_NEEDED = {
    "aiohttp.client",  # nor its TLS contexts, with all CAs of the machine
    "aiohttp.connector",
    "aiohttp.web_fileresponse",
    "aiokafka",
    "argparse",
    "bz2",
    "cryptography",
    "duckdb",
    "email.parser",
    "email.policy",
    "encodings.idna",
    "frozenlist._frozenlist",  # brings libstdc++ along
    "html.entities",
    "http.client",
    "http.server",
    "idna",
    "importlib.resources",  # brings zipfile along
    "lzma",
    "multiprocessing",
    "pickle",
    "prometheus_client.exposition",
    "pydantic",
    "rich",
    "shutil",
    "sockproxy.judging.comparison",
    "sockproxy.operating.apprentice",
    "sockproxy.operating.demo",
    "sockproxy.operating.kafka",
    "sockproxy.operating.admin.overview",
    "sockproxy.operating.shipping",
    "sockproxy.operating.admin.suggesting",
    "sockproxy.recording.checkpoint",
    "sockproxy.recording.sinks.datagram",
    "sockproxy.recording.sinks.otlp",
    "sockproxy.recording.terminals",
    "sockproxy.recording.trail",
    "tempfile",
    "urllib.request",
    "zipfile",
}
"""What a serving process does without, even after it has told its metrics. Memory is measured by the benchmark; this tells who
brought it back."""


async def test_what_serving_does_not_need_is_not_imported(tmp_path: Path) -> None:
    places = {"listen": "d.sock", "engine": "e.sock", "admin": "a.sock"}
    options = [word for name, file in places.items() for word in (f"--{name}", f"unix://{tmp_path}/{file}")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-m", "sockproxy", "serve", *options, "--audit", f"{tmp_path}/audit"),
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
        # Not with coverage, which imports much itself.
        env=uncovered_environment(),
    )
    assert process.stderr is not None
    told = await process.stderr.readuntil(b'"event":"admin"')
    connector = aiohttp.UnixConnector(f"{tmp_path}/a.sock")
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://admin/metrics") as answer:
        assert "sockproxy_build_info" in await answer.text()
    process.terminate()
    told += await process.stderr.read()
    assert await process.wait() == 0
    imported = {
        line.rpartition("|")[2].strip() for line in told.decode().splitlines() if line.startswith("import time:")
    }
    assert imported >= {"aiohttp.web", "sockproxy.operating.admin.application", "sockproxy.forwarding.serving.proxy"}
    assert imported & NOT_NEEDED == set()


# --- answering


async def test_it_answers_denies_and_records() -> None:
    async with open_all() as (program, engine):
        assert program.socket.stat().st_mode & 0o777 == 0o660
        assert await program.ask(READ) == (200, b"[]")
        status, body = await program.ask(b"POST /v1.41/containers/web/pause HTTP/1.1\r\nHost: d\r\n\r\n")
        assert (status, body) == (
            403,
            b'{"message":"sockproxy: ContainerPause denied by policy own: no rule allows it"}\n',
        )
        denial = await program.event("denied")
        assert (denial["operation"], denial["policy"], denial["level"]) == ("ContainerPause", "own", "warning")
        assert "GET /v1.41/containers/json" in engine.requests
        assert not any(request.startswith("POST") for request in engine.requests)
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        audit = str(program.folder / "audit.jsonl")
        assert verify([audit]).is_whole
        told = [(event["stage"], event["operation"], event["effect"]) for event in read_events([audit])]
        assert told == [
            (stage, operation, effect)
            for operation, effect in (("ContainerList", "allow"), ("ContainerPause", "deny"))
            for stage in ("decided", "completed")
        ]


async def test_a_tcp_listener_and_single_options() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--listen", f"tcp://127.0.0.1:{port}", "--engine", "unix://{folder}/engine.sock")
    policy = ("--policy", "allow-all", "--admin", "tcp://127.0.0.1:0", "--audit", "{folder}/audit.jsonl")
    async with open_all(*options, *policy) as (program, _):
        sock = socket.create_connection(("127.0.0.1", port))
        client = Peer(sock)
        assert await exchange(client, READ) == (200, b"[]")
        client.close()
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        [event, _] = read_events([str(program.folder / "audit.jsonl")])
        assert event["principal"]["kind"] == "tcp"  # type: ignore[index]
        assert event["principal"]["address"].startswith("127.0.0.1:")  # type: ignore[index]


# --- ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_finishes_what_is_under_way(number: signal.Signals) -> None:
    async with open_all() as (program, engine):
        idle, busy, known = await program.connect(), await program.connect(), await program.connect()
        assert await exchange(idle, READ) == (200, b"[]")
        for _ in range(3):  # this one is on the express way
            assert await exchange(known, READ) == (200, b"[]")
        await busy.send(HELD)
        await engine.is_asked()
        program.signal(number)
        assert await idle.receive_all() == b""
        assert await known.receive_all() == b""
        with pytest.raises(OSError):
            await program.connect()
        engine.release.set()
        assert (await busy.receive_all()).endswith(b"\r\n\r\n[]")
        assert await program.ended() == 0
        assert not program.socket.exists()
        assert [event["event"] for event in program.events][-2:] == ["draining", "stopped"]
        report = verify([str(program.folder / "audit.jsonl")])
        assert (report.is_whole, report.decided, report.completed, report.unfinished) == (True, 5, 5, 0)


async def test_a_successor_keeps_its_socket_when_the_one_before_it_ends() -> None:
    async with open_all() as (program, engine):
        busy = await program.connect()
        await busy.send(HELD)
        await engine.is_asked()
        program.signal(signal.SIGTERM)
        await program.event("draining")
        write_config(program.folder, "ContainerList", audit=f"{program.folder}/next.jsonl")
        successor = await (await start(program.folder)).started()
        engine.release.set()
        assert await program.ended() == 0
        try:
            assert await successor.ask(READ) == (200, b"[]")
        finally:
            successor.close()
            successor.signal(signal.SIGTERM)
            assert await successor.ended() == 0


async def failed(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and standard error of a program that cannot start."""
    program = await start(folder, *options)
    async with asyncio.timeout(20):
        assert program.process.stderr is not None
        said = (await program.process.stderr.read()).decode()
        return await program.process.wait(), said


async def test_a_second_one_leaves_the_first_in_its_place() -> None:
    async with open_all() as (program, _):
        write_config(program.folder, "ContainerList", audit=f"{program.folder}/next.jsonl")
        code, said = await failed(program.folder)
        assert code == 2
        assert "in use" in said
        assert "Traceback" not in said
        assert await program.ask(READ) == (200, b"[]")


async def test_an_admin_port_that_is_taken_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        admin = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        listen = ("--listen", f"unix://{tmp_path}/d.sock", "--engine", f"unix://{tmp_path}/engine.sock")
        code, said = await failed(tmp_path, *listen, "--admin", admin)
    assert code == 2
    assert "Traceback" not in said
    assert not (tmp_path / "d.sock").exists()


# --- reloading


async def test_a_reload_takes_the_policy_and_keeps_the_connections() -> None:
    async with open_all() as (program, _):
        client = await program.connect()
        for _ in range(3):  # known to the express way, too
            assert (await exchange(client, VOLUMES))[0] == 200
        write_config(program.folder, "ContainerList")
        program.signal(signal.SIGHUP)
        reloaded = await program.event("reloaded")
        assert "needs_restart" not in reloaded
        assert (await exchange(client, VOLUMES))[0] == 403
        assert (await exchange(client, READ))[0] == 200
        assert await program.metric("sockproxy_config_last_reload_successful") == 1


async def test_it_learns_what_it_would_have_denied() -> None:
    pause = b"POST /v1.41/containers/web/pause HTTP/1.1\r\nHost: d\r\n\r\n"
    options = ("--config", "{folder}/sockproxy.yaml", "--learn", "{folder}/learnt.yaml")
    async with open_all(*options) as (program, engine):
        learnt = program.folder / "learnt.yaml"
        assert [event["level"] for event in program.events if event["event"] == "learning"] == ["warning"]
        client = await program.connect()
        assert (await exchange(client, pause))[0] == 200
        for _ in range(3):  # what is known counts as well: nothing goes the express way
            assert (await exchange(client, READ))[0] == 200
        program.signal(signal.SIGHUP)
        await program.event("reloaded")
        assert operations_of(learnt) == {"ContainerPause", "ContainerList"}
        assert "3 times" in learnt.read_text()
        assert (await exchange(client, VOLUMES))[0] == 200
        assert (await exchange(client, pause))[0] == 200  # a reload does not end it
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        assert operations_of(learnt) == {"ContainerPause", "ContainerList", "VolumeList"}
        assert "POST /v1.41/containers/web/pause" in engine.requests
        [event] = [each for each in program.events if each["event"] == "learnt-written"][-1:]
        assert (event["file"], event["rules"]) == (str(learnt), 3)


async def test_who_learns_denies_nothing_not_even_to_who_is_no_client() -> None:
    options = ("--config", "{folder}/sockproxy.yaml", "--learn", "{folder}/learnt.yaml")
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nt=100"
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_clients(folder, OTHERS)
        engine = SmallEngine(f"{folder}/engine.sock")
        await engine.start()
        program = await start(folder, *(option.format(folder=folder) for option in options))
        async with asyncio.timeout(20):
            await program.started()
            assert (await program.ask(READ))[0] == 200
            assert (await program.ask(WRITE.replace(b"Host: d\r\n\r\n", b"Host: d\r\n" + form)))[0] == 200
            assert (await program.event("would-be-denied"))["reason"] == "none of this listener's clients"
            assert "a form as body" in (await program.event("would-be-denied"))["reason"]
            program.close()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0
            engine.stop()


async def test_it_goes_on_where_what_was_learnt_cannot_be_written() -> None:
    options = ("--config", "{folder}/sockproxy.yaml", "--learn")
    with tempfile.TemporaryDirectory(dir="/tmp") as other:
        target = Path(other) / "learnt"
        target.mkdir()
        async with open_all(*options, f"{target}/learnt.yaml") as (program, _):
            assert (await program.ask(READ))[0] == 200
            (target / "learnt.yaml").unlink()
            target.rmdir()
            program.signal(signal.SIGHUP)
            assert (await program.event("learnt-not-written"))["file"] == f"{target}/learnt.yaml"
            assert (await program.ask(READ))[0] == 200
            target.mkdir()
            program.signal(signal.SIGHUP)
            await program.event("learnt-written")
            assert operations_of(target / "learnt.yaml") == {"ContainerList"}


def operations_of(file: Path) -> set[str]:
    return {name for rule in load_policy(str(file), CATALOGUE).allow for name in rule.operations}


def write_clients(folder: Path, *clients: str) -> None:
    write_config(folder, "ContainerList", "VolumeList")
    text = (folder / "sockproxy.yaml").read_text()
    text = (
        text.replace("policy: own", f"clients: [{', '.join(clients)}]")
        + "  less: {allow: [{operations: [VolumeList]}]}\n"
    )
    (folder / "sockproxy.yaml").write_text(text)


US = f"{{match: {{uid: {os.getuid()}, exe: '*python*'}}, policy: own}}"
OTHERS = f"{{match: {{uid: {os.getuid() + 1}}}, policy: own}}"
LESS = f"{{match: {{gid: {os.getgid()}}}, policy: less}}"
OF_CLIENTS = [
    ((US, LESS), 200, 200),
    ((LESS, US), 403, 200),  # the first that matches counts
    ((OTHERS, "{policy: less}"), 403, 200),
    ((OTHERS,), 403, 403),
]


async def test_each_client_meets_its_policy_and_a_reload_leads_open_connections_anew() -> None:
    async with open_all() as (program, _):
        clients = [await program.connect(), await program.connect()]
        for client in clients:
            for _ in range(3):  # known to the express way, too
                assert (await exchange(client, READ))[0] == 200
        for rules, read, volumes in OF_CLIENTS:
            write_clients(program.folder, *rules)
            program.signal(signal.SIGHUP)
            await program.event("reloaded")
            for client in (*clients, await program.connect()):
                for _ in range(3):
                    assert (await exchange(client, READ))[0] == read
                    assert (await exchange(client, VOLUMES))[0] == volumes


async def test_who_is_no_client_is_told_and_recorded() -> None:
    async with open_all() as (program, engine):
        write_clients(program.folder, OTHERS)
        program.signal(signal.SIGHUP)
        await program.event("reloaded")
        client = await program.connect()
        for request, operation in (
            (READ, "ContainerList"),
            (b"GET /nothing HTTP/1.1\r\nHost: d\r\n\r\n", "unknown operation"),
        ):
            status, body = await exchange(client, request)  # and the connection stays
            told = f"sockproxy: {operation} denied by policy no-client: none of this listener's clients"
            assert (status, json.loads(body)["message"]) == (403, told)
        assert not any("containers" in line for line in engine.requests)
        sample = (
            'sockproxy_decisions_total{effect="deny",operation="ContainerList",policy="no-client",reason="no-client"}'
        )
        assert await program.metric(sample) == 1
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        events = [
            event for event in read_events([str(program.folder / "audit.jsonl")]) if event["stage"] == "completed"
        ]
        assert {(one["effect"], one["reason"], one["policy"], one["status"]) for one in events} == {
            ("deny", "none of this listener's clients", "no-client", 403)
        }


async def test_a_principal_may_ask_for_so_much_over_all_its_connections() -> None:
    async with open_all() as (program, _):
        write_clients(program.folder, "{policy: own, limits: {requests_per_second: 0.01, burst: 6}}")
        program.signal(signal.SIGHUP)
        await program.event("reloaded")
        clients = [await program.connect(), await program.connect()]
        told = [(await exchange(client, READ))[0] for _ in range(4) for client in clients]
        assert told == [200] * 6 + [429] * 2
        assert await program.metric('sockproxy_limits_hit_total{limit="requests_per_second"}') == 2
        assert await program.metric('sockproxy_limits_hit_total{limit="streams"}') == 0


async def test_certificates_are_taken_anew_and_bad_ones_keep_the_old() -> None:
    async with open_all() as (program, _):
        authority = Authority(program.folder / "ca")
        server, other = authority.sign("/CN=localhost", "DNS:localhost"), authority.sign("/CN=other")
        port = free_port()
        config = (program.folder / "sockproxy.yaml").read_text()
        tls = f"tls: {{cert: {server.cert}, key: {server.key}}}"
        listener = f"  - {{name: tls, address: 'tcp://localhost:{port}', policy: own, {tls}}}"
        config = (
            config.replace("audit:", f"{listener}\naudit:")
            .replace("d.sock", "e.sock")
            .replace("audit.jsonl", "b.jsonl")
        )
        (program.folder / "sockproxy.yaml").write_text(config)
        secured = await start(program.folder)
        try:
            await secured.started()
            context = ssl.create_default_context(cafile=authority.cert)
            sample = 'sockproxy_tls_certificate_not_after_seconds{listener="tls"}'
            assert await secured.metric(sample) == pytest.approx(time.time() + 2 * 86400, abs=60)
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
            writer.write(READ)
            assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 200 ")
            good = Path(server.key).read_bytes()
            Path(server.key).write_bytes(Path(other.key).read_bytes())
            secured.signal(signal.SIGHUP)
            assert "key values mismatch" in (await secured.event("reload-failed"))["reason"]
            await secured.event("reloaded")  # the policies are good
            assert await secured.metric("sockproxy_config_last_reload_successful") == 0
            _, second = await asyncio.open_connection("localhost", port, ssl=context)
            Path(server.key).write_bytes(good)
            secured.signal(signal.SIGHUP)
            await secured.event("certificate-reloaded")
            assert await secured.metric("sockproxy_config_last_reload_successful") == 1
            for each in (writer, second):
                each.close()
        finally:
            secured.process.kill()
            await secured.process.wait()


async def test_certificates_that_cannot_be_used_are_told_at_start(tmp_path: Path) -> None:
    config = "version: 1\nlisteners: [{address: 'tcp://localhost:1', policy: readonly, tls: {cert: a, key: b}}]\n"
    (tmp_path / "sockproxy.yaml").write_text(config)
    program = await start(tmp_path)
    _, said = await program.process.communicate()
    assert f"cannot use the certificate {tmp_path}/a with the key {tmp_path}/b: No such file" in said.decode()
    assert program.process.returncode == 2


async def test_a_bad_file_keeps_the_old_policy_until_it_is_mended() -> None:
    async with open_all() as (program, _):
        client = await program.connect()
        before = await program.metric("sockproxy_config_last_reload_success_timestamp_seconds")
        for broken in ("", "version: 1\n", (program.folder / "sockproxy.yaml").read_text() + "surprise: 1\n"):
            (program.folder / "sockproxy.yaml").write_text(broken)
            program.signal(signal.SIGHUP)
            assert "sockproxy.yaml" in (await program.event("reload-failed"))["reason"]
            assert (await exchange(client, VOLUMES))[0] == 200
            assert await program.metric("sockproxy_config_last_reload_successful") == 0
        assert await program.metric("sockproxy_config_last_reload_success_timestamp_seconds") == before
        write_config(program.folder, "ContainerList")
        program.signal(signal.SIGHUP)
        await program.event("reloaded")
        assert (await exchange(client, VOLUMES))[0] == 403
        assert await program.metric("sockproxy_config_last_reload_successful") == 1
        assert await program.metric("sockproxy_config_last_reload_success_timestamp_seconds") > before


# --- what is open

STREAM = b"GET /v1.41/events?held=1 HTTP/1.1\r\nHost: d\r\n\r\n"
TOKEN = "0123456789abcdef"


async def open_stream_of(program: Program, engine: SmallEngine) -> tuple[Peer, dict[str, Any]]:
    client = await program.connect()
    await client.send(STREAM)
    await engine.is_asked()
    return client, (await program.streams())["streams"][0]


def with_token(program: Program) -> dict[str, str]:
    (program.folder / "token").write_text(f"{TOKEN}\n")
    return {"Authorization": f"Bearer {TOKEN}"}


async def test_a_reload_names_the_streams_that_go_on_by_what_held_before() -> None:
    async with open_all() as (program, engine):
        client, stream = await open_stream_of(program, engine)
        assert (stream["operation"], stream["is_old"]) == ("SystemEvents", False)
        write_config(program.folder, "ContainerList")
        program.signal(signal.SIGHUP)
        named = await program.event("old-stream")
        assert (named["exchange"], named["policy_revision"]) == (stream["id"], stream["policy_revision"])
        assert (await program.event("reloaded"))["old_streams"] == 1
        assert [one["is_old"] for one in (await program.streams())["streams"]] == [True]
        engine.release.set()
        assert (await client.receive_until(b"[]")).endswith(b"[]")


async def test_an_administrator_ends_a_stream_and_the_record_says_so() -> None:
    async with open_all() as (program, engine):
        client, stream = await open_stream_of(program, engine)
        path = f"/streams/{stream['id']}/end"
        assert await program.post(path) == 403  # there is no file yet
        token = with_token(program)
        assert await program.post(path) == 401
        assert await program.post(path, token) == 200
        assert await client.receive_all() == b""
        assert await program.post(path, with_token(program)) == 404
        assert (await program.event("stream-ended"))["exchange"] == stream["id"]
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        events = [
            event for event in map(json.loads, (program.folder / "audit.jsonl").open()) if event["id"] == stream["id"]
        ]
        assert [event["reason"] for event in events] == ["a rule allows it", "ended by an administrator"]


# --- its files change

OTHER = """version: 1
policies:
  other:
    allow:
      - {operations: [VolumeList, ContainerList]}
    deny:
      - {operations: [VolumeList]}
"""


async def test_a_policy_is_taken_anew_when_its_file_is_replaced() -> None:
    async with open_all() as (program, _):
        client = await program.connect()
        assert (await exchange(client, VOLUMES))[0] == 200
        file = program.folder / "sockproxy.yaml"
        draft = program.folder / "draft"
        draft.write_text(file.read_text().replace(", VolumeList", ""))
        draft.rename(file)
        assert (await program.event("reloaded"))["changed"] == str(file)
        assert (await exchange(client, VOLUMES))[0] == 403


async def test_the_files_that_it_names_are_watched_too_and_a_bad_one_is_told_once_and_tried_again() -> None:
    async with open_all() as (program, _):
        file, other = program.folder / "sockproxy.yaml", program.folder / "other.yaml"
        other.write_text("version: 1\npolicies: {other: {allow: [{operations: [VolumeList]}]}}\n")
        file.write_text(file.read_text().replace("policy: own", "policy: other.yaml"))
        await program.event("reloaded")
        assert (await program.ask(READ))[0] == 403
        other.write_text("version: 1\npolicies: {other: {allow: [{operations: [VolumeLost]}]}}\n")
        assert "VolumeLost" in (await program.event("reload-failed"))["reason"]
        assert (await program.ask(VOLUMES))[0] == 200
        assert await program.metric("sockproxy_config_last_reload_successful") == 0
        other.write_text("version: 1\npolicies: {other: {allow: [{operations: [ContainerList]}]}}\n")
        assert (await program.event("reloaded"))["changed"] == str(other)
        assert (await program.ask(READ))[0] == 200
        assert await program.metric("sockproxy_config_last_reload_successful") == 1
        assert [event["event"] for event in program.events].count("reload-failed") == 1


async def test_half_a_file_is_taken_only_when_somebody_says_so() -> None:
    """Half a policy may be a good one, which denies less."""
    async with open_all() as (program, _):
        file, other = program.folder / "sockproxy.yaml", program.folder / "other.yaml"
        other.write_text(OTHER)
        file.write_text(file.read_text().replace("policy: own", "policy: other.yaml"))
        await program.event("reloaded")
        assert (await program.ask(VOLUMES))[0] == 403
        other.write_text(OTHER.partition("\n    deny")[0])
        assert "ends within a line" in (await program.event("reload-failed"))["reason"]
        file.write_text(file.read_text() + "# another file changes\n")
        assert "other.yaml: ends within a line" in (await program.event("reload-failed"))["reason"]
        assert (await program.ask(VOLUMES))[0] == 403
        program.signal(signal.SIGHUP)
        await program.event("reloaded")
        assert (await program.ask(VOLUMES))[0] == 200


async def test_a_file_of_the_options_is_watched_too() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        policy = folder / "p.yaml"
        policy.write_text("version: 1\npolicies: {p: {allow: [{operations: [VolumeList]}]}}\n")
        options = ("--listen", f"unix://{folder}/d.sock", "--admin", "tcp://127.0.0.1:0", "--policy", str(policy))
        program = await start(folder, *options)
        async with asyncio.timeout(20):
            await program.started()
            policy.write_text("version: 1\npolicies: {p: {allow: [{operations: [ContainerList]}]}}\n")
            await program.event("reloaded")
            assert (await program.ask(VOLUMES))[0] == 403
            program.close()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0


async def test_without_a_watch_only_a_signal_takes_them_anew() -> None:
    async with open_all("--config", "{folder}/sockproxy.yaml", "--no-watch") as (program, _):
        threads = Path(f"/proc/{program.process.pid}/task")
        assert not any(path.read_text() == "watch\n" for path in threads.glob("*/comm"))
        write_config(program.folder, "ContainerList")
        program.signal(signal.SIGHUP)
        assert "changed" not in await program.event("reloaded")
        assert (await program.ask(VOLUMES))[0] == 403


async def test_a_reload_that_is_asked_for_too_early_does_no_harm() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_config(folder, "ContainerList")
        program = await start(folder)
        async with asyncio.timeout(20):
            await program.event("listening")  # from now on clients are served, and a log rotation may come
            program.signal(signal.SIGHUP)
            await program.started()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0


async def test_what_needs_a_restart_is_named() -> None:
    async with open_all() as (program, _):
        file = program.folder / "sockproxy.yaml"
        file.write_text(file.read_text().replace("engine.sock", "other.sock") + "limits: {fields_max: 5}\n")
        program.signal(signal.SIGHUP)
        assert (await program.event("reloaded"))["needs_restart"] == "engine,limits"
        assert await program.ask(READ) == (200, b"[]")


async def test_a_line_that_was_never_finished_is_cut_off_and_told_of() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_config(folder, "ContainerList")
        (folder / "audit.jsonl").write_bytes(b'{"api_version":"1.41","bo')
        program = await start(folder)
        async with asyncio.timeout(20):
            cut = await program.event("audit-line-cut")
            assert (cut["sink"], int(cut["bytes"])) == (f"{folder}/audit.jsonl", 25)
            await program.started()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0
        assert verify([f"{folder}/audit.jsonl"]).is_whole


async def test_the_audit_goes_on_in_a_new_file_after_a_rename() -> None:
    async with open_all() as (program, _):
        audit = program.folder / "audit.jsonl"
        await program.ask(WRITE)
        moved = audit.rename(program.folder / "audit.jsonl.1")
        await program.ask(WRITE)
        program.signal(signal.SIGHUP)
        await program.event("reloaded")
        await program.ask(WRITE)
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        report = verify([str(moved), str(audit)])
        assert (report.is_whole, report.trails, report.decided, report.completed) == (True, 1, 3, 3)
        assert len(list(read_events([str(audit)]))) == 2


# --- how it is


async def test_the_admin_listener_tells_how_it_is() -> None:
    async with open_all() as (program, engine):
        assert await program.get("/healthz") == (200, "ok\n")
        assert await program.get("/readyz") == (200, "ready\n")
        assert await program.metric("sockproxy_engine_up") == 1
        for _ in range(3):
            await program.ask(READ)
        listener = f"unix://{program.socket}"
        counted = f'listener="{listener}",method="GET",operation="ContainerList",policy="own"'
        _, text = await program.get("/metrics")
        samples = [line for line in text.splitlines() if line.startswith("sockproxy_requests_total{")]
        assert len(samples) == 1
        assert all(f"{label}" in samples[0] for label in counted.split(","))
        assert samples[0].endswith(" 3.0")
        engine.stop()
        assert (await program.get("/healthz"))[0] == 200
        status, text = await program.get("/readyz")
        assert status == 503
        assert f"{program.folder}/engine.sock" in text
        assert await program.metric("sockproxy_engine_up") == 0
        assert await program.metric("sockproxy_engine_reachable") == 0
        assert (await program.ask(READ))[0] == 502
        await engine.start()
        assert await program.get("/readyz") == (200, "ready\n")
        assert await program.ask(READ) == (200, b"[]")


async def test_the_admin_listener_tells_how_much_is_in_use() -> None:
    async with open_all() as (program, _):
        for _ in range(3):
            await program.ask(READ)  # on a connection that stays
        assert await program.metric("sockproxy_engine_reachable") == 1
        assert await program.metric("sockproxy_client_connections") == 3
        for limit in ("connections_max", "connections_per_principal_max"):
            share = await program.metric(f'sockproxy_limit_used_ratio{{limit="{limit}"}}')
            assert share == pytest.approx(3 / getattr(Limits(), limit))
        for limit in ("handshakes_max", "judged_bodies_bytes_max"):
            assert await program.metric(f'sockproxy_limit_used_ratio{{limit="{limit}"}}') == 0
        assert await program.metric('sockproxy_policy_operations{policy="own"}') == 5


async def test_while_it_drains_it_is_not_ready_and_still_well() -> None:
    async with open_all() as (program, engine):
        busy = await program.connect()
        await busy.send(HELD)
        await engine.is_asked()
        program.signal(signal.SIGTERM)
        await program.event("draining")
        assert await program.get("/readyz") == (503, "draining\n")
        assert await program.get("/healthz") == (200, "ok\n")
        engine.release.set()
        assert await program.ended() == 0


async def test_a_sink_that_takes_nothing_stops_writes_and_lets_reads_pass() -> None:
    async with open_all(audit="/dev/full") as (program, engine):
        status, body = await program.ask(WRITE)
        assert status == 503
        assert b"the audit sink /dev/full does not take records" in body
        assert not any(request.startswith("POST") for request in engine.requests)
        for _ in range(4):
            assert await program.ask(READ) == (200, b"[]")
        assert await program.metric("sockproxy_audit_rejected_requests_total") == 1
        assert await program.metric('sockproxy_audit_events_total{result="failed",sink="/dev/full"}') > 0
        assert await program.metric('sockproxy_audit_events_total{result="written",sink="/dev/full"}') == 0


# --- what people see first


async def test_an_engine_that_answers_is_found(tmp_path: Path) -> None:
    engine = SmallEngine(f"{tmp_path}/engine.sock")
    await engine.start()
    assert await asyncio.to_thread(run.answers, f"unix://{engine.path}")
    engine.stop()
    assert not await asyncio.to_thread(run.answers, f"unix://{engine.path}")


@pytest.mark.parametrize("engine", ["unix:///nowhere/d.sock", "tcp://127.0.0.1:1", "ssh://host", ""])
def test_what_is_no_engine_does_not_answer(engine: str) -> None:
    assert not run.answers(engine)


def test_the_greeting_says_where_it_is_and_what_to_try() -> None:
    config = config_from_options(
        CATALOGUE,
        listen="unix:///run/sockproxy/docker.sock",
        engine="unix:///var/run/docker.sock",
        policy="kubernetes-1.4",
        admin="tcp://127.0.0.1:9323",
        audit="/var/log/audit.jsonl",
    )
    text = greeting(config, metrics_url(config.admin), api_version="1.41", command=".venv/bin/sockproxy")
    for expected in (
        "unix:///run/sockproxy/docker.sock",
        "unix:///var/run/docker.sock",
        "http://127.0.0.1:9323/metrics",
        "/var/log/audit.jsonl",
        "DOCKER_API_VERSION=1.41 docker -H unix:///run/sockproxy/docker.sock ps",
        ".venv/bin/sockproxy explain --policy kubernetes-1.4 POST /v1.41/containers/web/pause",
    ):
        assert expected in text
    assert len(re.findall(r"^  (?:allowed|denied|why) ", text, re.MULTILINE)) == 3


@pytest.mark.parametrize(
    ("admin", "url"),
    [
        (None, "none (no admin listener)"),
        (Address("tcp", host="::1", port=9323), "http://[::1]:9323/metrics"),
        (Address("unix", path="/run/admin.sock"), "unix:///run/admin.sock/metrics"),
    ],
)
def test_where_the_metrics_are(admin: Address | None, url: str) -> None:
    assert metrics_url(admin) == url
