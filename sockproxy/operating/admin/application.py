"""The admin listener: an aiohttp application with the page, the metrics, the open streams, and the answers to "are you well?".

Owns its routes, and who may change something. Must not know the data path: what it tells, it is handed. It is meant for
operators. What it tells, it tells everybody who can connect, so it belongs on the loopback interface or a unix socket; what
changes something needs the token. What a browser may ask for somebody else's page is said in `browsers`.
"""

import hmac
import os
import re
import stat
import time
from collections.abc import Awaitable, Callable
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiohttp import web

from sockproxy.judging.catalogue import ApiVersion
from sockproxy.operating.admin.browsers import Browsers, add_headers
from sockproxy.operating.admin.doors import Door
from sockproxy.operating.admin.live import Sights
from sockproxy.operating.admin.showing import Told
from sockproxy.operating.admin.streams import StreamControl
from sockproxy.operating.admin.watchers import Look, Watchers
from sockproxy.recording.metrics import Registry, exposition, tell

if TYPE_CHECKING:
    from sockproxy.operating.admin.overview import Reading

_OPENMETRICS_TYPE = "application/openmetrics-text"
_WEIGHT = re.compile(r"(?:^|;)\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_END_SECONDS = 2.0  # for answers that are under way when all ends; stopping a container takes ten at most
TOKEN_BYTES_MIN = 16
"""A shorter token can be guessed: what `openssl rand -hex 16` prints is 32."""
_TOKEN_BYTES_MAX = 4096
_SCHEME = "Bearer "
_STALE_SECONDS = 5.0  # a reading that is older tells nothing of now: nobody has watched


PAGE = Path(__file__).parent / "page"
"""The page's files; `/` is the first of them."""

PAGE_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "flow.js": "text/javascript",
    "charts.js": "text/javascript",
    "elements.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Asked(NamedTuple):
    """What the admin listener tells of, and does. `sights` and `streams` may raise OSError, where others have to be asked."""

    registry: Registry
    readiness: Callable[[], Awaitable[tuple[bool, str]]]
    streams: StreamControl
    sights: Sights


def make_application(asked: Asked, token_file: str | None = None, host: str = "") -> web.Application:
    """`/metrics` (Prometheus' text format, or OpenMetrics, which has exemplars, for who likes it better), `/healthz` (200 as
    long as the process serves), `/readyz` (200 or 503, as `readiness` says, which also gives a line for people), `/streams`
    (JSON), `POST /streams/{id}/end` for who has the token; and the page: `/` and its files, `/live` (server-sent events),
    `/policies` (JSON). `host`: the name in the listener's address."""

    async def metrics(request: web.Request) -> web.Response:
        if _wants_openmetrics(request.headers.getall("Accept", [])):
            told, content_type = exposition.openmetrics(asked.registry.collect()), exposition.CONTENT_TYPE
        else:
            told, content_type = exposition.plain(asked.registry.collect()), exposition.PLAIN_CONTENT_TYPE
        return web.Response(body=told, headers={"Content-Type": content_type, "Vary": "Accept"})

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        is_ready, detail = await asked.readiness()
        return web.Response(text=f"{detail}\n", status=200 if is_ready else 503)

    async def list_streams(request: web.Request) -> web.Response:
        return _json(asked.streams.tell())

    async def end_stream(request: web.Request) -> web.Response:
        _check_token(request, token_file)
        id = request.match_info["id"]
        if not asked.streams.end(id):
            raise web.HTTPNotFound(text="no such stream is open\n")
        return _json({"ended": id})

    async def policies(request: web.Request) -> web.Response:
        return _json(asked.sights.policies(_api_version(request)))

    watchers = Watchers(_reading(asked))
    application = web.Application(middlewares=[Browsers(host).check, _unanswered])
    application.on_response_prepare.append(add_headers)
    application.on_shutdown.append(lambda _: watchers.end())
    application.add_routes(
        [
            web.get("/", _page),
            web.get("/page/{name}", _page),
            web.get("/live", watchers.watch),
            web.get("/policies", policies),
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/streams", list_streams),
            web.post("/streams/{id}/end", end_stream),
        ]
    )
    return application


def _wants_openmetrics(accept: list[str]) -> bool:
    """Whether OpenMetrics is what is liked best of the two forms; where both are alike, the one that is named first."""
    accepted = (one.partition(";") for field in accept for one in field.split(","))
    liked = [
        (_weight(parameters), media_type.strip().lower() == _OPENMETRICS_TYPE)
        for media_type, _, parameters in accepted
        if media_type.strip().lower() in (_OPENMETRICS_TYPE, "text/plain")
    ]
    weight, is_openmetrics = max(liked, key=itemgetter(0), default=(0.0, False))
    return is_openmetrics and weight > 0


def _weight(parameters: str) -> float:
    """RFC 9110, 12.4.2: how much something is liked, from 0 (not at all) to 1; 1 where it is not said."""
    found = _WEIGHT.search(parameters)
    return float(found[1]) if found else 1.0


async def _page(request: web.Request) -> web.Response:
    name = request.match_info.get("name", "index.html")
    if name not in PAGE_TYPES:
        raise web.HTTPNotFound
    return web.Response(
        body=(PAGE / name).read_bytes(),
        content_type=PAGE_TYPES[name],
        charset="utf-8",
        headers={"Cache-Control": "no-cache"},
    )


def _api_version(request: web.Request) -> str:
    text = request.query.get("api", "")
    try:
        return text and str(ApiVersion.parse(text))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"api: {error}\n") from None


def _reading(asked: Asked) -> Look:
    """What those who watch are told, each time it is called."""
    before: list[Reading] = []

    def look() -> Told:
        # Imported here: it brings the comparison of policies along, which nobody needs who does not look.
        from sockproxy.operating.admin import overview

        seen = asked.sights.look()
        now = overview.read(tell(asked.registry), time.monotonic())
        if not before or now.at - before[0].at > _STALE_SECONDS:
            before[:] = [now]
        numbers = overview.between(before[0], now)
        before[:] = [now]
        return {
            "numbers": numbers,
            "denials": seen["denials"],
            "trails": seen["trails"],
            "flow": {"seen": seen["seen"], "rows": seen["rows"]},
        }

    return look


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


async def start_admin(application: web.Application, sockets: list[Any], door: Door | None = None) -> web.AppRunner:
    """Serves the application on bound sockets; the runner's `cleanup` ends it."""
    door = door or Door()
    application.on_response_prepare.append(door.heard)
    application.on_shutdown.append(door.close)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_END_SECONDS)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("the runner has no server behind its set-up")
    for sock in sockets:
        await door.open(runner.server, sock)
    return runner
