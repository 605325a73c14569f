"""Several processes that serve the same listeners: `serve --workers N`.

Owns forking, passing signals on, and asking the workers what the one admin listener tells, which is the parent's.
Must not know how a worker serves: it is handed the function. Begin at `fork_workers`.

The parent binds the sockets, and each worker accepts on all of them. Each has a trail of its own (`file`, `file.2`, ...),
since a chain of hashes has one writer. A worker that ends unasked ends all: whoever started us starts us anew, and a
service that is half there would look well.
"""

import asyncio
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from sockproxy.errors import ConfigError

log = logging.getLogger("sockproxy")

_MESSAGE = struct.Struct("!QI")  # the number of a question, or of what is answered, and how many bytes of JSON follow
_ANSWER_SECONDS = 5.0
"""How long a worker may take to tell its metrics; a scrape's own limit is 10 seconds by default."""

METRICS, STREAMS, END_STREAM, LOOK, POLICIES = "metrics", "streams", "end-stream", "look", "policies"
"""What a worker may be asked."""

Answers = Mapping[str, Callable[..., list[Any]]]
"""By the name of a question, what answers it: with a list, to which those of all workers are joined."""


class Worker(NamedTuple):
    """A child process, and the socket on which it is asked."""

    pid: int
    channel: socket.socket


def fork_workers(count: int, work: Callable[[int, socket.socket], int]) -> list[Worker]:
    """Starts `count` processes that run `work(number, channel)` and end with its exit code. Before any loop runs. From now on
    SIGHUP is ignored where nobody has asked for it: it would end who is not ready to be reloaded yet."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
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
            except ConfigError as error:
                log.error("worker-failed", extra={"reason": str(error)})
            except BaseException:
                log.exception("worker-failed")  # lawful: nobody is above to see it
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


def end_with_parent() -> None:
    """Drains: without its parent a worker is nobody's."""
    os.kill(os.getpid(), signal.SIGTERM)


def answer_parent(channel: socket.socket, answers: Answers, on_orphaned: Callable[[], None]) -> None:
    """In a worker: answers each question of the parent, by the one of its name; `on_orphaned` is called when it is gone."""
    loop = asyncio.get_running_loop()
    connecting = loop.create_task(loop.create_unix_connection(lambda: _Teller(answers, on_orphaned), sock=channel))
    connecting.add_done_callback(asyncio.Task.result)  # keeps it until then, and lets a fault be seen


class _Teller(asyncio.Protocol):
    """A worker's end of its channel. It never waits for the parent: an answer that would pile up is not given."""

    def __init__(self, answers: Answers, on_orphaned: Callable[[], None]) -> None:
        self._answers = answers
        self._on_orphaned = on_orphaned
        self._question = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream socket's Transport

    def data_received(self, data: bytes) -> None:
        self._question += data
        while (message := _taken(self._question)) is not None and self._transport is not None:
            number, raw, self._question = message
            name, *arguments = orjson.loads(raw)
            if self._transport.get_write_buffer_size() == 0:
                told = orjson.dumps(self._answers[name](*arguments))
                self._transport.write(_MESSAGE.pack(number, len(told)) + told)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_orphaned()


class Inquiry:
    """The parent's end of all channels. An answer that came too late is passed over when the next question is asked."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self._got = [bytearray() for _ in workers]
        self._number = 0

    def ask(self, name: str = METRICS, *arguments: str) -> list[Any]:
        """All that every worker tells, asked by that name. Raises OSError if one does not answer in time."""
        self._number += 1
        question = orjson.dumps([name, *arguments])
        for worker in self._workers:
            worker.channel.settimeout(_ANSWER_SECONDS)
            worker.channel.sendall(_MESSAGE.pack(self._number, len(question)) + question)
        return [
            told
            for worker, got in zip(self._workers, self._got, strict=True)
            for told in self._answer(worker.channel, got)
        ]

    def _answer(self, channel: socket.socket, got: bytearray) -> list[Any]:
        while True:
            while (message := _taken(got)) is None:
                piece = channel.recv(1 << 16)
                if not piece:
                    raise ConnectionError("a worker has ended")
                got += piece
            number, raw, rest = message
            got[:] = rest
            if number == self._number:
                told: list[Any] = orjson.loads(raw)
                return told


def _taken(got: bytes | bytearray) -> tuple[int, bytes, bytes] | None:
    """The number of the first message, what it says, and what is behind it; None if not all of it has come."""
    if len(got) < _MESSAGE.size:
        return None
    number, length = _MESSAGE.unpack_from(got)
    end = _MESSAGE.size + length
    return (number, bytes(got[_MESSAGE.size : end]), bytes(got[end:])) if len(got) >= end else None


def trail_of(file: str, number: int) -> str:
    """The audit file of a worker: the first has the file as it is configured, the others their number behind it."""
    return file if number == 1 or file == "-" else f"{file}.{number}"
