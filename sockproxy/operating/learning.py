"""What was learnt, as a policy file: for `sockproxy learn`, and for a proxy that learns while it serves (`apprentice`).

Owns what the file tells of each rule. Must not know which events count (`recording.learning`) nor how a policy file looks
(`operating.config.writing`). Begin at `learnt_policy`.
"""

from collections.abc import Sequence

from sockproxy.judging.catalogue import Access
from sockproxy.judging.policy import UNKNOWN_SELECTOR
from sockproxy.operating.config.writing import WrittenRule, policy_file
from sockproxy.recording.learning import Learner, Sighting
from sockproxy.recording.needs import POD_SECURITY, Needs, can_require

DEFAULT_NAME = "learnt"

_NO_BODY = "Nothing is required: the record does not have all bodies of these requests (level Metadata, or too large). "

LEARNT_MARK = "Learnt from "
"""How the comment at the top of such a file begins."""

_CREATE = "ContainerCreate"
_BODIES = "No rule looks into bodies: who may create a container may create a privileged one, and is root on the host."


def learnt_policy(
    learner: Learner,
    name: str,
    *,
    extends: Sequence[str] = (),
    with_unknown: bool = False,
    with_requirements: bool = False,
) -> str:
    """The text of the smallest policy that allows what was learnt; with `extends`, together with those policies.
    `with_requirements`: its rules also require what was seen in the requests."""
    catalogue = learner.catalogue
    names = [one for one in (*catalogue.operations, UNKNOWN_SELECTOR) if one in learner.sightings]
    rules = [written_rule(one, learner, is_off=one == UNKNOWN_SELECTOR and not with_unknown) for one in names]
    if with_requirements:
        rules = [_requiring(rule, learner.sightings[one].needs) for one, rule in zip(names, rules, strict=True)]
    has_unknown = any(rule.require and learner.sightings[rule.operations[0]].needs.has_unknown_fields for rule in rules)
    seen = learner.seen
    head = [
        f"{LEARNT_MARK}{seen.times} requests{_span(seen)}: the smallest policy that lets them pass. Read it before you "
        "trust it: it allows what was asked for, and nobody knows yet whether all of that was meant to be."
    ]
    says_versions = not extends or learner.lacks_version
    return policy_file(
        name,
        head=head,
        allow=rules,
        api_versions=learner.api_versions if says_versions else None,
        version_comments=[_versions_seen(learner)],
        extends=extends,
        unknown_fields="drop" if has_unknown else "",
    )


def _requiring(rule: WrittenRule, needs: Needs) -> WrittenRule:
    """The rule with what its requests have in common."""
    require = dict(needs.requirements())
    comments = [comment for comment in rule.comments if comment != _BODIES]
    if needs.without_body and can_require(rule.operations[0]):
        comments.append(f"{_NO_BODY}{_BODIES if _BODIES in rule.comments else ''}".rstrip())
    comments += [f"{key} cannot be required: {why}" for key, why in needs.left_out.items()]
    if require and POD_SECURITY not in require and needs.below_baseline:
        comments.append(f"Above pod_security baseline: {needs.below_baseline}")
    return rule._replace(comments=comments, require=require)


def written_rule(name: str, learner: Learner, *, is_off: bool) -> WrittenRule:
    """The rule for one of the sightings, with what there is to say of it. `is_off`: it is not to be in force."""
    sighting = learner.sightings[name]
    comments = [_times(sighting)]
    operation = learner.catalogue.operations.get(name)
    if operation is not None and operation.access is Access.TUNNEL:
        comments.append("A tunnel: what flows in it is not judged.")
    if name == _CREATE:
        comments.append(_BODIES)
    if name in learner.forbidden:
        comments.append(f"Denied by {learner.forbidden[name]}, whatever allows it: to let it pass, change that rule.")
    if name == UNKNOWN_SELECTOR:
        comments += ["Not operations that sockproxy knows, or not in that API version. This rule allows them all:"]
        comments += [f"  {example}" for example in sighting.examples]
    return WrittenRule((name,), comments, is_off=is_off)


def _times(sighting: Sighting) -> str:
    if not sighting.times:
        return "From the file that was here before; not seen since."
    times = "once" if sighting.times == 1 else f"{sighting.times} times"
    who = [name for name, _ in sighting.principals.most_common()]
    return f"{times}{_span(sighting)}, by {', '.join(who)}{' and others' if sighting.has_more else ''}"


def _span(sighting: Sighting) -> str:
    first, last = (time.partition(".")[0].replace("T", " ") for time in (sighting.first_time, sighting.last_time))
    return f", {first}" * bool(first) + f" to {last}" * (last != first)


def _versions_seen(learner: Learner) -> str:
    oldest, newest = learner.oldest, learner.newest
    versions = f"API {oldest}" + f" to {newest}" * (newest is not None and newest != oldest) if oldest else ""
    unversioned = "paths without a version" if learner.unversioned else ""
    return f"Seen: {' and '.join(filter(None, (versions, unversioned))) or 'nothing'}."
