"""Audit lines in Kafka, before brokers that go away and come back, refuse, forget and answer late."""

import asyncio
import json
import os
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from sockproxy.errors import AuditRefused
from sockproxy.operating.config.model import CollectorConfig
from sockproxy.operating.kafka import FORGOTTEN, REFUSED, TAKEN, Kafka
from sockproxy.recording.sinks import kafka
from tests.brokers import TOPIC, Brokers, brokers
from tests.certificates import Authority
from tests.ports import free_port
from tests.streams import until
from tests.test_collectors import DENIAL, LINE, QUEUE, are_a_chain, shipping

LINES = [LINE.replace(b'"id":"', b'"id":"%d-' % number, 1) for number in range(20)]


@pytest.fixture
def cluster() -> Iterator[Brokers]:
    with brokers() as made:
        yield made


def topic(*servers: str, scheme: str = "kafka", name: str = TOPIC, **tls: str) -> CollectorConfig:
    return CollectorConfig(
        "kafka",
        scheme,
        path=f"/{name}",
        servers=servers,
        queue_bytes_max=QUEUE,
        **tls,  # type: ignore[arg-type]  # names of files
    )


@asynccontextmanager
async def way_to(*servers: str) -> AsyncIterator[Kafka]:
    way = Kafka(servers, TOPIC, None)
    try:
        yield way
    finally:
        await way.close()


async def told(cluster: Brokers, count: int) -> list[bytes]:
    """The consumer waits, and a broker may answer meanwhile."""
    return await asyncio.to_thread(cluster.lines, count)


# What is sent


@pytest.mark.parametrize("line", [LINE, DENIAL], ids=["allowed", "denied"])
def test_a_record(line: bytes) -> None:
    event, record = json.loads(line), kafka.record(line)
    assert record.value == line
    assert record.milliseconds == round(datetime.fromisoformat(event["time"]).timestamp() * 1000)
    pid = ("pid", str(os.getpid()).encode())
    assert record.headers == [("operation", event["operation"].encode()), ("effect", event["effect"].encode()), pid]


async def test_a_consumer_has_the_trail_in_its_order_in_one_partition(cluster: Brokers, tmp_path: Path) -> None:
    async with shipping(topic(cluster.server)) as recorder:
        recorder.records(10)
        await until(lambda: recorder.counts["shipped"] == 20)
    messages = await asyncio.to_thread(cluster.messages, 20)
    assert are_a_chain([message.value for message in messages], tmp_path, 20)
    assert {(message.partition, message.key) for message in messages} == {(messages[0].partition, kafka.KEY)}
    assert {name for message in messages for name in message.headers} == {"operation", "effect", "pid"}
    assert [message.milliseconds for message in messages] == [
        kafka.record(message.value).milliseconds for message in messages
    ]


# Brokers that are away


async def test_a_broker_that_goes_away_gets_each_line_once_when_it_is_back(cluster: Brokers, tmp_path: Path) -> None:
    async with shipping(topic(cluster.server)) as recorder:
        recorder.records(3)
        await until(lambda: recorder.counts["shipped"] == 6)
        cluster.leave()
        recorder.records(3)
        await until(lambda: recorder.counts["failed"] >= 2)
        assert recorder.counts["shipped"] == 6
        cluster.come_back()
        recorder.records(1)
        await until(lambda: recorder.counts["shipped"] == 14)
    received = await told(cluster, 14)
    assert len(received) == 14
    assert are_a_chain(received, tmp_path, 14)


async def test_a_full_queue_refuses_and_recovers_without_a_gap(cluster: Brokers, tmp_path: Path) -> None:
    cluster.leave()
    async with shipping(topic(cluster.server)) as recorder:
        with pytest.raises(AuditRefused):
            recorder.records(1000)
        assert 5 < recorder.number < 30
        cluster.come_back()
        await until(lambda: recorder.counts["shipped"] > 10)
        recorder.records()
        count = 2 * (recorder.number - 1) + 1  # the refused one has no second line here
        await until(lambda: recorder.counts["shipped"] == count)
    assert recorder.counts["lost"] == 0
    assert are_a_chain(await told(cluster, count), tmp_path, count)


async def test_one_broker_of_those_that_are_named_is_enough(cluster: Brokers) -> None:
    async with way_to(f"127.0.0.1:{free_port()}", cluster.server) as way:
        assert await way.deliver(LINES) == 0
    assert await told(cluster, len(LINES)) == LINES


async def test_at_the_end_nobody_waits_for_brokers_that_are_away(cluster: Brokers) -> None:
    async with shipping(topic(cluster.server)) as recorder:
        recorder.records(1)
        await until(lambda: recorder.counts["shipped"] == 2)
        cluster.delay(60_000)
        recorder.records(2)
        await asyncio.sleep(0)
    assert recorder.counts["lost"] == 4


# What brokers answer

ANSWERS = [  # the first answers, how many attempts fail, how many lines are refused
    ("duplicate-sequence", [46], 0, None),
    ("not-leader", [6], 1, 0),
    ("not-enough-replicas", [19, 20], 2, 0),
    ("timed-out", [7], 1, 0),
    ("topic-authorization", [29], 1, 0),
    ("too-large-in-halves", [10], 0, 0),
    ("out-of-order", [45], 1, 0),
    ("unknown-producer", [59], 1, 0),
]


@pytest.mark.parametrize(
    ("codes", "failures", "refused"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
async def test_what_a_broker_answers(cluster: Brokers, codes: list[int], failures: int, refused: int | None) -> None:
    async with way_to(cluster.server) as way:
        cluster.answer(codes)
        for _ in range(failures):
            with pytest.raises(OSError):
                await way.deliver(LINES)
            await way.close()
        assert await way.deliver(LINES) == 0
        await way.deliver([LINE])
    present = [] if refused is None else LINES
    assert await told(cluster, len(present) + 1) == [*present, LINE]


async def test_only_the_line_that_is_refused_is_lost(cluster: Brokers) -> None:
    """20 lines are halved to 10, 5, 2 and 1: the first is the one."""
    async with way_to(cluster.server) as way:
        cluster.answer([10, 10, 87, 32, 10])
        assert await way.deliver(LINES) == 1
    assert await told(cluster, 19) == LINES[1:]


async def test_what_is_settled_is_not_sent_again_when_the_rest_fails(cluster: Brokers) -> None:
    async with way_to(cluster.server) as way:
        cluster.answer([10, 0, 6])
        with pytest.raises(OSError):
            await way.deliver(LINES)
        await way.close()
        assert await way.deliver([*LINES, LINE]) == 0
    assert await told(cluster, 21) == [*LINES, LINE]


HIDDEN = [(3, "there is no such topic"), (29, "the topic is not ours to use")]


@pytest.mark.parametrize(("code", "reason"), HIDDEN)
async def test_a_topic_that_cannot_be_used_is_the_reason_until_it_can(cluster: Brokers, code: int, reason: str) -> None:
    async with way_to(cluster.server) as way:
        cluster.hide(code)
        with pytest.raises(OSError, match=reason):
            await way.deliver(LINES)
        await way.close()
        cluster.hide(0)
        assert await way.deliver(LINES) == 0


def test_no_answer_has_two_meanings() -> None:
    assert not TAKEN & REFUSED and not TAKEN & FORGOTTEN and not REFUSED & FORGOTTEN


# Numbers, and TLS: what a relay sees between both


class Relay:
    """Passes on between a client, by TLS perhaps, and a broker; the client is told the relay's address as the broker's."""

    def __init__(self, target: int, context: ssl.SSLContext | None = None) -> None:
        self._target, self._context = target, context
        self.batches: list[tuple[int, int, int]] = []
        self.swallows = False
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        upward = asyncio.create_task(self._up(reader, back))
        try:
            while data := await there.read(1 << 16):
                if self.swallows and self.batches:
                    self.swallows = False
                    break
                ports = (struct.pack(">i", port) for port in (self._target, self.port))
                writer.write(data.replace(*ports))
        finally:
            upward.cancel()
            writer.close()
            back.close()

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while True:
            size = await reader.readexactly(4)
            request = await reader.readexactly(int.from_bytes(size))
            if request[:2] == b"\0\0":
                # The batch is the last field, behind lengths; in it, 43 bytes come before the producer's id.
                at = request.index(TOPIC.encode()) + len(TOPIC) + 12
                producer, _, sequence, count = struct.unpack_from(">qhii", request, at + 43)
                self.batches.append((producer, sequence, count))
            back.write(size + request)


async def test_a_batch_whose_answer_is_lost_keeps_its_number(cluster: Brokers) -> None:
    async with Relay(cluster.port) as relay, way_to(f"127.0.0.1:{relay.port}") as way:
        relay.swallows = True
        with pytest.raises(OSError):
            await way.deliver(LINES[:3])
        await way.close()
        await way.deliver(LINES)
        await way.deliver(LINES[:1])
        producer = relay.batches[0][0]
        assert relay.batches == [(producer, 0, 3), (producer, 0, 3), (producer, 3, 17), (producer, 20, 1)]


@pytest.mark.parametrize("code", sorted(FORGOTTEN))
async def test_where_its_numbers_are_forgotten_a_new_producer_begins(cluster: Brokers, code: int) -> None:
    async with Relay(cluster.port) as relay, way_to(f"127.0.0.1:{relay.port}") as way:
        await way.deliver(LINES)
        cluster.answer([code])
        with pytest.raises(OSError):
            await way.deliver(LINES[:3])
        await way.close()
        await way.deliver(LINES)
        (first, *_), _, (other, sequence, count) = relay.batches
        assert first != other
        assert (sequence, count) == (0, len(LINES))


async def test_tls(cluster: Brokers, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    theirs = authority.sign("/CN=broker", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.cert, theirs.key)
    async with Relay(cluster.port, context) as relay:
        server = f"127.0.0.1:{relay.port}"
        async with shipping(topic(server, scheme="kafkas", ca=authority.cert)) as recorder:
            recorder.records(2)
            await until(lambda: recorder.counts["shipped"] == 4)
        stranger = Authority(tmp_path / "other").cert
        async with shipping(topic(server, scheme="kafkas", ca=stranger)) as recorder:
            recorder.records(2)
            await until(lambda: recorder.counts["failed"] > 0)
            assert recorder.counts["shipped"] == 0
    assert are_a_chain(await told(cluster, 4), tmp_path, 4)


# Without the extra


def test_without_aiokafka_the_extra_is_named() -> None:
    program = (
        "import sys\nsys.modules['aiokafka'] = None\n"
        "from tests.test_collectors import Recorder\nfrom sockproxy.operating.config.model import CollectorConfig\n"
        "Recorder(CollectorConfig('kafka', 'kafka', path='/t', servers=('h:1',)))\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "aiokafka is not installed; it comes with sockproxy[kafka]" in told.stderr
