"""Connections that wait until it is known who they are: whom they are then served as, and that nothing of them is left."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sockproxy.forwarding.address import TlsFiles
from sockproxy.forwarding.client import Client
from sockproxy.forwarding.downstream.handshakes import Handshakes
from sockproxy.forwarding.downstream.introductions import Introductions
from sockproxy.forwarding.downstream.listener import Arrival
from sockproxy.forwarding.downstream.tls import ServerTls
from sockproxy.forwarding.serving.gates import Entrance
from sockproxy.forwarding.upstream.containers import Containers
from sockproxy.judging.clients import Match, Resident, parse_key
from sockproxy.judging.compiling import policy_of_nobody
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import Principal, identify
from sockproxy.operating.config import load_policy
from sockproxy.operating.known import load_catalogue
from tests.certificates import Authority
from tests.streams import Peer, World, open_world, until
from tests.test_proxy import GET, read_answer, serve_one
from tests.test_tls import client_context

FACTS = PeerFacts("front", "tcp", address="10.77.0.2:4000")
KNOWN = FACTS._replace(container="ab" * 32, container_name="ci-1", container_labels=(("team", "ci"),))


class Told(Containers):
    """Tells what the test says, when it says so."""

    def __init__(self, known: PeerFacts) -> None:
        self.known = known
        self.may_tell = asyncio.Event()
        self.may_tell.set()

    async def introduce(self, peer: PeerFacts, came_at: float) -> PeerFacts:
        await self.may_tell.wait()
        return self.known


class Front:
    """A listener whose clients are told apart by their containers."""

    def __init__(self, world: World, told: Told) -> None:
        catalogue = world.proxy.catalogue
        match = Match((("container", Resident("ci-*")),))
        client = Client(match, load_policy("readonly", catalogue))
        self.entrance = Entrance("front", [client], policy_of_nobody(catalogue))
        self.introductions = Introductions(world.proxy, world.connections, told)
        self.closed: list[Principal] = []
        self.peers: list[Peer] = []

    def connect(self, facts: PeerFacts = FACTS) -> Peer:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.introductions.begin(self.entrance.gate_of, Arrival(near, facts, identify(facts), self.closed.append))
        self.peers.append(Peer(far))
        return self.peers[-1]


@asynccontextmanager
async def open_front(known: PeerFacts, **limits: float) -> AsyncIterator[tuple[World, Told, Front]]:
    async with asyncio.timeout(10), open_world(**limits) as world:
        told = Told(known)
        front = Front(world, told)
        yield world, told, front
        front.introductions.cancel()
        for peer in front.peers:
            peer.close()


async def test_who_is_known_meets_its_policy_and_the_record_names_its_container() -> None:
    async with open_front(KNOWN) as (world, _, front):
        client = front.connect()
        await client.send(GET)
        await serve_one(world)
        assert (await read_answer(client))[0] == 200
        await until(lambda: world.exchanges)
        assert world.exchanges[0].principal.container == KNOWN.container
        assert world.exchanges[0].principal.key == identify(FACTS).key  # by which it was counted when it came
        client.finish()
        await until(lambda: front.closed)
        assert front.closed[0].key == identify(FACTS).key


async def test_who_is_not_known_is_nobody() -> None:
    async with open_front(FACTS) as (world, _, front):
        client = front.connect()
        await client.send(GET)
        assert (await read_answer(client))[0] == 403
        assert not world.engine_was_called()


async def test_nothing_is_served_before() -> None:
    async with open_front(KNOWN) as (world, told, front):
        told.may_tell.clear()
        client = front.connect()
        await client.send(GET)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not world.engine_was_called()
        told.may_tell.set()
        await serve_one(world)
        assert (await read_answer(client))[0] == 200


async def test_above_the_limit_and_at_the_end_they_are_closed() -> None:
    async with open_front(KNOWN, handshakes_max=1) as (world, told, front):
        told.may_tell.clear()
        first, second = front.connect(), front.connect()
        assert await second.receive_all() == b""
        assert (world.limits_hit, len(front.closed)) == (["handshakes_max"], 1)
        await asyncio.sleep(0)
        front.introductions.cancel()
        assert await first.receive_all() == b""
        assert len(front.closed) == 2


async def test_one_address_has_a_share_of_the_places() -> None:
    async with open_front(KNOWN, handshakes_max=8) as (world, told, front):
        told.may_tell.clear()
        for _ in range(2):
            front.connect()
        assert await front.connect().receive_all() == b""
        other = front.connect(FACTS._replace(address="10.77.0.3:4000"))
        await other.send(GET)
        told.may_tell.set()
        await serve_one(world)
        assert (await read_answer(other))[0] == 200
        for _ in range(2):  # those who waited have left their places
            front.connect()
        assert world.limits_hit == ["handshakes_max"]


def test_who_is_known_by_what_comes_before_is_not_asked_about() -> None:
    catalogue = load_catalogue()
    policy = load_policy("readonly", catalogue)
    near = Client(Match((("cidr", parse_key("cidr", "10.77.0.0/24")),)), policy)
    entrance = Entrance("front", [near, Client(Match((("container", Resident("ci-*")),)), policy)], policy)
    assert not entrance.has_to_ask(FACTS)
    assert entrance.has_to_ask(FACTS._replace(address="10.78.0.2:4000"))
    assert not entrance.has_to_ask(FACTS._replace(address="10.78.0.2:4000", is_introduced=True))


@pytest.mark.parametrize(("known", "status"), [(KNOWN, 200), (FACTS, 403)], ids=["known", "not-known"])
async def test_with_tls_it_is_found_out_after_the_handshake(tmp_path: Path, known: PeerFacts, status: int) -> None:
    authority = Authority(tmp_path / "authority")
    own = authority.sign("/CN=localhost", "DNS:localhost")
    async with open_front(known) as (world, told, front):
        tls = ServerTls(TlsFiles(own.cert, own.key, None))
        handshakes = Handshakes(world.proxy, world.connections)
        near, far = socket.socketpair()
        near.setblocking(False)
        arrival = Arrival(near, FACTS, identify(FACTS), lambda _: None)
        handshakes.begin(tls, front.entrance.gate_of, arrival, told.introduce)
        reader, writer = await asyncio.open_unix_connection(
            sock=far, ssl=client_context(authority, None), server_hostname="localhost"
        )
        writer.write(GET)
        if status == 200:
            await serve_one(world)
        assert (await reader.readline()).split()[1] == str(status).encode()
        writer.close()
        handshakes.cancel()
