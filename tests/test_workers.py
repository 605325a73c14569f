"""Workers: forked, summed, supervised."""

import asyncio
import os
import signal
import socket
import struct
from functools import partial

import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from sockproxy.operating.workers import METRICS, Inquiry, Worker, answer_parent, fork_workers, supervise, trail_of
from sockproxy.recording.metrics import FAMILIES, Kind, Metrics, Sum, tell
from sockproxy.recording.metrics.summing import MERGE
from sockproxy.recording.metrics.telling import base_name
from tests.exchanges import LIST, answered, decided


def wait_for_signal(number: int, channel: socket.socket) -> int:
    """A worker that does nothing until it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    channel.sendall(b"ready")
    signal.pause()
    return 1


async def test_workers_end_when_asked() -> None:
    workers = fork_workers(3, wait_for_signal)
    assert [worker.channel.recv(5) for worker in workers] == [b"ready"] * 3
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    assert await supervise(workers, stop)


async def test_a_worker_that_ends_unasked_ends_all() -> None:
    workers = fork_workers(3, wait_for_signal)
    assert [worker.channel.recv(5) for worker in workers] == [b"ready"] * 3
    os.kill(workers[1].pid, signal.SIGKILL)
    assert not await supervise(workers, asyncio.Event())


async def test_metrics_are_summed_and_states_are_not() -> None:
    loop = asyncio.get_running_loop()
    told = []
    workers = []
    for requests, is_up in ((3, 1), (4, 0)):
        registry = CollectorRegistry()
        Counter("sockproxy_requests", "Requests.", ["code"], registry=registry).labels("200").inc(requests)
        Gauge("sockproxy_engine_up", "Up.", registry=registry).set(is_up)
        ours, theirs = socket.socketpair()
        answer_parent(theirs, {METRICS: partial(tell, registry)}, lambda: None)
        workers.append(Worker(0, ours))
        told.append(theirs)
    registry = CollectorRegistry()
    Sum(Inquiry(workers).ask, registry)
    await loop.run_in_executor(None, lambda: list(registry.collect()))  # the parent is another process, in life
    values = await loop.run_in_executor(
        None, lambda: {s.name: s.value for m in registry.collect() for s in m.samples if "created" not in s.name}
    )
    assert values == {"sockproxy_requests_total": 7.0, "sockproxy_engine_up": 0.0}


SUMMED = {"sockproxy_exchanges_in_flight", "sockproxy_engine_connections", "sockproxy_client_connections"}


def test_of_each_state_it_is_said_how_two_workers_become_one() -> None:
    states = {base_name(family) for family in FAMILIES if family.kind not in (Kind.COUNTER, Kind.HISTOGRAM)}
    merged = {name for name in MERGE if name.startswith("sockproxy_")}
    assert merged | SUMMED == states
    assert not merged & SUMMED


STATES = [  # what two workers tell, and what is told
    ("sockproxy_limit_used_ratio", 0.25, 0.75, 0.75),
    ("sockproxy_client_connections", 3.0, 4.0, 7.0),
    ("sockproxy_engine_reachable", 1.0, 0.0, 0.0),
    ("sockproxy_policy_operations", 22.0, 22.0, 22.0),
    ("sockproxy_tls_certificate_not_after_seconds", 5.0, 4.0, 4.0),
]


@pytest.mark.parametrize(("name", "one", "other", "whole"), STATES, ids=[row[0] for row in STATES])
def test_states(name: str, one: float, other: float, whole: float) -> None:
    registry = CollectorRegistry()
    Sum(lambda: [(name, "A state.", "gauge", "", [(name, {}, value, None)]) for value in (one, other)], registry)
    assert registry.get_sample_value(name) == whole


def test_of_several_exemplars_the_last_is_told() -> None:
    registry = CollectorRegistry()
    labels = {"operation": "ContainerList", "le": "0.5"}
    samples = [
        ("a_seconds_bucket", labels, 1.0, ({"request_id": "a-1"}, 0.3, 2.0)),
        ("a_seconds_bucket", labels, 2.0, ({"request_id": "b-1"}, 0.4, 3.0)),
        ("a_seconds_bucket", labels, 3.0, ({"request_id": "c-1"}, 0.2, 1.0)),
        ("a_seconds_bucket", labels, 4.0, None),
    ]
    Sum(lambda: [("a_seconds", "A.", "histogram", "seconds", [sample]) for sample in samples], registry)
    ((metric,),) = ([*registry.collect()],)
    (sample,) = metric.samples
    assert (metric.unit, sample.value) == ("seconds", 10.0)
    assert sample.exemplar is not None
    assert (sample.exemplar.labels, sample.exemplar.value, sample.exemplar.timestamp) == (
        {"request_id": "b-1"},
        0.4,
        3.0,
    )


def test_exemplars_and_units_survive_the_way_to_the_parent() -> None:
    registry, parents = CollectorRegistry(), CollectorRegistry()
    metrics = Metrics(registry, "0.1.0")
    slow = answered(decided(LIST))
    slow.completed_at += 1.0
    metrics.decided(slow)
    metrics.completed(slow)
    Sum(lambda: orjson.loads(orjson.dumps(tell(registry))), parents)
    theirs, ours = (
        [line for line in generate_latest(one).decode().splitlines() if "process_" not in line]
        for one in (registry, parents)
    )
    assert theirs == ours
    assert any('# {request_id="a-1"}' in line for line in ours)


@pytest.mark.parametrize(
    ("file", "number", "trail"), [("a.jsonl", 1, "a.jsonl"), ("a.jsonl", 2, "a.jsonl.2"), ("-", 3, "-")]
)
def test_each_worker_has_a_trail_of_its_own(file: str, number: int, trail: str) -> None:
    assert trail_of(file, number) == trail


async def test_a_late_answer_is_passed_over() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    inquiry = Inquiry([Worker(0, ours)])

    def answer(number: int, name: str) -> bytes:
        told = orjson.dumps([(name, "", "gauge", "", [])])
        return struct.pack("!QI", number, len(told)) + told

    asking = loop.run_in_executor(None, inquiry.ask)
    await loop.sock_recv(theirs, 8)
    late = answer(1, "late")
    await loop.sock_sendall(theirs, late[:10])
    ours.shutdown(socket.SHUT_RD)  # as if its time were over, in the middle of the answer
    with pytest.raises(OSError, match="ended"):
        await asking
    ours.close()
    theirs.close()

    ours, theirs = socket.socketpair()
    inquiry = Inquiry([Worker(0, ours)])
    theirs.sendall(answer(0, "older") + answer(1, "asked for"))
    assert [told[0] for told in await loop.run_in_executor(None, inquiry.ask)] == ["asked for"]


async def test_a_worker_whose_parent_is_gone_is_told() -> None:
    ours, theirs = socket.socketpair()
    orphaned = asyncio.Event()
    answer_parent(theirs, {}, orphaned.set)
    ours.close()
    await asyncio.wait_for(orphaned.wait(), 5)
