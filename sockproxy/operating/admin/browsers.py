"""What a browser may do with the admin listener, which has names from requests to show, and streams to end.

Owns the headers of all its answers, and which requests come from somebody else's page. Must not know what is answered. Begin at
`Browsers.check`.

Three things could make an operator's browser ask for somebody else:

- A page of another site that sends requests here. Browsers say so (`Sec-Fetch-Site`, and `Origin` on all but plain reads), and
  such requests are refused, but for links that an operator follows, which show their answer to the operator only.
- A page of another site that shows ours in a frame, or loads an answer as a script or a picture: the headers forbid both.
- A name of another site that suddenly means this machine (DNS rebinding): to the browser, page and listener are then one site.
  So whatever tells of requests is told only under an address, `localhost`, this machine's own name, or the name that the
  configuration has. The metrics hold nothing from requests but ids, and are scraped under many names: they are told under any.
"""

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer. Nothing is a script, a style or a picture but what comes from here as such, nothing is ever made of text."""

ANY_HOST = frozenset({"/metrics", "/healthz", "/readyz"})
"""What machines ask for, by whatever name they know us."""

_OWN_SITE = frozenset({None, "same-origin", "none"})  # none: typed, or a bookmark
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Browsers:
    """The checks of one admin listener."""

    def __init__(self, name: str = "") -> None:
        """`name`: of the listener's host, as it is configured."""
        self._names = frozenset({"localhost", socket.gethostname().lower(), name.lower()}) - {""}

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what somebody else's page asks for."""
        if _is_of_another_site(request):
            raise web.HTTPForbidden(text="another site's page may not ask for this\n")
        if (
            request.path not in ANY_HOST
            and _is_on_a_network(request)
            and not self._knows(request.headers.get("Host", ""))
        ):
            raise web.HTTPMisdirectedRequest(text="not under this name: ask by address, or by the name in `admin`\n")
        return await handler(request)

    def _knows(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        return match is not None and (match[1].lower() in self._names or _is_address(match[1]))


def _is_of_another_site(request: web.Request) -> bool:
    headers = request.headers
    origin = headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{headers.get('Host', '')}":
        return True
    is_link = (
        request.method == "GET"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )
    return headers.get("Sec-Fetch-Site") not in _OWN_SITE and not is_link


def _is_on_a_network(request: web.Request) -> bool:
    """And not on a unix socket, which no browser can reach, and where `Host` means nothing."""
    return request.transport is None or isinstance(request.transport.get_extra_info("sockname"), tuple)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: every answer has them, those of refusals, too."""
    response.headers.update(HEADERS)
