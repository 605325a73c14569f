"""Gates: by which of them a client comes in, and what holds there: a policy, a meter, and the heads that were judged by it.

Owns who comes in by which gate, and that its memory does not outlive its policy. Must not know what may be remembered
(`known`), nor how a request is judged. Begin at `Entrance`, then `Gate`.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sockproxy.forwarding.client import Client
from sockproxy.forwarding.limits import ClientLimits
from sockproxy.forwarding.meter import Meter, MeteredHeads
from sockproxy.judging.clients import Match, asks_engine, first_of
from sockproxy.judging.identity import Peer, Principal
from sockproxy.judging.judge import Judgement
from sockproxy.judging.policy import Policy
from sockproxy.wire.http1 import RequestHead

_UNLIMITED = ClientLimits()


class Known(NamedTuple):
    """What the plain way found out about a head, in a form that needs no more work."""

    head: RequestHead
    judgement: Judgement
    request: bytes  # the canonical head, as it was sent to the engine
    account: object  # what the observers made of it, for `served`


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
