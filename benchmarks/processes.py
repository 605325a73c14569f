"""What processes cost, from /proc: CPU time and memory of a process with all its children and threads.

Begin at `cpu_ns` and `memory`. Source: proc(5); Linux, Documentation/scheduler/sched-stats.rst and
Documentation/filesystems/proc.rst (smaps_rollup).
"""

import os
import resource
from functools import cache
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_DESCRIPTORS_WANTED = 65_536
_DESCRIPTORS_SPARE = 500  # of a proxy, for everything that is not a connection
_CLOCK_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """User-space memory in KiB: all that is resident, and with shared pages divided among those who share them."""

    resident_kib: int
    proportional_kib: int


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in _PROC.glob(f"{parent}/task/*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def cpu_ns(pids: list[int]) -> int:
    """CPU time of all their threads until now, user and system, in nanoseconds."""
    return sum(_thread_ns(thread) for pid in pids for thread in _PROC.glob(f"{pid}/task/*"))


def _thread_ns(thread: Path) -> int:
    """A thread's time: exact where the kernel counts run times, else in clock ticks of mostly 10 ms."""
    try:
        ran, _, _ = (thread / "schedstat").read_text().split()
        return int(ran)
    except FileNotFoundError:
        # proc_pid_stat(5): fields 14 and 15, counted behind the command's name, which may hold blanks.
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _CLOCK_TICK_NS


def descriptors(pids: list[int]) -> int:
    """Open files of all of them."""
    return sum(len(os.listdir(_PROC / str(pid) / "fd")) for pid in pids)


def memory(pids: list[int]) -> Memory:
    """Memory of all of them together."""
    each = [_memory(pid) for pid in pids]
    return Memory(sum(one.resident_kib for one in each), sum(one.proportional_kib for one in each))


def _memory(pid: int) -> Memory:
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(kib["Rss"], kib["Pss"])


def raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as is allowed; gives what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (_DESCRIPTORS_WANTED, hard):
        if limit <= soft:
            return soft
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
        except (ValueError, PermissionError):  # above the hard limit, and not root
            continue
        return limit
    return soft


def connections_max() -> int:
    """How many connections a proxy can have, each with one to the engine, as the limit of open files is."""
    return (raise_descriptor_limit() - _DESCRIPTORS_SPARE) // 2


@cache
def cpu_places() -> tuple[set[int], set[int]]:
    """Where the proxy runs, and where load and engine run: a CPU of its own for the proxy, if there are two.

    Found out once, before this process is put on the second of them."""
    available = sorted(os.sched_getaffinity(0))
    return ({available[-1]}, set(available[:-1])) if len(available) > 1 else (set(available), set(available))
