"""The log of a container: `GET /containers/{id}/logs`, and what an attach replays of it.

Owns which lines are asked for and how they are framed. Must not know how lines are kept (`journal`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from sockproxy.operating.demo.api.answers import stream_answer
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.api.hijack import frame
from sockproxy.operating.demo.objects.journal import Line
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Container
from sockproxy.operating.demo.objects.times import parse_unix_time, rfc3339_padded


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines a client asks for, and in which form."""

    streams: frozenset[int]
    since_ns: int
    until_ns: int
    has_times: bool
    has_frames: bool

    def takes(self, line: Line) -> bool:
        is_in_time = line.time_ns >= self.since_ns and (not self.until_ns or line.time_ns <= self.until_ns)
        return line.stream in self.streams and is_in_time

    def form(self, line: Line) -> bytes:
        text = f"{rfc3339_padded(line.time_ns)} ".encode() + line.text if self.has_times else line.text
        return frame(line.stream, text) if self.has_frames else text


async def logs(call: Call) -> web.StreamResponse:
    """The lines so far, then, if the client follows, those that come until the container's program ends."""
    container = call.state.container(call.name)
    choice = _choice(call, container)
    follows = call.flag("follow")
    ends = container.ends
    answer = await stream_answer(call.request)
    last = container.journal.last_number
    for line in _tail(filter(choice.takes, container.journal.after(0)), call.text("tail")):
        await answer.write(choice.form(line))
    while follows:
        is_over = not container.is_running or container.ends > ends
        for line in container.journal.after(last):
            last = line.number
            if choice.takes(line):
                await answer.write(choice.form(line))
        is_late = choice.until_ns and call.state.clock() > choice.until_ns
        if is_over or is_late or await call.until_client_ends(_next(container, last, ends)) is None:
            break
    return answer


async def _next(container: Container, last: int, ends: int) -> bool:
    """Waits for a line behind `last`, or for the end of the program."""
    while container.journal.last_number <= last and container.is_running and container.ends == ends:
        await container.journal.bell.wait()
    return True


def _choice(call: Call, container: Container) -> Choice:
    streams = {1 if call.flag("stdout") else 0, 2 if call.flag("stderr") else 0} - {0}
    if not streams:
        raise Refused(400, "Bad parameters: you must choose at least one stream")
    try:
        since_ns, until_ns = (parse_unix_time(call.text(key) or "0") for key in ("since", "until"))
    except ValueError as fault:
        raise Refused(500, str(fault)) from None
    has_frames = not container.config["Tty"]
    return Choice(frozenset(streams), since_ns, until_ns, call.flag("timestamps"), has_frames)


def _tail(lines: Iterable[Line], text: str) -> list[Line]:
    """The last so many; what is no number means all, as with the engine."""
    chosen = list(lines)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return chosen
    return chosen[-int(text) :] if int(text) else []


def replay_of(container: Container, *, stdout: bool, stderr: bool) -> bytes:
    """The log as an attach with `logs=1` gets it first."""
    choice = Choice(
        frozenset({1} if stdout else ()) | frozenset({2} if stderr else ()), 0, 0, False, not container.config["Tty"]
    )
    return b"".join(choice.form(line) for line in container.journal.after(0) if choice.takes(line))
