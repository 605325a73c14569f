"""What pod_security denies is real: the same body, sent to the engine itself, yields a container that has it.

The rows are those of `cases/pod_security.yaml`. Where this engine refuses or ignores a body the row says why, and that is
tested, too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..pod_security import IMAGE, Row, as_sent, facts, load_rows
from .conftest import start_mighty, started_or_skipped
from .dialogue import Answer, Api, eventually
from .dockerd import Dockerd
from .rootfs import tar_of

NAMESPACE = "readlink /proc/self/ns/net"

ROWS = [row for row in load_rows() if row.denied and row.level == "baseline" and not row.beside and not row.unsent]


def rows_of(operation_id: str) -> pytest.MarkDecorator:
    rows = [row for row in ROWS if row.operation_id == operation_id]
    return pytest.mark.parametrize("row", rows, ids=lambda row: f"{json.dumps(row.body)}?{row.query}")


JOINED = ("other", "mighty")


@pytest.fixture(scope="module")
def api(session_engine: Dockerd) -> Iterator[Api]:
    """An engine with the running containers that the rows join: `other`, and `mighty`, which has the power of the host."""
    session_engine.remove_containers()
    answer = session_engine.api.call("POST", "/containers/create?name=other", {"Image": IMAGE, "Cmd": ["sleep", "600"]})
    assert answer.status == 201, answer
    session_engine.api.start("other")
    start_mighty(session_engine.api)
    yield session_engine.api
    session_engine.remove_containers()
    assert session_engine.api.call("POST", "/images/prune").status == 200


@pytest.fixture(scope="module")
def swarm(folder: Path) -> Iterator[Api]:
    """An engine of its own, since a swarm leaves networks behind."""
    engine = started_or_skipped(Dockerd(folder / "swarm"))
    engine.import_busybox()
    answer = engine.api.call("POST", "/swarm/init", {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"})
    assert answer.status == 200, answer
    yield engine.api
    engine.stop()


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


def has(seen: Any, wanted: Any) -> bool:
    """Whether what is seen is what was wanted; the engine writes more fields than it was given."""
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return all(has(seen.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(seen, list):
        return len(seen) == len(wanted) and all(map(has, seen, wanted))
    return bool(seen == wanted)


def shown_by(seen: dict[str, Any], path: str) -> Any:
    """A field of a create's body in what inspect says."""
    within_config = path.partition(".")[0] not in ("HostConfig", "NetworkingConfig")
    return at(seen["Config"] if within_config else seen, path)


def create(api: Api, body: Any) -> Answer:
    return api.call("POST", "/v1.41/containers/create?name=new", body)


def namespace(api: Api, mode: str) -> str:
    """The network namespace that a container of this network mode has."""
    container = api.run(*NAMESPACE.split(), HostConfig={"NetworkMode": mode})
    assert api.call("POST", f"/containers/{container}/wait").status == 200
    seen = api.logs(container).decode().strip()
    assert api.call("DELETE", f"/containers/{container}").status == 204
    assert seen.startswith("net:[")
    return seen


def inspect_and_delete(api: Api, name: str) -> dict[str, Any]:
    with api.connect() as connection:
        ids = {each: connection.request("GET", f"/v1.41/containers/{each}/json").json()["Id"] for each in JOINED}
        answer = connection.request("GET", f"/v1.41/containers/{name}/json")
        text = answer.body.decode()
        for each, id in ids.items():
            text = text.replace(id, each)
        seen: dict[str, Any] = json.loads(text)
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
        assert row.depends or has(shown_by(seen, path), value) == (not row.ignored), shown_by(seen, path)


@rows_of("ContainerStart")
def test_a_start_that_is_denied_yields_the_power(api: Api, row: Row) -> None:
    container = api.create("true")
    answer = api.call("POST", f"/v1.23/containers/{container}/start?{as_sent(row.query)}", row.body)
    if row.refused:
        assert answer.status in (400, 403, 500), answer
    seen = inspect_and_delete(api, container)
    for path, value in expected(row).items():
        assert has(shown_by(seen, path), value)


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


@rows_of("ServiceCreate")
def test_a_service_that_is_denied_is_given_the_power(swarm: Api, row: Row) -> None:
    none_runs = {"Name": "new", "Mode": {"Replicated": {"Replicas": 0}}}
    answer = swarm.call("POST", "/v1.41/services/create", none_runs | row.body)
    if row.refused:
        assert answer.status in (400, 403, 500), answer
        return
    assert answer.status == 201, answer
    seen = swarm.call("GET", "/v1.41/services/new").json()["Spec"]
    assert swarm.call("DELETE", "/v1.41/services/new").status == 200
    for path, value in expected(row).items():
        assert row.depends or has(at(seen, path), value) == (not row.ignored), at(seen, path)


def build(api: Api, command: str, query: str = "") -> Answer:
    """A build of the classic builder that runs a command."""
    context = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN {command}\n")
    target = f"/v1.41/build?nocache=1&{as_sent(query)}"
    return api.call("POST", target, context, content_type="application/x-tar")


def printed(answer: Answer) -> list[str]:
    """What a build's command has printed."""
    parts = [json.loads(line) for line in answer.body.splitlines()]
    assert answer.status == 200 and not [part for part in parts if "error" in part], answer
    lines = "".join(part.get("stream", "") for part in parts).splitlines()
    return [line for line in lines if not line.startswith(("Step ", " --->", "Removing ", "Successfully "))]


@rows_of("ImageBuild")
def test_a_build_that_is_denied_has_the_power(api: Api, row: Row) -> None:
    answer = build(api, row.shows or NAMESPACE, row.query)
    if row.refused:
        assert answer.status in (400, 404, 500) or b'"error"' in answer.body, answer
    elif row.shows in ("", NAMESPACE):
        theirs = [namespace(api, mode) for mode in ("host", "container:other")]
        assert (printed(answer)[0] in theirs) == (not row.ignored)
    elif not (row.depends and row.depends.partition(": ")[2].encode() in answer.body):
        assert printed(answer) != printed(build(api, row.shows)) != []


def test_the_engine_fetches_a_context_in_the_hosts_network(api: Api) -> None:
    serve = f"echo FROM {IMAGE} > /tmp/a.txt; exec httpd -f -p 127.0.0.1:8099 -h /tmp"
    server = api.run("sh", "-c", serve, HostConfig={"NetworkMode": "host"})
    target = "/v1.41/build?remote=http://127.0.0.1:8099/a.txt"
    eventually(lambda: b"Successfully built" in api.call("POST", target).body)
    assert api.call("DELETE", f"/containers/{server}?force=1").status == 204


def test_a_name_of_a_user_can_be_roots_and_a_number_cannot(api: Api) -> None:
    lies = "for name in app 1000; do echo $name:x:0:0::/:/bin/sh >> /etc/passwd; done"
    liar = api.run("sh", "-c", lies)
    assert api.call("POST", f"/containers/{liar}/wait").status == 200
    assert api.call("POST", f"/commit?container={liar}&repo=liar", {}).status == 201
    seen = {}
    for user in ("app", "1000"):
        container = api.run("id", "-u", Image="liar", User=user)
        assert api.call("POST", f"/containers/{container}/wait").status == 200
        seen[user] = api.call("GET", f"/containers/{container}/logs?stdout=1").body[8:].strip()
        assert api.call("DELETE", f"/containers/{container}").status == 204
    assert api.call("DELETE", "/images/liar?force=1").status == 200
    assert api.call("DELETE", f"/containers/{liar}").status == 204
    assert seen == {"app": b"0", "1000": b"1000"}


def test_the_hosts_network_is_the_hosts_by_its_name_alone(api: Api) -> None:
    (host,) = [each["Id"] for each in api.call("GET", "/networks").json() if each["Name"] == "host"]

    assert namespace(api, "host") == namespace(api, "host")
    assert namespace(api, "host") not in (namespace(api, host), namespace(api, host[:12]), namespace(api, "none"))
