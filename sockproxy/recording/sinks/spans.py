"""Audit lines as spans of OpenTelemetry: one for each exchange that has ended.

Owns what a span tells, and to which trace it belongs. Must not know HTTP. Source: the OTLP specification 1.x, JSON Protobuf
encoding ("ExportTraceServiceRequest"); OpenTelemetry's semantic conventions for HTTP servers. Begin at `request`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import orjson

from sockproxy.recording.sinks.otlp import EPOCH, attributes, resource
from sockproxy.wire.tracing import NOT_SAMPLED, continued, parse_traceparent

_SERVER = 2  # SPAN_KIND_SERVER
_ERROR = {"code": 2}  # STATUS_CODE_ERROR
_MS = 1_000_000  # in nanoseconds

_FIELDS = ("id", "listener", "effect", "reason", "policy", "rule", "engine_ms")
"""What of an event becomes an attribute `sockproxy....`."""

_ATTRIBUTES = {
    "http.request.method": "method",
    "url.path": "target",
    "http.response.status_code": "status",
    "user_agent.original": "user_agent",
}
"""What has a name of OpenTelemetry's own."""


def request(lines: Sequence[bytes]) -> bytes:
    """The request that exports the spans of these lines."""
    spans = [span for line in lines if (span := _span(orjson.loads(line))) is not None]
    scope = {"scope": {"name": "sockproxy"}, "spans": spans}
    return orjson.dumps({"resourceSpans": [{"resource": resource(), "scopeSpans": [scope]}]})


def _span(event: Mapping[str, object]) -> dict[str, object] | None:
    """The span of an exchange; None for a line that is not its last, and where its client keeps no trace."""
    incoming = parse_traceparent(str(event.get("traceparent", "")).encode())
    if event["stage"] != "completed" or (incoming is not None and incoming.flags == NOT_SAMPLED):
        return None
    own = continued(incoming, str(event["id"]))
    ended = (datetime.fromisoformat(str(event["time"])) - EPOCH) // timedelta(microseconds=1) * 1000
    lasted, status = event["duration_ms"], event["status"]
    told = {name: event[key] for name, key in _ATTRIBUTES.items()}
    told |= {f"sockproxy.{key}": event[key] for key in _FIELDS}
    return {
        "traceId": own.trace_id,
        "spanId": own.parent_id,
        "parentSpanId": "" if incoming is None else incoming.parent_id,
        "name": event["operation"] or "unknown",
        "kind": _SERVER,
        "startTimeUnixNano": str(ended - int(lasted * _MS) if isinstance(lasted, int | float) else ended),
        "endTimeUnixNano": str(ended),
        "attributes": attributes({name: value for name, value in told.items() if value not in (None, "")}),
        "status": _ERROR if not isinstance(status, int) or status >= 500 else {},
    }
