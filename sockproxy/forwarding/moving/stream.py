"""Stream: one connection's bytes, read by a coroutine or by a callback, with back-pressure and half-close.

Owns buffering, waiting, the end of either direction, and nothing else. Must not know what HTTP is (but for the blank line
that ends a head), who the peer is, or what it may do. Begin at `Stream`; `sockets` makes one of a socket, and back.

A reader takes bytes in one of two ways, never in both at once: it awaits `read_head` or `wait_for_bytes`, or it sets a *sink*
that is called with each piece as it arrives. A sink costs no wake-up of a task, which is what makes relays cheap.
"""

import asyncio
from collections.abc import Callable

from sockproxy.forwarding.moving.hangups import HangupWatch

BUFFER_BYTES_MAX = 64 << 10
"""What is buffered for a reader that is busy elsewhere (pipelined requests, early bytes of a tunnel) before reading pauses."""

_HEAD_END = b"\r\n\r\n"


class Stream(asyncio.Protocol):
    """A connection. `on_eof`: called once when the peer has finished sending and everything sent was taken; `on_lost`: once
    when the connection is gone. Both may be None. Errors of the connection never raise here: they end it."""

    __slots__ = (
        "_buffer",
        "_drain_waiter",
        "_hangups",
        "_is_read_elsewhere",
        "_loans",
        "_loop",
        "_on_connected",
        "_on_end",
        "_sink",
        "_throttled",
        "_waiter",
        "_watched_as",
        "_wrote_eof",
        "error",
        "is_closing",
        "is_lost",
        "is_reading_paused",
        "is_write_paused",
        "on_eof",
        "on_lost",
        "saw_eof",
        "transport",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hangups: HangupWatch,
        on_connected: Callable[["Stream"], None] | None = None,
    ) -> None:
        self._loop = loop
        self._hangups = hangups
        self._on_connected = on_connected
        self.transport: asyncio.Transport | None = None
        self._buffer: bytes | bytearray = b""
        self._waiter: asyncio.Future[None] | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._on_end: Callable[[], None] | None = None
        self._is_read_elsewhere = False
        self._loans: tuple[Callable[[], None], ...] = ()
        self._throttled: Stream | None = None  # who is not read from while this one cannot be written to
        self.is_reading_paused = False
        self._wrote_eof = False
        self._watched_as = -1
        self.is_write_paused = False
        self.saw_eof = False
        self.is_lost = False
        self.is_closing = False  # closed, or about to be: nothing more can be sent
        self.error: Exception | None = None
        self.on_eof: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # both loops hand a stream socket's Transport
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
            return
        if self._waiter is not None:
            self._buffer = _appended(self._buffer, data)
            self._wake()
        else:
            self.keep(data)

    def eof_received(self) -> bool:
        self.saw_eof = True
        if self._on_end is not None:
            self._on_end()
        elif self._waiter is not None:
            self._wake()
        elif self.on_eof is not None:
            self.on_eof()
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = self.is_closing = True
        self.error = exc or self.error
        self._end_loans()
        self.unwatch_hangup()
        self.resume_writing()
        if self._on_end is not None:
            self._on_end()
        self._wake()
        if self.on_lost is not None:
            self.on_lost()
        self.on_eof = self.on_lost = None

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        throttled, self._throttled = self._throttled, None
        if throttled is not None:
            throttled.resume_reading()
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    # --- reading

    @property
    def is_ended(self) -> bool:
        """Nothing more will be read, and all that came was taken."""
        return not self._buffer and (self.saw_eof or self.is_lost)

    @property
    def has_bytes(self) -> bool:
        """Bytes have arrived that nobody has taken yet."""
        return bool(self._buffer)

    @property
    def received(self) -> bytes:
        """What has arrived and nobody has taken yet."""
        return bytes(self._buffer)

    @property
    def has_written_eof(self) -> bool:
        """The sending direction was finished by us."""
        return self._wrote_eof

    def take_head(self, bytes_max: int) -> bytes | None:
        """The bytes through the next blank line if all of them have arrived, else None."""
        end = _head_end(self._buffer, 0)
        return self.take(end) if 0 < end <= bytes_max else None

    async def wait_for_bytes(self) -> bool:
        """True as soon as something has arrived, False at the end. Raises TimeoutError (`expire` was called)."""
        while not self._buffer:
            if self.saw_eof or self.is_lost:
                return False
            await self._wait()
        return True

    async def read_head(self, bytes_max: int) -> bytes:
        """The bytes through the next blank line; b"" if the peer ended before the first of them. A blank line of bare line
        feeds ends a head as well, so that it can be refused at once. Raises asyncio.IncompleteReadError (ended within),
        asyncio.LimitOverrunError (more than `bytes_max`), TimeoutError (`expire` was called)."""
        searched = 0
        while True:
            buffer = self._buffer
            end = _head_end(buffer, searched)
            if end and end <= bytes_max:
                return self.take(end)
            if end or len(buffer) >= bytes_max:
                raise asyncio.LimitOverrunError("the head is too large", len(buffer))
            if self.saw_eof or self.is_lost:
                if buffer:
                    raise asyncio.IncompleteReadError(bytes(buffer), None)
                return b""
            searched = max(0, len(buffer) - 3)
            await self._wait()

    async def wait_until(self, is_enough: Callable[[bytes | bytearray], bool]) -> bool:
        """True as soon as what has arrived is enough, False where no more comes; all of it stays here for the next reader.
        Raises TimeoutError (`expire` was called)."""
        while not is_enough(self._buffer):
            if self.saw_eof or self.is_lost:
                return False
            await self._wait()
        return True

    def take(self, count: int) -> bytes:
        """Removes and returns the first `count` bytes of what has arrived (fewer if fewer are there)."""
        buffer = self._buffer
        if count >= len(buffer):
            self._buffer = b""
            return bytes(buffer)
        self._buffer = buffer[count:]
        return bytes(buffer[:count])

    def take_all(self) -> bytes:
        """Removes and returns all that has arrived."""
        return self.take(len(self._buffer))

    def keep(self, data: bytes) -> None:
        """Buffers bytes that just came for a later reader; reading pauses when there are many."""
        self._buffer = _appended(self._buffer, data)
        if len(self._buffer) >= BUFFER_BYTES_MAX:
            self.pause_reading()
            self.watch_hangup()  # the end of a peer that is not read from does not show otherwise

    def put_back(self, data: bytes) -> None:
        """Returns bytes that were taken but belong to the next reader."""
        self._buffer = data + self._buffer if self._buffer else data

    def set_sink(self, sink: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """From now on `sink` gets every piece, first what has already arrived; `on_end` is called once at the end."""
        self._sink, self._on_end = sink, on_end
        if self._buffer:
            sink(self.take_all())
        if self._sink is None:
            if len(self._buffer) < BUFFER_BYTES_MAX:
                self.resume_reading()
            return  # that was all the sink wanted
        if self.saw_eof or self.is_lost:
            on_end()
        else:
            self.resume_reading()

    def clear_sink(self) -> None:
        """The sink gets no more: what arrives is buffered again."""
        self._sink = self._on_end = None

    def expire(self) -> None:
        """Lets the coroutine that waits to read get TimeoutError."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    async def _wait(self) -> None:
        self.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def pause_reading(self) -> None:
        """No more is read from the peer until `resume_reading`."""
        if not self.is_reading_paused and not self.is_lost and not self.saw_eof and self.transport is not None:
            self.is_reading_paused = True
            if not self._is_read_elsewhere:
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Goes on reading from the peer."""
        if self.is_reading_paused:
            self.is_reading_paused = False
            if not self.saw_eof:
                self.unwatch_hangup()  # what it sent before it hung up is read first
            if not (self.is_lost or self._is_read_elsewhere or self.transport is None or self.transport.is_closing()):
                self.transport.resume_reading()

    # --- writing

    def write(self, data: bytes | memoryview) -> None:
        """Sends; what a slow peer does not take is buffered. Whoever writes much uses `write_from` or awaits `drain`."""
        if not self.is_lost and self.transport is not None:
            self.transport.write(data)

    def write_from(self, source: "Stream", data: bytes | memoryview) -> None:
        """Sends what came from `source`, which is not read from as long as this peer is slow."""
        if not self.is_lost and self.transport is not None:
            self.transport.write(data)
            if self.is_write_paused:
                self._throttled = source
                source.pause_reading()

    @property
    def unsent_bytes(self) -> int:
        """What is buffered for a slow peer."""
        return 0 if self.is_lost or self.transport is None else self.transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Returns when the peer takes bytes again, or is gone."""
        if self.is_write_paused and not self.is_lost:
            await self._drained()

    async def sent(self) -> None:
        """Returns when a closing connection has sent all that was buffered, or is gone."""
        while self.unsent_bytes:
            await self._drained()

    async def _drained(self) -> None:
        self._drain_waiter = self._loop.create_future()
        try:
            await self._drain_waiter
        finally:
            self._drain_waiter = None

    def write_eof(self) -> None:
        """Finishes the sending direction, after what is still buffered; reading goes on."""
        if self._wrote_eof or self.is_lost or self.transport is None or self.transport.is_closing():
            return
        self._wrote_eof = True
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()  # lawful: ENOTCONN, the peer is gone, and connection_lost will say so

    def watch_hangup(self) -> None:
        """Aborts this half-closed connection as soon as its peer is gone for good."""
        if self._watched_as < 0 and not self.is_lost and self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            self._watched_as = -1 if sock is None else self._hangups.watch(sock.fileno(), self.abort)

    def unwatch_hangup(self) -> None:
        """Ends that watch."""
        if self._watched_as >= 0:
            self._hangups.forget(self._watched_as)
            self._watched_as = -1

    # --- lending: others may move bytes past this stream, as long as it is told what becomes of them

    @property
    def is_raw(self) -> bool:
        """What is read and written here is what the socket carries: there is no TLS in between."""
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    def lend(self, give_back: Callable[[], None]) -> int:
        """The connection's descriptor for somebody who moves bytes himself, -1 where that is not possible. `give_back` is
        called before the connection closes: from then on the descriptor is not to be used."""
        if self.transport is None or self.is_closing or not self.is_raw:
            return -1
        self._loans = (*self._loans, give_back)
        return int(self.transport.get_extra_info("socket").fileno())

    def end_loan(self, give_back: Callable[[], None]) -> None:
        """Takes back what was lent."""
        self._loans = tuple(loan for loan in self._loans if loan != give_back)

    def _end_loans(self) -> None:
        for give_back in self._loans:
            give_back()

    def read_by(self, protocol: asyncio.BaseProtocol | None) -> None:
        """From now on what arrives goes to `protocol`: this stream itself, somebody who passes on to it all but the bytes, or
        nobody (None)."""
        self._is_read_elsewhere = protocol is None
        if self.transport is None or self.is_lost or self.transport.is_closing():
            return
        self.transport.pause_reading()
        if protocol is not None:
            self.transport.set_protocol(protocol)
            if not self.is_reading_paused:
                self.transport.resume_reading()  # where the loop looks at who reads

    def close(self) -> None:
        """Closes both directions after what is still buffered was sent."""
        self._end_loans()
        self.is_closing = True
        if self.transport is not None:
            self.transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Closes at once; what is buffered is dropped. `error`: what is wrong with the connection, if anything."""
        self._end_loans()
        self.is_closing = True
        self.error = self.error or error
        if self.transport is not None:
            self.transport.abort()


def _appended(buffer: bytes | bytearray, data: bytes) -> bytes | bytearray:
    # One read is nearly always all there is, so it is kept as it came; only a second one makes a copy.
    if not buffer:
        return data
    if isinstance(buffer, bytes):
        buffer = bytearray(buffer)
    buffer += data
    return buffer


def _head_end(buffer: bytes | bytearray, searched: int) -> int:
    """Where the head ends, 0 if it does not yet."""
    end = buffer.find(_HEAD_END, searched)
    if end >= 0:
        return end + 4
    bare = buffer.find(b"\n\n", searched)
    mixed = buffer.find(b"\n\r\n", searched)
    ends = [place + size for place, size in ((bare, 2), (mixed, 3)) if place >= 0]
    return min(ends, default=0)
