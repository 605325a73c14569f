"""The Python libraries cannot tell either: docker-py, aiodocker, and a websocket by aiohttp. Each scenario gives a list of
what it saw, the same directly and through the proxy.
"""

import asyncio
import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import aiodocker
import aiohttp
import docker
import docker.errors
import pytest
from docker.models.containers import Container

from .conftest import Door
from .dialogue import demultiplexed, eventually
from .rootfs import IMAGE, files_in, tar_of

BIG = os.urandom(1 << 20) * 2


# docker-py


@pytest.fixture
def py_container(direct: Door) -> Iterator[Callable[[docker.DockerClient], Container]]:
    def run(client: docker.DockerClient) -> Container:
        return client.containers.run(IMAGE, "sleep 1000", detach=True)

    yield run


def py_run_and_logs(client: docker.DockerClient) -> list[Any]:
    output = client.containers.run(
        IMAGE, ["sh", "-c", "echo out; echo err >&2"], stdout=False, stderr=True, remove=True
    )
    container = client.containers.run(IMAGE, ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done"], detach=True)
    return [output, list(container.logs(stream=True, follow=True)), container.wait(), container.logs(tail=1)]


def py_exec(client: docker.DockerClient) -> list[Any]:
    container = client.containers.run(IMAGE, "sleep 1000", detach=True)
    both = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
    streamed = container.exec_run("seq 50000", stream=True)
    return [both, hashlib.md5(b"".join(streamed.output)).hexdigest(), container.exec_run("tty", tty=True).output]


def py_exec_with_input(client: docker.DockerClient) -> list[Any]:
    container = client.containers.run(IMAGE, "sleep 1000", detach=True)
    _, stream = container.exec_run("md5sum", stdin=True, socket=True)
    stream._sock.sendall(BIG)
    stream._sock.shutdown(1)
    said = demultiplexed(stream.read()).split()[0].decode()
    stream.close()
    return [said == hashlib.md5(BIG).hexdigest()]


def py_attach(client: docker.DockerClient) -> list[Any]:
    container = client.containers.create(IMAGE, "cat", stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"hello\n")
    first = stream.read(8 + 6)
    stream.close()
    return [first]


def py_terminal(client: docker.DockerClient) -> list[Any]:
    script = 'echo ready; read line; stty size; echo "$line"'
    container = client.containers.create(IMAGE, ["sh", "-c", script], tty=True, stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    seen = stream.read(len(b"ready\r\n"))
    container.resize(height=40, width=100)
    stream._sock.sendall(b"typed\n")
    rest = stream.read()
    stream.close()  # the engine has closed one half only: it waits, and so does the proxy
    return [seen, rest, container.wait()]


def py_archives(client: docker.DockerClient) -> list[Any]:
    container = client.containers.run(IMAGE, "sleep 1000", detach=True)
    put = container.put_archive("/tmp", tar_of(big=BIG))
    pieces, stat = container.get_archive("/tmp/big")
    fetched = b"".join(pieces)  # the engine holds the container until it is read
    exported = b"".join(container.export())
    return [put, files_in(fetched)["big"] == BIG, stat["size"], files_in(exported)["tmp/big"] == BIG]


def py_build(client: docker.DockerClient) -> list[Any]:
    name = f"b{uuid4().hex}"
    context = io.BytesIO(tar_of(Dockerfile=f"FROM {IMAGE}\nRUN echo made > /made\n"))
    image, log = client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, nocache=True)
    said = [line["stream"].split()[0] for line in log if line.get("stream", "").startswith(("Step", "Successfully"))]
    output = client.containers.run(name, "cat /made", remove=True)
    history = len(image.history())
    client.images.remove(name)
    return [said, output, history]


def py_save_and_load(client: docker.DockerClient) -> list[Any]:
    saved = b"".join(client.images.get(IMAGE).save())
    return [sorted(files_in(saved)), [image.tags for image in client.images.load(saved)]]


def py_events(client: docker.DockerClient) -> list[Any]:
    name = f"v{uuid4().hex}"
    events = client.events(decode=True, filters={"volume": name}, since=1)
    client.volumes.create(name).remove()
    seen = [next(events)["Action"] for _ in range(2)]
    events.close()
    return seen


def py_stats(client: docker.DockerClient) -> list[Any]:
    container = client.containers.run(IMAGE, "sleep 1000", detach=True)
    stream = container.stats(decode=True)
    return [sorted(next(stream)), sorted(container.stats(stream=False))]


def py_errors(client: docker.DockerClient) -> list[Any]:
    seen = []
    for call in (
        lambda: client.containers.get("nope"),
        lambda: client.images.get("nope"),
        lambda: client.containers.create("nope"),
        lambda: client.containers.run(IMAGE, "false"),
        lambda: client.volumes.get("nope"),
        lambda: client.api.exec_start("nope"),
    ):
        with pytest.raises(docker.errors.DockerException) as error:
            call()
        seen.append((type(error.value), getattr(error.value, "explanation", None)))
    return seen


def py_life(client: docker.DockerClient) -> list[Any]:
    container = client.containers.run(IMAGE, "sleep 1000", detach=True, labels={"a": "b"})
    seen: list[Any] = [client.ping(), client.version()["ApiVersion"], client.info()["Driver"]]
    for step in (container.pause, container.unpause, container.restart, container.kill):
        step(**({"timeout": 0} if step == container.restart else {}))
        container.reload()
        seen.append(container.status)
    container.commit(repository="committed")
    client.images.remove("committed")
    seen += [container.diff(), container.labels, container.remove()]
    return seen


PY = [
    *(py_run_and_logs, py_exec, py_exec_with_input, py_attach, py_terminal, py_archives, py_build, py_save_and_load),
    *(py_events, py_stats, py_errors, py_life),
]


@pytest.mark.parametrize("scenario", PY, ids=lambda scenario: scenario.__name__.removeprefix("py_"))
def test_docker_py_sees_the_same(
    direct: Door, through: Callable[[str], Door], scenario: Callable[[docker.DockerClient], list[Any]]
) -> None:
    seen = []
    for door in (direct, through("allow-all")):
        client = docker.DockerClient(base_url=f"unix://{door.socket}", timeout=20)
        try:
            seen.append(scenario(client))
        finally:
            client.close()
    assert seen[0] == seen[1]


# aiodocker


async def aio_life(client: aiodocker.Docker) -> list[Any]:
    container = await client.containers.run({"Image": IMAGE, "Cmd": ["sh", "-c", "echo hello; exit 3"]})
    ended = await container.wait()
    log = await container.log(stdout=True)
    await container.delete()
    return [ended, log, (await client.version())["ApiVersion"]]


async def aio_logs_follow(client: aiodocker.Docker) -> list[Any]:
    script = "for i in 1 2 3; do echo $i; sleep 0.05; done"
    container = await client.containers.run({"Image": IMAGE, "Cmd": ["sh", "-c", script]})
    return [line async for line in container.log(stdout=True, follow=True)]


async def aio_exec(client: aiodocker.Docker) -> list[Any]:
    container = await client.containers.run({"Image": IMAGE, "Cmd": ["sleep", "1000"]})
    instance = await container.exec(["sh", "-c", "read line; echo got $line"], stdin=True)
    async with instance.start() as stream:
        await stream.write_in(b"hello\n")
        message = await stream.read_out()
    assert message is not None
    while (ended := await instance.inspect())["Running"]:
        pass  # its output comes a moment before its end
    return [message.stream, message.data, ended["ExitCode"]]


async def aio_attach(client: aiodocker.Docker) -> list[Any]:
    container = await client.containers.create({"Image": IMAGE, "Cmd": ["cat"], "OpenStdin": True})
    async with container.attach(stdin=True, stdout=True) as stream:
        await container.start()
        await stream.write_in(b"hello\n")
        message = await stream.read_out()
    assert message is not None
    return [message.stream, message.data]


async def aio_terminal(client: aiodocker.Docker) -> list[Any]:
    config = {"Image": IMAGE, "Cmd": ["sh", "-c", "read line; stty size"], "Tty": True, "OpenStdin": True}
    container = await client.containers.run(config)
    seen = b""
    async with container.attach(stdin=True, stdout=True) as stream:
        await container.resize(h=40, w=100)
        await stream.write_in(b"\n")
        while message := await stream.read_out():
            seen += message.data
    return [seen]


async def aio_events(client: aiodocker.Docker) -> list[Any]:
    """The library subscribes in the background: something is made to happen until it is told of it."""
    name = f"v{uuid4().hex}"
    events = client.events.subscribe()
    seen: set[str] = set()
    while seen < {"create", "destroy"}:
        volume = await client.volumes.create({"Name": name})
        await volume.delete()
        with contextlib.suppress(TimeoutError):
            while (event := await asyncio.wait_for(events.get(), 0.2)) is not None:
                seen |= {event["Action"]} if event["Actor"]["ID"] == name else set()
    await client.events.stop()
    return [sorted(seen)]


async def aio_files(client: aiodocker.Docker) -> list[Any]:
    container = await client.containers.run({"Image": IMAGE, "Cmd": ["sleep", "1000"]})
    await container.put_archive("/tmp", tar_of(big=BIG))
    archive = await container.get_archive("/tmp/big")
    read = archive.extractfile("big")
    return [read is not None and read.read() == BIG]


async def aio_build(client: aiodocker.Docker) -> list[Any]:
    name = f"b{uuid4().hex}"
    context = io.BytesIO(tar_of(Dockerfile=f"FROM {IMAGE}\nRUN echo made > /made\n"))
    log = await client.images.build(fileobj=context, encoding="identity", tag=name, nocache=True)
    history = await client.images.history(name)
    await client.images.delete(name)
    return [[line["stream"].split()[0] for line in log if line.get("stream", "").startswith("Step")], len(history)]


async def aio_errors(client: aiodocker.Docker) -> list[Any]:
    seen = []
    for call in (client.containers.get("nope"), client.images.inspect("nope"), client.volumes.get("nope")):
        try:
            found = await call
            await found.show()
        except aiodocker.DockerError as error:
            seen.append((error.status, error.message))
    return seen


AIO = [aio_life, aio_logs_follow, aio_exec, aio_attach, aio_terminal, aio_events, aio_files, aio_build, aio_errors]


@pytest.mark.parametrize("scenario", AIO, ids=lambda scenario: scenario.__name__.removeprefix("aio_"))
async def test_aiodocker_sees_the_same(
    direct: Door, through: Callable[[str], Door], scenario: Callable[[aiodocker.Docker], Any]
) -> None:
    seen = []
    for door in (direct, through("allow-all")):
        client = aiodocker.Docker(url=f"unix://{door.socket}")
        try:
            seen.append(await asyncio.wait_for(scenario(client), 30))
        finally:
            await client.close()
    assert seen[0] == seen[1]


# A websocket


async def test_a_websocket_attaches(door: Door) -> None:
    container = door.api.run("cat", OpenStdin=True)
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(door.socket)))
    async with (
        session,
        session.ws_connect(f"http://docker/containers/{container}/attach/ws?stream=1&stdin=1&stdout=1") as socket,
    ):
        for text in ("hello\n", "x" * 100_000 + "\n"):
            await socket.send_str(text)
            seen = ""
            while len(seen) < len(text):
                message = await socket.receive(10)
                seen += message.data if isinstance(message.data, str) else message.data.decode()
            assert seen == text


async def test_a_websocket_ends_with_its_container(door: Door) -> None:
    container = door.api.run("sh", "-c", "read line; echo $line", OpenStdin=True)
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(door.socket)))
    async with (
        session,
        session.ws_connect(f"http://docker/containers/{container}/attach/ws?stream=1&stdin=1&stdout=1") as socket,
    ):
        await socket.send_str("bye\n")
        kinds = []
        while (message := await socket.receive(10)).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            kinds.append(message.data)
        assert "".join(part if isinstance(part, str) else part.decode() for part in kinds) == "bye\n"
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)
    eventually(lambda: not door.api.is_running(container))
