"""What a kubelet of 1.4 does works through its policy, and the rest of API 1.24 does not reach the engine."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

from sockproxy.data import load_operations

from .conftest import Door
from .dialogue import Connection, eventually
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .registry import Registry

CASES = Path(__file__).parent.parent / "cases"
SESSION: list[dict[str, Any]] = json.loads((CASES / "kubernetes_session.json").read_text())["steps"]
DENIED = list(csv.reader((CASES / "kubernetes_denied.csv").read_text().splitlines()))[1:]
CALLED = [step["operation"] for step in SESSION if "operation" in step]


class Session:
    """One walk through the steps of the session. Each call has a connection of its own that is used again as long as it
    may, as Go's client does."""

    def __init__(self, door: Door, known: dict[str, str]) -> None:
        self._door = door
        self._known = known
        self._idle: list[Connection] = []
        self._open: dict[str, Connection] = {}

    def take(self, step: dict[str, Any]) -> None:
        if "operation" in step:
            self._call(step)
        elif "writes_to" in step:
            self._open[step["writes_to"]].send(step["text"].encode())
        elif "until" in step:
            self._open[step["reads_from"]].read_until(step["until"].encode())
        else:
            self._open.pop(step["reads_from"]).read_to_end()

    def _call(self, step: dict[str, Any]) -> None:
        connection = self._idle.pop() if self._idle else self._door.api.connect()
        body = self._filled(json.dumps(step["body"])).encode() + b"\n" if "body" in step else b""
        connection.send_request(step["method"], self._filled(step["target"]), body, **step.get("fields", {}))
        answer = connection.read_head()
        assert answer.status == step["status"], (step, answer, connection.read_body(step["method"], answer))
        if "stays_open_as" in step:
            self._open[step["stays_open_as"]] = connection
            return
        answer = answer._replace(body=connection.read_body(step["method"], answer))
        self._idle.append(connection)
        assert self._filled(step.get("contains", "")) in answer.body.decode()
        if "body_is" in step:
            assert answer.json() == step["body_is"]
        for name, member in step.get("keeps", {}).items():
            self._known[name] = answer.json()[member]

    def _filled(self, text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self._known[found[1]], text)

    def close(self) -> None:
        for connection in (*self._idle, *self._open.values()):
            connection.close()


def walk(door: Door, registry: Registry) -> None:
    repository = f"{registry.address}/pods/busybox"
    session = Session(door, {"pod": uuid4().hex, "repository": repository, "image": f"{repository}:latest"})
    try:
        for step in SESSION:
            session.take(step)
    finally:
        session.close()


def test_the_session_is_what_kubernetes_calls() -> None:
    kubernetes = {name for name, row in load_operations().items() if "1.4" in str(row["kubernetes"])}
    assert set(CALLED) == kubernetes
    assert len(kubernetes) == 22
    assert len(DENIED) == 57 and not kubernetes & {operation for operation, _, _ in DENIED}


def test_a_pods_life(kubelet_door: Door, registry: Registry) -> None:
    walk(kubelet_door, registry)


def test_the_engine_sees_the_same_calls(
    direct: Door, through: Callable[[str], Door], registry: Registry, engine: Dockerd
) -> None:
    seen = []
    for door in (direct, through("kubernetes-1.4")):
        mark = engine.mark()
        walk(door, registry)
        # what is percent-encoded where it need not be, and what is not, the proxy writes in one way
        seen.append([re.sub(r"[0-9a-f]{64}|[0-9a-f]{32}", "ID", unquote(call)) for call in engine.calls(mark)])
    assert seen[0] == seen[1]
    assert len(seen[0]) == len(CALLED)


def test_the_trail_tells_the_session(
    engine: Dockerd, registry: Registry, proxy: Callable[..., ProxyProcess], folder: Path
) -> None:
    kubelet = proxy(engine.socket, "kubernetes-1.4")
    walk(Door("kubelet", kubelet.socket, kubelet.api, folder), registry)
    eventually(lambda: len(kubelet.events(stage="completed")) == len(CALLED))
    assert [event["operation"] for event in kubelet.events(stage="decided")] == CALLED
    assert {event["effect"] for event in kubelet.trail()} == {"allow"}
    statuses = [event["status"] for event in sorted(kubelet.events(stage="completed"), key=lambda event: event["id"])]
    assert sorted(statuses) == sorted(step["status"] for step in SESSION if "status" in step)


@pytest.mark.parametrize("version", ["", "/v1.24"], ids=["unversioned", "v1.24"])
def test_the_other_57_are_denied_by_name_and_never_reach_the_engine(
    through: Callable[[str], Door], engine: Dockerd, session_proxies: Callable[[str], ProxyProcess], version: str
) -> None:
    door = through("kubernetes-1.4")
    mark, connections = engine.mark(), engine.connections()
    ids: dict[str, str] = {}
    with door.api.connect() as connection:  # one for all: a denial leaves it open
        for operation, method, target in DENIED:
            answer = connection.request(method, version + target)
            assert answer.status == 403, operation
            ids[answer.field("sockproxy-request-id") or "none"] = operation
            if method != "HEAD":
                assert answer.message.startswith(f"sockproxy: {operation} denied by policy kubernetes-1.4: ")
    assert engine.calls(mark) == []
    assert engine.connections() <= connections
    trail = session_proxies("kubernetes-1.4")
    eventually(lambda: {event["id"] for event in trail.events(stage="completed")} >= set(ids))
    decided = {event["id"]: event["operation"] for event in trail.events(stage="decided", effect="deny")}
    assert {id: decided[id] for id in ids} == ids


@pytest.mark.parametrize(
    ("operation", "method", "target"),
    [
        ("ContainerResize", "POST", "/containers/c1/resize?h=1&w=1"),
        ("ExecResize", "POST", "/exec/e1/resize?h=1&w=1"),
        ("SystemPingHead", "HEAD", "/_ping"),
    ],
)
def test_kubernetes_1_3_knows_two_less(
    through: Callable[[str], Door], engine: Dockerd, operation: str, method: str, target: str
) -> None:
    mark = engine.mark()
    answer = through("kubernetes-1.3").api.call(method, target)
    assert answer.status == 403
    assert method == "HEAD" or f" {operation} denied by policy kubernetes-1.3: " in answer.message
    assert engine.calls(mark) == []


@pytest.mark.parametrize(
    ("version", "status"), [("v1.20", 403), ("v1.21", 200), ("v1.24", 200), ("v1.41", 200)], ids=str
)
def test_kubernetes_1_4_speaks_1_21_or_newer(through: Callable[[str], Door], version: str, status: int) -> None:
    assert through("kubernetes-1.4").api.call("GET", f"/{version}/containers/json").status == status


@pytest.mark.parametrize(
    "target",
    ["/debug/pprof/cmdline", "/debug/vars", "/containers/json/", "/nope", "/v1.24/containers//json", "/%2e/info"],
)
def test_what_the_catalogue_does_not_know_never_reaches_the_engine(
    through: Callable[[str], Door], engine: Dockerd, target: str
) -> None:
    connections = engine.connections()
    assert through("kubernetes-1.4").api.call("GET", target).status in (400, 403)
    assert engine.connections() <= connections
