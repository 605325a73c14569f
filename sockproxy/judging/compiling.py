"""From rules to a policy that decides fast: selectors, what is inherited, the tables by operation, the revision.

Owns what a selector means and how policies are united. Must not know YAML or files (`operating.config` reads them), nor how a
request is decided (`policy`). Begin at `compile_policy`.

A selector means operations:

    ContainerStart      the operation of that operationId
    Container*          the operations whose operationId fits: `*` stands for any characters, `?` for one
    @Container          the operations of that tag
    @read               the operations of that access class: @read, @write, @tunnel
    @unknown            what the catalogue does not know, or not in the API version that is asked for

Only `@unknown` means what is unknown: `*` is every operation that the catalogue knows.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType

from sockproxy.judging.catalogue import Access, ApiVersion, Catalogue
from sockproxy.judging.payload import UnknownFields
from sockproxy.judging.policy import (
    NOBODY,
    SESSIONS,
    UNKNOWN_SELECTOR,
    Decision,
    Mode,
    Named,
    Policy,
    Record,
    Rule,
    Rules,
    decide_anew,
)
from sockproxy.judging.versions import ANY_API_VERSION, ApiVersions

_PATTERN = re.compile(r"[A-Za-z0-9*?]{1,64}", re.ASCII)


def compile_policy(
    name: str,
    catalogue: Catalogue,
    *,
    mode: Mode = Mode.ENFORCE,
    api_versions: ApiVersions | None = None,
    allow: Sequence[Rule] = (),
    deny: Sequence[Rule] = (),
    extends: Sequence[Policy] = (),
    unknown_fields: UnknownFields = UnknownFields.DENY,
) -> Policy:
    """The policy of these rules and those of the policies it extends. `api_versions` None: what all of these admit."""
    all_allow = _union(allow, (parent.allow for parent in extends))
    all_deny = _union(deny, (parent.deny for parent in extends))
    versions = api_versions or intersect(parent.api_versions for parent in extends)
    revision = _revision(name, mode, versions, all_allow, all_deny, unknown_fields)
    enforced_allow, enforced_deny = ([rule for rule in some if not rule.shadow] for some in (all_allow, all_deny))
    in_force = MappingProxyType(_by_operation(all_allow, enforced_deny))
    has_shadow = any(rule.shadow for rule in (*all_allow, *all_deny))
    on_trial = MappingProxyType(_by_operation(enforced_allow, all_deny)) if has_shadow else in_force
    nothing: Mapping[str, Decision] = MappingProxyType({})
    policy = Policy(
        *(name, mode, versions, all_allow, all_deny, revision, in_force, on_trial, nothing),
        unknown_fields=unknown_fields,
        looks_inside=any(rule.requirements for rule in all_allow),
        recorded=MappingProxyType(_recorded(all_allow)),
    )
    usual = MappingProxyType(_usual_decisions(policy, catalogue))
    return replace(policy, usual=usual, granted=MappingProxyType(_granted_decisions(policy)))


def in_shadow(policy: Policy, catalogue: Catalogue) -> Policy:
    """The same policy in mode shadow."""
    return compile_policy(
        policy.name,
        catalogue,
        mode=Mode.SHADOW,
        api_versions=policy.api_versions,
        allow=policy.allow,
        deny=policy.deny,
        unknown_fields=policy.unknown_fields,
    )


def policy_of_nobody(catalogue: Catalogue, mode: Mode = Mode.ENFORCE) -> Policy:
    """What those meet who are none of a listener's clients: it denies everything, and says why."""
    policy = replace(compile_policy(NOBODY, catalogue, mode=mode), is_of_nobody=True)
    return replace(policy, usual=MappingProxyType(_usual_decisions(policy, catalogue)))


def select_all(selectors: Iterable[str], catalogue: Catalogue) -> frozenset[str]:
    """The operationIds that any of these selectors means."""
    return frozenset().union(*(select(selector, catalogue) for selector in selectors))


def select(selector: str, catalogue: Catalogue) -> frozenset[str]:
    """The operationIds that a selector means (`@unknown` for itself); empty if it means nothing."""
    if selector == UNKNOWN_SELECTOR:
        return frozenset({UNKNOWN_SELECTOR})
    operations = catalogue.operations
    if selector.startswith("@"):
        group = selector[1:]
        return frozenset(name for name, operation in operations.items() if group in (operation.tag, operation.access))
    if selector in operations:
        return frozenset({selector})
    if not _PATTERN.fullmatch(selector):
        return frozenset()
    return frozenset(name for name in operations if fnmatchcase(name, selector))


def selector_words(catalogue: Catalogue) -> tuple[str, ...]:
    """Every selector that is no pattern: what there is to choose from."""
    tags = dict.fromkeys(f"@{operation.tag}" for operation in catalogue.operations.values())
    return (*catalogue.operations, *tags, *(f"@{access}" for access in Access), UNKNOWN_SELECTOR)


def intersect(admitted: Iterable[ApiVersions]) -> ApiVersions:
    """The API versions that all of these admit."""
    oldest: ApiVersion | None = None
    newest: ApiVersion | None = None
    unversioned = True
    for one in admitted:
        oldest = max(filter(None, (oldest, one.oldest)), default=None)
        newest = min(filter(None, (newest, one.newest)), default=None)
        unversioned = unversioned and one.unversioned
    return ApiVersions(oldest, newest, unversioned)


def _union(own: Sequence[Rule], inherited: Iterable[Sequence[Rule]]) -> tuple[Rule, ...]:
    # By what they are, not by name: a policy of a file may be called like a built-in one that another of its policies extends.
    rules = {id(rule): rule for rule in own}
    for parent in inherited:
        for rule in parent:
            rules.setdefault(id(rule), rule)  # a policy that is extended twice gives its rules once
    return tuple(rules.values())


def _by_operation(allow: Sequence[Rule], deny: Sequence[Rule]) -> dict[str, Rules]:
    denying = _first_by_operation(deny)
    allowing = _first_by_operation(rule for rule in allow if not rule.requirements)
    conditional: dict[str, list[Rule]] = {}
    for rule in allow:
        for operation_id in rule.operations if rule.requirements else ():
            conditional.setdefault(operation_id, []).append(rule)
    names = denying.keys() | allowing.keys() | conditional.keys()
    return {name: Rules(denying.get(name), tuple(conditional.get(name, ())), allowing.get(name)) for name in names}


def _first_by_operation(rules: Iterable[Rule]) -> dict[str, Rule]:
    first: dict[str, Rule] = {}
    for rule in rules:
        for operation_id in rule.operations:
            first.setdefault(operation_id, rule)
    return first


def _recorded(rules: Iterable[Rule]) -> dict[str, Record]:
    """Of several rules, the one that records most counts: order means nothing."""
    recorded: dict[str, Record] = {}
    for record in (Record.OUTPUT, Record.WITH_INPUT):
        for rule in rules:
            if rule.record is record:
                recorded |= dict.fromkeys(SESSIONS & rule.operations, record)
    return recorded


def _usual_decisions(policy: Policy, catalogue: Catalogue) -> dict[str, Decision]:
    unbound = replace(policy, api_versions=ANY_API_VERSION)
    return {
        name: decide_anew(unbound, one, Named.KNOWN, None, None)
        for name, one in catalogue.operations.items()
        if not policy.asks(name)
    }


def _granted_decisions(policy: Policy) -> dict[str, Decision]:
    """What is decided where an allow rule holds: as if it were alone there, and about whatever is asked."""
    if policy.on_trial is not policy.in_force:
        return {}  # beside a rule in shadow another one may be told of
    # A policy may be called like a built-in one, and its rules as well.
    named = Counter(rule.name for rule in policy.allow)
    alone = {
        rule.name: MappingProxyType({UNKNOWN_SELECTOR: Rules(None, (), rule)})
        for rule in policy.allow
        if named[rule.name] == 1
    }
    unbound = replace(policy, api_versions=ANY_API_VERSION)
    return {
        name: decide_anew(replace(unbound, in_force=only, on_trial=only), None, Named.UNKNOWN, None, None)
        for name, only in alone.items()
    }


def _revision(
    name: str,
    mode: Mode,
    api_versions: ApiVersions,
    allow: Sequence[Rule],
    deny: Sequence[Rule],
    unknown_fields: UnknownFields,
) -> str:
    oldest, newest, unversioned = api_versions
    canonical = {
        "name": name,
        "mode": mode,
        "api_versions": [str(oldest or ""), str(newest or ""), unversioned],
        "allow": [_canonical_rule(rule) for rule in allow],
        "deny": [_canonical_rule(rule) for rule in deny],
    }
    if any(rule.requirements for rule in allow):
        canonical["unknown_fields"] = unknown_fields
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical_rule(rule: Rule) -> list[object]:
    required = {requirement.key: requirement.value for requirement in rule.requirements}
    more = [*([required] if required else []), *(["shadow"] if rule.shadow else [])]
    more += [["record", rule.record]] if rule.record is not None else []
    return [rule.name, rule.reason, sorted(rule.operations), *more]
