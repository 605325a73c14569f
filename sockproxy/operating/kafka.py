"""What ships audit lines to Kafka.

Owns the connection to a cluster, and which lines it has. Must not know what a record looks like (`recording.sinks.kafka`), nor
when to try again (`shipping`). Begin at `Kafka.deliver`. Imported only where such a sink is configured: aiokafka is an extra.

A line is delivered when all replicas in sync have it (acks=all). The number of a batch stays its number when it is sent again
(KIP-98, an idempotent producer), so a line whose delivery is in doubt is there once. aiokafka's own producer is not used: it
holds lines a second time, tries again without an end, and cannot be told to stop while the brokers are away.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from sockproxy.operating.shipping import DELIVERY_SECONDS
from sockproxy.recording.sinks import kafka

if TYPE_CHECKING:
    import ssl

_ANSWER_MS = int(DELIVERY_SECONDS * 1000) // 2
"""For one answer: where the first broker is silent, there is time to ask a second."""

_CLOSE_SECONDS = 1.0  # what a connection has to say goodbye
_SEQUENCES = 1 << 31  # KIP-98: INT32, and behind the last comes 0
_ALL_REPLICAS = -1
_NO_TRANSACTION_MS = (1 << 31) - 1

# Kafka protocol, "Error Codes".
TAKEN = frozenset({0, 46})
"""NONE, and DUPLICATE_SEQUENCE_NUMBER: it was there already."""

REFUSED = frozenset({10, 18, 32, 87})
"""MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_TIMESTAMP, INVALID_RECORD: another try would end the same way."""

FORGOTTEN = frozenset({45, 47, 49, 59, 90})
"""OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_PRODUCER_ID_MAPPING, UNKNOWN_PRODUCER_ID, PRODUCER_FENCED: the
broker does not know our numbers any more; with a new id they begin anew, and what is in doubt may be there twice."""


class Kafka:
    """A topic. Lines keep their order: there is one batch under way at a time, and one partition."""

    def __init__(self, servers: Sequence[str], topic: str, tls: "Callable[[], ssl.SSLContext] | None") -> None:
        # It tells each attempt that fails, in prose; ours are told by `Shipper`.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._servers, self._topic, self._tls = list(servers), topic, tls
        self._client: AIOKafkaClient | None = None
        self._partition = -1
        self._producer: tuple[int, int] | None = None  # its id and epoch
        self._sequence = 0
        self._settled = 0  # of the lines that wait longest, those that an attempt which failed later has been rid of
        self._refused = 0  # of them, those that the brokers do not want
        self._in_doubt = 0  # behind them, the batch that was sent and not answered: it has to be sent as it was

    async def deliver(self, lines: Sequence[bytes]) -> int:
        """Returns when the brokers have answered for all of them. Those of an attempt that failed come first in the next."""
        try:
            client = self._client or await self._connect()
            if self._producer is None:
                await self._begin(client)
            await self._ship(client, lines)
        except KafkaError as error:
            raise ConnectionError(str(error)) from error
        refused, self._settled, self._refused = self._refused, 0, 0
        return refused

    async def _connect(self) -> AIOKafkaClient:
        context = None if self._tls is None else self._tls()
        client = self._client = AIOKafkaClient(
            bootstrap_servers=self._servers,
            client_id="sockproxy",
            request_timeout_ms=_ANSWER_MS,
            security_protocol="PLAINTEXT" if context is None else "SSL",
            ssl_context=context,
        )
        await client.bootstrap()
        await client.set_topics([self._topic])
        partitions = client.cluster.partitions_for_topic(self._topic)
        if not partitions:
            is_hidden = self._topic in client.cluster.unauthorized_topics
            raise ConnectionError("the topic is not ours to use" if is_hidden else "there is no such topic")
        partition = DefaultPartitioner()(kafka.KEY, sorted(partitions), [])
        if partition != self._partition:
            self._partition, self._producer = partition, None  # numbers count within a partition
        return client

    async def _begin(self, client: AIOKafkaClient) -> None:
        """Asks for an id, of which the numbers begin at 0."""
        answer = await client.send(client.get_random_node(), InitProducerIdRequest(None, _NO_TRANSACTION_MS))
        if answer.error_code:
            raise for_code(answer.error_code)
        self._producer, self._sequence, self._in_doubt = (answer.producer_id, answer.producer_epoch), 0, 0

    async def _ship(self, client: AIOKafkaClient, lines: Sequence[bytes]) -> None:
        """Sends what is not settled. What is refused is halved until it is known which line it is."""
        size = len(lines)
        while self._settled < len(lines):
            batch = lines[self._settled : self._settled + (self._in_doubt or size)]
            self._in_doubt = len(batch)
            answer = await self._produce(client, batch)
            if answer in FORGOTTEN:
                self._producer = None
            if answer not in TAKEN | REFUSED:
                raise for_code(answer)
            self._in_doubt = 0
            if answer in TAKEN:
                self._sequence = (self._sequence + len(batch)) % _SEQUENCES
            elif len(batch) > 1:
                size = len(batch) // 2
                continue
            else:
                self._refused += 1
            self._settled += len(batch)
            size *= 2

    async def _produce(self, client: AIOKafkaClient, lines: Sequence[bytes]) -> int:
        """The broker's answer to a batch."""
        partition = TopicPartition(self._topic, self._partition)
        topics = [(self._topic, [(self._partition, self._batch(lines))])]
        request = ProduceRequest(None, _ALL_REPLICAS, _ANSWER_MS, topics)
        answer = await client.send(client.cluster.leader_for_partition(partition), request)
        # topics: (name, partitions: (index, error code, ...))
        return int(answer.topics[0][1][0][1])

    def _batch(self, lines: Sequence[bytes]) -> bytes:
        producer, epoch = self._producer or (-1, -1)
        # `batch_size` is where a builder says no: there is no such place, since the broker says it.
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=False,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=self._sequence,
            batch_size=(1 << 31) - 1,
        )
        for offset, line in enumerate(lines):
            when, value, headers = kafka.record(line)
            builder.append(offset, timestamp=when, key=kafka.KEY, value=value, headers=headers)
        return bytes(builder.build())

    async def close(self) -> None:
        """Connects anew next time; the numbers go on."""
        client, self._client = self._client, None
        if client is not None:
            # Lawful: what goes wrong while a connection is given up changes nothing, and a silent broker is not waited for.
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await client.close()
