"""Real clients work through the built-in policy that is made for them, and get no further: docker's command line (by hand
and as the GitHub Actions runner uses it), docker-py, aiodocker, and curl for the clients that write their paths by hand.
"""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import aiodocker
import docker
import docker.errors
import pytest

from .conftest import Door
from .dialogue import eventually
from .proxy_process import ProxyProcess
from .rootfs import IMAGE, tar_of

CONTEXT = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN echo built > /built\n")


@pytest.fixture
def name(direct: Door) -> Iterator[str]:
    name = f"t{uuid4().hex[:10]}x"
    yield name
    direct.docker("rmi", "-f", name)
    direct.docker("network", "rm", name)


def denied(proxy: ProxyProcess, since: int) -> list[tuple[str, str]]:
    """Operation and target of what was denied since the trail had so many lines."""
    return [(event["operation"], event["target"]) for event in proxy.trail()[since:] if event["effect"] == "deny"]


@pytest.fixture
def nothing_denied(session_proxies: Callable[[str], ProxyProcess]) -> Iterator[Callable[[str], None]]:
    """Tells of a policy through which the test works; nothing may have been denied at its end."""
    used: dict[str, int] = {}

    def uses(policy: str) -> None:
        used[policy] = len(session_proxies(policy).trail())

    yield uses
    assert {policy: denied(session_proxies(policy), since) for policy, since in used.items()} == {
        policy: [] for policy in used
    }


# docker's command line

BUILD_HOST = [
    "version",
    "info",
    f"run --name {{n}} {IMAGE} sh -c 'echo out; exit 0'",
    "logs {n}",
    "ps -a --filter name={n}",
    "inspect {n}",
    "rm {n}",
    f"run -d --name {{n}} {IMAGE} sleep 1000",
    "exec {n} true",
    "kill {n}",
    "wait {n}",
    "rm -f {n}",
    "build -t {n} --no-cache --network none -",
    "images {n}",
    "inspect {n}",
    "tag {n} {n}:other",
    "run --rm {n} cat /built",
    "rmi -f {n}:other {n}",
]
"""What a job on a build host does."""

ACTIONS_RUNNER = [
    "version --format '{{.Server.APIVersion}}'",
    "version --format '{{.Client.APIVersion}}'",
    "ps --all --quiet --no-trunc --filter label=0a1b2c",
    "network prune --force --filter label=0a1b2c",
    "network create --label 0a1b2c {n}",
    f"create --name {{n}} --label 0a1b2c --network {{n}} -e CI=true --entrypoint tail {IMAGE} -f /dev/null",
    "start {n}",
    "ps --all --filter id={n} --filter status=running --no-trunc --format '{{.ID}} {{.Status}}'",
    "inspect --format '{{range .Config.Env}}{{println .}}{{end}}' {n}",
    "port {n}",
    "exec -i {n} sh -c true",
    "logs --details {n}",
    "rm --force {n}",
    f"run --name {{n}}-step --label 0a1b2c --rm {IMAGE} true",
    "network rm {n}",
]
"""A job with a container, as DockerCommandManager asks for it."""


def run_all(door: Door, commands: list[str], name: str, **environment: str) -> None:
    for command in commands:
        done = door.docker(*shlex.split(command.replace("{n}", name)), stdin=CONTEXT, **environment)
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("buildkit", ["0", "1"], ids=["classic-build", "buildkit"])
def test_a_build_host_works_through_ci(
    through: Callable[[str], Door], nothing_denied: Callable[[str], None], name: str, buildkit: str
) -> None:
    door = through("ci")
    nothing_denied("ci")
    run_all(door, BUILD_HOST, name, DOCKER_BUILDKIT=buildkit)


def test_a_job_of_github_actions_works_through_its_policy(
    through: Callable[[str], Door], nothing_denied: Callable[[str], None], name: str
) -> None:
    door = through("github-actions-runner")
    nothing_denied("github-actions-runner")
    run_all(door, ACTIONS_RUNNER, name)


FURTHER = {
    "swarm": "swarm init",
    "plugin": "plugin install --grant-all-permissions nope",
    "prune": "system prune -f",
    "export": "export {n}",
    "copy": "cp {n}:/etc/passwd -",
    "volume": "volume create {n}",
    "commit": "commit {n}",
    "update": "update --cpu-shares 2 {n}",
}


THE_HOST = {
    "--privileged": "HostConfig.Privileged",
    "-v /:/host": "HostConfig.Binds[0]",
    "--network host": "HostConfig.NetworkMode",
    "--pid host": "HostConfig.PidMode",
    "--cap-add SYS_ADMIN": "HostConfig.CapAdd[0]",
    "--device /dev/null": "HostConfig.Devices",
    "--security-opt seccomp=unconfined": "HostConfig.SecurityOpt[0]",
}


@pytest.mark.parametrize(("flags", "field"), THE_HOST.items(), ids=THE_HOST)
def test_a_job_on_a_build_host_does_not_get_the_host(through: Callable[[str], Door], flags: str, field: str) -> None:
    done = through("ci").docker("run", "--rm", *flags.split(), IMAGE, "true")
    assert done.returncode == 125
    assert f"sockproxy: ContainerCreate denied by policy ci: ci/allow[4]: {field}".encode() in done.stderr


@pytest.mark.parametrize("buildkit", ["0", "1"], ids=["classic-build", "buildkit"])
def test_a_build_does_not_get_the_hosts_network(through: Callable[[str], Door], buildkit: str) -> None:
    done = through("ci").docker("build", "--network", "host", "-", stdin=CONTEXT, DOCKER_BUILDKIT=buildkit)
    assert done.returncode != 0
    assert b'denied by policy ci: ci/allow[5]: query.networkmode is "host"' in done.stderr


def test_a_job_on_a_build_host_gets_ports_and_volumes(through: Callable[[str], Door], name: str) -> None:
    done = through("ci").docker("create", "--name", name, "-p", "8080:80", "-v", f"{name}:/cache", IMAGE, "true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("policy", ["ci", "github-actions-runner"])
@pytest.mark.parametrize("command", FURTHER.values(), ids=FURTHER)
def test_docker_gets_no_further(through: Callable[[str], Door], policy: str, command: str, name: str) -> None:
    done = through(policy).docker(*command.replace("{n}", name).split())
    assert done.returncode != 0
    assert f" denied by policy {policy}: no rule allows it".encode() in done.stderr


# The libraries, for whoever scripts a build host in Python


def test_docker_py_works_through_ci(
    through: Callable[[str], Door], nothing_denied: Callable[[str], None], name: str
) -> None:
    door = through("ci")
    nothing_denied("ci")
    client = docker.DockerClient(base_url=f"unix://{door.socket}")
    assert client.ping()
    assert client.containers.run(IMAGE, "echo hello", remove=True) == b"hello\n"
    container = client.containers.run(IMAGE, "sleep 1000", detach=True)
    assert container.exec_run("echo inside").output == b"inside\n"
    container.remove(force=True)


def test_docker_py_gets_no_further(through: Callable[[str], Door], name: str) -> None:
    client = docker.DockerClient(base_url=f"unix://{through('ci').socket}")
    with pytest.raises(docker.errors.APIError, match="NetworkCreate denied by policy ci"):
        client.networks.create(name)


async def test_aiodocker_works_through_ci(through: Callable[[str], Door]) -> None:
    client = aiodocker.Docker(url=f"unix://{through('ci').socket}")
    try:
        container: Any = await client.containers.run({"Image": IMAGE, "Cmd": ["echo", "hello"]})
        await container.wait()
        assert "".join(await container.log(stdout=True)) == "hello\n"
        await container.delete(force=True)
        with pytest.raises(aiodocker.DockerError, match="VolumeCreate denied by policy ci"):
            await client.volumes.create({"Name": "nope"})
    finally:
        await client.close()


# Clients that write their paths by hand; curl is the real client of the first

BY_HAND = {
    "autoheal": [("GET", '/containers/json?filters={"health":["unhealthy"]}'), ("POST", "/containers/{c}/restart?t=0")],
    "uptime-kuma": [("GET", "/containers/json?all=true"), ("GET", "/containers/{c}/json")],
    "beszel-agent": [
        ("GET", "/version"),
        ("GET", "/info"),
        ("GET", "/containers/json"),
        ("GET", "/containers/{c}/stats?stream=0&one-shot=1"),
        ("GET", "/containers/{c}/logs?stdout=1&stderr=1&tail=200"),
    ],
    "docker-gen-notify": [("GET", "/_ping"), ("GET", "/networks"), ("POST", "/containers/{c}/kill?signal=SIGHUP")],
    "netdata": [("GET", "/containers/{c}/json")],
}


def curl(door: Door, method: str, target: str) -> tuple[str, str]:
    """Status and body."""
    command = ["curl", "-sS", "-g", "-X", method, "-w", "%{stderr}%{http_code}", "--unix-socket", str(door.socket)]
    done = subprocess.run(
        [*command, f"http://docker{target}"], capture_output=True, text=True, timeout=30, check=True, errors="replace"
    )
    return done.stderr, done.stdout


@pytest.fixture
def sleeper(direct: Door, name: str) -> str:
    done = direct.docker(
        "run", "-d", "--name", name, IMAGE, "sh", "-c", "trap : HUP; echo up; while :; do sleep 1; done"
    )
    assert done.returncode == 0, done.stderr
    eventually(lambda: direct.api.logs(name) == b"up\n")
    return name


@pytest.mark.parametrize(("policy", "requests"), BY_HAND.items(), ids=BY_HAND)
def test_a_client_that_writes_its_paths_by_hand_gets_what_it_gets_directly(
    direct: Door, through: Callable[[str], Door], sleeper: str, policy: str, requests: list[tuple[str, str]]
) -> None:
    door = through(policy)
    for method, target in requests:
        filled = target.replace("{c}", sleeper)
        assert curl(door, method, filled)[0] == curl(direct, method, filled)[0] != "403", target
    status, body = curl(door, "POST", f"/containers/{sleeper}/exec")
    assert (status, f"ContainerExec denied by policy {policy}" in body) == ("403", True)
