"""The URL of a collector -> who it is, and what is wrong with it.

Owns which schemes a kind of collector has. Begin at `read_collector`.
"""

import os
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
}
"""Kind -> scheme -> what its URLs look like."""

PORTS = {"udp": 514, "tcp": 601, "tls": 6514, "http": 80, "https": 443}
"""Where none is given: RFC 5426, RFC 3195 (as syslog-conn, in want of another), RFC 5425."""


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
    return CollectorConfig(
        kind=cast("CollectorKind", kind),  # as KINDS has it
        scheme=url.scheme,
        host=url.hostname or "",
        port=url.port or PORTS.get(url.scheme, 0),
        path=url.path,
        **_read_tls(path, document, folder, findings),
        headers=tuple(document.headers.items()),
        queue_bytes_max=document.queue_bytes_max,
    )


def _split(text: str) -> SplitResult | None:
    """The parts of a URL, if it is one that leads somewhere: to a path, or to a host."""
    try:
        url = urlsplit(text)
        leads = url.path.startswith("/") and not url.netloc if url.scheme == "unix" else bool(url.hostname)
        return url if leads and (url.port is None or url.port) else None
    except ValueError:
        return None  # lawful: the caller says what is expected


def _read_tls(path: Path, document: AuditDocument, folder: str, findings: Findings) -> dict[str, str | None]:
    tls = document.tls
    if tls is None:
        return {}
    if (tls.cert is None) != (tls.private_key is None):
        findings.add((*path, "tls"), "expected `cert` and `key`, or neither")
    given = {"ca": tls.ca, "cert": tls.cert, "key": tls.private_key}
    return {name: None if file is None else os.path.join(folder, file) for name, file in given.items()}
