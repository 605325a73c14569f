"""judge(): from a request line, and the body where a rule asks for it, to a decision; what the proxy enforces and what
`explain` explains.

Owns the order in which a request is read, named and decided, and the rule that a request which does what another
operation does is judged as both. Must not know sockets or where the answer goes. Begin at `judge`.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import orjson

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.catalogue import ApiVersion, Catalogue, Classified, Target, parse_target
from sockproxy.judging.identity import Principal
from sockproxy.judging.payload import Bodies, Payload, Query, read_query
from sockproxy.judging.policy import AccessRequest, Decision, Effect, Mode, Policy, Reason, decide
from sockproxy.judging.requirements.facts import NOTHING_FOUND, Facts, Findings, Question
from sockproxy.judging.requirements.places import SERVICES

IGNORED_BODY_BYTES = 7
"""What an engine ignores as the body of a start: `{}` and `null` are no HostConfig."""

_START, _CREATE, _VOLUME_CREATE = "ContainerStart", "ContainerCreate", "VolumeCreate"
_PATHS: Mapping[str, str] = {_CREATE: "/containers/create", _VOLUME_CREATE: "/volumes/create"}
_DO_MORE = frozenset({_START, _CREATE, *SERVICES})
"""What can do what another operation does: see `does_too`."""
_OWN_DRIVERS = ("", "local")

_NO_PAYLOAD = Payload({}, b"")

VOLUMES_MAX = 32
"""Volumes that one request may make by its mounts. Each is judged by all rules for it, and nobody else is served meanwhile:
19,000, for which a body has room, took half a second, and with an expression that goes over options twice a hundred would.
Nobody mounts that many by drivers."""

_START_BODY_IGNORED_FROM = ApiVersion(1, 24)

CREATES_TOO = f"a start with a body is a {_CREATE}, too"
"""How the reason begins where such a start is denied because of what it also is."""


class Judgement(NamedTuple):
    """What a request is and whether it may pass. `body` is what the engine gets in the place of the client's, where that was
    judged. `needs_body`: a rule asks for the body; as long as that is not judged, the request is denied. `facts`: what rules
    were asked about; without them, any request of the same head is decided alike. In `target` and `body` what was looked at
    stands by its whole id; `classified` has the name that the client gave it."""

    target: Target
    classified: Classified
    decision: Decision
    body: bytes | None = None
    needs_body: bool = False
    facts: Facts | None = None

    @property
    def questions(self) -> tuple[Question, ...]:
        """What has to be found out before the rules can say more. As long as they are open, they do not allow."""
        return self.decision.questions

    @property
    def is_of_head(self) -> bool:
        """Nothing but the head has decided."""
        return not self.needs_body and self.facts is None


class _About(NamedTuple):
    """What is known of a request that is looked into, but for its body."""

    request: AccessRequest
    query: Query
    found: Findings
    has_other_body: bool

    def facts(self, data: Any) -> Facts:
        """What rules can be asked about it, with that body."""
        if isinstance(data, dict):
            return facts_of(self.request, self.query, data, self.found, has_other_body=self.has_other_body)
        # A plugin's settings or privileges: a list.
        return facts_of(self.request, self.query, {}, self.found, has_other_body=bool(data))


class Also(NamedTuple):
    """Another operation that a request does, with the body that it would have, and that in words."""

    operation_id: str
    body: Mapping[str, Any]
    told: str


def judge(
    catalogue: Catalogue,
    policy: Policy,
    principal: Principal,
    method: str,
    raw_target: str,
    *,
    content_length: int | None = 0,
    body: bytes | None = None,
    bodies: Bodies | None = None,
    found: Findings = NOTHING_FOUND,
) -> Judgement:
    """Reads, names and decides one request. `content_length`: of the body behind the head, None if that is not known. `body`:
    that body, if it was asked for or has come; without `bodies`, which read it, nothing that needs one is allowed. `found`:
    answers to the `questions` of earlier judgements. Raises BadRequest for what can be read in more than one way."""
    target = parse_target(method, raw_target)
    classified = catalogue.classify(method, target.path, target.version)
    request = AccessRequest(principal, classified, target.version, method, target.path)
    has_body = content_length is None or content_length > IGNORED_BODY_BYTES
    has_host_config = has_body and starts_with_host_config(classified, target.version)
    if not _asks(policy, request, has_host_config=has_host_config):
        decision = decide(policy, request)
        if has_host_config:
            decision = _decide_too(catalogue, policy, request, decision, None, Also(_CREATE, {}, CREATES_TOO))
        return Judgement(target, classified, decision)
    reads_body = content_length != 0 and _reads_body(policy, classified)
    has_json = bodies is not None and _has_json(bodies, classified)
    if reads_body and (bodies is None or (body is None and has_json)):
        return Judgement(target, classified, decide(policy, request), needs_body=True)
    body = body if reads_body and has_json else None  # nothing is judged of what is no JSON: an archive, a plugin
    about = _About(request, read_query(target.query), found, has_other_body=reads_body and not has_json)
    decision, body, facts = _look_inside(catalogue, bodies, policy, about, body)
    if not found or decision.effect is Effect.DENY or policy.mode is Mode.SHADOW:
        return Judgement(target, classified, decision, body, facts=facts)
    # Imported here and not above: most policies ask for nothing, and a serving process is smaller without.
    from sockproxy.judging.pinning import pin

    pinned = pin(catalogue, target, classified, method, facts)
    if pinned.body is not facts.body:
        body = orjson.dumps(pinned.body)
    return Judgement(pinned.target, classified, decision, body, facts=facts)


def would_be_refused(judgement: Judgement, detail: str) -> Judgement:
    """Under mode shadow, of a request that would be refused before any rule is asked: it passes as it came, unjudged."""
    return judgement._replace(decision=_as_refused(judgement.decision, detail), body=None, needs_body=False)


def _as_refused(decision: Decision, detail: str) -> Decision:
    return decision._replace(reason=Reason.BAD_REQUEST, detail=detail, rule="", shadow=Effect.DENY, questions=())


def starts_with_host_config(classified: Classified, version: ApiVersion | None) -> bool:
    """Whether a body of this request would be the HostConfig of a container that is there already."""
    # Engines up to 25.0 take a HostConfig from the body of a start below API 1.24: privileges, binds and namespaces of
    # an existing container are replaced. An unversioned start is read by the engine's own version, which may be older.
    operation = classified.operation
    if operation is None or operation.operation_id != _START:
        return False
    return version is None or version < _START_BODY_IGNORED_FROM


def _asks(policy: Policy, request: AccessRequest, *, has_host_config: bool) -> bool:
    """Whether a rule requires something that only a look into the request can tell."""
    operation, in_version, _, _ = request.classified
    if operation is None or not in_version or not policy.api_versions.admit(request.api_version):
        return False
    return bool(policy.asks(operation.operation_id) or (has_host_config and policy.asks(_CREATE)))


def _reads_body(policy: Policy, classified: Classified) -> bool:
    """Whether the body decides; what does what another operation does has that in its body."""
    operation_id = "" if classified.operation is None else classified.operation.operation_id
    return operation_id in _DO_MORE or any(
        one.reads_body for rule in policy.asks(operation_id) for one in rule.requirements
    )


def _has_json(bodies: Bodies, classified: Classified) -> bool:
    return classified.operation is not None and classified.operation.operation_id in bodies.operations


def _look_inside(
    catalogue: Catalogue,
    bodies: Bodies | None,
    policy: Policy,
    about: _About,
    body: bytes | None,
) -> tuple[Decision, bytes | None, Facts]:
    """The decision on a request that is looked into, the body that the engine gets, and what was found. `body`: one of JSON."""
    request = about.request
    operation = request.classified.operation
    operation_id = "" if operation is None else operation.operation_id
    payload = _NO_PAYLOAD
    try:
        if body is not None and bodies is not None:
            payload = bodies.read_payload(operation_id, request.api_version, body, policy.unknown_fields)
        more = _all_of(does_too(operation_id, payload.data))
    except BadRequest as error:
        if policy.mode is not Mode.SHADOW:
            raise
        # Under mode shadow everything passes, as it came; what is told is what would have been.
        return _as_refused(decide(policy, request), error.detail), body, about.facts({})
    facts = about.facts(payload.data)
    decision = decide(policy, request, facts)
    for also in more:
        decision = _decide_too(catalogue, policy, request, decision, facts, also)
    if body is None or policy.mode is Mode.SHADOW:
        return decision, body, facts
    return decision, payload.canonical, facts


def facts_of(
    request: AccessRequest,
    query: Query,
    body: Mapping[str, Any],
    found: Findings = NOTHING_FOUND,
    *,
    has_other_body: bool = False,
) -> Facts:
    """What rules can be asked about a request."""
    operation, _, resource_kind, resource = request.classified
    operation_id = "" if operation is None else operation.operation_id
    of_head = (operation, request.method, request.path, resource_kind)
    of_body = (request.principal, resource, query, body)
    return Facts(operation_id, request.api_version, *of_body, *of_head, found, has_other_body)


def _all_of(several: Iterator[Also]) -> list[Also]:
    found = list(islice(several, VOLUMES_MAX + 2))  # a start is a create as well
    if len(found) > VOLUMES_MAX + 1:
        raise BadRequest(400, BadRequestReason.BODY, f"makes more than {VOLUMES_MAX} volumes by their drivers")
    return found


def does_too(operation_id: str, body: Any) -> Iterator[Also]:
    """What a request with that body does beside its operation."""
    if not isinstance(body, dict):
        return
    if operation_id == _START and body:
        yield Also(_CREATE, body, CREATES_TOO)
    # Where mounts are known to stand: elsewhere a body that may have unknown names has whatever it likes under these.
    holder: Mapping[str, Any] = {}
    if operation_id in (_CREATE, _START):
        holder = body.get("HostConfig", {})
        yield from _volumes_of_driver(holder, bool(body.get("Volumes")))
    elif operation_id in SERVICES:
        holder = body.get("TaskTemplate", {}).get("ContainerSpec", {})
    for mount in holder.get("Mounts", ()):
        made_as = mount.get("VolumeOptions", {})
        driver = made_as.get("DriverConfig", {})
        if driver.get("Options") or driver.get("Name", "") not in _OWN_DRIVERS:
            told = f"a mount with a volume driver is a {_VOLUME_CREATE}, too"
            yield _volume(mount.get("Source", ""), driver, made_as.get("Labels", {}), told)


def _volumes_of_driver(host_config: Mapping[str, Any], has_volumes: bool) -> Iterator[Also]:
    """The volumes that a VolumeDriver makes: those that the binds name, and such as have no name, be it only the image's."""
    driver = host_config.get("VolumeDriver", "")
    if driver in _OWN_DRIVERS:
        return
    told = f"a create with a volume driver is a {_VOLUME_CREATE}, too"
    binds = host_config.get("Binds", ())
    named = [text.partition(":")[0] for text in binds if not text.startswith("/")]
    has_unnamed = has_volumes or not named or any(text.startswith("/") and ":" not in text for text in binds)
    for name in (*named, *([""] if has_unnamed else ())):
        yield _volume(name, {"Name": driver}, {}, told)


def _volume(name: str, driver: Mapping[str, Any], labels: Mapping[str, str], told: str) -> Also:
    options = driver.get("Options", {})
    volume = {"Name": name, "Driver": driver.get("Name", ""), "DriverOpts": options, "Labels": labels}
    return Also(_VOLUME_CREATE, volume, told)


def _decide_too(
    catalogue: Catalogue, policy: Policy, request: AccessRequest, first: Decision, facts: Facts | None, also: Also
) -> Decision:
    """The decision on a request that does what another operation does, too: both must be allowed."""
    if first.effect is Effect.DENY and not first.questions:
        return first  # one mount denies; a body may have thousands
    request = as_other(also.operation_id, catalogue, request)
    # Its query is the first one's: a name in the query of a start is nobody's.
    second = decide(policy, request, facts and facts_of(request, read_query(""), also.body, facts.found))
    if second.effect is Effect.ALLOW and second.shadow is not Effect.DENY and not second.questions:
        return first
    if first.questions and second.questions:
        return first._replace(questions=tuple(dict.fromkeys(first.questions + second.questions)))
    return second._replace(detail=f"{also.told}: {second.detail}")


def as_create(catalogue: Catalogue, request: AccessRequest) -> AccessRequest:
    """The creation that a start with a HostConfig is as well."""
    return as_other(_CREATE, catalogue, request)


def as_other(operation_id: str, catalogue: Catalogue, request: AccessRequest) -> AccessRequest:
    """The other operation that a request does, too."""
    path = _PATHS[operation_id]
    return request._replace(classified=catalogue.classify("POST", path, request.api_version), method="POST", path=path)
