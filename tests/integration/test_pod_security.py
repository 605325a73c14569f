"""What pod_security denies is real: the same body, sent to the engine itself, yields a container that has it.

The rows are those of `cases/pod_security.yaml`. Where this engine refuses or ignores a body the row says why, and that is
tested, too. Services are not asked for, since they need a swarm.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ..pod_security import BODIES, IMAGE, Ordinary, Row, facts, load_ordinary, load_rows
from .dialogue import Answer, Api
from .dockerd import Dockerd

ROWS = [row for row in load_rows() if row.denied and row.level == "baseline" and not row.beside and not row.unsent]


def rows_of(operation_id: str) -> pytest.MarkDecorator:
    rows = [row for row in ROWS if row.operation_id == operation_id]
    return pytest.mark.parametrize("row", rows, ids=lambda row: json.dumps(row.body))


@pytest.fixture(scope="module")
def api(session_engine: Dockerd) -> Iterator[Api]:
    """An engine with a running container `other`, which the rows join."""
    session_engine.remove_containers()
    answer = session_engine.api.call("POST", "/containers/create?name=other", {"Image": IMAGE, "Cmd": ["sleep", "600"]})
    assert answer.status == 201, answer
    session_engine.api.start("other")
    yield session_engine.api
    session_engine.remove_containers()


def field_of(row: Row) -> str:
    """The field that holds what is denied, without the places in it."""
    return row.denied.partition("[")[0]


def at(data: Any, path: str) -> Any:
    for name in path.split("."):
        data = (data or {}).get(name)
    return data


def expected(row: Row) -> dict[str, Any]:
    """Field -> what the engine shows of it."""
    return row.seen or {field_of(row): at(facts(row.operation_id, row.body).body, field_of(row))}


def shown_by(seen: dict[str, Any], path: str) -> Any:
    """A field of a create's body in what inspect says."""
    within_config = path.partition(".")[0] not in ("HostConfig", "NetworkingConfig")
    return at(seen["Config"] if within_config else seen, path)


def create(api: Api, body: Any) -> Answer:
    return api.call("POST", "/v1.41/containers/create?name=new", body)


def inspect_and_delete(api: Api, name: str) -> dict[str, Any]:
    with api.connect() as connection:
        other = connection.request("GET", "/v1.41/containers/other/json").json()["Id"]
        answer = connection.request("GET", f"/v1.41/containers/{name}/json")
        seen: dict[str, Any] = json.loads(answer.body.decode().replace(other, "other"))
        assert connection.request("DELETE", f"/v1.41/containers/{name}?v=1&force=1").status == 204
    return seen


@rows_of("ContainerCreate")
def test_a_create_that_is_denied_yields_the_power(api: Api, row: Row) -> None:
    answer = create(api, row.body)
    if row.refused:
        assert answer.status in (400, 404, 500), answer
        return
    assert answer.status == 201 or row.depends, answer
    seen = inspect_and_delete(api, "new") if answer.status == 201 else {}
    for path, value in expected(row).items():
        assert row.depends or (shown_by(seen, path) == value) == (not row.ignored), shown_by(seen, path)


@rows_of("ContainerStart")
def test_a_start_that_is_denied_yields_the_power(api: Api, row: Row) -> None:
    container = api.create("true")
    api.call("POST", f"/v1.23/containers/{container}/start", row.body)
    seen = inspect_and_delete(api, container)
    for path, value in expected(row).items():
        assert shown_by(seen, path) == value


@rows_of("ContainerUpdate")
def test_an_update_that_is_denied(api: Api, row: Row) -> None:
    container = api.create("true")
    answer = api.call("POST", f"/v1.41/containers/{container}/update", row.body)
    seen = inspect_and_delete(api, container)
    assert answer.status == 200 or row.depends, answer
    assert row.depends or (at(seen["HostConfig"], field_of(row)) == at(row.body, field_of(row))) == (not row.ignored)


@rows_of("ContainerExec")
def test_an_exec_that_is_denied_yields_the_power(api: Api, row: Row) -> None:
    answer = api.call("POST", "/v1.41/containers/other/exec", row.body)
    assert answer.status == 201, answer
    seen = api.call("GET", f"/v1.41/exec/{answer.json()['Id']}/json").json()
    assert seen["ProcessConfig"]["privileged"] is True


@rows_of("VolumeCreate")
def test_a_volume_that_is_denied_yields_the_power(api: Api, row: Row) -> None:
    answer = api.call("POST", "/v1.41/volumes/create", row.body)
    assert answer.status == 201, answer
    options = answer.json()["Options"]
    assert api.call("DELETE", "/v1.41/volumes/v1").status == 204
    if not row.ignored:
        assert options == facts(row.operation_id, row.body).body["DriverOpts"]


NEEDS_QUOTAS = "--storage-opt"
"""The one flag that this engine refuses: its file system has no quotas."""


@pytest.mark.parametrize("ordinary", load_ordinary(), ids=lambda each: each.name)
def test_what_is_forwarded_of_an_ordinary_create_makes_the_same_container(api: Api, ordinary: Ordinary) -> None:
    canonical = BODIES.read_payload("ContainerCreate", None, json.dumps(ordinary.body).encode()).canonical
    made = []
    for body in (ordinary.body, canonical):
        answer = create(api, body)
        if NEEDS_QUOTAS in ordinary.name:
            assert answer.status == 500, answer
            return
        assert answer.status == 201, answer
        seen = inspect_and_delete(api, "new")
        seen["Config"]["Hostname"] = seen["Config"]["Hostname"].replace(seen["Id"][:12], "ID")
        made.append((answer.json()["Warnings"], seen["Config"], seen["HostConfig"]))
    assert made[0] == made[1]
