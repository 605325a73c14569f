"""Audit lines as log records of OpenTelemetry.

Owns the form of a request and of its answer. Must not know HTTP. Source: the OTLP specification 1.x, JSON Protobuf encoding
("ExportLogsServiceRequest"). The line is the record's body, so that a chain can be checked from the bodies. Begin at `request`.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from sockproxy import __version__

_FIELDS = ("stage", "id", "seq", "listener", "operation", "effect", "policy", "rule", "status")
"""What of an event becomes an attribute `sockproxy....`, to be found by."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WARN, _INFO = (13, "WARN"), (9, "INFO")


def request(lines: Sequence[bytes]) -> bytes:
    """The request that exports these lines."""
    scope = {"scope": {"name": "sockproxy.audit"}, "logRecords": [_record(line) for line in lines]}
    return orjson.dumps({"resourceLogs": [{"resource": resource(), "scopeLogs": [scope]}]})


def resource() -> dict[str, object]:
    """Who exports."""
    told = {"service.name": "sockproxy", "service.version": __version__, "host.name": os.uname().nodename}
    return {"attributes": attributes(told)}


def rejected(answer: bytes) -> int:
    """How many records or spans a collector has thrown away that has answered with success."""
    try:
        # "rejectedLogRecords" and "rejectedSpans" are int64, and so strings in JSON, though some write numbers.
        told = orjson.loads(answer)["partialSuccess"]
        return int(told["rejectedSpans"] if "rejectedSpans" in told else told["rejectedLogRecords"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0  # lawful: "If the request is only partially accepted", and only then, it says so


def _record(line: bytes) -> dict[str, object]:
    event = orjson.loads(line)
    number, text = _WARN if event.get("effect") == "deny" else _INFO
    told = {f"sockproxy.{name}": event[name] for name in _FIELDS if event.get(name) not in (None, "")}
    return {
        "timeUnixNano": str((datetime.fromisoformat(event["time"]) - EPOCH) // timedelta(microseconds=1) * 1000),
        "severityNumber": number,
        "severityText": text,
        "body": {"stringValue": line.decode()},
        "attributes": attributes(told),
    }


def attributes(values: Mapping[str, object]) -> list[dict[str, object]]:
    """Names and values as OTLP writes them."""
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: object) -> dict[str, object]:
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}
