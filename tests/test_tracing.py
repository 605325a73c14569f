"""Trace context: what is taken for a traceparent, and what is made where there is none."""

import dataclasses
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.exchange import exchange_id
from sockproxy.operating.config.model import CollectorConfig
from sockproxy.operating.trails import takes_spans
from sockproxy.recording.event import canonical, completed_event, decided_event, encodable
from sockproxy.recording.sinks import spans
from sockproxy.wire.tracing import Traceparent, continued, parse_traceparent
from tests.exchanges import START, answered, decided
from tests.streams import open_world

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INCOMING = Traceparent(TRACE, SPAN, "01")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", INCOMING),
        (f"00-{TRACE}-{SPAN}-00", INCOMING._replace(flags="00")),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", INCOMING),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
    ],
)
def test_what_is_a_traceparent(value: str, expected: Traceparent | None) -> None:
    assert parse_traceparent(value.encode()) == expected


@given(st.binary(min_size=6, max_size=6), st.integers(1, 2**39))
def test_what_is_made_is_one(prefix: bytes, number: int) -> None:
    id = exchange_id(prefix.hex(), number)
    made = continued(None, id)
    assert re.fullmatch(r"[0-9a-f]{32}", made.trace_id)
    assert parse_traceparent(str(made).encode()) == made
    assert made.trace_id.startswith(prefix.hex())


def test_a_trace_goes_on_in_a_span_of_its_own() -> None:
    first, second = (continued(INCOMING, exchange_id("0123456789ab", number)) for number in (1, 2))
    assert (first.trace_id, first.flags) == (TRACE, "01")
    assert len({SPAN, first.parent_id, second.parent_id}) == 3


SENT = f"traceparent: 00-{TRACE}-{SPAN}-01\r\n".encode()
CASES = [
    pytest.param(False, "GET", b"", "", id="untraced"),
    pytest.param(False, "GET", SENT, f"00-{TRACE}-{SPAN}-01", id="passed-on-as-it-came"),
    pytest.param(True, "GET", b"", "", id="a-read-begins-no-trace"),
    pytest.param(True, "GET", SENT, f"00-{TRACE}-{{span}}-01", id="a-read-goes-on-with-one"),
    pytest.param(True, "POST", b"", "00-{trace}-{span}-01", id="a-change-begins-one"),
    pytest.param(True, "POST", SENT, f"00-{TRACE}-{{span}}-01", id="a-change-goes-on-with-one"),
]


@pytest.mark.parametrize(("has_tracing", "method", "field", "expected"), CASES)
async def test_what_the_engine_is_told(has_tracing: bool, method: str, field: bytes, expected: str) -> None:
    path = b"/v1.41/containers/web/" + (b"json" if method == "GET" else b"stop")
    async with open_world() as world:
        world.proxy.has_tracing = has_tracing
        client = await world.connect()
        await client.send(b"%s %s HTTP/1.1\r\nHost: d\r\n%s\r\n" % (method.encode(), path, field))
        engine = await world.accept()
        head = await engine.receive_until(b"\r\n\r\n")
        await engine.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.receive_until(b"\r\n\r\n")
        (exchange,) = world.exchanges
    made = continued(None, exchange.id)
    told = re.findall(rb"\r\ntraceparent: ([^\r]*)", head)
    assert [one.decode() for one in told] == [expected.format(trace=made.trace_id, span=made.parent_id)] * bool(
        expected
    )
    assert completed_event(exchange).get("traceparent") == (f"00-{TRACE}-{SPAN}-01" if field else None)


async def test_what_is_none_is_passed_on_and_not_told() -> None:
    async with open_world() as world:
        client = await world.connect()
        await client.send(b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\ntraceparent: x\r\n\r\n")
        engine = await world.accept()
        assert b"traceparent: x\r\n" in await engine.receive_until(b"\r\n\r\n")
        await engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await client.receive_until(b"\r\n\r\n")
        assert "traceparent" not in completed_event(world.exchanges[0])


def completed(**changes: Any) -> bytes:
    return canonical(encodable(completed_event(answered(decided(START)))) | changes)


def exported(*lines: bytes) -> list[dict[str, Any]]:
    (resource,) = json.loads(spans.request(lines))["resourceSpans"]
    told: list[dict[str, Any]] = resource["scopeSpans"][0]["spans"]
    return told


def test_an_exchange_that_has_ended_is_a_span() -> None:
    incoming, line = f"00-{TRACE}-{SPAN}-01", completed()
    own, traced = exported(line, completed(traceparent=incoming))
    made = continued(None, "a-1")
    assert (own["traceId"], own["spanId"], own["parentSpanId"]) == (made.trace_id, made.parent_id, "")
    assert (traced["traceId"], traced["spanId"], traced["parentSpanId"]) == (TRACE, made.parent_id, SPAN)
    assert (own["name"], own["kind"], own["status"]) == ("ContainerStart", 2, {})
    event = json.loads(line)
    assert int(own["endTimeUnixNano"]) - int(own["startTimeUnixNano"]) == event["duration_ms"] * 1_000_000
    told = {one["key"]: one["value"] for one in own["attributes"]}
    assert told["http.request.method"] == {"stringValue": "POST"}
    assert told["http.response.status_code"] == {"intValue": "200"}
    assert told["sockproxy.id"] == {"stringValue": "a-1"}
    assert "sockproxy.rule" in told


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (404, False), (500, True), (None, True)])
def test_what_failed_is_an_error(status: int | None, is_error: bool) -> None:
    (span,) = exported(completed(status=status))
    assert span["status"] == ({"code": 2} if is_error else {})


def test_what_is_no_span() -> None:
    begun = canonical(encodable(decided_event(decided(START))))
    assert exported(begun, completed(traceparent=f"00-{TRACE}-{SPAN}-00")) == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://c:4318/v1/traces", True), ("http://c:4318/x/v1/traces", True), ("http://c/v1/logs", False)],
)
def test_which_collectors_take_spans(url: str, expected: bool) -> None:
    parts = urlsplit(url)
    collector = CollectorConfig(kind="otlp", scheme="http", host="c", port=4318, path=parts.path)
    assert takes_spans(collector) is expected
    assert takes_spans(None) is False
    assert takes_spans(dataclasses.replace(collector, kind="syslog")) is False
