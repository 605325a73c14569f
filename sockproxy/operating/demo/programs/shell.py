"""The demo shell: runs the trees of `shell_syntax` in the surroundings of a process.

Owns variables, redirection, pipelines, traps and the prompt. What can be run is the table of programs that the
surroundings hold, besides the shell's own commands (`shell_commands`). Must not know containers or connections. Begin
at `Shell.run_script` and `Shell.run_lines`.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from sockproxy.operating.demo.programs import shell_expansion as expansion
from sockproxy.operating.demo.programs import shell_syntax as syntax
from sockproxy.operating.demo.programs.files import resolve
from sockproxy.operating.demo.programs.pipes import Pipe, ReaderGone
from sockproxy.operating.demo.programs.process import Invocation, Write, encode
from sockproxy.operating.demo.programs.shell_words import Part, ShellSyntaxError, Word

PIPE_BYTES_MAX = 64 << 10
SUBSTITUTION_BYTES_MAX = 128 << 10
ARGUMENTS_CHARACTERS_MAX = 512 << 10
VARIABLES_MAX = 500
DEPTH_MAX = 20  # of subshells and command substitutions inside each other
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE
NOT_FOUND = 127
ON_EXIT = 0  # `trap ... EXIT` has the number 0

T = TypeVar("T")


class Streams(NamedTuple):
    """Where a command reads from and writes to."""

    stdin: Pipe
    stdout: Write
    stderr: Write


class Exit(Exception):
    """The shell ends with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class LeaveLoop(Exception):
    """`break`, or `continue`."""

    def __init__(self, goes_on: bool) -> None:
        super().__init__()
        self.goes_on = goes_on


OwnCommand = Callable[["Shell", Invocation], Awaitable[int]]


class Shell:
    """One shell with its variables. Subshells are copies."""

    def __init__(
        self, call: Invocation, own_commands: Mapping[str, OwnCommand], positional: tuple[str, ...], depth: int = 0
    ) -> None:
        self.call = call
        self.own_commands = own_commands
        self.positional = positional
        self.depth = depth
        self.exported = dict(call.environment)
        self.variables = dict(call.environment)
        self.directory = call.directory
        self.status = 0
        self.loops = 0  # that this shell is inside of
        self.traps: dict[int, str] = {}
        self.pending: list[str] = []
        self._job: asyncio.Future[object] | None = None

    @property
    def streams(self) -> Streams:
        return Streams(self.call.stdin, self.call.stdout, self.call.stderr)

    async def run_script(self, text: str) -> int:
        """Runs a whole script to its end, with the trap for EXIT."""
        return await self._ending(self._run_text(text, self.streams))

    async def run_lines(self) -> int:
        """Reads and runs line after line, with a prompt where there is a terminal."""
        if self.call.process.terminal:
            self.call.process.listeners[signal.SIGINT] = self._interrupt
        return await self._ending(self._read_lines())

    async def execute(self, node: syntax.Node, streams: Streams) -> int:
        """Runs a tree and gives its status, which is `$?` then."""
        self.status = await _RUN[type(node)](self, node, streams)
        return self.status

    async def _ending(self, work: Awaitable[int]) -> int:
        try:
            self.status = await work
        except Exit as leave:
            self.status = leave.status
        if script := self.traps.pop(ON_EXIT, ""):
            await self._run_text(script, self.streams)
        return self.status

    async def _run_text(self, text: str, streams: Streams) -> int:
        try:
            return await self.execute(syntax.parse(text, self.depth), streams)
        except ShellSyntaxError as fault:
            await streams.stderr(encode(f"sh: {fault}\n"))
            return 2

    async def _read_lines(self) -> int:
        text = ""
        while True:
            await self._prompt(text)
            line = await self._interruptible(self.call.stdin.read_line())
            if line == b"":
                return self.status
            text = "" if line is None else await self._run_if_whole(text + line.decode(errors="surrogateescape"))

    async def _prompt(self, unfinished: str) -> None:
        if self.call.process.terminal:
            prompt = "> " if unfinished else f"{self.directory} # "
            await self.call.stderr(encode(prompt))

    async def _run_if_whole(self, text: str) -> str:
        """Runs what is a whole script, and gives back what is only the beginning of one."""
        try:
            syntax.parse(text)
        except ShellSyntaxError as fault:
            if fault.is_unfinished:
                return text
        if await self._interruptible(self._run_text(text, self.streams)) is None:
            self.status = INTERRUPTED
        return ""

    async def _interruptible(self, work: Awaitable[T]) -> T | None:
        """Waits for a piece of work that Control-C ends; then the result is None."""
        job = asyncio.ensure_future(work)
        self._job = job  # type: ignore[assignment]  # Future is invariant, and only cancel() is called
        try:
            await asyncio.wait({job})
        finally:
            self._job = None
            if not job.done():
                job.cancel()
                await asyncio.wait({job})
        return None if job.cancelled() else job.result()

    def _interrupt(self) -> None:
        if self._job:
            self._job.cancel()

    async def run_simple(self, node: syntax.Simple, streams: Streams) -> int:
        await asyncio.sleep(0)  # a script that loops without waiting must not keep the engine from everything else
        try:
            arguments = await self._arguments(node.words, streams)
            streams = await self._redirect(node.redirections, streams)
            values = {name: await self._text(word, streams) for name, word in node.assignments}
        except (OSError, ShellSyntaxError) as fault:
            await streams.stderr(encode(f"sh: {fault}\n"))
            return 1
        if not arguments:
            self.assign(values)
            return self.status if any(part.kind == "command" for _, word in node.assignments for part in word) else 0
        status = await self._run_command(tuple(arguments), values, streams)
        await self._run_pending(streams)
        return status

    async def _run_command(self, arguments: tuple[str, ...], extra: Mapping[str, str], streams: Streams) -> int:
        call = Invocation(
            arguments=arguments,
            environment={**self.exported, **extra},
            directory=self.directory,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            process=self.call.process,
            surroundings=self.call.surroundings,
        )
        if own := self.own_commands.get(arguments[0]):
            return await own(self, call)
        if program := call.surroundings.programs.get(arguments[0].rpartition("/")[2]):
            return await program(call)
        await call.complain(f"sh: {arguments[0]}: not found")
        return NOT_FOUND

    def assign(self, values: Mapping[str, str]) -> None:
        """Sets variables, and the environment of those that are exported. Raises ShellSyntaxError if there are too many."""
        if len(self.variables) + len(values) > VARIABLES_MAX + len(self.call.environment):
            raise ShellSyntaxError("too many variables")
        self.variables.update(values)
        self.exported.update({name: value for name, value in values.items() if name in self.exported})

    async def _run_pending(self, streams: Streams) -> None:
        """Runs the traps of signals that came meanwhile; a command is never interrupted by one."""
        while self.pending:
            status = self.status
            await self._run_text(self.pending.pop(0), streams)
            self.status = status

    async def _redirect(self, redirections: Sequence[syntax.Redirection], streams: Streams) -> Streams:
        for redirection in redirections:
            target = await self._text(redirection.target, streams)
            if redirection.mode == "<":
                streams = streams._replace(stdin=self._opened(target))
            elif redirection.mode == "&":
                streams = _with(streams, redirection.stream, streams.stderr if target == "2" else streams.stdout)
            else:
                streams = _with(streams, redirection.stream, self._writer(target, redirection.mode, streams))
        return streams

    def _opened(self, target: str) -> Pipe:
        pipe = Pipe(1 << 62)  # a file is there as a whole
        if target != "/dev/null":
            pipe.offer(self.call.surroundings.files.read(resolve(self.directory, target)))
        pipe.end()
        return pipe

    def _writer(self, target: str, mode: str, streams: Streams) -> Write:
        """Raises OSError, as opening a file does."""
        known = {"/dev/null": _discard, "/dev/stdout": streams.stdout, "/dev/stderr": streams.stderr}
        if write := known.get(target):
            return write
        files, path = self.call.surroundings.files, resolve(self.directory, target)
        keeps = mode == ">>" and files.kind(path) == "file"
        files.write(path, files.read(path) if keeps else b"")

        async def append(chunk: bytes) -> None:
            files.write(path, files.read(path) + chunk)

        return append

    async def run_pipeline(self, node: syntax.Pipeline, streams: Streams) -> int:
        status = await (
            self._run_piped(node.commands, streams)
            if len(node.commands) > 1
            else self.execute(node.commands[0], streams)
        )
        return int(not status) if node.is_negated else status

    async def _run_piped(self, commands: Sequence[syntax.Node], streams: Streams) -> int:
        pipes = [Pipe(PIPE_BYTES_MAX) for _ in commands[1:]]
        sources = [streams.stdin, *pipes]
        targets = [*pipes, None]
        async with asyncio.TaskGroup() as group:
            jobs = [
                group.create_task(self._run_part(command, streams._replace(stdin=source), target))
                for command, source, target in zip(commands, sources, targets, strict=True)
            ]
        return jobs[-1].result()

    async def _run_part(self, command: syntax.Node, streams: Streams, target: Pipe | None) -> int:
        """One command of a pipeline, in a subshell; afterwards its neighbours learn that it is gone."""
        own_streams = streams._replace(stdout=target.write) if target else streams
        try:
            return await self.run_subshell(command, own_streams)
        except ReaderGone:
            return BROKEN_PIPE
        finally:
            if target:
                target.end()
            if streams.stdin is not self.call.stdin:
                streams.stdin.abandon()

    async def run_subshell(self, command: syntax.Node, streams: Streams) -> int:
        """Runs a tree in a copy of this shell: what it changes is not seen here."""
        if self.depth >= DEPTH_MAX:
            await streams.stderr(b"sh: too many subshells inside each other\n")
            return 2
        copy = Shell(self.call, self.own_commands, self.positional, self.depth + 1)
        copy.exported, copy.variables = dict(self.exported), dict(self.variables)
        copy.directory, copy.status = self.directory, self.status
        try:
            return await copy.execute(command, streams)
        except Exit as leave:
            return leave.status

    async def run_chain(self, node: syntax.Chain, streams: Streams) -> int:
        status = await self.execute(node.first, streams)
        for operator, command in node.links:
            if (status == 0) == (operator == "&&"):
                status = await self.execute(command, streams)
        return status

    async def run_sequence(self, node: syntax.Sequence, streams: Streams) -> int:
        status = 0
        for command in node.commands:
            status = await self.execute(command, streams)
        return status

    async def run_condition(self, node: syntax.Condition, streams: Streams) -> int:
        for test, body in node.branches:
            if await self.execute(test, streams) == 0:
                return await self.execute(body, streams)
        return await self.execute(node.otherwise, streams) if node.otherwise else 0

    async def run_loop(self, node: syntax.Loop, streams: Streams) -> int:
        while (await self.execute(node.condition, streams) == 0) == node.goes_on_while:
            if not await self._run_pass(node.body, streams):
                break
        return 0

    async def run_for_each(self, node: syntax.ForEach, streams: Streams) -> int:
        for value in await self._arguments(node.words, streams):
            self.assign({node.name: value})
            if not await self._run_pass(node.body, streams):
                return 0
        return self.status if node.words else 0

    async def _run_pass(self, body: syntax.Node, streams: Streams) -> bool:
        """One pass of a loop; False if it was left by `break`."""
        self.loops += 1
        try:
            await self.execute(body, streams)
        except LeaveLoop as leave:
            return leave.goes_on
        finally:
            self.loops -= 1
        return True

    async def run_group(self, node: syntax.Group, streams: Streams) -> int:
        try:
            streams = await self._redirect(node.redirections, streams)
        except OSError as fault:
            await streams.stderr(encode(f"sh: {fault}\n"))
            return 1
        return await (self.run_subshell if node.is_subshell else self.execute)(node.body, streams)

    async def _arguments(self, words: Sequence[Word], streams: Streams) -> list[str]:
        """All words as arguments. Raises OSError if they are too many, as the kernel does."""
        arguments: list[str] = []
        size = 0
        for word in words:
            fields = await expansion.expand_fields(word, partial(self._value, streams), self.positional)
            size += sum(map(len, fields)) + len(fields)
            if size > ARGUMENTS_CHARACTERS_MAX:
                raise OSError("Argument list too long")
            arguments += fields
        return arguments

    async def _text(self, word: Word, streams: Streams) -> str:
        return await expansion.expand_text(word, partial(self._value, streams))

    async def _value(self, streams: Streams, part: Part) -> str:
        """What a piece of a word expands to."""
        if part.kind == "command":
            return await self._output_of(part.text, streams)
        if part.kind == "arithmetic":
            return str(expansion.evaluate(part.text, self._parameters()))
        value, assignment = expansion.expand_parameter(part.text, self._parameters())
        if assignment:
            self.assign(dict([assignment]))
        return value

    def _parameters(self) -> dict[str, str]:
        special = {"?": str(self.status), "$": str(self.call.process.pid), "#": str(len(self.positional)), "0": "sh"}
        numbered = {str(number): value for number, value in enumerate(self.positional, 1)}
        return {**self.variables, **special, **numbered, "@": " ".join(self.positional), "*": " ".join(self.positional)}

    async def _output_of(self, text: str, streams: Streams) -> str:
        output = bytearray()

        async def collect(chunk: bytes) -> None:
            if len(output) + len(chunk) > SUBSTITUTION_BYTES_MAX:
                raise ReaderGone
            output.extend(chunk)

        try:
            tree = syntax.parse(text, self.depth + 1)
            self.status = await self.run_subshell(tree, streams._replace(stdout=collect))
        except ReaderGone:
            self.status = BROKEN_PIPE
        return output.decode(errors="surrogateescape").rstrip("\n")


async def _discard(_chunk: bytes) -> None:
    """What `/dev/null` does."""


def _with(streams: Streams, number: int, write: Write) -> Streams:
    return streams._replace(stderr=write) if number == 2 else streams._replace(stdout=write)


_RUN: dict[type, Callable[..., Awaitable[int]]] = {
    syntax.Simple: Shell.run_simple,
    syntax.Pipeline: Shell.run_pipeline,
    syntax.Chain: Shell.run_chain,
    syntax.Sequence: Shell.run_sequence,
    syntax.Condition: Shell.run_condition,
    syntax.Loop: Shell.run_loop,
    syntax.ForEach: Shell.run_for_each,
    syntax.Group: Shell.run_group,
}
