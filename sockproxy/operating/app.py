"""Composition: from a Config to a running proxy, its signals, reload and drain. Knows `service`, which knows everybody.

Owns the order of starting and stopping. Begin at `serve`. What runs is a `Service`.
SIGTERM and SIGINT drain: no new connections, what is under way is finished up to a limit, the audit is flushed, exit 0.
SIGHUP takes the policies anew from the configuration (a bad one keeps the old) and reopens the audit files; so does a change of
the files that it was read from, but for the audit files.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import uvloop

from sockproxy.forwarding.address import Address
from sockproxy.forwarding.downstream.binding import SocketFile, bind, remove_socket_files, socket_files
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.operating.admin.live import Sights, merge_looks
from sockproxy.operating.admin.streams import StreamControl, end_stream, merge_streams, tell_streams
from sockproxy.operating.config import Config, Files
from sockproxy.operating.lean import load_lean
from sockproxy.operating.reloading import Load
from sockproxy.operating.service import Service, Sockets, load_tls
from sockproxy.operating.sizes import Round
from sockproxy.operating.twins import PYTHON
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
from sockproxy.recording.metrics import Registry, Sum, tell

log = logging.getLogger("sockproxy")
_DESCRIPTORS_OF_OUR_OWN = 64  # audit files, listeners, epolls, libraries


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
    sizes = None if config.recordings is None else Round(count)

    def work(number: int, channel: socket.socket) -> int:
        party = None if sizes is None else sizes.party(number)

        def on_started(service: Service) -> None:
            answer_parent(channel, _answers(service), end_with_parent)
            if party is not None and service.recorder is not None:
                service.recorder.tell_others = party.tell
                party.listen(service.recorder.resized)

        def load_own(files: Files) -> Config:
            return _of_worker(load(files), number)

        uvloop.run(_run(_of_worker(config, number), load_own, sockets, on_started, files=files))
        return 0

    workers = fork_workers(count, work)
    if sizes is not None:
        sizes.close()
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
    load_lean("sockproxy.operating.admin.application")
    from sockproxy.operating.admin.application import Asked, make_application, start_admin

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
