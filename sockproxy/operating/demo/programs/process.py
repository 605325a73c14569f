"""A running program: its standard streams, terminal, signals and end.

Owns when a program may go on (pause), who gets what it writes (`sinks`), and what a signal does to it. A program itself
is a coroutine function of an `Invocation`. Must not know containers, execs or HTTP. Begin at `Process.start`.
"""

import asyncio
import logging
import re
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sockproxy.operating.demo.programs.files import Files
from sockproxy.operating.demo.programs.pipes import Pipe, ReaderGone
from sockproxy.operating.demo.programs.terminal import Terminal

STDOUT, STDERR = 1, 2
KILLED = 128 + signal.SIGKILL
CRASHED = 128 + signal.SIGSEGV
HARMLESS = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
"""What ends no program that does not listen. Stop signals are not imitated: `docker pause` is another thing."""

Write = Callable[[bytes], Awaitable[None]]
Sink = Callable[[int, bytes], Awaitable[None]]

_log = logging.getLogger("sockproxy.demo")


@dataclass(slots=True)
class Surroundings:
    """What a program sees of its container."""

    hostname: str
    files: Files
    programs: "Mapping[str, Program]"
    clock: Callable[[], int]
    processes: "Callable[[], list[Process]]"


class Process:
    """One program that runs. As in a container with an init, a signal without listener ends it, even process 1."""

    def __init__(
        self, pid: int, host_pid: int, arguments: tuple[str, ...], user: str, has_terminal: bool, stdin: Pipe
    ) -> None:
        self.pid = pid
        self.host_pid = host_pid
        self.arguments = arguments
        self.user = user
        self.stdin = stdin
        self.terminal = Terminal(stdin, self.signal) if has_terminal else None
        self.sinks: list[Sink] = []
        self.listeners: dict[int, Callable[[], None]] = {}
        self.started_ns = 0
        self.exit_code: int | None = None
        self._ended = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._task: asyncio.Task[int] | None = None
        self._signal = 0

    def start(self, main: Coroutine[Any, Any, int], started_ns: int, ended: "Callable[[Process], None]") -> None:
        """Lets the program run; `ended` is called once, before those wake up who wait for the end."""
        self.started_ns = started_ns
        self._task = asyncio.create_task(main)
        self._task.add_done_callback(partial(self._finish, ended))

    def _finish(self, ended: "Callable[[Process], None]", task: "asyncio.Task[int]") -> None:
        self.exit_code = self._exit_code_of(task)
        self.stdin.abandon()
        ended(self)
        self._ended.set()

    def _exit_code_of(self, task: "asyncio.Task[int]") -> int:
        if task.cancelled():
            return 128 + self._signal if self._signal else KILLED
        if fault := task.exception():
            _log.error("program-fault", extra={"program": self.arguments[:1]}, exc_info=fault)
            return CRASHED
        return task.result() & 0xFF

    @property
    def is_running(self) -> bool:
        return self._task is not None and self.exit_code is None

    async def wait(self) -> None:
        await self._ended.wait()

    def dismiss(self) -> None:
        """Gives up a process that was never started: those who wait for its end go on."""
        if self._task is None:
            self._ended.set()

    async def close(self) -> None:
        """Ends the program, and waits until nothing of it is left."""
        self.signal(signal.SIGKILL)
        if self._task:
            await asyncio.wait({self._task})

    async def write(self, stream: int, chunk: bytes) -> None:
        """Writes to all sinks, and waits for the slowest; a sink that is gone is forgotten."""
        await self._going.wait()
        if self.terminal:
            stream, chunk = STDOUT, chunk.replace(b"\n", b"\r\n")
        await self._deliver(stream, chunk)

    async def _deliver(self, stream: int, chunk: bytes) -> None:
        for sink in tuple(self.sinks):
            try:
                await sink(stream, chunk)
            except ConnectionError:
                self.drop(sink)

    def drop(self, sink: Sink) -> None:
        if sink in self.sinks:
            self.sinks.remove(sink)

    async def feed(self, chunk: bytes) -> None:
        """Takes what a client sent for the standard input. What nobody will read any more is lost."""
        if self.terminal is None:
            try:
                await self.stdin.write(chunk)
            except ReaderGone:
                return
        elif echo := self.terminal.typed(chunk):
            await self._deliver(STDOUT, echo)

    def resize(self, rows: int, columns: int) -> None:
        """A new size of the terminal; without one nothing happens, as with the engine."""
        if self.terminal and (rows, columns) != (self.terminal.rows, self.terminal.columns):
            self.terminal.rows, self.terminal.columns = rows, columns
            self.signal(signal.SIGWINCH)

    def signal(self, number: int) -> None:
        """Tells a listener, or ends the program."""
        if self._task is None or self._task.done():
            return
        if number != signal.SIGKILL and (listener := self.listeners.get(number)):
            listener()
        elif number not in HARMLESS:
            self._signal = number
            self._going.set()
            self._task.cancel()

    def freeze(self) -> None:
        self._going.clear()

    def thaw(self) -> None:
        self._going.set()


def encode(text: str) -> bytes:
    """Text as a program writes it: bytes that were no UTF-8 come out as they came in, and half a character as `?`."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


@dataclass(slots=True)
class Invocation:
    """One call of a program: what it was given. Commands inside a shell share the shell's process."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    stdin: Pipe
    stdout: Write
    stderr: Write
    process: Process
    surroundings: Surroundings

    async def print(self, *lines: str) -> None:
        await self.stdout(encode("".join(f"{line}\n" for line in lines)))

    async def complain(self, message: str) -> None:
        await self.stderr(encode(f"{message}\n"))


Program = Callable[[Invocation], Coroutine[Any, Any, int]]


def parse_signal(text: str) -> int:
    """The number of `TERM`, `sigterm` or `15`. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,2}", text, re.ASCII):
        return int(signal.Signals(int(text)))
    name = text.upper().removeprefix("SIG")
    if not re.fullmatch(r"[A-Z0-9+]+", name, re.ASCII) or f"SIG{name}" not in signal.Signals.__members__:
        raise ValueError(text)
    return int(signal.Signals[f"SIG{name}"])


def invocation_of(
    process: Process, environment: Mapping[str, str], directory: str, surroundings: Surroundings
) -> Invocation:
    """The call with which a process begins: its streams are the process's own."""
    return Invocation(
        arguments=process.arguments,
        environment=environment,
        directory=directory,
        stdin=process.stdin,
        stdout=partial(process.write, STDOUT),
        stderr=partial(process.write, STDERR),
        process=process,
        surroundings=surroundings,
    )
