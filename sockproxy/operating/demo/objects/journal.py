"""The log of a container: what its program wrote, line by line, with stream and time.

Owns the cutting into lines, the bound and the order. Must not know who reads it, nor how a line is framed on the wire.
"""

from collections import deque
from itertools import islice
from typing import NamedTuple

from sockproxy.operating.demo.programs.pipes import Bell

PART_BYTES_MAX = 16 << 10  # dockerd cuts longer lines into parts of this size, too


class Line(NamedTuple):
    """One line as the engine's json-file log keeps it. `number` counts from 1 for ever."""

    number: int
    time_ns: int
    stream: int
    text: bytes


class Journal:
    """Lines in order, the oldest dropped when there is too much. `bell` rings for a new line and when a run ends."""

    __slots__ = ("_bytes_max", "_count", "_lines", "_open", "_size", "bell")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lines: deque[Line] = deque()
        self._size = 0
        self._count = 0
        self._open: dict[int, bytes] = {}
        self.bell = Bell()

    def append(self, stream: int, chunk: bytes, time_ns: int) -> None:
        """Takes bytes as the program wrote them; a line without its line feed is held until it or the end comes."""
        *lines, rest = (self._open.pop(stream, b"") + chunk).split(b"\n")
        for text in lines:
            self._add(stream, text + b"\n", time_ns)
        while len(rest) >= PART_BYTES_MAX:
            self._add(stream, rest[:PART_BYTES_MAX], time_ns)
            rest = rest[PART_BYTES_MAX:]
        if rest:
            self._open[stream] = rest

    def end_run(self, time_ns: int) -> None:
        """The program has ended: what is open becomes a line, and followers are woken."""
        for stream, rest in self._open.items():
            self._add(stream, rest, time_ns)
        self._open.clear()
        self.bell.ring()

    @property
    def last_number(self) -> int:
        return self._count

    def after(self, number: int) -> list[Line]:
        """The lines behind that number which are still there."""
        first = self._lines[0].number if self._lines else 1
        return list(islice(self._lines, max(0, number - first + 1), None))

    def _add(self, stream: int, text: bytes, time_ns: int) -> None:
        self._count += 1
        self._lines.append(Line(self._count, time_ns, stream, text))
        self._size += len(text)
        while self._size > self._bytes_max and len(self._lines) > 1:
            self._size -= len(self._lines.popleft().text)
        self.bell.ring()
