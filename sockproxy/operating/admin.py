"""The admin listener: an aiohttp application with the metrics and the answers to "are you well?".

Owns its routes. Must not know the data path: what it tells, it is handed. It is meant for operators and has no
authentication, so it belongs on the loopback interface or a unix socket.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sockproxy.recording.metrics.exposition import CONTENT_TYPE as OPENMETRICS_CONTENT_TYPE
from sockproxy.recording.metrics.exposition import openmetrics

_INDEX = """<!doctype html><title>sockproxy</title><h1>sockproxy</h1>
<ul><li><a href="/metrics">metrics</a><li><a href="/healthz">healthz</a><li><a href="/readyz">readyz</a></ul>
"""

_OPENMETRICS_TYPE = "application/openmetrics-text"


def make_application(
    registry: CollectorRegistry, readiness: Callable[[], Awaitable[tuple[bool, str]]]
) -> web.Application:
    """`/metrics` (Prometheus' text format, or OpenMetrics, which has exemplars, for who likes it better), `/healthz` (200 as
    long as the process serves), `/readyz` (200 or 503, as `readiness` says, which also gives a line for people)."""

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

    async def index(request: web.Request) -> web.Response:
        return web.Response(text=_INDEX, content_type="text/html")

    application = web.Application()
    application.add_routes(
        [web.get("/", index), web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]
    )
    return application


def _wants_openmetrics(accept: list[str]) -> bool:
    """Whether the first of the two forms that is accepted is OpenMetrics: Prometheus names what it likes best first."""
    media_types = (one.partition(";")[0].strip().lower() for field in accept for one in field.split(","))
    return next((one for one in media_types if one in (_OPENMETRICS_TYPE, "text/plain")), "") == _OPENMETRICS_TYPE


async def start_admin(application: web.Application, sockets: list[Any]) -> web.AppRunner:
    """Serves the application on bound sockets; the runner's `cleanup` ends it."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    for sock in sockets:
        await web.SockSite(runner, sock).start()
    return runner
