"""The keys of `audit` -> the sinks of the record, and what is wrong with them.

Owns the checks across the keys of a sink and across sinks. Must not know how a sink takes lines. Begin at `read_audit`.
"""

import os
from collections.abc import Sequence

from sockproxy.operating.config.auditing import AuditDocument, RotateDocument, SignDocument
from sockproxy.operating.config.model import AuditConfig, RotateConfig, SignConfig
from sockproxy.operating.config.validation import Findings
from sockproxy.operating.config.wording import Path, quoted

STANDARD_OUTPUT = "-"


def read_audit(documents: Sequence[AuditDocument], folder: str, findings: Findings) -> tuple[AuditConfig, ...]:
    """The sinks; files are relative to `folder`. What is wrong is added to `findings`."""
    sinks: dict[str, AuditConfig] = {}
    for index, document in enumerate(documents):
        path = ("audit", index)
        findings.add_unless_printable((*path, "file"), document.file)
        file = document.file if document.file == STANDARD_OUTPUT else os.path.join(folder, document.file)
        if file in sinks:
            findings.add((*path, "file"), f"{quoted(document.file)} a second time")
        sign = _read_sign((*path, "sign"), document.sign, folder, findings)
        rotate = _read_rotate((*path, "rotate"), document.rotate, findings)
        if file == STANDARD_OUTPUT:
            _check_stream(path, document, findings)
        sinks[file] = AuditConfig(file, document.level, document.on_failure, sign, rotate, document.fsync)
    return tuple(sinks.values())


def _read_sign(path: Path, document: SignDocument | None, folder: str, findings: Findings) -> SignConfig | None:
    if document is None:
        return None
    findings.add_unless_printable((*path, "key"), document.private_key)
    for name in ("every", "seconds"):
        if getattr(document, name) == 0:
            findings.add((*path, name), "expected 1 or more")
    return SignConfig(os.path.join(folder, document.private_key), document.every, document.seconds)


def _read_rotate(path: Path, document: RotateDocument | None, findings: Findings) -> RotateConfig | None:
    if document is None:
        return None
    if not document.bytes_max and not document.seconds:
        findings.add(path, "expected `bytes` or `seconds`: without one of them, nothing is ever moved away")
    return RotateConfig(document.bytes_max or 0, document.seconds or 0, document.keep)


def _check_stream(path: Path, document: AuditDocument, findings: Findings) -> None:
    for name, is_given in (("rotate", document.rotate is not None), ("fsync", document.fsync != "never")):
        if is_given:
            findings.add((*path, name), "only a file has it, not standard output")
