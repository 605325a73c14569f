"""Scoop: every read goes into one buffer that all relays share, and what goes on is sent straight out of it.

Owns that buffer, and reading into it in place of a stream. Must not know what the bytes are for: whoever gets them may
look at them during the call, and keeps a copy of what it needs longer. Begin at `Scoop`. A stream's own way makes a new
object of every read, which costs as much as the kernel's copying.
"""

import asyncio
import mmap
import os
from collections.abc import Callable

from sockproxy.forwarding.moving.stream import Stream

BUFFER_BYTES = 256 << 10
"""More than a socket holds by default, so that one read takes what is there."""

# Pages of it are in memory only as far as something was read into them; and private, since workers are forked.
_buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Scoop(asyncio.BufferedProtocol):
    """Reads from `source` in its place, gives each piece to `take`, and sends to `target`. Everything else that happens to
    the source's connection is the stream's, as ever.

    hot: the fast twin of `Stream.data_received` and `Stream.write_from`. To HAProxy's CPU for a GiB in chunks: 0.64 down and
    0.80 up by the plain way, 0.53 and 0.61 by this one (benchmarks, down-chunked and up-chunked)."""

    __slots__ = ("_source", "_take", "_target", "_to")

    def __init__(self, source: Stream, target: Stream, take: Callable[[memoryview], None]) -> None:
        self._source = source
        self._target = target
        self._take = take
        self._to = -1

    def start(self) -> bool:
        """Takes over; False where that cannot be done."""
        self._to = self._target.lend(self.stop) if self._source.is_raw else -1
        if self._to < 0:
            return False
        self._source.read_by(self)
        return True

    def stop(self) -> None:
        """Hands back to the stream."""
        if self._to >= 0:
            self._target.end_loan(self.stop)
            self._to = -1
            self._source.read_by(self._source)

    def send(self, data: bytes | memoryview) -> None:
        """To the target: what it does not take at once is copied and left to its stream."""
        sent = 0
        if self._to >= 0 and not self._target.unsent_bytes:
            try:
                sent = os.write(self._to, data)
            except OSError:
                sent = 0  # lawful: it is full; or it is broken, and its transport meets the same when it writes
        if sent < len(data):
            self._target.write_from(self._source, bytes(data[sent:]))

    # --- what the event loop calls

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._take(_buffer[:nbytes])

    def eof_received(self) -> bool:
        return self._source.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._source.connection_lost(exc)

    def pause_writing(self) -> None:
        self._source.pause_writing()

    def resume_writing(self) -> None:
        self._source.resume_writing()
