"""An audit line as a record of Kafka.

Owns the form. Must not know Kafka's protocol. The line is the record's value, so that a chain can be checked from the values.
Begin at `record`.
"""

import os
from datetime import datetime
from typing import NamedTuple

import orjson

_HEADERS = ("operation", "effect")
"""What of an event becomes a header, to be chosen by without reading the line."""

KEY = os.uname().nodename.encode() or b"-"
"""What chooses the partition: all lines of a host come to one, which keeps their order."""


class Record(NamedTuple):
    """What Kafka gets of a line, and when it happened."""

    milliseconds: int
    value: bytes
    headers: list[tuple[str, bytes]]


def record(line: bytes) -> Record:
    """The record of a line."""
    event = orjson.loads(line)
    # Each worker has a chain of its own, and all are in one partition: `pid` tells them apart, as PROCID does in syslog.
    headers = [(name, str(event[name]).encode()) for name in _HEADERS if event.get(name)]
    milliseconds = round(datetime.fromisoformat(event["time"]).timestamp() * 1000)
    return Record(milliseconds, line, [*headers, ("pid", b"%d" % os.getpid())])
