"""The new sizes of terminals, from worker to worker: a resize comes to any of them, and not always to the one that records.

Owns how they tell one another. Must not know what becomes of a size (`recording.terminals`). Begin at `Round`.

Each worker has a socket on which it hears, and one of every other on which it tells. What does not fit into it is lost, and
nobody waits: the session goes on, and its recording lacks one change of size.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import orjson

Hear = Callable[[str, int, int], None]
"""Told of a container or exec by its name in a path, of columns and rows."""

_TELLING_BYTES_MAX = 4096  # a name in a path, and two numbers; what names more is no container


class Party(NamedTuple):
    """What one worker has: where it hears, and where it tells each of the others."""

    ears: socket.socket
    others: tuple[socket.socket, ...]

    def tell(self, name: str, columns: int, rows: int) -> None:
        """Tells all others."""
        telling = orjson.dumps((name, columns, rows))
        for other in self.others if len(telling) <= _TELLING_BYTES_MAX else ():
            with suppress(OSError):  # lawful: it has ended, or has not caught up; a size is nothing to wait for
                other.send(telling)

    def listen(self, hear: Hear) -> None:
        """From now on `hear` is told what the others tell."""
        asyncio.get_running_loop().add_reader(self.ears, self._hear, hear)

    def _hear(self, hear: Hear) -> None:
        with suppress(BlockingIOError):  # lawful: all is heard
            while telling := self.ears.recv(_TELLING_BYTES_MAX):
                hear(*orjson.loads(telling))


class Round:
    """The sockets of all workers, made before they are."""

    def __init__(self, count: int) -> None:
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        for pair in self._pairs:
            for end in pair:
                end.setblocking(False)

    def party(self, number: int) -> Party:
        """In the worker of that number, from 1 on: its own. The others' ears are closed here."""
        ears, mouth = self._pairs[number - 1]
        others = [pair for pair in self._pairs if pair[0] is not ears]
        mouth.close()
        _close([pair[0] for pair in others])
        return Party(ears, tuple(pair[1] for pair in others))

    def close(self) -> None:
        """In the parent, which takes no part."""
        _close([end for pair in self._pairs for end in pair])


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
