"""Service: one process that serves, put together of all its parts.

Owns which parts there are and how they know of one another. Must not know processes, signals or the command line (`app`).
Begin at `Service`.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

from sockproxy import __version__
from sockproxy.data import load_secrets
from sockproxy.errors import ConfigError, Finding
from sockproxy.exchange import Level
from sockproxy.forwarding.deadlines import Deadlines
from sockproxy.forwarding.downstream.handshakes import Handshakes
from sockproxy.forwarding.downstream.introductions import Introductions
from sockproxy.forwarding.downstream.listener import (
    Arrival,
    Census,
    Enter,
    Listener,
)
from sockproxy.forwarding.downstream.tls import ServerTls
from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.serving.connections import Connections
from sockproxy.forwarding.serving.gates import Entrance
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.forwarding.upstream.containers import Containers
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.compiling import policy_of_nobody
from sockproxy.judging.identity import Peer
from sockproxy.judging.policy import Mode, Policy
from sockproxy.operating.admin.live import Sights, Window
from sockproxy.operating.admin.showing import Told
from sockproxy.operating.admin.streams import StreamControl, end_stream, log_old_streams, tell_streams
from sockproxy.operating.config import Config, Files, RecordingsConfig
from sockproxy.operating.known import load_catalogue, load_known_bodies, newest_api
from sockproxy.operating.observers import Observers
from sockproxy.operating.reloading import Load, Reloading
from sockproxy.operating.saturation import limits_used
from sockproxy.operating.trails import keep_up, needs_upkeep, open_trail, takes_spans
from sockproxy.operating.twins import find_twins
from sockproxy.recording.keys import load_key, new_key
from sockproxy.recording.levels import LEVELS, Levels
from sockproxy.recording.metrics import Metrics, Registry, States
from sockproxy.recording.redaction import Redactor, mark_by

if TYPE_CHECKING:
    from sockproxy.operating.apprentice import Apprentice
    from sockproxy.recording.terminals import Terminals

log = logging.getLogger("sockproxy")
_HEALTH_SECONDS = 10.0  # how old `sockproxy_engine_up` may be; Prometheus scrapes every 15 to 60
_SHIPPING_SECONDS = 3.0  # for what still waits for a collector at the end; stopping a container takes ten at most
Sockets = Mapping[str, list[socket.socket]]
"""The bound sockets of each listener, by its name."""


class Service:
    """One process that serves. `start`, then `drain`, in the loop that it was made in."""

    def __init__(self, config: Config, sockets: Sockets, learn: str | None = None) -> None:
        """`sockets`: the bound sockets of each listener, by its name. `learn`: the file of the policy that is learnt.
        Raises ConfigError if an audit file is unusable."""
        self.twins = twins = find_twins()
        loop = self._loop = asyncio.get_running_loop()
        self.config = config
        self.admin = config.admin  # with the port that the kernel chose, if it was asked to
        self.registry = Registry()
        self.hangups = HangupWatch(loop)
        self.deadlines = Deadlines(loop)
        self.engine = Engine(config.engine, config.limits, loop, self.hangups)
        self.metrics = Metrics(
            self.registry,
            version=__version__,
            limits=[field.name for kind in (Limits, ClientLimits) for field in fields(kind)],
            sinks=[audit.file for audit in config.audit],
            states=self._states(),
            count_served=twins.count_served,
        )
        self.redactor = Redactor(load_secrets(), mark_by(load_audit_key(config)))
        levels = levels_of(config, self.redactor)
        self.trail, self._shippers = open_trail(
            config.audit, self._flush_soon, self.metrics.audit_events, twins.lines, levels
        )
        id_prefix = secrets.token_hex(6)
        self.recorder = _recorder(config.recordings)
        self.observers = Observers(self.trail, self.metrics, id_prefix, self._flush_soon, self.recorder, levels)
        self.apprentice = _apprentice(learn) if learn is not None else None
        self.proxy = Proxy(
            load_catalogue(),
            load_known_bodies,
            self.engine,
            config.limits,
            self.deadlines,
            self.apprentice.beside(self.observers) if self.apprentice else self.observers,
            id_prefix,
            redact_target=self.redactor.target,
            extents=levels,
            # A sink that may refuse reads has to have the line of each before it is forwarded.
            has_express=learn is None and all(audit.on_failure != "deny-all" for audit in config.audit),
            recorder=self.recorder,
            has_tracing=any(takes_spans(audit.collector) for audit in config.audit),
        )
        self.readiness = twins.make_readiness(loop)
        self.connections = Connections(self.proxy, self.readiness)
        nobody = policy_of_nobody(self.proxy.catalogue, Mode.ENFORCE if learn is None else Mode.SHADOW)
        self.tls = load_tls(config)
        self.handshakes = Handshakes(self.proxy, self.connections)
        self.containers = Containers(self.engine, config.limits)
        self.introductions = Introductions(self.proxy, self.connections, self.containers)
        self.entrances = {
            one.name: Entrance(one.name, one.clients, nobody, has_express=one.tls is None) for one in config.listeners
        }
        self.census = Census(config.limits)
        self.listeners = self._listen(sockets)
        self._chores: list[asyncio.Task[None]] = []
        self._shipping: list[asyncio.Task[None]] = []
        self.listener_configs = config.listeners  # with the clients of now
        self.window = Window(self.metrics, self.observers, self.trail, self._policies_in_use, self._loop.call_later)
        self._reloading = Reloading(config, self.tls, self.metrics, self._take, self.trail.reopen)

    def _listen(self, sockets: Sockets) -> list[Listener]:
        send_away, limit_hit = self.connections.send_away, self.metrics.limit_hit
        return [
            Listener(name, sockets[name], self.census, self._enter(entrance), send_away, limit_hit)
            for name, entrance in self.entrances.items()
        ]

    def _enter(self, entrance: Entrance) -> Enter:
        enter, introduce, gate_of = self.connections.enter, self.introductions.begin, entrance.gate_of
        tls = self.tls.get(entrance.name)
        if tls is not None:
            return partial(self.handshakes.begin, tls, gate_of, introduce=partial(self._introduce, entrance))

        def enter_plain(arrival: Arrival) -> None:
            sock, peer, principal, on_closed = arrival
            gate = entrance.for_all
            if gate is None and entrance.has_to_ask(peer):
                introduce(gate_of, arrival)
            else:
                enter(sock, gate or gate_of(peer), principal, on_closed, peer)

        return enter_plain

    async def _introduce(self, entrance: Entrance, peer: Peer, came_at: float) -> Peer:
        return await self.containers.introduce(peer, came_at) if entrance.has_to_ask(peer) else peer

    def _states(self) -> States:
        """What the metrics ask of all others, each time that somebody wants to see them."""
        return States(
            before_collect=self._tell_served,
            express_in_flight=lambda: self.connections.express_untold_count,
            engine_is_reachable=lambda: self.engine.is_reachable,
            engine_connections=self._engine_connections,
            client_connections=lambda: self.census.total,
            limits_used=lambda: limits_used(
                self.config.limits, self.census, self.handshakes, self.proxy, self.entrances.values()
            ),
            policies=lambda: [policy for entrance in self.entrances.values() for policy in entrance.policies],
            certificates=lambda: {name: tls.not_after for name, tls in self.tls.items()},
        )

    def _tell_served(self) -> None:
        self.observers.tell_served()

    def _engine_connections(self) -> dict[str, int]:
        connections = self.connections
        return {
            "idle": self.engine.idle_count + connections.express_idle_count,
            "busy": self.engine.busy_count + connections.express_busy_count,
        }

    def _flush_soon(self, flush: Callable[[], None]) -> None:
        self._loop.call_soon(flush)

    async def start(self) -> None:
        """Accepts, and keeps an eye on the engine."""
        for sink, cut in self.trail.cut_bytes.items():
            log.warning("audit-line-cut", extra={"sink": sink, "bytes": cut})
        for sink, (first, last) in self.trail.missing_lines.items():
            log.error("audit-lines-missing", extra={"sink": sink, "first_seq": first, "last_seq": last})
        if self.apprentice is not None:
            log.warning("learning", extra={"file": self.apprentice.file, "denied": "nothing"})
        if needs_upkeep(self.config.audit):
            self.trail.flush()  # signs what a process before us could not, and moves away what it has filled
        for listener in self.listeners:
            listener.start(self.readiness)
        self.metrics.config_reload(success=True, time=time.time())
        self._chores.append(self._loop.create_task(self._watch_engine()))
        self._shipping = [self._loop.create_task(shipper.run()) for shipper in self._shippers]
        for task in self._shipping:
            task.add_done_callback(lambda ended: ended.cancelled() or ended.result())  # lets a fault be seen
        if needs_upkeep(self.config.audit):
            syncs = any(audit.fsync != "never" for audit in self.config.audit)
            self._chores.append(self._loop.create_task(keep_up(self.trail, self.metrics.audit_events, syncs=syncs)))

    async def drain(self) -> None:
        """Stops accepting, lets what is under way finish up to `drain_seconds`, flushes the audit."""
        for listener in self.listeners:
            listener.stop_accepting()
        self.handshakes.cancel()
        self.introductions.cancel()
        self.connections.drain()
        for chore in self._chores:
            chore.cancel()
        await self.connections.finished(self.config.limits.drain_seconds)
        self.engine.close()
        self.deadlines.close()
        self.hangups.close()
        self.readiness.end()
        self.observers.tell_served()
        self.trail.close()
        for shipper, task in zip(self._shippers, self._shipping, strict=True):
            await shipper.finish(task, _SHIPPING_SECONDS)
        self._save_learnt()

    def reload(self, load: Load, changed: Sequence[str] = ()) -> Files:
        """Takes a configuration anew; the files that were read."""
        self._save_learnt()
        return self._reloading.reload(load, changed)

    @property
    def streams(self) -> StreamControl:
        """What may be done with the open ones."""
        return StreamControl(partial(tell_streams, self.connections), partial(end_stream, self.connections))

    @property
    def sights(self) -> Sights:
        """What those who look may ask."""
        return Sights(self.window.look, self.tell_policies)

    def tell_policies(self, version: str = "") -> Told:
        """The policies in use by all operations of an API version ("": the newest known)."""
        # Imported here: only those who look need it.
        from sockproxy.operating.admin.overview import matrix

        return matrix(
            self.listener_configs, self.proxy.catalogue, ApiVersion.parse(version) if version else newest_api()
        )

    def _policies_in_use(self) -> dict[str, Policy]:
        return {client.policy.name: client.policy for one in self.listener_configs for client in one.clients}

    def _save_learnt(self) -> None:
        if self.apprentice is not None:
            self.apprentice.save()

    def _take(self, config: Config) -> int:
        self.listener_configs = config.listeners
        for listener in config.listeners:
            if listener.name in self.entrances:
                self.entrances[listener.name].take(listener.clients)
        self.connections.lead(lambda peer: self.entrances[peer.listener].gate_of(peer))
        return log_old_streams(self.connections)

    async def _watch_engine(self) -> None:
        was_up: bool | None = None
        while True:
            is_up = await self.engine.ping()
            self.metrics.engine_up(is_up)
            if is_up is not was_up:
                log.log(
                    logging.INFO if is_up else logging.ERROR,
                    "engine-up" if is_up else "engine-down",
                    extra={"engine": str(self.config.engine)},
                )
            was_up = is_up
            self._reloading.refresh_tls()
            self.trail.flush()  # a sink that failed may work again, and need not wait for the next request
            self._save_learnt()
            await asyncio.sleep(_HEALTH_SECONDS)


def levels_of(config: Config, redactor: Redactor) -> Levels | None:
    """What decides how much is recorded; None where it is the facts of every request."""
    of_sinks = {sink.file: LEVELS[sink.level] for sink in config.audit}
    if not config.audit_rules and all(level is Level.METADATA for level in of_sinks.values()):
        return None
    return Levels(config.audit_rules, of_sinks, redactor, load_known_bodies)


def load_audit_key(config: Config) -> bytes:
    """The key by which secrets are marked. Raises OSError or ConfigError for one that was asked for and cannot be had."""
    file, trail = config.audit_key
    is_stream = trail and os.path.exists(trail) and not os.path.isfile(trail)
    if not file or is_stream:
        return new_key()
    try:
        return load_key(file)
    except OSError as error:
        if not trail:
            raise
        # Lawful: marks hide as much; only those of another process are others.
        log.warning("audit-key-not-kept", extra={"file": file, "reason": str(error)})
        return new_key()


def _apprentice(file: str) -> "Apprentice":
    # Imported here, since it brings the reading of trails along, which nobody needs who does not learn.
    from sockproxy.operating.apprentice import Apprentice

    return Apprentice(file, load_catalogue())


def _recorder(config: RecordingsConfig | None) -> "Terminals | None":
    if config is None:
        return None
    # Imported here, since most proxies record no sessions.
    from sockproxy.recording.terminals import Terminals

    try:
        return Terminals(config.directory, config.bytes_max, ends_session=config.ends_session)
    except OSError as error:
        message = f"cannot be made: {error.strerror or error}"
        raise ConfigError((Finding(config.directory, 0, "recordings.directory", message),)) from error


def load_tls(config: Config) -> dict[str, ServerTls]:
    """The TLS of those listeners that have it, by their names. Raises OSError with a text for people."""
    return {listener.name: ServerTls(listener.tls) for listener in config.listeners if listener.tls is not None}
