"""Several processes that serve the same listeners: `serve --workers N`.

Owns forking, passing signals on, and asking the workers for the metrics of the one admin listener, which is the parent's.
Must not know how a worker serves: it is handed the function. Begin at `run_workers`.

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
from collections.abc import Callable
from typing import Any, NamedTuple

from sockproxy.recording.metrics import Told

log = logging.getLogger("sockproxy")

_LENGTH = struct.Struct("!I")
_ANSWER_SECONDS = 5.0
"""How long a worker may take to tell its metrics; a scrape's own limit is 10 seconds by default."""


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


def tell_metrics(channel: socket.socket, tell: Callable[[], list[Told]]) -> None:
    """In a worker: answers each question of the parent with what `tell` says."""
    channel.setblocking(False)
    asyncio.get_running_loop().add_reader(channel.fileno(), _tell, channel, tell)


def _tell(channel: socket.socket, tell: Callable[[], list[Told]]) -> None:
    if not channel.recv(1):
        asyncio.get_running_loop().remove_reader(channel.fileno())
        return
    told = pickle.dumps(tell())
    channel.setblocking(True)  # a few tens of KiB to a parent that waits for them
    channel.sendall(_LENGTH.pack(len(told)) + told)
    channel.setblocking(False)


def ask_metrics(workers: list[Worker]) -> list[Told]:
    """All that every worker tells. Raises OSError if one does not answer."""
    for worker in workers:
        worker.channel.settimeout(_ANSWER_SECONDS)
        worker.channel.sendall(b"?")
    return [told for worker in workers for told in _read(worker.channel)]


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


def trail_of(file: str, number: int) -> str:
    """The audit file of a worker: the first has the file as it is configured, the others their number behind it."""
    return file if number == 1 or file == "-" else f"{file}.{number}"
