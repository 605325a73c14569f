"""What a person meets first: `sockproxy demo --tour`, `sockproxy demo`, and what `make run` calls.

Each is run as it is typed, as a process of its own, and met from the outside only.
"""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

SOCKPROXY = str(Path(sys.executable).with_name("sockproxy"))
START_SECONDS = 20.0
END_SECONDS = 20.0
"""Of a proxy that `make run` puts before a real engine."""

ENGINE = (
    "import asyncio, sys, sockproxy.operating.demo.engine as demo\n"
    "async def main():\n"
    "    await demo.start_demo_engine(sys.argv[1])\n"
    "    await asyncio.Event().wait()\n"
    "asyncio.run(main())\n"
)


class Running(NamedTuple):
    """A process that has greeted, and what it said."""

    process: subprocess.Popen[str]
    greeting: str

    @property
    def socket(self) -> str:
        return self.found(r"^sockproxy listens on +unix://(\S+)$")

    @property
    def metrics(self) -> str:
        return self.found(r"^ +metrics +http://(\S+)/metrics$")

    @property
    def engine(self) -> str:
        return self.found(r"^ +engine +(\S+)$")

    @property
    def audit(self) -> str:
        return self.found(r"^ +audit trail +(\S+)$")

    def found(self, pattern: str) -> str:
        match = re.search(pattern, self.greeting, re.MULTILINE)
        assert match, f"nothing like {pattern} in:\n{self.greeting}"
        return match[1]


@contextmanager
def running(*command: str, docker_host: str = "") -> Iterator[Running]:
    """Starts it and reads its greeting; it has ended, and cleaned up, when this ends."""
    environment = {**os.environ, "DOCKER_HOST": docker_host or "unix:///nobody/listens.sock", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        yield Running(process, "".join(lines))
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        finally:
            process.kill()
            process.stdout.close()


def ask(path: str, method: str, target: str) -> tuple[int, str]:
    """Status and body of a request on a unix socket, or on tcp (host:port)."""
    connection = http.client.HTTPConnection("docker" if path.startswith("/") else path, timeout=START_SECONDS)
    if path.startswith("/"):
        connection.sock = socket.socket(socket.AF_UNIX)
        connect(connection.sock, path)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def connect(sock: socket.socket, path: str) -> None:
    """Connects as soon as somebody listens."""
    wait_until(lambda: sock.connect_ex(path) == 0)


def wait_until(is_true: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


# --- the tour


@pytest.fixture(scope="module")
def tour() -> subprocess.CompletedProcess[str]:
    return subprocess.run([SOCKPROXY, "demo", "--tour"], capture_output=True, text=True, timeout=60, check=False)


def test_the_tour_ends_well(tour: subprocess.CompletedProcess[str]) -> None:
    assert (tour.returncode, tour.stderr) == (0, "")


@pytest.mark.parametrize(
    "shown",
    [
        r"GET /v1\.41/containers/json -> 200",
        r" web +nginx:alpine +Up ",
        r"POST /v1\.41/containers/web/pause -> 403",
        r"sockproxy: ContainerPause denied by policy kubernetes-1\.4: no rule allows it",
        r"request id [0-9a-f]+-[0-9a-f]+",
        r"HTTP/1\.1 101 ",
        r"POST \S*/resize\?h=40&w=132 on another connection, meanwhile -> 200",
        r"the program in the terminal says: 40 132$",
        r"\d+ lines in \S+/audit\.jsonl: the chain of hashes is whole$",
        r"http://127\.0\.0\.1:\d+/metrics$",
        r'sockproxy_decisions_total\{effect="allow",operation="ContainerResize",policy="kubernetes-1\.4",.*\} 1\.0',
        r'sockproxy_decisions_total\{effect="deny",operation="ContainerPause",policy="kubernetes-1\.4",.*\} 1\.0',
    ],
)
def test_the_tour_shows(tour: subprocess.CompletedProcess[str], shown: str) -> None:
    assert re.search(shown, tour.stdout, re.MULTILINE), tour.stdout


def test_the_tour_has_five_steps_in_their_order(tour: subprocess.CompletedProcess[str]) -> None:
    assert re.findall(r"^(\d)\. ", tour.stdout, re.MULTILINE) == ["1", "2", "3", "4", "5"]


def test_the_tour_leaves_nothing_behind(tour: subprocess.CompletedProcess[str]) -> None:
    folders = set(re.findall(r"/tmp/sockproxy-demo-[^/\s]+", tour.stdout))
    assert len(folders) == 1
    assert not any(Path(folder).exists() for folder in folders)


def test_the_tour_is_plain_without_a_terminal(tour: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in tour.stdout


# --- the demo


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with running(SOCKPROXY, "demo") as running_demo:
        yield running_demo


def test_the_demo_allows(demo: Running) -> None:
    status, body = ask(demo.socket, "GET", "/v1.41/containers/json")
    assert status == 200
    assert '"/web"' in body


def test_the_demo_denies_and_says_why(demo: Running) -> None:
    status, body = ask(demo.socket, "POST", "/v1.41/containers/web/pause")
    assert status == 403
    assert "ContainerPause denied by policy kubernetes-1.4: no rule allows it" in body


@pytest.mark.parametrize(
    ("target", "shown"), [("/metrics", "sockproxy_build_info"), ("/healthz", "ok"), ("/readyz", "ready")]
)
def test_the_demo_has_an_admin_listener(demo: Running, target: str, shown: str) -> None:
    status, body = ask(demo.metrics, "GET", target)
    assert status == 200
    assert shown in body


def test_the_demo_names_three_things_to_try(demo: Running) -> None:
    for pattern in (
        r"docker -H unix://\S+ ps$",
        r"docker -H unix://\S+ pause web$",
        r"explain .*/containers/web/pause$",
    ):
        assert re.search(pattern, demo.greeting, re.MULTILINE), demo.greeting


def test_what_it_names_explains_the_denial(demo: Running) -> None:
    command = demo.found(r"^ +why +(.*)$").split()
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 1
    assert "ContainerPause" in told.stdout
    assert "no rule allows it" in told.stdout


def test_the_demo_keeps_a_trail(demo: Running) -> None:
    ask(demo.socket, "GET", "/v1.41/info")
    wait_until(lambda: b'"SystemInfo"' in Path(demo.audit).read_bytes())
    told = subprocess.run(
        [SOCKPROXY, "audit", "verify", demo.audit], capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_demo_ends_by_a_signal_and_leaves_nothing_behind(number: signal.Signals) -> None:
    with running(SOCKPROXY, "demo") as demo:
        path = Path(demo.socket)
        assert path.is_socket()
        demo.process.send_signal(number)
        assert demo.process.wait(END_SECONDS) == 0
        assert not path.parent.exists()


def test_two_demos_stand_side_by_side(demo: Running) -> None:
    with running(SOCKPROXY, "demo") as other:
        assert other.socket != demo.socket
        assert ask(other.socket, "GET", "/v1.41/info")[0] == 200


# --- what `make run` calls


@pytest.fixture
def engine() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tour-", dir="/tmp") as folder:
        path = f"{folder}/engine.sock"
        process = subprocess.Popen([sys.executable, "-c", ENGINE, path])
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                connect(probe, path)
            yield path
        finally:
            process.terminate()
            process.wait()


def test_make_run_is_the_demo_without_an_engine() -> None:
    with running(sys.executable, "-m", "sockproxy.operating.run") as started:
        assert started.greeting.startswith("No engine answers at unix:///nobody/listens.sock")
        assert ask(started.socket, "GET", "/v1.41/containers/json")[0] == 200
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(END_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_make_run_serves_before_the_engine_that_answers(engine: str, number: signal.Signals) -> None:
    with running(sys.executable, "-m", "sockproxy.operating.run", docker_host=f"unix://{engine}") as started:
        assert started.engine == f"unix://{engine}"
        status, body = ask(started.socket, "GET", "/v1.41/containers/json")
        assert (status, '"/web"' in body) == (200, True)
        assert ask(started.socket, "POST", "/v1.41/containers/web/pause")[0] == 403
        path = Path(started.socket)
        started.process.send_signal(number)
        assert started.process.wait(END_SECONDS) == 0
        assert not path.parent.exists()
