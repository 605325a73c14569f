"""What would let a denied request pass: in one sentence, and as lines of a policy where lines of a policy would.

Owns which reason asks for which remedy. The rule is found by what `learn` finds it by (`recording.learning`), and written by
what writes every policy file (`config.writing`). Must not know who reads it. Begin at `suggest`; the tests hold each against
`decide`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sockproxy.data import builtin_policy_names
from sockproxy.exchange import Exchange
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Decision, Policy, Reason
from sockproxy.judging.versions import ApiVersions
from sockproxy.operating.admin.showing import Told, shown
from sockproxy.operating.config.document import FORMAT_VERSION
from sockproxy.operating.config.writing import policy_file
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.learning import written_rule
from sockproxy.recording.event import completed_event
from sockproxy.recording.learning import Learner


class Denied(NamedTuple):
    """A denial, and the policy that is in force now under the name of the one that denied."""

    exchange: Exchange
    decision: Decision
    policy: Policy | None


def suggest(exchange: Exchange, policy: Policy | None) -> Told:
    """What would allow it: `say`, a sentence, and `yaml`, the lines, or "" where none would."""
    decision = exchange.decision
    remedy = _REMEDIES.get(decision.reason) if decision is not None else None
    if decision is None or remedy is None:
        return _told("")
    return remedy(Denied(exchange, decision, policy))


def unsuggested() -> Told:
    """Of a denial of which not all was kept."""
    return _told("Its target is too long to be looked at here: sockproxy explain --audit tells more.")


def _told(say: str, yaml: str = "") -> Told:
    return {"say": shown(say), "yaml": yaml}


def _by_a_deny_rule(denied: Denied) -> Told:
    return _told(
        f"The deny rule {denied.decision.rule} holds. No allow rule helps against it: it has to be changed itself."
    )


def _by_a_requirement(denied: Denied) -> Told:
    rule, detail = denied.decision.rule, denied.decision.detail
    return _told(f"The rule {rule} allows it where all that it requires is met. What is not: {detail}.")


def _by_no_client(denied: Denied) -> Told:
    exchange = denied.exchange
    who = f"{exchange.principal.key} is none of the clients of the listener {exchange.listener}"
    return _told(f"{who}: it takes an entry under `clients` there, with the policy that is meant for it.")


def _by_no_rule(denied: Denied) -> Told:
    exchange, decision, policy = denied
    if policy is None or policy.revision != decision.policy_revision:
        return _told("The policy is another one by now.")
    learner = Learner(load_catalogue(), policy, with_denied=True)
    learner.add(completed_event(exchange))
    if learner.forbidden:
        rule = next(iter(learner.forbidden.values()))
        return _told(f"The deny rule {rule} holds as well, and no allow rule helps against it.")
    is_builtin = policy.name in builtin_policy_names()
    written = policy_file(
        f"{policy.name}-and-more" if is_builtin else policy.name,
        head=[],
        allow=[written_rule(name, learner, is_off=name == UNKNOWN_SELECTOR) for name in learner.sightings],
        api_versions=_widened(policy.api_versions, exchange.api_version) if learner.lacks_version else None,
        extends=(policy.name,) if is_builtin else (),
    )
    if not is_builtin:
        written = written.removeprefix(f"version: {FORMAT_VERSION}\n\n")
    # Where no rule is missing, but an API version, there is nothing to be said of rules.
    return _told(_where(policy, learner, is_builtin=is_builtin), written.removesuffix("    allow: []\n"))


def _where(policy: Policy, learner: Learner, *, is_builtin: bool) -> str:
    if UNKNOWN_SELECTOR in learner.sightings:
        return "No policy can name it: only @unknown allows it, and with it all else that sockproxy does not know."
    if is_builtin:
        return f"A policy of your own can extend {policy.name}, and take its place at the listener:"
    return f"To be added to {policy.name}, where that is written:"


def _widened(versions: ApiVersions, version: ApiVersion | None) -> ApiVersions:
    """These, and this one."""
    oldest, newest, unversioned = versions
    if version is None:
        return ApiVersions(oldest, newest, True)
    return ApiVersions(
        None if oldest is None else min(oldest, version),
        None if newest is None else max(newest, version),
        unversioned,
    )


_REMEDIES: Mapping[Reason, Callable[[Denied], Told]] = {
    Reason.DENIED_BY_RULE: _by_a_deny_rule,
    Reason.REQUIREMENT: _by_a_requirement,
    Reason.NO_CLIENT: _by_no_client,
    Reason.API_VERSION: _by_no_rule,
    Reason.NO_RULE: _by_no_rule,
    Reason.UNKNOWN_OPERATION: _by_no_rule,
    Reason.NOT_IN_API_VERSION: _by_no_rule,
}
