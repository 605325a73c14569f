"""The null engine: answers like dockerd and does nothing, so that what is measured is the proxy.

Owns the few requests that the scenarios make, and their answers; the name of a container says what is to happen
(`/containers/chunked.1048576/export` is a chunked download of a mebibyte). Must not know who asks. Begin at `ROUTES`.
Run as `python -m benchmarks.engine SOCKET`.
"""

import asyncio
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import cast

import uvloop

from benchmarks.processes import raise_descriptor_limit

_REQUEST = re.compile(rb"([A-Z]+) (?:/v1\.[0-9]+)?(/[^? ]*)(?:\?[^ ]*)? HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_FIELDS = (
    b"Api-Version: 1.41\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/20.10.24 (linux)\r\n"
    b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"
)
_ENDLESS = b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Content-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
_UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"
_KNOWN_MAX = 100_000  # heads whose answer is remembered; more than all proxies together send

CHUNK_BYTES = 32 << 10  # dockerd copies bodies by io.Copy, whose buffer is 32 KiB: a chunk each
BLOCK_BYTES = 8 * CHUNK_BYTES  # one write of a download; all uploads are multiples of it
LINE_BYTES = 100  # of a log
LINE_SECONDS = 100e-6  # between two lines of a log

_PLAIN_BLOCK = bytes(b"x" * BLOCK_BYTES)
_CHUNK = b"%x\r\n%b\r\n" % (CHUNK_BYTES, b"x" * CHUNK_BYTES)
_CHUNKED_BLOCK = _CHUNK * (BLOCK_BYTES // CHUNK_BYTES)
_LINE = b"%x\r\n%b\r\n" % (LINE_BYTES, b"x" * (LINE_BYTES - 1) + b"\n")


def _answer(value: object) -> bytes:
    body = json.dumps(value).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _container(name: str) -> dict[str, object]:
    """A running container as a list shows it, cut to what makes it a few hundred bytes."""
    return {
        "Id": name.encode().hex().ljust(64, "0"),
        "Names": [f"/{name}"],
        "Image": "registry.example.com/shop/cart:1.8.2",
        "Command": "/usr/bin/cart --listen :8080",
        "Created": 784887151,
        "Ports": [{"PrivatePort": 8080, "Type": "tcp"}],
        "Labels": {"com.example.team": "shop", "com.example.tier": "web"},
        "State": "running",
        "Status": "Up 3 hours",
        "HostConfig": {"NetworkMode": "bridge"},
        "Mounts": [],
    }


VERSION = _answer(
    {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
)
LIST = _answer([_container("cart"), _container("basket")])
INSPECT = _answer(_container("cart") | {"State": {"Status": "running", "Pid": 4711, "ExitCode": 0}, "RestartCount": 0})
LOADED = _answer({"stream": "Loaded image: registry.example.com/shop/cart:1.8.2"})
CREATED = _answer({"Id": "0" * 64, "Warnings": []}).replace(b"200 OK", b"201 Created")
NOT_FOUND = _answer({"message": "page not found"}).replace(b"200 OK", b"404 Not Found")


class EngineConnection(asyncio.Protocol):
    """One connection: `receive` is what the next bytes go to."""

    def __init__(self, known: dict[bytes, bytes]) -> None:
        self.known = known
        self.receive: Callable[[bytes], None] = self.receive_head
        self.block = b""
        self.blocks_left = 0
        self.paused = False
        self.poured: Callable[[], None] = self.expect_head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not derived from asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.blocks_left = 0

    def data_received(self, data: bytes) -> None:
        answer = self.known.get(data)
        if answer is not None:
            self.transport.write(answer)
        else:
            self.receive(data)

    def receive_head(self, data: bytes) -> None:
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            self.receive = lambda more: self.receive_head(data + more)
            return
        self.receive = self.receive_head
        found = _REQUEST.match(data)
        route = ROUTES.get((found[1], _kind(found[2])), _not_found) if found else _not_found
        route(self, found[2].decode() if found else "", head + b"\r\n", body)

    def expect_head(self) -> None:
        self.receive = self.receive_head

    def remember(self, request: bytes, answer: bytes) -> None:
        """Answer a request without a body, and the same bytes from now on without looking at them."""
        self.transport.write(answer)
        if len(self.known) < _KNOWN_MAX:
            self.known[request + b"\r\n"] = answer

    # A download: as many blocks as the other side takes.

    def pour(self, block: bytes, blocks: int, poured: Callable[[], None]) -> None:
        self.block, self.blocks_left, self.poured = block, blocks, poured
        if not blocks:
            poured()
        self._pour_on()

    def _pour_on(self) -> None:
        while self.blocks_left and not self.paused:
            self.blocks_left -= 1
            self.transport.write(self.block)
            if not self.blocks_left:
                self.poured()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._pour_on()

    # An upload: counted to its end.

    def drain_length(self, left: int, data: bytes, answer: bytes) -> None:
        left -= len(data)
        if left > 0:
            self.receive = lambda more: self.drain_length(left, more, answer)
            return
        self.expect_head()
        self.transport.write(answer)

    def drain_chunks(self, tail: bytes, data: bytes, answer: bytes) -> None:
        """To the last chunk, found by its bytes: no payload here looks like it."""
        tail = (tail + data)[-len(_LAST_CHUNK) :] if len(data) < len(_LAST_CHUNK) else data[-len(_LAST_CHUNK) :]
        if tail != _LAST_CHUNK:
            self.receive = lambda more: self.drain_chunks(tail, more, answer)
            return
        self.expect_head()
        self.transport.write(answer)


Route = Callable[[EngineConnection, str, bytes, bytes], None]


def _kind(path: bytes) -> bytes:
    """A path without the name in it: `/containers/cart/json` is of the kind `/containers/*/json`."""
    parts = path.split(b"/")
    if len(parts) == 4:
        parts[2] = b"*"
    return b"/".join(parts)


def _named(path: str) -> tuple[str, int]:
    """What the name in a path asks for, as `chunked.1048576`."""
    what, _, number = path.split("/")[2].partition(".")
    return what, int(number or "0")


def _always(answer: bytes) -> Route:
    return lambda connection, path, head, body: connection.remember(head, answer)


def _not_found(connection: EngineConnection, path: str, head: bytes, body: bytes) -> None:
    connection.transport.write(NOT_FOUND)


def _events(connection: EngineConnection, path: str, head: bytes, body: bytes) -> None:
    """The head, and then silence."""
    connection.transport.write(_ENDLESS % b"application/json")


def _export(connection: EngineConnection, path: str, head: bytes, body: bytes) -> None:
    framing, size = _named(path)
    blocks = size // BLOCK_BYTES
    if framing == "chunked":
        connection.transport.write(_ENDLESS % b"application/x-tar" + _chunks(size % BLOCK_BYTES))
        connection.pour(_CHUNKED_BLOCK, blocks, lambda: connection.transport.write(_LAST_CHUNK))
        return
    start = b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Content-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n"
    connection.transport.write(start % size + _PLAIN_BLOCK[: size % BLOCK_BYTES])
    connection.pour(_PLAIN_BLOCK, blocks, connection.expect_head)


def _chunks(size: int) -> bytes:
    """Less than a block of a chunked body."""
    rest = size % CHUNK_BYTES
    return _CHUNK * (size // CHUNK_BYTES) + (b"%x\r\n%b\r\n" % (rest, b"x" * rest) if rest else b"")


def _taking(answer: bytes) -> Route:
    """Takes a body to its end."""

    def take(connection: EngineConnection, path: str, head: bytes, body: bytes) -> None:
        if length := _LENGTH.search(head):
            connection.drain_length(int(length[1]), body, answer)
        else:
            connection.drain_chunks(b"", body, answer)

    return take


def _attach(connection: EngineConnection, path: str, head: bytes, body: bytes) -> None:
    """A tunnel that echoes, or sends so much, or takes so much and says `k`."""
    what, size = _named(path)
    transport = connection.transport
    transport.write(_UPGRADED)
    connection.receive = transport.write
    if what == "source":
        connection.pour(_PLAIN_BLOCK, size // BLOCK_BYTES, transport.close)
    if what == "sink":
        connection.drain_length(size, body, b"k")


def _logs(connection: EngineConnection, path: str, head: bytes, body: bytes) -> None:
    """So many short lines, a chunk each, one at a time; by a thread, since libuv's timers count in milliseconds."""
    connection.transport.write(_ENDLESS % b"application/vnd.docker.raw-stream")
    own = connection.transport.get_extra_info("socket")
    threading.Thread(target=_write_lines, args=(own.dup(), _named(path)[1]), daemon=True).start()


def _write_lines(stream: socket.socket, lines: int) -> None:
    with stream:
        stream.setblocking(True)
        due = time.perf_counter()
        for _ in range(lines):
            due = max(due + LINE_SECONDS, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            stream.sendall(_LINE)
        stream.sendall(_LAST_CHUNK)


ROUTES: dict[tuple[bytes, bytes], Route] = {
    (b"GET", b"/version"): _always(VERSION),
    (b"GET", b"/containers/json"): _always(LIST),
    (b"GET", b"/containers/*/json"): _always(INSPECT),
    (b"GET", b"/events"): _events,
    (b"GET", b"/containers/*/export"): _export,
    (b"GET", b"/containers/*/logs"): _logs,
    (b"POST", b"/images/load"): _taking(LOADED),
    (b"POST", b"/containers/create"): _taking(CREATED),
    (b"POST", b"/containers/*/exec"): _taking(CREATED),
    (b"POST", b"/containers/*/attach"): _attach,
}


async def serve(path: str) -> None:
    """Serve on a unix socket until the process ends."""
    known: dict[bytes, bytes] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: EngineConnection(known), path, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    raise_descriptor_limit()
    uvloop.run(serve(sys.argv[1]))
