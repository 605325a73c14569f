"""A body and its canonical form make the same container: a real engine is asked, not a decoder."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sockproxy.data import load_bodies
from sockproxy.judging.payload import Bodies, UnknownFields

from .dialogue import Api
from .dockerd import Dockerd
from .rootfs import IMAGE

BODIES = Bodies(*load_bodies())
ROWS = json.loads((Path(__file__).parents[1] / "cases" / "bodies_read.json").read_text())

CONFIG: dict[str, list[Any]] = {
    "Hostname": ["", "web", None],
    "User": ["", "0", "1000:1000"],
    "Env": [None, [], ["A=1", "B=a:b"]],
    "Cmd": ["true", ["sh", "-c", "exit 3"], []],
    "Entrypoint": [None, "", "sh", ["sh"]],
    "Labels": [None, {}, {"a": "b", "A": None}],
    "Tty": [True, False, None],
    "Volumes": [None, {}, {"/v": {}}, {"/v": None}],
    "ExposedPorts": [{"80/tcp": {}}, None],
    "WorkingDir": ["", "/tmp"],
    "StopTimeout": [None, 3],
    "Healthcheck": [None, {"Test": ["CMD", "true"], "Interval": 1000000000}],
}
HOST_CONFIG: dict[str, list[Any]] = {
    "Privileged": [True, False, None],
    "Binds": [None, [], ["/tmp:/h"], ["v1:/v:ro"]],
    "CapAdd": [None, "SYS_ADMIN", ["NET_ADMIN"]],
    "CapDrop": ["ALL", []],
    "PidMode": ["", "host"],
    "NetworkMode": ["none", "host", "default", ""],
    "Memory": [0, 8388608, -0],
    "MaskedPaths": [None, [], ["/proc/kcore"]],
    "ReadonlyPaths": [None, []],
    "SecurityOpt": [None, ["seccomp=unconfined"], ["no-new-privileges"]],
    "Devices": [None, [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]],
    "Mounts": [None, [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 65536}}]],
    "PortBindings": [{"80/tcp": None}, {"80/tcp": [{"HostPort": "8080"}]}, None],
    "RestartPolicy": [{"Name": "on-failure", "MaximumRetryCount": 2}, {"Name": ""}, {}],
    "Ulimits": [None, [{"Name": "nofile", "Soft": 10, "Hard": 20}]],
    "Sysctls": [None, {"net.ipv4.ip_forward": "1"}],
    "OomScoreAdj": [0, 500],
    "Tmpfs": [{"/run": "exec,size=1m"}, None],
    "ExtraHosts": [["a:127.0.0.1"], None],
    "LogConfig": [{"Type": "json-file", "Config": {"max-size": "1m"}}, {}],
    "Init": [None, True, False],
    "GroupAdd": [["audio"], None],
}
SPELL: list[Callable[[str], str]] = [
    *[str] * 5,
    str.lower,
    str.upper,
    lambda name: name.replace("s", "ſ").replace("k", "\u212a"),
]


@pytest.fixture
def bodies_count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--bodies"))


def generated(seed: int) -> bytes:
    """A body that the engine is likely to take, spelt as few clients would."""
    choose = random.Random(seed)

    def some(table: dict[str, list[Any]]) -> dict[str, Any]:
        names = choose.sample(sorted(table), choose.randrange(6))
        return {choose.choice(SPELL)(name): choose.choice(table[name]) for name in names}

    body = {"Image": IMAGE} | some(CONFIG)
    if "cmd" not in map(str.lower, body):
        body["Cmd"] = ["true"]
    place = choose.randrange(4)
    if place > 0:
        body[choose.choice(SPELL)("HostConfig")] = some(HOST_CONFIG) if place > 1 else None
    if place < 3:
        body |= some(HOST_CONFIG)
    if choose.random() < 0.3:
        body["Surprise"] = {"Privileged": True}
    pairs = list(body.items())
    choose.shuffle(pairs)
    return json.dumps(dict(pairs), ensure_ascii=choose.random() < 0.5, indent=choose.choice([None, 1])).encode()


def made(api: Api, body: bytes) -> Any:
    """What the engine makes of a body: its refusal, or the container as it was written down."""
    with api.connect() as connection:
        answer = connection.request("POST", "/v1.41/containers/create", body)
        if answer.status != 201:
            return answer.status, answer.message
        name = answer.json()["Id"]
        seen = connection.request("GET", f"/v1.41/containers/{name}/json").json()
        assert connection.request("DELETE", f"/v1.41/containers/{name}?v=1").status == 204
    seen["Config"]["Hostname"] = seen["Config"]["Hostname"].replace(name[:12], "ID")
    mounts = [{key: mount[key] for key in ("Type", "Destination", "RW")} for mount in seen["Mounts"]]
    return answer.json()["Warnings"], seen["Config"], seen["HostConfig"], sorted(mounts, key=str)


def test_generated_bodies_make_the_same_container(engine: Dockerd, bodies_count: int) -> None:
    made_well = 0
    for seed in range(bodies_count):
        raw = generated(seed)
        canonical = BODIES.read_payload("ContainerCreate", None, raw, UnknownFields.DROP).canonical
        expected = made(engine.api, raw)
        assert made(engine.api, canonical) == expected, (seed, raw, canonical)
        made_well += not isinstance(expected[0], int)
    assert made_well > bodies_count * 0.8, "the engine refuses most of what is generated"


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["operation"] == "ContainerCreate"], ids=lambda row: str(row["id"])
)
def test_rows_make_the_same_container(engine: Dockerd, row: dict[str, str]) -> None:
    raw = bytes.fromhex(row["hex"]) if "hex" in row else row["body"].encode()
    image = json.dumps(IMAGE).encode()
    expected = made(engine.api, raw.replace(b'"i"', image))
    assert made(engine.api, row["canonical"].encode().replace(b'"i"', image)) == expected
