"""From the configured sinks to the audit trail that runs.

Owns which sink a configuration means, and what a trail needs now and then: its upkeep. Must not know what lines say. Begin
at `open_trail`. What only a collector or a signature needs is imported where one is configured.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sockproxy.errors import ConfigError, Finding
from sockproxy.operating.config import AuditConfig
from sockproxy.operating.config.model import CollectorConfig
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.chain import CountEvents, Sink
from sockproxy.recording.levels import Levels
from sockproxy.recording.prepared import Lines
from sockproxy.recording.sinks import NO_ROTATION, Rotation, keep_beside, open_sink, read_beside

if TYPE_CHECKING:
    import ssl

    from sockproxy.operating.shipping import Delivery, Shipper
    from sockproxy.recording.checkpoint import Seal

FAR = ("tcp", "tls", "http", "https", "kafka", "kafkas")
"""The schemes of collectors behind a network that answers."""

_TRACES_PATH = "/v1/traces"  # OTLP specification, "OTLP/HTTP Request"

UPKEEP_SECONDS = 1.0
"""How late what is due by time may be: a checkpoint, a new file, a sync."""


class Opened(NamedTuple):
    """A trail, and what ships its lines over a network."""

    trail: AuditTrail
    shippers: tuple["Shipper", ...]


def open_trail(
    audit: Sequence[AuditConfig],
    schedule_flush: Callable[[Callable[[], None]], None],
    count_events: CountEvents,
    lines: Lines,
    levels: Levels | None = None,
) -> Opened:
    """The trail of these sinks. Raises ConfigError if one cannot be used."""
    shippers = {one.file: _shipper(one.file, one.collector, count_events) for one in audit if _is_far(one.collector)}
    sinks: list[tuple[Sink, AuditConfig]] = []
    try:
        for one in audit:
            ships = shippers.get(one.file)
            sinks.append((ships.outbox if ships else _open(one, count_events), one))
        seals = {sink.name: _seal(one, sink.file is not None) for sink, one in sinks if one.sign is not None}
        owed = [(sink, one.on_failure) for sink, one in sinks]
        trail = AuditTrail(owed, schedule_flush, count_events, lines=lines, levels=levels, seals=seals)
    except ConfigError:
        for sink, _ in sinks:
            sink.close()
        raise
    return Opened(trail, tuple(shippers.values()))


def _is_far(collector: CollectorConfig | None) -> bool:
    """Whether lines are shipped to a collector while others are served, and not handed to a socket at once."""
    return collector is not None and collector.scheme in FAR


def _open(audit: AuditConfig, count_events: CountEvents) -> Sink:
    collector, rotate = audit.collector, audit.rotate
    if collector is not None:
        return _open_datagrams(audit.file, collector, count_events)
    rotation = NO_ROTATION if rotate is None else Rotation(rotate.bytes_max, rotate.seconds, rotate.keep)
    return open_sink(audit.file, rotation, audit.fsync)


def _open_datagrams(name: str, collector: CollectorConfig, count_events: CountEvents) -> Sink:
    from sockproxy.recording.sinks import journal, syslog
    from sockproxy.recording.sinks.datagram import DatagramSink, udp_socket, unix_socket

    is_unix = collector.scheme == "unix"
    connect = unix_socket(collector.path) if is_unix else udp_socket(collector.host, collector.port)
    count_lost = partial(count_events, name, "lost")
    if collector.kind == "journald":
        return DatagramSink(name, connect, journal.entry, count_lost, journal.send_large)
    return DatagramSink(name, connect, syslog.message, count_lost)


def _shipper(name: str, collector: CollectorConfig | None, count_events: CountEvents) -> "Shipper":
    from sockproxy.operating.shipping import Shipper

    if collector is None:
        raise ValueError("not a collector")
    return Shipper(name, collector.queue_bytes_max, _delivery(name, collector), count_events)


def _delivery(name: str, collector: CollectorConfig) -> "Delivery":
    from sockproxy.operating.shipping import OtlpHttp, SyslogStream
    from sockproxy.recording.sinks import otlp, spans

    tls = _tls(name, collector) if collector.scheme in ("tls", "https", "kafkas") else None
    if collector.kind == "otlp":
        form = spans.request if takes_spans(collector) else otlp.request
        return OtlpHttp(name, dict(collector.headers), tls, form)
    if collector.kind == "kafka":
        return _kafka(name, collector, tls)
    return SyslogStream(collector.host, collector.port, tls)


def _kafka(name: str, collector: CollectorConfig, tls: "Callable[[], ssl.SSLContext] | None") -> "Delivery":
    try:
        from sockproxy.operating.kafka import Kafka
    except ImportError as error:
        missing = "aiokafka is not installed; it comes with sockproxy[kafka]"
        raise ConfigError((Finding(name, 0, "", missing),)) from error
    return Kafka(collector.servers, collector.path.removeprefix("/"), tls)


def takes_spans(collector: CollectorConfig | None) -> bool:
    """Whether a collector is told of exchanges as spans."""
    return collector is not None and collector.kind == "otlp" and collector.path.endswith(_TRACES_PATH)


def _tls(name: str, collector: CollectorConfig) -> Callable[[], "ssl.SSLContext"]:
    """What makes the context of a connection: anew each time, so that certificates may change. Raises ConfigError."""
    import ssl

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=collector.ca)
        if collector.cert is not None:
            context.load_cert_chain(collector.cert, collector.key)
        return context

    try:
        make()
    except OSError as error:
        raise ConfigError((Finding(name, 0, "", f"its TLS cannot be used: {error}"),)) from error
    return make


def _seal(audit: AuditConfig, has_place_beside: bool) -> "Seal":
    from sockproxy.recording.checkpoint import Seal, Terms, load_signer, name_of_trail

    if audit.sign is None:
        raise ValueError("not a trail that is signed")
    trail, terms = name_of_trail(audit.file), Terms(audit.sign.every, audit.sign.seconds)
    signer = load_signer(audit.sign.key)
    if not has_place_beside:
        return Seal(signer, trail, terms)
    return Seal(signer, trail, terms, partial(keep_beside, audit.file), read_beside(audit.file))


def needs_upkeep(audit: Sequence[AuditConfig]) -> bool:
    """Whether something in a trail happens by the clock."""
    return any(one.sign or one.rotate or one.collector or one.fsync != "never" for one in audit)


async def keep_up(trail: AuditTrail, count_events: CountEvents, *, syncs: bool) -> None:
    """Does what is due by the clock, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(UPKEEP_SECONDS)
        trail.flush()  # signs, moves away, offers again what a collector has not taken
        if syncs:
            # In a thread: a disk that is busy takes its time, and requests go on meanwhile.
            for sink in await loop.run_in_executor(None, trail.sync):
                count_events(sink, "failed", 1)
