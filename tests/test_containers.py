"""Which container a peer is: what the engine is asked, what its answers mean, and that all else is not known.

The engine is the test's: it tells of the containers that a row says are there.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sockproxy.forwarding.address import Address
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.upstream import containers as module
from sockproxy.forwarding.upstream.containers import Containers
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.judging.clients import Match, Resident, asks_engine, holds, parse_key
from sockproxy.judging.identity import Peer

A, B = "ab" * 32, "cd" * 32
TCP = Peer("front", "tcp", address="10.77.0.2:4000")
UNIX = Peer("front", "unix", uid=0, gid=0, pid=7, container=A)
CAME_AT = time.time()
LABELS = {"team": "ci", "empty": ""}


def container(
    id: str = A, address: str = "10.77.0.2", *, started: float = -60.0, running: bool = True, ipv6: str = ""
) -> dict[str, Any]:
    at = datetime.fromtimestamp(CAME_AT + started, UTC)
    return {
        "Id": id,
        "Name": "/ci-1",
        "Config": {"Labels": LABELS},
        "State": {"Running": running, "StartedAt": at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"},
        "NetworkSettings": {"Networks": {"ci": {"IPAddress": address, "GlobalIPv6Address": ipv6}}},
    }


Answer = Callable[[str], bytes]


def of(*there: Any, listed: Any = None) -> Answer:
    """An engine in which these containers run."""

    def answer(target: str) -> bytes:
        if target == "/containers/json":
            return ok(there if listed is None else listed)
        found = [one for one in there if f"/containers/{one['Id']}/json" == target]
        return ok(found[0]) if found else b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"

    return answer


def ok(content: Any) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@asynccontextmanager
async def open_containers(folder: Any, answer: Answer, **limits: float) -> AsyncIterator[tuple[Containers, list[str]]]:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            asked.append(head.split()[1].decode())
            writer.write(answer(asked[-1]))

    async def serve_until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    path = f"{folder}/e.sock"
    server = await asyncio.start_unix_server(serve_until_gone, path)
    loop = asyncio.get_running_loop()
    hangups = HangupWatch(loop)
    own = replace(Limits(), **limits)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            yield Containers(Engine(Address("unix", path=path), own, loop, hangups), own), asked
    finally:
        server.close()
        hangups.close()


KNOWN: dict[str, tuple[Peer, Answer, list[str]]] = {
    "by-address": (TCP, of(container(), container(B, "10.77.0.3")), ["/containers/json", f"/containers/{A}/json"]),
    "by-address-of-both-families": (
        TCP._replace(address="::ffff:10.77.0.2:4000"),
        of(container()),
        ["/containers/json", f"/containers/{A}/json"],
    ),
    "by-ipv6-address": (
        TCP._replace(address="fd00::2:4000"),
        of(container(address="", ipv6="fd00:0::2")),
        ["/containers/json", f"/containers/{A}/json"],
    ),
    "by-control-group": (UNIX, of(container(), container(B)), [f"/containers/{A}/json"]),
    "just-started": (TCP, of(container(started=0.3)), ["/containers/json", f"/containers/{A}/json"]),
}


@pytest.mark.parametrize(("peer", "answer", "expected"), KNOWN.values(), ids=KNOWN)
async def test_who_is_known_and_what_is_asked_for_it(
    tmp_path: Any, peer: Peer, answer: Answer, expected: list[str]
) -> None:
    async with open_containers(tmp_path, answer) as (containers, asked):
        known = await containers.introduce(peer, CAME_AT)
        assert (known.container, known.container_name) == (A, "ci-1")
        assert dict(known.container_labels) == LABELS
        assert known.is_introduced
        as_it_came = {"container_name": None, "container_labels": (), "is_introduced": False}
        assert known._replace(container=peer.container, **as_it_came) == peer
        assert asked == expected


IN_NONE: dict[str, tuple[Peer, Answer]] = {
    "nobody-there": (TCP, of()),
    "another-address": (TCP, of(container(address="10.77.0.20"))),
    "in-the-hosts-network": (TCP, of(container(address=""))),
    "no-address": (TCP._replace(address=":0"), of(container(address=""))),
    "not-running": (UNIX, of(container(running=False))),
    "no-such-container": (UNIX, of()),
    "no-container": (UNIX._replace(container=None), of(container())),
}

UNKNOWN: dict[str, tuple[Peer, Answer]] = {
    "two-in-networks-apart": (TCP, of(container(), container(B))),
    "started-after-it-came": (TCP, of(container(started=0.7))),
    "not-running": (TCP, of(container(running=False))),
    "left-since": (TCP, of(container(address=""), listed=[container()])),
    "ended-since": (TCP, of(listed=[container()])),
    "another-id": (UNIX, lambda _: ok(container(B))),
    "labels-too-long": (
        UNIX,
        of({**container(), "Config": {"Labels": {"team": "x" * module.LABELS_CHARACTERS_MAX}}}),
    ),
    "no-list-there": (TCP, lambda _: b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"),
    "no-json": (TCP, lambda _: ok(b"<html>")),
    "no-list": (TCP, lambda _: ok(b"7")),
    "no-container-in-it": (TCP, lambda _: ok([{}])),
    "an-error": (TCP, lambda _: b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n[]"),
    "no-end": (TCP, lambda _: b"HTTP/1.1 200 OK\r\n\r\n[]"),
    "no-http": (TCP, lambda _: b"hello\r\n\r\n"),
    "no-id": (TCP, lambda _: ok([container("../../x")])),
    "no-time": (TCP, of({**container(), "State": {"Running": True, "StartedAt": "yesterday"}})),
}


@pytest.mark.parametrize(("peer", "answer"), IN_NONE.values(), ids=IN_NONE)
async def test_who_is_in_no_container_is_introduced_as_that(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, peer: Peer, answer: Answer
) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.0, 0.0))
    async with open_containers(tmp_path, answer) as (containers, _):
        assert await containers.introduce(peer, CAME_AT) == peer._replace(is_introduced=True)


@pytest.mark.parametrize(("peer", "answer"), UNKNOWN.values(), ids=UNKNOWN)
async def test_all_else_is_not_known_and_meets_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, peer: Peer, answer: Answer
) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.0, 0.0))
    async with open_containers(tmp_path, answer) as (containers, _):
        assert await containers.introduce(peer, CAME_AT) == peer
    assert not holds(Match((("container", Resident("*")),)), peer)


async def test_connections_of_one_container_share_what_is_remembered_of_it(tmp_path: Any) -> None:
    async with open_containers(tmp_path, of(container())) as (containers, _):
        known = [await containers.introduce(TCP._replace(address=f"10.77.0.2:{port}"), CAME_AT) for port in (1, 2)]
    assert known[0].container_labels is known[1].container_labels


async def test_an_engine_that_does_not_answer_is_not_waited_for(tmp_path: Any) -> None:
    async with open_containers(tmp_path, lambda _: b"", connect_seconds=0.05) as (containers, _):
        assert await containers.introduce(TCP, CAME_AT) == TCP


async def test_an_engine_that_is_away_tells_nothing(tmp_path: Any) -> None:
    async with open_containers(tmp_path, of()) as (containers, _):
        (tmp_path / "e.sock").unlink()
        assert await containers.introduce(TCP, CAME_AT) == TCP


async def test_what_is_above_the_bound_is_not_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 100)
    async with open_containers(tmp_path, of(container())) as (containers, asked):
        assert await containers.introduce(TCP, CAME_AT) == TCP
        assert asked == ["/containers/json"]


async def test_who_is_not_there_yet_is_asked_about_again(tmp_path: Any) -> None:
    answers = [[], [], [container()]]

    def answer(target: str) -> bytes:
        return ok(answers.pop(0)) if target == "/containers/json" else ok(container())

    async with open_containers(tmp_path, answer) as (containers, _):
        assert (await containers.introduce(TCP, CAME_AT)).container == A


ASKED: list[tuple[str | Resident, Peer, bool]] = [
    (Resident("ci-*"), TCP._replace(container_name="ci-1"), True),
    (Resident("ci-*"), TCP._replace(container_name="cd-1"), False),
    (Resident("*"), TCP, False),
    (Resident("", (("team", "c*"),)), TCP._replace(container_name="a", container_labels=(("team", "ci"),)), True),
    (Resident("", (("team", "c*"),)), TCP._replace(container_name="a", container_labels=(("Team", "ci"),)), False),
    (Resident("", (("team", ""),)), TCP._replace(container_name="a", container_labels=(("team", ""),)), True),
    (Resident("", (("team", "*"),)), TCP._replace(container_name="a"), False),
    (Resident("a", (("team", "x"),)), TCP._replace(container_name="a", container_labels=(("team", "ci"),)), False),
    (A, TCP._replace(container=A), True),
    (A, TCP, False),
]


@pytest.mark.parametrize(("wanted", "peer", "expected"), ASKED)
def test_what_a_match_asks_of_a_container(wanted: str | Resident, peer: Peer, expected: bool) -> None:
    asked = wanted if isinstance(wanted, Resident) else parse_key("container", wanted)
    assert holds(Match((("container", asked),)), peer) is expected


def test_the_engine_is_asked_only_where_a_match_needs_it() -> None:
    assert asks_engine(Match()) == asks_engine(Match((("uid", 0),))) == frozenset()
    assert asks_engine(Match((("container", parse_key("container", A)),))) == {"tcp"}
    assert asks_engine(Match((("container", Resident("*")),))) == {"unix", "tcp"}
