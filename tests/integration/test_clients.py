"""Real clients cannot tell that the proxy is there: what docker's command line client prints is the same directly
and through `allow-all`. curl is in `test_curl`, the libraries in `test_libraries`, what other policies do in `test_policies`.
"""

import hashlib
import os
import select
import shlex
import subprocess
from collections.abc import Callable
from typing import NamedTuple
from uuid import uuid4

import pytest

from .conftest import Door
from .dialogue import READ_SECONDS, eventually
from .pty_client import Terminal
from .rootfs import IMAGE, files_in, tar_of
from .tidying import tidied


class Call(NamedTuple):
    """One command. `{n}` in it is a name that no other run has."""

    command: str
    stdin: bytes = b""
    compares_output: bool = True


BUSYBOX_CONTEXT = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN echo built > /built\nCOPY file /file\n", file="content\n")
BROKEN_CONTEXT = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN exit 3\n")
RUN = f"run --name {{n}} {IMAGE}"
SLEEPER = Call(f"run -d --name {{n}} {IMAGE} sleep 1000")

WORK: dict[str, list[Call]] = {
    "version": [Call("version")],
    "info": [Call("info --format {{.ServerVersion}}/{{.Driver}}/{{.OSType}}")],
    "run-both-streams": [Call(f"run --rm {IMAGE} sh -c 'echo out; echo err >&2'")],
    "run-exit-code": [Call(f"run --rm {IMAGE} sh -c 'exit 42'")],
    "run-no-such-program": [Call(f"run --rm {IMAGE} nope")],
    "run-no-such-image": [Call("run --rm --pull never nope:nope")],
    "run-big-output": [Call(f"run --rm {IMAGE} seq 200000")],
    "run-piped": [Call(f"run -i --rm {IMAGE} md5sum", stdin=b"0123456789abcdef" * 200_000)],
    "run-detached-and-stop": [SLEEPER, Call("stop -t 0 {n}"), Call("rm {n}")],
    "run-name-conflict": [SLEEPER, Call(f"{RUN} true")],
    "create-start-attached": [
        Call(f"create -i --name {{n}} {IMAGE} cat"),
        Call("start -ai {n}", stdin=b"hello\n" * 50_000),
    ],
    "exec": [SLEEPER, Call("exec {n} sh -c 'echo out; echo err >&2; exit 5'")],
    "exec-piped": [SLEEPER, Call("exec -i {n} md5sum", stdin=bytes(range(256)) * 10_000)],
    "exec-output-after-input": [SLEEPER, Call("exec -i {n} sh -c 'cat >/dev/null; sleep 0.2; echo late'", stdin=b"x")],
    "exec-detached": [
        SLEEPER,
        Call("exec -d {n} touch /there"),
        Call("exec {n} sleep 0.1"),
        Call("exec {n} ls /there"),
    ],
    "exec-no-such-program": [SLEEPER, Call("exec {n} nope")],
    "exec-not-running": [Call(f"create --name {{n}} {IMAGE} true"), Call("exec {n} true")],
    "start-attached": [
        Call(f"create --name {{n}} {IMAGE} sh -c 'for i in 1 2 3; do echo tick; sleep 0.1; done; exit 4'"),
        Call("start -a {n}"),
    ],
    "logs": [Call(f"{RUN} seq 2000"), Call("logs {n}"), Call("logs --tail 2 -t {n}")],
    "logs-of-errors": [Call(f"{RUN} sh -c 'seq 10 >&2'"), Call("logs {n}")],
    "logs-follow": [
        Call(f"run -d --name {{n}} {IMAGE} sh -c 'for i in 1 2 3; do echo $i; sleep 0.1; done'"),
        Call("logs -f {n}"),
    ],
    "logs-no-such-container": [Call("logs nope")],
    "cp-out": [SLEEPER, Call("cp {n}:/etc/passwd -")],
    "cp-in": [
        SLEEPER,
        Call("cp - {n}:/tmp", stdin=tar_of(file="content\n", big=os.urandom(2_000_000))),
        Call("exec {n} sh -c 'cat /tmp/file; wc -c /tmp/big'"),
    ],
    "cp-no-such-file": [SLEEPER, Call("cp {n}:/nope -")],
    "classic-build": [
        Call("build -t {n} --no-cache -", stdin=BUSYBOX_CONTEXT),
        Call("run --rm {n} cat /built /file"),
        Call("history --format '{{.CreatedBy}}' {n}"),
        Call("rmi {n}", compares_output=False),
    ],
    "classic-build-fails": [Call("build -t {n} --no-cache -", stdin=BROKEN_CONTEXT)],
    "save": [Call(f"tag {IMAGE} {{n}}"), Call("save {n}", compares_output=False), Call("rmi {n}")],
    "import-export": [
        Call("import - {n}", stdin=tar_of(file="content\n")),
        Call("create --name {n} {n} nothing"),
        Call("export {n}", compares_output=False),
        Call("rm {n}"),
        Call("rmi {n}", compares_output=False),
    ],
    "commit-diff": [
        SLEEPER,
        Call("exec {n} touch /new"),
        Call("diff {n}"),
        Call("commit {n} {n}"),
        Call("rmi {n}", compares_output=False),
    ],
    "images": [Call(f"images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {IMAGE}"), Call(f"inspect {IMAGE}")],
    "rmi-no-such-image": [Call("rmi nope")],
    "ps": [
        SLEEPER,
        Call("ps -a --no-trunc --filter name={n} --format '{{.Image}} {{.Command}} {{.Status}}'"),
        Call("inspect {n} --format '{{.State.Status}} {{.Config.Cmd}}'"),
    ],
    "wait": [Call(f"run -d --name {{n}} {IMAGE} sh -c 'sleep 0.2; exit 6'"), Call("wait {n}")],
    "stats": [SLEEPER, Call("stats --no-stream --format '{{.Name}}' {n}", compares_output=False)],
    "top": [SLEEPER, Call("top {n} -o pid,args", compares_output=False)],
    "kill-restart-pause": [
        SLEEPER,
        *(
            Call(f"{verb} {{n}}")
            for verb in ("restart -t 0", "pause", "unpause", "kill", "start", "kill -s KILL", "kill")
        ),
    ],
    "rename-update": [
        SLEEPER,
        Call("update --cpu-shares 512 {n}"),
        Call("rename {n} {n}-2"),
        Call("port {n}-2"),
        Call("rm -f {n}-2"),
    ],
    "events": [
        SLEEPER,
        Call("kill {n}"),
        Call("wait {n}"),
        Call("events --since 1 --until=-1s --filter container={n} --format '{{.Type}} {{.Action}}'"),
    ],
    "volumes": [
        Call("volume create {n}"),
        Call(f"run --rm -v {{n}}:/v {IMAGE} sh -c 'echo kept > /v/f'"),
        Call(f"run --rm -v {{n}}:/v {IMAGE} cat /v/f"),
        Call("volume ls -q --filter name={n}"),
        Call("volume inspect {n} --format '{{.Driver}}'"),
        Call("volume rm {n}"),
        Call("volume rm {n}"),
    ],
    "networks": [
        Call("network ls --format '{{.Name}} {{.Driver}}'"),
        Call("network inspect none --format '{{.Name}}'"),
        Call("network create --internal {n}"),
        Call(f"run -d --name {{n}} --network {{n}} {IMAGE} sleep 1000"),
        Call("network disconnect {n} {n}"),
        Call("network connect --alias a {n} {n}"),
        Call("rm -f {n}"),
        Call("network rm {n}"),
    ],
    "swarm": [
        Call("node ls"),
        Call("swarm init --advertise-addr 127.0.0.1"),
        Call("node ls --format '{{.Status}} {{.ManagerStatus}}'"),
        Call("config create {n} -", stdin=b"setting"),
        Call("secret create {n} -", stdin=b"secret"),
        Call("secret ls --format '{{.Name}}'"),
        Call("service create --name {n} --detach --replicas 0 " + IMAGE + " sleep 1000", compares_output=False),
        Call("service ls --format '{{.Name}} {{.Replicas}}'"),
        Call("service rm {n}"),
        Call("swarm leave"),
        Call("swarm leave --force"),
        Call("network prune -f", compares_output=False),
    ],
    "system": [
        Call("system df", compares_output=False),
        Call("container prune -f"),
        Call("volume prune -f"),
        Call("image prune -f"),
        Call("network prune -f"),
        Call("builder prune -f"),
    ],
    "plugins": [Call("plugin ls"), Call("plugin inspect nope"), Call("plugin enable nope")],
    "search-without-a-registry": [Call("search nope", compares_output=False)],
}


def words(command: str, name: str) -> list[str]:
    return shlex.split(command.replace("{n}", name))


def remove_leftovers(direct: Door) -> None:
    """What other tests have left behind is pruned once only, and would show a difference."""
    with direct.api.connect() as connection:
        for kind in ("containers", "volumes", "images", "networks", "build"):
            assert connection.request("POST", f"/v1.41/{kind}/prune").status == 200


def outcome(door: Door, calls: list[Call]) -> list[tuple[object, ...]]:
    """What a user sees of these calls: exit code, standard output and error of each."""
    name = f"t{uuid4().hex[:10]}x"
    seen: list[tuple[object, ...]] = []
    for call in calls:
        done = door.docker(*words(call.command, name), stdin=call.stdin, DOCKER_BUILDKIT="0")
        printed = (tidied(done.stdout, name), tidied(done.stderr, name)) if call.compares_output else ()
        seen.append((call.command, done.returncode, *printed))
    return seen


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_docker_prints_the_same(direct: Door, through: Callable[[str], Door], work: list[Call]) -> None:
    proxied = through("allow-all")
    remove_leftovers(direct)
    assert outcome(proxied, work) == outcome(direct, work)


# What does not fit into a row


def test_docker_sees_events_as_they_happen(door: Door) -> None:
    name = f"v{uuid4().hex}"
    command = ["events", "--filter", f"volume={name}", "--format", "{{.Action}}"]
    with door.docker_process(*command) as process:
        assert process.stdout is not None
        for _ in range(2):  # the first may come before the client listens: it is made again until one is told
            eventually(lambda: poke(door, name) and readable(process))
            assert process.stdout.readline() in (b"create\n", b"destroy\n")
        process.terminate()


def poke(door: Door, name: str) -> bool:
    door.api.call("POST", "/volumes/create", {"Name": name})
    return door.api.call("DELETE", f"/volumes/{name}").status == 204


def readable(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0.05)[0])


def test_docker_follows_logs_as_they_are_written(door: Door) -> None:
    name = f"t{uuid4().hex}"
    script = "echo first; while [ ! -e /go ]; do sleep 0.02; done; echo second"
    assert door.docker("run", "-d", "--name", name, IMAGE, "sh", "-c", script).returncode == 0
    with door.docker_process("logs", "-f", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        assert door.docker("exec", name, "touch", "/go").returncode == 0
        assert process.stdout.read() == b"second\n"
        assert process.wait(READ_SECONDS) == 0


def test_docker_attaches_until_the_container_ends(door: Door) -> None:
    name = f"t{uuid4().hex}"
    script = "while :; do echo tick; sleep 0.05; done"
    assert door.docker("run", "-d", "--name", name, IMAGE, "sh", "-c", script).returncode == 0
    with door.docker_process("attach", "--no-stdin", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"tick\n"
        assert door.docker("kill", name).returncode == 0
        process.stdout.read()
        assert process.wait(READ_SECONDS) == 137


def test_docker_streams_stats(door: Door) -> None:
    name = f"t{uuid4().hex}"
    assert door.docker("run", "-d", "--name", name, IMAGE, "sleep", "1000").returncode == 0
    with door.docker_process("stats", "--format", "{{.Name}}", name) as process:
        assert process.stdout is not None
        assert name.encode() in process.stdout.readline() + process.stdout.readline()
        process.terminate()


def test_docker_runs_in_a_terminal_that_changes_its_size(door: Door) -> None:
    script = 'trap "stty size" WINCH; stty size; while :; do sleep 1 & wait $!; done'
    with Terminal(door, "run", "-it", "--rm", IMAGE, "sh", "-c", script, rows=24, columns=80) as terminal:
        terminal.read_until(b"24 80")
        terminal.resize_until(40, 100, b"40 100")
        terminal.send(b"\x03")


def test_docker_execs_a_shell_in_a_terminal(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    with Terminal(door, "exec", "-it", container, "sh", rows=30, columns=90) as terminal:
        terminal.send(b"until stty size | grep '30 90'; do sleep 0.02; done; echo $((6*7))\n")
        terminal.read_until(b"30 90\r\n42")
        terminal.send(b"exit 9\n")
        assert terminal.wait() == 9


def test_docker_detaches_by_its_keys(door: Door) -> None:
    container = door.api.run("cat", Tty=True, OpenStdin=True)
    with Terminal(door, "attach", container) as terminal:
        terminal.send(b"hello\n")
        terminal.read_until(b"hello\r\nhello")
        terminal.send(b"\x10\x11")
        terminal.wait()
    assert door.api.is_running(container)


def test_docker_saves_and_loads_the_same_image(direct: Door, through: Callable[[str], Door]) -> None:
    saved = [door.docker("save", IMAGE).stdout for door in (direct, through("allow-all"))]
    layers = [hashlib.sha256(b"".join(sorted(files_in(tar).values()))).hexdigest() for tar in saved]
    assert layers[0] == layers[1]
    loaded = [door.docker("load", stdin=saved[0]) for door in (direct, through("allow-all"))]
    assert [done.returncode for done in loaded] == [0, 0]
    assert loaded[0].stdout == loaded[1].stdout == f"Loaded image: {IMAGE}\n".encode()


def test_docker_copies_big_files_out(door: Door) -> None:
    container = door.api.run(
        "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=8 2>/dev/null; md5sum /big; sleep 1000"
    )
    eventually(lambda: b"/big" in door.api.logs(container))
    content = files_in(door.docker("cp", f"{container}:/big", "-").stdout)["big"]
    assert door.api.logs(container).split()[0].decode() == hashlib.md5(content).hexdigest()


BUILDKIT = {
    "scratch": "FROM scratch\nCOPY file /file\n",
    "run": f"FROM {IMAGE}\nCOPY file /file\nRUN test -s /file && md5sum /file > /sum\n",
}


@pytest.mark.parametrize("dockerfile", BUILDKIT.values(), ids=BUILDKIT)
def test_docker_builds_with_buildkit(door: Door, dockerfile: str) -> None:
    """The client serves its files over a session: HTTP/2 inside of a tunnel, with the engine as the client."""
    name = f"b{uuid4().hex}"
    context = door.home / name
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    (context / "file").write_bytes(os.urandom(3_000_000))
    done = door.docker(
        "build", "--network", "none", "--progress", "plain", "-t", name, str(context), DOCKER_BUILDKIT="1"
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"transferring context" in done.stderr
    container = door.api.call("POST", "/containers/create", {"Image": name, "Cmd": ["x"]}).json()["Id"]
    content = files_in(door.docker("cp", f"{container}:/file", "-").stdout)["file"]
    assert content == (context / "file").read_bytes()


def test_docker_builds_with_buildkit_say_why_they_fail(direct: Door, through: Callable[[str], Door]) -> None:
    context = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN exit 3\n")
    build = ("build", "--network", "none", "--progress", "plain", "--no-cache", "-")
    done = [door.docker(*build, stdin=context, DOCKER_BUILDKIT="1") for door in (direct, through("allow-all"))]
    assert [one.returncode for one in done] == [1, 1]
    assert all(b"executor failed running [/bin/sh -c exit 3]: exit code: 3" in one.stderr for one in done)
