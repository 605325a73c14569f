"""System calls for each request, counted by strace: a figure that does not depend on the machine's mood.

Begin at `count`. Must not be used together with the measurement of time: a traced process is many times slower.
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import load
from benchmarks.contest import arena
from benchmarks.proxies import PROXIES, Missing, Subject

_SECONDS = 1.0
_ATTACH_SECONDS_MAX = 10.0
_POLL_SECONDS = 0.01
# strace -c: "% time, seconds, usecs/call, calls, errors (or nothing), syscall"
_ROW = re.compile(r"\s*[0-9.]+\s+[0-9.]+\s+[0-9]+\s+([0-9]+)(?:\s+[0-9]+)?\s+([a-z0-9_]+)")
_WORK: dict[str, Callable[[str], int]] = {
    "1 connection": lambda path: len(load.time_requests(path, _SECONDS)),
    "16 connections": lambda path: _keep_alive(path, 16),
    "a connection each": lambda path: load.connect_each(path, _SECONDS),
}


def count(names: tuple[str, ...]) -> str:
    """A text with the system calls for a small request, by proxy and way. Raises Missing without strace."""
    if not shutil.which("strace"):
        raise Missing("not installed: strace; on Debian: apt-get install strace")
    lines = []
    with arena(names) as subjects:
        for subject in subjects:
            for way, work in _WORK.items():
                done, calls = _traced(subject, work)
                lines.append(_line(subject.name, way, done, calls))
    return "\n".join(lines) + "\n"


def _keep_alive(path: str, connections: int) -> int:
    with load.KeepAlive(path, connections) as clients:
        return clients.run(_SECONDS)


def _traced(subject: Subject, work: Callable[[str], int]) -> tuple[int, dict[str, int]]:
    """How many requests were made under strace, and how often each system call."""
    table = Path(subject.path).with_name("strace")
    targets = [word for pid in subject.pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", str(table), *targets], stderr=subprocess.DEVNULL)
    try:
        wait_until_traced(tracer, subject.pids)
        done = work(subject.path)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    rows = (_ROW.fullmatch(line) for line in table.read_text().splitlines())
    return done, {row[2]: int(row[1]) for row in rows if row and row[2] != "total"}


def wait_until_traced(tracer: subprocess.Popen[bytes], pids: Sequence[int]) -> None:
    """Returns when all of them are traced. Raises Missing if strace may not."""
    deadline = time.perf_counter() + _ATTACH_SECONDS_MAX
    while any("\nTracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text() for pid in pids):
        if tracer.poll() is not None or time.perf_counter() > deadline:
            raise Missing(f"strace may not trace {pids}: run it as root")
        time.sleep(_POLL_SECONDS)


def _line(name: str, way: str, done: int, calls: dict[str, int]) -> str:
    each = sorted(((number / done, call) for call, number in calls.items()), reverse=True)
    parts = ", ".join(f"{call} {share:.2f}" for share, call in each if share >= 0.01)
    return f"{PROXIES[name].title:28} {way:18} {sum(share for share, _ in each):6.2f} a request: {parts}"
