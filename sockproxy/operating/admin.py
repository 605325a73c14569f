"""The admin listener: an aiohttp application with the metrics, the open streams, and the answers to "are you well?".

Owns its routes, and who may change something. Must not know the data path: what it tells, it is handed. It is meant for
operators. What it tells, it tells everybody who can connect, so it belongs on the loopback interface or a unix socket; what
changes something needs the token.
"""

import hmac
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sockproxy.operating.streams import StreamControl
from sockproxy.recording.metrics.exposition import CONTENT_TYPE as OPENMETRICS_CONTENT_TYPE
from sockproxy.recording.metrics.exposition import openmetrics

_INDEX = """<!doctype html><title>sockproxy</title><h1>sockproxy</h1>
<ul><li><a href="/metrics">metrics</a><li><a href="/streams">streams</a>
<li><a href="/healthz">healthz</a><li><a href="/readyz">readyz</a></ul>
"""

_OPENMETRICS_TYPE = "application/openmetrics-text"
TOKEN_BYTES_MIN = 16
"""A shorter token can be guessed: what `openssl rand -hex 16` prints is 32."""
_TOKEN_BYTES_MAX = 4096
_SCHEME = "Bearer "


def make_application(
    registry: CollectorRegistry,
    readiness: Callable[[], Awaitable[tuple[bool, str]]],
    streams: StreamControl,
    token_file: str | None = None,
) -> web.Application:
    """`/metrics` (Prometheus' text format, or OpenMetrics, which has exemplars, for who likes it better), `/healthz` (200 as
    long as the process serves), `/readyz` (200 or 503, as `readiness` says, which also gives a line for people), `/streams`
    (JSON), and `POST /streams/{id}/end` for who has the token."""

    async def metrics(request: web.Request) -> web.Response:
        if _wants_openmetrics(request.headers.getall("Accept", [])):
            told, content_type = openmetrics(registry.collect()), OPENMETRICS_CONTENT_TYPE
        else:
            told, content_type = generate_latest(registry), CONTENT_TYPE_LATEST
        return web.Response(body=told, headers={"Content-Type": content_type, "Vary": "Accept"})

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        is_ready, detail = await readiness()
        return web.Response(text=f"{detail}\n", status=200 if is_ready else 503)

    async def list_streams(request: web.Request) -> web.Response:
        return _json(streams.tell())

    async def end_stream(request: web.Request) -> web.Response:
        _check_token(request, token_file)
        id = request.match_info["id"]
        if not streams.end(id):
            raise web.HTTPNotFound(text="no such stream is open\n")
        return _json({"ended": id})

    async def index(request: web.Request) -> web.Response:
        return web.Response(text=_INDEX, content_type="text/html")

    application = web.Application(middlewares=[_unanswered])
    application.add_routes(
        [
            web.get("/", index),
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/streams", list_streams),
            web.post("/streams/{id}/end", end_stream),
        ]
    )
    return application


def _wants_openmetrics(accept: list[str]) -> bool:
    """Whether the first of the two forms that is accepted is OpenMetrics: Prometheus names what it likes best first."""
    media_types = (one.partition(";")[0].strip().lower() for field in accept for one in field.split(","))
    return next((one for one in media_types if one in (_OPENMETRICS_TYPE, "text/plain")), "") == _OPENMETRICS_TYPE


@web.middleware
async def _unanswered(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except OSError as error:
        # Lawful: a worker does not answer, or has ended, which ends all; whoever asks may ask again.
        return web.Response(status=503, text=f"a worker does not answer: {error}\n")


def _check_token(request: web.Request, token_file: str | None) -> None:
    """Lets pass who shows the token of the file, which is read each time, so that it can be changed. A browser sends no such
    header by itself, so no page of somebody else's can."""
    if token_file is None:
        raise web.HTTPForbidden(text="nothing can be changed here: there is no admin_token_file\n")
    token = _read_token(token_file)
    if token is None:
        raise web.HTTPForbidden(
            text=f"nothing can be changed here: the token cannot be read, may be written by anybody, or is below "
            f"{TOKEN_BYTES_MIN} bytes\n"
        )
    shown = request.headers.get("Authorization", "")
    given = shown[len(_SCHEME) :] if shown.startswith(_SCHEME) else ""
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token):
        raise web.HTTPUnauthorized(text="the token is missing or wrong\n", headers={"WWW-Authenticate": "Bearer"})


def _read_token(file: str) -> bytes | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # nothing else waits for a pipe
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode) or mode & stat.S_IWOTH:
                return None  # whoever may write it would say what the token is
            token = os.read(descriptor, _TOKEN_BYTES_MAX).strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None  # lawful: then nobody may change anything
    return token if len(token) >= TOKEN_BYTES_MIN else None


def _json(content: object) -> web.Response:
    return web.Response(body=orjson.dumps(content) + b"\n", content_type="application/json")


async def start_admin(application: web.Application, sockets: list[Any]) -> web.AppRunner:
    """Serves the application on bound sockets; the runner's `cleanup` ends it."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    for sock in sockets:
        await web.SockSite(runner, sock).start()
    return runner
