"""Express: the fast twin of the usual request, a read that was seen before and is answered at once.

Owns a way through the proxy on bare sockets, without a task, a transport, a parser or an object per request. It changes nothing
of what is decided, forwarded or recorded: what it knows was learnt from the plain way (`proxy`, `roundtrip`), byte for byte
(`known`), and whatever is not exactly the usual it hands over to the plain way, in the middle of the exchange if need be. Every
connection begins here, as a `Caller`, and may come back between two requests. Begin at `Express.enter`, then `callers`.

hot: 79 us of CPU for a small GET by the plain way, 14 by this one (benchmarks, 16 connections); a test drives both with
the same dialogues and compares what the engine saw, what the client got and what was recorded.
"""

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from math import inf

from sockproxy.exchange import Stage
from sockproxy.forwarding.meter import MeteredHeads
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.forwarding.serving.callers import Caller, Line, Outcome, may_be_repeated
from sockproxy.forwarding.serving.known import TO_COME, UNUSUAL, KnownAnswer, body_length, learn_answer
from sockproxy.forwarding.serving.shared import Proxy

ANSWER_BYTES_MAX = 64 << 10
"""An answer that does not come in one piece is waited for up to this size; a longer one is relayed by the plain way."""


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
        answer = proxy.known_answers.get(head) or learn_answer(proxy.known_answers, head, proxy.limits.fields_max)
        length = UNUSUAL if answer is None else body_length(answer.framing, data, end)
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

    def _unusual(self, line: Line, caller: Caller, data: bytes, answer: KnownAnswer | None, length: int) -> None:
        under_way = caller.under_way
        if answer is None or under_way is None or length < 0:
            self._not_whole(line, caller, data, may_come=length == TO_COME)
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
