"""What a request costs, counted: system calls and Python instructions, which do not depend on the machine's mood.

Owns the requests (`WAYS`) and the counting. A real proxy process, with policy, metrics and an audit file, stands before the
benchmark's null engine. One request at a time is made; the next one waits until the proxy has recorded it and sleeps, so
that each is counted by itself, and what is told is the median. Begin at `count`. From the project's folder:

    python -m tests.budget             prints the counts as JSON
    python -m tests.budget --record    makes them the budget, tests/cases/budget.json

To be run without coverage, which would be counted, too.
"""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median_low

from benchmarks import load, processes, syscalls
from benchmarks.proxies import PROXIES, Missing, Place, end, start, wait_for_answer

BUDGET = Path(__file__).parent / "cases" / "budget.json"
REQUESTS = 15  # that are counted of each way
WARM_REQUESTS = 5  # before them: what is prepared at first need is no part of the cost
SETTLE_SECONDS_MAX = 20.0
POLL_SECONDS = 0.0005
AUDIT_LINES = 2  # of each request
CALL = re.compile(rb"^[0-9]+ +(?:<\.\.\. )?([a-z0-9_]+)(?:\(.*| resumed>.*)$")

UNUSED = (load.request("GET", f"/containers/cart-{number:06}/json") for number in itertools.count())
DENIED = load.request("POST", "/containers/cart/pause", "Content-Length: 0")
SMALL_BODY = b'{"AttachStdout": true, "Cmd": ["true"]}'
EXEC = load.request(
    "POST", "/containers/cart/exec", "Content-Type: application/json", f"Content-Length: {len(SMALL_BODY)}"
)


class Proxy:
    """A running proxy, which gets one request at a time."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.pid = process.pid
        self.path = str(folder / "docker.sock")
        self.audit = folder / "audit.jsonl"
        self.requests = 1  # that were made: the one that showed that it answers
        self.clients = 0
        self.wait_for(
            lambda: self.is_recorded() and b'"admin"' in (folder / "output").read_bytes() and self.is_asleep()
        )
        self.held = 0  # descriptors, without those of clients: known once either way has its connection to the engine
        with load.connected(self.path) as client:
            for request in (load.LIST, load.LIST, load.LIST, next(UNUSED)):
                load.exchange(client, request)
                self.requests += 1
                self.wait_for(lambda: self.is_recorded() and self.is_asleep())
            with_client = processes.descriptors([self.pid])
        self.wait_for(lambda: processes.descriptors([self.pid]) < with_client)
        self.held = with_client - 1

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A client, from when it was accepted until the proxy has let it go."""
        with load.connected(self.path) as client:
            self.clients += 1
            self.settle()
            yield client
        self.clients -= 1
        self.settle()

    def ask(self, client: socket.socket, request: bytes, status: int) -> None:
        """A request, its whole answer, and its record. Raises WrongAnswer."""
        client.sendall(request)
        head, body = load.read_head(client, status)
        found = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n", head)
        while len(body) < int(found[1]):
            body += client.recv(65536)
        self.requests += 1
        self.settle()

    def settle(self) -> None:
        """Waits until it has recorded everything, holds no client that has gone, and sleeps. Raises TimeoutError."""
        self.wait_for(lambda: self.is_recorded() and self.has_clients() and self.is_asleep())

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        until = time.monotonic() + SETTLE_SECONDS_MAX
        while not is_there():
            if time.monotonic() > until:
                raise TimeoutError(
                    f"after {self.requests} requests with {self.clients} clients: {self.audit.read_text()}"
                )
            time.sleep(POLL_SECONDS)

    def is_recorded(self) -> bool:
        return self.audit.read_bytes().count(b"\n") == AUDIT_LINES * self.requests

    def has_clients(self) -> bool:
        return processes.descriptors([self.pid]) == self.held + self.clients

    def is_asleep(self) -> bool:
        # proc_pid_stat(5): the state stands behind the command's name, which may hold blanks.
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] == "S"


def on_its_own(proxy: Proxy) -> None:
    with proxy.connected() as client:
        proxy.ask(client, load.LIST, 200)


Way = Callable[[Proxy, socket.socket], None]
WAYS: dict[str, Way] = {
    "a GET that was seen before": lambda proxy, client: proxy.ask(client, load.LIST, 200),
    "a GET that was not seen before": lambda proxy, client: proxy.ask(client, next(UNUSED), 200),
    "a GET on a connection of its own": lambda proxy, client: on_its_own(proxy),
    "a request that is denied": lambda proxy, client: proxy.ask(client, DENIED, 403),
    "a POST with a small body": lambda proxy, client: proxy.ask(client, EXEC + SMALL_BODY, 201),
    "a create that is judged": lambda proxy, client: proxy.ask(client, load.CREATE, 201),
}
"""What is counted: a function of a proxy and a kept connection to it."""


@contextmanager
def running(module: list[str], descriptors: tuple[int, ...] = ()) -> Iterator[Proxy]:
    """A proxy that is started as `python -m MODULE...`, before a null engine, in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="sockproxy-budget-") as name:
        folder, cpus = Path(name), os.sched_getaffinity(0)
        place = Place(folder, folder / "docker.sock", folder / "engine.sock")
        python, _, _, *arguments = PROXIES["sockproxy"].command(place)
        engine = start([python, "-m", "benchmarks.engine", str(place.engine)], folder / "engine.output", cpus)
        try:
            wait_for_answer(engine, str(place.engine), folder / "engine.output")
            environ = PROXIES["sockproxy"].environ
            process = start([python, "-m", *module, *arguments], folder / "output", cpus, descriptors, environ)
            try:
                wait_for_answer(process, str(place.listen), folder / "output")
                yield Proxy(process, folder)
            finally:
                end(process)
        finally:
            end(engine)


def count_each(proxy: Proxy, read: Callable[[], Counter[str]]) -> dict[str, Counter[str]]:
    """Way -> what `read` has counted of its median request. `read` begins anew each time."""
    counts = {}
    for name, way in WAYS.items():
        each = []
        with proxy.connected() as client:
            for _ in range(WARM_REQUESTS + REQUESTS):
                read()
                way(proxy, client)
                each.append(read())
        totals = [counted.total() for counted in each[WARM_REQUESTS:]]
        counts[name] = each[WARM_REQUESTS + totals.index(median_low(totals))]
    return counts


def count_instructions() -> dict[str, Counter[str]]:
    """Way -> how many Python instructions its request costs."""
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as told, running(["tests.counted", str(theirs)], (theirs,)) as proxy:
        os.close(theirs)

        def read() -> Counter[str]:
            os.kill(proxy.pid, signal.SIGUSR1)
            executed = int(told.readline())
            proxy.settle()
            return Counter(instructions=executed)

        return count_each(proxy, read)


def count_system_calls() -> dict[str, Counter[str]]:
    """Way -> which system calls its request costs, and how often each. Raises Missing if strace may not."""
    with running(["sockproxy"]) as proxy:
        trace = proxy.audit.with_name("trace")
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", "signal=none", "-s", "0", "-o", str(trace), "-p", str(proxy.pid)],
            stderr=subprocess.DEVNULL,
        )
        try:
            syscalls.wait_until_traced(tracer, [proxy.pid])
            with trace.open("rb") as traced:

                def read() -> Counter[str]:
                    # strace writes a line when a call returns, before it lets the proxy go on: where that sleeps, all are here.
                    found = (CALL.match(line) for line in traced.read().splitlines())
                    return Counter(match[1].decode() for match in found if match)

                return count_each(proxy, read)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()


def count() -> dict[str, object]:
    """All counts; `not_traced` says why there are none of system calls, if so."""
    reason, system_calls = "", {}
    if shutil.which("strace") is None:
        reason = "strace is not installed"
    else:
        try:
            system_calls = count_system_calls()
        except Missing as error:
            reason = str(error)
    return {
        "python": "{}.{}".format(*sys.version_info),
        "not_traced": reason,
        "system_calls": {name: dict(sorted(counted.items())) for name, counted in system_calls.items()},
        "instructions": {name: counted.total() for name, counted in count_instructions().items()},
    }


def record(counts: dict[str, object]) -> None:
    """Makes these counts the budget."""
    if counts.pop("not_traced"):
        sys.exit("the budget is of system calls, too: strace has to be installed, and run as root")
    about = "What a request may cost. Recorded by `python -m tests.budget --record`, kept by tests/test_budget.py."
    BUDGET.write_text(json.dumps({"about": about} | counts, indent=1) + "\n")


if __name__ == "__main__":
    counted = count()
    if sys.argv[1:] == ["--record"]:
        record(counted)
    else:
        print(json.dumps(counted))
