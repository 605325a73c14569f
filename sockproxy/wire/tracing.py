"""Trace context: the traceparent that a request brings along, and the one that is made for it.

Owns the form of a traceparent and the ids of an exchange's own span. Must not know what a span tells. Begin at `continued`.
Source: W3C Trace Context, level 1, section 3.2.
"""

import re
from typing import NamedTuple

FIELD = b"traceparent"

# Version ff is invalid; a version after 00 may have more behind the flags, which is not passed on.
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED, NOT_SAMPLED = "01", "00"


class Traceparent(NamedTuple):
    """Where a span belongs: its trace, the span above it, and whether somebody keeps it (`01`)."""

    trace_id: str
    parent_id: str
    flags: str

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags}"


def parse_traceparent(value: bytes) -> Traceparent | None:
    """What a field says; None for what is none, which is left as it is."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    return Traceparent(*(match[part].decode("ascii") for part in (2, 3, 4)))


def continued(incoming: Traceparent | None, exchange_id: str) -> Traceparent:
    """What the engine is told: it belongs to the exchange's own span, in the trace that the client has begun, or in one of its
    own. Both ids follow from the exchange's, so that whoever has the audit event can name them."""
    prefix, _, number = exchange_id.partition("-")
    span_id = f"{prefix[-6:]:0>6}{number:0>10}"
    if incoming is None:
        return Traceparent(f"{prefix:0>12}{number:0>20}", span_id, _SAMPLED)
    return incoming._replace(parent_id=span_id)
