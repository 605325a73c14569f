"""The story of one connection: read a request, judge it, record it, then answer it or carry it to the engine.

Owns the order of these steps and the proxy's own answers. The only caller of `judging`; must not know how a policy is
written, what an observer does, or how bytes are moved (`roundtrip`). Begin at `Connections`.
"""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from sockproxy.errors import AuditRefused, BadRequest, BadRequestReason, EngineError, PeerGone
from sockproxy.exchange import LAST_STAGES, Exchange, Stage
from sockproxy.forwarding.express import Caller, Express, Line, Outcome, learn
from sockproxy.forwarding.meter import Meter, MeteredHeads, Refusal
from sockproxy.forwarding.readiness import Readiness
from sockproxy.forwarding.relay import BoundedCut, ConnectionCut, Relay
from sockproxy.forwarding.roundtrip import RoundTrip
from sockproxy.forwarding.shared import Gate, Known, Proxy
from sockproxy.forwarding.stream import Stream, open_stream
from sockproxy.judging.catalogue import ApiVersion, Traffic
from sockproxy.judging.identity import Peer, Principal
from sockproxy.judging.judge import Judgement, judge
from sockproxy.judging.policy import Effect, Policy, denial_message
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead

log = logging.getLogger(__name__)

_JSON_ERRORS_FROM = ApiVersion(1, 24)

# A body of these types is taken by the engine for more parameters, which beat those of the query. No known client sends one.
_FORM_TYPES = frozenset({b"application/x-www-form-urlencoded", b"multipart/form-data"})

# RFC 9110, 8.3.1: media-type = type "/" subtype parameters. Anything else is refused beside a body, since the engine folds
# and trims it by Unicode: a dotted capital I makes a form of what is none here.
_MEDIA_TYPE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++/[!#$%&'*+.^_`|~0-9A-Za-z-]++)[ \t]*+(?:;[\t -~]*+)?")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STREAMS = frozenset({Traffic.STREAM, Traffic.HIJACK, Traffic.WEBSOCKET, Traffic.UPGRADE})
_SENT_AWAY_MAX = 100  # connections above the limits that are still answered; beyond that they are cut off

LIMIT_OF_REASON = {
    BadRequestReason.HEAD_TOO_LARGE: "head_bytes_max",
    BadRequestReason.TOO_MANY_FIELDS: "fields_max",
    BadRequestReason.TARGET_TOO_LARGE: "target_bytes_max",
    BadRequestReason.HEAD_TOO_SLOW: "head_seconds",
    BadRequestReason.BODY_TOO_LARGE: "judged_body_bytes_max",
    BadRequestReason.TOO_MANY_BODIES: "judged_bodies_bytes_max",
}


class Connections:
    """The clients' connections: each on the express way, where all begin, or served by a task, the plain way."""

    def __init__(self, proxy: Proxy, readiness: Readiness) -> None:
        self._proxy = proxy
        self._express = Express(proxy, readiness, self._serve)
        self._tasks: dict[asyncio.Task[None], Caller] = {}
        self._sent_away: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Those that are open, without those that are sent away."""
        return len(self._express.callers) + len(self._tasks)

    @property
    def express_busy_count(self) -> int:
        """Exchanges under way on the express way, each on a connection to the engine."""
        return self._express.busy_count

    @property
    def express_idle_count(self) -> int:
        """Connections to the engine that the express way keeps."""
        return self._express.idle_count

    def enter(
        self,
        sock: socket.socket,
        gate: Gate,
        principal: Principal,
        on_closed: Callable[[Principal], None],
        peer: Peer | None = None,
    ) -> None:
        """Serves a connection to its end; then `on_closed` is called. `peer`: see `lead`."""
        self._express.enter(self.new_caller(sock, gate, principal, on_closed, peer))

    def go_on(self, client: Stream, caller: Caller) -> None:
        """Serves a connection that is a stream already, and stays one: with TLS there is no express way."""
        self._keep(self._proxy.loop.create_task(_serve_stream(self._proxy, self._express, caller, client)), caller)

    def new_caller(
        self,
        sock: socket.socket,
        gate: Gate,
        principal: Principal,
        on_closed: Callable[[Principal], None],
        peer: Peer | None = None,
    ) -> Caller:
        """A client, for `go_on`."""
        return Caller(self._express, sock, gate, principal, on_closed, peer)

    def lead(self, gate_of: Callable[[Peer], Gate]) -> None:
        """Every connection whose peer is known goes on by the gate that is told for it; what it has under way stays decided."""
        for caller in (*self._express.callers, *self._tasks.values()):
            if caller.peer is not None:
                caller.go_by(gate_of(caller.peer))

    def send_away(self, sock: socket.socket, limit: str) -> None:
        """Answers one who is one too many; what they have sent is read, so that the answer arrives."""
        if len(self._sent_away) >= _SENT_AWAY_MAX:
            sock.close()
            return
        task = self._proxy.loop.create_task(_refuse_connection(self._proxy, sock, limit))
        self._sent_away.add(task)
        task.add_done_callback(self._sent_away.discard)

    def _serve(self, caller: Caller, outcome: Outcome, received: bytes) -> None:
        serving = _serve_connection(self._proxy, self._express, caller, outcome, received)
        self._keep(self._proxy.loop.create_task(serving), caller)

    def _keep(self, task: asyncio.Task[None], caller: Caller) -> None:
        self._tasks[task] = caller
        task.add_done_callback(self._tasks.pop)

    def drain(self) -> None:
        """Begins nothing new: what is under way is finished."""
        self._proxy.drain()
        self._express.drain()

    async def finished(self, seconds: float) -> None:
        """Returns when all connections have ended, after `drain`; those that take longer than that are cut off."""
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=seconds)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)


async def _serve_connection(proxy: Proxy, express: Express, caller: Caller, outcome: Outcome, received: bytes) -> None:
    """Goes on with a connection of the express way."""
    await _serve_stream(
        proxy, express, caller, await open_stream(proxy.loop, proxy.hangups, caller.sock, received), outcome
    )


async def _serve_stream(
    proxy: Proxy, express: Express, caller: Caller, client: Stream, outcome: Outcome = Outcome.REQUEST
) -> None:
    """Serves one request after the other, until the connection ends or goes the express way again."""
    is_over = True
    try:
        while await SERVE[outcome](proxy, client, caller) and await _comes_next(proxy, client):
            outcome = Outcome.REQUEST
            if _is_usual(proxy, client, caller.gate) and (bare := client.detach()) is not None:
                is_over = False
                caller.sock = bare
                express.enter(caller, client.take_all())
                return
        client.close()
        if client.unsent_bytes:
            await _within(proxy, client, client.sent())
    finally:
        client.abort()
        if is_over:
            caller.on_closed(caller.principal)


def _is_usual(proxy: Proxy, client: Stream, gate: Gate) -> bool:
    """What has come is one request that is known, and there is nothing else to care for."""
    return client.received in gate.known and not (client.saw_eof or client.unsent_bytes or proxy.is_draining)


async def _comes_next(proxy: Proxy, client: Stream) -> bool:
    """Waits for the next request; False at the end, or when its time is over."""
    await _take_turns(proxy, client)
    if proxy.is_draining:
        return False
    deadline = proxy.deadlines.start(proxy.limits.keep_alive_seconds, client.expire)
    proxy.waiting.add(client)
    try:
        return await client.wait_for_bytes()
    except TimeoutError:
        return False  # lawful: it was idle for too long, or the proxy drains
    finally:
        proxy.waiting.discard(client)
        proxy.deadlines.stop(deadline)


async def _refuse_connection(proxy: Proxy, sock: socket.socket, limit: str) -> None:
    """Answers a connection that is above a limit, and closes it."""
    detail = f"sockproxy: too many connections ({limit})"
    client = await open_stream(proxy.loop, proxy.hangups, sock)
    try:
        client.write(
            http1.answer(
                *(503, detail),
                api_version_is_old=False,
                request_id="",
                keep_alive=False,
                minor=1,
                head_only=False,
            )
        )
        await _linger(proxy, client)
    finally:
        client.abort()


async def _take_turns(proxy: Proxy, client: Stream) -> None:
    """Before a request: a client that does not read its answers is not served, and one that has sent many lets others go
    first."""
    if client.is_write_paused:
        await _within(proxy, client, client.drain())
    elif client.has_bytes:
        await asyncio.sleep(0)


async def _within(proxy: Proxy, client: Stream, sending: Coroutine[Any, Any, None]) -> None:
    """Waits for a client to take what was sent, as long as it takes something now and then."""
    deadline = proxy.deadlines.start(proxy.limits.keep_alive_seconds, client.abort, lambda: client.unsent_bytes)
    try:
        await sending
    finally:
        proxy.deadlines.stop(deadline)


async def _serve_request(proxy: Proxy, client: Stream, caller: Caller) -> bool:
    """Serves one request; True if the connection can carry another."""
    exchange = proxy.new_exchange(caller.gate, caller.principal)
    return await _guarded(proxy, client, exchange, _judge_and_act(proxy, client, caller, exchange))


async def _judge_and_act(proxy: Proxy, client: Stream, caller: Caller, exchange: Exchange) -> bool:
    raw = await _read_raw_head(proxy, client)
    gate = caller.gate  # not before: a slow head is judged by what holds when it is there
    head = http1.parse_request_head(raw, proxy.limits.fields_max)
    exchange.method = head.method
    judgement = _judge(proxy, gate.policy, exchange.principal, head)
    if judgement.needs_body:
        _name(exchange, head, judgement)
        body = await _read_body(proxy, client, exchange, head)
        gate = caller.gate  # and what was slow to come, by what holds when all of it is there
        judgement = _judge(proxy, gate.policy, exchange.principal, head, body)
        head = head._replace(framing=http1.NO_BODY, expects_continue=False)  # from here on it has none of its own
    _note(exchange, head, judgement)
    exchange.decided_at = time.monotonic()
    if proxy.is_draining and judgement.decision.effect is Effect.ALLOW:
        return await _refuse_while_draining(proxy, client, exchange, head)
    trip = RoundTrip(proxy, client, exchange, head, judgement)
    if proxy.has_express and gate.may_learn:
        learn(gate, raw, head, judgement, trip.request, lambda: proxy.observers.account(exchange))
    acting = _act(proxy, client, exchange, head, judgement, trip)
    if gate.meter is None or judgement.decision.effect is Effect.DENY:
        return await acting
    return await _within_limits(proxy, client, caller, gate.meter, exchange, head, judgement, acting)


async def _within_limits(
    proxy: Proxy,
    client: Stream,
    caller: Caller,
    meter: Meter,
    exchange: Exchange,
    head: RequestHead,
    judgement: Judgement,
    acting: Coroutine[Any, Any, bool],
) -> bool:
    """Does what was decided, if the client may have it now; else refuses it."""
    operation, key, heads = judgement.classified.operation, caller.principal.key, caller.heads
    is_stream = operation is not None and operation.traffic in _STREAMS
    is_paid = isinstance(heads, MeteredHeads) and heads.take_paid()
    refusal = meter.begin(key, is_stream=is_stream, is_paid=is_paid)
    if refusal is not None:
        acting.close()
        return await _refuse_above_limit(proxy, client, exchange, head, refusal)
    try:
        return await acting
    finally:
        meter.end(key, is_stream=is_stream)


async def _refuse_above_limit(
    proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead, refusal: Refusal
) -> bool:
    """Answers one whose policy allows it, but not so often or so many at once."""
    proxy.observers.limit_hit(refusal.limit)
    exchange.detail = refusal.detail
    with suppress(AuditRefused):  # lawful: it is refused all the same
        proxy.observers.decided(exchange)
    message = f"sockproxy: {refusal.detail} ({refusal.limit}); try again in {refusal.retry_seconds} s"
    return await _answer(
        *(proxy, client, exchange, head, Stage.REFUSED, 429, message), retry_seconds=refusal.retry_seconds
    )


async def _serve_answer(proxy: Proxy, client: Stream, caller: Caller) -> bool:
    """Goes on where the express way met something unusual in the engine's answer."""
    exchange, known, line = caller.take_over(proxy)
    return await _guarded(proxy, client, exchange, _carry_on(proxy, client, exchange, known, line))


async def _carry_on(proxy: Proxy, client: Stream, exchange: Exchange, known: Known, line: Line) -> bool:
    _note(exchange, known.head, known.judgement)
    upstream = await proxy.engine.adopt(line.sock, line.held)
    trip = RoundTrip(proxy, client, exchange, known.head, known.judgement, sent_on=upstream)
    try:
        return await _act(proxy, client, exchange, known.head, known.judgement, trip)
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
        return await _reject(proxy, client, exchange, error)
    except Exception:
        # The one border for the unforeseen. Lawful: before the decision it denies, behind it the connection ends.
        log.exception("unforeseen", extra={"exchange": exchange.id})
        if exchange.decision is None:
            unread = BadRequest(403, BadRequestReason.REQUEST_LINE, "denied: the request could not be judged")
            return await _reject(proxy, client, exchange, unread)
        return False
    finally:
        if exchange.stage not in LAST_STAGES:
            _complete_as_failed(proxy, exchange)


async def _read_raw_head(proxy: Proxy, client: Stream) -> bytes:
    """The bytes of one head. Raises BadRequest where it is too large, too slow, or ends within."""
    if (raw := client.take_head(proxy.limits.head_bytes_max)) is not None:
        return raw  # the usual way: it came in one piece, no limit of time is needed
    deadline = proxy.deadlines.start(proxy.limits.head_seconds, client.expire)
    try:
        return await client.read_head(proxy.limits.head_bytes_max)
    except asyncio.LimitOverrunError as error:
        raise BadRequest(
            431, BadRequestReason.HEAD_TOO_LARGE, f"the head is above {proxy.limits.head_bytes_max} bytes"
        ) from error
    except asyncio.IncompleteReadError as error:
        raise BadRequest(400, BadRequestReason.INCOMPLETE, "the connection ended within a head") from error
    except TimeoutError as error:
        raise BadRequest(
            408, BadRequestReason.HEAD_TOO_SLOW, f"the head took more than {proxy.limits.head_seconds:g} s"
        ) from error
    finally:
        proxy.deadlines.stop(deadline)


def _judge(
    proxy: Proxy, policy: Policy, principal: Principal, head: RequestHead, body: bytes | None = None
) -> Judgement:
    """Names and decides the request, whose body was read if it was asked for. Raises BadRequest."""
    if len(head.target) > proxy.limits.target_bytes_max:
        detail = f"the target is above {proxy.limits.target_bytes_max} bytes"
        raise BadRequest(431, BadRequestReason.TARGET_TOO_LARGE, detail)
    is_chunked, length = head.framing.kind is FramingKind.CHUNKED, head.framing.length
    if is_chunked or length > 0:
        _check_no_form(head)
    return judge(
        *(proxy.catalogue, policy, principal, head.method, head.target),
        content_length=None if is_chunked else max(length, 0),
        body=body,
        bodies=proxy.load_bodies() if policy.looks_inside else None,
    )


async def _read_body(proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead) -> bytes:
    """The body that a rule asks for. Raises BadRequest where it is too large, too slow, or ends within."""
    limits, held = proxy.limits, bytearray()
    relay = Relay("downstream", client, None, BoundedCut(head.framing, limits.judged_body_bytes_max, held))
    size_max = limits.judged_body_bytes_max if head.framing.kind is FramingKind.CHUNKED else head.framing.length
    if size_max > limits.judged_body_bytes_max:
        detail = f"the body is above {limits.judged_body_bytes_max} bytes"
        raise BadRequest(413, BadRequestReason.BODY_TOO_LARGE, detail)
    if proxy.held_bytes_max + size_max > limits.judged_bodies_bytes_max:
        raise BadRequest(503, BadRequestReason.TOO_MANY_BODIES, "too many bodies are held to be judged; try again")
    if head.expects_continue:
        client.write(_CONTINUE)

    def is_idle() -> None:
        proxy.observers.limit_hit("body_idle_seconds")
        relay.stop(BadRequest(408, BadRequestReason.BODY_TOO_SLOW, "no byte of the body came for too long"))

    deadline = proxy.deadlines.start(limits.body_idle_seconds, is_idle, lambda: relay.count)
    proxy.held_bytes_max += size_max
    try:
        relay.start()
        await relay.wait()
    except PeerGone as error:
        raise BadRequest(400, BadRequestReason.INCOMPLETE, "the connection ended within a body") from error
    finally:
        proxy.held_bytes_max -= size_max
        proxy.deadlines.stop(deadline)
        exchange.bytes_in = relay.count
    return bytes(held)


def _name(exchange: Exchange, head: RequestHead, judgement: Judgement) -> None:
    """Writes into the exchange what its head says."""
    exchange.method = head.method
    exchange.user_agent = (http1.field(head.fields, b"user-agent") or b"").decode("latin-1")
    exchange.target = judgement.target.canonical
    exchange.api_version = judgement.target.version
    exchange.classified = judgement.classified


def _note(exchange: Exchange, head: RequestHead, judgement: Judgement) -> None:
    """Writes into the exchange what is known of its request now."""
    _name(exchange, head, judgement)
    exchange.decision = judgement.decision
    exchange.advance(Stage.DECIDED)


def _check_no_form(head: RequestHead) -> None:
    content_type = http1.field(head.fields, b"content-type")
    if content_type is None:
        return
    media_type = _MEDIA_TYPE.fullmatch(content_type)
    if media_type is None:
        raise BadRequest(400, BadRequestReason.CONTENT_TYPE, "Content-Type is no media type")
    if media_type[1].lower() in _FORM_TYPES:
        raise BadRequest(
            400, BadRequestReason.CONTENT_TYPE, "a form as body is not forwarded: its fields would override the query"
        )


async def _refuse_while_draining(proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead) -> bool:
    with suppress(AuditRefused):  # lawful: it is refused all the same, and with the same status
        proxy.observers.decided(exchange)
    return await _answer(proxy, client, exchange, head, Stage.REFUSED, 503, "sockproxy: shutting down")


async def _act(
    proxy: Proxy,
    client: Stream,
    exchange: Exchange,
    head: RequestHead,
    judgement: Judgement,
    trip: RoundTrip,
) -> bool:
    """Records the decision and does what it says; True if the connection can carry another request."""
    try:
        proxy.observers.decided(exchange)
        if judgement.decision.effect is Effect.DENY:
            operation = judgement.classified.operation
            message = denial_message(operation.operation_id if operation else "", judgement.decision)
            return await _answer(proxy, client, exchange, head, Stage.DENIED, 403, message)
        return await trip.run()
    except AuditRefused as error:
        return await _answer(proxy, client, exchange, head, Stage.REFUSED, 503, f"sockproxy: {error}")
    except EngineError as error:
        exchange.engine_error_reason = error.reason
        if error.limit is not None:
            proxy.observers.limit_hit(error.limit)
        exchange.detail = error.detail
        return await _answer(proxy, client, exchange, head, Stage.REFUSED, error.status, f"sockproxy: {error.detail}")
    except PeerGone as error:
        exchange.detail = str(error)
        proxy.complete(exchange, Stage.FAILED)
        return False


async def _answer(
    proxy: Proxy,
    client: Stream,
    exchange: Exchange,
    head: RequestHead,
    stage: Stage,
    status: int,
    message: str,
    *,
    retry_seconds: int = 0,
) -> bool:
    """Answers in the engine's place. The connection stays open if the request was read to its end."""
    keep_alive = head.keep_alive and not proxy.is_draining and await _discard_body(proxy, client, exchange, head)
    _write_answer(
        *(client, exchange, status, message), keep_alive=keep_alive, minor=head.minor, retry_seconds=retry_seconds
    )
    proxy.complete(exchange, stage)
    if not keep_alive:
        await _linger(proxy, client)
    return keep_alive


async def _discard_body(proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead) -> bool:
    """Reads and drops a small body; False where that is not worth it, or not possible any more."""
    if head.framing.kind is FramingKind.NONE:
        return True
    if exchange.stage is Stage.FORWARDED or head.expects_continue:
        return False
    bytes_max = proxy.limits.discarded_body_bytes_max
    if head.framing.length > bytes_max:
        return False
    relay = Relay("downstream", client, None, BoundedCut(head.framing, bytes_max))
    await _run_at_most(proxy, relay, proxy.limits.linger_seconds)
    exchange.bytes_in = relay.count
    return relay.is_whole


async def _run_at_most(proxy: Proxy, relay: Relay, seconds: float) -> None:
    """Runs a relay to its end, however that comes, but not longer than that."""
    deadline = proxy.deadlines.start(seconds, relay.stop)
    try:
        relay.start()
        await relay.wait()
    except (BadRequest, PeerGone):
        pass  # lawful: the relay says itself whether it came to its proper end
    finally:
        proxy.deadlines.stop(deadline)


async def _reject(proxy: Proxy, client: Stream, exchange: Exchange, error: BadRequest) -> bool:
    """Answers a request that cannot be read, and ends the connection: where the next one begins is not known."""
    exchange.bad_request_reason = error.reason
    exchange.detail = error.detail
    if error.reason in LIMIT_OF_REASON:
        proxy.observers.limit_hit(LIMIT_OF_REASON[error.reason])
    if exchange.status == 0:
        _write_answer(client, exchange, error.status, f"sockproxy: {error.detail}", keep_alive=False, minor=1)
    proxy.complete(exchange, Stage.REJECTED if exchange.stage is Stage.RECEIVED else Stage.FAILED)
    await _linger(proxy, client)
    return False


def _write_answer(
    client: Stream,
    exchange: Exchange,
    status: int,
    message: str,
    *,
    keep_alive: bool,
    minor: int,
    retry_seconds: int = 0,
) -> None:
    exchange.status = status
    version = exchange.api_version
    client.write(
        http1.answer(
            status,
            message,
            api_version_is_old=version is not None and version < _JSON_ERRORS_FROM,
            request_id=exchange.id,
            keep_alive=keep_alive,
            minor=minor,
            head_only=exchange.method == "HEAD",
            retry_seconds=retry_seconds,
        )
    )


async def _linger(proxy: Proxy, client: Stream) -> None:
    """Closes so that the answer arrives: what the client still sends is read for a while, since unread bytes make the
    kernel reset the connection and drop what was not yet read on the other side."""
    client.write_eof()
    await _run_at_most(proxy, Relay("downstream", client, None, ConnectionCut()), proxy.limits.linger_seconds)


def _complete_as_failed(proxy: Proxy, exchange: Exchange) -> None:
    """Ends an exchange that was cut off by a cancellation or by a fault of ours."""
    exchange.detail = exchange.detail or "cut off"
    if exchange.stage is Stage.RECEIVED:
        proxy.complete(exchange, Stage.REJECTED)
        return
    if exchange.stage is Stage.DECIDED:
        proxy.complete(exchange, Stage.REFUSED)
        return
    proxy.complete(exchange, Stage.FAILED)
