"""No secret that the docker command sends to a real engine is told by the proxy between them, at any level of its record."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .conftest import Door, stop_all
from .dialogue import eventually
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import IMAGE

SECRET = 'S3cr3t/+="x'
CONFIG = """
version: 1
engine: unix://$engine
listeners: [{address: "unix://$socket", policy: allow-all}]
admin: tcp://$admin
audit: [{file: "$audit", level: RequestResponse}]
"""
DOCKERFILE = f"FROM {IMAGE}\nARG TOKEN\nRUN true\n"


@pytest.fixture
def told(folder: Path, own_engine: Dockerd) -> Iterator[ProxyProcess]:
    """A proxy that tells as much as it can, before an engine that may be the manager of a swarm."""
    own_engine.import_busybox()
    proxy = ProxyProcess(own_engine.folder / "told", own_engine.socket, "", config=CONFIG)
    proxy.start()
    yield proxy
    stop_all([proxy])


def forms(secret: str) -> list[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return [secret, json.dumps(secret)[1:-1], quote(secret, safe=""), encoded, secret[:6]]


def events_of(proxy: ProxyProcess, operation: str, stage: str = "completed") -> list[dict[str, Any]]:
    """The events of an operation, once there are some."""
    eventually(lambda: proxy.events(operation=operation, stage=stage))
    return proxy.events(operation=operation, stage=stage)


def test_what_the_docker_command_sends(told: ProxyProcess, tmp_path: Path) -> None:
    door = Door("told", told.socket, told.api, tmp_path)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "secret").write_text(SECRET)
    login = {"auths": {"127.0.0.1:1": {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()}}}
    (tmp_path / "config.json").write_text(json.dumps(login))

    door.docker("login", "-u", "me", "--password-stdin", "127.0.0.1:1", stdin=SECRET.encode())
    door.docker("pull", "127.0.0.1:1/none")  # nobody is there; the credentials go to the engine all the same
    ran = door.docker("run", "--name", "web", "--network", "none", "-e", f"TOKEN={SECRET}", IMAGE, "true")
    assert ran.returncode == 0, ran.stderr
    assert SECRET.encode() in door.docker("inspect", "web", "-f", "{{index .Config.Env 0}}").stdout
    door.docker("exec", "-e", f"TOKEN={SECRET}", "web", "true")
    door.docker("build", "--network", "none", "--build-arg", f"TOKEN={SECRET}", ".", DOCKER_BUILDKIT="0")
    door.docker("volume", "create", "-o", "type=cifs", "-o", f"o=username=me,password={SECRET}", "vol")
    made = door.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    tokens = door.docker("swarm", "join-token", "-q", "worker").stdout.decode().split()
    assert door.docker("secret", "create", "sec", str(tmp_path / "secret")).returncode == 0
    assert door.docker("config", "create", "con", str(tmp_path / "secret")).returncode == 0

    (created,) = events_of(told, "ContainerCreate", "decided")
    assert created["body"]["Env"][0].startswith("TOKEN=hmac:")
    assert created["body"]["Image"] == IMAGE
    inspected = [event["response_body"]["Config"]["Env"] for event in events_of(told, "ContainerInspect")]
    assert created["body"]["Env"][0] in inspected[-1]  # equal secrets have equal marks
    (built,) = events_of(told, "ImageBuild")
    assert "buildargs=%7B%22TOKEN%22:%22hmac:" in built["target"]
    (swarm,) = (event["response_body"] for event in events_of(told, "SwarmInspect")[-1:])
    assert swarm["JoinTokens"]["Worker"].startswith("hmac:")
    (secret,) = events_of(told, "SecretCreate", "decided")
    (config,) = events_of(told, "ConfigCreate", "decided")
    assert secret["body"]["Data"] == config["body"]["Data"]
    assert secret["body"]["Data"].startswith("hmac:")
    for place, text in (
        ("record", Path(told.audit).read_text()),
        ("log", told.log.read_text()),
        ("metrics", told.metrics()),
    ):
        assert not [form for form in (*forms(SECRET), *tokens) if form in text], place


def test_what_a_real_engine_answers_is_known(told: ProxyProcess, tmp_path: Path) -> None:
    """Names that are taken for secrets since nobody has said that they are none: there are few."""
    door = Door("told", told.socket, told.api, tmp_path)
    door.docker("run", "-d", "--name", "web", "--network", "none", "-l", "a=b", IMAGE, "sleep", "60")
    for command in ("inspect web", "info", "version", "ps -a", "images", f"image inspect {IMAGE}", "network ls", "system df",
                    "network inspect none", "volume ls", f"history {IMAGE}", "top web", "plugin ls"):  # fmt: skip
        door.docker(*command.split())
    door.docker("rm", "-f", "web")
    eventually(lambda: told.events(operation="ContainerDelete", stage="completed"))
    marked: set[str] = set()
    for event in told.trail():
        marked |= set(marks(event.get("response_body")))
    assert marked <= {"Env", "Options"}, marked


def marks(value: Any, name: str = "") -> Iterator[str]:
    """The names under which there are marks."""
    if isinstance(value, dict):
        for inner, one in value.items():
            yield from marks(one, inner)
    elif isinstance(value, list):
        for one in value:
            yield from marks(one, name)
    elif isinstance(value, str) and "hmac:" in value:
        yield name
