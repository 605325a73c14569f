"""Real clients against the demo engine: the docker command (each that is installed), docker-py and aiodocker."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import termios
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import aiodocker
import docker
import pytest

from sockproxy.operating.demo.objects.bounds import Bounds
from tests.demo import Bench, ask, demo_engine

SECONDS = 20
COMMANDS = sorted(
    {os.path.realpath(found) for path in (None, "/usr/bin") if (found := shutil.which("docker", path=path))}
)
NO_COMMAND = pytest.mark.skip(reason="no docker command is installed: apt install docker.io, or docker-cli")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with demo_engine(tmp_path, Bounds(pull_step_seconds=0.0)) as bench:
        yield bench


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str


class DockerCommand(NamedTuple):
    """A docker command and the engine that it talks to."""

    path: str
    host: str

    async def start(self, *arguments: str, **streams: int) -> asyncio.subprocess.Process:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_HOST": self.host, "TERM": "xterm"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        return await asyncio.create_subprocess_exec(self.path, *arguments, env=environment, **{**pipes, **streams})

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        process = await self.start(*arguments)
        stdout, stderr = await asyncio.wait_for(process.communicate(stdin), SECONDS)
        return Ended(process.returncode or 0, stdout.decode(), stderr.decode())


@pytest.fixture(params=COMMANDS or [pytest.param("", marks=NO_COMMAND)])
def docker_command(request: pytest.FixtureRequest, bench: Bench) -> DockerCommand:
    return DockerCommand(request.param, f"unix://{bench.socket_path}")


class Screen:
    """A terminal of our own for a client: what it shows, and the keys."""

    def __init__(self, main: int) -> None:
        self.main = main
        self._shown = b""
        self._changed = asyncio.Event()
        os.set_blocking(main, False)
        asyncio.get_running_loop().add_reader(main, self._read)

    def _read(self) -> None:
        try:
            self._shown += os.read(self.main, 65536)
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self.main)
        self._changed.set()

    def type(self, keys: str) -> None:
        os.write(self.main, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def shows(self, text: str) -> None:
        """Waits until a text is shown, and forgets all up to it."""
        async with asyncio.timeout(SECONDS):
            while text.encode() not in self._shown:
                self._changed.clear()
                await self._changed.wait()
        self._shown = self._shown.partition(text.encode())[2]


@contextlib.contextmanager
def open_screen() -> Iterator[tuple[Screen, int]]:
    main, client = pty.openpty()
    screen = Screen(main)
    screen.resize(24, 80)
    try:
        yield screen, client
    finally:
        asyncio.get_running_loop().remove_reader(main)
        os.close(main)
        os.close(client)


# --- the docker command

OUTPUTS = (  # (arguments, what the output holds)
    ("version", r"Server: sockproxy demo engine[^$]*API version: +1\.41 \(minimum version 1\.12\)"),
    ("info", r"Containers: 3[^$]*Server Version: 20\.10\.24"),
    ("ps", r"nginx:alpine[^\n]*Up[^\n]*0\.0\.0\.0:8080->80/tcp +web\n"),
    ("ps -aq --filter name=db", r"^[0-9a-f]{12}\n$"),
    ("images", r"busybox +latest +[0-9a-f]{12}"),
    ("pull busybox", r"Status: Image is up to date for busybox:latest"),
    ("pull -q alpine:3.19", r"^docker\.io/library/alpine:3\.19\n$"),
    ("history nginx:alpine", r"CMD \[\"nginx\""),
    ("inspect -f {{.State.Status}} web", r"^running\n$"),
    ("inspect -f {{.RepoTags}} busybox", r"^\[busybox:latest\]\n$"),
    ("network ls", r"bridge +bridge +local\n"),
    ("network inspect -f {{.Name}} bridge", r"^bridge\n$"),
    ("volume ls", r"local +db-data\n"),
    ("system df", r"Images +3 +3"),
    ("top web", r"nginx -g daemon off;"),
    ("stats --no-stream web", r"web +[0-9.]+%"),
    ("port web", r"^80/tcp -> 0\.0\.0\.0:8080\n$"),
    ("logs db", r"Ready to accept connections"),
    ("events --since 1 --until 9", r"^$"),
    ("run --rm busybox echo hi", r"^hi\n$"),
    ("run --rm hello-world", r"Hello from the demo engine!"),
    ("run --rm -e A=1 -w /tmp -h box busybox sh -c pwd;hostname;env", r"^/tmp\nbox\n[^$]*A=1\n"),
    ("exec web cat /etc/hostname", r"^[0-9a-f]{12}\n$"),
    ("exec -e X=2 -u 1000 web sh -c id;env", r"uid=1000[^$]*X=2\n"),
    ("search redis", r"redis"),
    ("cp web:/etc/os-release -", r"VERSION_ID=alpine"),
)


@pytest.mark.parametrize(("arguments", "output"), OUTPUTS, ids=[row[0] for row in OUTPUTS])
async def test_output_of_docker(docker_command: DockerCommand, arguments: str, output: str) -> None:
    words = arguments.split(" ")
    if "-c" in words:  # what stands behind -c is one word
        words = [*words[: words.index("-c") + 1], " ".join(words[words.index("-c") + 1 :])]
    ended = await docker_command(*words)
    assert (ended.code, ended.stderr) in ((0, ""), (0, ended.stderr if "pull" in ended.stderr.lower() else ""))
    assert re.search(output, ended.stdout), ended.stdout


EXIT_CODES = (  # (arguments, exit code, what the error holds)
    (("run", "--rm", "busybox", "sh", "-c", "echo err >&2; exit 3"), 3, "err"),
    (("run", "--rm", "busybox", "nope"), 127, 'exec: "nope": executable file not found'),
    (("run", "--rm", "--name", "web", "busybox", "true"), 125, 'The container name "/web" is already in use'),
    (("exec", "web", "sh", "-c", "exit 7"), 7, ""),
    (("exec", "nope", "ls"), 1, "No such container: nope"),
    (("rm", "web"), 1, "Stop the container before attempting removal or force remove"),
    (("pull", "nosuch"), 1, "pull access denied for nosuch"),
    (("volume", "rm", "db-data"), 1, "volume is in use"),
    (("swarm", "leave"), 1, "This node is not part of a swarm"),
)


@pytest.mark.parametrize(("arguments", "code", "error"), EXIT_CODES)
async def test_exit_codes_of_docker(
    docker_command: DockerCommand, arguments: tuple[str, ...], code: int, error: str
) -> None:
    ended = await docker_command(*arguments)
    assert ended.code == code
    assert error in ended.stderr


async def test_the_life_of_a_container(docker_command: DockerCommand, bench: Bench) -> None:
    steps = ("run -d --name job busybox sleep 1000", "pause job", "unpause job", "rename job other", "stop other",
             "start other", "restart -t 0 other", "kill other", "wait other", "rm other")  # fmt: skip
    for step in steps:
        assert (await docker_command(*step.split(" "))).code == 0, step
    assert (await ask(bench, "GET", "/containers/other/json")).status == 404


@pytest.mark.parametrize("arguments", ["run --rm -i busybox cat", "exec -i web cat"])
async def test_a_piped_standard_input(docker_command: DockerCommand, arguments: str) -> None:
    text = "line\n" * 40_000
    ended = await docker_command(*arguments.split(" "), stdin=text.encode())
    assert (ended.code, ended.stdout == text) == (0, True)


async def test_logs_are_followed_to_the_end(docker_command: DockerCommand) -> None:
    await docker_command("run", "-d", "-i", "--name", "job", "busybox", "sh", "-c", "echo first; read x; echo $x")
    following = await docker_command.start("logs", "-f", "job")
    assert following.stdout
    assert await asyncio.wait_for(following.stdout.readline(), SECONDS) == b"first\n"
    await docker_command("attach", "job", stdin=b"second\n")
    assert await asyncio.wait_for(following.stdout.read(), SECONDS) == b"second\n"
    assert await following.wait() == 0


async def test_events_are_watched(docker_command: DockerCommand) -> None:
    watching = await docker_command.start(
        "events", "--since", "1", "--format", "{{.Status}}", "--filter", "container=job"
    )
    await docker_command("run", "--rm", "--name", "job", "busybox", "true")
    assert watching.stdout
    seen = [(await asyncio.wait_for(watching.stdout.readline(), SECONDS)).decode().strip() for _ in range(5)]
    assert seen == ["create", "attach", "start", "die", "destroy"]
    watching.terminate()
    await watching.wait()


async def test_an_interactive_terminal(docker_command: DockerCommand, bench: Bench) -> None:
    with open_screen() as (screen, terminal):
        client = await docker_command.start(
            "run", "-it", "--rm", "--name", "job", "busybox", stdin=terminal, stdout=terminal, stderr=terminal
        )
        await screen.shows("/ # ")
        screen.type("stty size\r")
        await screen.shows("24 80\r\n/ # ")
        screen.type("echo hx\x7fi | cat; sleep 100\r")
        await screen.shows("hi\r\n")
        screen.type("\x03")
        await screen.shows("^C\r\n/ # ")
        screen.type("watch-size\r")
        await screen.shows("24 80\r\n")
        await ask(bench, "POST", "/containers/job/resize?h=40&w=132")
        await screen.shows("40 132\r\n")
        screen.type("\x03")
        await screen.shows("/ # ")
        screen.type("exit 3\r")
        assert await asyncio.wait_for(client.wait(), SECONDS) == 3


async def test_a_terminal_in_a_running_container(docker_command: DockerCommand) -> None:
    with open_screen() as (screen, terminal):
        client = await docker_command.start(
            "exec", "-it", "web", "sh", stdin=terminal, stdout=terminal, stderr=terminal
        )
        await screen.shows("/ # ")
        screen.type("tty\r")
        await screen.shows("/dev/pts/0\r\n/ # ")
        screen.type("\x04")
        assert await asyncio.wait_for(client.wait(), SECONDS) == 0


async def test_attach_and_detach_by_keys(docker_command: DockerCommand, bench: Bench) -> None:
    with open_screen() as (screen, terminal):
        client = await docker_command.start("attach", "console", stdin=terminal, stdout=terminal, stderr=terminal)
        screen.type("\r")
        await screen.shows("/ # ")
        screen.type("\x10\x11")
        await screen.shows("read escape sequence")
        await asyncio.wait_for(client.wait(), SECONDS)
    assert (await ask(bench, "GET", "/containers/console/json")).document["State"]["Running"]


# --- docker-py


def use_docker_py(path: str) -> None:
    """The basics, as its users write them."""
    client = docker.DockerClient(base_url=f"unix://{path}", timeout=SECONDS)
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.41"
    assert client.info()["Containers"] == 3
    assert sorted(each.name for each in client.containers.list()) == ["console", "db", "web"]
    assert client.images.pull("alpine", tag="3.19").tags == ["alpine:3.19"]
    assert client.containers.run("busybox", "echo hi", remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError, match="exit status 3"):
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nope")
    with pytest.raises(docker.errors.NotFound, match="No such container: nope"):
        client.containers.get("nope")
    script = ["sh", "-c", "echo out; echo err >&2; cat"]
    job = client.containers.run("busybox", script, detach=True, stdin_open=True, name="job")
    assert job.exec_run("id -u") == (0, b"0\n")
    assert job.exec_run(["sh", "-c", "echo a; echo b >&2; exit 4"], demux=True) == (4, (b"a\n", b"b\n"))
    assert job.top()["Processes"][0][-1].startswith("sh -c")
    sock = job.attach_socket(params={"stdin": 1, "stream": 1})
    sock._sock.sendall(b"typed\n")
    sock.close()
    lines = job.logs(stream=True, follow=True)
    assert b"".join(next(lines) for _ in range(3)) == b"out\nerr\ntyped\n"
    assert next(job.stats(decode=True))["name"] == "/job"
    job.stop(timeout=1)
    assert job.wait() == {"Error": None, "StatusCode": 143}
    job.rename("other")
    job.remove()
    network = client.networks.create("back")
    network.connect("web")
    network.disconnect("web")
    network.remove()
    client.volumes.create("v1").remove()
    until = int(time.time()) + 1
    seen = client.events(since=1, until=until, decode=True, filters={"container": "other", "event": "rename"})
    assert [event["Actor"]["Attributes"]["oldName"] for event in seen] == ["/job"]
    client.close()


async def test_docker_py(bench: Bench) -> None:
    await asyncio.to_thread(use_docker_py, bench.socket_path)


# --- aiodocker


async def test_aiodocker(bench: Bench) -> None:
    async with aiodocker.Docker(url=f"unix://{bench.socket_path}") as client:
        assert (await client.version())["ApiVersion"] == "1.41"
        assert len(await client.containers.list()) == 3
        await client.images.pull("alpine:3.19")
        assert (await client.images.inspect("alpine:3.19"))["RepoTags"] == ["alpine:3.19"]
        config = {"Image": "busybox", "Cmd": ["sh", "-c", "echo out; read x; echo $x; exit 4"], "OpenStdin": True}
        job = await client.containers.create(config, name="job")
        await job.start()
        execution = await job.exec(["cat"], stdin=True)
        async with execution.start(detach=False) as stream:
            await stream.write_in(b"through exec\n")
            message = await stream.read_out()
            assert message is not None
            assert (message.stream, message.data) == (1, b"through exec\n")
        async with job.attach(stdin=True, stdout=True, stderr=True, logs=True) as stream:
            first = await stream.read_out()
            await stream.write_in(b"typed\n")
            second = await stream.read_out()
            assert [message.data for message in (first, second) if message] == [b"out\n", b"typed\n"]
        assert await job.wait() == {"Error": None, "StatusCode": 4}
        assert await job.log(stdout=True) == ["out\n", "typed\n"]
        await job.delete()
        with pytest.raises(aiodocker.exceptions.DockerError, match="No such container: "):
            await job.show()
