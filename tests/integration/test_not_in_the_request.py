"""What stands in no request and gives power all the same: an earlier spec of a service, a process out of a directory.

Through a rule that requires pod_security: baseline both are denied, and nothing changes; directly the case is real.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ..pod_security import IMAGE
from .conftest import baseline_before, started_or_skipped
from .dialogue import Api
from .dockerd import Dockerd


class Doors(NamedTuple):
    """An engine of its own, with experiments on, directly and through baseline."""

    around: Api
    through: Api
    folder: Path


@pytest.fixture(scope="module")
def doors(folder: Path) -> Iterator[Doors]:
    engine = Dockerd(folder / "experiments")
    (engine.folder / "daemon.json").write_text('{"experimental": true}')
    started_or_skipped(engine)
    engine.import_busybox()
    with baseline_before(engine, folder / "baseline-experiments") as proxy:
        yield Doors(engine.api, proxy.api, engine.folder)
    engine.stop()


def service(**spec: Any) -> dict[str, Any]:
    return {
        "Name": "old",
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": {"Image": IMAGE} | spec},
    }


def test_a_rollback_brings_back_what_no_body_shows(doors: Doors) -> None:
    swarm = {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"}
    assert doors.around.call("POST", "/swarm/init", swarm).status == 200

    def seen() -> dict[str, Any]:
        return dict(doors.around.call("GET", "/v1.41/services/old").json())

    def update(api: Api, body: Any, query: str = "") -> int:
        target = f"/v1.41/services/old/update?version={seen()['Version']['Index']}{query}"
        return api.call("POST", target, body).status

    powerful = service(Mounts=[{"Type": "bind", "Source": "/", "Target": "/host"}])
    assert doors.around.call("POST", "/v1.41/services/create", powerful).status == 201
    assert update(doors.through, service()) == 200
    before = seen()
    assert update(doors.through, service(), "&rollback=previous") == 403
    assert seen() == before
    assert "Mounts" not in before["Spec"]["TaskTemplate"]["ContainerSpec"]
    assert update(doors.around, service(), "&rollback=previous") == 200
    assert seen()["Spec"]["TaskTemplate"]["ContainerSpec"]["Mounts"][0]["Source"] == "/"


def test_a_checkpoint_is_read_wherever_its_name_leads(doors: Doors) -> None:
    container = doors.around.create("true")
    (doors.folder / "image").mkdir()

    def start(api: Api, name: str) -> str:
        up = "../" * 20
        return api.call("POST", f"/v1.41/containers/{container}/start?checkpoint={up}{doors.folder}/{name}").message

    for name in ("image", "none"):
        assert "denied by policy baseline" in start(doors.through, name)
    # Of the one the engine asks containerd to make a process, of the other it sees that it is not there.
    assert "none does not exist for container" in start(doors.around, "none")
    assert "does not exist for container" not in (told := start(doors.around, "image")) and "restore failed" in told
