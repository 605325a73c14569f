"""Express: the fast twin of the usual request, a read that was seen before and is answered at once.

Owns the memory of heads and a way through the proxy without a task, a parser or an object per request. It changes nothing
of what is decided, forwarded or recorded: what it knows was learnt from the plain way (`proxy`, `roundtrip`), byte for
byte, and whatever is not exactly the usual it hands over to the plain way, in the middle of the exchange if need be.
Begin at `Express.next_request`; what may be learnt is said at `learn`.

hot: 79 us of CPU for a small GET by the plain way, 14 by this one (benchmarks, 16 connections); a test drives both with
the same dialogues and compares what the engine saw, what the client got and what was recorded.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from sockproxy.errors import BadRequest, EngineError
from sockproxy.exchange import Exchange
from sockproxy.forwarding.deadlines import Deadline
from sockproxy.forwarding.shared import Gate, Known, KnownAnswer, Proxy
from sockproxy.forwarding.stream import Stream
from sockproxy.judging.catalogue import Access, Traffic
from sockproxy.judging.identity import Principal
from sockproxy.judging.judge import Judgement
from sockproxy.judging.policy import Effect
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead

KNOWN_HEADS_MAX = 4096
"""Heads remembered for a listener; above that all are forgotten. A kubelet with 100 pods asks for some 1,000."""

KNOWN_HEAD_BYTES_MAX = 2048
"""A longer head is not remembered, so that the memory stays below some 20 MiB."""

KNOWN_FIELDS_MAX = 32
"""A head of more fields is not remembered: parsed, each takes some 100 bytes."""

KNOWN_ANSWERS_MAX = 512
"""Heads of answers to GET that are remembered. Their Date changes every second, and old ones are never seen again."""

_HEAD_END_BYTES = 4


class Outcome(Enum):
    """Why a connection left the express way."""

    REQUEST = auto()  # there are bytes of a request for the plain way
    ANSWER = auto()  # a request is on its way, and its answer is for the plain way
    END = auto()  # there will be no more


def learn(
    gate: Gate,
    raw: bytes,
    head: RequestHead,
    judgement: Judgement,
    request: bytes,
    account: Callable[[], object],
) -> None:
    """Remembers a head that comes for the second time, if it is allowed, a unary read, and has nothing that must be looked
    at each time."""
    operation, decision = judgement.classified.operation, judgement.decision
    is_usual = (
        operation is not None
        and judgement.classified.in_version
        and operation.access is Access.READ
        and operation.traffic is Traffic.UNARY
        and decision.effect is Effect.ALLOW
        and decision.shadow is not Effect.DENY
        and head.method == "GET"
        and head.minor == 1
        and head.keep_alive
        and head.framing.kind is FramingKind.NONE
        and len(raw) <= KNOWN_HEAD_BYTES_MAX
        and len(head.fields) <= KNOWN_FIELDS_MAX
    )
    if not is_usual or raw in gate.known:
        return
    if raw in gate.seen:
        _make_room(gate.known, KNOWN_HEADS_MAX)
        gate.known[raw] = Known(head, judgement, request, account())
    else:
        _make_room(gate.seen, KNOWN_HEADS_MAX)
        gate.seen.add(raw)


def _make_room(memory: dict[bytes, Any] | set[bytes], size_max: int) -> None:
    if len(memory) >= size_max:
        memory.clear()


class Express:
    """The express way of one connection."""

    __slots__ = (
        "_client",
        "_deadline",
        "_forwarded_at",
        "_gate",
        "_known",
        "_outcome",
        "_proxy",
        "_received_at",
        "_served",
        "_served_before",
        "_upstream",
        "principal",
    )

    def __init__(self, proxy: Proxy, client: Stream, gate: Gate, principal: Principal) -> None:
        self._proxy = proxy
        self._client = client
        self._gate = gate
        self.principal = principal
        self._known: Known | None = None
        self._upstream: Stream | None = None
        self._outcome: asyncio.Future[Outcome] | None = None
        self._received_at = 0.0
        self._forwarded_at = 0.0
        self._served = 0
        self._served_before = 0  # when the limit was last looked at
        self._deadline: Deadline | None = None

    async def next_request(self, wait_seconds: float) -> Outcome:
        """Serves what it knows until something comes that it does not. `wait_seconds`: how long a connection may be
        without a request."""
        proxy, client = self._proxy, self._client
        outcome: asyncio.Future[Outcome] = proxy.loop.create_future()
        self._outcome = outcome
        self._deadline = proxy.deadlines.start(wait_seconds, self._waited_too_long, self._progress)
        proxy.waiting.add(self)
        client.set_sink(self._take, self._client_ended)
        try:
            return await outcome
        finally:
            proxy.waiting.discard(self)
            proxy.deadlines.stop(self._deadline)
            client.clear_sink()

    def stop(self) -> None:
        """Begins nothing new."""
        if self._upstream is None:
            self._leave(Outcome.END)

    # --- there

    def _take(self, data: bytes) -> None:
        """hot: what the client sent; the head of one usual request, nearly always."""
        if self._upstream is not None:
            self._client.keep(data)
            return
        known = None if self._client.is_write_paused else self._gate.known.get(data)
        received_at = time.monotonic()
        upstream = self._proxy.engine.acquire_idle() if known is not None else None
        if known is None or upstream is None:
            if known is not None:
                self._proxy.engine.open_another()
            self._client.keep(data)
            self._leave(Outcome.REQUEST)
            return
        self._known, self._upstream, self._received_at = known, upstream, received_at
        upstream.set_sink(self._answered, self.hand_over)
        upstream.write(known.request)
        self._forwarded_at = time.monotonic()

    # --- and back

    def _answered(self, data: bytes) -> None:
        """hot: what the engine sent; one whole answer, nearly always."""
        answered_at = time.monotonic()
        upstream, known, proxy, client = self._upstream, self._known, self._proxy, self._client
        end = data.find(b"\r\n\r\n") + 4
        head = data[:end]
        answer = proxy.known_answers.get(head) or self._read_answer(head)
        length = -1 if answer is None else _body_length(answer.framing, data, end)
        if answer is None or length < 0 or upstream is None or known is None or proxy.is_draining:
            if upstream is not None:
                upstream.keep(data)
            self.hand_over()
            return
        upstream.clear_sink()
        self._upstream = self._known = None
        proxy.engine.release(upstream, is_reusable=True)
        client.write(data if answer.head == head else answer.head + data[end:])
        self._served += 1
        served = (
            known.account,
            next(proxy.numbers),
            self.principal,
            self._received_at,
            self._forwarded_at,
            answered_at,
            time.monotonic(),
            answer.status,
            length,
        )
        proxy.observers.served(served)
        if client.has_bytes or client.saw_eof or client.is_lost:
            self._go_on()

    def _read_answer(self, raw: bytes) -> KnownAnswer | None:
        """What the plain way would make of an engine's head; None where it is not the usual."""
        answer = _usual_answer(raw, self._proxy.limits.fields_max) if len(raw) > _HEAD_END_BYTES else None
        if answer is not None:
            _make_room(self._proxy.known_answers, KNOWN_ANSWERS_MAX)
            self._proxy.known_answers[raw] = answer
        return answer

    def _go_on(self) -> None:
        """After an answer: the next request is already here, or the end."""
        if self._client.is_ended:
            self._leave(Outcome.END)
        elif self._client.has_bytes:
            self._take(self._client.take_all())
            if self._upstream is not None and self._client.saw_eof:
                self._client_ended()

    # --- leaving

    def _client_ended(self) -> None:
        upstream = self._upstream
        if upstream is None:
            self._leave(Outcome.END)
        elif self._client.is_lost:
            upstream.close()
        else:
            if not self._client.has_bytes:
                upstream.write_eof()
            self._client.watch_hangup()

    def _waited_too_long(self) -> None:
        proxy = self._proxy
        if self._upstream is not None or self._served > self._served_before:
            # The engine is waited for; or it was a new connection, which gets less time than others, but has sent requests.
            self._served_before = self._served
            seconds = proxy.limits.keep_alive_seconds
            self._deadline = proxy.deadlines.start(seconds, self._waited_too_long, self._progress)
        else:
            self._leave(Outcome.END)

    @property
    def is_busy(self) -> bool:
        """An exchange is under way."""
        return self._upstream is not None

    def is_late(self, forwarded_max: float) -> bool:
        """The engine has had its time for an answer: the request went out at `forwarded_max` or before."""
        return self._upstream is not None and self._forwarded_at <= forwarded_max

    def _progress(self) -> int:
        return self._served + (self._upstream is not None)

    def hand_over(self) -> None:
        """The plain way goes on with what is under way."""
        if self._upstream is not None:
            self._upstream.clear_sink()
        self._leave(Outcome.ANSWER)

    def _leave(self, outcome: Outcome) -> None:
        if self._outcome is not None and not self._outcome.done():
            self._client.clear_sink()
            self._outcome.set_result(outcome)

    def take_over(self) -> tuple[Exchange, Known, Stream]:
        """For the plain way: the exchange that is under way, what is known of it, and the engine's connection."""
        known, upstream = self._known, self._upstream
        if known is None or upstream is None:
            raise RuntimeError("no exchange is under way")
        exchange = self._proxy.new_exchange(self._gate, self.principal)
        exchange.received_time -= exchange.received_at - self._received_at
        exchange.received_at = self._received_at
        exchange.decided_at = self._received_at
        exchange.forwarded_at = self._forwarded_at
        self._upstream = self._known = None
        return exchange, known, upstream


def _usual_answer(raw: bytes, fields_max: int) -> KnownAnswer | None:
    """What the plain way would make of an engine's head; None where it is not the usual."""
    try:
        answer = http1.parse_response_head(raw, fields_max, "GET")
    except EngineError:
        return None  # lawful: the plain way reads it again, and answers the client
    if answer.status < 200 or not answer.keep_alive or answer.framing.kind is FramingKind.UNTIL_CLOSE:
        return None
    fields = http1.end_to_end(answer.fields, keep_upgrade=False)
    head = http1.serialise_response_head(1, answer.status, answer.reason, fields, answer.framing)
    return KnownAnswer(head, answer.status, answer.framing)


def _body_length(framing: http1.Framing, data: bytes, start: int) -> int:
    """How long the body behind the head is if all of it is here and nothing else, else -1."""
    here = len(data) - start
    if framing.kind is FramingKind.NONE:
        return 0 if here == 0 else -1
    if framing.kind is FramingKind.LENGTH:
        return here if here == framing.length else -1
    body = http1.ChunkedBody()
    try:
        length = sum(map(len, body.feed(memoryview(data)[start:])))
    except BadRequest:
        return -1  # lawful: the plain way reads it again, and ends the exchange
    return length if body.done and body.consumed == here else -1
