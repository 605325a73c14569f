"""The URL of a collector -> who it is, and what is wrong with it.

Owns which schemes a kind of collector has. Begin at `read_collector`.
"""

import os
import re
from typing import cast
from urllib.parse import SplitResult, urlsplit

from sockproxy.operating.config.auditing import AuditDocument
from sockproxy.operating.config.model import CollectorConfig, CollectorKind
from sockproxy.operating.config.validation import Findings
from sockproxy.operating.config.wording import Path

SCHEMES = {
    "syslog": {"unix": "/dev/log", "udp": "host:514", "tcp": "host:601", "tls": "host:6514"},
    "journald": {"unix": "/run/systemd/journal/socket"},
    "otlp": {"http": "host:4318/v1/logs", "https": "host:4318/v1/logs"},
    "kafka": {"kafka": "broker-1:9092,broker-2:9092/topic", "kafkas": "broker-1:9093,broker-2:9093/topic"},
}
"""Kind -> scheme -> what its URLs look like."""

PORTS = {"udp": 514, "tcp": 601, "tls": 6514, "http": 80, "https": 443, "kafka": 9092, "kafkas": 9092}
"""Where none is given: RFC 5426, RFC 3195 (as syslog-conn, in want of another), RFC 5425; Kafka's own."""

_TOPIC = re.compile(r"/(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
"""Kafka, `Topic.validate`: what a topic may be called."""


def read_collector(
    path: Path, document: AuditDocument, kind: str, folder: str, findings: Findings
) -> CollectorConfig | None:
    """Who takes the lines of a sink; None for a file, and where something is wrong, which is told."""
    if kind == "file":
        return None
    text = str(getattr(document, kind))
    url = _split(text)
    if url is None or url.scheme not in SCHEMES[kind]:
        forms = " or ".join(f"{scheme}://{form}" for scheme, form in SCHEMES[kind].items())
        findings.add((*path, kind), f"expected {forms}")
        return None
    if url.username is not None:
        findings.add((*path, kind), "has a user in it, which would be in metrics and logs; use `headers`")
    if url.query or url.fragment:
        findings.add((*path, kind), "has something behind its path, which is not sent; a token belongs into `headers`")
    servers = _servers(url) if kind == "kafka" else ()
    return CollectorConfig(
        kind=cast("CollectorKind", kind),  # as KINDS has it
        scheme=url.scheme,
        host="" if servers else url.hostname or "",
        port=0 if servers else url.port or PORTS.get(url.scheme, 0),
        path=url.path,
        servers=servers,
        **_read_tls(path, document, folder, findings),
        headers=tuple(document.headers.items()),
        queue_bytes_max=document.queue_bytes_max,
    )


def _split(text: str) -> SplitResult | None:
    """The parts of a URL, if it is one that leads somewhere: to a path, or to a host."""
    try:
        url = urlsplit(text)
        if url.scheme in SCHEMES["kafka"]:
            is_topic = _TOPIC.fullmatch(url.path) and not url.query and not url.fragment
            return url if is_topic and _servers(url) else None
        leads = url.path.startswith("/") and not url.netloc if url.scheme == "unix" else bool(url.hostname)
        return url if leads and (url.port is None or url.port) else None
    except ValueError:
        return None  # lawful: the caller says what is expected


def _servers(url: SplitResult) -> tuple[str, ...]:
    """The brokers between the scheme and the path, `HOST:PORT` each; none if one of them is none. Raises ValueError."""
    brokers = [urlsplit(f"//{broker}") for broker in url.netloc.split(",")]
    # A user would be in metrics and logs; port 0 leads nowhere.
    if not all(broker.hostname and broker.username is None and broker.port != 0 for broker in brokers):
        return ()
    named = [(broker.hostname or "", broker.port or PORTS[url.scheme]) for broker in brokers]
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in named)


def _read_tls(path: Path, document: AuditDocument, folder: str, findings: Findings) -> dict[str, str | None]:
    tls = document.tls
    if tls is None:
        return {}
    if (tls.cert is None) != (tls.private_key is None):
        findings.add((*path, "tls"), "expected `cert` and `key`, or neither")
    given = {"ca": tls.ca, "cert": tls.cert, "key": tls.private_key}
    return {name: None if file is None else os.path.join(folder, file) for name, file in given.items()}
