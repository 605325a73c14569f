"""The keys of `audit`: where the record of every request goes.

Owns their shapes and descriptions. Must not know what they come to (`trails`). Begin at `AuditDocument`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sockproxy.operating.config.familiar import IN_ROTATION, IN_SIGNING, OF_FAILURE
from sockproxy.operating.config.shapes import Choice, Keys, Named, Number, Text, key

_TEXT = Text()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignDocument:
    """Checkpoints: lines of the trail that sign all lines before them, so that nobody without the key can write it anew."""

    private_key: str = key(
        _TEXT, "An Ed25519 key in PEM (openssl genpkey -algorithm ed25519), relative to this file.", name="key"
    )
    every: int = key(Number(is_whole=True), "Sign at the latest after so many lines.", default=1000)
    seconds: int = key(Number(is_whole=True), "Sign what is not signed yet after so many seconds.", default=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateDocument:
    """When a file is moved away, to FILE.20261124T120455.123456Z, and the trail goes on in a new one."""

    bytes_max: int | None = key(
        Number(is_whole=True),
        "When it has so many bytes. Default: its size does not matter.",
        default=None,
        name="bytes",
    )
    seconds: int | None = key(
        Number(is_whole=True),
        "At the end of each period of so many seconds, counted from midnight UTC: 86400 is daily. Default: never.",
        default=None,
    )
    keep: int | None = key(
        Number(is_whole=True), "How many older files stay; the oldest are removed. Default: all stay.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorTlsDocument:
    """TLS towards a collector. Files are PEM, relative to this file."""

    ca: str | None = key(_TEXT, "The authorities of the collector. Default: those of this machine.", default=None)
    cert: str | None = key(_TEXT, "Our certificate, where the collector asks for one.", default=None)
    private_key: str | None = key(_TEXT, "The key of our certificate, not encrypted.", default=None, name="key")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDocument:
    """Where the record of every request goes."""

    file: str | None = key(_TEXT, 'A file to append to, relative to this one; "-" is standard output.', default=None)
    syslog: str | None = key(
        Text("expected unix:///dev/log, udp://host:514, tcp://host:601 or tls://host:6514"),
        "Syslog (RFC 5424): unix:///dev/log, udp://host:514, tcp://host:601 or tls://host:6514.",
        default=None,
    )
    journald: str | None = key(
        Text("expected unix:///run/systemd/journal/socket"),
        "journald: unix:///run/systemd/journal/socket. What is found by is SOCKPROXY_...",
        default=None,
    )
    otlp: str | None = key(
        Text("expected http://host:4318/v1/logs, or https"),
        "A collector of OpenTelemetry's logs: http://host:4318/v1/logs, or https.",
        default=None,
    )
    kafka: str | None = key(
        Text("expected kafka://broker-1:9092,broker-2:9092/topic, or kafkas"),
        "A topic of Kafka: kafka://broker-1:9092,broker-2:9092/topic, or kafkas with TLS. Needs sockproxy[kafka].",
        default=None,
    )
    level: Literal["Metadata", "Request", "RequestResponse"] = key(
        Choice(("Metadata", "Request", "RequestResponse")),
        "How much is recorded at most: no bodies, the JSON bodies of requests, and those of answers; without their secrets.",
        default="Metadata",
    )
    on_failure: Literal["deny-writes", "deny-all", "continue"] = key(
        Choice(("deny-writes", "deny-all", "continue"), OF_FAILURE),
        "What is refused with 503 while the record cannot be written.",
        default="deny-writes",
    )
    sign: SignDocument | None = key(
        Keys(SignDocument, "Signing", IN_SIGNING), "How the trail is signed. Default: it is not.", default=None
    )
    rotate: RotateDocument | None = key(
        Keys(RotateDocument, "Rotation", IN_ROTATION),
        "When the file is moved away. Default: others do that, and send SIGHUP.",
        default=None,
    )
    fsync: Literal["always", "interval", "never"] = key(
        Choice(("always", "interval", "never")),
        "When lines are forced to disk: always, before a request that waits for its line goes on; interval, once a second; "
        "never, the kernel does it within half a minute.",
        default="never",
    )
    tls: CollectorTlsDocument | None = key(
        Keys(CollectorTlsDocument, "TLS of a collector"),
        "Whom a collector by tls, https or kafkas is believed, and how it knows us. Default: the authorities of this machine.",
        default=None,
    )
    headers: Mapping[str, str] = key(
        Named(_TEXT, r"^[A-Za-z0-9-]+$", "the name of a header has letters, digits and dashes"),
        "Headers for a collector by http, such as Authorization.",
        default=dict,
    )
    queue_bytes_max: int = key(
        Number(is_whole=True),
        "How much may wait for a collector by tcp, tls, http or Kafka. Above, the sink fails, and on_failure says the rest.",
        default=8388608,
    )
