"""What all connections of a process share: the proxy's parts, its listeners' clients, and what was learnt of heads.

Owns these values and nothing that is done with them. Must not know how a connection is served (`proxy`, `express`,
`roundtrip`), nor what an observer does. Begin at `Proxy`.
"""

import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

from sockproxy.exchange import Exchange, Extent, Served, Stage, exchange_id
from sockproxy.forwarding.client import Client
from sockproxy.forwarding.deadlines import Deadlines
from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.forwarding.meter import Meter, MeteredHeads
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.turns import Turns
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.forwarding.upstream.hostpaths import HostPaths
from sockproxy.judging.catalogue import Catalogue, Classified
from sockproxy.judging.clients import Match, asks_engine, first_of
from sockproxy.judging.identity import Peer, Principal
from sockproxy.judging.judge import Judgement
from sockproxy.judging.payload import Bodies
from sockproxy.judging.policy import Policy, Record
from sockproxy.wire import http1
from sockproxy.wire.http1 import RequestHead

_UNLIMITED = ClientLimits()

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


class Known(NamedTuple):
    """What the plain way found out about a head, in a form that needs no more work."""

    head: RequestHead
    judgement: Judgement
    request: bytes  # the canonical head, as it was sent to the engine
    account: object  # what the observers made of it, for `served`


class KnownAnswer(NamedTuple):
    """What the plain way would make of the engine's head: the head for the client, and the framing behind it."""

    head: bytes
    status: int
    framing: http1.Framing


class Gate:
    """Where a connection came in: the listener's name, the policy that holds there now for these of its clients, and the
    heads that were judged by it (see `express`)."""

    __slots__ = ("_policy", "known", "may_learn", "meter", "name", "seen")

    def __init__(self, name: str, policy: Policy, meter: Meter | None = None, *, has_express: bool = True) -> None:
        """`meter`: of those whose requests are limited."""
        self.name = name
        self.meter = meter
        # How many are under way, the express way does not count: it would cost all who need it not.
        self.may_learn = has_express and (meter is None or not meter.limits.concurrent)
        self._policy = policy
        self.known: dict[bytes, Known] = {}
        self.seen: set[bytes] = set()

    @property
    def policy(self) -> Policy:
        """What holds here."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self.known.clear()
        self.seen.clear()


class Heads(Protocol):
    """Where the express way looks a head up: the memory of a gate, or what takes a token first."""

    def get(self, head: bytes, /) -> Known | None: ...


def heads_for(gate: Gate, principal: Principal) -> Heads:
    """The same for a principal."""
    return gate.known if gate.meter is None else MeteredHeads(gate.known, gate.meter, principal.key)


class Entrance:
    """A listener's clients: who comes in by which gate. There is one more gate, for nobody of them."""

    def __init__(self, name: str, clients: Sequence[Client], nobody: Policy, *, has_express: bool = True) -> None:
        """`nobody`: the policy for those who are none of the clients. `has_express`: its connections are bare sockets."""
        self.name = name
        self._has_express = has_express
        self._for_nobody = Gate(name, nobody)
        self._gates: list[tuple[Match, Gate]] = []
        self.for_all: Gate | None = None  # where nobody has to be told from anybody
        self._meters: dict[tuple[Match, ClientLimits], Meter] = {}
        self.take(clients)

    def take(self, clients: Sequence[Client]) -> None:
        """From now on these are the clients; those that are connected have to be led to their gates anew."""
        old = self._meters
        self._meters = {
            (client.match, client.limits): old.get((client.match, client.limits))
            or Meter(client.limits, time.monotonic)
            for client in clients
            if client.limits != _UNLIMITED
        }
        self._gates = [(client.match, self._gate(client)) for client in clients]
        self.for_all = next((gate for match, gate in self._gates[:1] if not match.asked), None)
        self.asks_engine = frozenset[str]().union(*(asks_engine(client.match) for client in clients))

    @property
    def policies(self) -> list[Policy]:
        """What holds for its clients."""
        return [gate.policy for _, gate in self._gates]

    @property
    def meters(self) -> list[Meter]:
        """Of those clients that are limited."""
        return list(self._meters.values())

    def _gate(self, client: Client) -> Gate:
        meter = self._meters.get((client.match, client.limits))
        return Gate(self.name, client.policy, meter, has_express=self._has_express)

    def has_to_ask(self, peer: Peer) -> bool:
        """Whether the engine has to say who a peer is before it is known by which gate it comes in."""
        is_open = peer.kind in self.asks_engine and not peer.is_introduced
        return is_open and self.gate_of(peer) is self._for_nobody

    def gate_of(self, peer: Peer) -> Gate:
        """The gate of the first client whose match holds."""
        at = first_of((match for match, _ in self._gates), peer)
        return self._for_nobody if at is None else self._gates[at][1]


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
        self.held_bytes_max = 0  # what the bodies that are being held may come to
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
