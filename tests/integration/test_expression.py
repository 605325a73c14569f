"""An expression decides what comes to be in a real engine, and the engine gets what was judged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import stop_all
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import IMAGE

POLICY = """
version: 1
policies:
  expressed:
    allow:
      - operations: [ContainerCreate]
        require:
          expression: |
            body.HostConfig.Memory > 0 && body.HostConfig.Memory <= 64 * 1024 * 1024 &&
            query.name.all(n, n.matches("^ci-[a-z]+$")) && body.Labels.owner == "ci" &&
            (!has(body.HostConfig.Binds) || body.HostConfig.Binds.all(b, b.startsWith("/srv/")))
      - operations: [VolumeCreate]
        require: {expression: "principal.uid != 0"}
      - operations: [ContainerDelete]
        require: {expression: "resource.name.startsWith('ci-') && !has(query.v)"}
  named:
    allow:
      - operations: [ContainerStart]
      - operations: [ContainerCreate]
        require: {expression: 'query.name.all(n, n.startsWith("ci-"))'}
"""

ORDINARY = {"Image": IMAGE, "Cmd": ["true"], "Labels": {"owner": "ci"}, "HostConfig": {"Memory": 8 << 20}}


@pytest.fixture(scope="module")
def expressed(folder: Path, session_engine: Dockerd) -> Iterator[ProxyProcess]:
    policy = folder / "expressed.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    proxy = ProxyProcess(folder / "expressed", session_engine.socket, f"{policy}#expressed")
    proxy.start()
    yield proxy
    stop_all([proxy])


@pytest.fixture
def named(expressed: ProxyProcess, folder: Path, session_engine: Dockerd) -> Iterator[ProxyProcess]:
    proxy = ProxyProcess(folder / "named", session_engine.socket, f"{folder / 'expressed.yaml'}#named")
    proxy.start()
    yield proxy
    stop_all([proxy])


def names(engine: Dockerd) -> set[str]:
    with engine.api.connect() as connection:
        return {name for one in connection.request("GET", "/containers/json?all=1").json() for name in one["Names"]}


def test_what_is_true_comes_to_be_as_it_was_judged(expressed: ProxyProcess, engine: Dockerd) -> None:
    body = ORDINARY | {"hostconfig": {"MEMORY": 8 << 20}}
    del body["HostConfig"]
    answer = expressed.api.call("POST", "/v1.41/containers/create?name=ci-a", body)
    assert answer.status == 201, answer
    with engine.api.connect() as connection:
        made = connection.request("GET", "/containers/ci-a/json").json()
    assert (made["HostConfig"]["Memory"], made["Config"]["Labels"]["owner"]) == (8 << 20, "ci")
    assert expressed.api.call("DELETE", "/v1.41/containers/ci-a?v=1").status == 403
    assert names(engine) == {"/ci-a"}
    assert expressed.api.call("DELETE", "/v1.41/containers/ci-a").status == 204
    assert names(engine) == set()


DENIED: dict[str, tuple[str, Any, str]] = {
    "false": ("ci-b", {"HostConfig": {"Memory": 128 << 20}}, "is false"),
    "absent": ("ci-b", {"HostConfig": {}}, "cannot be evaluated: no such key: Memory"),
    "name": ("prod", {}, "is false"),
    "bind": ("ci-b", {"HostConfig": {"Memory": 8 << 20, "Binds": ["/srv/a:/a", "/etc:/etc"]}}, "is false"),
    "nul": ("ci-b", {"Labels": {"owner": "ci\0"}}, "cannot be evaluated: a value has a NUL character"),
    "too-much": (
        "ci-b",
        {"HostConfig": {"Memory": 8 << 20, "Binds": ["/srv/a:/a"] * 15_000}},
        "cannot be evaluated: it costs too much for values of this size",
    ),
}


@pytest.mark.parametrize(("name", "more", "said"), DENIED.values(), ids=DENIED)
def test_what_is_not_true_never_comes_to_be(
    expressed: ProxyProcess, engine: Dockerd, name: str, more: Any, said: str
) -> None:
    mark = engine.mark()
    answer = expressed.api.call("POST", f"/v1.41/containers/create?name={name}", ORDINARY | more)
    assert answer.status == 403, answer
    assert answer.message.endswith(said), json.dumps(answer.message)
    assert not [call for call in engine.calls(mark) if call.startswith("POST")]
    assert names(engine) == set()


def test_who_asks_is_asked_without_a_look_at_the_body(expressed: ProxyProcess, engine: Dockerd) -> None:
    """The tests are root, for whom it is false; a body that nobody mentions is not read, whatever is in it."""
    answer = expressed.api.call("POST", "/v1.41/volumes/create", {"Nmae": "x"})
    assert (answer.status, answer.message.endswith('expression "principal.uid != 0" is false')) == (403, True)


def test_a_name_that_the_engine_does_not_read_is_none(named: ProxyProcess, engine: Dockerd) -> None:
    """A start below API 1.24 replaces the HostConfig, of whichever container, and takes no name from its query."""
    replaced = ORDINARY | {"HostConfig": {"Memory": 16 << 20, "Binds": ["/srv/a:/a"]}}
    assert engine.api.call("POST", "/v1.41/containers/create?name=prod", ORDINARY).status == 201

    def seen() -> tuple[int, list[str] | None]:
        host_config = engine.api.call("GET", "/v1.41/containers/prod/json").json()["HostConfig"]
        return host_config["Memory"], host_config["Binds"]

    target = "/v1.23/containers/prod/start?name=ci-a"
    answer = named.api.call("POST", target, replaced)
    assert (answer.status, b"no such key: name" in answer.body) == (403, True), answer
    assert seen() == (8 << 20, None)
    engine.api.call("POST", target, replaced)
    assert seen() == (16 << 20, ["/srv/a:/a"])
    engine.api.call("DELETE", "/v1.41/containers/prod?force=1")


def test_a_volume_driver_is_asked_as_a_volume(expressed: ProxyProcess, engine: Dockerd) -> None:
    body = ORDINARY | {"Volumes": {"/v": {}}, "HostConfig": {"Memory": 8 << 20, "VolumeDriver": "nosuch"}}
    mark = engine.mark()
    answer = expressed.api.call("POST", "/v1.41/containers/create?name=ci-a", body)
    assert (answer.status, answer.message.endswith('expression "principal.uid != 0" is false')) == (403, True), answer
    assert "VolumeCreate, too" in answer.message
    assert not [call for call in engine.calls(mark) if call.startswith("POST")]
