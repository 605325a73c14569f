"""What policies make of all operations: a column of the matrix, and the difference of two policies.

Owns which requests are tried. Must not know how results are shown. What is compared is what the rules say, so that a
policy or a rule in shadow is seen as what it would be. Begin at `diff_policies`; every answer comes from `policy.decide`.
"""

from collections.abc import Mapping
from typing import Literal

from sockproxy.judging.catalogue import UNKNOWN, ApiVersion, Catalogue, Classified, Operation
from sockproxy.judging.identity import Principal
from sockproxy.judging.policy import UNKNOWN_SELECTOR, AccessRequest, Effect, Policy, decide

Sign = Literal["+", "-", "~"]

_NOBODY = Principal("unix", None, None, None, None, None, None, None, "")


def effects(policy: Policy, catalogue: Catalogue, version: ApiVersion | None) -> Mapping[str, Effect]:
    """operationId -> what the rules say, for every operation of that API version (None: of any, asked unversioned)."""
    operations = catalogue.operations.items()
    return {name: _verdict(policy, one, version) for name, one in operations if one.in_version(version)}


def diff_policies(p: Policy, q: Policy, catalogue: Catalogue) -> list[tuple[Sign, str]]:
    """What differs, in the catalogue's order: `+` only Q allows it, `-` only P does, `~` both do, but not in the same API
    versions. The last may be `@unknown`: what the catalogue does not know."""
    asked = (*catalogue.operations.items(), (UNKNOWN_SELECTOR, None))
    versions = _telling_versions(p, q, catalogue)
    found = ((_sign(_reach(p, one, versions), _reach(q, one, versions)), name) for name, one in asked)
    return [(sign, name) for sign, name in found if sign is not None]


def _sign(in_p: frozenset[ApiVersion | None], in_q: frozenset[ApiVersion | None]) -> Sign | None:
    if in_p == in_q:
        return None
    if in_p and in_q:
        return "~"
    return "+" if in_q else "-"


def _reach(
    policy: Policy, operation: Operation | None, versions: frozenset[ApiVersion | None]
) -> frozenset[ApiVersion | None]:
    """In which of these API versions an operation can be had."""
    return frozenset(
        version
        for version in versions
        if (operation is None or operation.in_version(version)) and _verdict(policy, operation, version) is Effect.ALLOW
    )


def _telling_versions(p: Policy, q: Policy, catalogue: Catalogue) -> frozenset[ApiVersion | None]:
    """API versions among which there is one for each way in which the policies can decide an operation: decisions change
    where an operation comes or goes and at the policies' bounds, and nowhere else."""
    operations = catalogue.operations.values()
    changes = {bound for policy in (p, q) for bound in policy.api_versions[:2]}
    changes |= {operation.first_api for operation in operations} | {operation.last_api for operation in operations}
    edges = [change for change in changes if change is not None]
    beside = [edge._replace(minor=edge.minor + step) for edge in edges for step in (-1, 0, 1) if edge.minor + step >= 0]
    return frozenset({None, *beside})


def _verdict(policy: Policy, operation: Operation | None, version: ApiVersion | None) -> Effect:
    if operation is None:
        request = AccessRequest(_NOBODY, UNKNOWN, version, "GET", "/")
    else:
        classified = Classified(operation, operation.in_version(version), "", "")
        request = AccessRequest(_NOBODY, classified, version, operation.method, operation.path)
    return decide(policy, request).verdict
