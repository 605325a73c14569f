"""The admin listener: metrics as they are on the registry, and whether the process is well and ready."""

import os
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

from sockproxy.operating.admin.application import (
    PAGE,
    PAGE_TYPES,
    TOKEN_BYTES_MIN,
    Asked,
    make_application,
    start_admin,
)
from sockproxy.operating.admin.live import Sights
from sockproxy.operating.admin.streams import StreamControl

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]


class State:
    """What the application is told of the proxy."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("things", "Things that were counted.", ["kind"], registry=self.registry)
        self.readiness = (True, "ready")
        self.open = ["a-1", "a-2"]
        self.token_file: str | None = None
        self.error: OSError | None = None

    async def ask(self) -> tuple[bool, str]:
        return self.readiness

    def tell(self) -> dict[str, object]:
        if self.error is not None:
            raise self.error
        return {"count": len(self.open), "old": 0, "streams": [{"id": id} for id in self.open]}

    def look(self) -> dict[str, object]:
        return {"seen": 0, "rows": [], "denials": [], "trails": []}

    def policies(self, version: str) -> dict[str, object]:
        return {"api_version": version or "newest"}

    def end(self, id: str) -> bool:
        if id in self.open:
            self.open.remove(id)
            return True
        return False

    def application(self) -> web.Application:
        asked = Asked(self.registry, self.ask, StreamControl(self.tell, self.end), Sights(self.look, self.policies))
        return make_application(asked, self.token_file)


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
    ("application/openmetrics-text;q=0.2,text/plain;q=0.9", "text/plain"),
    ("application/openmetrics-text; version=1.0.0; q=0", "text/plain"),
    ("text/plain;q=0.5, application/openmetrics-text", "application/openmetrics-text"),
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
    for path in ("/metrics", "/healthz", "/readyz", "/streams"):
        assert f'href="{path}"' in text
        assert (await client.head(path)).status == 200


async def test_the_page_has_all_of_its_files_and_no_others(client: Client) -> None:
    assert {path.name for path in PAGE.iterdir()} == set(PAGE_TYPES)
    for name, kind in PAGE_TYPES.items():
        answer = await client.get(f"/page/{name}")
        assert (answer.status, answer.content_type) == (200, kind)
    for name in ("other.js", "..%2fadmin.py", "%2e%2e/admin.py"):
        assert (await client.get(f"/page/{name}")).status == 404


VERSIONS = [("", 200, "newest"), ("?api=1.41", 200, "1.41"), ("?api=x", 400, ""), ("?api=1.041", 400, "")]


@pytest.mark.parametrize(("query", "status", "version"), VERSIONS)
async def test_policies_are_told_for_an_api_version(client: Client, query: str, status: int, version: str) -> None:
    answer = await client.get(f"/policies{query}")
    assert answer.status == status
    assert not version or await answer.json() == {"api_version": version}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/debug", 404), ("POST", "/metrics", 405), ("GET", "/streams/a-1/end", 405)]
)
async def test_there_is_nothing_else(client: Client, method: str, path: str, status: int) -> None:
    assert (await client.request(method, path)).status == status


async def test_streams_are_told_as_they_are_now(client: Client, state: State) -> None:
    answer = await client.get("/streams")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert (await answer.json())["streams"] == [{"id": "a-1"}, {"id": "a-2"}]
    state.error = TimeoutError("timed out")
    assert (await client.get("/streams")).status == 503


TOKEN = "t" * TOKEN_BYTES_MIN
ENDINGS = {
    # what the file holds (None: no file is configured, "-": there is none), what is shown -> status
    "right": (TOKEN, f"Bearer {TOKEN}", 200),
    "right-with-a-line-end": (f"{TOKEN}\n", f"Bearer {TOKEN}", 200),
    "not-configured": (None, f"Bearer {TOKEN}", 403),
    "not-configured-nothing-shown": (None, None, 403),
    "no-file": ("-", f"Bearer {TOKEN}", 403),
    "an-empty-file": ("", "Bearer ", 403),
    "too-short": (TOKEN[1:], f"Bearer {TOKEN[1:]}", 403),
    "nothing-shown": (TOKEN, None, 401),
    "wrong": (TOKEN, f"Bearer {TOKEN[:-1]}u", 401),
    "beginning-only": (TOKEN, f"Bearer {TOKEN[:-1]}", 401),
    "another-scheme": (TOKEN, f"Basic {TOKEN}", 401),
    "bare": (TOKEN, TOKEN, 401),
}


@pytest.mark.parametrize(("held", "shown", "status"), ENDINGS.values(), ids=ENDINGS)
async def test_only_who_has_the_token_ends_a_stream(
    aiohttp_client: MakeClient, state: State, tmp_path: Path, held: str | None, shown: str | None, status: int
) -> None:
    state.token_file = None if held is None else str(tmp_path / "token")
    if held not in (None, "-"):
        (tmp_path / "token").write_text(str(held))
    client = await aiohttp_client(state.application())
    answer = await client.post("/streams/a-1/end", headers={} if shown is None else {"Authorization": shown})
    assert answer.status == status
    assert state.open == (["a-2"] if status == 200 else ["a-1", "a-2"])
    if status == 200:
        assert await answer.json() == {"ended": "a-1"}
        again = await client.post("/streams/a-1/end", headers={"Authorization": str(shown)})
        assert again.status == 404
    else:
        assert TOKEN not in await answer.text()


@pytest.mark.parametrize("kind", ["anybody-may-write-it", "a-pipe"])
async def test_what_anybody_could_have_written_is_no_token(
    aiohttp_client: MakeClient, state: State, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "token"
    if kind == "a-pipe":
        os.mkfifo(file)
    else:
        file.write_text(TOKEN)
        file.chmod(0o606)
    state.token_file = str(file)
    client = await aiohttp_client(state.application())
    assert (await client.post("/streams/a-1/end", headers={"Authorization": f"Bearer {TOKEN}"})).status == 403


async def test_a_token_that_was_changed_is_asked_for_at_once(
    aiohttp_client: MakeClient, state: State, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    state.token_file = str(file)
    client = await aiohttp_client(state.application())
    file.write_text("u" * 20)
    for shown, status in ((TOKEN, 401), ("u" * 20, 200)):
        answer = await client.post("/streams/a-1/end", headers={"Authorization": f"Bearer {shown}"})
        assert answer.status == status


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
