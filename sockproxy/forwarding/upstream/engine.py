"""Engine: connections to dockerd.

Owns connecting, keeping idle connections, and whether the engine is reachable. Must not know what is sent over them. Begin
at `Engine.acquire`. A connection that carried a tunnel, or anything that did not end cleanly, is never given back.
"""

import asyncio
import socket

from sockproxy.errors import EngineError, EngineErrorReason
from sockproxy.forwarding.address import Address
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.sockets import detach, keep_alive, open_stream
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.upstream.asking import HOST
from sockproxy.wire import http1

_PING = http1.serialise_request_head("GET", "/_ping", [HOST], http1.NO_BODY)


class Engine:
    """The engine behind the proxy, and the connections to it."""

    def __init__(self, address: Address, limits: Limits, loop: asyncio.AbstractEventLoop, hangups: HangupWatch) -> None:
        self.address = address
        self._limits = limits
        self.loop = loop
        self.hangups = hangups
        self._idle: list[Stream] = []
        self.busy_count = 0
        self.bare_count = 0  # of those that the express way has taken
        self.is_up = False  # as of the last connection
        self.is_reachable = False  # as of the last ping: it accepts connections, whether or not it answers on them

    @property
    def idle_count(self) -> int:
        """Kept connections without a request."""
        return len(self._idle)

    def acquire_idle(self) -> Stream | None:
        """The kept connection that was used last, or None."""
        while self._idle:
            stream = self._idle.pop()
            if not (stream.is_closing or stream.saw_eof or stream.has_bytes):
                self.busy_count += 1
                return stream
            stream.abort()
        return None

    def take_bare(self) -> socket.socket | None:
        """A kept connection as a bare socket, for the express way, or None. Where the rest of a body that was answered early
        is still to be sent, it stays what it is: what comes next must go out behind that."""
        stream = self.acquire_idle()
        if stream is None:
            return None
        self.busy_count -= 1
        bare = None if stream.unsent_bytes else detach(stream)
        if bare is None:
            self._idle.append(stream)
        else:
            self.bare_count += 1
        return bare

    def drop_bare(self, bare: socket.socket) -> None:
        """Closes such a connection."""
        self.bare_count -= 1
        bare.close()

    async def adopt(self, bare: socket.socket, received: bytes) -> Stream:
        """Such a connection as a busy one, on which something was received already."""
        self.bare_count -= 1
        self.busy_count += 1
        stream = await open_stream(self.loop, self.hangups, bare, received)
        stream.on_eof = stream.on_lost = self._drop_ended
        return stream

    async def connect(self) -> Stream:
        """A new connection. Raises EngineError: 502 if the engine cannot be reached within `connect_seconds`."""
        try:
            async with asyncio.timeout(self._limits.connect_seconds or None):
                stream = await self._open()
        except TimeoutError as error:
            self.is_up = False
            raise EngineError(
                502,
                EngineErrorReason.CONNECT_TIMEOUT,
                f"the engine at {self.address} does not accept connections",
                limit="connect_seconds",
            ) from error
        except OSError as error:
            self.is_up = False
            raise EngineError(
                502, EngineErrorReason.UNREACHABLE, f"cannot connect to the engine at {self.address}: {error.strerror}"
            ) from error
        self.is_up = True
        self.busy_count += 1
        stream.on_eof = stream.on_lost = self._drop_ended
        return stream

    def release(self, stream: Stream, *, is_reusable: bool) -> None:
        """Gives a connection back: kept if it may carry another request and nothing has come or ended on it, else closed."""
        self.busy_count -= 1
        if (
            is_reusable
            and not (stream.is_closing or stream.saw_eof or stream.has_bytes or stream.has_written_eof)
            and len(self._idle) + self.bare_count < self._limits.engine_idle_connections_max
        ):
            stream.resume_reading()
            self._idle.append(stream)
        else:
            stream.close()

    async def ping(self) -> bool:
        """Whether the engine answers `GET /_ping` with 200 within `connect_seconds`, on a connection of its own."""
        is_reachable = False
        try:
            async with asyncio.timeout(self._limits.connect_seconds or None):
                stream = await self.connect()
                is_reachable = True
                try:
                    stream.write(_PING)
                    raw = await stream.read_head(self._limits.engine_head_bytes_max)
                finally:
                    self.release(stream, is_reusable=False)
            self.is_up = http1.parse_response_head(raw, self._limits.fields_max, "GET").status == 200
        except (EngineError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.is_up = False  # lawful: not answering a ping, in whatever way, is what False means
        finally:
            self.is_reachable = is_reachable
        return self.is_up

    def close(self) -> None:
        """Closes the kept connections."""
        idle, self._idle = self._idle, []
        for stream in idle:
            stream.close()

    async def _open(self) -> Stream:
        if self.address.scheme == "unix":
            _, stream = await self.loop.create_unix_connection(self._new_stream, self.address.path)
        else:
            _, stream = await self.loop.create_connection(self._new_stream, self.address.host, self.address.port)
            if stream.transport is not None:
                keep_alive(stream.transport.get_extra_info("socket"))
        return stream

    def _new_stream(self) -> Stream:
        return Stream(self.loop, self.hangups)

    def _drop_ended(self) -> None:
        """Some connection has ended: if it was a kept one, it is not kept any longer."""
        ended = [stream for stream in self._idle if stream.is_lost or stream.saw_eof]
        if ended:
            self._idle = [stream for stream in self._idle if stream not in ended]
        for stream in ended:
            stream.close()
