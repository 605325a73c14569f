"""Trails read back: is the chain whole, and what happened.

`lines` reads files, `verifying` checks the chain (`breaks` says what may be wrong), `telling` describes. Must not know how
lines come about; what a line says and how lines are chained is `event`'s, and `checkpoint`'s. Begin at `verify`.
"""

from sockproxy.recording.trail.breaks import Break, BreakKind, Expected, Report
from sockproxy.recording.trail.lines import parse_line
from sockproxy.recording.trail.telling import describe, operation_of, peer_of, principal_of
from sockproxy.recording.trail.verifying import ANYWHERE, read_events, read_verified, verify

__all__ = [
    "ANYWHERE",
    "Break",
    "BreakKind",
    "Expected",
    "Report",
    "describe",
    "operation_of",
    "parse_line",
    "peer_of",
    "principal_of",
    "read_events",
    "read_verified",
    "verify",
]
