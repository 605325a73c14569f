"""Conversations: requests one after the other, as a client sends them, with the answers of an engine that is played.

Each request and answer may come in pieces, pipelined, or end the connection. Begin at `conversation`.
"""

import asyncio
import re
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tests.arms import HEAD_END, Arm, Dialogue, is_taken, without_ids
from tests.streams import Peer, World, until


@dataclass(frozen=True)
class Answer:
    """What the engine says, and in how many pieces."""

    head: bytes
    body: bytes = b""
    cuts: tuple[int, ...] = ()
    ends: bool = False

    def pieces(self, method: bytes) -> list[bytes]:
        whole = self.head + (b"" if method == b"HEAD" else self.body)
        places = [0, *sorted({cut % (len(whole) + 1) for cut in self.cuts}), len(whole)]
        return [whole[start:end] for start, end in pairwise(places) if start < end]


class PlayedEngine:
    """Gives one answer after the other, whichever connection a request comes on, and keeps what it saw."""

    def __init__(self, world: World, answers: Iterator[Answer]) -> None:
        self._world = world
        self._answers = answers
        self.requests: list[bytes] = []

    async def play(self) -> None:
        async with asyncio.TaskGroup() as connections:
            while True:
                connections.create_task(self._serve(await self._world.accept()))

    async def _serve(self, peer: Peer) -> None:
        while head := await peer.receive_until(HEAD_END):
            length = re.search(rb"Content-Length: (\d+)", head)
            self.requests.append(head + await peer.receive(int(length[1]) if length else 0))
            answer = next(self._answers)
            with suppress(BrokenPipeError, ConnectionResetError):  # the proxy ends what it cannot read
                for piece in answer.pieces(head.split(b" ")[0]):
                    await peer.send(piece)
                    await until(lambda: is_taken(peer))
            if answer.ends:
                break
        peer.close()


class Request(NamedTuple):
    """A request of a dialogue: whether it goes out in two pieces, or right behind the one before."""

    head: bytes
    cut: int
    is_pipelined: bool


def groups(requests: list[Request]) -> Iterator[list[bytes]]:
    """The pieces that are sent before the answers to them are awaited."""
    sent: list[bytes] = []
    for request in requests:
        if sent and request.is_pipelined:
            sent[-1] += request.head
            continue
        if sent:
            yield sent
        cut = request.cut % len(request.head)
        sent = [request.head[:cut], request.head[cut:]] if cut else [request.head]
    if sent:
        yield sent


def conversation(requests: list[Request], answers: list[Answer]) -> Dialogue:
    """All requests one after the other, each group when the one before is answered."""

    async def hold(arm: Arm) -> object:
        engine = PlayedEngine(arm.world, iter(answers * (len(requests) // len(answers) + 2)))
        playing = asyncio.create_task(engine.play())
        got: list[bytes] = []
        talker: Talker | None = None
        for pieces in groups(requests):
            talker = talker or Talker(arm, await arm.world.connect())
            await talker.say(pieces)
            if talker.has_ended():
                got.append(await talker.end())
                talker = None
        if talker is not None:
            got.append(await talker.end())
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        return got, engine.requests

    return hold


class Talker:
    """A client that sends requests, and collects all that comes back."""

    def __init__(self, arm: Arm, peer: Peer) -> None:
        self._arm = arm
        self._peer = peer
        self._ended = arm.world.endings[-1]
        self._receiving = asyncio.create_task(peer.receive_all())

    async def say(self, pieces: list[bytes]) -> None:
        """Sends them apart, and returns when they are answered, or nothing will be."""
        due = self._arm.told.count + b"".join(pieces).count(HEAD_END)
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                await self._peer.send(piece)
                await until(lambda: is_taken(self._peer) or self._ended.is_set())
        await until(lambda: self._arm.told.count >= due or self.has_ended())

    def has_ended(self) -> bool:
        return self._ended.is_set() or has_finished(self._peer)

    async def end(self) -> bytes:
        """Sends no more; all that came."""
        with suppress(OSError):
            self._peer.finish()
        got = without_ids(await self._receiving)
        self._peer.close()
        await self._ended.wait()
        return got


def has_finished(peer: Peer) -> bool:
    """Whether the proxy has ended its sending direction (or both) towards this client."""
    poll = select.poll()
    poll.register(peer.sock, select.POLLRDHUP)
    return bool(poll.poll(0))
