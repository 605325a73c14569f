"""Bounds of the demo engine: what it holds at most, each with its unit in its name and its reason.

Must not know who keeps them. A demo has no configuration: tests that want to reach a bound hand over a smaller one.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes in bytes, times in seconds. Exceeding a number of objects is answered 507 by the operation that would."""

    body_bytes_max: int = 4 << 20
    """A request's body; a create has about 10 KiB, `docker cp` into a container brings a small tar. Above: 413."""

    document_bytes_max: int = 256 << 10
    """A JSON body; it stays with what it creates. Above: 413."""

    containers_max: int = 256
    """Containers, running or not; about 2 MiB each at their worst."""

    execs_max: int = 1024
    """Exec instances; the oldest ended ones make room before a create is refused."""

    named_max: int = 256
    """Images, and likewise networks and volumes."""

    log_bytes_max: int = 1 << 20
    """What a container's log keeps; older lines go first."""

    file_bytes_max: int = 4 << 20
    """What was written into one container's files."""

    pipe_bytes_max: int = 64 << 10
    """Between a writer and a reader, as Linux has it (pipe(7)); then the writer waits."""

    events_max: int = 1000
    """Events that are kept for `since`; the engine itself keeps 256."""

    requests_max: int = 10_000
    """Requests that are kept in `DemoEngine.requests`; the older half goes first."""

    exec_ready_seconds: float = 10.0
    """How long a resize waits for an exec that has not been started; the engine's own."""

    exec_start_seconds: float = 0.05
    """Between the head of an exec's answer and its program, which dockerd needs for its start, too: docker-py 7 loses
    what comes in one piece with the head."""

    pull_step_seconds: float = 0.02
    """Between two lines of a pull's progress, so that a person sees it move."""

    restart_seconds: float = 0.1
    """Before a container is restarted by its policy, doubled each time up to a minute, as the engine does."""
