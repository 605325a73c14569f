"""The admin listener: metrics as they are on the registry, and whether the process is well and ready."""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from sockproxy.operating.admin import make_application, start_admin

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]


class State:
    """What the application is told of the proxy."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("things", "Things that were counted.", ["kind"], registry=self.registry)
        self.readiness = (True, "ready")

    async def ask(self) -> tuple[bool, str]:
        return self.readiness

    def application(self) -> web.Application:
        return make_application(self.registry, self.ask)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def client(aiohttp_client: MakeClient, state: State) -> Client:
    return await aiohttp_client(state.application())


async def test_metrics_are_what_the_registry_tells_now(client: Client, state: State) -> None:
    for count in (1, 2):
        state.counter.labels("a").inc()
        answer = await client.get("/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
        assert families["things"].samples[0].value == count


ACCEPTS = [  # what a scraper sends as Accept, and what it gets
    ("application/openmetrics-text", "application/openmetrics-text"),
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/openmetrics-text"),
    ("application/vnd.google.protobuf, APPLICATION/OpenMetrics-Text ; version=99.0", "application/openmetrics-text"),
    ("text/plain;version=0.0.4, application/openmetrics-text;q=0.1", "text/plain"),
    ("application/openmetrics-text-not", "text/plain"),
    ("text/html, */*", "text/plain"),
    (";,;version=x", "text/plain"),
    ("", "text/plain"),
]  # fmt: skip


@pytest.mark.parametrize(("accept", "content_type"), ACCEPTS)
async def test_metrics_come_in_the_form_that_is_liked_best(
    client: Client, state: State, accept: str, content_type: str
) -> None:
    state.counter.labels("a").inc(exemplar={"request_id": "a-1"})
    answer = await client.get("/metrics", headers={"Accept": accept})
    text = await answer.text()
    is_openmetrics = content_type == "application/openmetrics-text"
    assert answer.content_type == content_type
    assert answer.headers["Vary"] == "Accept"
    assert text.endswith("# EOF\n") == ('# {request_id="a-1"} 1.0' in text) == is_openmetrics
    parse = openmetrics_families if is_openmetrics else text_string_to_metric_families
    assert "things" in {family.name for family in parse(text)}


async def test_healthz_is_200_whatever_the_engine_does(client: Client, state: State) -> None:
    state.readiness = (False, "the engine does not answer")
    answer = await client.get("/healthz")
    assert (answer.status, await answer.text()) == (200, "ok\n")


async def test_readyz_says_in_a_line_why_not(client: Client, state: State) -> None:
    answer = await client.get("/readyz")
    assert (answer.status, await answer.text()) == (200, "ready\n")
    state.readiness = (False, "draining")
    answer = await client.get("/readyz")
    assert (answer.status, await answer.text()) == (503, "draining\n")


async def test_the_first_page_leads_to_all_others(client: Client) -> None:
    answer = await client.get("/")
    assert answer.content_type == "text/html"
    text = await answer.text()
    for path in ("/metrics", "/healthz", "/readyz"):
        assert f'href="{path}"' in text
        assert (await client.head(path)).status == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/debug", 404), ("POST", "/metrics", 405)])
async def test_there_is_nothing_else(client: Client, method: str, path: str, status: int) -> None:
    assert (await client.request(method, path)).status == status


async def test_it_is_served_on_bound_sockets_until_cleanup(state: State, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    runner = await start_admin(state.application(), [sock])
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        async with session.get("http://admin/healthz") as answer:
            assert answer.status == 200
        await runner.cleanup()
        with pytest.raises(aiohttp.ClientError):
            await session.get("http://admin/healthz")
