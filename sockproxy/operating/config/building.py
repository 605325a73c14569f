"""A file or the options of the command line -> Config, or all that is wrong with it.

Owns the checks that go across a configuration: addresses, names, files. Must not know the shape of it (`document`) nor
what policies mean (`policies`). Begin at `load_config`.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sockproxy.errors import ConfigError
from sockproxy.forwarding.address import Address, TlsFiles, is_loopback, parse_address
from sockproxy.forwarding.client import Client
from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.judging.catalogue import Access, Catalogue
from sockproxy.judging.clients import ANYBODY
from sockproxy.judging.compiling import select_all
from sockproxy.judging.policy import Effect, Policy
from sockproxy.operating.config.document import (
    FORMAT_VERSION,
    AuditRuleDocument,
    ClientDocument,
    Document,
    ListenerDocument,
    RecordingsDocument,
    TlsDocument,
)
from sockproxy.operating.config.files import Files
from sockproxy.operating.config.matching import check_match_keys, check_reachable, read_match
from sockproxy.operating.config.model import AuditConfig, AuditKey, Config, ListenerConfig, RecordingsConfig
from sockproxy.operating.config.policies import Policies, policy_names
from sockproxy.operating.config.shapes import keys_of
from sockproxy.operating.config.source import Plain, Source, UnreadableFile, from_plain, parse_source, read_text
from sockproxy.operating.config.trails import STANDARD_OUTPUT, read_audit
from sockproxy.operating.config.validation import Advice, Findings, validate
from sockproxy.operating.config.wording import Path, key_of, quoted, shortened
from sockproxy.recording.levels import LEVELS, AuditRule

SOCKET_MODE_DEFAULT = "0660"
"""What Docker gives its own socket: owner and group, nobody else."""


def load_config(file: str, catalogue: Catalogue, files: Files | None = None) -> Config:
    """The configuration of a file. Raises UnreadableFile, and ConfigError with all that is wrong. `files` is told of every file
    that is read, whether or not it can be."""
    source = parse_source(file, read_text(file, files))
    return _build(source, catalogue, os.path.dirname(file), files)


def load_policy(reference: str, catalogue: Catalogue) -> Policy:
    """The policy that a built-in name, `FILE` (with one policy in it) or `FILE#name` refers to. Raises UnreadableFile,
    and ConfigError with all that is wrong."""
    return Policies(catalogue).find(reference, {}, "")


def check_config(file: str, catalogue: Catalogue) -> tuple[Advice, ...]:
    """What there is to say of a file that is right. Raises what `load_config` would; but a file with nothing but policies is
    as good."""
    source = parse_source(file, read_text(file))
    findings, policies = Findings(source), Policies(catalogue)
    document = validate(source, findings)
    if _has_policies_only(source):
        policies.check_names(policies.compile(source, document, findings), findings)
    else:
        _Builder(source, findings, policies, os.path.dirname(file)).config(document)
    findings.check()
    return (*sorted(findings.advice, key=lambda one: one.finding.line), *policies.advice)


def config_from_options(
    catalogue: Catalogue,
    *,
    listen: str | Sequence[str],
    policy: str,
    engine: str | None = None,
    admin: str | None = None,
    audit: str | Sequence[str] = (),
    insecure: bool = False,
    files: Files | None = None,
) -> Config:
    """The configuration that these options of the command line stand for; files are relative to the working directory.
    Raises ConfigError with all that is wrong, each with its option as the key. `files`: as for `load_config`."""
    listeners: list[Plain] = [
        {"address": one, "policy": policy} | ({"insecure": True} if insecure and _may_be_plain(one) else {})
        for one in _each(listen)
    ]
    given: dict[str, Plain] = {"version": FORMAT_VERSION, "listeners": listeners}
    given |= {"engine": engine} if engine is not None else {}
    given |= {"admin": admin} if admin is not None else {}
    given |= {"audit": [{"file": file} for file in _each(audit)]}
    try:
        return _build(Source("command line", from_plain(given), ()), catalogue, "", files)
    except ConfigError as error:
        findings = dict.fromkeys(one._replace(key=_option(one.key)) for one in error.findings)
        raise ConfigError(tuple(findings)) from error


def _each(given: str | Sequence[str]) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given


def _may_be_plain(listen: str) -> bool:
    return listen.startswith(("tcp://", "systemd://"))


def _option(key: str) -> str:
    if key.startswith("listeners"):
        return "--policy" if key.endswith(".policy") else "--listen"
    first = key.partition("[")[0]
    return f"--{first}" if first in ("engine", "admin", "audit") else key


def _has_policies_only(source: Source) -> bool:
    root = source.root.value
    others = keys_of(Document).keys() - {"version", "policies"}
    return isinstance(root, dict) and "policies" in root and not root.keys() & others


def _build(source: Source, catalogue: Catalogue, folder: str, files: Files | None = None) -> Config:
    findings = Findings(source)
    document = validate(source, findings)
    config = _Builder(source, findings, Policies(catalogue, files), folder).config(document)
    findings.check()
    return config


class _Builder:
    """Makes a Config of a document; whatever is wrong becomes a finding, and the rest is looked at all the same."""

    def __init__(self, source: Source, findings: Findings, policies: Policies, folder: str) -> None:
        self.source = source
        self.findings = findings
        self.policies = policies
        self.folder = folder
        self.addresses: dict[Address, str] = {}  # -> the key that has it
        self.names: dict[str, str] = {}
        self.in_use: dict[str, Policy] = {}

    def config(self, document: Document) -> Config:
        own = self.policies.compile(self.source, document, self.findings)
        self.policies.check_names(own, self.findings)
        self.in_use.update(own)
        engine = self.engine(document.engine)
        listeners = [self.listener(("listeners", index), one, own) for index, one in enumerate(document.listeners)]
        if not listeners and not self.is_given("listeners"):
            self.findings.add(("listeners",), "is missing: there is nowhere to listen")
        admin = None if document.admin is None else self.address(("admin",), document.admin)
        if admin is not None and admin.scheme == "tcp" and not is_loopback(admin.host):
            self.findings.advise(
                "note", ("admin",), "who reaches it there sees who asks for what; only changes need the token"
            )
        token_file = self.admin_token_file(document)
        audit = read_audit(document.audit, self.folder, self.findings, self.is_written)
        rules = tuple(self.audit_rule(("audit_rules", index), one) for index, one in enumerate(document.audit_rules))
        key = self.audit_key(document.audit_key, audit)
        limits = document.limits or Limits()
        made = tuple(listener for listener in listeners if listener is not None)
        recordings = self.recordings(document.recordings)
        return Config(
            engine, made, admin, token_file, audit, rules, key, limits, MappingProxyType(self.in_use), recordings
        )

    def admin_token_file(self, document: Document) -> str | None:
        file = document.admin_token_file
        if file is None:
            return None
        self.findings.add_unless_printable(("admin_token_file",), file)
        if document.admin is None:
            self.findings.add(("admin_token_file",), "says nothing without `admin`")
        return os.path.join(self.folder, file)

    def is_given(self, key: str) -> bool:
        root = self.source.root.value
        return not isinstance(root, dict) or (key in root and root[key].value != [])

    def is_written(self, path: Path, *keys: str) -> bool:
        """Whether one of these keys stands at a place of the source, whatever its value is."""
        value: object = self.source.root.value
        for part in self.findings.place_of(path):
            node = value.get(part) if isinstance(value, dict) else value[int(part)] if isinstance(value, list) else None
            value = node.value if node is not None else None
        return isinstance(value, dict) and any(key in value for key in keys)

    def engine(self, text: str) -> Address:
        engine = self.address(("engine",), text)
        if engine is None:
            return Address("unix")  # leads nowhere: with a finding, nobody gets the Config
        if engine.scheme == "systemd" or (engine.scheme == "tcp" and not (engine.host and engine.port)):
            self.findings.add(("engine",), "expected unix:///path or tcp://host:port")
        return engine

    def listener(self, path: Path, document: ListenerDocument, own: Mapping[str, Policy]) -> ListenerConfig | None:
        address = self.address((*path, "address"), document.address)
        clients = self.clients(path, document, own)
        if address is None:
            return None
        check_match_keys(path, document, address, self.findings)
        self.check_socket_keys(path, document, address)
        self.check_reach(path, document, address)
        name = document.name or str(address)
        self.findings.add_unless_printable((*path, "name"), name)
        if name in self.names and document.name is not None:
            self.findings.add((*path, "name"), f"{quoted(name)} is the name of {self.names[name]}, too")
        self.names.setdefault(name, key_of(path))
        if clients is None:
            return None
        return ListenerConfig(
            name=name,
            address=address,
            mode=int(document.mode or SOCKET_MODE_DEFAULT, 8) if address.scheme == "unix" else None,
            owner=None if document.owner is None else str(document.owner),
            group=None if document.group is None else str(document.group),
            tls=self.tls((*path, "tls"), document.tls),
            insecure=document.insecure,
            clients=clients,
        )

    def clients(self, path: Path, document: ListenerDocument, own: Mapping[str, Policy]) -> tuple[Client, ...] | None:
        """Whom a listener lets in; None where something is wrong with that, which is told."""
        if document.clients is None:
            if document.policy is None:
                if not self.is_written(path, "policy", "clients"):  # one that is wrong itself has been told
                    self.findings.add((*path, "policy"), "is missing")
                return None
            policy = self.policy((*path, "policy"), document.policy, own)
            return None if policy is None else (Client(ANYBODY, policy, self.limits(path, document.limits)),)
        if document.policy is not None:
            self.findings.add(
                (*path, "policy"), "stands beside `clients`, each of which has its own; leave one of them out"
            )
        limits = self.limits(path, document.limits)
        clients = [
            self.client((*path, "clients", index), one, own, limits) for index, one in enumerate(document.clients)
        ]
        check_reachable((*path, "clients"), document.clients, self.findings)
        return tuple(client for client in clients if client is not None)

    def client(
        self, path: Path, document: ClientDocument, own: Mapping[str, Policy], limits: ClientLimits
    ) -> Client | None:
        match = read_match((*path, "match"), document.match, self.findings)
        policy = self.policy((*path, "policy"), document.policy, own)
        limits = limits if document.limits is None else self.limits(path, document.limits)
        return None if policy is None else Client(match, policy, limits)

    def limits(self, path: Path, limits: ClientLimits | None) -> ClientLimits:
        if limits is not None and limits.burst and not limits.requests_per_second:
            self.findings.add((*path, "limits", "burst"), "says nothing without `requests_per_second`")
        return limits or ClientLimits()

    def check_socket_keys(self, path: Path, document: ListenerDocument, address: Address) -> None:
        for key in ("mode", "owner", "group"):
            value = getattr(document, key)
            self.findings.add_unless_printable((*path, key), str(value))
            if address.scheme != "unix" and value is not None:
                self.findings.add((*path, key), f"only a unix socket has it, not {address}")

    def check_reach(self, path: Path, document: ListenerDocument, address: Address) -> None:
        """Adds a finding for plain tcp that others can reach, unless that is said to be meant."""
        if address.scheme == "unix" and document.tls is not None:
            self.findings.add((*path, "tls"), f"only tcp has it, not {address}")
        is_needed = address.scheme != "unix" and document.tls is None
        if document.insecure and not is_needed:
            self.findings.add((*path, "insecure"), "is for plain tcp, which this is not; leave it out")
        if address.scheme == "tcp" and is_needed and not document.insecure and not is_loopback(address.host):
            message = (
                f"{address} is plain tcp beyond loopback; give it `tls`, or say `insecure: true` here if it is meant"
            )
            self.findings.add((*path, "address"), message)

    def tls(self, path: Path, document: TlsDocument | None) -> TlsFiles | None:
        if document is None:
            return None
        files = {"cert": document.cert, "key": document.private_key}
        files |= {} if document.client_ca is None else {"client_ca": document.client_ca}
        placed = {key: os.path.join(self.folder, file) for key, file in files.items()}
        for key, file in files.items():
            is_shown = self.findings.add_unless_printable((*path, key), file)
            if is_shown and not os.access(
                placed[key], os.R_OK
            ):  # lawful: it may be written on another machine than it is for
                self.findings.advise("warning", (*path, key), f"{placed[key]} cannot be read here, and serve needs it")
        return TlsFiles(placed["cert"], placed["key"], placed.get("client_ca"))

    def policy(self, path: Path, reference: str, own: Mapping[str, Policy]) -> Policy | None:
        if not self.findings.add_unless_printable(path, reference):
            return None
        try:
            policy = self.policies.find(reference, own, self.folder)
        except UnreadableFile as error:
            self.findings.add(path, f"{error.findings[0].file} {error.findings[0].message}")
        except ConfigError as error:
            if reference not in policy_names(self.source):  # one that is wrong inside has been told
                self.findings.add_of_other_file(path, error)
        else:
            if self.in_use.setdefault(policy.name, policy).revision != policy.revision:
                self.findings.add(path, f"{quoted(policy.name)} is the name of another policy in use, too")
            return policy
        return None

    def recordings(self, document: RecordingsDocument | None) -> RecordingsConfig | None:
        """Where sessions are recorded; a policy that asks for it needs that."""
        if document is None:
            for name in [name for name, policy in self.in_use.items() if policy.recorded]:
                self.findings.add(("recordings",), f"is missing: the policy {quoted(name)} records sessions")
            return None
        directory = os.path.abspath(os.path.join(self.folder, document.directory))
        return RecordingsConfig(directory, document.bytes_max, document.on_failure == "end-session")

    def audit_rule(self, path: Path, document: AuditRuleDocument) -> AuditRule:
        for place, selector in enumerate(document.operations or ()):
            self.policies.check_selector((*path, "operations", place), selector, self.findings)
        operations = None if document.operations is None else select_all(document.operations, self.policies.catalogue)
        principals = [
            read_match((*path, "principals", place), match, self.findings)
            for place, match in enumerate(document.principals or ())
        ]
        effect = None if document.effect is None else Effect(document.effect)
        self.advise_of_writes(path, document, operations)
        return AuditRule(LEVELS[document.level], operations, tuple(principals), effect)

    def advise_of_writes(self, path: Path, document: AuditRuleDocument, selected: frozenset[str] | None) -> None:
        """Adds a note where what changes the engine would leave no record."""
        known = self.policies.catalogue.operations
        names = known.keys() if selected is None else selected
        writes = [name for name in names if name not in known or known[name].access is not Access.READ]
        if document.level == "None" and document.effect != "deny" and writes:
            message = f"leaves no record of what may change the engine: {shortened(sorted(writes))}"
            self.findings.advise("note", path, message)

    def audit_key(self, given: str | None, audit: Sequence[AuditConfig]) -> AuditKey:
        if given is not None:
            self.findings.add_unless_printable(("audit_key",), given)
            return AuditKey(os.path.join(self.folder, given))
        trail = next((sink.file for sink in audit if sink.file != STANDARD_OUTPUT and sink.collector is None), "")
        # Not the trail's whole name with more behind it: who reads `audit.jsonl*` wants trails.
        return AuditKey(f"{os.path.splitext(trail)[0]}.key", trail) if trail else AuditKey()

    def address(self, path: Path, text: str) -> Address | None:
        if not self.findings.add_unless_printable(path, text):
            return None
        try:
            address = parse_address(text)
        except ValueError as error:
            self.findings.add(path, str(error))
            return None
        is_taken = address in self.addresses and (address.scheme != "tcp" or address.port)  # port 0: any free one
        if is_taken:
            self.findings.add(path, f"{address} is the address of {self.addresses[address]}, too")
        self.addresses.setdefault(address, key_of(path))
        return address
