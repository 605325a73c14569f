"""The rules that were tried: what is told of each agrees with what is decided."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.judging.catalogue import ApiVersion, Classified
from sockproxy.judging.compiling import compile_policy, select_all
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.policy import (
    AccessRequest,
    Effect,
    Policy,
    Reason,
    Rule,
    decide,
)
from sockproxy.judging.trial import SELECTORS_SHOWN, try_rules
from tests.exchanges import CATALOGUE

SOMEBODY = identify(Peer("here", "unix"))
SELECTORS = ["ContainerStart", "ContainerPrune", "Container*", "@Exec", "@read", "@write", "@unknown", "*"]


def policy_of(deny: list[list[str]], allow: list[list[str]]) -> Policy:
    return compile_policy(
        "p",
        CATALOGUE,
        allow=[Rule(f"p/allow[{n}]", tuple(one), None, select_all(one, CATALOGUE)) for n, one in enumerate(allow)],
        deny=[Rule(f"p/deny[{n}]", tuple(one), None, select_all(one, CATALOGUE)) for n, one in enumerate(deny)],
    )


rules = st.lists(st.lists(st.sampled_from(SELECTORS), min_size=1, max_size=3), max_size=3)
asked = st.tuples(
    st.sampled_from(["/containers/web/start", "/containers/prune", "/exec/1/start", "/nothing"]),
    st.sampled_from([None, ApiVersion(1, 12), ApiVersion(1, 41)]),
)


@given(rules, rules, asked)
def test_it_agrees_with_the_decision(
    deny: list[list[str]], allow: list[list[str]], request_: tuple[str, ApiVersion | None]
) -> None:
    path, version = request_
    policy = policy_of(deny, allow)
    classified = CATALOGUE.classify("POST", path, version)
    decision = decide(policy, AccessRequest(SOMEBODY, classified, version, "POST", path))
    holding = [one for one in try_rules(policy, classified) if one.holds]
    assert len(try_rules(policy, classified)) == len(deny) + len(allow)
    denying = [one.rule.name for one in holding if one.effect is Effect.DENY]
    allowing = [one.rule.name for one in holding if one.effect is Effect.ALLOW]
    assert (decision.reason is Reason.DENIED_BY_RULE) is bool(denying)
    assert (decision.effect is Effect.ALLOW) is (bool(allowing) and not denying)
    assert decision.rule in (denying or allowing or [""])


KNOWN = CATALOGUE.classify("POST", "/containers/web/start", None)
TOO_EARLY = CATALOGUE.classify("POST", "/containers/prune", ApiVersion(1, 12))
NOTHING = CATALOGUE.classify("POST", "/nothing", None)

SENTENCES: list[tuple[list[str], Classified, str]] = [
    (["ContainerStart"], KNOWN, "selects it"),
    (["@read", "@Exec"], KNOWN, "does not select it, but @read, @Exec"),
    (["@read"] * (SELECTORS_SHOWN + 2), KNOWN, "does not select it, but @read, @read, @read, @read, @read and 2 more"),
    (["*"], NOTHING, "does not select it, but *"),
    (["@unknown"], NOTHING, "selects what is unknown (@unknown)"),
    (["ContainerPrune"], TOO_EARLY, "selects it, but not in an API version that does not have it"),
    (["@unknown"], TOO_EARLY, "selects what is not in that API version (@unknown)"),
    (["ContainerStart"], TOO_EARLY, "does not select it, but ContainerStart"),
]


@pytest.mark.parametrize(("selectors", "classified", "why"), SENTENCES, ids=[case[2] for case in SENTENCES])
def test_sentences(selectors: list[str], classified: Classified, why: str) -> None:
    [trial] = try_rules(policy_of([], [selectors]), classified)
    assert trial.why == why


def test_a_rule_in_shadow_is_called_so() -> None:
    one = policy_of([["ContainerStart"]], [["*"]])
    shadowed = compile_policy("p", CATALOGUE, allow=one.allow, deny=[replace(one.deny[0], shadow=True)])
    assert [trial.why for trial in try_rules(shadowed, KNOWN)] == ["selects it (in shadow)", "selects it"]


def test_a_deny_rule_holds_where_the_api_version_does_not_have_the_operation() -> None:
    [trial] = try_rules(policy_of([["ContainerPrune"]], []), TOO_EARLY)
    assert (trial.holds, trial.why) == (True, "selects it")
