"""What a policy says of a request: for `explain` and `test`.

Owns that the answer comes from the functions that the proxy enforces with: `wire.http1.read_request_line`, then
`judging.judge.judge`. Must not know how it is told. Begin at `ask`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sockproxy.errors import BadRequest
from sockproxy.judging.catalogue import UNKNOWN, Catalogue, Classified, Target, parse_target
from sockproxy.judging.identity import Principal
from sockproxy.judging.judge import Judgement, judge
from sockproxy.judging.policy import Effect, Mode, Policy
from sockproxy.judging.requirements.facts import NOTHING_FOUND, Facts, Finding, Findings, Question
from sockproxy.operating.known import load_known_bodies
from sockproxy.wire import http1

BAD_REQUEST = "bad-request"


class Answer(NamedTuple):
    """What is told, in any format. `target` is None for one that cannot be read."""

    effect: Effect
    target: Target | None
    classified: Classified
    policy: str
    rule: str
    reason: str
    shadow: Effect | None
    facts: Facts | None = None  # what requirements were asked about
    questions: tuple[Question, ...] = ()  # what an engine would be asked, and was not
    assumed: tuple[str, ...] = ()  # paths of the host that were taken for free of links
    is_read: bool = True  # and was judged

    @property
    def operation_id(self) -> str:
        """Empty for an unknown operation."""
        return self.classified.operation.operation_id if self.classified.operation else ""

    @property
    def verdict(self) -> Effect:
        """What the rules say, whether or not it is enforced."""
        return self.effect if self.shadow is None else self.shadow


def ask(
    catalogue: Catalogue,
    policy: Policy,
    principal: Principal,
    method: str,
    raw_target: str,
    *,
    has_body: bool = False,
    body: bytes | None = None,
    found: Findings = NOTHING_FOUND,
) -> Answer:
    """The answer to a request with this method, target and body, as they are on the wire. `has_body`: it has a body of which
    nothing else is known. `found`: what an engine would say; where links on a path lead, none is needed to assume."""
    try:
        _read_line(method, raw_target)
        judgement, assumed = _judge_without_engine(
            partial(
                judge,
                *(catalogue, policy, principal, method, raw_target),
                content_length=None if has_body and body is None else len(body or b""),
                body=body or None,
                bodies=load_known_bodies(),
            ),
            found,
        )
    except BadRequest as error:
        named = _named(catalogue, method, raw_target)
        return Answer(Effect.DENY, *named, policy.name, "", f"{BAD_REQUEST}: {error.detail}", None, is_read=False)
    target, classified, decision, _, _, facts = judgement
    effect, _, detail, rule, policy_name, _, shadow, questions, _ = decision
    return Answer(effect, target, classified, policy_name, rule, detail, shadow, facts, questions, assumed)


def _read_line(method: str, raw_target: str) -> None:
    """As the proxy does, which refuses what is no method and no target before anything is judged."""
    http1.read_request_line(f"{method} {raw_target} HTTP/1.1".encode("utf-8", "surrogateescape"))


def _named(catalogue: Catalogue, method: str, raw_target: str) -> tuple[Target | None, Classified]:
    """What is known of a request that cannot be read: all of its target, where it is the body."""
    try:
        _read_line(method, raw_target)
        target = parse_target(method, raw_target)
    except BadRequest:
        return None, UNKNOWN  # lawful: that it cannot be read is told already
    return target, catalogue.classify(method, target.path, target.version)


def _judge_without_engine(judging: Callable[..., Judgement], found: Findings) -> tuple[Judgement, tuple[str, ...]]:
    """The judgement, and the paths that were taken for what they seem."""
    assumed: dict[Question, Finding] = {}
    while True:
        judgement = judging(found={**assumed, **found})
        paths = [one for one in judgement.questions if one.kind == "path" and one not in assumed]
        if not paths:
            return judgement, tuple(one.name for one in assumed)
        assumed |= dict.fromkeys(paths, Finding({}))


def shadow_note(name: str, policy: Policy) -> str | None:
    """What to say beside answers that are what a policy's rules say, if that is not what happens."""
    if policy.mode is Mode.SHADOW:
        return f"sockproxy: {name} is in shadow mode: what it denies here passes all the same"
    rules = [rule.name for rule in (*policy.deny, *policy.allow) if rule.shadow]
    if rules:
        return f"sockproxy: {name} has rules in shadow ({', '.join(rules)}): what they deny here passes all the same"
    return None
