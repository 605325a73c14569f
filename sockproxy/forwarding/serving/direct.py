"""Direct: a request that is not known, but has come whole, is judged, recorded and sent on at once, without a task.

Owns what can be served so, and the steps of `proxy` for it, in their order and by the same functions: read, judge, record,
then answer or send. It is served on the bare sockets of the express way, which see to the engine's answer, too. Must not know
rules. Where it is not that simple, the plain way goes on: from the beginning, as long as nothing was recorded, else in the
middle. Begin at `Direct.serve`.

hot: a task, two streams and relays for each request took 110 of the 160 us of CPU of a create of 2 KiB (benchmarks).
"""

import logging
from typing import NamedTuple

from sockproxy.errors import AuditRefused
from sockproxy.exchange import LAST_STAGES, Exchange, Stage
from sockproxy.forwarding.moving.cuts import above
from sockproxy.forwarding.serving.answering import whole_answer
from sockproxy.forwarding.serving.callers import Caller, Outcome, UnderWay
from sockproxy.forwarding.serving.canonical import canonical_request
from sockproxy.forwarding.serving.express import Express
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.known import learn
from sockproxy.forwarding.serving.proxy import complete_as_failed, judge_request, note, traced
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.judging.catalogue import Classified, Traffic, parse_target
from sockproxy.judging.judge import Judgement
from sockproxy.judging.policy import Effect, Policy, denial_message
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead

log = logging.getLogger(__name__)

_HEAD_END = b"\r\n\r\n"


class _Judged(NamedTuple):
    """A request that has come whole, and what was decided."""

    raw: bytes  # its head as it came
    head: RequestHead
    body: bytes
    judgement: Judgement


def _is_unary(classified: Classified, policy: Policy) -> bool:
    """Whether it is answered at once, and nothing of it but what it is and how it ends is recorded."""
    operation = classified.operation
    return (
        operation is not None and operation.traffic is Traffic.UNARY and operation.operation_id not in policy.recorded
    )


class Direct:
    """Serves what has come whole, for the express way."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def may_serve(self, gate: Gate, data: bytes) -> bool:
        """Whether a connection of the plain way, on which that has come, is better served here."""
        if not self._is_open(gate):
            return False
        try:
            whole = self._read(data)
            target = None if whole is None else parse_target(whole[0].method, whole[0].target)
        except Exception:  # noqa: BLE001
            return False  # lawful: the plain way meets it again, and refuses the request
        if whole is None or target is None:
            return False
        return self._is_for_here(
            self._proxy.catalogue.classify(whole[0].method, target.path, target.version), gate.policy
        )

    def serve(self, express: Express, caller: Caller, data: bytes) -> bool:
        """Whether it is served here. If not, nothing has happened yet."""
        if not self._is_open(caller.gate):
            return False
        try:
            judged = self._judge(caller, data)
        except Exception:  # noqa: BLE001
            return False  # lawful: the plain way meets it again, refuses the request and says why
        if judged is None:
            return False
        exchange = self._proxy.new_exchange(caller.gate, caller.principal)
        try:
            self._begin(caller, exchange, judged)
            if self._proxy.has_tracing:
                judged = judged._replace(head=traced(judged.head, exchange))
            self._act(express, caller, exchange, judged)
        except Exception:
            # The border for the unforeseen, as in `proxy`. Lawful: the connection ends.
            log.exception("unforeseen", extra={"exchange": exchange.id})
            express.give_up(caller)
            if exchange.stage not in LAST_STAGES:
                complete_as_failed(self._proxy, exchange)
        return True

    # --- read and judge

    def _is_for_here(self, classified: Classified, policy: Policy) -> bool:
        # Answers that are recorded, the plain way copies.
        extents = self._proxy.extents
        return _is_unary(classified, policy) and (extents is None or not extents.may_tell_answer(classified))

    def _is_open(self, gate: Gate) -> bool:
        # How many of a client's requests are under way, only the plain way counts.
        return self._proxy.has_express and not self._proxy.is_draining and gate.meter is None

    def _read(self, data: bytes) -> tuple[RequestHead, int] | None:
        """The head, and where it ends; None if something else has come than one whole request that keeps its connection.
        Raises BadRequest."""
        limits = self._proxy.limits
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if not len(_HEAD_END) <= end <= limits.head_bytes_max:
            return None
        head = http1.parse_request_head(data[:end], limits.fields_max)
        kind, length = head.framing
        is_whole = kind is not FramingKind.CHUNKED and len(data) - end == max(length, 0)
        is_usual = head.minor == 1 and head.keep_alive and not head.expects_continue and head.method != "HEAD"
        return (head, end) if is_whole and is_usual else None

    def _judge(self, caller: Caller, data: bytes) -> _Judged | None:
        """What is decided on a request; None if it is to be read by the plain way. Raises BadRequest, as does that."""
        whole = self._read(data)
        if whole is None:
            return None
        proxy, limits, policy = self._proxy, self._proxy.limits, caller.gate.policy
        head, end = whole
        body = data[end:]
        room = limits.judged_bodies_bytes_max - proxy.holding.bytes
        may_hold = body and len(body) <= min(limits.judged_body_bytes_max, room)
        judgement = judge_request(proxy, policy, caller.principal, head, body if may_hold else None)
        if judgement.needs_body or judgement.questions:
            return None  # which refuses it, since there are too many, or asks the engine
        if judgement.body is not None:
            head = head._replace(framing=http1.NO_BODY)  # from here on it has none of its own
        elif len(body) > limits.discarded_body_bytes_max:
            return None  # which ends the connection, if it is denied
        if judgement.decision.effect is Effect.ALLOW and not self._is_for_here(judgement.classified, policy):
            return None
        return _Judged(data[:end] if body else data, head, body, judgement)

    # --- record and act

    def _begin(self, caller: Caller, exchange: Exchange, judged: _Judged) -> None:
        """Tells the exchange that its request came when the caller was told of it, and is decided now."""
        exchange.decided_at = exchange.received_at
        exchange.received_time -= exchange.received_at - caller.received_at
        exchange.received_at = caller.received_at
        note(self._proxy, exchange, judged.head, judged.judgement)
        if judged.judgement.body is not None:
            exchange.bytes_in = len(judged.body)
        if self._proxy.extents is not None:
            extent = exchange.extent = self._proxy.extents.extent_of(exchange, caller.peer)
            bytes_max = self._proxy.limits.audited_body_bytes_max
            if extent.wants_body:
                extent.body = judged.body if len(judged.body) <= bytes_max else above(bytes_max)

    def _act(self, express: Express, caller: Caller, exchange: Exchange, judged: _Judged) -> None:
        judgement = judged.judgement
        try:
            self._proxy.observers.decided(exchange)
        except AuditRefused as error:
            self._answer(express, caller, exchange, Stage.REFUSED, 503, f"sockproxy: {error}", judged)
            return
        if judgement.decision.effect is Effect.DENY:
            operation = judgement.classified.operation
            message = denial_message(operation.operation_id if operation else "", judgement.decision)
            self._answer(express, caller, exchange, Stage.DENIED, 403, message, judged)
        else:
            self._send(express, caller, exchange, judged)

    def _answer(
        self,
        express: Express,
        caller: Caller,
        exchange: Exchange,
        stage: Stage,
        status: int,
        message: str,
        judged: _Judged,
    ) -> None:
        """Answers in the engine's place; the connection stays open, since the request was read to its end."""
        exchange.bytes_in = len(judged.body)
        express.send(caller, whole_answer(exchange, status, message, keep_alive=True, minor=1))
        self._proxy.complete(exchange, stage)
        express.turn_over(caller)

    def _send(self, express: Express, caller: Caller, exchange: Exchange, judged: _Judged) -> None:
        """Sends it to the engine; without a kept connection, or on one that takes no more, the plain way does."""
        proxy, gate, judgement, body = self._proxy, caller.gate, judged.judgement, judged.body
        request = canonical_request(judged.head, judgement, passes_upgrade=False)
        is_alike = exchange.extent is None or exchange.extent.is_alike
        if gate.may_learn and exchange.traceparent is None and is_alike:
            learn(gate, judged.raw, judged.head, judgement, request, lambda: proxy.observers.account(exchange))
        if judgement.body is None and body:
            request += body
            exchange.bytes_in = len(body)
        sent = express.begin(caller, request)
        caller.under_way = UnderWay(exchange, judged.head, judgement, request[sent:])
        if caller.line is None:
            exchange.bytes_in = len(body) if judgement.body is not None else 0
            express.leave(caller, Outcome.ANSWER, body if judgement.body is None else b"")
            return
        exchange.forwarded_at = caller.forwarded_at
        exchange.advance(Stage.FORWARDED)
        if sent < len(request):
            express.leave(caller, Outcome.ANSWER, b"")
