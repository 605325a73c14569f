"""Saturation: how much of each limit is in use, of several the fullest."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sockproxy.forwarding.client import Client
from sockproxy.forwarding.downstream.listener import Census
from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.forwarding.serving.gates import Entrance
from sockproxy.judging.clients import ANYBODY
from sockproxy.judging.identity import Peer, identify
from sockproxy.operating.config import load_policy
from sockproxy.operating.saturation import limits_used
from tests.exchanges import CATALOGUE

POLICY = load_policy("readonly", CATALOGUE)


def entrance(streams_max: int, streams: int) -> Entrance:
    """One whose clients may have so many streams, and one of them has some."""
    made = Entrance("front", [Client(ANYBODY, POLICY, ClientLimits(streams=streams_max))], POLICY)
    for _ in range(streams):
        made.meters[0].begin("uid:1", is_stream=True, is_paid=False)
    return made


def used(limits: Limits, *entrances: Entrance, handshakes: int = 0, held_bytes: int = 0, clients: int = 0) -> Any:
    census = Census(limits)
    for number in range(clients):
        census.enter(identify(Peer("front", "unix", uid=number)))
    shaking, proxy = SimpleNamespace(count=handshakes), SimpleNamespace(holding=SimpleNamespace(bytes=held_bytes))
    return limits_used(limits, census, shaking, proxy, entrances)  # type: ignore[arg-type]  # all that is asked of them


LIMITS = replace(
    Limits(), connections_max=10, connections_per_principal_max=4, handshakes_max=8, judged_bodies_bytes_max=100
)
NOTHING = {
    "connections_max": 0.0,
    "connections_per_principal_max": 0.0,
    "handshakes_max": 0.0,
    "judged_bodies_bytes_max": 0.0,
}


def test_at_first_nothing_is_used() -> None:
    assert used(LIMITS) == NOTHING


def test_each_is_told_by_its_share() -> None:
    assert used(LIMITS, handshakes=2, held_bytes=50, clients=3) == {
        "connections_max": 0.3,
        "connections_per_principal_max": 0.25,
        "handshakes_max": 0.25,
        "judged_bodies_bytes_max": 0.5,
    }


def test_of_several_clients_the_fullest_is_told() -> None:
    assert used(LIMITS, entrance(8, 6), entrance(100, 7), entrance(2, 1)) == NOTHING | {"streams": 0.75}


def test_a_limit_that_lets_nobody_in_is_full() -> None:
    none = replace(
        LIMITS, connections_max=0, connections_per_principal_max=0, handshakes_max=0, judged_bodies_bytes_max=0
    )
    assert used(none) == dict.fromkeys(NOTHING, 1.0)
