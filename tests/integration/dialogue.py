"""Speaking to a unix socket with hand-written bytes, and waiting for facts.

Owns the test's own plain reading of HTTP/1.1, which owes nothing to the package under test. Every read has a deadline:
what does not come is a failure, not a hang. Begin at `Connection`; `Api` is for calls where the bytes do not matter.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from .rootfs import IMAGE

READ_SECONDS = 30.0


class Answer(NamedTuple):
    """A response head, and its body where it was read."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error in the engine's shape."""
        return str(self.json()["message"])


class Connection:
    """One client connection."""

    def __init__(self, path: Path | str, seconds: float = READ_SECONDS) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(seconds)
        self.socket.connect(str(path))
        self._held = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def send_request(self, method: str, target: str, body: bytes = b"", /, **fields: str) -> None:
        self.send(head(method, target, body, **fields) + body)

    def request(self, method: str, target: str, body: bytes = b"", /, **fields: str) -> Answer:
        """A whole exchange; the connection stays open as far as the answer lets it."""
        self.send_request(method, target, body, **fields)
        return self.read_answer(method)

    def read_answer(self, method: str = "GET") -> Answer:
        answer = self.read_head()
        return answer._replace(body=self.read_body(method, answer))

    def read_head(self) -> Answer:
        """The next response head that is not an interim one."""
        while True:
            raw = self.read_until(b"\r\n\r\n")
            first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
            _, status, reason = (first + " ").split(" ", 2)
            pairs = (line.split(":", 1) for line in lines)
            answer = Answer(int(status), reason.strip(), tuple((name, value.strip()) for name, value in pairs))
            if answer.status != 100:
                return answer

    def read_body(self, method: str, answer: Answer) -> bytes:
        length = answer.field("content-length")
        if method == "HEAD" or answer.status in (101, 204, 304) or length == "0":
            return b""
        if answer.field("transfer-encoding") == "chunked":
            return b"".join(self.read_chunks())
        return self.read_exactly(int(length)) if length is not None else self.read_to_end()

    def read_chunks(self) -> Iterator[bytes]:
        """The chunks as they come, to the last one and its empty trailer; raises EOFError if there is none."""
        while size := int(self.read_until(b"\r\n"), 16):
            yield self.read_exactly(size)
            assert self.read_exactly(2) == b"\r\n"
        assert self.read_until(b"\r\n") == b"\r\n", "trailers were not expected"

    def read_some(self) -> bytes:
        """What there is next; nothing at the end. A reset is an end, too."""
        held, self._held = self._held, b""
        if held:
            return held
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""

    def read_until(self, end: bytes) -> bytes:
        """All through the next `end`; raises EOFError if the connection ends before."""
        held = bytearray()
        while (at := held.find(end)) < 0:
            some = self.read_some()
            if not some:
                raise EOFError(bytes(held))
            held += some
        self._held = bytes(held[at + len(end) :])
        return bytes(held[: at + len(end)])

    def read_exactly(self, count: int) -> bytes:
        held = bytearray()
        while len(held) < count:
            some = self.read_some()
            if not some:
                raise EOFError(bytes(held))
            held += some
        self._held = bytes(held[count:])
        return bytes(held[:count])

    def read_to_end(self) -> bytes:
        return b"".join(iter(self.read_some, b""))

    def has_ended(self) -> bool:
        """Whether the other side has closed and nothing is left to be read. Does not wait."""
        if self._held:
            return False
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.settimeout(READ_SECONDS)


def head(method: str, target: str, body: bytes = b"", /, **fields: str) -> bytes:
    """A request head as docker's own clients write it; `content_type` is the field Content-Type, and so on. A field that
    is given as "" is left out."""
    sized = {} if method in ("GET", "HEAD") and not body else {"content_length": str(len(body))}
    typed = {"content_type": "application/json"} if body else {}
    lines = {"host": "docker"} | typed | sized | fields
    text = "".join(f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode("latin-1")


UPGRADE = {"connection": "Upgrade", "upgrade": "tcp"}
"""How docker's clients ask for a connection of their own."""


class Api:
    """Calls to an engine, each on a connection of its own, where only what they answer matters."""

    def __init__(self, path: Path | str) -> None:
        self.path = path

    def connect(self, seconds: float = READ_SECONDS) -> Connection:
        return Connection(self.path, seconds)

    def accepts(self) -> bool:
        """Whether somebody listens there; between bind and listen there is a socket, and nobody."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def call(self, method: str, target: str, body: Any = b"", /, **fields: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.connect() as connection:
            return connection.request(method, target, raw, **fields)

    def create(self, *command: str, **config: Any) -> str:
        """The id of a container that runs `command`."""
        answer = self.call("POST", "/containers/create", {"Image": IMAGE, "Cmd": command, **config})
        assert answer.status == 201, answer
        return str(answer.json()["Id"])

    def start(self, container: str) -> None:
        answer = self.call("POST", f"/containers/{container}/start")
        assert answer.status == 204, answer

    def run(self, *command: str, **config: Any) -> str:
        container = self.create(*command, **config)
        self.start(container)
        return container

    def exec(self, container: str, *command: str, **config: Any) -> str:
        """The id of an exec instance that will run `command`, with its output attached."""
        wanted = {"Cmd": command, "AttachStdout": True, "AttachStderr": True, **config}
        answer = self.call("POST", f"/containers/{container}/exec", wanted)
        assert answer.status == 201, answer
        return str(answer.json()["Id"])

    def logs(self, container: str) -> bytes:
        answer = self.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
        return demultiplexed(answer.body)

    def is_running(self, container: str) -> bool:
        return bool(self.call("GET", f"/containers/{container}/json").json()["State"]["Running"])

    def has_image(self, name: str) -> bool:
        return self.call("GET", f"/images/{quote(name)}/json").status == 200


def demultiplexed(raw: bytes) -> bytes:
    """The payload of docker's frames: one byte for the stream, three of nothing, four of length."""
    out = bytearray()
    while raw:
        length = int.from_bytes(raw[4:8], "big")
        out += raw[8 : 8 + length]
        raw = raw[8 + length :]
    return bytes(out)


def eventually(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Returns as soon as `is_so` holds; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come to hold within {seconds} s: {getattr(is_so, '__name__', is_so)}")
        time.sleep(0.005)  # the pace of asking, not a guess at how long it takes


def connections_to(path: Path | str) -> int:
    """How many connections to this socket are open, as the kernel counts them: accepted ones carry its path. (A listening
    socket would, too, but an engine listens in a network namespace of its own, and a proxy's is taken off.)"""
    fields = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(field[-1] == str(path) and field[5] == "03" for field in fields if len(field) == 8)


def read_json_lines(connection: Connection) -> Iterator[Any]:
    """The objects of a chunked stream of JSON lines, as they come."""
    rest = b""
    for chunk in connection.read_chunks():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())


@contextlib.contextmanager
def attached(api: Api, container: str, query: str = "stream=1&stdin=1&stdout=1&stderr=1") -> Iterator[Connection]:
    """A connection that is attached to the container."""
    with api.connect() as connection:
        connection.send_request("POST", f"/containers/{container}/attach?{query}", **UPGRADE)
        assert connection.read_head().status == 101
        yield connection


@contextlib.contextmanager
def exec_started(api: Api, instance: str, *, tty: bool = False) -> Iterator[Connection]:
    """A connection that is attached to the exec instance."""
    body = json.dumps({"Detach": False, "Tty": tty}).encode()
    with api.connect() as connection:
        connection.send_request("POST", f"/exec/{instance}/start", body, **UPGRADE)
        assert connection.read_head().status == 101
        yield connection
