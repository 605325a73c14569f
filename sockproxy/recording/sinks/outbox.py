"""Lines that wait to be shipped to a collector behind a network.

Owns a queue with a bound. A line is taken when it is in the queue, so a process that is killed loses what waits there; when
the queue is full the sink fails, and `on_failure` says what follows. Must not know how lines are shipped: `wake` tells who
does. Begin at `Outbox.write`.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice


class Outbox:
    """The queue of one collector."""

    file = None

    def __init__(self, name: str, bytes_max: int, wake: Callable[[], None]) -> None:
        self.name = name
        self._bytes_max = bytes_max
        self._wake = wake
        self._lines: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        """Takes as many whole lines as there is room for."""
        room = self._bytes_max - self._bytes
        kept = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, max(0, room)) + 1
        if kept:
            self._lines.extend(lines[: kept - 1].split(b"\n"))
            self._bytes += kept
            self._wake()
        return kept

    def first(self, count_max: int, bytes_max: int) -> list[bytes]:
        """The lines that wait longest, without their newlines: one at least, if there is one."""
        lines: list[bytes] = []
        size = 0
        for line in islice(self._lines, count_max):
            size += len(line)
            if lines and size > bytes_max:
                break
            lines.append(line)
        return lines

    def forget(self, count: int) -> None:
        """So many of them are where they should be."""
        for _ in range(count):
            self._bytes -= len(self._lines.popleft()) + 1

    def close(self) -> None:
        """What waits is still shipped, by whoever does it."""
