"""Meter: each principal may ask for so much and no more, on either way, and what is above is told and harms nobody."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.forwarding import meter as meter_module
from sockproxy.forwarding.client import Client
from sockproxy.forwarding.limits import ClientLimits
from sockproxy.forwarding.meter import Meter, MeteredHeads, Refusal
from sockproxy.forwarding.serving.gates import Entrance, Gate
from sockproxy.judging.clients import ANYBODY, Match
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import identify
from sockproxy.operating.config import load_policy
from tests.exchanges import CATALOGUE
from tests.streams import Peer, World, open_world, until

HEAD_END = b"\r\n\r\n"
PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
WAIT = b"POST /v1.41/containers/x/start HTTP/1.1\r\nHost: d\r\n\r\n"
STOP = b"POST /v1.41/containers/x/stop HTTP/1.1\r\nHost: d\r\n\r\n"
ATTACH = b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def unary(meter: Meter, key: str = "uid:1") -> Refusal | None:
    return meter.begin(key, is_stream=False, is_paid=False)


def stream(meter: Meter, key: str = "uid:1") -> Refusal | None:
    return meter.begin(key, is_stream=True, is_paid=False)


# --- counting


def test_what_is_held_is_told_of_who_has_most() -> None:
    meter = Meter(ClientLimits(concurrent=4, streams=10), Clock())
    assert meter.held() == {"concurrent": (0, 4), "streams": (0, 10)}
    for key, count in (("uid:1", 1), ("uid:2", 3)):
        for _ in range(count):
            assert unary(meter, key) is None
            assert stream(meter, key) is None
    assert meter.held() == {"concurrent": (3, 4), "streams": (3, 10)}
    assert Meter(ClientLimits(requests_per_second=1), Clock()).held() == {}, "what is not limited is not told"


def test_a_burst_and_then_one_at_a_time() -> None:
    clock = Clock()
    meter = Meter(ClientLimits(requests_per_second=2, burst=3), clock)
    assert [unary(meter) for _ in range(3)] == [None] * 3
    assert unary(meter) == Refusal("requests_per_second", "more than 2 requests a second", 1)
    clock.now += 0.5
    assert [unary(meter) is None for _ in range(2)] == [True, False]
    clock.now += 100
    assert [unary(meter) is None for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("rate", "first", "seconds"), [(5, 5, 1), (0.5, 1, 2), (0.1, 1, 10), (2.5, 3, 1)])
def test_without_a_burst_as_many_as_in_a_second_and_one_at_least(rate: float, first: int, seconds: int) -> None:
    meter = Meter(ClientLimits(requests_per_second=rate), Clock())
    assert [unary(meter) for _ in range(first)] == [None] * first
    refusal = unary(meter)
    assert refusal is not None
    assert refusal.retry_seconds == seconds


def test_who_asks_again_when_told_is_served() -> None:
    clock = Clock()
    meter = Meter(ClientLimits(requests_per_second=0.3), clock)
    assert unary(meter) is None
    refusal = unary(meter)
    assert refusal is not None
    clock.now += refusal.retry_seconds
    assert unary(meter) is None


def test_requests_and_streams_are_counted_apart() -> None:
    meter = Meter(ClientLimits(concurrent=1, streams=2), Clock())
    assert [unary(meter), stream(meter), stream(meter)] == [None] * 3
    assert unary(meter) == Refusal("concurrent", "more than 1 requests at once", 1)
    assert stream(meter) == Refusal("streams", "more than 2 streams at once", 1)
    meter.end("uid:1", is_stream=False)
    assert unary(meter) is None
    meter.end("uid:1", is_stream=True)
    assert stream(meter) is None


def test_each_principal_has_its_own() -> None:
    meter = Meter(ClientLimits(requests_per_second=1, concurrent=1, streams=1), Clock())
    for key in ("uid:1", "uid:2", "tls:CN=a"):
        assert unary(meter, key) is None
        assert unary(meter, key) is not None


def test_who_is_refused_for_another_reason_keeps_the_token() -> None:
    clock = Clock()
    meter = Meter(ClientLimits(requests_per_second=1, burst=2, concurrent=1), clock)
    assert unary(meter) is None
    for _ in range(5):
        assert (unary(meter) or Refusal("", "", 0)).limit == "concurrent"
    meter.end("uid:1", is_stream=False)
    assert unary(meter) is None


def test_a_head_that_is_known_takes_a_token_and_one_that_is_not_does_not() -> None:
    meter = Meter(ClientLimits(requests_per_second=1, burst=1), Clock())
    heads: MeteredHeads[str] = MeteredHeads({b"known": "it"}, meter, "uid:1")
    assert heads.get(b"other") is None
    assert not heads.take_paid()
    assert heads.get(b"known") == "it"
    assert [heads.take_paid(), heads.take_paid()] == [True, False]
    assert heads.get(b"known") is None
    assert not heads.take_paid()


def test_those_who_use_nothing_are_forgotten_and_others_are_not() -> None:
    clock = Clock()
    meter = Meter(ClientLimits(requests_per_second=1, burst=1, streams=1), clock)
    assert stream(meter, "stays") is None
    for number in range(meter_module.PRINCIPALS_MAX - 1):
        assert unary(meter, f"address:{number}") is None
        meter.end(f"address:{number}", is_stream=False)
    assert meter.principal_count == meter_module.PRINCIPALS_MAX
    clock.now += 1
    assert unary(meter, "new") is None
    assert meter.principal_count == 2
    assert stream(meter, "stays") is not None


@given(
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60),
)
def test_never_more_than_the_burst_and_the_rate_together(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    meter = Meter(ClientLimits(requests_per_second=rate, burst=burst), clock)
    served = 0
    for pause in pauses:
        clock.now += pause
        served += unary(meter) is None
    assert served <= burst + rate * sum(pauses) + 1e-6
    assert served >= 1


# --- on both ways


@asynccontextmanager
async def open_metered(clock: Clock, **limits: float) -> AsyncIterator[World]:
    async with asyncio.timeout(10), open_world() as world:
        bounds = ClientLimits(**limits)  # type: ignore[arg-type]
        world.gate = Gate("listener", world.gate.policy, Meter(bounds, clock))
        yield world


async def ask(world: World, client: Peer, engine: Peer | None) -> tuple[int, bytes, Peer | None]:
    """The status and what else came for a PING; the engine answers what reaches it."""
    await client.send(PING)
    while True:
        if engine is None and world.engine_was_called():
            engine = await world.accept()
        for peer in (engine, client):
            if peer is not None and (data := peek(peer)):
                if peer is client:
                    head = await client.receive_until(HEAD_END)
                    length = int(head.partition(b"Content-Length: ")[2].split()[0])
                    return int(head.split()[1]), head + await client.receive(length), engine
                await peer.receive(len(data))
                await peer.send(OK)
        await asyncio.sleep(0)


def peek(peer: Peer) -> bytes:
    try:
        return peer.sock.recv(1 << 16, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


async def test_the_express_way_takes_tokens_as_well() -> None:
    clock = Clock()
    async with open_metered(clock, requests_per_second=2, burst=10) as world:
        client, engine = await world.connect(), None
        statuses = []
        for _ in range(15):
            status, answer, engine = await ask(world, client, engine)
            statuses.append(status)
        assert statuses == [200] * 10 + [429] * 5  # and the connection stays
        assert len(world.served) >= 5  # most went the express way
        assert b"Retry-After: 1\r\n" in answer
        assert b"Connection: close" not in answer
        message = "sockproxy: more than 2 requests a second (requests_per_second); try again in 1 s"
        assert json.loads(answer.partition(HEAD_END)[2]) == {"message": message}
        assert world.limits_hit == ["requests_per_second"] * 5
        clock.now += 1
        for expected in (200, 200, 429):
            status, _, engine = await ask(world, client, engine)
            assert status == expected


async def test_a_token_pays_for_one_request_also_where_another_comes_before_its_answer() -> None:
    async with open_metered(Clock(), requests_per_second=1, burst=4) as world:
        client, engine = await world.connect(), None
        for _ in range(2):
            _, _, engine = await ask(world, client, engine)
        assert engine is not None
        await client.send(PING)  # is known by now, and goes the express way
        await engine.receive_until(HEAD_END)
        await client.send(STOP * 2)
        await engine.send(OK)
        assert await client.receive(len(OK)) == OK
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        assert await client.receive(len(OK)) == OK
        assert (await client.receive_until(HEAD_END)).startswith(b"HTTP/1.1 429 ")


async def test_what_is_above_is_recorded_as_allowed_and_refused() -> None:
    async with open_metered(Clock(), requests_per_second=1, burst=1) as world:
        client = await world.connect()
        _, _, engine = await ask(world, client, None)
        await ask(world, client, engine)
        await until(lambda: len(world.exchanges) == 2)
        above = world.exchanges[1]
        assert above.decision is not None
        assert (above.stage.name, above.status, above.decision.effect) == ("REFUSED", 429, "allow")
        assert above.id in world.decided


async def test_so_many_requests_at_once_and_no_more() -> None:
    async with open_metered(Clock(), concurrent=2) as world:
        inside = [await world.connect(), await world.connect()]
        engines = []
        for client in inside:
            await client.send(WAIT)
            engines.append(await world.accept())
            await engines[-1].receive_until(HEAD_END)
        third = await world.connect()
        await third.send(WAIT)
        assert (await third.receive_until(HEAD_END)).startswith(b"HTTP/1.1 429 ")
        assert not world.engine_was_called()
        await engines[0].send(OK)
        assert await inside[0].receive(len(OK)) == OK
        inside[1].close()  # who goes away counts no more, either
        await engines[1].receive_all()
        fourth = await world.connect()
        await until(lambda: len(world.exchanges) == 3)
        await fourth.send(WAIT)
        await engines[0].receive_until(HEAD_END)  # the kept connection
        assert world.limits_hit == ["concurrent"]
        assert world.served == []


async def test_so_many_streams_at_once_and_no_more() -> None:
    async with open_metered(Clock(), streams=1) as world:
        client = await world.connect()
        await client.send(ATTACH)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        await engine.send(UPGRADED)
        assert await client.receive(len(UPGRADED)) == UPGRADED
        second = await world.connect()
        await second.send(ATTACH)
        assert (await second.receive_until(HEAD_END)).startswith(b"HTTP/1.1 429 ")
        status, _, kept = await ask(world, await world.connect(), None)
        assert status == 200 and kept is not None
        client.close()
        engine.close()
        await until(lambda: len(world.exchanges) >= 2 and world.exchanges[-1].is_tunnel)
        third = await world.connect()
        await third.send(ATTACH)
        await kept.receive_until(HEAD_END)


# --- at a listener


def test_a_reload_forgets_nothing_that_is_in_use() -> None:
    policy = load_policy("readonly", CATALOGUE)
    one = Client(Match((("uid", 1),)), policy, ClientLimits(streams=1))
    entrance = Entrance("front", [one, Client(ANYBODY, policy)], policy)
    peer = PeerFacts("front", "unix", uid=1)
    meter = entrance.gate_of(peer).meter
    assert meter is not None
    assert stream(meter, identify(peer).key) is None
    entrance.take([one._replace(policy=load_policy("allow-all", CATALOGUE))])
    again = entrance.gate_of(peer).meter
    assert again is meter
    assert stream(again, identify(peer).key) is not None
