"""What was asked for, counted: from audit events to what a policy has to allow so that all of it passes.

Owns which events count, and how much is remembered of them: bounded by the number of operations, not of events. Must not
know files (`trail` reads them) nor how a policy is written. Begin at `Learner.add`.

What counts is what passed, under shadow also what would have been denied: that is what one wants to learn. What was
denied counts only if it is asked for; what could not be read never does. A request is judged anew from its method and
target, so that a record of an older sockproxy is read by the names of today, and from its body where the record has that
(level Request); else that tells its size only.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.catalogue import ApiVersion, Catalogue, Classified, parse_target
from sockproxy.judging.identity import identify
from sockproxy.judging.judge import (
    CREATES_TOO,
    IGNORED_BODY_BYTES,
    as_create,
    as_other,
    does_too,
    facts_of,
    starts_with_host_config,
)
from sockproxy.judging.payload import Bodies, UnknownFields, read_query
from sockproxy.judging.policy import UNKNOWN_SELECTOR, AccessRequest, Effect, Policy, Reason, decide
from sockproxy.judging.requirements.facts import Facts
from sockproxy.judging.versions import ANY_API_VERSION, ApiVersions
from sockproxy.recording.event import BAD_REQUEST, Event
from sockproxy.recording.needs import Needs, assume
from sockproxy.recording.recorded import body_of
from sockproxy.recording.summary import Alike, alone
from sockproxy.recording.trail import peer_of, principal_of

PRINCIPALS_MAX = 8
"""Who asked for an operation: so many are named, as many as a reader looks at."""

EXAMPLES_MAX = 8
"""Unknown requests of which method and path are kept."""


TEXT_CHARACTERS_MAX = 120
"""What is kept of a principal, or of an unknown path: a line. A path may have 256 KiB."""


@dataclass(slots=True)
class Sighting:
    """What was seen of an operation. `principals`: the first to ask, with the program where it is known; `has_more`: and
    others. `examples`: methods and paths, for what is unknown only."""

    decided: int = 0
    completed: int = 0
    first_time: str = ""
    last_time: str = ""
    principals: Counter[str] = field(default_factory=Counter)
    has_more: bool = False
    examples: dict[str, None] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)

    @property
    def times(self) -> int:
        """How many requests, though a record may begin or end between the two lines of one."""
        return max(self.decided, self.completed)

    def add(self, alike: Alike, example: str) -> None:
        """One more event, or several."""
        event, times, first_time, last_time, _, _ = alike
        is_completed = event["stage"] == "completed"
        self.completed += times * is_completed
        self.decided += times * (not is_completed)
        who = _who(event)
        self.first_time = min(filter(None, (self.first_time, first_time[:TEXT_CHARACTERS_MAX])), default="")
        self.last_time = max(self.last_time, last_time[:TEXT_CHARACTERS_MAX])
        if who in self.principals or len(self.principals) < PRINCIPALS_MAX:
            self.principals[who] += times
        else:
            self.has_more = True
        if example and len(self.examples) < EXAMPLES_MAX:
            self.examples[example] = None


class Learner:
    """Learns from events. `sightings`: operationId (or `@unknown`) -> what was seen; with a policy `against` only what
    that one does not allow. `forbidden`: operationId -> its deny rule, against which no allow rule helps."""

    def __init__(
        self,
        catalogue: Catalogue,
        against: Policy | None = None,
        *,
        with_denied: bool = False,
        bodies: Bodies | None = None,
    ) -> None:
        """`bodies`: reads what the record has of bodies, for what a rule would have to require."""
        self.catalogue = catalogue
        self._bodies = bodies
        self.sightings: dict[str, Sighting] = {}
        self.forbidden: dict[str, str] = {}
        self.seen = Sighting()  # all that counts, also what `against` allows
        self.oldest: ApiVersion | None = None
        self.newest: ApiVersion | None = None
        self.unversioned = False
        self.lacks_version = False  # `against` does not admit an API version that was asked for
        self.left_out = 0  # denied requests that were not learnt
        self._with_denied = with_denied
        self._versions = against.api_versions if against else ANY_API_VERSION
        # What it says of operations; whether it admits the API version is another question.
        self._against = replace(against, api_versions=ANY_API_VERSION) if against else None

    def add(self, event: Event) -> None:
        """Learns from an event, if it counts."""
        self.add_alike(alone(event))

    def add_alike(self, alike: Alike) -> None:
        """Learns from events that say the same."""
        event = alike.event
        if event["reason"] == BAD_REQUEST:
            return
        if event["effect"] != "allow" and not self._with_denied:
            self.left_out += alike.times * (event["stage"] == "decided")
            return
        try:
            request = _request(self.catalogue, event)
        except BadRequest:
            return  # lawful: what cannot be read is answered 400, whatever a policy says
        self.seen.add(alike, "")
        self._add_version(request.api_version)
        for one, facts in self._asked(request, event):
            self._see(one, facts, alike)

    def keep(self, policy: Policy) -> None:
        """Remembers that a policy allows what it does: what was learnt by one that ran before."""
        for rule in policy.allow:
            for operation_id in rule.operations:
                self.sightings.setdefault(operation_id, Sighting())
        oldest, _, unversioned = policy.api_versions
        self.oldest = min(filter(None, (self.oldest, oldest)), default=None)
        self.unversioned |= unversioned

    @property
    def api_versions(self) -> ApiVersions:
        """What has to be admitted. There is no newest: a client that is updated asks for a newer one."""
        return ApiVersions(self.oldest, None, self.unversioned)

    def _add_version(self, version: ApiVersion | None) -> None:
        self.lacks_version |= not self._versions.admit(version)
        if version is None:
            self.unversioned = True
            return
        self.oldest = version if self.oldest is None else min(self.oldest, version)
        self.newest = version if self.newest is None else max(self.newest, version)

    def _asked(self, request: AccessRequest, event: Event) -> Iterable[tuple[AccessRequest, Facts | None]]:
        """The request, and what else it does; with what can be asked about them."""
        facts = self._facts(request, event)
        yield request, facts
        if facts is not None:
            for also in does_too(facts.operation_id, facts.body):
                other = as_other(also.operation_id, self.catalogue, request)
                yield other, facts_of(other, read_query(""), also.body)  # as where it is enforced
        elif starts_with_host_config(request.classified, request.api_version) and has_body(event):
            yield as_create(self.catalogue, request), None

    def _facts(self, request: AccessRequest, event: Event) -> Facts | None:
        """What is known of a request; None where that is not all that a rule may ask about."""
        operation, in_version, _, _ = request.classified
        if self._bodies is None or operation is None or not in_version:
            return None
        query = read_query(parse_target(request.method, str(event["target"])).query)
        facts = facts_of(request, query, {})
        if operation.operation_id not in self._bodies.operations:
            return facts
        body = body_of(event)
        if body is None:
            return facts if event["stage"] == "completed" and not event["bytes_in"] else None
        try:
            payload = self._bodies.read_payload(facts.operation_id, request.api_version, body, UnknownFields.DROP)
        except BadRequest:
            return None  # lawful: what could be read in two ways is not looked into
        return facts._replace(body=payload.data if isinstance(payload.data, dict) else {})

    def _has_unknown_fields(self, request: AccessRequest, event: Event) -> bool:
        """Whether the recorded body has names that no engine knows."""
        operation, body = request.classified.operation, body_of(event)
        if self._bodies is None or operation is None or body is None:
            return False
        try:
            self._bodies.read_payload(operation.operation_id, request.api_version, body)
        except BadRequest as error:
            return error.reason is BadRequestReason.UNKNOWN_FIELD  # lawful: that is the question
        return False

    def _see(self, request: AccessRequest, facts: Facts | None, alike: Alike) -> None:
        name, event = _selector(request.classified), alike.event
        if self._against is not None:
            decision = decide(self._against, request, facts)
            while decision.questions and facts is not None and (found := assume(decision.questions)) is not None:
                facts = facts._replace(found={**facts.found, **found})
                decision = decide(self._against, request, facts)
            if decision.verdict is Effect.ALLOW:
                return
            if decision.reason is Reason.DENIED_BY_RULE:
                self.forbidden[name] = decision.rule
        example = f"{request.method} {request.path}"[:TEXT_CHARACTERS_MAX] if name == UNKNOWN_SELECTOR else ""
        sighting = self.sightings.setdefault(name, Sighting())
        sighting.add(alike, example)
        if facts is not None:
            sighting.needs.add(facts)
            sighting.needs.has_unknown_fields |= self._has_unknown_fields(request, event)
        elif event["stage"] == "completed":
            sighting.needs.without_body += alike.times


def _request(catalogue: Catalogue, event: Event) -> AccessRequest:
    method = str(event["method"])
    target = parse_target(method, str(event["target"]))
    classified = catalogue.classify(method, target.path, target.version)
    return AccessRequest(identify(peer_of(event)), classified, target.version, method, target.path)


def has_body(event: Event) -> bool:
    """Whether the record shows a body that counts. A decided line knows of it only where it was the reason."""
    bytes_in = event["bytes_in"]
    is_large = isinstance(bytes_in, int) and bytes_in > IGNORED_BODY_BYTES
    return is_large or str(event["reason"]).startswith(CREATES_TOO)


def _selector(classified: Classified) -> str:
    """What a rule has to select."""
    operation, in_version, _, _ = classified
    return operation.operation_id if operation is not None and in_version else UNKNOWN_SELECTOR


def _who(event: Event) -> str:
    exe = peer_of(event).exe
    who = f"{principal_of(event)} ({exe})" if exe else principal_of(event)
    return who[:TEXT_CHARACTERS_MAX]
