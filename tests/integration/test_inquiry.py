"""What the engine says of what is there already decides, and what was looked at is what is hit: in front of a real engine."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .dialogue import UPGRADE, Answer, Api, demultiplexed, eventually
from .dockerd import Dockerd
from .proxy_process import PROJECT, START_SECONDS, ProxyProcess
from .rootfs import IMAGE

POLICY = """
version: 1
policies:
  asking:
    allow:
      - operations: [ContainerInspect, ContainerStop, ContainerKill, ContainerDelete, ContainerRename, ContainerLogs, "@Exec",
                     NetworkInspect, NetworkDelete, VolumeInspect, VolumeDelete, ImageCommit]
        require: {target: {labels: {owner: ci}}}
      - operations: [ImageInspect, ImageTag, ImageDelete, ImageGetAll]
        require: {target: {images: ["ci/**"]}}
      - operations: [ContainerCreate]
        require: {pod_security: baseline, bind_sources: [/srv/**, /tmp/**]}
      - operations: [ContainerStart]
"""
OURS = {"Labels": {"owner": "ci"}}
ALONE = {"NetworkMode": "none"}
SLEEP = ("sleep", "1000")


@pytest.fixture(scope="module")
def policy(folder: Path) -> str:
    file = folder / "asking.yaml"
    file.write_text(POLICY, encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def front(session_engine: Dockerd, folder: Path, policy: str) -> Iterator[ProxyProcess]:
    proxy = ProxyProcess(folder / "asking", session_engine.socket, policy)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def asking(engine: Dockerd, front: ProxyProcess) -> Api:
    return front.api


@pytest.fixture
def volumes(engine: Dockerd) -> Iterator[Callable[..., str]]:
    """Makes volumes at the engine, which end with the test."""
    made: list[str] = []

    def make(name: str, **options: str) -> str:
        answer = engine.api.call("POST", "/volumes/create", {"Name": name, "DriverOpts": options})
        assert answer.status == 201, answer
        made.append(name)
        return name

    yield make
    engine.remove_containers()
    for name in made:
        engine.api.call("DELETE", f"/volumes/{name}?force=1")


def message(answer: Answer) -> str:
    return str(answer.json()["message"])


def named(api: Api, name: str, **config: Any) -> str:
    """The id of a running container of that name."""
    host = {**ALONE, **config.pop("HostConfig", {})}
    body = {"Image": IMAGE, "Cmd": SLEEP, "HostConfig": host, **config}
    answer = api.call("POST", f"/containers/create?name={name}", body)
    assert answer.status == 201, answer
    container = str(answer.json()["Id"])
    api.start(container)
    return container


def joining(api: Api, **host: Any) -> Answer:
    return api.call("POST", "/v1.41/containers/create", {"Image": IMAGE, "Cmd": SLEEP, "HostConfig": {**ALONE, **host}})


# --- target


def test_a_label_decides_over_every_spelling_of_a_container(engine: Dockerd, asking: Api) -> None:
    ours, theirs = named(engine.api, "ours", **OURS), named(engine.api, "theirs")
    for name in (theirs, "theirs", theirs[:12]):
        assert asking.call("POST", f"/v1.41/containers/{name}/kill").status == 403
        assert asking.call("DELETE", f"/v1.41/containers/{name}?force=1").status == 403
    assert engine.api.is_running(theirs)
    assert asking.call("POST", f"/v1.41/containers/{ours[:12]}/kill").status == 204
    assert asking.call("POST", "/v1.41/containers/ours/rename?name=renamed").status == 204
    assert asking.call("DELETE", "/v1.41/containers/renamed").status == 204
    assert engine.api.call("GET", f"/containers/{ours}/json").status == 404


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/containers/nobody?force=1"),
        ("GET", "/containers/nobody/json"),
        ("POST", "/exec/nobody/start"),
        ("GET", "/networks/nobody"),
        ("DELETE", "/volumes/nobody"),
    ],
)
def test_what_is_not_there_is_said_as_by_the_engine(engine: Dockerd, asking: Api, method: str, target: str) -> None:
    body = {} if method == "POST" else b""
    through, direct = (api.call(method, f"/v1.41{target}", body) for api in (asking, engine.api))
    assert (through.status, through.json()) == (direct.status, direct.json()) == (404, direct.json())


class Between:
    """An engine of the test's, before the real one: it does something right before a POST or DELETE goes on."""

    def __init__(self, path: Path, engine: Dockerd, act: Callable[[], None]) -> None:
        self.path = path
        self._engine, self._act = engine, act
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        engine.connect(str(self._engine.socket))
        with client, engine:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := client.recv(65536)):
                    return
                head += piece
            if head.startswith((b"POST", b"DELETE")):
                self._act()
            engine.sendall(head)
            threading.Thread(target=pump, args=[client, engine], daemon=True).start()
            pump(engine, client)

    def close(self) -> None:
        self._server.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def test_a_name_that_moves_on_between_look_and_act_fools_nobody(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], policy: str, folder: Path
) -> None:
    ours, theirs = named(engine.api, "web", **OURS), named(engine.api, "db")

    def swap() -> None:
        for container, name in ((ours, "gone"), (theirs, "web")):
            assert engine.api.call("POST", f"/containers/{container}/rename?name={name}").status == 204

    between = Between(folder / "between.sock", engine, swap)
    try:
        answer = proxy(between.path, policy).api.call("POST", "/v1.41/containers/web/kill")
    finally:
        between.close()
        between.path.unlink()
    assert answer.status == 204
    eventually(lambda: not engine.api.is_running(ours))
    assert engine.api.is_running(theirs)


def test_exec_is_judged_by_its_container(engine: Dockerd, asking: Api) -> None:
    named(engine.api, "ours", **OURS)
    theirs = named(engine.api, "theirs")
    created = asking.call("POST", "/v1.41/containers/ours/exec", {"Cmd": ["echo", "in"], "AttachStdout": True})
    assert created.status == 201
    with asking.connect() as connection:
        connection.send_request("POST", f"/v1.41/exec/{created.json()['Id']}/start", b"{}", **UPGRADE)
        assert connection.read_head().status == 101
        assert demultiplexed(connection.read_to_end()) == b"in\n"
    assert asking.call("POST", "/v1.41/containers/theirs/exec", {"Cmd": ["true"]}).status == 403
    foreign = engine.api.exec(theirs, "true")
    assert asking.call("POST", f"/v1.41/exec/{foreign}/start", {"Detach": True}).status == 403
    assert asking.call("GET", f"/v1.41/exec/{foreign}/json").status == 403


def test_images_go_by_all_their_names(engine: Dockerd, asking: Api) -> None:
    assert asking.call("GET", f"/v1.41/images/{IMAGE}/json").status == 403
    container = engine.api.create("true", HostConfig=ALONE, **OURS)
    assert asking.call("POST", f"/v1.41/commit?container={container[:12]}&repo=ci/a&tag=1", {}).status == 201
    assert asking.call("POST", "/v1.41/images/ci/a:1/tag?repo=ci/b&tag=1").status == 201
    assert asking.call("GET", "/v1.41/images/get?names=ci/a").status == 403
    assert b"ci/a" in asking.call("GET", "/v1.41/images/get?names=ci/a:1").body
    assert [next(iter(one)) for one in asking.call("DELETE", "/v1.41/images/ci/b:1").json()] == ["Untagged"]
    assert engine.api.has_image("ci/a:1")
    assert engine.api.call("POST", "/images/ci/a:1/tag?repo=other&tag=1").status == 201
    assert asking.call("DELETE", "/v1.41/images/ci/a:1?force=1").status == 403
    assert engine.api.call("DELETE", "/images/other:1").status == 200
    assert asking.call("DELETE", "/v1.41/images/ci/a:1").status == 200


def test_volumes_and_networks(engine: Dockerd, asking: Api, volumes: Callable[..., str]) -> None:
    assert asking.call("DELETE", f"/v1.41/volumes/{volumes('theirs')}").status == 403
    assert engine.api.call("POST", "/volumes/create", {"Name": "ours", **OURS}).status == 201
    assert asking.call("DELETE", "/v1.41/volumes/ours").status == 204
    assert asking.call("GET", "/v1.41/networks/none").status == 403


# --- joins


def test_the_namespaces_of_a_plain_container_may_be_joined(engine: Dockerd, asking: Api) -> None:
    plain = named(engine.api, "plain", HostConfig={"IpcMode": "shareable"})
    for mode in ("NetworkMode", "IpcMode", "PidMode"):
        through, direct = (joining(api, **{mode: "container:plain"}) for api in (asking, engine.api))
        assert through.status == direct.status == 201, through
        seen = [
            engine.api.call("GET", f"/containers/{one.json()['Id']}/json").json()["HostConfig"]
            for one in (through, direct)
        ]
        assert seen[0] == seen[1]
        assert seen[0][mode] == f"container:{plain}"
        assert asking.call("POST", f"/v1.41/containers/{through.json()['Id']}/start").status == 204
    assert joining(asking, NetworkMode=f"container:{through.json()['Id']}").status == 201


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ({"NetworkMode": "host"}, "NetworkMode"),
        ({"IpcMode": "host"}, "IpcMode"),
        ({"PidMode": "host"}, "PidMode"),
        ({"Privileged": True}, "PidMode"),
        ({"Binds": ["/:/host"]}, "PidMode"),
        ({"CapAdd": ["SYS_ADMIN"]}, "PidMode"),
        ({"NetworkMode": "host"}, "PidMode"),
        ({"MaskedPaths": []}, "PidMode"),
    ],
)
def test_what_has_power_may_not_be_joined(engine: Dockerd, asking: Api, host: dict[str, Any], mode: str) -> None:
    powerful = engine.api.create(*SLEEP, HostConfig={**ALONE, **host})
    second = engine.api.create(*SLEEP, HostConfig={**ALONE, mode: f"container:{powerful}"})
    for container in (powerful, second):
        answer = joining(asking, **{mode: f"container:{container}"})
        assert answer.status == 403, answer
        assert f"HostConfig.{mode} joins the container" in message(answer)


def test_what_is_joined_has_to_be_there(asking: Api) -> None:
    for host in ({"NetworkMode": "container:nobody"}, {"VolumesFrom": ["nobody"]}):
        answer = joining(asking, **host)
        assert (answer.status, message(answer)) == (404, "No such container: nobody")


def test_the_mounts_of_another_container_are_judged(engine: Dockerd, asking: Api, volumes: Callable[..., str]) -> None:
    rooted = volumes("rooted", type="none", o="bind", device="/")
    good = engine.api.create(*SLEEP, HostConfig={**ALONE, "Binds": ["/tmp/x:/x", f"{volumes('plain')}:/p"]})
    bad = [engine.api.create(*SLEEP, HostConfig={**ALONE, "Binds": [bind]}) for bind in ("/etc:/e:ro", f"{rooted}:/r")]
    answer = joining(asking, VolumesFrom=[f"{good[:12]}:ro"])
    assert answer.status == 201
    seen = engine.api.call("GET", f"/containers/{answer.json()['Id']}/json").json()
    assert seen["HostConfig"]["VolumesFrom"] == [f"{good}:ro"]
    assert {(mount["Destination"], mount["RW"]) for mount in seen["Mounts"]} == {("/x", False), ("/p", False)}
    for container in bad:
        answer = joining(asking, VolumesFrom=[container])
        assert answer.status == 403
        assert "HostConfig.VolumesFrom[0] takes a mount of the container" in message(answer)


# --- volumes and paths


def test_a_volume_that_binds_the_root_is_no_way_in(asking: Api, volumes: Callable[..., str]) -> None:
    rooted = volumes("rooted", type="none", o="bind", device="/")
    allowed = volumes("allowed", type="none", o="bind", device="/tmp/x")
    for name, status in ((rooted, 403), (allowed, 201), (volumes("plain"), 201), ("new", 201)):
        mount = {"Type": "volume", "Source": name, "Target": "/v"}
        for host in ({"Binds": [f"{name}:/v"]}, {"Mounts": [mount]}):
            answer = joining(asking, **host)
            assert answer.status == status, answer
            assert status == 201 or 'names the volume "rooted"' in message(answer)


@pytest.fixture
def inside(engine: Dockerd, folder: Path, policy: str) -> Iterator[Api]:
    """A proxy that sees the engine's files, as one does that runs beside it."""
    listening = folder / "inside.sock"
    command = [
        *("nsenter", "--target", str(engine.init_pid), "--mount", "--pid", "setpriv", "--pdeathsig", "KILL"),
        *(sys.executable, "-m", "sockproxy", "serve", "--listen", f"unix://{listening}"),
        *("--engine", f"unix://{engine.socket}", "--policy", policy, "--admin", "tcp://127.0.0.1:0"),
    ]
    with (folder / "inside.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(Api(listening).accepts, START_SECONDS)
        yield Api(listening)
    finally:
        process.terminate()
        process.wait()
        listening.unlink(missing_ok=True)


def test_a_link_out_of_an_allowed_directory_is_seen_where_the_files_are_shared(
    inside: Api, asking: Api, tmp_path: Path
) -> None:
    assert str(tmp_path).startswith("/tmp/")
    (tmp_path / "within").mkdir()
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "near").symlink_to("within")
    for bind, status in (("link", 403), ("link/etc", 403), ("near", 201), ("new", 201)):
        answer = joining(inside, Binds=[f"{tmp_path}/{bind}:/v"])
        assert answer.status == status, answer
        assert status == 201 or "which leads to" in message(answer)
    # And where they are not, the path is all that is known.
    assert joining(asking, Binds=[f"{tmp_path}/link:/v"]).status == 201


def test_the_record_has_what_was_hit_and_what_was_asked_for(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], policy: str
) -> None:
    ours = named(engine.api, "ours", **OURS)
    through = proxy(engine.socket, policy)
    assert through.api.call("POST", "/v1.41/containers/ours/kill").status == 204
    assert through.api.call("POST", "/v1.41/containers/nobody/kill").status == 404
    eventually(lambda: Path(through.audit).read_text().count('"completed"') == 2)
    events = [json.loads(line) for line in Path(through.audit).read_text().splitlines()]
    (hit, missed) = [one for one in events if one["stage"] == "completed"]
    assert (hit["target"], hit["resource"]["name"]) == (f"/v1.41/containers/{ours}/kill", "ours")
    assert (missed["effect"], missed["status"]) == ("deny", 404)
    assert os.path.basename(missed["target"]) == "kill"
