"""The keys of `audit` -> the sinks of the record, and what is wrong with them.

Owns the checks across the keys of a sink and across sinks. Must not know how a sink takes lines. Begin at `read_audit`.
"""

import os
from collections.abc import Callable, Sequence

from sockproxy.operating.config.auditing import AuditDocument, RotateDocument, SignDocument
from sockproxy.operating.config.collectors import read_collector
from sockproxy.operating.config.model import AuditConfig, RotateConfig, SignConfig
from sockproxy.operating.config.shapes import keys_of
from sockproxy.operating.config.validation import Findings
from sockproxy.operating.config.wording import Path, quoted

STANDARD_OUTPUT = "-"

KINDS = ("file", "syslog", "journald", "otlp", "kafka")
"""The keys of which a sink has one: what it is."""

HAVING = {
    "rotate": ("file",),
    "fsync": ("file",),
    "tls": ("syslog by TLS", "otlp", "kafka by TLS"),
    "headers": ("otlp",),
    "queue_bytes_max": ("syslog", "syslog by TLS", "otlp", "kafka", "kafka by TLS"),
}
"""Keys that only some have."""


def read_audit(
    documents: Sequence[AuditDocument], folder: str, findings: Findings, is_written: Callable[..., bool]
) -> tuple[AuditConfig, ...]:
    """The sinks; files are relative to `folder`. What is wrong is added to `findings`. `is_written`: whether one of these keys
    stands at a place of the source, whatever its value is; one that is wrong itself has been told."""
    sinks: dict[str, AuditConfig] = {}
    for index, document in enumerate(documents):
        path = ("audit", index)
        kinds = [kind for kind in KINDS if getattr(document, kind) is not None]
        if len(kinds) != 1:
            if kinds or not is_written(path, *KINDS):
                findings.add(path, f"expected one of {', '.join(f'`{kind}`' for kind in KINDS)}")
            continue
        kind = kinds[0]
        given = getattr(document, kind)
        findings.add_unless_printable((*path, kind), given)
        name = given if kind != "file" or given == STANDARD_OUTPUT else os.path.join(folder, given)
        if name in sinks:
            findings.add((*path, kind), f"{quoted(given)} a second time")
        _check_keys(path, document, _what(kind, given), findings)
        sign = _read_sign((*path, "sign"), document.sign, folder, findings)
        rotate = _read_rotate((*path, "rotate"), document.rotate, findings, is_written)
        collector = read_collector(path, document, kind, folder, findings)
        sinks[name] = AuditConfig(
            name, document.level, document.on_failure, sign, rotate, document.fsync, collector=collector
        )
    return tuple(sinks.values())


def _read_sign(path: Path, document: SignDocument | None, folder: str, findings: Findings) -> SignConfig | None:
    if document is None:
        return None
    findings.add_unless_printable((*path, "key"), document.private_key)
    for name in ("every", "seconds"):
        if getattr(document, name) == 0:
            findings.add((*path, name), "expected 1 or more")
    return SignConfig(os.path.join(folder, document.private_key), document.every, document.seconds)


def _read_rotate(
    path: Path, document: RotateDocument | None, findings: Findings, is_written: Callable[..., bool]
) -> RotateConfig | None:
    if document is None:
        return None
    is_wrong = is_written(path, "bytes", "seconds") and document.bytes_max is document.seconds is None
    if not document.bytes_max and not document.seconds and not is_wrong:
        findings.add(path, "expected `bytes` or `seconds`: without one of them, nothing is ever moved away")
    return RotateConfig(document.bytes_max or 0, document.seconds or 0, document.keep)


def _what(kind: str, given: str) -> str:
    """What a sink is, in the words of `HAVING`."""
    if kind == "file":
        return "standard output" if given == STANDARD_OUTPUT else "file"
    return f"{kind} by TLS" if given.startswith(("tls:", "kafkas:")) else kind


def _check_keys(path: Path, document: AuditDocument, what: str, findings: Findings) -> None:
    defaults = {name: one.default for name, one in keys_of(AuditDocument).items()}
    for name, having in HAVING.items():
        if getattr(document, name) != defaults[name] and what not in having:
            findings.add((*path, name), f"is for {' and '.join(having)}; this is {what}")
