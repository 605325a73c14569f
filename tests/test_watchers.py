"""Those who watch: all are told the same, once, and only what is new; who is slow is dropped, and too many are turned away."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, web
from aiohttp.test_utils import TestClient

from sockproxy.operating.admin.application import start_admin
from sockproxy.operating.admin.watchers import MESSAGES_MAX, WATCHERS_MAX, Watcher, Watchers
from tests.streams import until

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]

NEVER = 1000.0  # seconds: the test itself says when one has passed


class Seen:
    """What there is to see, and how often somebody has looked."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {"numbers": {"rate": 1}, "flow": {"seen": 0, "rows": []}}
        self.looks = 0
        self.error: OSError | None = None

    def look(self) -> dict[str, Any]:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.now


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def watchers(seen: Seen) -> Watchers:
    return Watchers(seen.look, NEVER)


@pytest.fixture
async def client(aiohttp_client: MakeClient, watchers: Watchers) -> AsyncIterator[Client]:
    application = web.Application()
    application.on_shutdown.append(lambda _: watchers.end())
    application.add_routes([web.get("/live", watchers.watch)])
    async with asyncio.timeout(10):  # what hangs is a failure of this test alone
        yield await aiohttp_client(application)


async def event(answer: ClientResponse) -> tuple[str, Any]:
    """The next one."""
    fields: dict[str, str] = {}
    while line := (await answer.content.readline()).decode().rstrip("\n"):
        name, _, value = line.partition(": ")
        fields[name] = value
    return (fields["event"], json.loads(fields["data"])) if "event" in fields else await event(answer)


async def test_what_is_there_is_told_at_once_then_only_what_is_new(
    client: Client, watchers: Watchers, seen: Seen
) -> None:
    answer = await client.get("/live")
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert await event(answer) == ("numbers", {"rate": 1})
    watchers.tick()
    seen.now = seen.now | {"flow": {"seen": 2, "rows": [{"id": "a-1"}]}}
    watchers.tick()
    assert await event(answer) == ("flow", {"seen": 2, "rows": [{"id": "a-1"}]})
    seen.now = {"numbers": {"rate": 3}, "flow": {"seen": 0, "rows": []}}
    watchers.tick()
    assert await event(answer) == ("numbers", {"rate": 3})


async def test_who_comes_later_is_told_how_things_are(client: Client, watchers: Watchers, seen: Seen) -> None:
    await event(await client.get("/live"))
    looks = seen.looks
    assert await event(await client.get("/live")) == ("numbers", {"rate": 1})
    assert seen.looks == looks  # one reading for all


async def test_nobody_looks_for_nobody(client: Client, watchers: Watchers, seen: Seen) -> None:
    watchers.tick()
    assert seen.looks == 0
    answer = await client.get("/live")
    await event(answer)
    answer.close()
    await until(lambda: [watchers.tick(), watchers.count == 0][1])
    looks = seen.looks
    watchers.tick()
    assert seen.looks == looks


async def test_who_is_gone_leaves_nothing_that_waits(watchers: Watchers) -> None:
    # By the runner of the admin listener: that of the tests cancels what is asked for when a client goes.
    application = web.Application()
    application.add_routes([web.get("/live", watchers.watch)])
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await start_admin(application, [sock])
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.readuntil(b"event: numbers")
        assert _watcher_count() == 1
        writer.close()
        await until(lambda: [watchers.tick(), _watcher_count() == 0][1])
    await runner.cleanup()


def _watcher_count() -> int:
    return sum(isinstance(one, Watcher) for one in gc.get_objects())


async def test_it_ends_when_all_have_gone_and_begins_anew(aiohttp_client: MakeClient, seen: Seen) -> None:
    watchers = Watchers(seen.look, 0.001)
    application = web.Application()
    application.add_routes([web.get("/live", watchers.watch)])
    client = await aiohttp_client(application)
    for _ in range(2):
        answer = await client.get("/live")
        assert await event(answer) == ("numbers", {"rate": 1})
        assert watchers.is_looking
        answer.close()
        await until(lambda: not watchers.is_looking)


async def test_nothing_waits_for_who_has_gone(seen: Seen) -> None:
    watchers = Watchers(seen.look, 0.001)
    has_ended = asyncio.Event()

    async def watch(request: web.Request) -> web.StreamResponse:
        try:
            return await watchers.watch(request)
        finally:
            has_ended.set()

    application = web.Application()
    application.add_routes([web.get("/live", watch)])
    listening = socket.create_server(("127.0.0.1", 0))
    runner = await start_admin(application, [listening])  # as it is served: that of tests cancels who has gone
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    writer.write(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"event: numbers")
    writer.close()
    async with asyncio.timeout(10):
        await has_ended.wait()
        await runner.cleanup()


async def test_many_at_a_time_and_not_one_more(client: Client, watchers: Watchers) -> None:
    for _ in range(WATCHERS_MAX):
        assert (await client.get("/live")).status == 200
    answer = await client.get("/live")
    assert (answer.status, await answer.text()) == (503, f"{WATCHERS_MAX} are watching already\n")


async def test_one_who_is_slow_is_dropped_and_others_are_not(client: Client, watchers: Watchers, seen: Seen) -> None:
    slow = socket.create_connection((str(client.host), int(client.port or 0)))
    slow.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")  # and reads nothing
    await until(lambda: watchers.count == 1)
    quick = await client.get("/live")
    await event(quick)
    for number in range(1000):
        seen.now = {"numbers": {"rate": number, "more": "x" * 50_000}}
        watchers.tick()
        assert (await event(quick))[1]["rate"] == number
        if watchers.count == 1:
            break
    assert number >= MESSAGES_MAX
    slow.settimeout(5)
    with suppress(ConnectionResetError):
        while slow.recv(1 << 20):
            pass  # what had been sent before: it ends
    slow.close()
    watchers.tick()
    assert watchers.count == 1


async def test_a_worker_that_does_not_answer_is_passed_over(client: Client, watchers: Watchers, seen: Seen) -> None:
    answer = await client.get("/live")
    await event(answer)
    seen.error = TimeoutError("timed out")
    watchers.tick()
    seen.error, seen.now = None, {"numbers": {"rate": 9}}
    watchers.tick()
    assert await event(answer) == ("numbers", {"rate": 9})


async def test_when_all_is_over_nobody_holds_it_up(client: Client, watchers: Watchers) -> None:
    answer = await client.get("/live")
    await event(answer)
    await client.server.close()  # by which all handlers have ended
    assert watchers.count == 0
    with pytest.raises(ClientPayloadError):
        await answer.content.read()
