"""Killed at any moment, no change is done whose record is lost, and the trail stays one chain.

A proxy is killed by SIGKILL again and again while clients change things, at the moments of `MOMENTS`. What the engine itself
says has reached it is compared with the trail. Files are moved away and signed all the while. `SOCKPROXY_KILLS` asks for more.
"""

import glob
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from sockproxy.recording.checkpoint import load_verifier
from sockproxy.recording.trail import Report, verify

from .dialogue import eventually
from .dockerd import Dockerd
from .killable import Nursery
from .null_engine import NullEngine

KILLS = int(os.environ.get("SOCKPROXY_KILLS", "120"))
KILLS_OF_REAL_ENGINE = max(6, KILLS // 20)
CLIENTS = 4
MOMENTS = ("a request was sent", "the engine got its first byte", "it was answered")

CONFIG = """
version: 1
engine: unix://{engine}
listeners: [{{address: "unix://{folder}/proxy.sock", policy: allow-all}}]
audit:
  - file: {folder}/audit.jsonl
    sign: {{key: {folder}/audit.key, every: 50, seconds: 10}}
    rotate: {{bytes: 60000}}
"""


class Stage:
    """A proxy that is killed, its clients, and its trail."""

    def __init__(self, folder: Path, engine: Path) -> None:
        self.folder = folder
        for command in ("genpkey -algorithm ed25519 -out audit.key", "pkey -in audit.key -pubout -out audit.pub"):
            subprocess.run(["openssl", *command.split()], cwd=folder, check=True)
        config = folder / "sockproxy.yaml"
        config.write_text(CONFIG.format(engine=engine, folder=folder))
        self.nursery = Nursery(config, folder / "log")
        self.pid = 0
        self.serial = 0
        self.lock = threading.Lock()
        self.due: str | None = None  # the moment at which it is to be killed
        self.left = 0  # that often it has to come first

    def kill_at(self, moment: str, count: int) -> None:
        with self.lock:
            self.due, self.left = moment, count

    def it_is(self, moment: str) -> None:
        """Called whenever it is that moment."""
        with self.lock:
            if moment != self.due:
                return
            self.left -= 1
            if self.left <= 0:
                self.due = None
                os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        self.pid = self.nursery.fork()
        eventually(self._accepts)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(self.folder / "proxy.sock"))
            return True
        return False

    def is_changed_until_it_is_killed(self) -> None:
        clients = [threading.Thread(target=self._change) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def _change(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(20)
            connection.connect(str(self.folder / "proxy.sock"))
            while True:
                with self.lock:
                    self.serial += 1
                    target = f"/containers/k{self.serial}/start"
                connection.sendall(f"POST {target} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
                self.it_is(MOMENTS[0])
                connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * (self.serial % 3))
                if not connection.recv(65536):
                    return
                self.it_is(MOMENTS[2])

    def files(self) -> list[str]:
        """The trail's, and its newest checkpoint."""
        return glob.glob(f"{self.folder}/audit.jsonl*")

    def recorded(self) -> set[str]:
        """The targets of all decisions in the trail; half a line at its end says nothing."""
        targets = set()
        for file in self.files():
            for line in Path(file).read_bytes().splitlines(keepends=True):
                event = json.loads(line) if line.endswith(b"\n") else {"stage": "none"}
                if event["stage"] == "decided":
                    targets.add(event["target"])
        return targets

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The proxy does nothing meanwhile: it would move a file away while they are listed."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].startswith("T"))
        yield
        os.kill(self.pid, signal.SIGCONT)

    def verified(self) -> Report:
        return verify(self.files(), public_keys=[load_verifier(f"{self.folder}/audit.pub")])

    def tear(self) -> None:
        """What a machine leaves that loses its power: half a line."""
        with open(self.folder / "audit.jsonl", "ab") as file:
            file.write(b'{"api_version":"1.41","body":nu')

    def logged(self, event: str) -> int:
        return (self.folder / "log").read_text().count(event)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        self.nursery.end()


@pytest.fixture
def place(folder: Path) -> Iterator[Path]:
    made = folder / uuid4().hex[:8]
    made.mkdir()
    return made


def killed_again_and_again(stage: Stage, kills: int, moments: tuple[str, ...], reached: Callable[[], set[str]]) -> int:
    """How many changes reached the engine. All that did are in the trail, after each of so many kills."""
    chance = Random(1)
    torn = 0
    stage.start()
    for number in range(kills):
        stage.kill_at(moments[number % len(moments)], chance.randint(1, 12))
        stage.is_changed_until_it_is_killed()
        unrecorded = reached() - stage.recorded()
        assert not unrecorded
        if number % 5 == 4:
            stage.tear()
            torn += 1
        stage.start()
        with stage.standing_still():
            report = stage.verified()
        assert report.is_whole, report.broken
        assert report.trails <= 1
    stage.end()
    report = stage.verified()
    assert report.is_whole, report.broken
    assert stage.logged("audit-line-cut") >= torn  # a kill in the midst of a write tears one, too
    assert stage.logged("audit-lines-missing") == 0
    return len(reached())


def test_whatever_reached_an_engine_is_recorded(place: Path) -> None:
    stage: Stage | None = None

    def arrived() -> None:
        if stage is not None:
            stage.it_is(MOMENTS[1])

    with NullEngine(place / "engine.sock", arrived) as engine:
        stage = Stage(place, engine.path)
        count = killed_again_and_again(
            stage, KILLS, MOMENTS, lambda: {head.split(b" ", 2)[1].decode() for head in engine.requests()}
        )
    assert count > KILLS
    assert len(stage.files()) > 2


def test_whatever_reached_dockerd_is_recorded(own_engine: Dockerd, place: Path) -> None:
    stage = Stage(place, own_engine.socket)
    mark = own_engine.mark()

    def reached() -> set[str]:
        return {call.partition(" ")[2] for call in own_engine.calls(mark) if call.startswith("POST ")}

    count = killed_again_and_again(stage, KILLS_OF_REAL_ENGINE, (MOMENTS[0], MOMENTS[2]), reached)
    assert count >= KILLS_OF_REAL_ENGINE // 2
