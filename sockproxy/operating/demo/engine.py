"""The demo engine itself: a socket, an aiohttp application behind it, and one dispatch for every request.

Owns start and stop, the record of requests, and the border where faults become answers. Must not know operations
(`routes`). Begin at `start_demo_engine`.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import parse_qs

from aiohttp import web

from sockproxy.operating.demo.api import routes
from sockproxy.operating.demo.api.answers import HEADERS, drop_invented_fields, empty_answer, refusal
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.api.connection import HalfClosing
from sockproxy.operating.demo.objects.bounds import Bounds
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import State
from sockproxy.operating.demo.seed import furnish

HEAD_BYTES_MAX = 1 << 20  # as the engine's
FIELDS_MAX = 2000
KEEP_ALIVE_SECONDS = 600.0
QUERY_FIELDS_MAX = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("sockproxy.demo")


class DemoEngine:
    """A running demo engine. `requests` holds (method, path without query) of what reached it, the oldest first."""

    def __init__(self, socket_path: str, bounds: Bounds, clock: Callable[[], int]) -> None:
        self.socket_path = socket_path
        self.requests: list[tuple[str, str]] = []
        self.state = State(bounds, clock)
        self._bounds = bounds
        self._runner: web.AppRunner | None = None
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Binds the socket; from then on clients are answered. Raises OSError."""

        @web.middleware
        async def dispatch(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._dispatch(request)

        application = web.Application(client_max_size=self._bounds.body_bytes_max, middlewares=[dispatch])
        application.on_response_prepare.append(drop_invented_fields)
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        connection = partial(
            HalfClosing,
            self._runner.server,
            loop=loop,
            access_log=None,
            logger=_log,
            tcp_keepalive=False,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            max_headers=FIELDS_MAX,
        )
        self._server = await loop.create_unix_server(connection, self.socket_path, start_serving=False)
        furnish(self.state)
        await self._server.start_serving()

    async def stop(self) -> None:
        """Ends all connections and programs, waits for them, and removes the socket. May be called again."""
        server, self._server = self._server, None
        runner, self._runner = self._runner, None
        if server:
            server.close()
            with contextlib.suppress(FileNotFoundError):  # uvloop has removed it already
                os.unlink(self.socket_path)
        for connection in runner.server.connections if runner and runner.server else ():
            if connection.transport:
                connection.transport.abort()
        await self.state.close()
        if runner:
            await runner.cleanup()

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        """Every request, whatever its path: aiohttp's own routes are empty."""
        try:
            path, query = routes.split_target(request.raw_path)
        except routes.Redirect as redirect:
            self._remember(request.method, request.raw_path.partition("?")[0])
            return web.Response(status=301, headers={"Location": redirect.location})
        self._remember(request.method, request.raw_path.partition("?")[0])
        if request.method == "OPTIONS":
            return empty_answer(200)
        found = routes.find(request.method, path)
        version = routes.asked_version(path)
        if found is None:
            return refusal(404, "page not found", version, {})
        try:
            routes.check_version(path)
        except Refused as refused:
            known = {name: value for name, value in HEADERS.items() if name != "Docker-Experimental"}
            return refusal(refused.status, refused.message, version, known)
        return await self._answer(request, found, query)

    async def _answer(self, request: web.Request, found: routes.Found, query: str) -> web.StreamResponse:
        version = found.version
        try:
            return await found.operation(Call(request, self.state, version, found.names, _fields_of(query)))
        except Refused as refused:
            return refusal(refused.status, refused.message, version)
        except ConnectionError:
            return web.Response()  # nobody is left to be answered, as aiohttp then finds, too
        except web.HTTPException as fault:
            return refusal(fault.status, fault.reason, version)
        except Exception:  # noqa: BLE001 - the border: a fault of the demo is a 500, and does not end it
            _log.exception("operation-fault")
            return refusal(500, "a fault of the demo engine", version)

    def _remember(self, method: str, path: str) -> None:
        if len(self.requests) >= self._bounds.requests_max:
            del self.requests[: self._bounds.requests_max // 2]
        self.requests.append((method, path))


def _fields_of(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as fault:
        raise Refused(400, str(fault)) from None


async def start_demo_engine(
    socket_path: str, bounds: Bounds | None = None, clock: Callable[[], int] = time.time_ns
) -> DemoEngine:
    """A demo engine that listens on a unix socket of the running loop, whichever that is. Raises OSError."""
    engine = DemoEngine(socket_path, bounds or Bounds(), clock)
    try:
        await engine.start()
    except OSError:
        await engine.stop()
        raise
    return engine
