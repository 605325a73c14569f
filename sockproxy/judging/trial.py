"""Which rules were tried on a request, and why each does or does not hold: for people who ask why.

Owns the sentences. What holds is decided in `policy`, which this must agree with and never decides for; `decide` looks the
same up in tables. Begin at `try_rules`.
"""

from typing import NamedTuple

from sockproxy.judging.catalogue import Classified
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Effect, Policy, Rule, ask_rule
from sockproxy.judging.requirements.facts import Facts

SELECTORS_SHOWN = 5
"""How many selectors of a rule that does not hold are named; the rest is counted."""


class Trial(NamedTuple):
    """A rule, and in half a sentence why it holds or not."""

    rule: Rule
    effect: Effect
    holds: bool
    why: str


def try_rules(policy: Policy, classified: Classified, facts: Facts | None = None) -> list[Trial]:
    """All rules of a policy, the deny rules first, since they win. `facts`: what requirements are asked about."""
    denying = [_try(rule, Effect.DENY, classified) for rule in policy.deny]
    allowing = (_try(rule, Effect.ALLOW, classified) for rule in policy.allow)
    trials = denying + [_ask(trial, facts) for trial in allowing]
    return [one._replace(why=f"{one.why} (in shadow)") if one.rule.shadow else one for one in trials]


def _ask(trial: Trial, facts: Facts | None) -> Trial:
    """A rule that selects the operation, with what it requires."""
    if not trial.holds or not trial.rule.requirements:
        return trial
    unmet = ask_rule(trial.rule, facts)
    if not unmet:
        return trial._replace(why=f"{trial.why}, and all that it requires is met")
    return trial._replace(holds=False, why=f"{trial.why}, but {'; '.join(map(str, unmet))}")


def _try(rule: Rule, effect: Effect, classified: Classified) -> Trial:
    operation, in_version, _, _ = classified
    selects_unknown = UNKNOWN_SELECTOR in rule.operations
    if operation is None:
        why = f"selects what is unknown ({UNKNOWN_SELECTOR})" if selects_unknown else _selected(rule)
        return Trial(rule, effect, selects_unknown, why)
    names_it = operation.operation_id in rule.operations
    if in_version or (names_it and effect is Effect.DENY):
        return Trial(rule, effect, names_it, "selects it" if names_it else _selected(rule))
    if selects_unknown:
        why = f"selects what is not in that API version ({UNKNOWN_SELECTOR})"
    else:
        why = "selects it, but not in an API version that does not have it" if names_it else _selected(rule)
    return Trial(rule, effect, selects_unknown, why)


def _selected(rule: Rule) -> str:
    shown = ", ".join(rule.selectors[:SELECTORS_SHOWN])
    more = len(rule.selectors) - SELECTORS_SHOWN
    return f"does not select it, but {shown}" + f" and {more} more" * (more > 0)
