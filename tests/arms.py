"""The same dialogue on every way through the proxy: the plain one, the express way, and its compiled form where it was built.

Each arm is a proxy that tells its exchanges to the observers of the composition (`operating.observers`), with an audit trail
into memory and metrics on a registry of its own. Begin at `run`.
"""

import asyncio
import fcntl
import re
import select
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, NamedTuple

import orjson
import pytest
import uvloop
from prometheus_client import CollectorRegistry

from sockproxy.exchange import Exchange, Served
from sockproxy.forwarding.limits import Limits
from sockproxy.operating.observers import Observers
from sockproxy.operating.twins import PYTHON, Twins
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.metrics import Metrics, States
from tests.exchanges import MemorySink
from tests.forms import COMPILED, IF_COMPILED
from tests.streams import Peer, World, open_world

READ = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\nUser-Agent: test\r\n\r\n"
OTHER = b"GET /version HTTP/1.1\r\nHost: d\r\n\r\n"
WRITE = b"POST /v1.41/containers/x/start HTTP/1.1\r\nHost: d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
NOT_CANONICAL = b"HTTP/1.1 200 OK\r\ncontent-length:  4\r\n\r\n[{}]"
HEAD_END = b"\r\n\r\n"


class Way(NamedTuple):
    """How requests are served."""

    has_express: bool
    twins: Twins


PLAIN = Way(False, PYTHON)
EXPRESS = Way(True, PYTHON)
EXPRESS_WAYS = [
    pytest.param(EXPRESS, id="express"),
    pytest.param(Way(True, COMPILED or PYTHON), id="compiled", marks=IF_COMPILED),
]
WAYS = [pytest.param(PLAIN, id="plain"), *EXPRESS_WAYS]


class Counted:
    """The observers of the composition, and how often they were told of an outcome in each of the two ways."""

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self.decided = observers.decided
        self.account = observers.account
        self.limit_hit = observers.limit_hit
        self.plain_count = 0
        self.express_count = 0

    def completed(self, exchange: Exchange) -> None:
        self._observers.completed(exchange)
        self.plain_count += 1

    def served(self, served: Served) -> None:
        self._observers.served(served)
        self.express_count += 1

    def tell(self) -> None:
        self._observers.tell_served()

    @property
    def count(self) -> int:
        return self.plain_count + self.express_count


class Record(NamedTuple):
    """What was recorded, without what differs from one run to the next."""

    events: list[dict[str, object]]
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Arm:
    """A proxy with or without the express way, and all that it told."""

    def __init__(self, world: World, told: Counted, trail: AuditTrail, sink: MemorySink, registry: CollectorRegistry):
        self.world = world
        self.told = told
        self.trail = trail
        self.sink = sink
        self.registry = registry

    async def warm(self) -> tuple[Peer, Peer]:
        """A client and the engine's connection, between which READ has gone so often that it may be known."""
        client = await self.world.connect()
        await client.send(READ)
        engine = await self.world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        await client.receive(len(OK))
        for _ in range(2):
            await exchange(client, engine)
        return client, engine

    async def ask(self, request: bytes = READ) -> tuple[Peer, Peer, bytes]:
        """The same once READ is known, and a request behind it has come to the engine: its head."""
        client, engine = await self.warm()
        await exchange(client, engine)
        await client.send(request)
        return client, engine, await engine.receive_until(HEAD_END)

    def record(self) -> Record:
        self.told.tell()
        self.trail.flush()
        return Record(
            [_without_times(orjson.loads(line)) for line in self.sink.lines.splitlines()],
            {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for metric in self.registry.collect()
                for sample in metric.samples
                if sample.value and not _is_of_one_run(sample.name)
            },
        )


def _without_times(event: dict[str, object]) -> dict[str, object]:
    varying = {"time", "id", "hash", "prev", "seq", "duration_ms", "engine_ms"}
    has_engine_time = event["engine_ms"] is not None
    return {key: value for key, value in event.items() if key not in varying} | {"has_engine_time": has_engine_time}


def _is_of_one_run(name: str) -> bool:
    return name.endswith(("_seconds_bucket", "_seconds_sum", "_engine_connections")) or name.startswith("process_")


@asynccontextmanager
async def open_arm(way: Way, *, policy: str = "allow-all", **limits: float) -> AsyncIterator[Arm]:
    """A proxy with real observers, between the test as its clients and the test as its engine."""
    loop = asyncio.get_running_loop()
    registry, sink = CollectorRegistry(), MemorySink()
    metrics = Metrics(
        registry,
        "test",
        limits=[field.name for field in fields(Limits)],
        sinks=[sink.name],
        states=States(express_in_flight=lambda: world.connections.express_untold_count),
        count_served=way.twins.count_served,
    )
    trail = AuditTrail([(sink, "deny-writes")], loop.call_soon, metrics.audit_events, way.twins.lines)
    told = Counted(Observers(trail, metrics, "test", loop.call_soon))
    has_express, twins = way
    async with open_world(policy, observers=told, has_express=has_express, twins=twins, **limits) as world:
        async with asyncio.timeout(5):  # what hangs is a failure of this test alone
            yield Arm(world, told, trail, sink, registry)


async def exchange(client: Peer, engine: Peer, request: bytes = READ, answer: bytes = OK) -> bytes:
    """One request with its answer over connections that are there already; what the client got."""
    await client.send(request)
    await engine.receive_until(HEAD_END)
    await engine.send(answer)
    return await client.receive(len(answer))


async def accept_request(world: World) -> tuple[Peer, bytes]:
    """The engine's end of the connection on which the next request comes, and its head: others may be opened to be kept."""
    opened: list[Peer] = []
    while not (asked := [peer for peer in opened if is_readable(peer)]):
        if world.engine_was_called():
            opened.append(await world.accept())
        await asyncio.sleep(0)
    return asked[0], await asked[0].receive_until(HEAD_END)


def is_readable(peer: Peer) -> bool:
    return bool(select.select([peer.sock], [], [], 0)[0])


Dialogue = Callable[[Arm], Awaitable[object]]


def is_taken(peer: Peer) -> bool:
    """Whether the other side has read all that was sent to it."""
    return struct.unpack("i", fcntl.ioctl(peer.sock, termios.TIOCOUTQ, b"\0" * 4))[0] == 0


def without_ids(data: bytes) -> bytes:
    return re.sub(rb"Sockproxy-Request-Id: [^\r]*", b"Sockproxy-Request-Id: -", data)


class Run(NamedTuple):
    """What one arm did with a dialogue."""

    seen: object
    record: Record
    express_count: int


def run(dialogue: Dialogue, way: Way, **options: Any) -> Run:
    async def drive() -> Run:
        async with open_arm(way, **options) as arm:
            seen = await dialogue(arm)
            return Run(seen, arm.record(), arm.told.express_count)

    return uvloop.run(drive())
