"""From the configured sinks to the audit trail that runs.

Owns which sink a configuration means, and what a trail needs now and then: its upkeep. Must not know what lines say. Begin
at `open_trail`.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from sockproxy.errors import ConfigError
from sockproxy.operating.config import AuditConfig
from sockproxy.recording.audit import AuditTrail, CountEvents, Sink
from sockproxy.recording.checkpoint import Seal, Terms, load_signer, name_of_trail
from sockproxy.recording.prepared import Lines
from sockproxy.recording.sinks import NO_ROTATION, FileSink, Rotation, keep_beside, open_sink, read_beside

UPKEEP_SECONDS = 1.0
"""How late what is due by time may be: a checkpoint, a new file, a sync."""


def open_trail(
    audit: Sequence[AuditConfig],
    schedule_flush: Callable[[Callable[[], None]], None],
    count_events: CountEvents,
    lines: Lines,
) -> AuditTrail:
    """The trail of these sinks. Raises ConfigError if one cannot be used."""
    sinks = [(_open(one), one) for one in audit]
    try:
        seals = {sink.name: _seal(one, isinstance(sink, FileSink)) for sink, one in sinks if one.sign is not None}
        return AuditTrail(
            [(sink, one.on_failure) for sink, one in sinks], schedule_flush, count_events, lines=lines, seals=seals
        )
    except ConfigError:
        for sink, _ in sinks:
            sink.close()
        raise


def _open(audit: AuditConfig) -> Sink:
    rotate = audit.rotate
    rotation = NO_ROTATION if rotate is None else Rotation(rotate.bytes_max, rotate.seconds, rotate.keep)
    return open_sink(audit.file, rotation, audit.fsync)


def _seal(audit: AuditConfig, has_place_beside: bool) -> Seal:
    if audit.sign is None:
        raise ValueError("not a trail that is signed")
    trail, terms = name_of_trail(audit.file), Terms(audit.sign.every, audit.sign.seconds)
    signer = load_signer(audit.sign.key)
    if not has_place_beside:
        return Seal(signer, trail, terms)
    return Seal(signer, trail, terms, partial(keep_beside, audit.file), read_beside(audit.file))


def needs_upkeep(audit: Sequence[AuditConfig]) -> bool:
    """Whether something in a trail happens by the clock."""
    return any(one.sign or one.rotate or one.fsync != "never" for one in audit)


async def keep_up(trail: AuditTrail, count_events: CountEvents, *, syncs: bool) -> None:
    """Does what is due by the clock, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(UPKEEP_SECONDS)
        trail.flush()  # signs, and moves away
        if syncs:
            # In a thread: a disk that is busy takes its time, and requests go on meanwhile.
            for sink in await loop.run_in_executor(None, trail.sync):
                count_events(sink, "failed", 1)
