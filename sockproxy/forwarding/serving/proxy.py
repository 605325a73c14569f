"""The story of one request: read, judge and record it, then answer it or carry it to the engine.

Owns the order of these steps. The only caller of `judging`; must not know how a policy is written, what an observer does,
how bytes are read (`intake`) or moved (`roundtrip`), nor what the proxy's own answers look like (`answering`). Begin at
`SERVE`, then `_judge_and_act`.
"""

import logging
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple

from sockproxy.errors import AuditRefused, BadRequest, BadRequestReason, EngineError, PeerGone, RecordingRefused
from sockproxy.exchange import LAST_STAGES, Exchange, Stage
from sockproxy.forwarding.meter import Meter, MeteredHeads
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.answering import (
    LIMIT_OF_REASON,
    answer,
    refuse_above_limit,
    refuse_while_draining,
    reject,
)
from sockproxy.forwarding.serving.callers import Caller, Line, Outcome, UnderWay
from sockproxy.forwarding.serving.gates import Gate, Known
from sockproxy.forwarding.serving.inquiry import Inquiry
from sockproxy.forwarding.serving.intake import Taken, check_no_form, peek_body, read_raw_head, take_body
from sockproxy.forwarding.serving.known import learn
from sockproxy.forwarding.serving.roundtrip import RoundTrip
from sockproxy.forwarding.serving.shared import Extents, Proxy
from sockproxy.judging.catalogue import STREAMS, Access
from sockproxy.judging.identity import Principal
from sockproxy.judging.judge import Judgement, judge, would_be_refused
from sockproxy.judging.policy import Effect, Mode, Policy, denial_message
from sockproxy.judging.requirements.facts import NOTHING_FOUND, Findings
from sockproxy.wire import http1, tracing
from sockproxy.wire.http1 import FramingKind, RequestHead

log = logging.getLogger(__name__)


class _Request(NamedTuple):
    """One request of a client, and its record."""

    proxy: Proxy
    client: Stream
    caller: Caller
    exchange: Exchange


class _Judged(NamedTuple):
    """What was decided on it, the gate whose policy that was, and the head, as far as it is still to come."""

    gate: Gate
    head: RequestHead
    judgement: Judgement


async def _serve_request(proxy: Proxy, client: Stream, caller: Caller) -> bool:
    """Serves one request; True if the connection can carry another."""
    exchange = proxy.new_exchange(caller.gate, caller.principal)
    try:
        return await _guarded(proxy, client, exchange, _judge_and_act(_Request(proxy, client, caller, exchange)))
    finally:
        caller.trip = None


async def _judge_and_act(of: _Request) -> bool:
    raw = await read_raw_head(of.proxy, of.client)
    judged, inquiry = await _judge(of, raw)
    return await _carry_out(of, raw, judged, inquiry)


async def _judge(of: _Request, raw: bytes) -> tuple[_Judged, Inquiry | None]:
    """Decides a request whose head has come, and notes what is known of it. Raises BadRequest."""
    proxy, _, caller, exchange = of
    gate, extents = caller.gate, proxy.extents  # not before: a slow head is judged by what holds when it is there
    head = http1.parse_request_head(raw, proxy.limits.fields_max)
    exchange.method = head.method
    judged = _Judged(gate, head, judge_request(proxy, gate.policy, exchange.principal, head))
    body: bytes | str = b""
    if extents is not None:
        judged, body = await _look_at_body(of, judged, extents)
    inquiry: Inquiry | None = None
    if judged.judgement.needs_body or judged.judgement.questions:
        inquiry = Inquiry(proxy, caller.principal.key)
        judged = await _judge_wholly(of, judged, inquiry)
    note(proxy, exchange, judged.head, judged.judgement)
    if extents is not None:
        extent = exchange.extent = extents.extent_of(exchange, caller.peer)
        extent.body = body if extent.wants_body else b""
    exchange.decided_at = time.monotonic()
    return judged, inquiry


async def _carry_out(of: _Request, raw: bytes, judged: _Judged, inquiry: Inquiry | None) -> bool:
    """Does what was decided, and lets the express way learn it."""
    proxy, client, caller, exchange = of
    gate, head, judgement = judged
    if inquiry is not None and inquiry.refusal is not None:
        return await refuse_above_limit(proxy, client, exchange, head, inquiry.refusal)
    is_allowed = judgement.decision.effect is Effect.ALLOW
    if proxy.is_draining and is_allowed:
        return await refuse_while_draining(proxy, client, exchange, head)
    operation = judgement.classified.operation
    record = gate.policy.recorded.get(operation.operation_id) if operation is not None else None
    if proxy.has_tracing:
        head = traced(head, exchange)
    caller.trip = trip = RoundTrip(proxy, client, exchange, head, judgement, record=record)
    is_alike = exchange.extent is None or exchange.extent.is_alike
    if proxy.has_express and gate.may_learn and exchange.traceparent is None and is_alike:
        learn(gate, raw, head, judgement, trip.request, lambda: proxy.observers.account(exchange))
    if gate.meter is None or not is_allowed:
        return await _act(proxy, client, exchange, head, judgement, trip)
    is_paid = inquiry is not None and inquiry.is_paid
    return await _act_within_limits(of, gate.meter, head, judgement, trip, is_paid=is_paid)


async def _look_at_body(of: _Request, judged: _Judged, extents: Extents) -> tuple[_Judged, bytes | str]:
    """The body that the record asks for, which stays where it is. While it came, another gate may have begun to hold."""
    proxy, client, caller, exchange = of
    _, head, judgement = judged
    if not extents.may_tell_body(judgement.classified):
        return judged, b""
    _name(proxy, exchange, head, judgement)
    passes = judgement.needs_body or judgement.decision.effect is Effect.ALLOW
    head, body = await peek_body(proxy, client, exchange.principal.key, head, passes=passes)
    gate = caller.gate
    return _Judged(gate, head, judge_request(proxy, gate.policy, exchange.principal, head)), body


async def _judge_wholly(of: _Request, judged: _Judged, inquiry: Inquiry) -> _Judged:
    """Judges a request with all that its rules ask for: its body, and what the engine says. What was slow to come is judged by
    the gate that holds when all of it is there, and may ask for more."""
    proxy, client, caller, exchange = of
    gate, head, judgement = judged
    taken: Taken | None = None
    held_bytes = 0
    try:
        while True:
            _name(proxy, exchange, head, judgement)
            if judgement.needs_body and taken is None:
                taken = await take_body(proxy, client, exchange, head, is_enforced=gate.policy.mode is not Mode.SHADOW)
                held_bytes = len(taken.body or b"")
                proxy.holding.take(exchange.principal.key, held_bytes)  # it is held on, as long as the engine is asked
            elif not await inquiry.find(judgement.questions, gate.meter):
                break  # nothing is open, or nothing more can be found out: it is decided
            gate = caller.gate
            judgement = _judge_taken(proxy, gate.policy, exchange.principal, head, taken, inquiry.found)
    finally:
        if taken is not None:
            proxy.holding.give(exchange.principal.key, held_bytes)
    if taken is None:
        return _Judged(gate, head, judgement)
    if judgement.body is None:  # where nobody asks for it any more, the engine gets what was read
        judgement = judgement._replace(body=taken.body)
    return _Judged(gate, taken.head, judgement)


def _judge_taken(
    proxy: Proxy, policy: Policy, principal: Principal, head: RequestHead, taken: Taken | None, found: Findings
) -> Judgement:
    """Decides a request whose body was read, if that was asked for; or, under mode shadow, could not be held."""
    refusal = None if taken is None else taken.refusal
    if refusal is not None and policy.mode is not Mode.SHADOW:
        raise refusal  # the policy has changed meanwhile
    judgement = judge_request(proxy, policy, principal, head, None if taken is None else taken.body, found)
    if refusal is None or not judgement.needs_body:
        return judgement
    proxy.observers.limit_hit(LIMIT_OF_REASON[refusal.reason])
    return would_be_refused(judgement, refusal.detail)


def judge_request(
    proxy: Proxy,
    policy: Policy,
    principal: Principal,
    head: RequestHead,
    body: bytes | None = None,
    found: Findings = NOTHING_FOUND,
) -> Judgement:
    """Names and decides the request, with the body and the findings that were asked for so far. Raises BadRequest."""
    if len(head.target) > proxy.limits.target_bytes_max:
        detail = f"the target is above {proxy.limits.target_bytes_max} bytes"
        raise BadRequest(431, BadRequestReason.TARGET_TOO_LARGE, detail)
    kind, length = head.framing
    is_chunked = kind is FramingKind.CHUNKED
    refusal = check_no_form(head) if is_chunked or length > 0 else None
    judgement = judge(
        proxy.catalogue,
        policy,
        principal,
        head.method,
        head.target,
        content_length=None if is_chunked else max(length, 0),
        body=body,
        bodies=proxy.load_bodies() if policy.looks_inside else None,
        found=found,
    )
    if refusal is None:
        return judgement
    if policy.mode is not Mode.SHADOW:
        raise refusal
    return would_be_refused(judgement, refusal.detail)


def _name(proxy: Proxy, exchange: Exchange, head: RequestHead, judgement: Judgement) -> None:
    """Writes into the exchange what its head says."""
    exchange.method = head.method
    exchange.user_agent = (http1.field(head.fields, b"user-agent") or b"").decode("latin-1")
    if (sent := http1.field(head.fields, tracing.FIELD)) is not None:
        exchange.traceparent = tracing.parse_traceparent(sent)
    _, query, exchange.api_version, target = judgement.target
    exchange.target = proxy.redact_target(target) if query else target
    exchange.classified = judgement.classified


def traced(head: RequestHead, exchange: Exchange) -> RequestHead:
    """The head by which the engine learns of the exchange's span, which follows from its own. A read without a trace of its
    client's begins none, since the express way sends the same head for all of its kind."""
    if exchange.traceparent is None and _is_read(exchange):
        return head
    made = str(tracing.continued(exchange.traceparent, exchange.id)).encode("ascii")
    others = (one for one in head.fields if one[0].lower() != tracing.FIELD)
    return head._replace(fields=(*others, (tracing.FIELD, made)))


def _is_read(exchange: Exchange) -> bool:
    operation = exchange.classified.operation if exchange.classified is not None else None
    return operation is not None and operation.access is Access.READ


def note(proxy: Proxy, exchange: Exchange, head: RequestHead, judgement: Judgement) -> None:
    """Writes into the exchange what is known of its request now."""
    _name(proxy, exchange, head, judgement)
    exchange.decision = judgement.decision
    exchange.advance(Stage.DECIDED)


async def _act_within_limits(
    of: _Request, meter: Meter, head: RequestHead, judgement: Judgement, trip: RoundTrip, *, is_paid: bool
) -> bool:
    """Does what was decided, if the client may have it now; else refuses it. `is_paid`: it has its token."""
    proxy, client, caller, exchange = of
    operation, key, heads = judgement.classified.operation, caller.principal.key, caller.heads
    is_stream = operation is not None and operation.traffic in STREAMS
    is_paid = (isinstance(heads, MeteredHeads) and heads.take_paid()) or is_paid
    refusal = meter.begin(key, is_stream=is_stream, is_paid=is_paid)
    if refusal is not None:
        return await refuse_above_limit(proxy, client, exchange, head, refusal)
    try:
        return await _act(proxy, client, exchange, head, judgement, trip)
    finally:
        meter.end(key, is_stream=is_stream)


async def _act(
    proxy: Proxy,
    client: Stream,
    exchange: Exchange,
    head: RequestHead,
    judgement: Judgement,
    trip: RoundTrip,
    *,
    is_told: bool = False,
) -> bool:
    """Records the decision (`is_told`: it is), and does what it says; True if the connection can carry another request."""
    try:
        if not is_told:
            proxy.observers.decided(exchange)
        if judgement.decision.effect is Effect.DENY:
            decision, operation = judgement.decision, judgement.classified.operation
            # Of what is not there the client hears in the engine's own words, on which some rely.
            message = decision.absent or denial_message(operation.operation_id if operation else "", decision)
            status = 404 if decision.absent else 403
            return await answer(proxy, client, exchange, head, Stage.DENIED, status, message)
        return await trip.run()
    except (AuditRefused, RecordingRefused) as error:
        return await answer(proxy, client, exchange, head, Stage.REFUSED, 503, f"sockproxy: {error}")
    except EngineError as error:
        exchange.engine_error_reason = error.reason
        if error.limit is not None:
            proxy.observers.limit_hit(error.limit)
        exchange.detail = error.detail
        return await answer(proxy, client, exchange, head, Stage.REFUSED, error.status, f"sockproxy: {error.detail}")
    except PeerGone as error:
        exchange.detail = exchange.detail or str(error)
        proxy.complete(exchange, Stage.FAILED)
        return False


async def _serve_answer(proxy: Proxy, client: Stream, caller: Caller) -> bool:
    """Goes on where the express way met something unusual in the engine's answer."""
    if (under_way := caller.under_way) is not None:
        line, caller.line, caller.under_way = caller.line, None, None
        return await _guarded(proxy, client, under_way.exchange, _carry_on_judged(proxy, client, under_way, line))
    exchange, known, known_line = caller.take_over(proxy)
    return await _guarded(proxy, client, exchange, _carry_on(proxy, client, exchange, known, known_line))


async def _carry_on(proxy: Proxy, client: Stream, exchange: Exchange, known: Known, line: Line) -> bool:
    note(proxy, exchange, known.head, known.judgement)
    upstream = await proxy.engine.adopt(line.sock, line.held)
    trip = RoundTrip(proxy, client, exchange, known.head, known.judgement, sent_on=upstream)
    try:
        return await _act(proxy, client, exchange, known.head, known.judgement, trip)
    finally:
        trip.abandon()


async def _carry_on_judged(proxy: Proxy, client: Stream, under_way: UnderWay, line: Line | None) -> bool:
    """The same of what went the direct way: it is recorded already. No `line`: the engine has it not, or gets it again."""
    exchange, head, judgement, unsent = under_way
    if line is None:
        trip = RoundTrip(proxy, client, exchange, head, judgement)
    else:
        upstream = await proxy.engine.adopt(line.sock, line.held)
        if unsent:
            upstream.write(unsent)
        # All of its body has come and gone.
        bodiless = head._replace(framing=http1.NO_BODY) if head.framing.length > 0 else head
        trip = RoundTrip(proxy, client, exchange, bodiless, judgement, sent_on=upstream)
    try:
        return await _act(proxy, client, exchange, head, judgement, trip, is_told=True)
    finally:
        trip.abandon()


async def _serve_rest(proxy: Proxy, client: Stream, caller: Caller) -> bool:
    """Goes on where a client did not take all of its answer at once; the exchange itself has ended."""
    client.write(caller.unsent)
    caller.unsent = b""
    return True


SERVE = {Outcome.REQUEST: _serve_request, Outcome.ANSWER: _serve_answer, Outcome.REST: _serve_rest}


async def _guarded(proxy: Proxy, client: Stream, exchange: Exchange, serving: Coroutine[Any, Any, bool]) -> bool:
    """Sees to it that an exchange comes to an end, whatever happens in it."""
    try:
        return await serving
    except BadRequest as error:
        return await reject(proxy, client, exchange, error)
    except Exception:
        # The one border for the unforeseen. Lawful: before the decision it denies, behind it the connection ends.
        log.exception("unforeseen", extra={"exchange": exchange.id})
        if exchange.decision is None:
            unread = BadRequest(403, BadRequestReason.REQUEST_LINE, "denied: the request could not be judged")
            return await reject(proxy, client, exchange, unread)
        return False
    finally:
        if exchange.stage not in LAST_STAGES:
            complete_as_failed(proxy, exchange)


def complete_as_failed(proxy: Proxy, exchange: Exchange) -> None:
    """Ends an exchange that was cut off by a cancellation or by a fault of ours."""
    exchange.detail = exchange.detail or "cut off"
    if exchange.stage is Stage.RECEIVED:
        proxy.complete(exchange, Stage.REJECTED)
        return
    if exchange.stage is Stage.DECIDED:
        proxy.complete(exchange, Stage.REFUSED)
        return
    proxy.complete(exchange, Stage.FAILED)
