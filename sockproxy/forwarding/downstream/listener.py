"""Listener: where clients come in.

Owns accepting, and the limits of connections. Must not know how sockets are bound (`binding`), what is known of a peer
(`peers`), nor what is served: it hands each connection to `enter`. Begin at `Listener`.
"""

import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sockproxy.forwarding.downstream.peers import gather_peer
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.forwarding.moving.sockets import keep_alive
from sockproxy.judging.identity import Peer, Principal, identify

log = logging.getLogger(__name__)

_BACKLOG = 4096  # a burst of clients waits in the kernel; it takes what net.core.somaxconn allows


class Arrival(NamedTuple):
    """A client that has come in. `on_closed` is told once it has gone, and as whom it was counted."""

    sock: socket.socket
    peer: Peer
    principal: Principal
    on_closed: Callable[[Principal], None]

    def leave(self) -> None:
        """Tells that it has gone."""
        self.on_closed(self.principal)

    def drop(self) -> None:
        """Closes it, unserved."""
        self.sock.close()
        self.leave()


Enter = Callable[[Arrival], None]
SendAway = Callable[[socket.socket, str], None]


class Census:
    """How many connections are open, in all and by principal, over all listeners."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_principal: Counter[str] = Counter()
        self.total = 0

    def enter(self, principal: Principal) -> str | None:
        """Counts a connection; or names the limit that forbids it, and counts nothing."""
        if self.total >= self._limits.connections_max:
            return "connections_max"
        if self._by_principal[principal.key] >= self._limits.connections_per_principal_max:
            return "connections_per_principal_max"
        self.total += 1
        self._by_principal[principal.key] += 1
        return None

    def leave(self, principal: Principal) -> None:
        """Counts a connection that has ended."""
        self.total -= 1
        self._by_principal[principal.key] -= 1
        if not self._by_principal[principal.key]:
            del self._by_principal[principal.key]

    def held(self) -> dict[str, tuple[int, int]]:
        """Limit -> how many places are taken, and how many there are; of a principal's those of who has most."""
        limits, most = self._limits, max(self._by_principal.values(), default=0)
        return {
            "connections_max": (self.total, limits.connections_max),
            "connections_per_principal_max": (most, limits.connections_per_principal_max),
        }


class Listener:
    """Accepts connections on bound sockets, as long as there is room for them."""

    def __init__(
        self,
        name: str,
        sockets: list[socket.socket],
        census: Census,
        enter: Enter,
        send_away: SendAway,
        limit_hit: Callable[[str], None],
    ) -> None:
        """`enter` serves a connection; `send_away` answers one that is above a limit, whose name it is told."""
        self.name = name
        self._sockets = sockets
        self._census = census
        self._enter = enter
        self._send_away = send_away
        self._limit_hit = limit_hit
        self._readiness: Readiness | None = None
        self._spare = -1

    def start(self, readiness: Readiness) -> None:
        """Begins to accept."""
        self._readiness = readiness
        self._take_spare()
        for sock in self._sockets:
            sock.setblocking(False)
            sock.listen(_BACKLOG)
            readiness.watch(sock, partial(self._accept, sock))

    def stop_accepting(self) -> None:
        """Accepts nothing more, and closes the sockets."""
        if self._readiness is not None:
            for sock in self._sockets:
                self._readiness.forget(sock)  # closing is not enough: systemd, or another worker, holds it open, too
                sock.close()
            self._give_up_spare()
            self._readiness = None

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, address = listening.accept()
        except BlockingIOError:
            return  # lawful: another worker was faster, or the client has gone again
        except OSError as error:
            self._accept_no_more(listening, error)
            return
        try:
            client.setblocking(False)
            if client.family != socket.AF_UNIX:
                keep_alive(client)
            peer = gather_peer(self.name, client, address)
        except OSError as error:
            log.warning("peer-unknown", extra={"listener": self.name, "reason": str(error)})
            client.close()  # lawful: who is gone before it is known, is not served
            return
        principal = identify(peer)
        limit = self._census.enter(principal)
        if limit is None:
            self._enter(Arrival(client, peer, principal, self._census.leave))
        else:
            self._limit_hit(limit)
            self._send_away(client, limit)

    def _accept_no_more(self, listening: socket.socket, error: OSError) -> None:
        """Without descriptors, whoever waits is cut off: otherwise the socket would be ready for ever, and the loop busy."""
        log.warning("accept-failed", extra={"listener": self.name, "reason": str(error)})
        self._give_up_spare()
        try:
            listening.accept()[0].close()
        except OSError:
            pass  # lawful: nobody waits any more
        finally:
            self._take_spare()

    def _take_spare(self) -> None:
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = -1  # lawful: another process was faster; it is tried again with the next who waits

    def _give_up_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
