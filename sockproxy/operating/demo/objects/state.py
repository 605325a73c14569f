"""What there is on the demo engine: images, containers, execs, networks, volumes, and how they are found.

Owns the tables, the lookup rules (id, name, prefix of an id) and the tasks of running programs. Must not know HTTP nor
the JSON of an answer (`describe`). What happens to the objects is `lifecycle`'s. Begin at `State`.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from sockproxy.operating.demo.objects import refusals
from sockproxy.operating.demo.objects.bounds import Bounds
from sockproxy.operating.demo.objects.events import EventLog
from sockproxy.operating.demo.objects.images import Image, Reference, parse_reference
from sockproxy.operating.demo.objects.journal import Journal
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.programs.files import Files
from sockproxy.operating.demo.programs.pipes import Bell
from sockproxy.operating.demo.programs.process import Process

T = TypeVar("T")
Json = dict[str, Any]
Status = Literal["created", "running", "paused", "restarting", "exited"]
PREDEFINED_NETWORKS = {"bridge": "bridge", "host": "host", "none": "null"}
"""Name -> driver; they cannot be removed."""


class Endpoint(NamedTuple):
    """A container's place in a network."""

    id: str
    address: str
    aliases: tuple[str, ...] = ()


@dataclass(slots=True)
class Container:
    """One container. `process` is the one that runs or, while none does, the next: clients may attach before the start.

    `ends` counts how often its program has ended; `bell` rings for every change of status.
    """

    id: str
    name: str
    created_ns: int
    image: Image
    image_name: str
    config: Json
    host_config: Json
    files: Files
    journal: Journal
    process: Process = field(init=False)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    status: Status = "created"
    execs: list[Process] = field(default_factory=list)
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    fault: str = ""
    ends: int = 0
    restarts: int = 0
    restart: asyncio.TimerHandle | None = None
    is_stopped_by_hand: bool = False
    is_removed: bool = False
    next_pid: int = 1
    bell: Bell = field(default_factory=Bell)

    @property
    def is_running(self) -> bool:
        return self.status in ("running", "paused")

    def running_process(self) -> Process:
        """Raises Refused."""
        if not self.is_running:
            raise refusals.not_running(self.id)
        return self.process

    def cancel_restart(self) -> None:
        if self.restart:
            self.restart.cancel()
            self.restart = None
            self.change("exited")

    def change(self, status: Status) -> None:
        self.status = status
        self.bell.ring()


@dataclass(slots=True)
class Exec:
    """A program to be run in a container. `process` is there once it was started."""

    id: str
    container: Container
    config: Json
    process: Process | None = None
    failed_with: int | None = None
    bell: Bell = field(default_factory=Bell)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.exit_code is None

    @property
    def exit_code(self) -> int | None:
        return self.process.exit_code if self.process else self.failed_with


@dataclass(slots=True)
class Network:
    id: str
    name: str
    driver: str
    created_ns: int
    subnet: str
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    is_internal: bool = False
    addresses_given: int = 1


@dataclass(slots=True)
class Volume:
    name: str
    created_ns: int
    driver: str = "local"
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None


class State:
    """Everything on the engine. Dictionaries are in order of creation."""

    def __init__(self, bounds: Bounds, clock: Callable[[], int]) -> None:
        self.bounds = bounds
        self.clock = clock
        self.engine_id = secrets.token_hex(16)
        self.containers: dict[str, Container] = {}
        self.execs: dict[str, Exec] = {}
        self.images: dict[str, Image] = {}
        self.tags: dict[Reference, str] = {}
        self.networks: dict[str, Network] = {}
        self.volumes: dict[str, Volume] = {}
        self.events = EventLog(bounds.events_max, clock)
        self.host_pid = 4000
        self.is_closing = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Does something that goes on when the request that asked for it is gone; `close` ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Ends everything that runs, and waits for it."""
        self.is_closing = True
        for container in self.containers.values():
            container.cancel_restart()
        processes = [
            process for container in self.containers.values() for process in (container.process, *container.execs)
        ]
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*(process.close() for process in processes), *self._tasks, return_exceptions=True)

    def container(self, name: str) -> Container:
        """By id, name or unique prefix of an id, in this order. Raises Refused."""
        plain = name.removeprefix("/")
        if found := self.containers.get(name):
            return found
        for container in self.containers.values():
            if container.name == plain:
                return container
        return self._by_prefix(self.containers, name, refusals.no_such_container(name))

    def exec(self, id: str) -> Exec:
        """By its whole id only. Raises Refused."""
        found = self.execs.get(id)
        if found is None or found.container.is_removed:
            raise refusals.no_such_exec(id)
        return found

    def image(self, name: str) -> Image:
        """By reference, id, or unique prefix of an id, with or without `sha256:`. Raises Refused."""
        reference, fault = _parsed(name)
        for known, image_id in self.tags.items():
            if known == reference or (reference and reference.digest and self.is_digest_of(reference, known)):
                return self.images[image_id]
        missing = refusals.no_such_image(str(reference)) if reference else Refused(400, fault)
        return self._by_prefix(self.images, f"sha256:{name.removeprefix('sha256:')}", missing)

    def is_digest_of(self, wanted: Reference, known: Reference) -> bool:
        return wanted.repository == known.repository and wanted.digest == self.images[self.tags[known]].digest

    def network(self, name: str) -> Network:
        """By name, id or unique prefix of an id. Raises Refused."""
        for network in self.networks.values():
            if network.name == name:
                return network
        return self._by_prefix(self.networks, name, refusals.no_such_network(name))

    def volume(self, name: str) -> Volume:
        """Raises Refused."""
        if name not in self.volumes:
            raise refusals.no_such_volume(name)
        return self.volumes[name]

    def _by_prefix(self, things: Mapping[str, T], prefix: str, missing: Refused) -> T:
        found = (
            [thing for id, thing in things.items() if id.startswith(prefix)] if prefix.removeprefix("sha256:") else []
        )
        if not found:
            raise missing
        if len(found) > 1:
            raise refusals.ambiguous(prefix)
        return found[0]

    def add_image(self, reference: Reference, image: Image) -> None:
        """Makes an image present under a reference; one that is named by its digest alone has no tag."""
        self.images.setdefault(image.id, image)
        self.tags[Reference(reference.repository, "<none>" if reference.digest else reference.tag, "")] = image.id

    def next_host_pid(self) -> int:
        self.host_pid += 1
        return self.host_pid

    def containers_of(self, image: Image) -> list[Container]:
        return [container for container in self.containers.values() if container.image.id == image.id]

    def containers_in(self, network: Network) -> list[Container]:
        return [container for container in self.containers.values() if network.name in container.endpoints]

    def containers_with(self, volume: Volume) -> list[Container]:
        return [container for container in self.containers.values() if volume.name in volume_names(container)]


def _parsed(name: str) -> tuple[Reference | None, str]:
    try:
        return parse_reference(name), ""
    except ValueError as fault:
        return None, str(fault)


def volume_names(container: Container) -> set[str]:
    """The named volumes that a container uses, from its Binds and Mounts."""
    binds = [bind.partition(":")[0] for bind in container.host_config["Binds"] or [] if isinstance(bind, str)]
    mounts = [mount.get("Source", "") for mount in container.host_config.get("Mounts") or [] if isinstance(mount, dict)]
    return {name for name in (*binds, *mounts) if isinstance(name, str) and name and not name.startswith("/")}


def new_id() -> str:
    return secrets.token_hex(32)
