"""Several processes that serve the same listeners: `serve --workers N`.

Owns forking, passing signals on, and summing the workers' metrics for the one admin listener, which is the parent's. Must
not know how a worker serves: it is handed the function. Begin at `run_workers`.

The parent binds the sockets, and each worker accepts on all of them. Each has a trail of its own (`file`, `file.2`, ...),
since a chain of hashes has one writer. A worker that ends unasked ends all: whoever started us starts us anew, and a
service that is half there would look well.
"""

import asyncio
import logging
import os
import pickle
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric, Sample

log = logging.getLogger("sockproxy")

Told = tuple[str, str, str, list[Sample]]
"""One metric: name, help text, type, samples."""

_LENGTH = struct.Struct("!I")
_ANSWER_SECONDS = 5.0
"""How long a worker may take to tell its metrics; a scrape's own limit is 10 seconds by default."""

MERGE: dict[str, Callable[[float, float], float]] = {
    "sockproxy_engine_up": min,
    "sockproxy_config_last_reload_successful": min,
    "sockproxy_config_last_reload_success_timestamp_seconds": min,
    "sockproxy_build_info": max,
    "process_start_time_seconds": min,
    "process_max_fds": max,
}
"""Metric -> how the values of two workers become one; all others are summed."""


class Worker(NamedTuple):
    """A child process, and the socket on which it tells its metrics."""

    pid: int
    channel: socket.socket


def fork_workers(count: int, work: Callable[[int, socket.socket], int]) -> list[Worker]:
    """Starts `count` processes that run `work(number, channel)` and end with its exit code. Before any loop runs."""
    workers: list[Worker] = []
    for number in range(1, count + 1):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in workers:
                other.channel.close()
            code = 1
            try:
                code = work(number, theirs)
            finally:
                os._exit(code)  # the parent's clean-up (sockets' files) is not a worker's
        theirs.close()
        workers.append(Worker(pid, ours))
    return workers


async def supervise(workers: list[Worker], stop: asyncio.Event) -> bool:
    """Waits until `stop` is set or a worker ends; then ends all. True if each ended well, and only when asked to."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, _signal_all, workers, signal.SIGHUP)
    ends = [loop.create_task(_exit_code(worker.pid)) for worker in workers]
    stopping = loop.create_task(stop.wait())
    waited: list[asyncio.Task[Any]] = [stopping, *ends]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    was_asked = stop.is_set()
    stopping.cancel()
    if not was_asked:
        log.error("worker-ended", extra={"pids": [w.pid for w, end in zip(workers, ends, strict=True) if end.done()]})
    _signal_all(workers, signal.SIGTERM)
    codes = await asyncio.gather(*ends)
    return was_asked and not any(codes)


async def _exit_code(pid: int) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)  # noqa: ASYNC222  # it has ended: this only fetches its code
    return os.waitstatus_to_exitcode(status)


def _signal_all(workers: list[Worker], number: int) -> None:
    for worker in workers:
        try:
            os.kill(worker.pid, number)
        except ProcessLookupError:
            continue  # lawful: it has ended already


def tell_metrics(channel: socket.socket, registry: CollectorRegistry) -> None:
    """In a worker: answers each question of the parent with all that the registry holds."""
    channel.setblocking(False)
    asyncio.get_running_loop().add_reader(channel.fileno(), _tell, channel, registry)


def _tell(channel: socket.socket, registry: CollectorRegistry) -> None:
    if not channel.recv(1):
        asyncio.get_running_loop().remove_reader(channel.fileno())
        return
    told = pickle.dumps([(m.name, m.documentation, m.type, m.samples) for m in registry.collect()])
    channel.setblocking(True)  # a few tens of KiB to a parent that waits for them
    channel.sendall(_LENGTH.pack(len(told)) + told)
    channel.setblocking(False)


class Sum:
    """A collector: the metrics of all workers as one."""

    def __init__(self, workers: list[Worker], registry: CollectorRegistry) -> None:
        self._workers = workers
        for worker in workers:
            worker.channel.settimeout(_ANSWER_SECONDS)
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: what there is, only the workers know."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Asks every worker. Raises OSError if one does not answer."""
        merged: dict[str, Metric] = {}
        for worker in self._workers:
            worker.channel.sendall(b"?")
        for worker in self._workers:
            for name, documentation, kind, samples in _read(worker.channel):
                merged.setdefault(name, Metric(name, documentation, kind)).samples.extend(samples)
        for metric in merged.values():
            metric.samples = _merge(metric)
            yield metric


def _read(channel: socket.socket) -> list[Told]:
    (length,) = _LENGTH.unpack(_read_exactly(channel, _LENGTH.size))
    # Our own child wrote it, over a socket that nobody else has.
    told: list[Told] = pickle.loads(_read_exactly(channel, length))  # noqa: S301
    return told


def _read_exactly(channel: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = channel.recv(size - len(got))
        if not piece:
            raise ConnectionError("a worker has ended")
        got += piece
    return bytes(got)


def _merge(metric: Metric) -> list[Sample]:
    combine = MERGE.get(metric.name, float.__add__)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in metric.samples:
        key = (sample.name, tuple(sample.labels.items()))
        values[key] = combine(values[key], float(sample.value)) if key in values else float(sample.value)
    whole = Metric(metric.name, metric.documentation, metric.type)
    for (name, labels), value in values.items():
        whole.add_sample(name, dict(labels), value)
    return whole.samples


def trail_of(file: str, number: int) -> str:
    """The audit file of a worker: the first has the file as it is configured, the others their number behind it."""
    return file if number == 1 or file == "-" else f"{file}.{number}"
