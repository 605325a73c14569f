"""Through a rule that requires pod_security: baseline nobody gets power over the host, and ordinary creates are as ever.

The rows are those of `cases/pod_security.yaml` that a real engine takes (`test_pod_security` sends them to it directly).
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ..pod_security import IMAGE, Ordinary, Row, as_sent, load_ordinary
from .conftest import start_mighty
from .dialogue import Answer, Api
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import tar_of
from .test_pod_security import ROWS

TARGETS = {
    "ContainerCreate": "/v1.41/containers/create?name=new",
    "ContainerStart": "/v1.23/containers/idle/start",
    "ContainerUpdate": "/v1.41/containers/idle/update",
    "ContainerExec": "/v1.41/containers/other/exec",
    "VolumeCreate": "/v1.41/volumes/create",
    "NetworkConnect": "/v1.41/networks/bridge/connect",
    "ServiceCreate": "/v1.41/services/create",
    "ServiceUpdate": "/v1.41/services/any/update",
    "ImageBuild": "/v1.41/build",
}
NEEDS_QUOTAS = "--storage-opt"
"""The one flag that this engine refuses: its file system has no quotas."""

READS = ("/containers/json?all=1", "/images/json?all=1", "/volumes", "/containers/idle/json", "/containers/other/json")
"""What is looked at before and afterwards."""


class Doors(NamedTuple):
    """An engine, directly and through baseline; `other` runs in it, and so does `mighty`, which has power; `idle` does not."""

    engine: Dockerd
    proxy: ProxyProcess

    @property
    def around(self) -> Api:
        return self.engine.api

    @property
    def through(self) -> Api:
        return self.proxy.api

    def state(self) -> list[Any]:
        with self.around.connect() as connection:
            return [connection.request("GET", target).json() for target in READS]


@pytest.fixture(scope="module")
def doors(session_engine: Dockerd, baseline: ProxyProcess) -> Iterator[Doors]:
    session_engine.remove_containers()
    for name in ("other", "idle"):
        body = {"Image": IMAGE, "Cmd": ["sleep", "600"]}
        assert session_engine.api.call("POST", f"/containers/create?name={name}", body).status == 201
    session_engine.api.start("other")
    start_mighty(session_engine.api)
    yield Doors(session_engine, baseline)
    session_engine.remove_containers()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operation_id} {json.dumps(row.body)}?{row.query}")
def test_what_is_denied_changes_nothing(doors: Doors, row: Row) -> None:
    before, mark = _timeless(doors.state()), doors.engine.mark()
    target = f"{TARGETS[row.operation_id]}?{as_sent(row.query)}" if row.query else TARGETS[row.operation_id]
    if row.operation_id == "ImageBuild":
        context = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN true\n")
        answer = doors.through.call("POST", target, context, content_type="application/x-tar")
    else:
        answer = doors.through.call("POST", target, row.body)
    assert answer.status == 403, answer
    text = answer.body.decode() if row.operation_id == "ContainerStart" else answer.message
    assert f"sockproxy: {row.operation_id} denied by policy baseline: " in text
    assert row.denied in text
    assert not [call for call in doors.engine.calls(mark) if call.startswith("POST")]
    assert _timeless(doors.state()) == before


def _timeless(state: list[Any]) -> Any:
    """Without what time changes by itself, and what comes in any order."""
    containers, images, volumes, *rest = state
    names = sorted(volume["Name"] for volume in volumes["Volumes"] or ())
    return [{**each, "Status": ""} for each in containers], sorted(image["Id"] for image in images), names, rest


def create(api: Api, body: Any) -> Answer:
    return api.call("POST", "/v1.41/containers/create?name=ordinary", body)


def inspected(api: Api) -> dict[str, Any]:
    answer = api.call("GET", "/v1.41/containers/ordinary/json")
    assert answer.status == 200, answer
    return dict(answer.json())


def in_effect(seen: dict[str, Any]) -> Any:
    """What was asked for, without what is another in each container."""
    config = {**seen["Config"], "Hostname": seen["Config"]["Hostname"].replace(seen["Id"][:12], "ID")}
    mounts = [{key: mount[key] for key in ("Type", "Destination", "RW")} for mount in seen["Mounts"]]
    return config, seen["HostConfig"], sorted(mounts, key=str), seen["Path"], seen["Args"], seen["Name"]


@pytest.mark.parametrize("ordinary", load_ordinary(), ids=lambda each: each.name)
def test_an_ordinary_create_makes_the_same_container(doors: Doors, ordinary: Ordinary) -> None:
    made = []
    for api in (doors.around, doors.through):
        answer = create(api, ordinary.body)
        if NEEDS_QUOTAS in ordinary.name:
            assert answer.status == 500, answer
            return
        assert answer.status == 201, answer
        seen = inspected(doors.around)
        assert inspected(doors.through) == seen
        made.append((answer.json()["Warnings"], in_effect(seen)))
        assert doors.around.call("DELETE", "/v1.41/containers/ordinary?v=1&force=1").status == 204
    assert made[0] == made[1]


def test_the_reason_is_counted(doors: Doors) -> None:
    doors.through.call("POST", TARGETS["ContainerExec"], {"Cmd": ["true"], "Privileged": True})
    counted = [line for line in doors.proxy.metrics().splitlines() if line.startswith("sockproxy_decisions_total{")]
    assert [line for line in counted if 'reason="requirement"' in line and 'operation="ContainerExec"' in line]
