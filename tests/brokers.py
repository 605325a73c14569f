"""Brokers of Kafka in memory: the mock cluster of librdkafka, which others wrote than the client that is tested.

They keep what they got while they are away, and are at the same address when they are back. What a broker answers can be said
beforehand. Begin at `Brokers`.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka

TOPIC = "sockproxy-audit"
_PRODUCE = 0  # Kafka protocol, "API Keys"
_PRODUCER = 0  # rd_kafka_type_t

_pointer, _text, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
FUNCTIONS = {
    "conf_new": (_pointer,),
    "new": (_pointer, _int, _pointer, _text, ctypes.c_size_t),
    "destroy": (None, _pointer),
    "mock_cluster_new": (_pointer, _pointer, _int),
    "mock_cluster_destroy": (None, _pointer),
    "mock_cluster_bootstraps": (_text, _pointer),
    "mock_topic_create": (_int, _pointer, _text, _int, _int),
    "mock_topic_set_error": (None, _pointer, _text, _int),
    "mock_broker_set_down": (_int, _pointer, ctypes.c_int32),
    "mock_broker_set_up": (_int, _pointer, ctypes.c_int32),
    "mock_broker_set_rtt": (_int, _pointer, ctypes.c_int32, _int),
    "mock_push_request_errors_array": (None, _pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_int)),
}
"""Of rdkafka.h and rdkafka_mock.h: what is returned, and the arguments."""


class Message(NamedTuple):
    """A record as a consumer has it."""

    partition: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]
    milliseconds: int


class Brokers:
    """One broker, with a topic of three partitions."""

    def __init__(self, topic: str = TOPIC) -> None:
        self._library = _library()
        reason = ctypes.create_string_buffer(512)
        self._client = self._call("new", _PRODUCER, self._call("conf_new"), reason, 512)
        assert self._client, reason.value
        self._cluster = self._call("mock_cluster_new", self._client, 1)
        self._call("mock_topic_create", self._cluster, topic.encode(), 3, 1)
        self.server: str = self._call("mock_cluster_bootstraps", self._cluster).decode()
        self._topic = topic

    @property
    def port(self) -> int:
        return int(self.server.rpartition(":")[2])

    def leave(self) -> None:
        assert self._call("mock_broker_set_down", self._cluster, 1) == 0

    def come_back(self) -> None:
        assert self._call("mock_broker_set_up", self._cluster, 1) == 0

    def delay(self, milliseconds: int) -> None:
        """How late answers come from now on."""
        assert self._call("mock_broker_set_rtt", self._cluster, 1, milliseconds) == 0

    def answer(self, codes: Sequence[int]) -> None:
        """What the next batches are answered, instead of being taken."""
        self._call("mock_push_request_errors_array", self._cluster, _PRODUCE, len(codes), (_int * len(codes))(*codes))

    def hide(self, code: int) -> None:
        """What whoever asks for the topic is answered, until it is 0."""
        self._call("mock_topic_set_error", self._cluster, self._topic.encode(), code)

    def messages(self, count: int) -> list[Message]:
        """What there is, when there are so many at least, in the order of the partitions."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.server, "group.id": "tests"})
        try:
            consumer.assign([confluent_kafka.TopicPartition(self._topic, number, 0) for number in range(3)])
            found = consumer.consume(count, timeout=20)
            found += consumer.consume(1000, timeout=0.2)  # more than should be there shows, too
        finally:
            consumer.close()
        assert all(one.error() is None for one in found)
        return [
            Message(one.partition(), one.key(), one.value(), dict(one.headers() or []), one.timestamp()[1])
            for one in found
        ]

    def lines(self, count: int) -> list[bytes]:
        return [one.value for one in self.messages(count)]

    def close(self) -> None:
        self._call("mock_cluster_destroy", self._cluster)
        self._call("destroy", self._client)

    def _call(self, name: str, *arguments: object) -> Any:
        return getattr(self._library, f"rd_kafka_{name}")(*arguments)


@contextmanager
def brokers(topic: str = TOPIC) -> Iterator[Brokers]:
    made = Brokers(topic)
    try:
        yield made
    finally:
        made.close()


def _library() -> ctypes.CDLL:
    """The library that comes with the consumer; the names that it has there are public (rdkafka_mock.h)."""
    beside = Path(confluent_kafka.__file__).parent.with_suffix(".libs")
    (file,) = beside.glob("librdkafka*.so*")
    library = ctypes.CDLL(str(file))
    for name, (returned, *arguments) in FUNCTIONS.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = returned, arguments
    return library
