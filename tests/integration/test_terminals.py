"""Recorded sessions of docker's own client: what it showed is what is played back."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Door
from .dialogue import eventually
from .dockerd import IMAGE, Dockerd
from .proxy_process import ProxyProcess
from .pty_client import Terminal

CONFIG = """
version: 1
engine: unix://$engine
listeners: [{address: "unix://$socket", policy: recorded}]
audit: [{file: $audit}]
recordings: {directory: sessions}
policies:
  recorded:
    allow:
      - operations: ["*"]
      - {operations: [ContainerAttach, ExecStart], record: true}
"""


@pytest.fixture
def recording(folder: Path, engine: Dockerd) -> Iterator[ProxyProcess]:
    proxy = ProxyProcess(Path(tempfile.mkdtemp(dir=folder, prefix="r")), engine.socket, "recorded", config=CONFIG)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def door(recording: ProxyProcess, tmp_path: Path) -> Door:
    return Door("recorded", recording.socket, recording.api, tmp_path)


def replayed(proxy: ProxyProcess, operation: str) -> str:
    """What `audit replay` shows of the one session of that operation."""
    sessions = [event for event in proxy.events() if event["operation"] == operation and event.get("recording")]
    (session,) = sessions
    command = [sys.executable, "-m", "sockproxy", "audit", "replay", "--speed", "0", session["id"], proxy.audit]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def was_recorded(proxy: ProxyProcess) -> bool:
    return any(event.get("recording") for event in proxy.events())


def sizes(proxy: ProxyProcess) -> list[str]:
    """The sizes of the terminal in the one session that there is."""
    (file,) = (Path(proxy.audit).parent / "sessions").iterdir()
    events = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    return [data for _, kind, data in events if kind == "r"]


WATCH_SIZE = b"until stty size | grep '%d %d'; do sleep 0.02; done\r"


def test_a_shell_in_a_terminal(recording: ProxyProcess, door: Door) -> None:
    container = door.api.run("sleep", "1000")
    with Terminal(door, "exec", "-it", "-e", "PS1=$ ", container, "sh", rows=33, columns=99) as terminal:
        terminal.read_until(b"$ ")
        terminal.send(WATCH_SIZE % (33, 99))
        terminal.read_until(b"\n33 99\r\n")
        terminal.send(WATCH_SIZE % (40, 120))
        terminal.resize_until(40, 120, b"\n40 120\r\n")
        # It is recorded when the engine has answered, and the shell may be faster.
        eventually(lambda: "120x40" in sizes(recording))
        terminal.send(b"echo hel''lo\r")
        terminal.read_until(b"\nhello\r\n")
        terminal.send(b"exit\r")
        eventually(lambda: was_recorded(recording))
    shown = replayed(recording, "ExecStart")
    assert "\n33 99\n" in shown
    assert "\n40 120\n" in shown
    assert "\nhello\n" in shown
    assert [sizes(recording)[0], sizes(recording)[-1]] == ["99x33", "120x40"]


def test_output_without_a_terminal(recording: ProxyProcess, door: Door) -> None:
    done = door.docker("run", "--rm", "-a", "stdout", "-a", "stderr", IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert sorted(replayed(recording, "ContainerAttach").splitlines()) == ["err", "out"]
