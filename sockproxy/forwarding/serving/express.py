"""Express: the fast twin of the usual request, a read that was seen before and is answered at once.

Owns the memory of heads and a way through the proxy on bare sockets, without a task, a transport, a parser or an object
per request. It changes nothing of what is decided, forwarded or recorded: what it knows was learnt from the plain way
(`proxy`, `roundtrip`), byte for byte, and whatever is not exactly the usual it hands over to the plain way, in the middle
of the exchange if need be. Every connection begins here, as a `Caller`, and may come back between two requests.
Begin at `Express.enter` and `Caller.ready`; what may be learnt is said at `learn`.

hot: 79 us of CPU for a small GET by the plain way, 14 by this one (benchmarks, 16 connections); a test drives both with
the same dialogues and compares what the engine saw, what the client got and what was recorded.
"""

import socket
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from math import inf
from typing import Any, NamedTuple

from sockproxy.errors import BadRequest, EngineError
from sockproxy.exchange import Exchange, Stage
from sockproxy.forwarding.meter import MeteredHeads
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.forwarding.serving.shared import Gate, Heads, Known, KnownAnswer, Proxy, Trip, heads_for
from sockproxy.judging.catalogue import Access, Traffic
from sockproxy.judging.identity import Peer, Principal
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

ANSWER_BYTES_MAX = 64 << 10
"""An answer that does not come in one piece is waited for up to this size; a longer one is relayed by the plain way."""

_READ_BYTES = 16 << 10  # a small answer or a head in one read; more costs more to allocate
_HEAD_END_BYTES = 4
_TO_COME, _UNUSUAL = -1, -2  # in the place of a body's length


class Outcome(Enum):
    """Why a connection is handed over to the plain way."""

    REQUEST = auto()  # there are bytes of a request
    ANSWER = auto()  # a request is on its way, and its answer is for the plain way
    REST = auto()  # an answer was sent in part only


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
        and judgement.is_of_head
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


class UnderWay(NamedTuple):
    """A request that was not known, but is judged, recorded and on its way on a caller's line (`direct`)."""

    exchange: Exchange
    head: RequestHead
    judgement: Judgement
    unsent: bytes  # what the line did not take of it


class Line:
    """A kept connection to the engine. `held`: what has come of an answer that is not whole yet."""

    __slots__ = ("caller", "express", "held", "sock")

    def __init__(self, express: "Express", sock: socket.socket) -> None:
        self.express = express
        self.sock = sock
        self.caller: Caller | None = None
        self.held = b""

    def ready(self) -> None:
        """hot: the engine has sent something; one whole answer, nearly always."""
        try:
            data = self.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return  # lawful: nothing has come after all
        except OSError:
            self.express.line_failed(self)  # lawful: whoever waits for an answer is served anew
            return
        if self.caller is None:
            self.express.drop(self)  # it has ended, or has said something unasked
        else:
            self.express.answered(self, self.caller, data)


class Caller:
    """A client on the express way: about to send a request, or (`line`) waiting for the engine's answer to one."""

    __slots__ = (
        "answered_at",
        "express",
        "forwarded_at",
        "gate",
        "has_served",
        "head",
        "heads",
        "idle_since",
        "known",
        "line",
        "on_closed",
        "peer",
        "principal",
        "received_at",
        "sock",
        "trip",
        "under_way",
        "unsent",
    )

    def __init__(
        self,
        express: "Express",
        sock: socket.socket,
        gate: Gate,
        principal: Principal,
        on_closed: Callable[[Principal], None],
        peer: Peer | None = None,
    ) -> None:
        """`on_closed`: called once, when the connection has ended, on whichever way. `peer`: what the gate was chosen by, and
        will be chosen by anew when other clients are let in."""
        self.express = express
        self.sock = sock
        self.gate = gate
        self.heads: Heads = heads_for(gate, principal)
        self.principal = principal
        self.on_closed = on_closed
        self.peer = peer
        self.line: Line | None = None
        self.trip: Trip | None = None  # what the plain way carries for it
        self.known: Known | None = None
        self.under_way: UnderWay | None = None  # in the place of `known`: what goes the direct way
        self.head = b""  # as the client sent it
        self.unsent = b""  # what a slow client did not take of an answer
        self.has_served = False
        self.received_at = self.forwarded_at = self.answered_at = 0.0
        self.idle_since = time.monotonic()

    def ready(self) -> None:
        """hot: the client has sent something; the head of one usual request, nearly always."""
        try:
            data = self.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return  # lawful: nothing has come after all
        except OSError:
            data = b""  # lawful: a reset is an end
        if data and self.line is None:
            self.take(data)
        else:
            self.express.interrupted(self, data)

    def take(self, data: bytes) -> None:
        """hot: forwards a request if it is known."""
        known = self.heads.get(data)
        self.received_at = time.monotonic()
        line = None if known is None else self.express.take_line()
        if known is None or line is None:
            self.express.not_known(self, data)
            return
        self.known, self.head, self.line, line.caller = known, data, line, self
        try:
            is_sent = line.sock.send(known.request) == len(known.request)
        except OSError:
            is_sent = False  # lawful: it has ended, or is full: the plain way takes another
        if is_sent:
            self.forwarded_at = time.monotonic()
        else:
            self.express.line_failed(line)

    def go_by(self, gate: Gate) -> None:
        """Goes on by another gate."""
        self.gate = gate
        self.heads = heads_for(gate, self.principal)

    def take_over(self, proxy: Proxy) -> tuple[Exchange, Known, Line]:
        """For the plain way: the exchange that is under way, what is known of it, and the engine's connection."""
        known, line = self.known, self.line
        if known is None or line is None:
            raise RuntimeError("no exchange is under way")
        exchange = proxy.new_exchange(self.gate, self.principal)
        exchange.received_time -= exchange.received_at - self.received_at
        exchange.received_at = exchange.decided_at = self.received_at
        exchange.forwarded_at = self.forwarded_at
        self.known = self.line = None
        return exchange, known, line


class Express:
    """The express way: its clients, its connections to the engine, and the ways in and out."""

    def __init__(
        self,
        proxy: Proxy,
        readiness: Readiness,
        hand_over: Callable[[Caller, Outcome, bytes], None],
        serve_directly: Callable[["Express", Caller, bytes], bool],
    ) -> None:
        """`hand_over` goes on with a client by the plain way; the bytes are what came from it and was not used.
        `serve_directly` does so at once with a request that is not known (`direct`), or tells that it does not."""
        self._proxy = proxy
        self._serve_directly = serve_directly
        self._readiness = readiness
        self._hand_over = hand_over
        self._callers: set[Caller] = set()
        self.idle: list[Line] = []  # connections to the engine without a request; the one used last is at the end
        self.known_answers = proxy.known_answers
        self.numbers = proxy.numbers
        self.served = proxy.observers.served
        limits = proxy.limits
        lengths = (limits.head_seconds, limits.keep_alive_seconds, limits.engine_read_answer_seconds)
        proxy.deadlines.sweep(min(filter(None, lengths), default=1.0), self._sweep)

    @property
    def callers(self) -> AbstractSet[Caller]:
        """Clients on it."""
        return self._callers

    @property
    def idle_count(self) -> int:
        """Connections to the engine without a request."""
        return len(self.idle)

    @property
    def busy_count(self) -> int:
        """Connections to the engine with a request."""
        return sum(caller.line is not None for caller in self._callers)

    @property
    def untold_count(self) -> int:
        """Exchanges that are under way, of which nobody was told yet."""
        return sum(caller.line is not None and caller.under_way is None for caller in self._callers)

    # --- in

    def enter(self, caller: Caller, received: bytes = b"") -> None:
        """Serves a client from now on; `received`: what has come from it already."""
        self._callers.add(caller)
        if received:
            caller.take(received)
        else:
            caller.ready()  # who connects has nearly always sent a request by now
        if caller in self._callers:
            self._readiness.watch(caller.sock, caller.ready)

    def take_line(self) -> Line | None:
        """A connection to the engine without a request, or None."""
        if self.idle:
            return self.idle.pop()
        sock = self._proxy.engine.take_bare()
        if sock is None:
            return None
        line = Line(self, sock)
        self._readiness.watch(sock, line.ready)
        return line

    def begin(self, caller: Caller, request: bytes) -> int:
        """Sends a request that is not known on a kept connection, which is the caller's from now on; how much of it was taken.
        0 and no line where there is no such connection."""
        line = self.take_line()
        if line is None:
            return 0
        try:
            sent = line.sock.send(request)
        except BlockingIOError:
            sent = 0  # lawful: it is full, which the plain way can wait for
        except OSError:
            self.drop(line)  # lawful: nothing was sent, so the plain way may take another
            return 0
        caller.forwarded_at = time.monotonic()
        caller.known, caller.line, line.caller = None, line, caller
        return sent

    # --- what happens

    def not_known(self, caller: Caller, data: bytes) -> None:
        """What came cannot be sent on as it is known."""
        if not self._serve_directly(self, caller, data):
            self.leave(caller, Outcome.REQUEST, data)

    def answered(self, line: Line, caller: Caller, data: bytes) -> None:
        """hot: sends an answer on, if it is the usual and whole."""
        if line.held:
            data = line.held + data
        else:
            caller.answered_at = time.monotonic()
        proxy, known = self._proxy, caller.known
        end = data.find(b"\r\n\r\n") + 4
        head = data[:end]
        answer = proxy.known_answers.get(head) or self._read_answer(head)
        length = _UNUSUAL if answer is None else body_length(answer.framing, data, end)
        if answer is None or known is None or length < 0:
            self._unusual(line, caller, data, answer, length)
            return
        line.caller = caller.line = None
        line.held = b""
        self.idle.append(line)
        self.send(caller, data if answer.head == head else answer.head + data[end:])
        caller.idle_since = completed_at = time.monotonic()
        caller.has_served = True
        served = (
            known.account,
            next(proxy.numbers),
            caller.principal,
            caller.received_at,
            caller.forwarded_at,
            caller.answered_at,
            completed_at,
            answer.status,
            length,
        )
        proxy.observers.served(served)
        if caller.unsent:
            self.leave(caller, Outcome.REST, b"")

    def _read_answer(self, raw: bytes) -> KnownAnswer | None:
        """What the plain way would make of an engine's head; None where it is not the usual."""
        answer = _usual_answer(raw, self._proxy.limits.fields_max) if len(raw) > _HEAD_END_BYTES else None
        if answer is not None:
            _make_room(self._proxy.known_answers, KNOWN_ANSWERS_MAX)
            self._proxy.known_answers[raw] = answer
        return answer

    def _unusual(self, line: Line, caller: Caller, data: bytes, answer: KnownAnswer | None, length: int) -> None:
        under_way = caller.under_way
        if answer is None or under_way is None or length < 0:
            self._not_whole(line, caller, data, may_come=length == _TO_COME)
            return
        line.caller = caller.line = caller.under_way = None
        line.held = b""
        self.idle.append(line)
        exchange = under_way.exchange
        exchange.answered_at = caller.answered_at
        exchange.status, exchange.bytes_out = answer.status, length
        self.send(caller, answer.head + data[data.find(b"\r\n\r\n") + 4 :])
        self._proxy.complete(exchange, Stage.ANSWERED)
        self.turn_over(caller)

    def turn_over(self, caller: Caller) -> None:
        """A request was answered without being known: the client may make another one."""
        caller.idle_since = time.monotonic()
        caller.has_served = True
        if caller.unsent:
            self.leave(caller, Outcome.REST, b"")

    def _not_whole(self, line: Line, caller: Caller, data: bytes, *, may_come: bool) -> None:
        has_ended = len(data) == len(line.held)
        line.held = data
        if has_ended or not may_come or len(data) > ANSWER_BYTES_MAX:
            self.leave(caller, Outcome.ANSWER, b"")

    def send(self, caller: Caller, data: bytes) -> None:
        """Sends an answer; what a slow client does not take of it is kept in `unsent`."""
        try:
            sent = caller.sock.send(data)
        except BlockingIOError:
            sent = 0  # lawful: the plain way waits for a slow client
        except OSError:
            return  # lawful: the client is gone, which the next read tells
        if sent < len(data):
            caller.unsent = data[sent:]

    def interrupted(self, caller: Caller, data: bytes) -> None:
        """Bytes of a client (none: its end) that are not the one request which is awaited."""
        if caller.line is None:
            self._close(caller)
        else:
            self.leave(caller, Outcome.ANSWER, data)

    def line_failed(self, line: Line) -> None:
        """A connection to the engine that cannot be used. A request on it goes the plain way: anew, since a read that met a
        kept connection's end may be repeated, if nothing of an answer has come."""
        caller = line.caller
        under_way = None if caller is None else caller.under_way
        may_repeat = under_way is None or may_be_repeated(under_way)
        if caller is not None and (line.held or not may_repeat):
            self.leave(caller, Outcome.ANSWER, b"")
            return
        self.drop(line)
        if caller is not None:
            caller.line = None
            if under_way is None:
                self.leave(caller, Outcome.REQUEST, caller.head)
            else:
                self.leave(caller, Outcome.ANSWER, b"")

    def drop(self, line: Line) -> None:
        """Closes a connection to the engine."""
        if line in self.idle:
            self.idle.remove(line)
        self._readiness.forget(line.sock)
        self._proxy.engine.drop_bare(line.sock)

    def _sweep(self, now: float) -> None:
        """Ends what has lasted too long: connections without a request, waits for the engine, and for the rest of an answer
        (which must not hold back what came of it)."""
        limits = self._proxy.limits
        late = now - (limits.engine_read_answer_seconds or inf)
        idle = now - (limits.keep_alive_seconds or inf)
        new = now - (limits.head_seconds or inf)
        for caller in list(self._callers):
            if caller.line is not None:
                if caller.line.held or caller.forwarded_at <= late:
                    self.leave(caller, Outcome.ANSWER, b"")
            elif caller.idle_since <= (idle if caller.has_served else new):
                self._close(caller)

    # --- out

    def leave(self, caller: Caller, outcome: Outcome, received: bytes) -> None:
        """The plain way goes on with a client, and with the exchange that is under way."""
        self._callers.discard(caller)
        self._readiness.forget(caller.sock)
        if caller.line is not None:
            self._readiness.forget(caller.line.sock)
        if outcome is not Outcome.REQUEST and isinstance(caller.heads, MeteredHeads):
            caller.heads.take_paid()  # that was for the request that is on its way, not for one that comes behind
        self._hand_over(caller, outcome, received)

    def give_up(self, caller: Caller) -> None:
        """Ends a client, and the connection to the engine that it has, if any."""
        line, caller.line = caller.line, None
        if line is not None:
            self.drop(line)
        if caller in self._callers:
            self._close(caller)

    def _close(self, caller: Caller) -> None:
        self._callers.discard(caller)
        self._readiness.close(caller.sock)
        caller.on_closed(caller.principal)

    def drain(self) -> None:
        """Begins nothing new: who waits for an answer gets it the plain way, who does not is closed."""
        for caller in list(self._callers):
            if caller.line is not None:
                self.leave(caller, Outcome.ANSWER, b"")
            else:
                self._close(caller)
        for line in list(self.idle):
            self.drop(line)


def may_be_repeated(under_way: UnderWay) -> bool:
    """Whether the engine may get it once more, if it may have read it: as in `RoundTrip`, a read without a body."""
    exchange = under_way.exchange
    return exchange.method == "GET" and not exchange.bytes_in


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


def body_length(framing: http1.Framing, data: bytes, start: int) -> int:
    """How long the body behind the head is if all of it is here and nothing else, else _TO_COME or _UNUSUAL."""
    here = len(data) - start
    if framing.kind is not FramingKind.CHUNKED:
        length = framing.length if framing.kind is FramingKind.LENGTH else 0
        return here if here == length else _TO_COME if here < length else _UNUSUAL
    body = http1.ChunkedBody()
    try:
        length = sum(map(len, body.feed(memoryview(data)[start:])))
    except BadRequest:
        return _UNUSUAL  # lawful: the plain way reads it again, and ends the exchange
    if not body.done:
        return _TO_COME
    return length if body.consumed == here else _UNUSUAL
