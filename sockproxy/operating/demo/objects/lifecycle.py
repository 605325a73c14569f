"""What happens to containers: created, started, stopped, renamed, removed, and what follows from a program's end.

Owns the changes of a container's status with their events, names, restart policies and signals. Must not know HTTP.
Execs are `execs`'. The order of things is that of dockerd 20.10, as its events tell it.
"""

import asyncio
import re
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from sockproxy.operating.demo.objects import creation, refusals
from sockproxy.operating.demo.objects.journal import Journal
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Container, Endpoint, Network, State, Volume, new_id, volume_names
from sockproxy.operating.demo.programs.files import Files
from sockproxy.operating.demo.programs.pipes import Pipe
from sockproxy.operating.demo.programs.process import Process, Surroundings, invocation_of, parse_signal
from sockproxy.operating.demo.programs.servers import PROGRAMS

STOP_SECONDS = 10  # before a container that does not listen is killed
RESTART_SECONDS_MAX = 60.0
_DEFAULT_NETWORK = {"default": "bridge"}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_ADJECTIVES = (
    "brave", "calm", "eager", "gentle", "happy", "keen", "merry", "proud", "quiet", "swift", "wise", "zealous",
)  # fmt: skip
_ANIMALS = (
    "badger", "crane", "dolphin", "falcon", "heron", "lynx", "marten", "otter", "raven", "seal", "tern", "whale",
)  # fmt: skip


def create(state: State, body: Mapping[str, Any], name: str) -> Container:
    """A new container that waits for its start. Raises Refused."""
    if not body:
        raise Refused(400, "Config cannot be empty in order to create a container")
    image_name = creation.text_of(body, "Image")
    if not image_name:
        raise Refused(400, "No command specified")
    image = state.image(image_name)
    config, host_config = creation.config_of(body, image), creation.host_config_of(body)
    check_name(state, name)
    if len(state.containers) >= state.bounds.containers_max:
        raise refusals.too_many("containers")
    id = new_id()
    config["Hostname"] = config["Hostname"] or id[:12]
    container = Container(
        id=id,
        name=name.removeprefix("/") or _free_name(state, id),
        created_ns=state.clock(),
        image=image,
        image_name=image_name,
        config=config,
        host_config=host_config,
        files=Files(_lower_files(image.files, config["Hostname"]), state.bounds.file_bytes_max),
        journal=Journal(state.bounds.log_bytes_max),
    )
    container.process = _next_process(state, container)
    _join_networks(state, container, body)
    _make_volumes(state, container)
    state.containers[id] = container
    tell(state, container, "create")
    return container


def check_name(state: State, name: str) -> None:
    """Raises Refused for a name that is none, or taken."""
    plain = name.removeprefix("/")
    if name and not _NAME.fullmatch(plain):
        raise Refused(400, f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    for container in state.containers.values():
        if name and container.name == plain:
            raise refusals.name_in_use(plain, container.id)


def _free_name(state: State, id: str) -> str:
    """A name made from the id, so that it is as good as random; numbered where that is taken."""
    taken = {container.name for container in state.containers.values()}
    number = int(id[:8], 16)
    name = f"{_ADJECTIVES[number % 12]}_{_ANIMALS[number // 12 % 12]}"
    return name if name not in taken else f"{name}_{id[:6]}"


def _lower_files(files: Mapping[str, bytes], hostname: str) -> dict[str, bytes]:
    hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n"
    own = {"/etc/hostname": f"{hostname}\n", "/etc/hosts": hosts, "/etc/resolv.conf": "nameserver 127.0.0.11\n"}
    return {**files, **{path: text.encode(errors="replace") for path, text in own.items()}}


def _join_networks(state: State, container: Container, body: Mapping[str, Any]) -> None:
    mode = container.host_config["NetworkMode"]
    asked = creation.network_names_of(body)
    for name in dict.fromkeys(_DEFAULT_NETWORK.get(name, name) for name in (mode, *asked)):
        if not name.startswith("container:"):
            connect(state, state.network(name), container)


def connect(state: State, network: Network, container: Container) -> None:
    """Gives a container its place in a network."""
    network.addresses_given += 1
    host = network.addresses_given
    address = f"{network.subnet.rpartition('.')[0].rpartition('.')[0]}.{host >> 8 & 255}.{host & 255}"
    container.endpoints[network.name] = Endpoint(new_id(), address if network.subnet else "", (container.id[:12],))


def _make_volumes(state: State, container: Container) -> None:
    for name in volume_names(container):
        if name not in state.volumes and len(state.volumes) < state.bounds.named_max:
            state.volumes[name] = Volume(name, state.clock())


def start(state: State, container: Container) -> None:
    """Runs the container's program. Raises Refused."""
    process = container.process
    surroundings = surroundings_of(state, container)
    program = surroundings.programs.get(process.arguments[0].rpartition("/")[2])
    if program is None:
        refused = refusals.cannot_run(process.arguments[0])
        container.exit_code, container.fault = 127, refused.message
        if container.host_config["AutoRemove"]:
            discard(state, container)
        raise refused
    container.started_ns, container.exit_code, container.fault = state.clock(), 0, ""
    container.is_stopped_by_hand = False
    directory = container.config["WorkingDir"] or "/"
    call = invocation_of(process, environment_of(container), directory, surroundings)
    process.start(program(call), state.clock(), partial(_ended, state, container))
    container.change("running")
    tell(state, container, "start")


def _next_process(state: State, container: Container) -> Process:
    """The process of the next start: it writes into the container's log, and clients may attach to it already."""
    container.next_pid = 1
    config = container.config
    arguments = (*(config["Entrypoint"] or ()), *(config["Cmd"] or ()))
    process = new_process(state, container, arguments, config["User"], config["Tty"])
    if not config["OpenStdin"]:
        process.stdin.end()

    async def keep(stream: int, chunk: bytes) -> None:
        container.journal.append(stream, chunk, state.clock())

    process.sinks.append(keep)
    return process


def new_process(
    state: State, container: Container, arguments: tuple[str, ...], user: str, has_terminal: bool
) -> Process:
    """A process that has not begun yet, with the next numbers."""
    pid, container.next_pid = container.next_pid, container.next_pid + 6
    stdin = Pipe(state.bounds.pipe_bytes_max)
    return Process(pid, state.next_host_pid(), arguments, user or "root", has_terminal, stdin)


def surroundings_of(state: State, container: Container) -> Surroundings:
    """What programs of this container see."""
    return Surroundings(
        hostname=container.config["Hostname"],
        files=container.files,
        programs=PROGRAMS[container.image.kind.programs],
        clock=state.clock,
        processes=lambda: processes_of(container),
    )


def processes_of(container: Container) -> list[Process]:
    """Those that run, the container's own first."""
    return [process for process in (container.process, *container.execs) if process.is_running]


def environment_of(container: Container, extra: tuple[str, ...] = ()) -> dict[str, str]:
    """The environment in the engine's order: PATH first, then the names that the engine sets, then the rest."""
    given = dict(entry.partition("=")[::2] for entry in (*container.config["Env"], *extra))
    own = {"PATH": given.get("PATH", ""), "HOSTNAME": container.config["Hostname"]}
    own |= {"TERM": "xterm"} if container.config["Tty"] else {}
    return {**own, **given, "HOME": given.get("HOME", "/root")}


def _ended(state: State, container: Container, process: Process) -> None:
    """The container's program has ended: everything that follows happens before anybody else runs."""
    for other in container.execs:
        other.signal(signal.SIGKILL)
    _forget_execs(state, container)
    container.exit_code = process.exit_code or 0
    container.finished_ns = state.clock()
    container.journal.end_run(container.finished_ns)
    container.ends += 1
    container.execs, container.process = [], _next_process(state, container)
    container.change("exited")
    tell(state, container, "die", exitCode=str(container.exit_code))
    if state.is_closing:
        return
    if _is_to_restart(container):
        delay = min(state.bounds.restart_seconds * 2**container.restarts, RESTART_SECONDS_MAX)
        container.restart = asyncio.get_running_loop().call_later(delay, _restart, state, container)
        container.change("restarting")
    elif container.host_config["AutoRemove"]:
        discard(state, container)


def _forget_execs(state: State, container: Container) -> None:
    """Exec instances do not outlive the container's program, be they started or not."""
    for instance in [each for each in state.execs.values() if each.container is container]:
        del state.execs[instance.id]
        instance.bell.ring()


def _is_to_restart(container: Container) -> bool:
    policy = container.host_config["RestartPolicy"]
    limit = policy.get("MaximumRetryCount") or 0
    wanted = {
        "always": True,
        "unless-stopped": True,
        "on-failure": container.exit_code != 0 and (not limit or container.restarts < limit),
    }
    return wanted.get(policy["Name"], False) and not container.is_stopped_by_hand


def _restart(state: State, container: Container) -> None:
    container.restart = None
    container.restarts += 1
    try:
        start(state, container)
    except Refused:
        container.change("exited")


async def stop(state: State, container: Container, seconds: float | None) -> None:
    """Asks the program to end, and kills it when the time is over. Does nothing for one that does not run."""
    container.is_stopped_by_hand = True
    container.cancel_restart()
    if not container.is_running:
        return
    process = container.process
    process.thaw()
    send(state, container, _stop_signal(container))
    patience = seconds if seconds is not None else container.config.get("StopTimeout") or STOP_SECONDS
    try:
        async with asyncio.timeout(patience if patience >= 0 else None):
            await process.wait()
    except TimeoutError:
        process.signal(signal.SIGKILL)
        await process.wait()
    tell(state, container, "stop")


def _stop_signal(container: Container) -> int:
    try:
        return parse_signal(container.config.get("StopSignal") or "SIGTERM")
    except ValueError:
        return signal.SIGTERM


def send(state: State, container: Container, number: int) -> None:
    """Sends a signal to the container's program."""
    process = container.running_process()
    tell(state, container, "kill", signal=str(int(number)))
    process.signal(number)


def pause(state: State, container: Container) -> None:
    """Raises Refused."""
    process = container.running_process()
    if container.status == "paused":
        raise Refused(409, f"Container {container.id} is already paused")
    for each in (process, *container.execs):
        each.freeze()
    container.change("paused")
    tell(state, container, "pause")


def unpause(state: State, container: Container) -> None:
    """Raises Refused."""
    if container.status != "paused":
        raise Refused(500, f"Container {container.id} is not paused")
    for each in (container.process, *container.execs):
        each.thaw()
    container.change("running")
    tell(state, container, "unpause")


def rename(state: State, container: Container, name: str) -> None:
    """Raises Refused."""
    plain = name.removeprefix("/")
    if not plain:
        raise Refused(400, "Neither old nor new names may be empty")
    if plain == container.name:
        raise Refused(400, "Renaming a container with the same name as its current name")
    try:
        check_name(state, f"/{plain}")
    except Refused as refused:
        raise Refused(refused.status, f"Error when allocating new name: {refused.message}") from None
    old, container.name = container.name, plain
    tell(state, container, "rename", oldName=f"/{old}")


async def remove(state: State, container: Container, *, is_forced: bool) -> None:
    """Raises Refused for a container that runs, unless it is forced: then it is killed first."""
    if container.is_running and not is_forced:
        first = "Unpause and then stop" if container.status == "paused" else "Stop"
        raise Refused(
            409,
            f"You cannot remove a {container.status} container {container.id}. "
            f"{first} the container before attempting removal or force remove",
        )
    container.is_stopped_by_hand = True
    container.cancel_restart()
    if container.is_running:
        process = container.process
        process.thaw()
        send(state, container, signal.SIGKILL)
        await process.wait()
    discard(state, container)


def discard(state: State, container: Container) -> None:
    """Forgets a container that does not run."""
    if state.containers.pop(container.id, None) is None:
        return
    _forget_execs(state, container)
    container.is_removed = True
    container.process.dismiss()
    container.bell.ring()
    tell(state, container, "destroy")


def tell(state: State, container: Container, action: str, **more: str) -> None:
    """An event about a container, with its labels as attributes."""
    attributes = {**container.config["Labels"], **more, "image": container.image_name, "name": container.name}
    state.events.add("container", action, container.id, attributes)
