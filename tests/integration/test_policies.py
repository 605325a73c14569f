"""What clients see of a policy that does not allow everything."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Door
from .dialogue import UPGRADE, eventually
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import IMAGE, files_in, tar_of

READS = {
    "version": "version",
    "ps": "ps -a --no-trunc --filter name={n} --format {{{{.Names}}}}/{{{{.Image}}}}",
    "inspect": "inspect {n} --format {{{{.Id}}}}",
    "images": f"images {IMAGE} --format {{{{.ID}}}}",
    "history": f"history {IMAGE} --format {{{{.ID}}}}",
    "logs": "logs {n}",
    "diff": "diff {n}",
    "top": "top {n} -o pid,args",
    "system": "info --format {{{{.ServerVersion}}}}/{{{{.Driver}}}}",
    "networks": "network ls --format {{{{.ID}}}}",
    "events": "events --since 1 --until=-1s --filter container={n} --format {{{{.Action}}}}",
}

WRITES = {
    "run": ("ContainerCreate", f"run {IMAGE} true"),
    "start": ("ContainerStart", "start {n}"),
    "stop": ("ContainerStop", "stop {n}"),
    "kill": ("ContainerKill", "kill {n}"),
    "rm": ("ContainerDelete", "rm -f {n}"),
    "exec": ("ContainerExec", "exec {n} true"),
    "pause": ("ContainerPause", "pause {n}"),
    "rename": ("ContainerRename", "rename {n} other"),
    "update": ("ContainerUpdate", "update --cpu-shares 2 {n}"),
    "commit": ("ImageCommit", "commit {n}"),
    "tag": ("ImageTag", f"tag {IMAGE} other"),
    "rmi": ("ImageDelete", f"rmi {IMAGE}"),
    "pull": ("ImageCreate", "pull nope"),
    "load": ("ImageLoad", "load"),
    "build": ("ImageBuild", "build -"),
    "volume": ("VolumeCreate", "volume create other"),
    "network": ("NetworkCreate", "network create other"),
    "swarm": ("SwarmInit", "swarm init"),
    "export": ("ContainerExport", "export {n}"),
    "save": ("ImageGetAll", f"save {IMAGE}"),
    "cp-out": ("ContainerArchive", "cp {n}:/etc/passwd -"),
}


@pytest.mark.parametrize("command", READS.values(), ids=READS)
def test_readonly_reads_as_directly(direct: Door, through: Callable[[str], Door], standing: str, command: str) -> None:
    done = [door.docker(*command.format(n=standing).split()) for door in (direct, through("readonly"))]
    assert [one.returncode for one in done] == [0, 0]
    assert done[0].stdout and done[0].stdout == done[1].stdout


@pytest.mark.parametrize(("operation", "command"), WRITES.values(), ids=WRITES)
def test_readonly_denies_what_changes_or_carries_out(
    through: Callable[[str], Door], engine: Dockerd, standing: str, operation: str, command: str
) -> None:
    mark = engine.mark()
    stdin = tar_of(Dockerfile=f"FROM {IMAGE}\n")
    done = through("readonly").docker(*command.format(n=standing).split(), stdin=stdin, DOCKER_BUILDKIT="0")
    assert done.returncode != 0
    assert f"sockproxy: {operation} denied by policy readonly: ".encode() in done.stderr
    assert not [call for call in engine.calls(mark) if not call.startswith(("GET", "HEAD"))]
    assert engine.api.is_running(standing)


def test_readonly_streams_pass(through: Callable[[str], Door], direct: Door) -> None:
    door, container = through("readonly"), direct.api.run("sh", "-c", "echo hello; exec sleep 1000")
    with door.api.connect() as connection:
        connection.send_request("GET", f"/containers/{container}/logs?follow=1&stdout=1")
        assert connection.read_head().status == 200
        connection.read_until(b"hello\n")
        direct.docker("kill", container)
        connection.read_until(b"\r\n0\r\n\r\n")


def test_a_denied_hijack_keeps_the_connection(through: Callable[[str], Door], standing: str) -> None:
    """Docker's client takes an answer with `Connection: close` to a hijacking request for a hijack that worked."""
    with through("readonly").api.connect() as connection:
        for _ in range(2):
            answer = connection.request("POST", f"/containers/{standing}/attach?stream=1&stdin=1", **UPGRADE)
            assert answer.status == 403
            assert answer.field("connection") != "close"
            assert int(answer.field("content-length") or 0) == len(answer.body)


def test_docker_says_that_an_attach_was_denied(through: Callable[[str], Door], standing: str) -> None:
    """All that this client prints of an answer to a hijack is its status."""
    done = through("readonly").docker("attach", "--no-stdin", standing)
    assert (done.returncode, done.stderr) == (1, b"unable to upgrade to tcp, received 403\n")


def test_a_denied_upload_is_answered(through: Callable[[str], Door], engine: Dockerd) -> None:
    """More than fits into the buffers on the way: the client must get to read the answer all the same."""
    mark = engine.mark()
    done = through("readonly").docker("load", stdin=tar_of(big=b"x" * 8_000_000))
    assert done.returncode != 0
    assert b"sockproxy: ImageLoad denied by policy readonly: " in done.stderr
    assert not [call for call in engine.calls(mark) if "load" in call]


def test_kubernetes_1_4_lets_docker_work_where_it_needs_no_more(through: Callable[[str], Door], standing: str) -> None:
    """Docker's client pings first, is refused, and goes on."""
    door = through("kubernetes-1.4")
    assert door.docker("exec", "-i", standing, "cat", stdin=b"hello\n").stdout == b"hello\n"
    assert door.docker("logs", standing).stdout == b"hello\n"
    assert door.docker("ps", "-q", "--filter", f"name={standing}").stdout.strip()
    denied = door.docker("pause", standing)
    assert b"sockproxy: ContainerPause denied by policy kubernetes-1.4: no rule allows it" in denied.stderr


def test_every_decision_is_counted(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], folder: Path, standing: str
) -> None:
    between = proxy(engine.socket, "readonly")
    door = Door("readonly", between.socket, between.api, folder)
    door.api.call("GET", "/info")
    for _ in range(3):
        door.api.call("POST", f"/containers/{standing}/pause")
    eventually(lambda: len(between.events(operation="ContainerPause", stage="completed")) == 3)
    counted = between.metrics()
    line = re.search(
        r'^sockproxy_decisions_total\{.*effect="deny".*operation="ContainerPause".*\} (\S+)$', counted, re.M
    )
    assert line is not None and float(line[1]) == 3.0
    assert re.search(r"^sockproxy_engine_up(\{.*\})? 1\.0$", counted, re.M)


def test_two_policies_before_one_engine(through: Callable[[str], Door], standing: str) -> None:
    content = files_in(through("allow-all").docker("cp", f"{standing}:/etc/passwd", "-").stdout)["passwd"]
    assert content.startswith(b"root:")
    assert through("readonly").docker("cp", f"{standing}:/etc/passwd", "-").returncode != 0
