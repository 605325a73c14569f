"""`sockproxy serve` as a process of its own, as a user starts it.

Owns start, stop and what can be seen from outside: the socket, the admin address, the audit file, the open descriptors.
Begin at `ProxyProcess.start`.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from string import Template
from typing import Any

from tests.ports import free_port

from .dialogue import Api, eventually

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Put before a command, so that it does not outlive a test run that was killed."""

PROJECT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0


class ProxyProcess:
    """One proxy in `folder`, in front of `engine`."""

    def __init__(
        self,
        folder: Path,
        engine: Path,
        policy: str,
        audit: str | None = None,
        config: str = "",
        network_of: int | None = None,
        workers: int = 1,
    ) -> None:
        """`config`: a configuration in the place of the options, with `$engine`, `$socket`, `$admin` and `$audit` where the
        options would say them. `network_of`: a process in whose network namespace it is to run."""
        folder.mkdir(parents=True, exist_ok=True)
        self.policy = policy
        self.socket = folder / "proxy.sock"
        self.audit = audit or str(folder / "audit.jsonl")
        self.log = folder / "proxy.log"
        self.api = Api(self.socket)
        self.admin = f"127.0.0.1:{free_port()}"
        self._engine = engine
        self._workers = workers
        self._place = [] if network_of is None else ["nsenter", "--net", "--target", str(network_of)]
        self._config = folder / "sockproxy.yaml" if config else None
        if self._config is not None:
            places = {"engine": engine, "socket": self.socket, "admin": self.admin, "audit": self.audit}
            self._config.write_text(Template(config).substitute(places))
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked_to_end = False

    def start(self) -> None:
        """Returns when the listener accepts connections."""
        options = [
            *("--listen", f"unix://{self.socket}", "--engine", f"unix://{self._engine}", "--policy", self.policy),
            *("--audit", self.audit, "--admin", f"tcp://{self.admin}"),
        ]
        if self._config is not None:
            options = ["--config", str(self._config)]
        options += ["--workers", str(self._workers)]
        command = [*DIES_WITH_US, *self._place, sys.executable, "-m", "sockproxy", "serve", *options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            eventually(self._accepts, START_SECONDS)
        except AssertionError:
            self._process.kill()
            self._process.wait()
            raise

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"sockproxy ended at start:\n{self.log.read_text()}"
        return self.api.accepts()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def terminate(self) -> None:
        """Asks it to end, once, without waiting."""
        assert self._process is not None
        if not self._is_asked_to_end:
            self._process.send_signal(signal.SIGTERM)
            self._is_asked_to_end = True

    def stop(self) -> None:
        """Asks it to end, and insists on a proper end."""
        if self._process is None:
            return
        self.terminate()
        process, self._process = self._process, None
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        assert code == 0, f"sockproxy did not end well on SIGTERM ({code}):\n{self.log.read_text()[-4000:]}"

    def resident_kib(self) -> int:
        """How much memory the process has."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def open_sockets(self) -> int:
        """How many sockets the process holds open, on either side."""
        folder = Path(f"/proc/{self.pid}/fd")
        return sum(read_link(entry).startswith("socket:") for entry in folder.iterdir())

    def trail(self) -> list[dict[str, Any]]:
        """What is in the audit file by now."""
        return [json.loads(line) for line in Path(self.audit).read_bytes().splitlines()]

    def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """The events of the trail with these values."""
        return [event for event in self.trail() if all(event.get(key) == value for key, value in wanted.items())]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


def read_link(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # closed since the folder was listed
        return ""
