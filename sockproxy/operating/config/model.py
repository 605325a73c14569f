"""Config: what a configuration comes to, read and checked. Having one means that it is valid.

Must not know how it was written. The limits are those of `forwarding.limits`, the policies those of `judging.policy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sockproxy.forwarding.address import Address, TlsFiles
from sockproxy.forwarding.client import Client
from sockproxy.forwarding.limits import Limits
from sockproxy.judging.policy import Policy
from sockproxy.recording.levels import AuditRule

AuditLevel = Literal["Metadata", "Request", "RequestResponse"]
OnFailure = Literal["deny-writes", "deny-all", "continue"]
Fsync = Literal["always", "interval", "never"]


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """A place where clients connect. `mode`, `owner` and `group` are of a unix socket; None: as the process has it."""

    name: str
    address: Address
    mode: int | None
    owner: str | None
    group: str | None
    tls: TlsFiles | None
    insecure: bool
    """Plain tcp is meant, wherever it can be reached from."""
    clients: tuple[Client, ...]
    """Whom it lets in; one that names just a policy has everybody as its one client."""

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The policies that its clients meet."""
        return tuple(dict.fromkeys(client.policy.name for client in self.clients))


@dataclass(frozen=True, slots=True)
class SignConfig:
    """How a trail is signed."""

    key: str
    every: int
    seconds: int


@dataclass(frozen=True, slots=True)
class RotateConfig:
    """When a file is moved away; 0: not for that. `keep` None: all older ones stay."""

    bytes_max: int
    seconds: int
    keep: int | None


CollectorKind = Literal["syslog", "journald", "otlp", "kafka"]


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """Who takes lines instead of a file. `path`: of a unix socket; of Kafka, the topic behind a slash, and
    `servers` are `HOST:PORT` each. `ca`, `cert`, `key`: files for TLS."""

    kind: CollectorKind
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    servers: tuple[str, ...] = ()
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    queue_bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """A sink of the record. `file` "-" is standard output; of a collector it is the URL."""

    file: str
    level: AuditLevel
    """The most that it gets."""
    on_failure: OnFailure
    sign: SignConfig | None = None
    rotate: RotateConfig | None = None
    fsync: Fsync = "never"
    collector: CollectorConfig | None = None


class AuditKey(NamedTuple):
    """The file of the key that marks secrets; "" if the process is to make one of its own. `trail`: beside which it stands;
    "" if the file was asked for."""

    file: str = ""
    trail: str = ""


@dataclass(frozen=True, slots=True)
class RecordingsConfig:
    """Where recorded sessions go. `ends_session`: one that cannot be recorded any more ends."""

    directory: str
    bytes_max: int
    ends_session: bool


@dataclass(frozen=True, slots=True)
class Config:
    """All that a proxy is told. `policies` by their names: those that the file defines and those that listeners use."""

    engine: Address
    listeners: tuple[ListenerConfig, ...]
    admin: Address | None
    admin_token_file: str | None
    audit: tuple[AuditConfig, ...]
    audit_rules: tuple[AuditRule, ...]
    audit_key: AuditKey
    limits: Limits
    policies: Mapping[str, Policy]
    recordings: RecordingsConfig | None = None
