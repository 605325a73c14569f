"""Who is on the express way: clients, each a `Caller`, and kept connections to the engine, each a `Line`.

Owns what each of them holds, and reads what has come for it. Must not know what becomes of anything but the usual (`express`).
Begin at `Caller.ready`, then `Caller.take` and `Line.ready`. The compiled twin does the same for them, and its state is here.
"""

import socket
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol

from sockproxy.exchange import Exchange
from sockproxy.forwarding.serving.gates import Gate, Heads, Known, heads_for
from sockproxy.forwarding.serving.shared import Proxy, Trip
from sockproxy.judging.identity import Peer, Principal
from sockproxy.judging.judge import Judgement
from sockproxy.wire.http1 import RequestHead

_READ_BYTES = 16 << 10  # a small answer or a head in one read; more costs more to allocate


class Outcome(Enum):
    """Why a connection is handed over to the plain way."""

    REQUEST = auto()  # there are bytes of a request
    ANSWER = auto()  # a request is on its way, and its answer is for the plain way
    REST = auto()  # an answer was sent in part only


class UnderWay(NamedTuple):
    """A request that was not known, but is judged, recorded and on its way on a caller's line (`direct`)."""

    exchange: Exchange
    head: RequestHead
    judgement: Judgement
    unsent: bytes  # what the line did not take of it


def may_be_repeated(under_way: UnderWay) -> bool:
    """Whether the engine may get it once more, if it may have read it: as in `RoundTrip`, a read without a body."""
    exchange = under_way.exchange
    return exchange.method == "GET" and not exchange.bytes_in


class Ways(Protocol):
    """Who serves them (`express.Express`, where it is said what these do)."""

    def take_line(self) -> "Line | None": ...

    def not_known(self, caller: "Caller", data: bytes) -> None: ...

    def interrupted(self, caller: "Caller", data: bytes) -> None: ...

    def answered(self, line: "Line", caller: "Caller", data: bytes) -> None: ...

    def line_failed(self, line: "Line") -> None: ...

    def drop(self, line: "Line") -> None: ...


class Line:
    """A kept connection to the engine. `held`: what has come of an answer that is not whole yet."""

    __slots__ = ("caller", "express", "held", "sock")

    def __init__(self, express: "Ways", sock: socket.socket) -> None:
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
        express: "Ways",
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
