"""How much of which exchange is recorded: rules, the levels of the sinks, and the bodies that an event carries.

Owns which rule counts and what becomes of a body that cannot be told. Must not know sinks' bytes (`sinks`), what an event
says beside (`event`), nor what is secret (`redaction`). Begin at `Levels.extent_of`, then `Levels.fit`.

The first rule that fits says the level, and what no rule fits has the level of the sink; a sink's own level is the most that
it gets. Where there are neither rules nor sinks that want bodies there is no `Levels` at all, and nobody asks it.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sockproxy.errors import BadRequest
from sockproxy.exchange import Exchange, Extent, Level
from sockproxy.judging.catalogue import Classified, Traffic
from sockproxy.judging.clients import Match, holds
from sockproxy.judging.identity import Peer
from sockproxy.judging.payload import Bodies, UnknownFields
from sockproxy.judging.payload.text import Misread, parse_json
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Effect
from sockproxy.recording.event import RESPONSE_BODY, Event
from sockproxy.recording.redaction import MARK, Redacted, Redactor

LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "None": Level.NONE,
        "Metadata": Level.METADATA,
        "Request": Level.REQUEST,
        "RequestResponse": Level.REQUEST_RESPONSE,
    }
)
"""The levels by their names in Kubernetes."""

OMITTED = "omitted: "
"""How the text begins that stands in the place of a body. A body is an object or a list, and never a text."""

_NOTHING_HIDDEN = Redacted(None, frozenset())

_ERROR_STATUS_MIN = 400
"""From here on an answer is a message, which may repeat anything of its request."""


class AuditRule(NamedTuple):
    """A rule: the level of what fits. None, or no principal: whichever it is."""

    level: Level
    operations: frozenset[str] | None = None
    """operationIds, `@unknown` among them for what has none."""
    principals: tuple[Match, ...] = ()
    effect: Effect | None = None

    def fits(self, operation: str, effect: Effect, peer: Peer | None) -> bool:
        """Whether it is about such an exchange; without a peer, about one of anybody."""
        return (
            (self.operations is None or operation in self.operations)
            and self.effect in (None, effect)
            and (peer is None or not self.principals or any(holds(match, peer) for match in self.principals))
        )


class _OfOperation(NamedTuple):
    """What the rules say of an operation. `rules`: those that may count; `most`: the highest level that there may be;
    `always`: the extent of all its exchanges, where it is one and nothing of bodies, so that nobody writes to it."""

    rules: tuple[AuditRule, ...]
    most: Level
    always: Extent | None


class Levels:
    """The rules, and what each sink gets at most."""

    def __init__(
        self,
        rules: Sequence[AuditRule],
        of_sinks: Mapping[str, Level],
        redactor: Redactor,
        load_bodies: Callable[[], Bodies],
    ) -> None:
        """`of_sinks`: the name of a sink -> its level."""
        self._rules = tuple(rules)
        self._of_sinks = of_sinks
        self._most = max(of_sinks.values(), default=Level.NONE)
        self._redactor = redactor
        self._load_bodies = load_bodies
        self._known: dict[str, _OfOperation] = {}  # by its selector, as soon as it was asked for

    def may_tell_body(self, classified: Classified) -> bool:
        """Whether the body of such a request may have to be recorded, whoever asks and whatever is decided."""
        operation = classified.operation
        return (
            operation is not None
            and operation.operation_id in self._load_bodies().operations
            and self._of(classified).most >= Level.REQUEST
        )

    def may_tell_answer(self, classified: Classified) -> bool:
        """The same of the answer."""
        return self._of(classified).most is Level.REQUEST_RESPONSE

    def _of(self, classified: Classified | None) -> _OfOperation:
        selector = _selector(classified)
        found = self._known.get(selector)
        if found is None:
            found = self._known[selector] = self._found(selector)
        return found

    def _found(self, selector: str) -> _OfOperation:
        rules: list[AuditRule] = []
        levels: list[Level] = []
        for rule in self._rules:
            if rule.operations is None or selector in rule.operations:
                rules.append(rule)
                levels.append(min(rule.level, self._most))
                if not rule.principals and rule.effect is None:
                    break  # all that no rule before has fitted
        else:
            levels.append(self._most)
        most, (first, *others) = max(levels), levels
        is_one = not others and most < Level.REQUEST
        always = Extent(first, wants_body=False, wants_answer=False, is_alike=True) if is_one else None
        return _OfOperation(tuple(rules), most, always)

    def extent_of(self, exchange: Exchange, peer: Peer | None) -> Extent:
        """What has to be kept of an exchange that is decided. `peer`: who asks."""
        always = self._of(exchange.classified).always
        if always is not None:
            return always
        rule, is_alike = self._rule(exchange, peer or _peer_of(exchange))
        level = self._most if rule is None else min(rule.level, self._most)
        operation = None if exchange.classified is None else exchange.classified.operation
        if level < Level.REQUEST or operation is None:
            return Extent(level, wants_body=False, wants_answer=False, is_alike=is_alike)
        wants_body = operation.operation_id in self._load_bodies().operations
        wants_answer = level is Level.REQUEST_RESPONSE and operation.traffic is Traffic.UNARY
        is_alike = is_alike and not wants_body and not wants_answer
        return Extent(level, wants_body=wants_body, wants_answer=wants_answer, is_alike=is_alike)

    def leaves_out(self, exchange: Exchange) -> bool:
        """Whether there is to be no record of it."""
        return self._extent(exchange).level is Level.NONE

    def fit(self, event: Event, sink: str, exchange: Exchange) -> bool:
        """Makes the event say as much as a sink gets; False if that is nothing."""
        extent = self._extent(exchange)
        level = min(extent.level, self._of_sinks.get(sink, Level.METADATA))
        if level is Level.NONE:
            return False
        event["body"] = self._body(exchange, extent).data if level >= Level.REQUEST and extent.body else None
        event.pop(RESPONSE_BODY, None)
        if level is Level.REQUEST_RESPONSE and extent.answer and event["stage"] == "completed":
            event[RESPONSE_BODY] = self._answer(exchange, extent)
        return True

    def _extent(self, exchange: Exchange) -> Extent:
        if exchange.extent is None:
            exchange.extent = self.extent_of(exchange, None)
        return exchange.extent

    def _rule(self, exchange: Exchange, peer: Peer) -> tuple[AuditRule | None, bool]:
        """The rule that counts, and whether it counts for whoever asks the same."""
        operation = _selector(exchange.classified)
        effect = Effect.DENY if exchange.decision is None else exchange.decision.effect
        is_alike = True
        for rule in self._of(exchange.classified).rules:
            if rule.fits(operation, effect, None):
                is_alike = is_alike and not rule.principals
                if rule.fits(operation, effect, peer):
                    return rule, is_alike
        return None, is_alike

    def _body(self, exchange: Exchange, extent: Extent) -> Redacted:
        if extent.told is None:
            extent.told = self._read_body(exchange, extent.body)
        told: Redacted = extent.told
        return told

    def _read_body(self, exchange: Exchange, body: bytes | str) -> Redacted:
        operation = None if exchange.classified is None else exchange.classified.operation
        if isinstance(body, str):
            return _NOTHING_HIDDEN._replace(data=f"{OMITTED}{body}")
        if operation is None:
            raise RuntimeError("only the bodies of operations are kept")
        operation_id = operation.operation_id
        try:
            payload = self._load_bodies().read_payload(operation_id, exchange.api_version, body, UnknownFields.PASS)
        except BadRequest as error:
            # Lawful: whether it passes was decided by others; here it can only not be told.
            return _NOTHING_HIDDEN._replace(data=f"{OMITTED}{error.detail}")
        return self._redactor.body(operation_id, payload.data)

    def _answer(self, exchange: Exchange, extent: Extent) -> Any:
        if isinstance(extent.answer, str):
            return f"{OMITTED}{extent.answer}"
        try:
            data = parse_json(extent.answer)
        except Misread as error:
            return f"{OMITTED}the body {error.what}"  # lawful: it has passed, and can only not be told
        told = self._body(exchange, extent) if extent.body else _NOTHING_HIDDEN
        if (exchange.status or 0) >= _ERROR_STATUS_MIN and (isinstance(told.data, str) or MARK in exchange.target):
            return f"{OMITTED}it may repeat a secret of its request, of which not all is known here"
        return self._redactor.answer(data, told.hidden)


def _selector(classified: Classified | None) -> str:
    if classified is None or classified.operation is None or not classified.in_version:
        return UNKNOWN_SELECTOR
    return classified.operation.operation_id


def _peer_of(exchange: Exchange) -> Peer:
    """What a principal tells of its peer."""
    kind, uid, gid, pid, exe, container, tls_subject, address, _ = exchange.principal
    return Peer(exchange.listener, kind, uid, gid, pid, exe, container, tls_subject, address)
