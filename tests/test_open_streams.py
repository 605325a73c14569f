"""Streams and tunnels that are open: which are told, by which decision they go on, and how an administrator ends one."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest

from sockproxy.exchange import Stage
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.operating.admin.streams import (
    ENDED,
    LOGGED_MAX,
    TOLD_MAX,
    end_stream,
    log_old_streams,
    merge_streams,
    tell_streams,
)
from sockproxy.operating.config import load_policy
from sockproxy.recording.event import completed_event
from tests.streams import PRINCIPAL, Peer, World, open_world, until
from tests.test_proxy import GET, HEAD_END, OK, read_answer

EVENTS = b"GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n"
LOGS = b"GET /v1.41/containers/web/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n"
WAIT = b"POST /v1.41/containers/web/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"
EXEC = b"POST /v1.41/exec/abc/start HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
RAW = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

OPEN = {
    # request, the engine's head -> operation, kind and name of the resource
    "stream": (EVENTS, CHUNKED, "SystemEvents", "", ""),
    "stream-that-ends-with-the-connection": (LOGS, RAW, "ContainerLogs", "container", "web"),
    "tunnel": (EXEC, UPGRADED, "ExecStart", "exec", "abc"),
    "tunnel-of-old": (EXEC, RAW, "ExecStart", "exec", "abc"),
    "not-answered-yet": (WAIT, b"", "ContainerWait", "container", "web"),
}


async def open_one(world: World, request: bytes, head: bytes) -> tuple[Peer, Peer]:
    """A client with a stream, and the engine's end of it."""
    client = await world.connect()
    await client.send(request)
    engine = await world.accept()
    await engine.receive_until(HEAD_END)
    if head:
        await engine.send(head)
        await client.receive_until(HEAD_END)
    await until(lambda: tell_streams(world.connections)["count"])
    return client, engine


def told(world: World) -> list[dict[str, Any]]:
    streams: list[dict[str, Any]] = tell_streams(world.connections)["streams"]
    return streams


@pytest.mark.parametrize(("request_", "head", "operation", "kind", "name"), OPEN.values(), ids=OPEN)
async def test_what_is_open_is_told_and_can_be_ended(
    request_: bytes, head: bytes, operation: str, kind: str, name: str
) -> None:
    async with asyncio.timeout(10), open_world() as world:
        client, engine = await open_one(world, request_, head)
        [one] = told(world)
        assert (one["operation"], one["resource"]) == (operation, {"kind": kind, "name": name})
        assert (one["listener"], one["principal"]["uid"]) == ("listener", 1000)
        assert (one["policy"], one["policy_revision"]) == ("allow-all", world.gate.policy.revision)
        assert one["is_old"] is False
        assert one["since"].endswith("Z")
        assert not end_stream(world.connections, "none")
        assert end_stream(world.connections, one["id"])
        for side in (client, engine):
            with suppress(ConnectionResetError):  # which is an end, too
                await side.receive_all()
        await until(lambda: world.exchanges)
        [exchange] = world.exchanges
        event = completed_event(exchange)
        assert (event["id"], event["reason"], event["effect"]) == (one["id"], ENDED, "allow")
        assert exchange.detail == ENDED
        assert exchange.stage in (Stage.ANSWERED, Stage.FAILED)
        assert told(world) == []
        assert not end_stream(world.connections, one["id"])


async def test_bytes_are_told_as_they_go() -> None:
    async with asyncio.timeout(10), open_world() as world:
        client, engine = await open_one(world, EXEC, UPGRADED)
        await client.send(b"hello")
        await engine.receive_until(b"hello")
        await engine.send(b"good bye")
        await client.receive(8)
        assert (told(world)[0]["bytes_in"], told(world)[0]["bytes_out"]) == (2 + 5, 8)


async def test_what_ends_by_itself_or_is_no_stream_is_not_told() -> None:
    async with asyncio.timeout(10), open_world() as world:
        client, engine = await open_one(world, EVENTS, CHUNKED)
        await engine.send(b"0\r\n\r\n")
        await client.receive(5)
        await until(lambda: not told(world))
        await client.send(GET)
        await engine.receive_until(HEAD_END)
        assert told(world) == []
        await engine.send(OK)
        await read_answer(client)


async def test_a_stream_that_was_decided_by_what_does_not_hold_any_more_is_old(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sockproxy")
    async with asyncio.timeout(10), open_world() as world:
        near_peer = PeerFacts("listener", "unix", uid=1000)
        await open_one(world, LOGS, CHUNKED)
        assert log_old_streams(world.connections) == 0
        lead(world, near_peer, "allow-all")
        assert log_old_streams(world.connections) == 0  # another gate, but the same policy
        lead(world, near_peer, "readonly")
        assert log_old_streams(world.connections) == 1
        [one] = told(world)
        assert (one["is_old"], one["policy"]) == (True, "allow-all")
        assert tell_streams(world.connections)["old"] == 1
        [record] = [record for record in caplog.records if record.getMessage() == "old-stream"]
        expected = {"principal": PRINCIPAL.key, "operation": "ContainerLogs", "resource": "container web"}
        assert {key: record.__dict__[key] for key in expected} == expected
        assert record.__dict__["exchange"] == one["id"]
        assert record.__dict__["policy_revision"] == one["policy_revision"]


def lead(world: World, peer: PeerFacts, policy: str) -> None:
    """As a reload does."""
    for caller in world.connections._tasks.values():
        caller.peer = peer
    gate = Gate("listener", load_policy(policy, world.proxy.catalogue))
    world.connections.lead(lambda _: gate)


async def test_the_log_names_the_oldest_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sockproxy")
    async with asyncio.timeout(20), open_world() as world:
        for _ in range(LOGGED_MAX + 2):
            await open_one(world, EVENTS, CHUNKED)
        lead(world, PeerFacts("listener", "unix", uid=1000), "readonly")
        assert log_old_streams(world.connections) == LOGGED_MAX + 2
        assert [record.getMessage() for record in caplog.records].count("old-stream") == LOGGED_MAX


def test_those_of_several_processes_are_one_list_with_the_old_ones_first() -> None:
    def part(*streams: tuple[str, bool]) -> dict[str, Any]:
        return {
            "count": len(streams) + 5,  # as if not all were told
            "old": sum(is_old for _, is_old in streams),
            "streams": [{"id": since, "since": since, "is_old": is_old} for since, is_old in streams],
        }

    merged = merge_streams([part(("3", False), ("5", True)), part(("1", False), ("6", True)), part()])
    assert (merged["count"], merged["old"]) == (4 + 15, 2)
    assert [one["id"] for one in merged["streams"]] == ["5", "6", "1", "3"]
    many = merge_streams([part(*((f"{number:05}", False) for number in range(TOLD_MAX + 3)))])
    assert (len(many["streams"]), many["count"]) == (TOLD_MAX, TOLD_MAX + 3 + 5)
