"""judge(): from a request line to a decision; what the proxy enforces and what `explain` explains.

Owns the order in which a request is read, named and decided, and the rule that a request which does what another
operation does is judged as both. Must not know bytes, sockets or where the answer goes. Begin at `judge`.
"""

from typing import NamedTuple

from sockproxy.judging.catalogue import ApiVersion, Catalogue, Classified, Target, parse_target
from sockproxy.judging.identity import Principal
from sockproxy.judging.policy import AccessRequest, Decision, Effect, Policy, decide

IGNORED_BODY_BYTES = 7
"""What an engine ignores as the body of a start: `{}` and `null` are no HostConfig."""

CREATES_TOO = "a start with a body is a ContainerCreate, too"
"""How the reason begins where such a start is denied because of what it also is."""

_CREATE = ("POST", "/containers/create")
_START_BODY_IGNORED_FROM = ApiVersion(1, 24)


class Judgement(NamedTuple):
    """What a request is and whether it may pass."""

    target: Target
    classified: Classified
    decision: Decision


def judge(
    catalogue: Catalogue, policy: Policy, principal: Principal, method: str, raw_target: str, *, has_body: bool = False
) -> Judgement:
    """Reads, names and decides one request. `has_body`: a body of more than `IGNORED_BODY_BYTES`
    follows the head, or one of unknown length. Raises BadRequest for a target that
    cannot be read in one way only."""
    target = parse_target(method, raw_target)
    classified = catalogue.classify(method, target.path, target.version)
    request = AccessRequest(principal, classified, target.version, method, target.path)
    decision = decide(policy, request)
    if has_body and starts_with_host_config(classified, target.version):
        decision = _decide_as_create_too(catalogue, policy, request, decision)
    return Judgement(target, classified, decision)


def starts_with_host_config(classified: Classified, version: ApiVersion | None) -> bool:
    """Whether a body of this request would be the HostConfig of a container that is there already."""
    # Engines up to 25.0 take a HostConfig from the body of a start below API 1.24: privileges, binds and namespaces of
    # an existing container are replaced. An unversioned start is read by the engine's own version, which may be older.
    operation = classified.operation
    if operation is None or operation.operation_id != "ContainerStart":
        return False
    return version is None or version < _START_BODY_IGNORED_FROM


def _decide_as_create_too(catalogue: Catalogue, policy: Policy, request: AccessRequest, start: Decision) -> Decision:
    second = decide(policy, as_create(catalogue, request))
    if start.effect is Effect.DENY or (second.effect is Effect.ALLOW and second.shadow is not Effect.DENY):
        return start
    return second._replace(detail=f"{CREATES_TOO}: {second.detail}")


def as_create(catalogue: Catalogue, request: AccessRequest) -> AccessRequest:
    """The creation that a start with a HostConfig is as well."""
    create = catalogue.classify(*_CREATE, request.api_version)
    return request._replace(classified=create, method=_CREATE[0], path=_CREATE[1])
