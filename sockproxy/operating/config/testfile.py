"""A policy's own tests: requests, and what the policy is expected to say of them.

Owns the shape of such a file, and that what it expects can happen at all. Must not know how tests are run (`operating.cli`)
nor how they are told. Begin at `load_tests`.

    version: 1
    policy: ci.yaml                     # built-in, FILE or FILE#NAME, relative to this file
    tests:
      - name: builds start containers
        request: POST /v1.41/containers/web/start
        body: {Image: busybox}          # where a rule requires something of it; in quotes: as on the wire
        found: '{"volume": {"data": null}}'  # what the engine has, where a rule asks for that (see `found`)
        as: {uid: 1000}                 # who asks; what is left out is not known
        expect: allow
        operation: ContainerStart       # these three only where they matter
        rule: ci/allow[0]
        reason: a rule allows it
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from sockproxy.errors import ConfigError
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.identity import Peer, PeerKind, Principal, identify
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Policy
from sockproxy.judging.requirements.facts import Findings as Engine
from sockproxy.operating.config.document import FORMAT_VERSION, TEXT
from sockproxy.operating.config.found import read_findings
from sockproxy.operating.config.policies import Policies
from sockproxy.operating.config.shapes import Choice, Constant, Keys, ListOf, Number, Text, key
from sockproxy.operating.config.source import UnreadableFile, parse_source, read_text
from sockproxy.operating.config.validation import Findings, validate_as
from sockproxy.operating.config.wording import Path, did_you_mean, quoted

_ID = Number(is_whole=True)
_JSON = Text(is_json=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalDocument:
    """Who asks, in the words of the audit event."""

    kind: Literal["unix", "tcp"] | None = key(Choice(("unix", "tcp")), "How it is connected.", default=None)
    uid: int | None = key(_ID, "Of a unix peer.", default=None)
    gid: int | None = key(_ID, "Of a unix peer.", default=None)
    pid: int | None = key(_ID, "Of a unix peer.", default=None)
    exe: str | None = key(TEXT, "The program of a unix peer.", default=None)
    container: str | None = key(TEXT, "The container of a unix peer.", default=None)
    tls_subject: str | None = key(TEXT, "The subject of its certificate.", default=None)
    address: str | None = key(TEXT, "Its address and port.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDocument:
    """A request, and what is expected."""

    name: str = key(TEXT, "What is tested, for people.")
    request: str = key(TEXT, "METHOD TARGET, as on the wire.")
    body: str | None = key(_JSON, "The body: as on the wire, or as keys with values.", default=None)
    found: str | None = key(_JSON, "What the engine has: JSON, kind by kind and name by name.", default=None)
    principal: PrincipalDocument | None = key(
        Keys(PrincipalDocument, "Principal"), "Who asks.", default=None, name="as"
    )
    expect: Literal["allow", "deny"] = key(Choice(("allow", "deny")), "What the rules say, also under mode shadow.")
    operation: str | None = key(TEXT, "Its operationId, or @unknown.", default=None)
    rule: str | None = key(TEXT, "The rule that decides: POLICY/allow[0].", default=None)
    reason: str | None = key(TEXT, "The reason, as explain tells it.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestsDocument:
    """Tests of a policy."""

    version: int = key(Constant(FORMAT_VERSION), "The version of this format.", default=FORMAT_VERSION)
    policy: str = key(TEXT, "A built-in policy, FILE or FILE#NAME, relative to this file.")
    tests: tuple[CaseDocument, ...] = key(
        ListOf(Keys(CaseDocument, "Test"), when_empty="is empty: there is nothing to test"), "The tests."
    )


_TESTS = Keys(TestsDocument, "Tests of a policy")


class PolicyTest(NamedTuple):
    """A request, and what is expected; `expected` has what of effect, operation, rule and reason matters."""

    line: int
    name: str
    method: str
    target: str
    body: bytes
    principal: Principal
    found: Engine
    expected: Mapping[str, str]


class PolicyTests(NamedTuple):
    """The tests of a file."""

    file: str
    policy: Policy
    tests: tuple[PolicyTest, ...]


def load_tests(file: str, catalogue: Catalogue) -> PolicyTests:
    """The tests of a file. Raises UnreadableFile, and ConfigError with all that is wrong."""
    source = parse_source(file, read_text(file))
    findings = Findings(source)
    document = validate_as(_TESTS, source, findings)
    if not isinstance(document, TestsDocument):
        raise ConfigError(tuple(findings.found))
    policy = _policy(document.policy, os.path.dirname(file), catalogue, findings)
    names: set[str] = set()
    for index, one in enumerate(document.tests):
        _check(("tests", index), one, names, findings)
        _check_expected(("tests", index), one, policy, catalogue, findings)
    findings.check()
    if policy is None:
        raise RuntimeError("a policy that cannot be had is a finding")
    tests = (_test(findings.line_of(("tests", index)), one) for index, one in enumerate(document.tests))
    return PolicyTests(file, policy, tuple(tests))


def _policy(reference: str, folder: str, catalogue: Catalogue, findings: Findings) -> Policy | None:
    if not findings.add_unless_printable(("policy",), reference):
        return None
    try:
        return Policies(catalogue).find(reference, {}, folder)
    except UnreadableFile as error:
        findings.add(("policy",), f"{error.findings[0].file} {error.findings[0].message}")
    except ConfigError as error:
        findings.add_of_other_file(("policy",), error)
    return None


def _check(path: Path, document: CaseDocument, names: set[str], findings: Findings) -> None:
    findings.add_unless_printable((*path, "name"), document.name)
    if document.name in names:
        findings.add((*path, "name"), f"{quoted(document.name)} a second time")
    names.add(document.name)
    if document.request.count(" ") != 1 or "" in document.request.split(" "):
        findings.add((*path, "request"), "expected METHOD TARGET, as in GET /v1.41/info")
    try:
        read_findings(document.found or "{}")
    except ValueError as error:
        findings.add((*path, "found"), str(error))


def _check_expected(
    path: Path, document: CaseDocument, policy: Policy | None, catalogue: Catalogue, findings: Findings
) -> None:
    operation, rule = document.operation, document.rule
    known = (*catalogue.operations, UNKNOWN_SELECTOR)
    if operation is not None and operation not in known:
        findings.add((*path, "operation"), f"no operation {quoted(operation)}{did_you_mean(operation, known)}")
    rules = [one.name for one in (*policy.allow, *policy.deny)] if policy else []
    if policy is not None and rule is not None and rule not in rules:
        findings.add((*path, "rule"), f"no rule of {policy.name} is called {quoted(rule)}{did_you_mean(rule, rules)}")


def _test(line: int, document: CaseDocument) -> PolicyTest:
    method, _, target = document.request.partition(" ")
    expected = {
        "effect": document.expect,
        "operation": document.operation,
        "rule": document.rule,
        "reason": document.reason,
    }
    given = {key: value for key, value in expected.items() if value is not None}
    found = read_findings(document.found or "{}")
    body = (document.body or "").encode("utf-8", "surrogateescape")
    return PolicyTest(line, document.name, method, target, body, _principal(document.principal), found, given)


def _principal(document: PrincipalDocument | None) -> Principal:
    facts = asdict(document or PrincipalDocument())
    is_remote = facts["address"] is not None or facts["tls_subject"] is not None
    kind: PeerKind = facts.pop("kind") or ("tcp" if is_remote else "unix")
    return identify(Peer("test", kind, **facts))
