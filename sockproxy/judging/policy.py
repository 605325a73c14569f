"""May it pass: Rule, Policy, and decide() which enforcement and `explain` both call.

Owns how rules are combined, and which reason is reported. Must not know YAML, files, bytes,
sockets or time: `operating.config` reads policies, `catalogue` says what an operation is. Begin at `VERDICT`, `decide`.

A rule selects operations (`compiling` says how); an allow rule may require more of a request (`requirements`).

A request is allowed if an allow rule selects its operation and all that it requires is met, no deny rule selects it, and
its API version is one of the policy's. Order means nothing.

A rule in shadow is a restriction on trial: a deny rule that is to come, or an allow rule that is to go. It denies
nothing: what it would deny passes, and is told as what it would be. So there are two readings of the rules, and what the
stricter one allows, the one in force allows as well:

    in force    all allow rules, and the deny rules that are not in shadow
    on trial    the allow rules that are not in shadow, and all deny rules
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from sockproxy.judging.catalogue import ApiVersion, Classified, Operation
from sockproxy.judging.identity import Principal
from sockproxy.judging.payload import UnknownFields
from sockproxy.judging.requirements.facts import Check, Facts, NotAsked, NotFoundOut, Question, Unmet
from sockproxy.judging.versions import ApiVersions, history_detail, version_detail


class Effect(StrEnum):
    """What happens to a request."""

    ALLOW = "allow"
    DENY = "deny"


class Mode(StrEnum):
    """Whether a policy's denials are enforced, or only told while everything passes."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Record(StrEnum):
    """What of a session is recorded."""

    OUTPUT = "output"
    WITH_INPUT = "with input"


SESSIONS = frozenset({"ContainerAttach", "ContainerAttachWebsocket", "ExecStart"})
"""The operations whose tunnels a person may sit at: those that can be recorded."""


class Reason(StrEnum):
    """Why a request was decided so; the label `reason` of `sockproxy_decisions_total`."""

    ALLOWED_BY_RULE = "allowed-by-rule"
    DENIED_BY_RULE = "denied-by-rule"
    API_VERSION = "api-version"
    NO_RULE = "no-rule"
    REQUIREMENT = "requirement"
    UNKNOWN_OPERATION = "unknown-operation"
    NOT_IN_API_VERSION = "not-in-api-version"
    NO_CLIENT = "no-client"
    BAD_REQUEST = "bad-request"  # under mode shadow only: what would have been refused before a rule was asked


class Named(StrEnum):
    """How well the catalogue could name a request."""

    KNOWN = "known"
    NOT_IN_VERSION = "not in that API version"
    UNKNOWN = "unknown"


VERDICT: Mapping[tuple[bool, bool, bool], Reason] = {
    # (a deny rule holds, the API version is one of the policy's, an allow rule holds)
    (True, True, True): Reason.DENIED_BY_RULE,
    (True, True, False): Reason.DENIED_BY_RULE,
    (True, False, True): Reason.DENIED_BY_RULE,
    (True, False, False): Reason.DENIED_BY_RULE,
    (False, False, True): Reason.API_VERSION,
    (False, False, False): Reason.API_VERSION,
    (False, True, True): Reason.ALLOWED_BY_RULE,
    (False, True, False): Reason.NO_RULE,
}
"""The truth table. Where several things refuse, the one is reported that says most to who asks why: a deny rule, which
somebody wrote for this, then the API version, then that nothing allows it. Of several rules that hold, the first is
named: the policy's own in the order of the file, then those that it extends in the order of `extends`."""

NOTHING_ALLOWS: Mapping[Named, Reason] = {
    Named.KNOWN: Reason.NO_RULE,
    Named.NOT_IN_VERSION: Reason.NOT_IN_API_VERSION,
    Named.UNKNOWN: Reason.UNKNOWN_OPERATION,
}
"""What is reported in the place of NO_RULE: no rule is missing if there is no such operation."""

UNKNOWN_SELECTOR = "@unknown"
NOBODY = "no-client"
"""The name of the policy for those who are none of a listener's clients; no other may have it."""
_QUESTIONS_SHOWN = 3  # a line has room for so many
_NOT_ASKED = Unmet("the request", "was not looked into, and a rule requires something of it")


class AccessRequest(NamedTuple):
    """All that a decision may depend on."""

    principal: Principal
    classified: Classified
    api_version: ApiVersion | None
    method: str
    path: str


class Decision(NamedTuple):
    """What happens (`effect`) and why. `detail` is one line for people, `rule` is empty where no rule decided, `shadow`
    is what would have happened: under mode shadow always, else where a rule in shadow makes the difference. `questions`:
    what must be found out before anything else may be decided. `absent`: it is denied only since what it names is not there,
    in the engine's words."""

    effect: Effect
    reason: Reason
    detail: str
    rule: str
    policy: str
    policy_revision: str
    shadow: Effect | None
    questions: tuple[Question, ...] = ()
    absent: str = ""

    @property
    def verdict(self) -> Effect:
        """What the rules say, whether or not it is enforced."""
        return self.effect if self.shadow is None else self.shadow


class Requirement(NamedTuple):
    """One key of `require:` with its value, as it was written, and what it asks of a request."""

    key: str
    value: Any
    check: Check
    reads_body: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `allow` or `deny`. `name` keeps the policy that it was written in: `kubernetes-1.4/allow[0]`."""

    name: str
    selectors: tuple[str, ...]
    reason: str | None
    operations: frozenset[str]
    """The operationIds selected, `@unknown` among them for what has none."""
    requirements: tuple[Requirement, ...] = ()
    """What an allow rule requires; it holds where all are met."""
    shadow: bool = False
    record: Record | None = None
    """Sessions of these operations are recorded, whichever rule allows them."""


class Rules(NamedTuple):
    """What may decide an operation: the deny rule that would be named, the allow rules that require something, and the one
    that would be named where none of these holds, which requires nothing."""

    deny: Rule | None
    allow_if: tuple[Rule, ...]
    allow: Rule | None


class Holding(NamedTuple):
    """Which rules hold for one request; `unmet`: what fails where the one that came closest does not; `questions`: what has
    to be found out to say whether one does."""

    deny: Rule | None
    allow: Rule | None
    closest: Rule | None = None
    unmet: Unmet | None = None
    questions: tuple[Question, ...] = ()


_NO_RULES = Rules(None, (), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy with all that it extends, ready to decide. Made by `compile_policy` only."""

    name: str
    mode: Mode
    api_versions: ApiVersions
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    revision: str
    """The first 16 hex digits of the SHA-256 of the policy's canonical form: what it means, with the operations that
    each rule selects and not how. Comments and the order of keys and selectors do not change it."""
    in_force: Mapping[str, Rules]
    """operationId (or `@unknown`) -> the rules that may hold."""
    on_trial: Mapping[str, Rules]
    """The same, as if no rule were in shadow: without the allow rules that are, and with the deny rules."""
    usual: Mapping[str, Decision]
    """operationId -> what is decided if operation and policy both have the request's API version, where nothing else
    matters."""
    unknown_fields: UnknownFields = UnknownFields.DENY
    """What becomes of names in a body that no engine knows, where a rule requires something of it."""
    is_of_nobody: bool = False
    """It is for those who are none of a listener's clients: made by `policy_of_nobody`."""
    looks_inside: bool = False
    """Some rule requires something."""
    granted: Mapping[str, Decision] = field(default_factory=lambda: MappingProxyType({}))
    """Name of an allow rule -> what is decided where it is the one that holds, and API version and deny rules say nothing; none
    where a rule is in shadow."""
    recorded: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))
    """operationId -> what is recorded of its sessions."""

    def asks(self, operation_id: str) -> tuple[Rule, ...]:
        """The rules that require something of such a request and so may decide it; empty if a deny rule does anyway."""
        rules = self.in_force.get(operation_id, _NO_RULES)
        return () if rules.deny is not None else rules.allow_if

    @property
    def can_allow(self) -> frozenset[str]:
        """The operationIds that a rule in force allows, whatever else it requires, and none denies."""
        allowed = (name for name, rules in self.in_force.items() if not rules.deny and (rules.allow or rules.allow_if))
        return frozenset(allowed) - {UNKNOWN_SELECTOR}

    def requires(self, operation_id: str) -> list[list[tuple[str, Any]]]:
        """Keys and values of what the rules that may allow an operation require, one or the other of which has to be met."""
        rules = self.on_trial.get(operation_id, _NO_RULES).allow_if
        return [[(one.key, one.value) for one in rule.requirements] for rule in rules]


def decide(policy: Policy, request: AccessRequest, facts: Facts | None = None) -> Decision:
    """The decision of a policy on a request. Total: whatever it does not know is denied. `facts`: what requirements are asked
    about; without them none is met."""
    operation, in_version, _, _ = request.classified
    version = request.api_version
    # hot: a decision prepared by `decide_anew` is looked up in 0.2 µs; to make it anew takes 1.8 µs (timeit, kubernetes-1.4).
    if operation is not None and in_version and policy.api_versions.admit(version):
        usual = policy.usual.get(operation.operation_id)
        if usual is not None:
            return usual
    return decide_anew(policy, operation, _named(operation, in_version), version, facts)


def denial_message(operation_id: str, decision: Decision) -> str:
    """What a denied client is told: operation, policy, rule and reason in one line."""
    rule = f"{decision.rule}: " if decision.rule else ""
    return (
        f"sockproxy: {operation_id or 'unknown operation'} denied by policy {decision.policy}: {rule}{decision.detail}"
    )


def _named(operation: Operation | None, in_version: bool) -> Named:
    if operation is None:
        return Named.UNKNOWN
    return Named.KNOWN if in_version else Named.NOT_IN_VERSION


def decide_anew(
    policy: Policy, operation: Operation | None, named: Named, version: ApiVersion | None, facts: Facts | None
) -> Decision:
    is_admitted = policy.api_versions.admit(version)
    in_force = _holding(policy.in_force, operation, named, facts)
    if is_admitted and in_force.deny is None and in_force.allow is not None:
        # hot: made once for each rule: 2 us to make it anew (timeit).
        granted = policy.granted.get(in_force.allow.name)
        if granted is not None:
            return granted
    passes = VERDICT[_row(in_force, is_admitted)] is Reason.ALLOWED_BY_RULE
    # What is denied is denied by what is in force; what passes is told as what it would be.
    # hot: where no rule is in shadow both are one and the same, and requirements are not asked twice.
    is_told_apart = passes and policy.on_trial is not policy.in_force
    holding = _holding(policy.on_trial, operation, named, facts) if is_told_apart else in_force
    reason = VERDICT[_row(holding, is_admitted)]
    if reason is Reason.NO_RULE:
        nothing_allows = Reason.NO_CLIENT if policy.is_of_nobody else NOTHING_ALLOWS[named]
        reason = nothing_allows if holding.closest is None else Reason.REQUIREMENT
    decisive = {
        Reason.DENIED_BY_RULE: holding.deny,
        Reason.ALLOWED_BY_RULE: holding.allow,
        Reason.REQUIREMENT: holding.closest,
    }.get(reason)
    verdict = Effect.ALLOW if reason is Reason.ALLOWED_BY_RULE else Effect.DENY
    is_shadow = policy.mode is Mode.SHADOW
    effect = Effect.ALLOW if passes or is_shadow else Effect.DENY
    if passes and decisive is None and in_force.allow is not None:
        detail = f"no rule allows it but {in_force.allow.name}, which is in shadow"
    else:
        detail = _detail(reason, holding, policy.api_versions, operation, version)
    return Decision(
        effect=effect,
        reason=reason,
        detail=detail,
        rule=decisive.name if decisive else "",
        policy=policy.name,
        policy_revision=policy.revision,
        shadow=verdict if is_shadow or effect is not verdict else None,
        # An API version that is not admitted decides, whatever would be found out.
        questions=holding.questions if is_admitted else (),
        absent=holding.unmet.absent if reason is Reason.REQUIREMENT and holding.unmet is not None else "",
    )


def _row(holding: Holding, is_admitted: bool) -> tuple[bool, bool, bool]:
    return holding.deny is not None, is_admitted, holding.allow is not None


def _holding(reading: Mapping[str, Rules], operation: Operation | None, named: Named, facts: Facts | None) -> Holding:
    unknown = reading.get(UNKNOWN_SELECTOR, _NO_RULES)
    if operation is None:
        return Holding(unknown.deny, unknown.allow)
    rules = reading.get(operation.operation_id, _NO_RULES)
    if named is not Named.KNOWN:
        # Not in that version: a name that is denied stays denied, a name that is allowed is not what the engine would do.
        return Holding(rules.deny or unknown.deny, unknown.allow)
    if rules.deny is not None or not rules.allow_if:
        return Holding(rules.deny, rules.allow)
    return _weigh(rules, facts)


def _weigh(rules: Rules, facts: Facts | None) -> Holding:
    """The first allow rule that holds; else the one that came closest, by how many of its requirements are not met."""
    tried = []
    for rule in rules.allow_if:
        unmet = ask_rule(rule, facts)
        if not unmet:
            return Holding(None, rule)
        tried.append((rule, unmet))
    if rules.allow is not None:
        return Holding(None, rules.allow)
    closest, unmet = min(tried, key=lambda one: len(one[1]))
    # What is not there is told only where nothing else fails: else a client would learn of it what it may not ask for.
    # Before that, what fails whatever would be found out.
    told = min(unmet, key=lambda one: (bool(one.absent), bool(one.questions)))
    return Holding(None, None, closest, told, _open_questions(unmet for _, unmet in tried))


def _open_questions(tried: Iterable[list[Unmet]]) -> tuple[Question, ...]:
    """What has to be found out: of the rules of which nothing is known to fail, and of no other."""
    still_open = (unmet for unmet in tried if all(one.questions for one in unmet))
    return tuple(dict.fromkeys(question for unmet in still_open for one in unmet for question in one.questions))


def ask_rule(rule: Rule, facts: Facts | None) -> list[Unmet]:
    """What is not met of what a rule requires; without `facts`, nothing is."""
    if facts is None:
        return [_NOT_ASKED] * len(rule.requirements)
    return [unmet for one in rule.requirements if (unmet := _ask(one, facts)) is not None]


def _ask(requirement: Requirement, facts: Facts) -> Unmet | None:
    try:
        return requirement.check(facts)
    except NotAsked as missing:
        asked = ", ".join(map(str, missing.questions[:_QUESTIONS_SHOWN]))
        return Unmet(requirement.key, f"needs what the engine says of {asked}", questions=missing.questions)
    except NotFoundOut as unknown:
        return Unmet(requirement.key, f"cannot be told: {unknown.question}: {unknown.failure}")
    except Exception:  # noqa: BLE001
        # Lawful: what cannot be evaluated counts against the request, whatever the reason.
        return Unmet(requirement.key, "cannot be evaluated for this request")


def _detail(
    reason: Reason,
    holding: Holding,
    api_versions: ApiVersions,
    operation: Operation | None,
    version: ApiVersion | None,
) -> str:
    if reason is Reason.DENIED_BY_RULE:
        return (holding.deny and holding.deny.reason) or "a rule denies it"
    if reason is Reason.ALLOWED_BY_RULE:
        return (holding.allow and holding.allow.reason) or "a rule allows it"
    if reason is Reason.REQUIREMENT:
        return str(holding.unmet)
    if reason is Reason.NO_CLIENT:
        return "none of this listener's clients"
    if reason is Reason.API_VERSION:
        return version_detail(api_versions, version)
    if reason is Reason.NOT_IN_API_VERSION and operation is not None:
        return history_detail(operation, version)
    return "no rule allows it" if reason is Reason.NO_RULE else "not an operation that sockproxy knows"
