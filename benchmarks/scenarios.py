"""What is measured: a table of scenarios, each a function from a running proxy to numbers.

Owns what is done and for how long, and which of the numbers is a row of the result. Must not know which proxies there
are. Begin at `SCENARIOS`.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks import load
from benchmarks.proxies import Subject

GIB = 1 << 30
MIB = 1 << 20
_WARM_SHARE = 0.2  # of the time of a scenario, before it is measured
_PULLED_BYTES = GIB  # of one body of the download in the background
_PULLER_SECONDS_MAX = 20.0
_LIST = (load.LIST,)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: one for a first look, one for the figures that are published."""

    rounds: int
    seconds: float  # of one scenario of small requests on one proxy
    transfer_bytes: int  # of one body
    log_lines: int
    idle_streams: tuple[int, ...]  # counted upwards
    rare_rounds: int  # of the scenarios that take long and differ little from round to round


QUICK = Effort(3, 0.25, 64 * MIB, 1500, (500,), 1)
FULL = Effort(7, 1.0, 512 * MIB, 5000, (1000, 10_000), 2)

Numbers = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of the result: a number of a scenario, what people read, and its unit.

    `wanted` is the most that sockproxy should need: a ratio to HAProxy, or (`is_absolute`) in the unit.
    """

    key: str
    title: str
    unit: str
    wanted: float | None = None
    is_absolute: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the table."""

    measures: tuple[Measure, ...]
    run: Callable[[Subject, Effort], Numbers]
    lacking: frozenset[str] = frozenset()  # proxies that cannot do it
    is_rare: bool = False  # only in the first rounds


def cost(subject: Subject, work: Callable[[], int]) -> Numbers:
    """CPU time of the proxy for each piece of work, and how busy it was: below 1 the load was the slower part."""
    cpu, begun = subject.cpu_us(), time.perf_counter()
    done = work()
    spent, took = subject.cpu_us() - cpu, time.perf_counter() - begun
    return {"cpu": spent / done, "busy": spent / took / 1e6, "rate": done / took}


# Small requests


def keep_alive(connections: int, heads: Sequence[bytes], subject: Subject, effort: Effort) -> Numbers:
    """CPU for a small request on kept connections."""
    with load.KeepAlive(subject.path, connections, heads) as clients:
        clients.run(effort.seconds * _WARM_SHARE)
        return cost(subject, lambda: clients.run(effort.seconds))


def judged_create(connections: int, subject: Subject, effort: Effort) -> Numbers:
    """CPU for a create whose body is judged (by who does) and like none before, and how many small requests cost as much."""
    small = keep_alive(connections, _LIST, subject, effort)
    with load.KeepAlive(subject.path, connections, load.CREATES, status=201) as clients:
        clients.run(effort.seconds * _WARM_SHARE)
        numbers = cost(subject, lambda: clients.run(effort.seconds))
    return numbers | {"times": numbers["cpu"] / small["cpu"]}


def connection_each(subject: Subject, effort: Effort) -> Numbers:
    """CPU for a small request with a connection of its own."""
    load.connect_each(subject.path, effort.seconds * _WARM_SHARE)
    return cost(subject, lambda: load.connect_each(subject.path, effort.seconds))


def latency(subject: Subject, effort: Effort) -> Numbers:
    """How long a small request takes on one connection, and what CPU it costs there."""
    load.time_requests(subject.path, effort.seconds * _WARM_SHARE)
    took: list[float] = []

    def work() -> int:
        took.extend(load.time_requests(subject.path, effort.seconds))
        return len(took)

    return cost(subject, work) | _quantiles(took)


def _quantiles(took: list[float]) -> Numbers:
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def latency_in_a_crowd(subject: Subject, effort: Effort) -> Numbers:
    """How long a small request takes while many streams are open and one moves a large body at full speed.

    On a fresh proxy: HAProxy holds a silent stream's descriptors after its client has gone, which is no part of what is
    measured later.
    """
    with subject.another() as fresh, load.IdleStreams(fresh.path) as streams:
        streams.open(effort.idle_streams[0])
        with _background_download(fresh.path) as moved:
            load.time_requests(fresh.path, effort.seconds * _WARM_SHARE)
            begun, before = time.perf_counter(), moved()
            took = load.time_requests(fresh.path, effort.seconds)
            speed = (moved() - before) / MIB / (time.perf_counter() - begun)
        if not speed:
            raise load.WrongAnswer("the download beside the small requests did not move")
        return _quantiles(took) | {"beside_mib_per_s": speed}


@contextmanager
def _background_download(path: str) -> Iterator[Callable[[], int]]:
    """A process that downloads without end, already under way; gives how many bytes it has had."""
    context = multiprocessing.get_context("spawn")
    moved, under_way = context.Value("q", 0), context.Event()
    puller = context.Process(target=load.download_for_ever, args=(path, _PULLED_BYTES, moved, under_way), daemon=True)
    puller.start()
    try:
        if not under_way.wait(_PULLER_SECONDS_MAX):
            raise load.WrongAnswer("the download beside the small requests did not begin")
        yield lambda: moved.value
    finally:
        puller.terminate()
        puller.join()


# Bytes


def transfer(move: Callable[[str, int], None], subject: Subject, effort: Effort) -> Numbers:
    """CPU-seconds for a GiB."""
    move(subject.path, effort.transfer_bytes // 8)

    def work() -> int:
        move(subject.path, effort.transfer_bytes)
        return effort.transfer_bytes

    spent = cost(subject, work)
    return {"cpu": spent["cpu"] * GIB / 1e6, "busy": spent["busy"], "mib_per_s": spent["rate"] / MIB}


def keystrokes(subject: Subject, effort: Effort) -> Numbers:
    """CPU for ten bytes through a tunnel and back."""
    with load.tunnel(subject.path, "echo") as client:
        load.type_keys(client, effort.seconds * _WARM_SHARE)
        return cost(subject, lambda: load.type_keys(client, effort.seconds))


def log_lines(subject: Subject, effort: Effort) -> Numbers:
    """CPU for a short chunk of a stream, one at a time."""
    load.follow_log(subject.path, effort.log_lines // 10)

    def work() -> int:
        load.follow_log(subject.path, effort.log_lines)
        return effort.log_lines

    return cost(subject, work)


# What it costs to be there


def idle(subject: Subject, effort: Effort) -> Numbers:
    """Time to start, memory at rest, memory for each idle stream, and what many idle streams do to a small request."""
    with subject.another() as fresh, load.IdleStreams(fresh.path) as streams:
        alone = _quantiles(load.time_requests(fresh.path, effort.seconds))
        rest = fresh.memory()
        numbers = {
            "start_ms": fresh.start_ms,
            "resident_mib": rest.resident_kib / 1024,
            "proportional_mib": rest.proportional_kib / 1024,
        }
        for count in effort.idle_streams:
            streams.open(count)
            grown = fresh.memory().proportional_kib - rest.proportional_kib
            numbers[f"kib_{count}"] = grown / count
        numbers["kib"] = numbers[f"kib_{effort.idle_streams[-1]}"]
        crowded = _quantiles(load.time_requests(fresh.path, effort.seconds))
        return numbers | {"slower": crowded["p50"] / alone["p50"]}


_NO_TUNNEL = frozenset({"aiohttp"})


def _bytes(title: str, wanted: float) -> tuple[Measure, ...]:
    return (Measure("cpu", title, "CPU s/GiB", wanted),)


SCENARIOS: dict[str, Scenario] = {
    "latency": Scenario(
        (
            Measure("p50", "small GET, one connection: median latency", "µs", 1.0),
            Measure("p99", "small GET, one connection: 99th percentile", "µs", 1.2),
            Measure("cpu", "small GET, one connection", "µs CPU"),
        ),
        latency,
    ),
    "get-16": Scenario((Measure("cpu", "small GET, 16 connections", "µs CPU", 0.9),), partial(keep_alive, 16, _LIST)),
    "get-256": Scenario(
        (Measure("cpu", "small GET, 256 connections", "µs CPU", 0.9),), partial(keep_alive, 256, _LIST)
    ),
    "names-16": Scenario(
        (Measure("cpu", "small GET, 16 connections, 5,000 targets in turn", "µs CPU"),),
        partial(keep_alive, 16, load.INSPECTS),
    ),
    "create": Scenario(
        (
            Measure("cpu", "create of 2 KiB, its body judged by sockproxy alone, 16 connections", "µs CPU"),
            Measure("times", "the same, to a small GET", "times", 4, is_absolute=True),
        ),
        partial(judged_create, 16),
    ),
    "connect": Scenario((Measure("cpu", "small GET, a connection each", "µs CPU", 1.25),), connection_each),
    "crowd": Scenario(
        (
            Measure("p50", "small GET beside idle streams and a download: median latency", "µs", 1.2),
            Measure("p99", "small GET beside idle streams and a download: 99th percentile", "µs"),
        ),
        latency_in_a_crowd,
    ),
    "down-length": Scenario(
        _bytes("download, Content-Length", 0.6), partial(transfer, partial(load.download, "length"))
    ),
    "up-length": Scenario(_bytes("upload, Content-Length", 0.6), partial(transfer, partial(load.upload, "length"))),
    "down-chunked": Scenario(_bytes("download, chunked", 0.7), partial(transfer, partial(load.download, "chunked"))),
    "up-chunked": Scenario(_bytes("upload, chunked", 0.7), partial(transfer, partial(load.upload, "chunked"))),
    "tunnel-down": Scenario(_bytes("tunnel, from the engine", 0.7), partial(transfer, load.tunnel_down), _NO_TUNNEL),
    "tunnel-up": Scenario(_bytes("tunnel, to the engine", 0.7), partial(transfer, load.tunnel_up), _NO_TUNNEL),
    "keys": Scenario((Measure("cpu", "tunnel, 10 bytes and back", "µs CPU", 1.2),), keystrokes, _NO_TUNNEL),
    "lines": Scenario((Measure("cpu", "log lines of 100 bytes, one every 100 µs", "µs CPU", 1.2),), log_lines),
    "idle": Scenario(
        (
            Measure("start_ms", "from exec to the first answer", "ms", 300, is_absolute=True),
            Measure("resident_mib", "memory at rest, resident", "MiB", 40, is_absolute=True),
            Measure("kib", "memory of an idle stream", "KiB", 12, is_absolute=True),
            Measure(
                "slower", "small GET beside idle streams, to without: median latency", "times", 2, is_absolute=True
            ),
        ),
        idle,
        is_rare=True,
    ),
}
