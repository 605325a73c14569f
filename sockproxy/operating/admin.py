"""The admin listener: an aiohttp application with the metrics and the answers to "are you well?".

Owns its routes. Must not know the data path: what it tells, it is handed. It is meant for operators and has no
authentication, so it belongs on the loopback interface or a unix socket.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_INDEX = """<!doctype html><title>sockproxy</title><h1>sockproxy</h1>
<ul><li><a href="/metrics">metrics</a><li><a href="/healthz">healthz</a><li><a href="/readyz">readyz</a></ul>
"""


def make_application(
    registry: CollectorRegistry, readiness: Callable[[], Awaitable[tuple[bool, str]]]
) -> web.Application:
    """`/metrics` (Prometheus text), `/healthz` (200 as long as the process serves), `/readyz` (200 or 503, as `readiness` says,
    which also gives a line for people)."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

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


async def start_admin(application: web.Application, sockets: list[Any]) -> web.AppRunner:
    """Serves the application on bound sockets; the runner's `cleanup` ends it."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    for sock in sockets:
        await web.SockSite(runner, sock).start()
    return runner
