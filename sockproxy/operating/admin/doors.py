"""Who is connected to the admin listener: not more than so many, and nobody who asks for nothing.

Owns these two bounds. Must not know what is asked. Begin at `Door`. The process has one table of descriptors for all that it
does: without a bound whoever may connect here, which may be every program of this machine, could take all of them, and then no
client of a listener gets in.
"""

import asyncio
import socket

from aiohttp import web

CONNECTIONS_MAX = 256
"""Connections at a time: those who watch (`WATCHERS_MAX`) have a few each, and scrapers and probes one."""

SILENT_SECONDS = 15.0
"""From a connection's start to its first answer; aiohttp itself ends what is idle behind one, but waits for the first for ever.
To say whether the engine is there takes up to `connect_seconds`."""

_LOOK_SECONDS = 1.0


class Door:
    """Makes the protocol of each connection, and ends those that stay silent."""

    def __init__(self, connections_max: int = CONNECTIONS_MAX, silent_seconds: float = SILENT_SECONDS) -> None:
        self._connections_max = connections_max
        self._silent_seconds = silent_seconds
        self._silent: dict[web.RequestHandler, float] = {}  # who has got no answer yet -> since when
        self._looking: asyncio.TimerHandle | None = None
        self._open: list[asyncio.Server] = []

    async def open(self, server: web.Server, sock: socket.socket) -> None:
        """Lets in who connects to a bound socket."""
        self._open.append(await asyncio.get_running_loop().create_server(lambda: self._new(server), sock=sock))

    async def close(self, _application: web.Application) -> None:
        """For `on_shutdown`: nobody is let in any more."""
        for one in self._open:
            one.close()
        if self._looking is not None:
            self._looking.cancel()

    async def heard(self, request: web.Request, _response: web.StreamResponse) -> None:
        """For `on_response_prepare`: who gets an answer has asked for something."""
        self._silent.pop(request.protocol, None)

    def _new(self, server: web.Server) -> asyncio.Protocol:
        if len(server.connections) >= self._connections_max:
            return _Refused()
        handler = server()
        self._silent[handler] = asyncio.get_running_loop().time()
        if self._looking is None:
            self._look_later()
        return handler

    def _look_later(self) -> None:
        seconds = min(_LOOK_SECONDS, self._silent_seconds)
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for handler, since in list(self._silent.items()):
            is_gone = handler.transport is None and now - since >= _LOOK_SECONDS  # or it has only just come
            if is_gone or now - since >= self._silent_seconds:
                del self._silent[handler]
                handler.force_close()
        self._looking = None
        if self._silent:
            self._look_later()


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]  # a stream socket's Transport
