"""What policies make of all operations: a column of the matrix, and the difference of two policies.

Owns which requests are tried, and that what a rule requires is told as such: without a request nobody knows whether it is
met. Must not know how results are shown. What is compared is what the rules say, so that a policy in mode shadow is seen as
what it would be. Begin at `diff_policies`; every answer comes from `policy.decide`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from sockproxy.judging.catalogue import UNKNOWN, ApiVersion, Catalogue, Classified, Operation
from sockproxy.judging.identity import Principal
from sockproxy.judging.policy import UNKNOWN_SELECTOR, AccessRequest, Policy, Reason, decide

Sign = Literal["+", "-", "~"]


class Verdict(StrEnum):
    """What rules say of an operation without a request: IF some requirement is met."""

    ALLOW = "allow"
    DENY = "deny"
    IF = "if"


class Reach(NamedTuple):
    """In which API versions an operation can be had, and what is required there."""

    versions: Mapping[ApiVersion | None, Verdict]
    required: list[list[tuple[str, Any]]]


_NOBODY = Principal("unix", None, None, None, None, None, None, None, "")


def effects(policy: Policy, catalogue: Catalogue, version: ApiVersion | None) -> Mapping[str, Verdict]:
    """operationId -> what the rules say, for every operation of that API version (None: of any, asked unversioned)."""
    operations = catalogue.operations.items()
    return {name: _verdict(policy, one, version) for name, one in operations if one.in_version(version)}


def diff_policies(p: Policy, q: Policy, catalogue: Catalogue) -> list[tuple[Sign, str]]:
    """What differs, in the catalogue's order: `+` only Q allows it, `-` only P does, `~` both do, but not in the same API
    versions, or not under the same requirements. The last may be `@unknown`: what the catalogue does not know."""
    asked = (*catalogue.operations.items(), (UNKNOWN_SELECTOR, None))
    versions = _telling_versions(p, q, catalogue)
    found = ((_sign(_reach(p, one, versions), _reach(q, one, versions)), name) for name, one in asked)
    return [(sign, name) for sign, name in found if sign is not None]


def _sign(in_p: Reach, in_q: Reach) -> Sign | None:
    if in_p == in_q:
        return None
    if in_p.versions and in_q.versions:
        return "~"
    return "+" if in_q.versions else "-"


def _reach(policy: Policy, operation: Operation | None, versions: frozenset[ApiVersion | None]) -> Reach:
    verdicts = {
        version: verdict
        for version in versions
        if (operation is None or operation.in_version(version))
        and (verdict := _verdict(policy, operation, version)) is not Verdict.DENY
    }
    if operation is None or Verdict.IF not in verdicts.values():
        return Reach(verdicts, [])
    return Reach(verdicts, policy.requires(operation.operation_id))


def _telling_versions(p: Policy, q: Policy, catalogue: Catalogue) -> frozenset[ApiVersion | None]:
    """API versions among which there is one for each way in which the policies can decide an operation: decisions change
    where an operation comes or goes and at the policies' bounds, and nowhere else."""
    operations = catalogue.operations.values()
    changes = {bound for policy in (p, q) for bound in policy.api_versions[:2]}
    changes |= {operation.first_api for operation in operations} | {operation.last_api for operation in operations}
    edges = [change for change in changes if change is not None]
    beside = [edge._replace(minor=edge.minor + step) for edge in edges for step in (-1, 0, 1) if edge.minor + step >= 0]
    return frozenset({None, *beside})


def _verdict(policy: Policy, operation: Operation | None, version: ApiVersion | None) -> Verdict:
    if operation is None:
        request = AccessRequest(_NOBODY, UNKNOWN, version, "GET", "/")
    else:
        classified = Classified(operation, operation.in_version(version), "", "")
        request = AccessRequest(_NOBODY, classified, version, operation.method, operation.path)
    decision = decide(policy, request)
    return Verdict.IF if decision.reason is Reason.REQUIREMENT else Verdict(decision.verdict)
