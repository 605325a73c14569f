"""Trace context: what is taken for a traceparent, and what is made where there is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.exchange import exchange_id
from sockproxy.wire.tracing import Traceparent, continued, parse_traceparent

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
