"""Pipes between programs and to connections, and the bell that wakes those who wait for a change.

Owns order and back-pressure of bytes inside the demo engine. Must not know programs, terminals or connections.
"""

import asyncio
from collections import deque

READ_BYTES_MAX = 64 << 10
LINE_BYTES_MAX = 64 << 10  # a longer line comes in parts


class ReaderGone(Exception):
    """Nobody will read any more. Not an OSError, which for a program is a matter of its files."""


class Bell:
    """Wakes everyone who waits. What has changed they look up themselves, without waiting in between."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    async def wait(self) -> None:
        await self._rung.wait()


class Pipe:
    """A bounded queue of bytes with two ends, each of which can go away."""

    __slots__ = ("_bell", "_bytes_max", "_chunks", "_has_ended", "_is_abandoned", "_size")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._has_ended = False
        self._is_abandoned = False
        self._bell = Bell()

    async def write(self, chunk: bytes) -> None:
        """Waits for room. Raises ReaderGone."""
        while self._size >= self._bytes_max and not self._is_abandoned:
            await self._bell.wait()
        if self._is_abandoned:
            raise ReaderGone
        self.offer(chunk)

    def offer(self, chunk: bytes) -> None:
        """Writes without waiting; what has no room is lost, as in a terminal's input queue."""
        if chunk and not self._has_ended and not self._is_abandoned and self._size < self._bytes_max:
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._bell.ring()

    def end(self) -> None:
        """The writer is gone: a reader gets what is left, then the end, for ever."""
        self._has_ended = True
        self._bell.ring()

    def end_once(self) -> None:
        """One read gives the end, later ones go on: what Control-D does on a terminal."""
        self._chunks.append(b"")
        self._bell.ring()

    def abandon(self) -> None:
        """The reader is gone."""
        self._is_abandoned = True
        self._chunks.clear()
        self._bell.ring()

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """At least one byte, or nothing at the end."""
        while not self._chunks:
            if self._has_ended or self._is_abandoned:
                return b""
            await self._bell.wait()
        chunk = self._chunks.popleft()
        if len(chunk) > bytes_max:
            self._chunks.appendleft(chunk[bytes_max:])
            chunk = chunk[:bytes_max]
        self._size -= len(chunk)
        self._bell.ring()
        return chunk

    async def read_line(self) -> bytes:
        """A line with its line feed; without one at the end; nothing after the end."""
        line = bytearray()
        while len(line) < LINE_BYTES_MAX and (chunk := await self.read()):
            end = chunk.find(b"\n") + 1
            if not end:
                line += chunk
                continue
            line += chunk[:end]
            if rest := chunk[end:]:
                self._chunks.appendleft(rest)
                self._size += len(rest)
            break
        return bytes(line)
