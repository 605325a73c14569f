"""The shape of a configuration file: its keys, their types, what they mean.

Owns every key and its description, from which the JSON Schema for editors comes. Must not know what the values lead to:
addresses, selectors and the names of policies are text here (`building` and `policies` read them). Begin at `Document`.
The prose is in `config/sockproxy.yaml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.operating.config.auditing import AuditDocument
from sockproxy.operating.config.familiar import IN_DOCUMENT, IN_RECORDINGS, IN_SINK
from sockproxy.operating.config.requirements import REQUIRE_TITLE, RequireDocument
from sockproxy.operating.config.shapes import (
    Choice,
    Constant,
    Either,
    Flag,
    Keys,
    ListOf,
    Named,
    NameOrNumber,
    Number,
    Text,
    asked,
    key,
)

FORMAT_VERSION = 1
RECORDING_BYTES_MAX = 64 << 20
"""A day of a busy terminal; who prints more than that prints a file."""

TEXT = Text()
_POLICY_REFERENCE = (
    "A policy of this file, a built-in one, or a file (FILE.yaml, FILE.yaml#name), relative to this file."
)
_POLICY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_POLICY_NAME_FORM = "the name of a policy has up to 63 letters, digits, dots, dashes and underscores"
POLICY_NAME = Text("expected the name of a policy", pattern=_POLICY_NAME)
API_VERSION = Text(
    'expected an API version, as in "1.24"',
    pattern=r"^(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})$",
    number="a number where an API version belongs (YAML turns 1.20 into 1.2)",
)
SOCKET_MODE = Text(
    'expected permissions, as in "0660"',
    pattern=r"^0?[0-7]{3}$",
    number="a number where permissions belong (YAML turns 0660 into 432)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDocument:
    """A rule: the operations that it selects, and what an allow rule requires of them."""

    operations: tuple[str, ...] = key(
        ListOf(TEXT, when_empty="is empty: a rule without operations can never match"),
        "Which operations: an operationId, a pattern over them (Container*), @Tag, @read, @write, @tunnel, "
        "or @unknown for what sockproxy does not know.",
    )
    require: RequireDocument | None = key(
        Keys(RequireDocument, REQUIRE_TITLE),
        "What a request has to be like for an allow rule to allow it; all of it has to be met.",
        default=None,
        when_null="is empty: it would require nothing",
    )
    reason: str | None = key(TEXT, "Why, in one line; a denied client is told.", default=None)
    record: bool = key(
        Flag(),
        "Sessions of ContainerAttach and ExecStart are recorded: what comes out of them. `recordings` says where.",
        default=False,
    )
    record_input: bool = key(Flag(), "What is typed is recorded, too, passwords and all.", default=False)
    shadow: bool = key(
        Flag(),
        "The rule denies nothing: what a deny rule would deny, or what would be denied without an allow rule, passes, and "
        "is counted and recorded.",
        default=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiVersionsDocument:
    """The API versions that may be asked for."""

    min: str | None = key(API_VERSION, 'The oldest API version, in quotes: "1.24".', default=None)
    max: str | None = key(API_VERSION, 'The newest API version, in quotes: "1.44".', default=None)
    unversioned: Literal["allow", "deny"] | None = key(
        Choice(("allow", "deny")),
        "Paths without a version, which the engine reads by its newest one. Default: allow; with a max, deny.",
        default=None,
    )


_RULES = ListOf(Keys(RuleDocument, "Rule"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A policy. What no allow rule selects is denied; what a deny rule selects is denied, whatever allows it."""

    extends: tuple[str, ...] = key(
        ListOf(POLICY_NAME), "Policies, of this file or built-in, whose rules are added to this one's.", default=()
    )
    api_versions: ApiVersionsDocument | None = key(
        Keys(ApiVersionsDocument, "API versions"),
        "Default: those that all extended policies admit; every version if there are none.",
        default=None,
    )
    mode: Literal["enforce", "shadow"] = key(
        Choice(("enforce", "shadow")),
        "shadow: everything passes, and what would be denied is counted and recorded.",
        default="enforce",
    )
    unknown_fields: Literal["deny", "drop", "pass"] = key(
        Choice(("deny", "drop", "pass")),
        "What becomes of names in a body that no engine knows, where a rule requires something of it: deny refuses the "
        "request, drop forwards it without them, pass forwards them unjudged.",
        default="deny",
    )
    allow: tuple[RuleDocument, ...] = key(_RULES, "What is allowed.", default=())
    deny: tuple[RuleDocument, ...] = key(_RULES, "What is denied, whatever allows it.", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDocument:
    """Which container a client is in, as the engine knows it. All that stands here has to hold."""

    name: str | None = asked(TEXT, "A pattern over its name.")
    labels: Mapping[str, str] = key(
        Named(Text(is_empty_right=True), "(?s).+", "expected the name of a label"),
        "Labels that it has: their names, and patterns over their values.",
        default=dict,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchDocument:
    """Who somebody is. All that stands here has to hold; what is not known of a peer does not."""

    uid: str | int | None = asked(NameOrNumber(), "The user of a unix peer, by name or number.")
    gid: str | int | None = asked(NameOrNumber(), "The group that a unix peer's process runs with, by name or number.")
    exe: str | None = asked(TEXT, "A pattern over the path of a unix peer's executable; * includes slashes.")
    container: str | ContainerDocument | None = asked(
        Either(TEXT, Keys(ContainerDocument, "Container")),
        "The container: its id, 12 digits or more of it, or a pattern; or keys, what the engine says of it.",
    )
    tls_subject: str | None = asked(
        TEXT,
        "The subject of the client's certificate: a pattern over one attribute (CN=ci-*), or over all of them, part by "
        "part, as RFC 4514 writes them (CN=ci-*,O=Example).",
    )
    tls_san: str | None = asked(
        TEXT,
        "A pattern over an alternative name of the client's certificate, with its kind: DNS:*.example.com.",
    )
    spiffe_id: str | None = asked(TEXT, "A pattern over the SPIFFE id: spiffe://example.org/ci/*.")
    tls_fingerprint: str | None = asked(
        Text("expected the SHA-256 of a certificate in quotes"),
        "The SHA-256 of the client's certificate, in hexadecimal.",
    )
    cidr: str | None = asked(TEXT, "The network of a tcp peer's address: 10.0.0.0/8.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDocument:
    """Some of a listener's clients, and the policy that they meet."""

    match: MatchDocument | None = key(
        Keys(MatchDocument, "Match"),
        "Who they are. Default: everybody.",
        default=None,
        when_null="asks nothing; to mean everybody, leave it out",
    )
    policy: str = key(TEXT, _POLICY_REFERENCE)
    limits: ClientLimits | None = key(
        Keys(ClientLimits, "Client limits"),
        "How much each of these clients may ask for. Default: the listener's.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDocument:
    """TLS of a tcp listener, 1.2 and newer. Files are PEM, and taken anew when they change."""

    cert: str = key(TEXT, "The listener's certificate and its chain, relative to this file.")
    private_key: str = key(TEXT, "The key of that certificate, not encrypted, relative to this file.", name="key")
    client_ca: str | None = key(
        TEXT,
        "The authorities of its clients: only who has a certificate of theirs is let in. Default: everybody is.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerDocument:
    """Where clients connect, and the policy that they meet there: `policy` is for everybody, `clients` tells them apart."""

    address: str = key(TEXT, "unix:///path, tcp://host:port, or systemd://name for a socket handed over by systemd.")
    policy: str | None = key(TEXT, f"{_POLICY_REFERENCE} For everybody who connects here.", default=None)
    clients: tuple[ClientDocument, ...] | None = key(
        ListOf(Keys(ClientDocument, "Client"), when_empty="is empty: nobody would be let in"),
        "Who meets which policy here. The first that matches counts; who is none of them is denied.",
        default=None,
    )
    tls: TlsDocument | None = key(Keys(TlsDocument, "TLS"), "TLS, for tcp. Default: none.", default=None)
    insecure: bool = key(
        Flag(),
        "Plain tcp beyond loopback is meant: who reaches it is let in, and everybody on the way reads.",
        default=False,
    )
    limits: ClientLimits | None = key(
        Keys(ClientLimits, "Client limits"),
        "How much each client may ask for, where `clients` do not say it. Default: it is not limited.",
        default=None,
    )
    name: str | None = key(Text(length_max=64), "Its name in metrics and audit. Default: the address.", default=None)
    mode: str | None = key(SOCKET_MODE, 'Permissions of a unix socket, in quotes. Default: "0660".', default=None)
    owner: str | int | None = key(NameOrNumber(), "Owner of a unix socket, by name or number.", default=None)
    group: str | int | None = key(NameOrNumber(), "Group of a unix socket, by name or number.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingsDocument:
    """Where recorded sessions go: asciicast v2, a file each."""

    directory: str = key(TEXT, "The directory of the files, relative to this one; it is made where there is none.")
    bytes_max: int = key(Number(is_whole=True), "How large a recording may get.", default=RECORDING_BYTES_MAX)
    on_failure: Literal["end-session", "continue"] = key(
        Choice(("end-session", "continue")),
        "What becomes of a session that cannot be recorded any more: the disk is full, or `bytes_max` is reached.",
        default="end-session",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRuleDocument:
    """How much of some requests is recorded. All that stands here has to fit."""

    level: Literal["None", "Metadata", "Request", "RequestResponse"] = key(
        Choice(("None", "Metadata", "Request", "RequestResponse")),
        "None: nothing, it is only counted. A sink gets no more than its own level.",
    )
    operations: tuple[str, ...] | None = key(
        ListOf(TEXT, when_empty="is empty: a rule without operations can never match"),
        "Which operations, by the selectors of policies. Default: all.",
        default=None,
    )
    principals: tuple[MatchDocument, ...] | None = key(
        ListOf(Keys(MatchDocument, "Match"), when_empty="is empty: nobody would fit"),
        "Who asks: one of these has to hold. Default: everybody.",
        default=None,
    )
    effect: Literal["allow", "deny"] | None = key(
        Choice(("allow", "deny")), "What was decided. Default: either.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A configuration file of sockproxy; with `version` and `policies` only, a policy file."""

    version: int = key(Constant(FORMAT_VERSION), "The version of this format.", default=FORMAT_VERSION)
    engine: str = key(TEXT, "The engine: unix:///path or tcp://host:port.", default="unix:///var/run/docker.sock")
    listeners: tuple[ListenerDocument, ...] = key(
        ListOf(Keys(ListenerDocument, "Listener")), "Where clients connect.", default=()
    )
    admin: str | None = key(
        Text("expected an address, as tcp://127.0.0.1:9323 or unix:///path; its token is in `admin_token_file`"),
        "Where metrics and health are served. Default: nowhere.",
        default=None,
    )
    admin_token_file: str | None = key(
        TEXT,
        "A file with the token that `admin` asks of who changes something, relative to this one. Default: nobody can.",
        default=None,
    )
    audit: tuple[AuditDocument, ...] = key(
        ListOf(Keys(AuditDocument, "Audit sink", IN_SINK), form="expected a list of sinks (rules are `audit_rules`)"),
        "Where the record goes. Default: there is none.",
        default=(),
    )
    audit_rules: tuple[AuditRuleDocument, ...] = key(
        ListOf(Keys(AuditRuleDocument, "Audit rule")),
        "How much of which requests is recorded: the first rule that fits counts. Default: what a sink's level says.",
        default=(),
    )
    audit_key: str | None = key(
        TEXT,
        "The file of the key by which secrets are marked, relative to this one; made if it is not there. Default: beside the "
        "first trail: audit.key for audit.jsonl.",
        default=None,
    )
    recordings: RecordingsDocument | None = key(
        Keys(RecordingsDocument, "Recordings", IN_RECORDINGS),
        "Where recorded sessions go. Default: nowhere.",
        default=None,
    )
    # One definition of the limits: the one that the data path keeps.
    limits: Limits | None = key(
        Keys(Limits, "Limits"), "Bounds of the data path; a key that is left out keeps its default.", default=None
    )
    policies: Mapping[str, PolicyDocument] = key(
        Named(Keys(PolicyDocument, "Policy"), _POLICY_NAME, _POLICY_NAME_FORM), "Policies by their names.", default=dict
    )


DOCUMENT = Keys(Document, "sockproxy configuration", IN_DOCUMENT)
