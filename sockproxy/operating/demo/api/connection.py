"""A connection of the demo engine: aiohttp's, but with half-close, and taken over where an operation hijacks it.

Owns what the engine does with a client that closes its sending side (ordinary requests are answered all the same), and
the stream that remains after a takeover. Must not know operations. Begin at `HalfClosing` and `take_over`.
"""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sockproxy.operating.demo.api.answers import HEADERS

READ_AHEAD_BYTES = 64 << 10


class HalfClosing(RequestHandler):
    """aiohttp's server protocol closes a connection whose client has finished sending. Go's server answers it first."""

    __slots__ = ("client_has_ended",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.client_has_ended = asyncio.Event()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp narrows what asyncio allows to None
        self.client_has_ended.set()
        is_idle = self._waiter is not None and not self._messages
        bodies = [body for _, body in self._messages] + (
            [self._current_request.content] if self._current_request else []
        )
        if is_idle or not all(body.is_eof() for body in bodies):
            self.force_close()  # nothing is left to be answered, or only what never comes to its end
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be read is answered as Go's server does, without words about aiohttp."""
        answer = web.Response(
            status=status, text=f"{status} {HTTPStatus(status).phrase}", headers={"Server": HEADERS["Server"]}
        )
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answers, then lets the connection end if nothing more will come."""
        finished = await super().finish_response(request, resp, start_time)
        if self.client_has_ended.is_set() and not self._messages:
            resp.force_close()
        return finished


class RawStream(asyncio.Protocol):
    """What remains of a connection after a takeover: bytes both ways, half-close, back-pressure.

    `aiohttp` still is told of the end, so that its own side of the connection ends, too: that cancels the handler.
    """

    def __init__(self, transport: asyncio.Transport, aiohttp_side: HalfClosing) -> None:
        self._transport = transport
        self._aiohttp_side = aiohttp_side
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._has_ended = aiohttp_side.client_has_ended.is_set()
        self._is_lost = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > READ_AHEAD_BYTES:
            self._transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._readable.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = self._has_ended = True
        for event in (self._readable, self._writable, self._lost):
            event.set()
        self._aiohttp_side.connection_lost(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def read(self) -> bytes:
        """At least one byte, or nothing at the end."""
        while not self._chunks and not self._has_ended:
            self._readable.clear()
            await self._readable.wait()
        chunk = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if not self._is_lost and not self._has_ended:
            self._transport.resume_reading()
        return chunk

    async def write(self, chunk: bytes) -> None:
        """Waits while the client is slow. Raises ConnectionError when it is gone."""
        if self._is_lost or self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(chunk)
        await self._writable.wait()

    async def close(self) -> None:
        """Ends the stream when all is written, and waits for that."""
        self._transport.close()
        await self._lost.wait()


def connection_of(request: web.Request) -> HalfClosing:
    """The connection that a request came on; the demo engine makes no other kind."""
    connection = request.protocol
    if not isinstance(connection, HalfClosing):
        raise TypeError("a request came on a connection that is not the demo engine's")
    return connection


def take_over(request: web.Request, head: bytes) -> RawStream:
    """Writes a head by hand and makes the connection a stream. What the client sent before is lost, as with the engine."""
    connection, transport = connection_of(request), request.transport
    if transport is None:
        raise ConnectionResetError
    stream = RawStream(transport, connection)
    transport.set_protocol(stream)
    if not transport.is_reading():
        transport.resume_reading()
    transport.write(head)
    return stream


async def taken_over(stream: RawStream) -> web.StreamResponse:
    """The end of a handler that took its connection over: it closes the stream, and aiohttp finds nobody to answer."""
    await stream.close()
    return web.Response()
