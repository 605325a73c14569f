"""Who is measured: how each proxy is started, in the same place, between the same two sockets.

Owns the table `PROXIES` (a new row is a new proxy) and the life of their processes. Must not know what is measured.
Begin at `PROXIES` and `Subject`.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from benchmarks import load, processes, rules
from sockproxy.operating.twins import PURE, compiled_twins

_HERE = Path(__file__).parent
_VERSION = re.compile(r"\b[0-9]+\.[0-9]+\S*")
_START_SECONDS_MAX = 20.0
_STOP_SECONDS_MAX = 5.0
_POLL_SECONDS = 0.0005
_HAPROXY_KEEPING = {"log": "", "logging": "", "reuse": "http-reuse always"}
_HAPROXY_CLOSING = {
    "log": "log stdout format raw local0 info",
    "logging": "log global\n    option httplog",
    "reuse": "option http-server-close",
}


class Missing(Exception):
    """A program that is to be measured is not installed; the message says what to do."""


class Place(NamedTuple):
    """Where a proxy lives: its own directory, the socket it listens on, the engine's socket. `rules`: how many it has,
    those of which `benchmarks.rules` tells; None: its usual ones."""

    directory: Path
    listen: Path
    engine: Path
    rules: int | None = None


@dataclass(frozen=True, slots=True)
class Proxy:
    """A row of the table: what is printed, how its command line is made, and which program it needs."""

    title: str
    command: Callable[[Place], list[str]]
    version: tuple[str, ...]  # the command that prints it
    program: str = sys.executable
    package: str = ""  # Debian's name
    environ: Mapping[str, str] = field(default_factory=dict)  # beside what is there


def _sockproxy(place: Place) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        admin_port = probe.getsockname()[1]
    policy = _HERE / "policy.yaml"
    if place.rules is not None:
        policy = place.directory / "policy.yaml"
        policy.write_text(rules.policy(place.rules))
    options = {
        "--listen": f"unix://{place.listen}",
        "--engine": f"unix://{place.engine}",
        "--policy": str(policy),
        "--admin": f"tcp://127.0.0.1:{admin_port}",
        "--audit": str(place.directory / "audit.jsonl"),
    }
    return [sys.executable, "-m", "sockproxy", "serve", *(word for option in options.items() for word in option)]


def _everything(place: Place) -> list[str]:
    """All that can be switched on for requests that are recorded as Metadata (`full.yaml`)."""
    key = place.directory / "signing.key"
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True)
    key.write_bytes(made.stdout)
    key.chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        words = {"policy": str(_HERE / "policy.yaml"), "port": str(probe.getsockname()[1])}
    return [sys.executable, "-m", "sockproxy", "serve", "--config", str(_filled_in("full.yaml", place, words))]


def _aiohttp(place: Place) -> list[str]:
    return [sys.executable, "-m", "benchmarks.aiohttp_proxy", str(place.listen), str(place.engine)]


def _haproxy(ways: Mapping[str, str]) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        config = _filled_in("haproxy.cfg", place, ways)
        if place.rules is not None:
            config.write_text(rules.in_haproxy(config.read_text(), place.rules))
        return ["haproxy", "-db", "-f", str(config)]

    return command


def _nginx(place: Place) -> list[str]:
    # Started by root, nginx would otherwise become a user who may not reach the sockets.
    words = {"user": "user root;" if os.geteuid() == 0 else ""}
    return ["nginx", "-e", "stderr", "-c", str(_filled_in("nginx.conf", place, words))]


def _filled_in(name: str, place: Place, words: Mapping[str, str]) -> Path:
    """A proxy's configuration with every @word@ replaced, written to its own directory."""
    connections = processes.connections_max()
    known = {**place._asdict(), **words, "connections": connections, "descriptors": 2 * connections}
    filled = place.directory / name
    filled.write_text(
        re.sub(r"@([a-z]+)@", lambda found: str(known.get(found[1], found[0])), (_HERE / name).read_text())
    )
    return filled


_SOCKPROXY_VERSION = (sys.executable, "-m", "sockproxy", "--version")

PROXIES: dict[str, Proxy] = {
    "sockproxy": Proxy("sockproxy", _sockproxy, _SOCKPROXY_VERSION, environ={PURE: "1"}),
    "sockproxy-compiled": Proxy("sockproxy, compiled", _sockproxy, _SOCKPROXY_VERSION, environ={PURE: ""}),
    "sockproxy-everything": Proxy(
        "sockproxy with everything on", _everything, _SOCKPROXY_VERSION, "openssl", "openssl", {PURE: "1"}
    ),
    "haproxy": Proxy("HAProxy", _haproxy(_HAPROXY_KEEPING), ("haproxy", "-v"), "haproxy", "haproxy"),
    "haproxy-closing": Proxy(
        "HAProxy, closing and logging", _haproxy(_HAPROXY_CLOSING), ("haproxy", "-v"), "haproxy", "haproxy"
    ),
    "nginx": Proxy("nginx", _nginx, ("nginx", "-v"), "nginx", "nginx"),
    "aiohttp": Proxy("plain aiohttp", _aiohttp, (sys.executable, "-c", "import aiohttp; print(aiohttp.__version__)")),
}
BASELINE = "haproxy"


def check_installed(names: tuple[str, ...]) -> None:
    """Raises Missing, with the packages to install, if a program is not there."""
    # Debian keeps servers in a folder that is not on everybody's path.
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    if "sockproxy-compiled" in names and compiled_twins() is None:
        kept = ",".join(name for name in names if name != "sockproxy-compiled")
        raise Missing(f"the compiled parts are not built: make compiled; to go without: --proxies {kept}")
    missing = sorted({PROXIES[name].package for name in names if not shutil.which(PROXIES[name].program)})
    if missing:
        kept = ",".join(name for name in names if PROXIES[name].package not in missing)
        raise Missing(
            f"not installed: {', '.join(missing)}; on Debian: apt-get install {' '.join(missing)}; "
            f"to go without: --proxies {kept}"
        )


def version(name: str) -> str:
    """The version of a proxy, out of what it says of itself."""
    said = subprocess.run(PROXIES[name].version, capture_output=True, text=True, check=False)
    found = _VERSION.search(said.stdout + said.stderr)
    return found[0] if found else "unknown"


class Subject:
    """A running proxy. A context manager: starts it, waits for its first answer, and ends it. `rule_count`
    is None where it is to have its usual ones."""

    def __init__(self, name: str, directory: Path, engine: Path, rule_count: int | None = None) -> None:
        self.name = name
        self.rule_count = rule_count
        self.directory = directory
        self.engine = engine
        self.path = str(directory / "docker.sock")
        self.start_ms = 0.0

    def __enter__(self) -> "Subject":
        self.directory.mkdir(parents=True)
        command = PROXIES[self.name].command(Place(self.directory, Path(self.path), self.engine, self.rule_count))
        begun = time.perf_counter()
        cpus = processes.cpu_places()[0]
        self._process = start(command, self.directory / "output", cpus, environ=PROXIES[self.name].environ)
        wait_for_answer(self._process, self.path, self.directory / "output")
        self.start_ms = (time.perf_counter() - begun) * 1e3
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def another(self, rule_count: int | None = None) -> "Subject":
        """A second one of the same kind, fresh, not yet started; with so many rules, if that is said."""
        return Subject(self.name, self.directory / f"another-{time.monotonic_ns()}", self.engine, rule_count)

    def empty_records(self) -> None:
        """Empties its audit trail, so that the cost of writing does not depend on how much was measured before: it grows by 100
        MB a second, and memory that a virtual machine touches for the first time costs a request a third more."""
        trail = self.directory / "audit.jsonl"
        if trail.exists():
            os.truncate(trail, 0)

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return processes.family(self._process.pid)

    def cpu_us(self) -> float:
        """CPU time of its processes until now, in microseconds."""
        return processes.cpu_ns(self.pids) / 1e3

    def descriptors(self) -> int:
        """Open files of its processes now: what grows from round to round is residue of a scenario."""
        return processes.descriptors(self.pids)

    def memory(self) -> processes.Memory:
        """Memory of its processes now."""
        return processes.memory(self.pids)


def start(
    command: list[str],
    output: Path,
    cpus: set[int],
    descriptors: tuple[int, ...] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[bytes]:
    """Start a program on certain CPUs, with what it prints in a file, and with these descriptors and variables of ours."""
    with output.open("wb") as printed:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=_HERE.parent,
            env=os.environ | environ,
            pass_fds=descriptors,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children: kindly, then not."""
    pids = processes.family(process.pid) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        for pid in pids:
            os.kill(pid, 9)
        process.wait()


def wait_for_answer(process: subprocess.Popen[bytes], path: str, output: Path) -> None:
    """Wait until a request is answered. Raises RuntimeError, with what the program printed, if none is."""
    deadline = time.perf_counter() + _START_SECONDS_MAX
    while not load.is_answering(path):
        if process.poll() is not None or time.perf_counter() > deadline:
            raise RuntimeError(f"{process.args!r} does not answer:\n{output.read_text(errors='replace')[-2000:]}")
        time.sleep(_POLL_SECONDS)
