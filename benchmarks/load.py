"""The clients: what the scenarios ask of a proxy, on blocking sockets and epoll, with little cost of their own.

Owns the bytes of the requests and knows when an answer is complete. Must not know which proxy it talks to, nor what
is measured meanwhile. Begin at `KeepAlive`.
"""

import itertools
import json
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any

from benchmarks.engine import BLOCK_BYTES, CHUNK_BYTES

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_ANSWER_SECONDS_MAX = 30.0
_RECEIVE_BYTES = 1 << 20
_PLAIN_BLOCK = b"x" * BLOCK_BYTES
_CHUNKED_BLOCK = (b"%x\r\n%b\r\n" % (CHUNK_BYTES, b"x" * CHUNK_BYTES)) * (BLOCK_BYTES // CHUNK_BYTES)


class WrongAnswer(Exception):
    """What came back is not what the null engine sends."""


def request(method: str, path: str, *fields: str) -> bytes:
    """A request's head as docker's command line sends it."""
    lines = [
        f"{method} /v1.41{path} HTTP/1.1",
        "Host: docker",
        "User-Agent: Docker-Client/20.10.24 (linux)",
        *fields,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


LIST = request("GET", "/containers/json")
EVENTS = request("GET", "/events")
INSPECTS = tuple(request("GET", f"/containers/shop-cart-{number:04}/json") for number in range(5000))


def _create(number: int) -> bytes:
    """A create of 2 KiB, as docker's command line writes one: every field, most of them empty. No two are the same."""
    host_config = {
        **dict.fromkeys(
            ("Binds", "CapAdd", "CapDrop", "GroupAdd", "VolumesFrom", "Devices", "DeviceCgroupRules"), None
        ),
        **dict.fromkeys(
            ("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "DeviceRequests", "SecurityOpt", "Ulimits"), None
        ),
        **dict.fromkeys(("BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "MaskedPaths", "ReadonlyPaths"), None),
        **dict.fromkeys(("Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "Links", "BlkioWeightDevice"), ()),
        **dict.fromkeys(
            ("ContainerIDFile", "IpcMode", "PidMode", "UTSMode", "UsernsMode", "Cgroup", "CgroupnsMode"), ""
        ),
        **dict.fromkeys(("CgroupParent", "CpusetCpus", "CpusetMems", "VolumeDriver", "Isolation"), ""),
        **dict.fromkeys(("CpuShares", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime"), 0),
        **dict.fromkeys(("BlkioWeight", "KernelMemory", "MemoryReservation", "MemorySwap", "NanoCpus", "PidsLimit"), 0),
        **dict.fromkeys(("AutoRemove", "OomKillDisable", "Privileged", "PublishAllPorts", "ReadonlyRootfs"), False),
        "Memory": 268435456,
        "NetworkMode": "shop",
        "LogConfig": {"Type": "", "Config": {}},
        "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
        "Mounts": [{"Type": "volume", "Target": "/var/lib/cart"}],
        "PortBindings": {},
    }
    body: dict[str, Any] = {
        **dict.fromkeys(("AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"), False),
        **dict.fromkeys(("Hostname", "Domainname", "WorkingDir"), ""),
        "User": "1000:1000",
        "Image": "registry.example.com/shop/cart:1.8.2",
        "Cmd": ["/usr/bin/cart", "--listen", ":8080"],
        "Entrypoint": None,
        "OnBuild": None,
        "Volumes": {},
        "ExposedPorts": {"8080/tcp": {}},
        "Env": [f"CART_DATABASE=postgres://cart@db/cart-{number}", "CART_LOG=info"],
        "Labels": {"com.example.team": "shop", "com.example.tier": "web", "com.example.order": f"{number:06}"},
        "HostConfig": host_config,
        "NetworkingConfig": {"EndpointsConfig": {"shop": {"Aliases": ["cart"]}}},
    }
    spare = CREATE_BYTES - len(json.dumps(body, separators=(",", ":"))) - len(b"\n")
    body["Labels"]["com.example.about"] = "x" * (spare - len(',"com.example.about":""'))
    raw = json.dumps(body, separators=(",", ":")).encode() + b"\n"
    return request("POST", "/containers/create", "Content-Type: application/json", f"Content-Length: {len(raw)}") + raw


CREATE_BYTES = 2048
CREATES = tuple(map(_create, range(500)))
CREATE = CREATES[0]


# One connection


@contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    """A connection to a unix socket, closed at the end."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ANSWER_SECONDS_MAX)
        client.connect(path)
        yield client


def read_head(client: socket.socket, status: int = 200) -> tuple[bytes, bytes]:
    """The head of an answer, and what came behind it. Raises WrongAnswer at another status."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(client)
    head, end, rest = data.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"%d" % status:
        raise WrongAnswer(f"{head.decode()} {rest[:500].decode(errors='replace')}")
    return head + end, rest


def exchange(client: socket.socket, head: bytes, status: int = 200) -> int:
    """A request and its whole answer with a Content-Length; gives how many bytes that was."""
    client.sendall(head)
    answer, rest = read_head(client, status)
    found = _LENGTH.search(answer)
    if not found:
        raise WrongAnswer(f"no Content-Length: {answer!r}")
    while len(rest) < int(found[1]):
        rest += _some(client)
    return len(answer) + len(rest)


def _some(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise WrongAnswer("closed in the middle of an answer")
    return data


def is_answering(path: str) -> bool:
    """Whether a small request gets its answer."""
    try:
        with connected(path) as client:
            return exchange(client, LIST) > 0
    except (OSError, WrongAnswer):
        return False


# Small requests


class KeepAlive:
    """A closed loop: kept connections, of which all or so many at a time have a request under way, in turn. All heads have
    answers of one size."""

    def __init__(
        self,
        path: str,
        count: int,
        heads: Iterable[bytes] = (LIST,),
        under_way_max: int | None = None,
        status: int = 200,
    ) -> None:
        self._heads = itertools.cycle(heads)
        self._under_way_max = under_way_max or count
        self._epoll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self._size = 0
        for _ in range(count):
            client = socket.socket(socket.AF_UNIX)
            self._clients[client.fileno()] = client
            client.settimeout(_ANSWER_SECONDS_MAX)
            client.connect(path)
            self._size = exchange(client, next(self._heads), status)
            client.setblocking(False)
            self._epoll.register(client, select.EPOLLIN)
        self._got = dict.fromkeys(self._clients, 0)  # bytes of the answer under way
        self._resting = deque(self._clients)

    def __enter__(self) -> "KeepAlive":
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        for client in self._clients.values():
            client.close()

    def run(self, seconds: float) -> int:
        """Send for so long, then wait for all answers; gives their number."""
        deadline = time.perf_counter() + seconds
        under_way = min(self._under_way_max, len(self._clients))
        for _ in range(under_way):
            self._send()
        done = 0
        while under_way:
            ready = self._epoll.poll(_ANSWER_SECONDS_MAX)
            if not ready:
                raise WrongAnswer(f"{under_way} requests without an answer for {_ANSWER_SECONDS_MAX:.0f} s")
            going_on = time.perf_counter() < deadline
            for descriptor, _ in ready:
                if not self._has_answer(descriptor):
                    continue
                done += 1
                self._resting.append(descriptor)
                if going_on:
                    self._send()
                else:
                    under_way -= 1
        return done

    def _send(self) -> None:
        """A request on the connection that has rested longest."""
        self._clients[self._resting.popleft()].send(next(self._heads))

    def _has_answer(self, descriptor: int) -> bool:
        """Take what came; whether it made the answer whole. A denial would have another size."""
        data = self._clients[descriptor].recv(65536)
        got = self._got[descriptor] + len(data)
        if not data or got > self._size:
            raise WrongAnswer(f"{got} bytes instead of {self._size}: {data[:500]!r}")
        self._got[descriptor] = got % self._size
        return got == self._size


def time_requests(path: str, seconds: float) -> list[float]:
    """Requests one after the other on one connection: what each took, in microseconds, sorted."""
    took = []
    with connected(path) as client:
        size = exchange(client, LIST)
        deadline = time.perf_counter() + seconds
        before = time.perf_counter()
        while before < deadline:
            client.send(LIST)
            got = len(client.recv(65536))
            while got < size:
                got += len(_some(client))
            after = time.perf_counter()
            took.append((after - before) * 1e6)
            before = after
    return sorted(took)


def connect_each(path: str, seconds: float) -> int:
    """Requests one after the other, each on a connection of its own; gives their number."""
    done = 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        with connected(path) as client:
            exchange(client, LIST)
        done += 1
    return done


# Bodies and tunnels


def download(framing: str, path: str, size: int) -> None:
    """A body of so many bytes from the engine; framing is `length` or `chunked`."""
    download_again(framing, path, size, 0.0)


def download_again(framing: str, path: str, size: int, seconds: float) -> int:
    """Bodies of so many bytes one after the other on one connection, for so long but at least one; gives their number."""
    head = request("GET", f"/containers/{framing}.{size}/export")
    done, deadline = 0, time.perf_counter() + seconds
    with connected(path) as client:
        while not done or time.perf_counter() < deadline:
            client.sendall(head)
            _, rest = read_head(client)
            if framing == "length":
                _receive(client, size - len(rest))
            else:
                _receive_chunks(client, rest)
            done += 1
    return done


def upload(framing: str, path: str, size: int) -> None:
    """A body of so many bytes to the engine; framing is `length` or `chunked`."""
    plain = framing == "length"
    block, end = (_PLAIN_BLOCK, b"") if plain else (_CHUNKED_BLOCK, _LAST_CHUNK)
    field = f"Content-Length: {size}" if plain else "Transfer-Encoding: chunked"
    with connected(path) as client:
        client.sendall(request("POST", "/images/load?quiet=1", "Content-Type: application/x-tar", field))
        for _ in range(size // BLOCK_BYTES):
            client.sendall(block)
        client.sendall(end)
        read_head(client)


def _receive(client: socket.socket, size: int) -> None:
    buffer = bytearray(_RECEIVE_BYTES)
    while size > 0:
        got = client.recv_into(buffer)
        if not got:
            raise WrongAnswer(f"closed {size} bytes too early")
        size -= got


def _receive_chunks(client: socket.socket, tail: bytes) -> None:
    """To the last chunk, which is found by its bytes: no payload here looks like it."""
    buffer = bytearray(_RECEIVE_BYTES)
    view = memoryview(buffer)
    while not tail.endswith(_LAST_CHUNK):
        got = client.recv_into(buffer)
        if not got:
            raise WrongAnswer("closed before the last chunk")
        tail = (tail[-len(_LAST_CHUNK) :] + bytes(view[max(0, got - len(_LAST_CHUNK)) : got]))[-len(_LAST_CHUNK) :]


@contextmanager
def tunnel(path: str, name: str) -> Iterator[socket.socket]:
    """An attach that has become a tunnel."""
    with connected(path) as client:
        target = f"/containers/{name}/attach?stream=1&stdin=1&stdout=1"
        client.sendall(request("POST", target, "Content-Length: 0", "Connection: Upgrade", "Upgrade: tcp"))
        _, rest = read_head(client, status=101)
        if not name.startswith("source.") and rest:
            raise WrongAnswer(f"{rest[:100]!r} before anything was sent")
        yield client


def tunnel_down(path: str, size: int) -> None:
    """So many bytes out of a tunnel, to its end."""
    with tunnel(path, f"source.{size}") as client:
        buffer = bytearray(_RECEIVE_BYTES)
        while client.recv_into(buffer):
            pass


def tunnel_up(path: str, size: int) -> None:
    """So many bytes into a tunnel, until the engine says that it has them all."""
    with tunnel(path, f"sink.{size}") as client:
        for _ in range(size // BLOCK_BYTES):
            client.sendall(_PLAIN_BLOCK)
        if client.recv(1) != b"k":
            raise WrongAnswer("the tunnel closed before all had arrived")


def type_keys(client: socket.socket, seconds: float) -> int:
    """Ten bytes into a tunnel that echoes, and back, one after the other; gives how often."""
    done = 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        client.send(b"0123456789")
        got = 0
        while got < 10:
            got += len(_some(client))
        done += 1
    return done


def follow_log(path: str, lines: int) -> None:
    """So many short lines from the engine, as fast as it sends them."""
    with connected(path) as client:
        client.sendall(request("GET", f"/containers/lines.{lines}/logs?follow=1&stdout=1"))
        _, rest = read_head(client)
        _receive_chunks(client, rest)


# Idle streams


class IdleStreams:
    """Event streams on which nothing happens."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._clients: list[socket.socket] = []

    def __enter__(self) -> "IdleStreams":
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def open(self, count: int) -> None:
        """Open streams until there are so many."""
        while len(self._clients) < count:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(_ANSWER_SECONDS_MAX)
            self._clients.append(client)
            client.connect(self._path)
            client.sendall(EVENTS)
            read_head(client)


def download_for_ever(path: str, size: int, moved: "Synchronized[int]", under_way: Event) -> None:
    """Bodies one after the other until the process is ended; counts their bytes, and says when the first are there."""
    buffer = bytearray(_RECEIVE_BYTES)
    while True:
        with connected(path) as client:
            client.sendall(request("GET", f"/containers/length.{size}/export"))
            left = size - len(read_head(client)[1])
            while left > 0:
                got = client.recv_into(buffer)
                if not got:
                    raise WrongAnswer(f"closed {left} bytes too early")
                left -= got
                moved.value += got
                under_way.set()
