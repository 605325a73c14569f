"""A proxy with two workers that is asked all the time for everything that its metrics tell of.

Owns the engine (the demo's), the proxy's configuration, and the load: reads, writes, streams and terminals, denials, what
would be denied, what is above a limit, what cannot be read, over unix sockets and TLS. Begin at `Observed.start`.
"""

import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .certificates import Authority
from .integration.dialogue import eventually
from .integration.proxy_process import DIES_WITH_US, PROJECT, ProxyProcess
from .ports import free_port

PACE_SECONDS = 0.05  # between two rounds, so that others get the processor as well
READ_SECONDS = 10.0

ENGINE = (
    "import asyncio, sys\n"
    "from sockproxy.operating.demo.engine import start_demo_engine\n"
    "from tests.demo import FAST\n"
    "async def main():\n"
    "    await start_demo_engine(sys.argv[1], FAST)\n"
    "    await asyncio.Event().wait()\n"
    "asyncio.run(main())\n"
)

CONFIG = """
version: 1
engine: unix://$engine
admin: tcp://$admin
audit:
  - file: $audit
listeners:
  - {address: "unix://$socket", policy: kubernetes-1.4}
  - {address: "unix://$socket.ci", policy: ci, limits: {requests_per_second: 0.01, burst: 1, streams: 8}}
  - {address: "unix://$socket.trial", policy: trial}
  - {address: "tcp://127.0.0.1:%(port)d", name: tls, policy: readonly, tls: {cert: "%(cert)s", key: "%(key)s"}}
policies:
  ci:
    allow: [{operations: ["@read"]}]
    deny: [{operations: [ContainerKill], reason: nobody kills here}]
  trial:
    mode: shadow
    allow: [{operations: [ContainerList]}]
"""

READS = (
    "/containers/json",
    "/containers/web/json",
    "/containers/web/changes",
    "/images/json",
    "/images/busybox:latest/json",
    "/images/busybox:latest/history",
    "/version",
    "/info",
)
BAD = (b"GET / HTTP/1.1\r\nHost: d\r\nHost: d\r\n\r\n", b"GE(T / HTTP/1.1\r\nHost: d\r\n\r\n", b"\x16\x03\x01\r\n\r\n")
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def request(method: str, target: str, body: Any = None, fields: str = "") -> bytes:
    text = b"" if body is None else json.dumps(body).encode()
    kind = "" if body is None else "Content-Type: application/json\r\n"
    return f"{method} {target} HTTP/1.1\r\nHost: d\r\n{kind}{fields}Content-Length: {len(text)}\r\n\r\n".encode() + text


class Client:
    """A connection, and reading of HTTP as far as the demo engine needs it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(READ_SECONDS)
        self._held = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, bytes]:
        """A request and its whole answer."""
        self.sock.sendall(request(method, target, body))
        return self.read_answer()

    def read_answer(self) -> tuple[int, bytes]:
        head = self.read_until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            return status, self.read_until(b"0\r\n\r\n")
        return status, self.read(int(fields.get(b"content-length", 0)))

    def read(self, size: int) -> bytes:
        while len(self._held) < size:
            self._receive()
        some, self._held = self._held[:size], self._held[size:]
        return some

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._receive()
        return self.read(self._held.index(mark) + len(mark))

    def read_end(self) -> None:
        while self.sock.recv(65536):
            pass

    def _receive(self) -> None:
        some = self.sock.recv(65536)
        if not some:
            raise ConnectionError("the connection ended")
        self._held += some


class Observed:
    """The proxy, its engine, and its clients, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        engine_socket = folder / "engine.sock"
        certificate = Authority(folder / "tls").sign("/CN=localhost", "DNS:localhost")
        config = CONFIG % {"port": self._port, "cert": certificate.cert, "key": certificate.key}
        self.proxy = ProxyProcess(folder, engine_socket, "", config=config, workers=2)
        with (folder / "engine.log").open("ab") as log:
            self._engine = subprocess.Popen(
                [*DIES_WITH_US, sys.executable, "-c", ENGINE, str(engine_socket)],
                cwd=PROJECT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._has_to_end = threading.Event()
        self._load = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None
        self.rounds = 0

    def start(self) -> None:
        """Returns when the first round of requests is done."""
        eventually((self._folder / "engine.sock").exists, READ_SECONDS)
        self.proxy.start()
        self._load.start()
        eventually(self._has_made_a_round, READ_SECONDS)

    def _has_made_a_round(self) -> bool:
        self.check()
        return self.rounds > 0

    def check(self) -> None:
        """Whether the load still goes on as it should. Raises AssertionError."""
        assert self._failure is None, f"the load ended: {self._failure!r}"

    def stop(self) -> None:
        self._has_to_end.set()
        self._load.join(READ_SECONDS)
        self.proxy.stop()
        self._engine.terminate()
        self._engine.wait(READ_SECONDS)
        self.check()

    def _run(self) -> None:
        try:
            with self.open_stream():
                while not self._has_to_end.wait(PACE_SECONDS):
                    self._make_a_round(self.rounds)
                    self.rounds += 1
        except (AssertionError, OSError) as failure:
            self._failure = failure  # lawful: the test that waits for the load tells of it

    def open_stream(self) -> Client:
        """Events, which never end by themselves."""
        client = self.connect()
        client.sock.sendall(request("GET", "/events"))
        client.read_until(b"\r\n\r\n")
        return client

    def connect(self, name: str = "") -> Client:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(f"{self.proxy.socket}{name}")
        return Client(sock)

    def connect_by_tls(self) -> Client:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return Client(context.wrap_socket(socket.create_connection(("127.0.0.1", self._port))))

    # --- the load

    def _make_a_round(self, number: int) -> None:
        with self.connect() as kubelet:
            for target in READS:
                expect(kubelet.ask("GET", target), 200)
            self._run_a_pod(kubelet, f"pod-{number}")
            expect(kubelet.ask("GET", "/containers/nobody/json"), 404)
            expect(kubelet.ask("GET", "/_ping"), 403)
        with self.connect(".ci") as ci:
            for _ in range(2):
                expect(ci.ask("GET", "/containers/json"), 200, 429)
            expect(ci.ask("POST", "/containers/web/kill"), 403)
            expect(ci.ask("POST", "/containers/create", {"Image": "busybox"}), 403)
        with self.connect(".trial") as trial:
            expect(trial.ask("GET", "/containers/json"), 200)
            expect(trial.ask("GET", "/images/json"), 200)
        with self.connect_by_tls() as remote:
            expect(remote.ask("GET", "/v1.41/images/json"), 200)
        for raw in BAD:
            with self.connect() as bad:
                bad.sock.sendall(raw)
                expect(bad.read_answer(), 400)

    def _run_a_pod(self, kubelet: Client, name: str) -> None:
        """All that writes of the 22 operations, and its terminals."""
        expect(kubelet.ask("POST", "/images/create?fromImage=alpine&tag=3"), 200)
        made = {"Image": "busybox:latest", "Cmd": ["sh"], "Tty": True, "OpenStdin": True}
        expect(kubelet.ask("POST", f"/containers/create?name={name}", made), 201)
        expect(kubelet.ask("POST", f"/containers/{name}/start"), 204)
        with self.connect() as terminal:
            terminal.sock.sendall(request("POST", f"/containers/{name}/attach?stream=1&stdout=1", None, UPGRADE))
            terminal.read_until(b"\r\n\r\n")
            expect(kubelet.ask("POST", f"/containers/{name}/resize?h=40&w=80"), 200)
        _, created = kubelet.ask("POST", f"/containers/{name}/exec", {"AttachStdout": True, "Cmd": ["echo", "hello"]})
        exec_id = json.loads(created)["Id"]
        with self.connect() as terminal:
            terminal.sock.sendall(request("POST", f"/exec/{exec_id}/start", {"Tty": False}, UPGRADE))
            terminal.read_until(b"\r\n\r\n")
            expect(kubelet.ask("POST", f"/exec/{exec_id}/resize?h=40&w=80"), 200, 201, 404, 409, 500)
            terminal.read_end()
        expect(kubelet.ask("GET", f"/exec/{exec_id}/json"), 200)
        expect(kubelet.ask("GET", f"/containers/{name}/logs?stdout=1"), 200)
        expect(kubelet.ask("POST", f"/containers/{name}/kill"), 204)
        expect(kubelet.ask("POST", f"/containers/{name}/stop?t=0"), 204, 304)
        expect(kubelet.ask("DELETE", f"/containers/{name}?force=1"), 204)
        expect(kubelet.ask("DELETE", "/images/alpine:3"), 200)


def expect(answer: tuple[int, bytes], *statuses: int) -> None:
    status, body = answer
    assert status in statuses, f"{status} and not {statuses}: {body!r}"
