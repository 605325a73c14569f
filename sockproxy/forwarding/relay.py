"""Moving bytes from one stream to another: one framed body, or both directions of a tunnel.

Owns how a body is cut out of a connection's bytes, back-pressure between two streams, half-close, counting. Must not know
operations, rules, metrics, or what a head is. Begin at `Relay`; the *cuts* below it say where a body ends and in which
framing it goes on.

A relay works by callbacks, without a task of its own: it may run while the connection's coroutine waits for something else
(an upload while the engine's head is due), and it costs one wake-up for a whole body.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from sockproxy.errors import BadRequest, BadRequestReason, PeerGone, Side
from sockproxy.forwarding.stream import Stream
from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind


class Cut(Protocol):
    """Cuts one body out of the bytes of a connection and says what is sent on for them."""

    @property
    def is_done(self) -> bool:
        """The body's last byte was among those seen."""

    @property
    def ends_with_connection(self) -> bool:
        """The end of the connection is the end of the body."""

    @property
    def count(self) -> int:
        """Bytes of the body so far, without framing."""

    def cut(self, data: bytes) -> tuple[bytes | memoryview, int]:
        """What to send on for `data`, and how many bytes of it belonged to the body. Raises BadRequest."""


class LengthCut:
    """A body of a known length, sent on as it is."""

    __slots__ = ("_remaining", "count", "is_done")
    ends_with_connection = False

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.count = 0
        self.is_done = length == 0

    def cut(self, data: bytes) -> tuple[bytes | memoryview, int]:
        size = min(len(data), self._remaining)
        self._remaining -= size
        self.count += size
        self.is_done = self._remaining == 0
        return (data if size == len(data) else memoryview(data)[:size]), size


class ConnectionCut:
    """Whatever comes until the connection ends, sent on as it is: old answers, and tunnels."""

    __slots__ = ("count", "is_done")
    ends_with_connection = True

    def __init__(self) -> None:
        self.count = 0
        self.is_done = False

    def cut(self, data: bytes) -> tuple[bytes | memoryview, int]:
        self.count += len(data)
        return data, len(data)


class ChunkedCut:
    """A chunked body; `encode` says in which form the pieces found in one read go on."""

    __slots__ = ("_body", "_encode", "count", "is_done")
    ends_with_connection = False

    def __init__(
        self, encode: Callable[[http1.ChunkedBody, bytes, Sequence[bytes | memoryview]], bytes | memoryview]
    ) -> None:
        self._body = http1.ChunkedBody()
        self._encode = encode
        self.count = 0
        self.is_done = False

    def cut(self, data: bytes) -> tuple[bytes | memoryview, int]:
        pieces = self._body.feed(data)
        self.count += sum(map(len, pieces))
        self.is_done = self._body.done
        return self._encode(self._body, data, pieces), self._body.consumed


def _as_it_came(body: http1.ChunkedBody, data: bytes, pieces: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """The engine's framing was checked and is canonical enough: nothing is copied."""
    return data if body.consumed == len(data) else memoryview(data)[: body.consumed]


def _in_own_chunks(body: http1.ChunkedBody, data: bytes, pieces: Sequence[bytes | memoryview]) -> bytes:
    """A client's framing never reaches the engine: one chunk for each read, in canonical form."""
    chunk = http1.encode_chunk(b"".join(pieces)) if pieces else b""
    return chunk + http1.serialise_trailers(body.trailers) if body.done else chunk


def _without_chunks(body: http1.ChunkedBody, data: bytes, pieces: Sequence[bytes | memoryview]) -> bytes:
    """For HTTP/1.0 clients, who know no chunks."""
    return b"".join(pieces)


def request_cut(framing: Framing) -> Cut:
    """How a client's body goes on to the engine."""
    if framing.kind is FramingKind.CHUNKED:
        return ChunkedCut(_in_own_chunks)
    return LengthCut(framing.length if framing.kind is FramingKind.LENGTH else 0)


def response_cut(framing: Framing, *, knows_chunks: bool) -> Cut:
    """How the engine's body goes on to a client."""
    if framing.kind is FramingKind.CHUNKED:
        return ChunkedCut(_as_it_came if knows_chunks else _without_chunks)
    if framing.kind is FramingKind.UNTIL_CLOSE:
        return ConnectionCut()
    return LengthCut(framing.length if framing.kind is FramingKind.LENGTH else 0)


class DiscardingCut:
    """A body that nobody gets, up to `bytes_max` of it; above that it raises BadRequest (413)."""

    __slots__ = ("_bytes_max", "_cut")

    def __init__(self, cut: Cut, bytes_max: int) -> None:
        self._cut = cut
        self._bytes_max = bytes_max

    @property
    def is_done(self) -> bool:
        return self._cut.is_done

    @property
    def ends_with_connection(self) -> bool:
        return self._cut.ends_with_connection

    @property
    def count(self) -> int:
        return self._cut.count

    def cut(self, data: bytes) -> tuple[bytes | memoryview, int]:
        _, consumed = self._cut.cut(data)
        if self._cut.count > self._bytes_max:
            raise BadRequest(413, BadRequestReason.BODY_TOO_LARGE, f"the body is above {self._bytes_max} bytes")
        return b"", consumed


class Relay:
    """Moves one body from `source` to `target` (None: it is read and dropped). `start` returns at once; `wait` returns when
    the body's last byte was handed to the target. What goes wrong is kept in `error` until somebody waits."""

    __slots__ = ("_cut", "_on_done", "_side", "_waiter", "error", "is_done", "source", "target")

    def __init__(
        self, side: Side, source: Stream, target: Stream | None, cut: Cut, on_done: Callable[[], None] | None = None
    ) -> None:
        self._side: Side = side  # which peer the source is
        self.source = source
        self.target = target
        self._cut = cut
        self._on_done = on_done
        self._waiter: asyncio.Future[None] | None = None
        self.is_done = cut.is_done
        self.error: Exception | None = None  # BadRequest (its framing), PeerGone (its source)

    @property
    def count(self) -> int:
        """Bytes of the body that came so far."""
        return self._cut.count

    @property
    def is_whole(self) -> bool:
        """The body came to its proper end."""
        return self.is_done and self.error is None and (self._cut.is_done or self._cut.ends_with_connection)

    def start(self) -> None:
        """From now on what arrives goes on."""
        if not self.is_done:
            self.source.set_sink(self._take, self._source_ended)

    def stop(self, error: Exception | None = None) -> None:
        """No more goes on; what arrives stays with the source."""
        if not self.is_done:
            self.error = error
            self._finish()

    async def wait(self) -> None:
        """Returns when the body is through. Raises what went wrong: BadRequest or PeerGone."""
        if not self.is_done:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.error is not None:
            raise self.error

    def _take(self, data: bytes) -> None:
        try:
            out, consumed = self._cut.cut(data)
        except BadRequest as error:
            self.error = error  # lawful: raised again by `wait`, and `is_done` tells those who do not wait
            self._finish()
            return
        if self.target is not None and len(out):
            self.target.write_from(self.source, out)
        if self._cut.is_done:
            if consumed < len(data):
                self.source.put_back(data[consumed:])
            self._finish()

    def _source_ended(self) -> None:
        if self.is_done:
            return
        if not self._cut.ends_with_connection or self.source.error is not None:
            self.error = PeerGone(self._side)
        self._finish()

    def _finish(self) -> None:
        self.is_done = True
        self.source.clear_sink()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._on_done is not None:
            self._on_done()
