"""A connection with TLS: what stands between a socket and its `Stream`.

Owns the handshake, and half-close within TLS. Must not know which certificates there are (`contexts`), nor what the bytes mean.
Begin at `open_secured`; `Secured` is what a `Stream` writes to.

The TLS of asyncio and uvloop ends a connection as soon as its client has finished sending (close_notify): the rest of the
answer is lost, and `docker exec -i` with it. TLS knows half-close (RFC 8446, 6.1: each side closes its own direction), and
docker's client and engine use it. So the layer here is our own, of the ssl module's objects without a socket.
"""

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from socket import socket
from typing import Any

from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.stream import Stream

_READ_BYTES = 64 << 10
_SENT_TO_NO_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nsockproxy: this is a TLS listener, and that was no TLS\n"
)


class Secured(asyncio.Protocol, asyncio.Transport):
    """TLS between a connection and its `Stream`: protocol of the one, transport of the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, stream: Stream) -> None:
        super().__init__()
        self._loop = loop
        self._context = context
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.handshake: asyncio.Future[None] = loop.create_future()
        self._below: asyncio.Transport | None = None
        self._held: deque[bytes] = deque()  # was read before somebody took it
        self._is_paused = False
        self._saw_end = False  # the client's close_notify
        self._is_closing = False

    # --- what the loop calls, from below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = transport  # type: ignore[assignment]  # both loops hand a stream socket's Transport

    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._saw_end:
            return  # what comes behind the end is nothing
        self._incoming.write(data)
        if not self.handshake.done():
            self._shake_hands()
        if self.handshake.done() and not self._is_closing:
            self._deliver()

    def eof_received(self) -> bool:
        if not self._saw_end:
            # RFC 8446, 6.1: without a close_notify it was cut off, by whomever: what came must not look like all of it.
            self._break(ConnectionResetError("the connection ended without the end of its TLS"))
        return not self._is_closing

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        if not self.handshake.done():
            self.handshake.set_exception(exc or ConnectionResetError("the client is gone"))
        elif not self.handshake.cancelled() and self.handshake.exception() is None:
            self._stream.connection_lost(exc)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    # --- TLS

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            # Lawful: whoever waits for the handshake is told. The client gets the alert that says what was wrong.
            if error.reason == "HTTP_REQUEST" and self._below is not None:
                self._below.write(_SENT_TO_NO_TLS)
            self._flush()
            self.close()
            if not self.handshake.done():
                self.handshake.set_exception(error)
            return
        self._flush()
        self.handshake.set_result(None)
        self._stream.connection_made(self)

    def _deliver(self) -> None:
        """Gives on what can be read, as long as somebody takes it."""
        while not (self._is_paused or self._is_closing or self._saw_end):
            try:
                data = self._held.popleft() if self._held else self._read()
            except ssl.SSLError as error:
                self._break(error)  # lawful: the stream is told, and ends with it
                return
            if data is None:
                break
            if data:
                self._stream.data_received(data)
            else:
                self._saw_end = True
                self._stream.eof_received()
        self._flush()  # a key update is to be answered

    def _read(self) -> bytes | None:
        """What has come next, b"" for the client's end, None where the rest of a record is still to come."""
        try:
            return self.tls.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return None  # lawful: as said
        except ssl.SSLZeroReturnError:
            return b""  # lawful: as said

    def _hold(self) -> None:
        """Reads what has come and nobody takes yet: one piece of the connection's, at most."""
        with suppress(ssl.SSLError):  # lawful: who reads on meets it again
            while (data := self._read()) is not None:
                self._held.append(data)
                if not data:
                    break

    def _flush(self) -> None:
        if self._outgoing.pending and self._below is not None and not self._below.is_closing():
            self._below.write(self._outgoing.read())

    def _break(self, error: Exception) -> None:
        self._is_closing = True
        self._stream.error = self._stream.error or error
        if self._below is not None:
            self._below.abort()

    def _notify_end(self) -> None:
        """Says that nothing more will be sent. The client's own end is not waited for."""
        with suppress(ssl.SSLError):  # lawful: it asks for the other end, which comes when it comes
            self.tls.unwrap()
        self._flush()

    # --- what the stream calls, from above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not len(data):
            return
        try:
            self.tls.write(data)
        except ssl.SSLError as error:
            self._break(error)  # lawful: as above
            return
        self._flush()

    def write_eof(self) -> None:
        self._deliver()
        if not self._is_closing:
            self._hold()  # once our end is sent, OpenSSL looks for the other end, and takes anything else for a fault
            self._notify_end()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0 if self._below is None else self._below.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._notify_end()
        if self._below is not None:
            self._below.close()

    def abort(self) -> None:
        self._is_closing = True
        if self._below is not None:
            self._below.abort()

    def pause_reading(self) -> None:
        self._is_paused = True
        if self._below is not None and not self._below.is_closing():
            self._below.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._below is not None and not self._below.is_closing():
            self._below.resume_reading()
            self._loop.call_soon(self._deliver)  # what came while nobody wanted it; not at once, as no transport does

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._context
        return default if self._below is None else self._below.get_extra_info(name, default)


async def open_secured(
    loop: asyncio.AbstractEventLoop, hangups: HangupWatch, sock: socket, context: ssl.SSLContext, seconds: float
) -> tuple[Stream, ssl.SSLObject]:
    """The stream of a bare socket whose client speaks TLS, once hands were shaken (0 seconds: however long it takes), and
    what is known of that. Raises OSError, and then the socket is closed or about to be."""
    stream = Stream(loop, hangups)
    secured = Secured(loop, context, stream)
    await loop.connect_accepted_socket(lambda: secured, sock)
    try:
        async with asyncio.timeout(seconds or None):
            await secured.handshake
    except ssl.SSLError:
        raise  # it closes by itself, behind the alert
    except BaseException:
        secured.abort()  # lawful: it goes on; too slow, gone or cancelled, nothing must be left open
        raise
    return stream, secured.tls
