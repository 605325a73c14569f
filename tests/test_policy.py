"""What a policy decides, against the truth table, a naive reading of the rules, and the laws that every policy keeps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.data import load_operations
from sockproxy.judging.catalogue import UNKNOWN, ApiVersion, Catalogue, Classified
from sockproxy.judging.compiling import compile_policy, intersect, select, select_all, selector_words
from sockproxy.judging.identity import Principal
from sockproxy.judging.payload import read_query
from sockproxy.judging.policy import (
    NOTHING_ALLOWS,
    VERDICT,
    AccessRequest,
    Decision,
    Effect,
    Mode,
    Named,
    Policy,
    Reason,
    Record,
    Requirement,
    Rule,
    decide,
    denial_message,
)
from sockproxy.judging.requirements.facts import Facts
from sockproxy.judging.versions import ANY_API_VERSION, ApiVersions

CATALOGUE = Catalogue(load_operations())
NOBODY = Principal("unix", 0, 0, 1, None, None, None, None, "uid:0")
V1_20, V1_23, V1_24, V1_30, V1_41 = (ApiVersion(1, minor) for minor in (20, 23, 24, 30, 41))


def rules(effect: str, *written: list[str] | tuple[list[str], str], name: str = "p") -> tuple[Rule, ...]:
    pairs = [one if isinstance(one, tuple) else (one, None) for one in written]
    return tuple(
        Rule(f"{name}/{effect}[{index}]", tuple(selectors), reason, select_all(selectors, CATALOGUE))
        for index, (selectors, reason) in enumerate(pairs)
    )


def policy(*, allow=(), deny=(), name="p", mode=Mode.ENFORCE, api_versions=None, extends=()) -> Policy:
    return compile_policy(
        name,
        CATALOGUE,
        mode=mode,
        api_versions=api_versions,
        allow=rules("allow", *allow, name=name),
        deny=rules("deny", *deny, name=name),
        extends=extends,
    )


def recording(allow, *records: Record | None) -> Policy:
    """A policy whose allow rules record sessions so."""
    made = rules("allow", *allow, name="p")
    return compile_policy(
        "p", CATALOGUE, allow=[replace(rule, record=one) for rule, one in zip(made, records, strict=True)]
    )


def request(operation_id: str, version: ApiVersion | None = None) -> AccessRequest:
    """A request for an operation; "" for one that the catalogue does not know."""
    if not operation_id:
        return AccessRequest(NOBODY, UNKNOWN, version, "GET", "/debug/vars")
    operation = CATALOGUE.operations[operation_id]
    classified = Classified(operation, operation.in_version(version), "", "")
    return AccessRequest(NOBODY, classified, version, operation.method, operation.path)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((None, None), {}),
        ((None, Record.OUTPUT), {"ExecStart": Record.OUTPUT}),
        ((Record.OUTPUT, None), {"ExecStart": Record.OUTPUT, "ContainerAttach": Record.OUTPUT}),
        ((Record.OUTPUT, Record.WITH_INPUT), {"ExecStart": Record.WITH_INPUT, "ContainerAttach": Record.OUTPUT}),
        ((Record.WITH_INPUT, Record.OUTPUT), dict.fromkeys(("ExecStart", "ContainerAttach"), Record.WITH_INPUT)),
    ],
)
def test_a_session_is_recorded_whichever_rule_allows_it(
    records: tuple[Record | None, ...], expected: dict[str, Record]
) -> None:
    assert recording([["Exec*", "ContainerAttach", "ContainerList"], ["ExecStart"]], *records).recorded == expected


# The truth table


@pytest.mark.parametrize("is_denied, is_admitted, is_allowed", list(product([True, False], repeat=3)))
def test_every_row_of_the_verdict(is_denied: bool, is_admitted: bool, is_allowed: bool) -> None:
    one = policy(
        allow=[["ContainerList"]] if is_allowed else [],
        deny=[["ContainerList"]] if is_denied else [],
        api_versions=ANY_API_VERSION if is_admitted else ApiVersions(V1_30, None, True),
    )
    decision = decide(one, request("ContainerList", V1_24))
    assert decision.reason is VERDICT[is_denied, is_admitted, is_allowed]
    is_good = is_allowed and is_admitted and not is_denied
    assert decision.effect is (Effect.ALLOW if is_good else Effect.DENY)


def test_exactly_one_row_allows() -> None:
    assert [row for row, reason in VERDICT.items() if reason is Reason.ALLOWED_BY_RULE] == [(False, True, True)]
    assert set(VERDICT) == set(product([True, False], repeat=3))


@pytest.mark.parametrize("named", Named)
def test_every_row_of_nothing_allows(named: Named) -> None:
    asked = {
        Named.KNOWN: request("ContainerPrune", V1_30),
        Named.NOT_IN_VERSION: request("ContainerPrune", V1_24),
        Named.UNKNOWN: request("", V1_24),
    }[named]
    decision = decide(policy(), asked)
    assert (decision.effect, decision.reason) == (Effect.DENY, NOTHING_ALLOWS[named])


# Which rule and which words are reported

CHOSEN = ApiVersions(V1_24, V1_30, False)
TOLD = [
    # id, policy, operation, version, reason, rule, detail
    (
        "allowed-with-reason",
        policy(allow=[["ContainerTop"], (["@read"], "to look")]),
        ("ContainerList", None),
        (Reason.ALLOWED_BY_RULE, "p/allow[1]", "to look"),
    ),
    (
        "allowed-without-reason",
        policy(allow=[["@read"]]),
        ("ContainerList", None),
        (Reason.ALLOWED_BY_RULE, "p/allow[0]", "a rule allows it"),
    ),
    (
        "denied-with-reason",
        policy(allow=[["*"]], deny=[(["@Swarm"], "no swarm here")]),
        ("SwarmInit", None),
        (Reason.DENIED_BY_RULE, "p/deny[0]", "no swarm here"),
    ),
    (
        "denied-without-reason",
        policy(deny=[["@Swarm"]]),
        ("SwarmInit", None),
        (Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
    (
        "first-of-several-rules",
        policy(deny=[["ContainerTop"], ["@Swarm"], ["*"]]),
        ("SwarmInit", None),
        (Reason.DENIED_BY_RULE, "p/deny[1]", "a rule denies it"),
    ),
    (
        "own-rule-before-an-extended-one",
        policy(allow=[["*"]], extends=[policy(allow=[["*"]], name="parent")]),
        ("ContainerList", None),
        (Reason.ALLOWED_BY_RULE, "p/allow[0]", "a rule allows it"),
    ),
    (
        "rule-keeps-its-origin",
        policy(extends=[policy(allow=[["ExecStart"], ["*"]], name="parent")]),
        ("ContainerList", None),
        (Reason.ALLOWED_BY_RULE, "parent/allow[1]", "a rule allows it"),
    ),
    (
        "no-rule",
        policy(allow=[["@Image"]]),
        ("ContainerList", None),
        (Reason.NO_RULE, "", "no rule allows it"),
    ),
    (
        "unknown",
        policy(allow=[["*"]]),
        ("", None),
        (Reason.UNKNOWN_OPERATION, "", "not an operation that sockproxy knows"),
    ),
    (
        "too-early",
        policy(allow=[["*"]]),
        ("ContainerPrune", V1_23),
        (Reason.NOT_IN_API_VERSION, "", "not in API 1.23, only since 1.25"),
    ),
    (
        "too-late",
        policy(allow=[["*"]]),
        ("ContainerCopy", V1_24),
        (Reason.NOT_IN_API_VERSION, "", "not in API 1.24, only until 1.23"),
    ),
    (
        "below-min",
        policy(allow=[["*"]], api_versions=CHOSEN),
        ("ContainerList", V1_23),
        (Reason.API_VERSION, "", "API 1.23 is older than 1.24, the oldest that this policy allows"),
    ),
    (
        "above-max",
        policy(allow=[["*"]], api_versions=CHOSEN),
        ("ContainerList", V1_41),
        (Reason.API_VERSION, "", "API 1.41 is newer than 1.30, the newest that this policy allows"),
    ),
    (
        "unversioned",
        policy(allow=[["*"]], api_versions=CHOSEN),
        ("ContainerList", None),
        (Reason.API_VERSION, "", "the request names no API version, which this policy asks for"),
    ),
    (
        "unknown-lets-pass-what-is-unknown",
        policy(allow=[["@unknown"]]),
        ("", None),
        (Reason.ALLOWED_BY_RULE, "p/allow[0]", "a rule allows it"),
    ),
    (
        "unknown-lets-pass-what-is-not-in-that-version",
        policy(allow=[["@unknown"]]),
        ("ContainerPrune", V1_23),
        (Reason.ALLOWED_BY_RULE, "p/allow[0]", "a rule allows it"),
    ),
    (
        "unknown-is-nothing-that-is-known",
        policy(allow=[["@unknown"]]),
        ("ContainerList", None),
        (Reason.NO_RULE, "", "no rule allows it"),
    ),
    (
        "unknown-keeps-to-api-versions",
        policy(allow=[["@unknown"]], api_versions=CHOSEN),
        ("", V1_23),
        (Reason.API_VERSION, "", "API 1.23 is older than 1.24, the oldest that this policy allows"),
    ),
    (
        "denied-even-if-not-in-that-version",
        policy(allow=[["@unknown"]], deny=[["ContainerPrune"]]),
        ("ContainerPrune", V1_23),
        (Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
    (
        "unknown-denied",
        policy(allow=[["*", "@unknown"]], deny=[["@unknown"]]),
        ("", None),
        (Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
    (
        "not-in-that-version-denied-as-unknown",
        policy(allow=[["*", "@unknown"]], deny=[["@unknown"]]),
        ("ContainerPrune", V1_23),
        (Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
    (
        "star-denies-nothing-unknown",
        policy(allow=[["@unknown"]], deny=[["*"]]),
        ("", None),
        (Reason.ALLOWED_BY_RULE, "p/allow[0]", "a rule allows it"),
    ),
]


@pytest.mark.parametrize("one, asked, told", [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
def test_what_is_told(one: Policy, asked: tuple[str, ApiVersion | None], told: tuple[Reason, str, str]) -> None:
    decision = decide(one, request(*asked))
    assert (decision.reason, decision.rule, decision.detail) == told
    assert decision.verdict is (Effect.ALLOW if told[0] is Reason.ALLOWED_BY_RULE else Effect.DENY)
    assert (decision.policy, decision.policy_revision) == ("p", one.revision)


MESSAGES = [
    (
        policy(name="kubernetes-1.4"),
        "ContainerPause",
        "sockproxy: ContainerPause denied by policy kubernetes-1.4: no rule allows it",
    ),
    (policy(), "", "sockproxy: unknown operation denied by policy p: not an operation that sockproxy knows"),
    (
        policy(deny=[(["@Swarm"], "no swarm on build hosts")]),
        "SwarmInit",
        "sockproxy: SwarmInit denied by policy p: p/deny[0]: no swarm on build hosts",
    ),
]


@pytest.mark.parametrize("one, operation_id, message", MESSAGES)
def test_denial_message(one: Policy, operation_id: str, message: str) -> None:
    assert denial_message(operation_id, decide(one, request(operation_id))) == message


# Mode


@pytest.mark.parametrize("operation_id, verdict", [("ContainerList", Effect.ALLOW), ("ContainerKill", Effect.DENY)])
def test_shadow_lets_pass_and_tells_the_verdict(operation_id: str, verdict: Effect) -> None:
    enforced = decide(policy(allow=[["@read"]]), request(operation_id))
    shadowed = decide(policy(allow=[["@read"]], mode=Mode.SHADOW), request(operation_id))
    assert (shadowed.effect, shadowed.shadow) == (Effect.ALLOW, verdict)
    assert (enforced.effect, enforced.shadow) == (verdict, None)
    assert shadowed.verdict is enforced.verdict is verdict
    assert (shadowed.reason, shadowed.rule, shadowed.detail) == (enforced.reason, enforced.rule, enforced.detail)


def shaded(
    allow: Sequence[list[str]] = (),
    deny: Sequence[list[str]] = (),
    *,
    shadow: tuple[str, ...],
    mode: Mode = Mode.ENFORCE,
) -> Policy:
    """A policy some rules of which are in shadow."""
    made = [*rules("allow", *allow), *rules("deny", *deny)]
    marked = [replace(rule, shadow=rule.name in shadow) for rule in made]
    return compile_policy(
        "p",
        CATALOGUE,
        mode=mode,
        allow=[rule for rule in marked if "allow" in rule.name],
        deny=[rule for rule in marked if "deny" in rule.name],
    )


IN_SHADOW = [
    # id, policy, operation, (effect, shadow, reason, rule, detail)
    (
        "deny-on-trial",
        shaded([["*"]], [["@Swarm"]], shadow=("p/deny[0]",)),
        "SwarmInit",
        (Effect.ALLOW, Effect.DENY, Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
    (
        "deny-on-trial-elsewhere",
        shaded([["*"]], [["@Swarm"]], shadow=("p/deny[0]",)),
        "SystemInfo",
        (Effect.ALLOW, None, Reason.ALLOWED_BY_RULE, "p/allow[0]", "a rule allows it"),
    ),
    (
        "deny-on-trial-of-what-nothing-allows",
        shaded([["@read"]], [["@Swarm"]], shadow=("p/deny[0]",)),
        "SwarmInit",
        (Effect.DENY, None, Reason.NO_RULE, "", "no rule allows it"),
    ),
    (
        "deny-on-trial-beside-one-in-force",
        shaded([["*"]], [["@Swarm"], ["SwarmInit"]], shadow=("p/deny[0]",)),
        "SwarmInit",
        (Effect.DENY, None, Reason.DENIED_BY_RULE, "p/deny[1]", "a rule denies it"),
    ),
    (
        "allow-on-its-way-out",
        shaded([["@read"]], shadow=("p/allow[0]",)),
        "SystemInfo",
        (Effect.ALLOW, Effect.DENY, Reason.NO_RULE, "", "no rule allows it but p/allow[0], which is in shadow"),
    ),
    (
        "allow-on-its-way-out-beside-another",
        shaded([["@read"], ["SystemInfo"]], shadow=("p/allow[0]",)),
        "SystemInfo",
        (Effect.ALLOW, None, Reason.ALLOWED_BY_RULE, "p/allow[1]", "a rule allows it"),
    ),
    (
        "allow-on-its-way-out-and-denied",
        shaded([["*"]], [["@Swarm"]], shadow=("p/allow[0]",)),
        "SwarmInit",
        (Effect.DENY, None, Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
    (
        "unknown-on-its-way-out",
        shaded([["@unknown"]], shadow=("p/allow[0]",)),
        "",
        (
            Effect.ALLOW,
            Effect.DENY,
            Reason.UNKNOWN_OPERATION,
            "",
            "no rule allows it but p/allow[0], which is in shadow",
        ),
    ),
    (
        "under-mode-shadow",
        shaded([["*"]], [["@Swarm"]], shadow=("p/deny[0]",), mode=Mode.SHADOW),
        "SwarmInit",
        (Effect.ALLOW, Effect.DENY, Reason.DENIED_BY_RULE, "p/deny[0]", "a rule denies it"),
    ),
]


@pytest.mark.parametrize("one, operation_id, expected", [row[1:] for row in IN_SHADOW], ids=[r[0] for r in IN_SHADOW])
def test_rules_in_shadow(one: Policy, operation_id: str, expected: tuple[object, ...]) -> None:
    effect, reason, detail, rule, _, _, shadow, _, _ = decide(one, request(operation_id))
    assert (effect, shadow, reason, rule, detail) == expected


def test_what_is_required_is_asked_once_where_no_rule_is_in_shadow() -> None:
    asked = []

    def check(facts: Facts) -> None:
        asked.append(facts)

    requirement = Requirement("counted", True, check, reads_body=False)
    [rule] = rules("allow", ["ContainerCreate"])
    one = compile_policy("p", CATALOGUE, allow=[replace(rule, requirements=(requirement,))])
    facts = Facts("ContainerCreate", None, NOBODY, "", read_query(""), {})
    assert decide(one, request("ContainerCreate"), facts).effect is Effect.ALLOW
    assert asked == [facts]


def test_a_rule_that_is_extended_stays_in_shadow() -> None:
    parent = shaded([["*"]], [["@Swarm"]], shadow=("p/deny[0]",))
    decision = decide(policy(name="child", extends=[parent]), request("SwarmInit"))
    assert (decision.effect, decision.shadow, decision.rule) == (Effect.ALLOW, Effect.DENY, "p/deny[0]")


def test_mode_is_not_inherited() -> None:
    shadow = policy(name="parent", mode=Mode.SHADOW)
    assert decide(policy(extends=[shadow]), request("ContainerList")).effect is Effect.DENY


# Selectors

SELECTED = [
    ("ContainerList", {"ContainerList"}),
    ("containerlist", set()),
    ("ContainerList ", set()),
    ("", set()),
    ("Exec*", {"ExecStart", "ExecResize", "ExecInspect"}),
    ("*Resize", {"ContainerResize", "ExecResize"}),
    ("Exec??????", {"ExecResize"}),
    ("Image[GL]*", set()),
    ("@Exec", {"ContainerExec", "ExecStart", "ExecResize", "ExecInspect"}),
    ("@exec", set()),
    ("@", set()),
    ("@*", set()),
    ("@tunnel", {"ContainerAttach", "ContainerAttachWebsocket", "ExecStart", "Session", "Grpc"}),
    ("@unknown", {"@unknown"}),
    ("*", set(CATALOGUE.operations)),
    ("*" * 65, set()),
]


@pytest.mark.parametrize("selector, operations", SELECTED, ids=[repr(row[0][:20]) for row in SELECTED])
def test_selectors(selector: str, operations: set[str]) -> None:
    assert select(selector, CATALOGUE) == operations


def test_the_access_classes_part_all_operations() -> None:
    classes = [select(f"@{access}", CATALOGUE) for access in ("read", "write", "tunnel")]
    assert sorted(name for names in classes for name in names) == sorted(CATALOGUE.operations)


def test_every_selector_word_selects_something() -> None:
    assert all(select(word, CATALOGUE) for word in selector_words(CATALOGUE))


# Extends and API versions


def test_a_policy_extended_twice_gives_its_rules_once() -> None:
    top = policy(name="top", allow=[["@read"]])
    left, right = (policy(name=name, extends=[top]) for name in ("left", "right"))
    assert [rule.name for rule in policy(allow=[["@Exec"]], extends=[left, right]).allow] == [
        "p/allow[0]",
        "top/allow[0]",
    ]


INTERSECTIONS = [
    ([], ANY_API_VERSION),
    ([ANY_API_VERSION], ANY_API_VERSION),
    ([ApiVersions(V1_24, None, True), ANY_API_VERSION], ApiVersions(V1_24, None, True)),
    ([ApiVersions(V1_20, V1_41, True), ApiVersions(V1_24, V1_30, True)], ApiVersions(V1_24, V1_30, True)),
    ([ApiVersions(V1_20, None, True), ApiVersions(None, V1_30, False)], ApiVersions(V1_20, V1_30, False)),
]


@pytest.mark.parametrize("admitted, expected", INTERSECTIONS)
def test_intersection_of_api_versions(admitted: list[ApiVersions], expected: ApiVersions) -> None:
    assert intersect(admitted) == expected
    parents = [policy(name=f"q{index}", api_versions=one) for index, one in enumerate(admitted)]
    assert policy(extends=parents).api_versions == expected
    assert policy(extends=parents, api_versions=CHOSEN).api_versions == CHOSEN


@pytest.mark.parametrize(
    "versions, text",
    [
        (ANY_API_VERSION, "any or unversioned"),
        (ApiVersions(V1_24, None, True), "from 1.24 or unversioned"),
        (ApiVersions(None, V1_30, False), "up to 1.30"),
        (CHOSEN, "from 1.24 up to 1.30"),
    ],
)
def test_api_versions_as_text(versions: ApiVersions, text: str) -> None:
    assert str(versions) == text


# What it can allow


def test_what_a_policy_can_allow_is_what_no_rule_in_force_denies() -> None:
    one = policy(allow=[["ContainerList", "ContainerStart", "@unknown"]], deny=[["ContainerStart"]])
    assert one.can_allow == {"ContainerList"}
    assert policy().can_allow == frozenset()


# Revision


def test_revision_is_of_what_a_policy_means() -> None:
    one = policy(allow=[["ExecStart", "ExecResize", "ExecInspect"]])
    assert one.revision == policy(allow=[["Exec*"]]).revision == policy(allow=[["ExecInspect", "Exec*"]]).revision
    assert len(one.revision) == 16
    assert int(one.revision, 16)


OTHERS = {
    "name": policy(name="q", allow=[["Exec*"]]),
    "mode": policy(allow=[["Exec*"]], mode=Mode.SHADOW),
    "api-versions": policy(allow=[["Exec*"]], api_versions=CHOSEN),
    "operation": policy(allow=[["Exec*", "ContainerExec"]]),
    "unknown": policy(allow=[["Exec*", "@unknown"]]),
    "reason": policy(allow=[(["Exec*"], "because")]),
    "deny": policy(allow=[["Exec*"]], deny=[["ContainerExec"]]),
    "rules": policy(allow=[["ExecStart", "ExecResize"], ["ExecInspect"]]),
    "shadow": shaded([["Exec*"]], shadow=("p/allow[0]",)),
    "record": recording([["Exec*"]], Record.OUTPUT),
    "record-input": recording([["Exec*"]], Record.WITH_INPUT),
    "parent": policy(allow=[["Exec*"]], extends=[policy(name="q", allow=[["ExecStart"]])]),
}


def test_revision_differs_where_the_meaning_does() -> None:
    revisions = {one.revision for one in (policy(allow=[["Exec*"]]), *OTHERS.values())}
    assert len(revisions) == len(OTHERS) + 1


# The cost


def test_ten_thousand_rules_are_one_look_up() -> None:
    many = policy(allow=[["@read", "Image*"]] * 9999 + [["*"]], deny=[["@Swarm"]] * 10)
    asked = request("ContainerKill", V1_24)
    assert decide(many, asked) is many.usual["ContainerKill"]
    assert decide(many, asked).rule == "p/allow[9999]"
    assert len(many.in_force) == len(many.usual) == len(CATALOGUE.operations)


# Properties

selectors = st.sampled_from(["*", "*Inspect", "Container*", "Image????", *selector_words(CATALOGUE)])
written = st.lists(st.lists(selectors, min_size=1, max_size=4), max_size=4)
versions = st.none() | st.builds(ApiVersion, st.just(1), st.integers(14, 55))
bounds = st.builds(ApiVersions, versions, versions, st.booleans())
requests = st.builds(request, st.sampled_from(["", *CATALOGUE.operations]), versions)


@st.composite
def policies(draw: st.DrawFn, name: str = "p") -> Policy:
    def written_rules(effect: str) -> list[Rule]:
        return [replace(rule, shadow=draw(st.booleans())) for rule in rules(effect, *draw(written), name=name)]

    return compile_policy(
        name,
        CATALOGUE,
        allow=written_rules("allow"),
        deny=written_rules("deny"),
        mode=draw(st.sampled_from(Mode)),
        api_versions=draw(bounds),
    )


def naive_readings(one: Policy, asked: AccessRequest) -> tuple[Effect, Effect]:
    """What is in force, and what would be if no rule were in shadow."""
    enforced = replace(one, deny=tuple(rule for rule in one.deny if not rule.shadow))
    on_trial = replace(one, allow=tuple(rule for rule in one.allow if not rule.shadow))
    return naive(enforced, asked), naive(on_trial, asked)


def naive(one: Policy, asked: AccessRequest) -> Effect:
    """The rules as DESIGN puts them, read one after the other."""
    operation, in_version = asked.classified.operation, asked.classified.in_version
    names = {operation.operation_id} if operation else set()
    is_unknown = {"@unknown"} if not in_version else set()
    is_allowed = any(rule.operations & (is_unknown or names) for rule in one.allow)
    is_denied = any(rule.operations & (is_unknown | names) for rule in one.deny)
    low, high = one.api_versions.oldest or (0, 0), one.api_versions.newest or (99, 99)
    version = asked.api_version
    is_admitted = one.api_versions.unversioned if version is None else low <= version <= high
    return Effect.ALLOW if is_allowed and is_admitted and not is_denied else Effect.DENY


@settings(max_examples=200, deadline=None)
@given(policies(), requests)
def test_decides_as_the_naive_reading_does(one: Policy, asked: AccessRequest) -> None:
    decision = decide(one, asked)
    in_force, on_trial = naive_readings(one, asked)
    assert decision.verdict is on_trial
    assert decision.effect is (Effect.ALLOW if one.mode is Mode.SHADOW else in_force)
    assert (decision.shadow is None) is (one.mode is Mode.ENFORCE and in_force is on_trial)
    json.dumps(decision)


@settings(max_examples=100, deadline=None)
@given(policies(), requests)
def test_a_rule_in_shadow_never_denies(one: Policy, asked: AccessRequest) -> None:
    without = compile_policy(
        "p",
        CATALOGUE,
        mode=one.mode,
        api_versions=one.api_versions,
        allow=[replace(rule, shadow=False) for rule in one.allow],
        deny=[rule for rule in one.deny if not rule.shadow],
    )
    assert decide(one, asked).effect is decide(without, asked).effect


@settings(max_examples=100, deadline=None)
@given(policies(), requests)
def test_what_is_prepared_is_what_is_judged(one: Policy, asked: AccessRequest) -> None:
    unprepared = Policy(
        one.name, one.mode, one.api_versions, one.allow, one.deny, one.revision, one.in_force, one.on_trial, usual={}
    )
    assert decide(one, asked) == decide(unprepared, asked)


@settings(max_examples=100, deadline=None)
@given(written, written, st.lists(selectors, min_size=1, max_size=4), requests)
def test_one_more_deny_rule_never_allows_more(allow, deny, more, asked) -> None:
    before = decide(policy(allow=allow, deny=deny), asked)
    after = decide(policy(allow=allow, deny=[*deny, more]), asked)
    assert before.effect is Effect.ALLOW or after.effect is Effect.DENY


@settings(max_examples=100, deadline=None)
@given(written, written, requests, st.randoms(use_true_random=False))
def test_order_means_nothing(allow, deny, asked, random) -> None:
    other_allow, other_deny = list(allow), list(deny)
    random.shuffle(other_allow)
    random.shuffle(other_deny)
    first, second = policy(allow=allow, deny=deny), policy(allow=other_allow, deny=other_deny)
    assert decide(first, asked).effect is decide(second, asked).effect


@settings(max_examples=100, deadline=None)
@given(policies(), policies(name="q"), requests)
def test_extends_is_union(p: Policy, q: Policy, asked: AccessRequest) -> None:
    child = policy(name="child", extends=[p, q], api_versions=ANY_API_VERSION)
    rules_of_both = compile_policy("both", CATALOGUE, allow=(*p.allow, *q.allow), deny=(*p.deny, *q.deny))
    one, other = decide(child, asked), decide(rules_of_both, asked)
    assert (one.effect, one.reason, one.rule) == (other.effect, other.reason, other.rule)


@settings(max_examples=100, deadline=None)
@given(policies(), requests)
def test_a_denial_says_why(one: Policy, asked: AccessRequest) -> None:
    decision: Decision = decide(one, asked)
    assert decision.detail
    assert "\n" not in decision.detail
    assert bool(decision.rule) is (decision.reason in (Reason.ALLOWED_BY_RULE, Reason.DENIED_BY_RULE))
