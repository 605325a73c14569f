"""Composition: from a Config to a running proxy, its signals, reload and drain. The only module that knows everybody.

Owns the order of starting and stopping. Begin at `serve`; `Service` is what runs, and what the demo and tests start, too.
SIGTERM and SIGINT drain: no new connections, what is under way is finished up to a limit, the audit is flushed, exit 0.
SIGHUP takes the policies anew from the configuration (a bad one keeps the old) and reopens the audit files; so does a change of
the files that it was read from, but for the audit files.
"""

import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import uvloop

from sockproxy import __version__
from sockproxy.data import load_secrets
from sockproxy.errors import ConfigError, Finding
from sockproxy.exchange import Level
from sockproxy.forwarding.address import Address
from sockproxy.forwarding.connections import Connections
from sockproxy.forwarding.containers import Containers
from sockproxy.forwarding.deadlines import Deadlines
from sockproxy.forwarding.engine import Engine
from sockproxy.forwarding.handshakes import Handshakes
from sockproxy.forwarding.introductions import Introductions
from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.forwarding.listener import (
    Census,
    Enter,
    Listener,
    SocketFile,
    bind,
    remove_socket_files,
    socket_files,
)
from sockproxy.forwarding.shared import Entrance, Proxy
from sockproxy.forwarding.stream import HangupWatch
from sockproxy.forwarding.tls import ServerTls
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.compiling import policy_of_nobody
from sockproxy.judging.identity import Peer, Principal
from sockproxy.judging.policy import Mode, Policy
from sockproxy.operating.config import Config, Files, RecordingsConfig
from sockproxy.operating.known import load_catalogue, load_known_bodies, newest_api
from sockproxy.operating.lean import defer_client
from sockproxy.operating.live import Sights, Window, merge_looks
from sockproxy.operating.observers import Observers
from sockproxy.operating.reloading import Load, Reloading
from sockproxy.operating.saturation import limits_used
from sockproxy.operating.showing import Told
from sockproxy.operating.streams import StreamControl, end_stream, log_old_streams, merge_streams, tell_streams
from sockproxy.operating.trails import keep_up, needs_upkeep, open_trail, takes_spans
from sockproxy.operating.twins import PYTHON, find_twins
from sockproxy.operating.watching import FileWatch
from sockproxy.operating.workers import (
    END_STREAM,
    LOOK,
    METRICS,
    POLICIES,
    STREAMS,
    Answers,
    Inquiry,
    Worker,
    answer_parent,
    end_with_parent,
    fork_workers,
    supervise,
    trail_of,
)
from sockproxy.recording.keys import load_key, new_key
from sockproxy.recording.levels import LEVELS, Levels
from sockproxy.recording.metrics import Metrics, Registry, States, Sum, tell
from sockproxy.recording.redaction import Redactor, mark_by

if TYPE_CHECKING:
    from sockproxy.operating.apprentice import Apprentice
    from sockproxy.recording.terminals import Terminals

log = logging.getLogger("sockproxy")

_HEALTH_SECONDS = 10.0  # how old `sockproxy_engine_up` may be; Prometheus scrapes every 15 to 60
_SHIPPING_SECONDS = 3.0  # for what still waits for a collector at the end; stopping a container takes ten at most
_DESCRIPTORS_OF_OUR_OWN = 64  # audit files, listeners, epolls, libraries

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
        self.listeners = [
            Listener(
                *(name, sockets[name], self.census),
                self._enter(entrance),
                self.connections.send_away,
                self.metrics.limit_hit,
            )
            for name, entrance in self.entrances.items()
        ]
        self._chores: list[asyncio.Task[None]] = []
        self._shipping: list[asyncio.Task[None]] = []
        self.listener_configs = config.listeners  # with the clients of now
        self.window = Window(self.metrics, self.observers, self.trail, self._policies_in_use, self._loop.call_later)
        self._reloading = Reloading(config, self.tls, self.metrics, self._take, self.trail.reopen)

    def _enter(self, entrance: Entrance) -> Enter:
        enter, introduce, gate_of = self.connections.enter, self.introductions.begin, entrance.gate_of
        tls = self.tls.get(entrance.name)
        if tls is not None:
            begin, introduce_secured = partial(self.handshakes.begin, tls, gate_of), partial(self._introduce, entrance)
            return lambda sock, peer, principal, on_closed: begin(
                sock, peer, partial(on_closed, principal), introduce_secured
            )

        def enter_plain(
            sock: socket.socket, peer: Peer, principal: Principal, on_closed: Callable[[Principal], None]
        ) -> None:
            gate = entrance.for_all
            if gate is None and entrance.has_to_ask(peer):
                introduce(gate_of, sock, peer, principal, on_closed)
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
        from sockproxy.operating.overview import matrix

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


def bind_all(config: Config) -> dict[str, list[socket.socket]]:
    """The bound sockets of every listener, by its name. Raises OSError or LookupError with a text for people."""
    return {
        listener.name: bind(
            listener.address,
            mode=listener.mode,
            owner=listener.owner,
            group=listener.group,
            loopback_only=listener.tls is None and not listener.insecure,
        )
        for listener in config.listeners
    }


def files_of(sockets: Sockets) -> tuple[SocketFile, ...]:
    """The files of unix sockets that are ours to remove; those that were handed over are not."""
    own = [sock for bound in sockets.values() for sock in bound if "LISTEN_FDS" not in os.environ]
    return socket_files(own)


def serve(
    config: Config,
    load: Load,
    workers: int = 1,
    on_started: Callable[[Service], None] | None = None,
    learn: str | None = None,
    files: Files | None = None,
) -> int:
    """Runs until SIGTERM or SIGINT; the exit code. `load` reads the configuration anew; `files`: those that it was read from,
    which are watched. `on_started` is told when one worker serves. `learn`: the file of the policy that is learnt, by one
    worker only. Raises ConfigError, OSError, LookupError where it cannot start."""
    raise_descriptor_limit(config)
    load_tls(config)  # what is wrong with it is told here, and not by each worker
    sockets = bind_all(config)
    socket_paths = files_of(sockets)
    try:
        if workers > 1:
            return _serve_by_workers(config, load, sockets, workers, files)
        uvloop.run(_run(config, load, sockets, on_started, learn, files))
        return 0
    finally:
        # All is done: who asks again must not make it look like a failure.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        remove_socket_files(socket_paths)


async def _run(
    config: Config,
    load: Load,
    sockets: Sockets,
    on_started: Callable[[Service], None] | None = None,
    learn: str | None = None,
    files: Files | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    stop, asked_early = stop_signal(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked_early.set)
    async with running(config, sockets, learn) as service:
        watch: FileWatch | None = None

        def reload(changed: Sequence[str] = ()) -> None:
            read = service.reload(load, changed)
            if watch is not None:
                watch.take(read)

        def on_change(changed: list[str]) -> None:
            with suppress(RuntimeError):  # lawful: the loop has ended, and there is nothing left to be reloaded
                loop.call_soon_threadsafe(reload, changed)

        if files:
            watch = FileWatch(on_change)
            watch.take(files)
            watch.start()
        loop.add_signal_handler(signal.SIGHUP, reload)
        if asked_early.is_set():
            reload()
        if on_started is not None:
            on_started(service)
        # What was made until now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 100)
        await stop.wait()
        if watch is not None:
            watch.stop()
        log.info("draining", extra={"connections": service.connections.count})
    log.info("stopped")


def _serve_by_workers(config: Config, load: Load, sockets: Sockets, count: int, files: Files | None) -> int:
    def work(number: int, channel: socket.socket) -> int:
        def on_started(service: Service) -> None:
            answer_parent(channel, _answers(service), end_with_parent)

        def load_own(files: Files) -> Config:
            return _of_worker(load(files), number)

        uvloop.run(_run(_of_worker(config, number), load_own, sockets, on_started, files=files))
        return 0

    workers = fork_workers(count, work)
    for bound in sockets.values():
        for sock in bound:
            sock.close()  # the workers have them: who connects while they drain must not wait in a queue that nobody serves
    return 0 if uvloop.run(_supervise(config, workers)) else 1


def _answers(service: Service) -> Answers:
    """What a worker tells its parent."""
    return {
        METRICS: lambda: tell(service.registry),
        STREAMS: lambda: [tell_streams(service.connections)],
        END_STREAM: lambda id: [end_stream(service.connections, id)],
        LOOK: lambda: [service.window.look()],
        POLICIES: lambda version: [service.tell_policies(version)],
    }


def _of_worker(config: Config, number: int) -> Config:
    """What a worker is to do of it: all but the admin listener, with audit trails of its own."""
    audit = tuple(sink if sink.collector else replace(sink, file=trail_of(sink.file, number)) for sink in config.audit)
    return replace(config, admin=None, audit=audit)


async def _supervise(config: Config, workers: list[Worker]) -> bool:
    """The parent's part: the admin listener, and the workers' ends."""
    stop = stop_signal()
    loop = asyncio.get_running_loop()
    registry = Registry()
    ask = Inquiry(workers).ask
    Sum(ask, registry)
    streams = StreamControl(lambda: merge_streams(ask(STREAMS)), lambda id: any(ask(END_STREAM, id)))
    sights = Sights(lambda: merge_looks(ask(LOOK)), lambda version: ask(POLICIES, version)[0])
    hangups = HangupWatch(loop)
    engine = Engine(config.engine, config.limits, loop, hangups)

    async def readiness() -> tuple[bool, str]:
        return _readiness(config, stop.is_set(), await engine.ping())

    admin = None if config.admin is None else await _start_admin(config, registry, readiness, streams, sights)
    try:
        return await supervise(workers, stop)
    finally:
        hangups.close()
        if admin is not None:
            await admin[0]()


@asynccontextmanager
async def running(config: Config, sockets: Sockets, learn: str | None = None) -> AsyncIterator[Service]:
    """A service with its admin listener, drained at the end. Raises ConfigError, OSError where it cannot start."""
    service = Service(config, sockets, learn)
    await service.start()
    for listener in config.listeners:
        log.info(
            "listening",
            extra={
                "listener": listener.name,
                "address": str(listener.address),
                "policy": ",".join(listener.policy_names),
            }
            | ({"form": service.twins.name} if service.twins is not PYTHON else {}),
        )

    async def readiness() -> tuple[bool, str]:
        is_up = await service.engine.ping()
        service.metrics.engine_up(is_up)
        return _readiness(config, service.proxy.is_draining, is_up)

    end_admin = None
    try:
        if config.admin is not None:
            end_admin, service.admin = await _start_admin(
                config, service.registry, readiness, service.streams, service.sights
            )
        yield service
    finally:
        await service.drain()
        if end_admin is not None:
            await end_admin()


def _readiness(config: Config, is_draining: bool, is_up: bool) -> tuple[bool, str]:
    """Whether requests can be served now, and in one line why not."""
    if is_draining:
        return False, "draining"
    return is_up, "ready" if is_up else f"the engine at {config.engine} does not answer"


def run_until_done(main: Coroutine[Any, Any, int]) -> int:
    """Runs a coroutine in the loop that everything here is made for."""
    return uvloop.run(main)


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, from now on."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _start_admin(
    config: Config,
    registry: Registry,
    readiness: Callable[[], Awaitable[tuple[bool, str]]],
    streams: StreamControl,
    sights: Sights,
) -> tuple[Callable[[], Awaitable[None]], Address]:
    """Serves the admin listener; what ends it, and its address with the port that the kernel chose, if it was asked to."""
    # Imported here and not above: a third of all that takes time and memory at start, which only an admin listener needs.
    defer_client()
    from sockproxy.operating.admin import Asked, make_application, start_admin

    address = config.admin
    if address is None:
        raise RuntimeError("there is no admin listener")
    sockets = bind(address, mode=0o600)
    if address.scheme == "tcp":
        address = address._replace(port=sockets[0].getsockname()[1])
    files = socket_files(sockets)
    application = make_application(Asked(registry, readiness, streams, sights), config.admin_token_file, address.host)
    runner = await start_admin(application, sockets)
    log.info("admin", extra={"address": str(address)})

    async def end() -> None:
        await runner.cleanup()
        remove_socket_files(files)

    return end, address


def raise_descriptor_limit(config: Config) -> None:
    """Raises the soft limit of open files to what the connections need, as far as the hard limit lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * config.limits.connections_max + config.limits.engine_idle_connections_max + _DESCRIPTORS_OF_OUR_OWN
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        # lawful: only root may raise the hard limit; what is there is enough for fewer connections
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        log.info("few-descriptors", extra={"wanted": wanted, "limit": min(wanted, hard)})
