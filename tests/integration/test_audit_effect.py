"""Recorded before it is done: no write and no tunnel reaches the engine without its line in the audit file.

The engine here only watches: in the moment when the first byte of a request arrives it looks into the file.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from sockproxy.data import load_operations

from .conftest import Door
from .dialogue import Answer, Api, attached, eventually, exec_started
from .dockerd import Dockerd
from .null_engine import NullEngine
from .proxy_process import PROJECT, ProxyProcess

WRITES = {
    name: (row["method"], row["path"])
    for name, row in load_operations().items()
    if row["access"] in ("write", "tunnel") and row["last_api"] is None
}


@pytest.fixture
def place(folder: Path) -> Path:
    """A folder of the test's own with a short name."""
    made = folder / uuid4().hex[:8]
    made.mkdir()
    return made


def send(api: Api, operation: str) -> Answer:
    method, path = WRITES[operation]
    target = re.sub(r"\{\w+\}", "abc", str(path))
    fields = {"connection": "Upgrade", "upgrade": "tcp"} if operation in ("Session", "Grpc") else {}
    return api.call(str(method), target, **fields)


@pytest.mark.parametrize("policy", ["allow-all", "kubernetes-1.4"])
def test_the_line_is_there_when_the_first_byte_arrives(
    place: Path, proxy: Callable[..., ProxyProcess], policy: str
) -> None:
    audit = place / "audit.jsonl"
    seen: list[list[str]] = []

    def look() -> None:
        events = [json.loads(line) for line in audit.read_bytes().splitlines()]
        seen.append([event["operation"] for event in events if event["stage"] == "decided"])

    with NullEngine(place / "engine.sock", look) as engine:
        between = proxy(engine.path, policy, str(audit))
        for operation in WRITES:
            seen.clear()
            before = len(engine.requests())
            answer = send(between.api, operation)
            if answer.status == 403:
                assert len(engine.requests()) == before
            else:
                assert (operation, answer.status) == (operation, 200)
                assert operation in {decided[-1] for decided in seen if decided}


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


@pytest.fixture
def tiny_disk(place: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    at = place / "disk"
    at.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(at)], check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield at
    subprocess.run(["umount", str(at)], check=True)


def check_writes_are_refused(between: ProxyProcess, engine: NullEngine) -> None:
    for operation in ("ContainerCreate", "ContainerStart", "ContainerAttach", "ImageDelete"):
        before = len(engine.requests())
        answer = send(between.api, operation)
        assert answer.status == 503
        assert answer.message.startswith("sockproxy: ")
        assert len(engine.requests()) == before


def test_writes_wait_for_a_full_disk_and_reads_pass(
    place: Path, tiny_disk: Path, proxy: Callable[..., ProxyProcess]
) -> None:
    with NullEngine(place / "engine.sock") as engine:
        between = proxy(engine.path, "allow-all", str(tiny_disk / "audit.jsonl"))
        assert send(between.api, "ContainerStart").status == 200
        eventually(lambda: between.events(stage="completed", operation="ContainerStart"))
        fill(tiny_disk / "rest")
        fill_gap(between, engine)
        check_writes_are_refused(between, engine)
        assert between.api.call("GET", "/containers/json").status == 200
        assert "sockproxy_audit_rejected_requests_total" in between.metrics()
        (tiny_disk / "rest").unlink()
        assert send(between.api, "ContainerStart").status == 200


def fill_gap(between: ProxyProcess, engine: NullEngine) -> None:
    """The last block of the audit file still has room for a line or a dozen."""
    for _ in range(50):
        if send(between.api, "ContainerStart").status == 503:
            return
    raise AssertionError("the disk is full, and writes go on")


def test_a_device_that_takes_nothing(place: Path, proxy: Callable[..., ProxyProcess]) -> None:
    with NullEngine(place / "engine.sock") as engine:
        between = proxy(engine.path, "allow-all", "/dev/full")
        check_writes_are_refused(between, engine)
        assert between.api.call("GET", "/containers/json").status == 200
        assert between.api.call("GET", "/_ping").status == 200


def test_a_refused_write_reaches_no_real_engine(engine: Dockerd, proxy: Callable[..., ProxyProcess]) -> None:
    between = proxy(engine.socket, "allow-all", "/dev/full")
    mark = engine.mark()
    assert between.api.call("POST", "/volumes/create", {"Name": "never"}).status == 503
    assert engine.calls(mark) == []
    assert engine.api.call("GET", "/volumes/never").status == 404


def verify(file: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "sockproxy", "audit", "verify", str(file)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=30, check=False)


def mixed_work(door: Door) -> None:
    """Reads, writes, tunnels, denials and what cannot be read."""
    container = door.api.run("sleep", "1000")
    with exec_started(door.api, door.api.exec(container, "cat", AttachStdin=True)) as connection:
        connection.send(b"12345")
        connection.half_close()
        assert len(connection.read_to_end()) == 8 + 5
    with attached(door.api, container):
        pass
    assert door.api.call("GET", "/events").status == 403
    assert door.api.call("GET", "/x/../info").status in (400, 403)
    assert door.api.call("DELETE", f"/containers/{container}?force=1").status == 204


def test_a_trail_of_mixed_work_can_be_verified(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], folder: Path
) -> None:
    between = proxy(engine.socket, "kubernetes-1.4")
    mixed_work(Door("mixed", between.socket, between.api, folder))
    between.stop()
    trail = between.trail()
    assert [event["seq"] for event in trail] == list(range(trail[0]["seq"], trail[0]["seq"] + len(trail)))
    decided = [event["id"] for event in trail if event["stage"] == "decided"]
    completed = [event["id"] for event in trail if event["stage"] == "completed"]
    assert len(set(decided)) == len(decided) and len(set(completed)) == len(completed)
    assert set(decided) <= set(completed)
    assert verify(Path(between.audit)).returncode == 0


def test_the_trail_counts_what_went_through_a_tunnel(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], folder: Path
) -> None:
    between = proxy(engine.socket, "kubernetes-1.4")
    mixed_work(Door("mixed", between.socket, between.api, folder))
    eventually(lambda: between.events(stage="completed", operation="ContainerDelete"))
    (start,) = between.events(stage="completed", operation="ExecStart")
    assert start["status"] == 101
    assert start["bytes_out"] == 8 + 5
    assert start["bytes_in"] >= 5
    (attach,) = between.events(stage="completed", operation="ContainerAttach")
    assert attach["status"] == 101
    (events,) = between.events(stage="completed", operation="SystemEvents")
    assert (events["status"], events["effect"]) == (403, "deny")


def test_each_of_many_equal_requests_leaves_its_lines(engine: Dockerd, proxy: Callable[..., ProxyProcess]) -> None:
    """However well it is remembered what a request is, each is one of its own in the trail and in the metrics."""
    between = proxy(engine.socket, "readonly")
    requests = [
        ("GET", "/version"),
        ("GET", "/v1.41/containers/json"),
        ("HEAD", "/_ping"),
        ("POST", "/containers/x/start"),
    ]
    with between.api.connect() as one, between.api.connect() as other:
        for _ in range(50):
            for method, target in requests:
                for connection in (one, other):
                    assert connection.request(method, target).status == (403 if method == "POST" else 200)
    counted = between.metrics()
    assert 'sockproxy_decisions_total{effect="allow",operation="SystemVersion"' in counted
    between.stop()
    for stage in ("decided", "completed"):
        ids = [event["id"] for event in between.events(stage=stage) if event["operation"] != "SystemEvents"]
        assert len(ids) == len(set(ids)) == 50 * len(requests) * 2
    assert verify(Path(between.audit)).returncode == 0


@pytest.mark.parametrize("change", ["edit", "remove", "swap"])
def test_a_trail_that_was_changed_shows_it(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], place: Path, change: str
) -> None:
    between = proxy(engine.socket, "kubernetes-1.4")
    between.api.call("POST", "/containers/nope/start")
    between.api.call("GET", "/info")
    between.stop()
    lines = Path(between.audit).read_bytes().splitlines(keepends=True)
    assert len(lines) >= 4
    changed = {
        "edit": [lines[0].replace(b"nope", b"nop3"), *lines[1:]],
        "remove": [lines[0], *lines[2:]],
        "swap": [lines[1], lines[0], *lines[2:]],
    }[change]
    file = place / "changed.jsonl"
    file.write_bytes(b"".join(lines))
    assert verify(file).returncode == 0
    file.write_bytes(b"".join(changed))
    assert verify(file).returncode == 1


def test_a_trail_goes_on_after_a_restart(engine: Dockerd, proxy: Callable[..., ProxyProcess], place: Path) -> None:
    audit = place / "audit.jsonl"
    for _ in range(2):
        between = proxy(engine.socket, "kubernetes-1.4", str(audit))
        between.api.call("GET", "/info")
        between.stop()
    assert verify(audit).returncode == 0
    assert len(between.events(stage="completed", operation="SystemInfo")) == 2
