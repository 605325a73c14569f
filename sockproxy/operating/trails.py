"""From the configured sinks to the audit trail that runs.

Owns which sink a configuration means, and what a trail needs now and then: its upkeep. Must not know what lines say. Begin
at `open_trail`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from sockproxy.errors import ConfigError
from sockproxy.operating.config import AuditConfig
from sockproxy.recording.audit import AuditTrail, CountEvents
from sockproxy.recording.checkpoint import Seal, Terms, load_signer, name_of_trail
from sockproxy.recording.prepared import Lines
from sockproxy.recording.sinks import FileSink, keep_beside, open_sink, read_beside

_UPKEEP_SECONDS = 1.0
"""How late what is due by time may be: a checkpoint, a new file, a sync."""


def open_trail(
    audit: Sequence[AuditConfig],
    schedule_flush: Callable[[Callable[[], None]], None],
    count_events: CountEvents,
    lines: Lines,
) -> AuditTrail:
    """The trail of these sinks. Raises ConfigError if one cannot be used."""
    sinks = [(open_sink(one.file), one) for one in audit]
    try:
        seals = {sink.name: _seal(one, isinstance(sink, FileSink)) for sink, one in sinks if one.sign is not None}
        return AuditTrail(
            [(sink, one.on_failure) for sink, one in sinks], schedule_flush, count_events, lines=lines, seals=seals
        )
    except ConfigError:
        for sink, _ in sinks:
            sink.close()
        raise


def _seal(audit: AuditConfig, has_place_beside: bool) -> Seal:
    if audit.sign is None:
        raise ValueError("not a trail that is signed")
    trail, terms = name_of_trail(audit.file), Terms(audit.sign.every, audit.sign.seconds)
    signer = load_signer(audit.sign.key)
    if not has_place_beside:
        return Seal(signer, trail, terms)
    return Seal(signer, trail, terms, partial(keep_beside, audit.file), read_beside(audit.file))


def upkeep_seconds(audit: Sequence[AuditConfig]) -> float | None:
    """How often a trail wants `flush` to be called though nothing happens; None: not at all."""
    return _UPKEEP_SECONDS if any(one.sign is not None for one in audit) else None
