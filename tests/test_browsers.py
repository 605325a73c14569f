"""What a browser may do with the admin listener: nothing for somebody else's page."""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from sockproxy.operating.admin.browsers import ANY_HOST, HEADERS, Browsers, add_headers

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]


@pytest.fixture
async def client(aiohttp_client: MakeClient) -> Client:
    async def done(request: web.Request) -> web.Response:
        return web.Response(text="done")

    application = web.Application(middlewares=[Browsers("Build-7.example.com").check])
    application.on_response_prepare.append(add_headers)
    application.add_routes(
        [web.get("/live", done), web.post("/end", done), *(web.get(path, done) for path in ANY_HOST)]
    )
    return await aiohttp_client(application)


SAME, CROSS = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SITES = {
    # method, path, headers -> status
    "a-program": ("GET", "/live", {}, 200),
    "our-page": ("GET", "/live", SAME, 200),
    "our-page-changes": ("POST", "/end", SAME, 200),
    "typed": ("GET", "/live", {"Sec-Fetch-Site": "none"}, 200),
    "another-site": ("GET", "/live", CROSS, 403),
    "another-site-changes": ("POST", "/end", CROSS, 403),
    "another-port": ("GET", "/live", {"Sec-Fetch-Site": "same-site"}, 403),
    "a-link": ("GET", "/live", CROSS | LINK, 200),
    "a-link-in-a-frame": ("GET", "/live", CROSS | LINK | {"Sec-Fetch-Dest": "iframe"}, 403),
    "a-form-of-another-site": ("POST", "/end", CROSS | LINK, 403),
    "another-sites-script-reads-metrics": ("GET", "/metrics", CROSS, 403),
    "a-link-to-metrics": ("GET", "/metrics", CROSS | LINK, 200),
    "another-origin": ("POST", "/end", {"Origin": "https://evil.example"}, 403),
    "an-origin-that-is-hidden": ("POST", "/end", {"Origin": "null"}, 403),
    "another-origin-reads": ("GET", "/live", {"Origin": "http://127.0.0.1:1"}, 403),
}


@pytest.mark.parametrize(("method", "path", "headers", "status"), SITES.values(), ids=SITES)
async def test_who_asks(client: Client, method: str, path: str, headers: dict[str, str], status: int) -> None:
    answer = await client.request(method, path, headers=headers)
    assert answer.status == status
    assert (await answer.text() == "done") == (status == 200)


async def test_our_own_origin_may_change_something(client: Client) -> None:
    origin = str(client.make_url("/")).rstrip("/")
    assert (await client.post("/end", headers={"Origin": origin} | SAME)).status == 200


HOSTS = {
    "127.0.0.1:9323": 200,
    "127.0.0.1": 200,
    "[::1]:9323": 200,
    "10.1.2.3:80": 200,
    "localhost:9323": 200,
    "LOCALHOST": 200,
    "build-7.example.com:9323": 200,
    socket.gethostname(): 200,
    "evil.example:9323": 421,
    "127.0.0.1.evil.example": 421,
    "localhost.evil.example": 421,
    "127.1": 421,
    "": 421,
    "localhost:9323:9323": 421,
    "localhost@evil.example": 421,
}
"""By which name we are asked -> status. A name that an attacker owns may mean this machine a moment later."""


@pytest.mark.parametrize(("host", "status"), HOSTS.items(), ids=HOSTS)
async def test_by_which_name(client: Client, host: str, status: int) -> None:
    assert (await client.get("/live", headers={"Host": host})).status == status
    for path in ANY_HOST:
        assert (await client.get(path, headers={"Host": host})).status == 200


@pytest.mark.parametrize(("path", "headers", "status"), [("/live", {}, 200), ("/live", CROSS, 403), ("/none", {}, 404)])
async def test_every_answer_says_what_a_page_may_do(
    client: Client, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.get(path, headers=headers)
    assert answer.status == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


async def test_a_unix_socket_is_asked_by_any_name(tmp_path: Path) -> None:
    async def done(request: web.Request) -> web.Response:
        return web.Response(text="done")

    application = web.Application(middlewares=[Browsers().check])
    application.add_routes([web.get("/live", done)])
    runner = web.AppRunner(application)
    await runner.setup()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"{tmp_path}/a.sock")
    await web.SockSite(runner, sock).start()
    try:
        connector = aiohttp.UnixConnector(f"{tmp_path}/a.sock")
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://whatever/live") as answer:
            assert answer.status == 200
    finally:
        await runner.cleanup()
