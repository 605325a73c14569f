"""A plain proxy in aiohttp: what one writes in an afternoon with its server and its client, on uvloop.

It has a rule for paths, streams bodies both ways and keeps engine connections; no audit, no metrics. It cannot
tunnel: aiohttp's server gives nobody the raw connection behind a 101. Run as `python -m benchmarks.aiohttp_proxy
LISTEN ENGINE`.
"""

import asyncio
import re
import sys

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

_ALLOWED = re.compile(r"(/v[0-9.]+)?/(_ping|version|events|containers/.*|images/.*)")
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_SESSION = web.AppKey("session", aiohttp.ClientSession)
_BODY_BYTES_MAX = 1 << 50


def _end_to_end(fields: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in fields.items() if name.lower() not in _HOP_BY_HOP)


async def forward(request: web.Request) -> web.StreamResponse:
    """Pass a request to the engine, and its answer back as it comes."""
    if not _ALLOWED.fullmatch(request.path):
        raise web.HTTPForbidden
    session = request.app[_SESSION]
    body = request.content if request.body_exists else None
    fields = _end_to_end(request.headers)
    async with session.request(request.method, f"http://docker{request.path_qs}", headers=fields, data=body) as answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers))
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def serve(listen: str, engine: str) -> None:
    """Serve on a unix socket until the process ends."""
    connector = aiohttp.UnixConnector(engine, limit=0)
    no_limit = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=no_limit, auto_decompress=False) as session:
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app[_SESSION] = session
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
        await runner.setup()
        await web.UnixSite(runner, listen, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
