"""What all connections of a process share: the proxy's parts, and whom it tells and asks.

Owns these values and nothing that is done with them. Must not know how a connection is served (`proxy`, `express`,
`roundtrip`), nor what an observer does. Begin at `Proxy`.
"""

import time
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from sockproxy.exchange import Exchange, Extent, Served, Stage, exchange_id
from sockproxy.forwarding.deadlines import Deadlines
from sockproxy.forwarding.holding import Holding
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.known import KnownAnswer
from sockproxy.forwarding.turns import Turns
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.forwarding.upstream.hostpaths import HostPaths
from sockproxy.judging.catalogue import Catalogue, Classified
from sockproxy.judging.identity import Peer, Principal
from sockproxy.judging.payload import Bodies
from sockproxy.judging.policy import Record

INQUIRIES_MAX = 32
"""Requests for which the engine is asked at a time, so that nobody keeps it busy with these alone. Others wait; where they wait
too long, `inquiry_seconds` ends it."""
INQUIRIES_OF_ONE_MAX = 8
"""Of these, those of one principal: an inspect of a container that hangs takes all of `inquiry_seconds`."""


class Observers(Protocol):
    """What is told of every exchange: `decided`, which comes before the first byte goes to the engine and may raise
    AuditRefused, and `completed`. Or, on the express way, `served` alone, with what `account` made of a like exchange."""

    def decided(self, exchange: Exchange) -> None: ...

    def completed(self, exchange: Exchange) -> None: ...

    def account(self, exchange: Exchange) -> object: ...

    def served(self, served: Served) -> None: ...

    def limit_hit(self, limit: str) -> None: ...


class Recording(Protocol):
    """A session that is being recorded."""

    @property
    def is_cut(self) -> bool: ...

    @property
    def has_input(self) -> bool: ...

    def output(self, data: bytes) -> None: ...

    def input(self, data: bytes) -> None: ...


class Recorder(Protocol):
    """Who records sessions. `begin` raises OSError where that is not possible; `ends_session`: what cannot be recorded any more
    has to end."""

    ends_session: bool

    def begin(self, exchange: Exchange, record: Record) -> Recording: ...

    def end(self, exchange: Exchange, recording: Any) -> None: ...


class Trip(Protocol):
    """A request that is on its way, as others may know of it."""

    @property
    def exchange(self) -> Exchange: ...

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...

    def end(self, detail: str) -> None: ...


class Extents(Protocol):
    """What is to be recorded of an exchange beyond its facts, or less: `may_tell_*` come before it is decided."""

    def may_tell_body(self, classified: Classified) -> bool: ...

    def may_tell_answer(self, classified: Classified) -> bool: ...

    def extent_of(self, exchange: Exchange, peer: Peer | None) -> Extent: ...


class Proxy:
    """What all connections share. `is_draining`: what is under way is finished, and nothing new begins."""

    def __init__(
        self,
        catalogue: Catalogue,
        load_bodies: Callable[[], Bodies],
        engine: Engine,
        limits: Limits,
        deadlines: Deadlines,
        observers: Observers,
        id_prefix: str,
        *,
        redact_target: Callable[[str], str],
        extents: Extents | None = None,
        has_express: bool = True,
        recorder: Recorder | None = None,
        has_tracing: bool = False,
    ) -> None:
        """`redact_target`: a canonical target as it may be told. `extents`: asked where more than facts may be recorded, or
        less. `has_express`: reads may be recorded after they were forwarded. `recorder`: of sessions, where a rule says so.
        `has_tracing`: exchanges are spans, and the engine is told so."""
        self.catalogue = catalogue
        self.load_bodies = load_bodies  # asked for where a policy looks inside: most need none of it
        self.engine = engine
        self.limits = limits
        self.deadlines = deadlines
        self.loop = engine.loop  # kept, since asking for it costs a system call
        self.hangups = engine.hangups
        self.observers = observers
        self.redact_target = redact_target
        self.extents = extents
        self.has_express = has_express
        self.recorder = recorder
        self.has_tracing = has_tracing
        self.is_draining = False
        self.waiting: set[Stream] = set()  # clients between two requests of the plain way
        self.ended_tunnels: set[Relay] = set()  # what clients may still send where the engine has ended its side
        self.inquiries = Turns(INQUIRIES_MAX, INQUIRIES_OF_ONE_MAX)
        self.host_paths = HostPaths()
        self.holding = Holding(limits.judged_bodies_bytes_max, limits.judged_body_bytes_max)
        self.known_answers: dict[bytes, KnownAnswer] = {}
        self._id_prefix = id_prefix
        self.numbers = count(1)  # of the exchanges

    def new_exchange(self, gate: Gate, principal: Principal) -> Exchange:
        """The record of the request whose head has just come."""
        return Exchange(
            exchange_id(self._id_prefix, next(self.numbers)), gate.name, principal, time.monotonic(), time.time()
        )

    def complete(self, exchange: Exchange, stage: Stage) -> None:
        """Ends an exchange and tells the observers."""
        exchange.advance(stage)
        exchange.completed_at = time.monotonic()
        self.observers.completed(exchange)

    def drain(self) -> None:
        """Begins nothing new: connections without a request are closed, and tunnels that nothing comes out of any more."""
        self.is_draining = True
        for client in list(self.waiting):
            client.expire()
        for rest in list(self.ended_tunnels):
            rest.stop()
