"""What happens to exec instances: created in a running container, started once, ended.

Owns their events and their bound. Must not know HTTP. `start` leaves the streams to the caller, who attaches first.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from sockproxy.operating.demo.objects import creation, refusals
from sockproxy.operating.demo.objects.lifecycle import environment_of, new_process, surroundings_of, tell
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Container, Exec, State, new_id
from sockproxy.operating.demo.programs.process import Process, invocation_of

CANNOT_RUN = 126  # what dockerd 20.10 gives an exec whose program is not there


def create(state: State, container: Container, body: Mapping[str, Any]) -> Exec:
    """A new exec instance. Raises Refused."""
    container.running_process()
    if container.status == "paused":
        raise Refused(409, f"Container {container.name} is paused, unpause the container before exec")
    config = creation.exec_config_of(body)
    _make_room(state)
    instance = Exec(new_id(), container, config)
    state.execs[instance.id] = instance
    tell(state, container, f"exec_create: {' '.join(config['Cmd'])}", execID=instance.id)
    return instance


def _make_room(state: State) -> None:
    while len(state.execs) >= state.bounds.execs_max:
        ended = next((id for id, each in state.execs.items() if each.exit_code is not None), None)
        if ended is None:
            raise refusals.too_many("exec instances")
        del state.execs[ended]


def _check_startable(instance: Exec) -> None:
    if instance.is_running:
        raise Refused(409, f"Error: Exec command {instance.id} is already running")
    if instance.exit_code is not None:
        raise Refused(409, f"Error: Exec command {instance.id} has already run")
    instance.container.running_process()
    if instance.container.status == "paused":
        raise Refused(409, f"Container {instance.container.id} is paused, unpause the container before exec")


def start(state: State, instance: Exec) -> Process:
    """Runs the program. Raises Refused for one that was started before, or whose container or program is not there."""
    _check_startable(instance)
    container, config = instance.container, instance.config
    surroundings = surroundings_of(state, container)
    program = surroundings.programs.get(config["Cmd"][0].rpartition("/")[2])
    if program is None:
        instance.failed_with = CANNOT_RUN
        instance.bell.ring()
        raise Refused(400, f"OCI runtime exec failed: exec failed: {refusals.no_program(config['Cmd'][0])}")
    process = new_process(
        state, container, tuple(config["Cmd"]), config["User"] or container.config["User"], config["Tty"]
    )
    if not config["AttachStdin"]:
        process.stdin.end()
    environment = environment_of(container, tuple(config["Env"]))
    if config["Tty"]:
        environment["TERM"] = "xterm"
    directory = config["WorkingDir"] or container.config["WorkingDir"] or "/"
    call = invocation_of(process, environment, directory, surroundings)
    process.start(program(call), state.clock(), partial(_ended, state, instance))
    instance.process = process
    container.execs.append(process)
    tell(state, container, f"exec_start: {' '.join(config['Cmd'])}", execID=instance.id)
    instance.bell.ring()
    return process


def _ended(state: State, instance: Exec, process: Process) -> None:
    container = instance.container
    if process in container.execs:
        container.execs.remove(process)
    tell(state, container, "exec_die", execID=instance.id, exitCode=str(process.exit_code))


async def resize(state: State, instance: Exec, rows: int, columns: int) -> None:
    """Waits for the start, as the engine does. Raises Refused."""
    try:
        async with asyncio.timeout(state.bounds.exec_ready_seconds):
            while instance.process is None and instance.failed_with is None and instance.id in state.execs:
                await instance.bell.wait()
    except TimeoutError:
        raise Refused(500, "timeout waiting for exec session ready") from None
    if not instance.is_running or instance.process is None:
        raise Refused(404, "no such exec")
    instance.process.resize(rows, columns)
