"""The keys of `audit`: where the record of every request goes.

Owns their shapes and descriptions. Must not know what they come to (`trails`). Begin at `AuditDocument`.
"""

from dataclasses import dataclass
from typing import Literal

from sockproxy.operating.config.shapes import Choice, Keys, Number, Text, key

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
class AuditDocument:
    """Where the record of every request goes."""

    file: str = key(_TEXT, 'A file to append to, relative to this one; "-" is standard output.')
    level: Literal["Metadata"] = key(Choice(("Metadata",)), "How much of a request is recorded.", default="Metadata")
    on_failure: Literal["deny-writes", "deny-all", "continue"] = key(
        Choice(("deny-writes", "deny-all", "continue")),
        "What is refused with 503 while the record cannot be written.",
        default="deny-writes",
    )
    sign: SignDocument | None = key(
        Keys(SignDocument, "Signing"), "How the trail is signed. Default: it is not.", default=None
    )
    rotate: RotateDocument | None = key(
        Keys(RotateDocument, "Rotation"),
        "When the file is moved away. Default: others do that, and send SIGHUP.",
        default=None,
    )
    fsync: Literal["always", "interval", "never"] = key(
        Choice(("always", "interval", "never")),
        "When lines are forced to disk: always, before a request that waits for its line goes on; interval, once a second; "
        "never, the kernel does it within half a minute.",
        default="never",
    )
