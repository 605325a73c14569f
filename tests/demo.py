"""A client of the demo engine for its tests: plain requests, raw dialogues, and whole runs of a program."""

import asyncio
import json
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from sockproxy.operating.demo.engine import DemoEngine, start_demo_engine
from sockproxy.operating.demo.objects.bounds import Bounds

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
FAST = Bounds(pull_step_seconds=0.0, restart_seconds=0.0, exec_ready_seconds=0.0, exec_start_seconds=0.0)
SECONDS = 10  # a dialogue that waits longer has failed


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Dialogue:
    """One connection, written and read by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *raw: bytes | str) -> None:
        for each in raw:
            self.writer.write(each.encode() if isinstance(each, str) else each)
        await self.writer.drain()

    async def hear(self, expected: bytes) -> None:
        """Reads as many bytes as are expected, and compares."""
        heard = await asyncio.wait_for(self.reader.readexactly(len(expected)), SECONDS)
        assert heard == expected

    async def hear_until(self, mark: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), SECONDS)

    async def hear_end(self) -> bytes:
        """All that is left."""
        return await asyncio.wait_for(self.reader.read(), SECONDS)

    async def hear_head(self) -> list[str]:
        return (await self.hear_until(b"\r\n\r\n")).decode().split("\r\n")[:-2]

    async def hear_answer(self, *, has_body: bool = True) -> Answer:
        """One answer with a length or in chunks."""
        first, *lines = await self.hear_head()
        headers = dict(line.split(": ", 1) for line in lines)
        if not has_body:
            body = b""
        elif "Transfer-Encoding" in headers:
            body = b"".join([chunk async for chunk in self.chunks()])
        else:
            length = int(headers.get("Content-Length", 0))
            body = await asyncio.wait_for(self.reader.readexactly(length), SECONDS)
        return Answer(int(first.split(" ")[1]), headers, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self.hear_until(b"\r\n")), 16):
            yield (await asyncio.wait_for(self.reader.readexactly(size + 2), SECONDS))[:-2]
        await self.hear(b"\r\n")

    def finish(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()


class Bench:
    """An engine under test with the dialogues that were begun with it."""

    def __init__(self, engine: DemoEngine) -> None:
        self.engine = engine
        self.socket_path = engine.socket_path
        self.dialogues: list[Dialogue] = []

    def close(self) -> None:
        for dialogue in self.dialogues:
            dialogue.close()


@asynccontextmanager
async def demo_engine(folder: Any, bounds: Bounds = FAST) -> AsyncIterator[Bench]:
    bench = Bench(await start_demo_engine(f"{folder}/engine.sock", bounds))
    try:
        yield bench
    finally:
        bench.close()
        await bench.engine.stop()


async def connect(bench: Bench) -> Dialogue:
    dialogue = Dialogue(*await asyncio.open_unix_connection(bench.socket_path))
    bench.dialogues.append(dialogue)
    return dialogue


def request(method: str, target: str, body: Any = None, fields: str = "") -> bytes:
    """A request as clients send it; a body that is no bytes goes as JSON."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: d\r\n{fields}"
    if body is not None and "Content-Type" not in fields:
        head += "Content-Type: application/json\r\n"
    if body is not None or method in ("POST", "PUT"):
        head += f"Content-Length: {len(raw)}\r\n"
    return f"{head}\r\n".encode() + raw


async def ask(bench: Bench, method: str, target: str, body: Any = None, fields: str = "") -> Answer:
    client = await connect(bench)
    await client.say(request(method, target, body, fields))
    answer = await client.hear_answer(has_body=method != "HEAD")
    client.close()
    return answer


async def create(bench: Bench, name: str, *command: str, is_started: bool = True, **config: Any) -> str:
    """A busybox container; its id."""
    body = {"Image": "busybox", "Cmd": list(command) or ["sh"], **config}
    answer = await ask(bench, "POST", f"/containers/create?name={name}", body)
    assert answer.status == 201, answer.body
    if is_started:
        assert (await ask(bench, "POST", f"/containers/{name}/start")).status == 204
    return str(answer.document["Id"])


async def attach(bench: Bench, name: str, streams: str = "stdin=1&stdout=1&stderr=1") -> Dialogue:
    """A dialogue with a container's program, its head already heard."""
    client = await connect(bench)
    await client.say(request("POST", f"/containers/{name}/attach?stream=1&{streams}", fields=UPGRADE))
    assert (await client.hear_head())[0] == "HTTP/1.1 101 UPGRADED"
    return client


async def start_exec(bench: Bench, name: str, *command: str, **config: Any) -> tuple[str, Dialogue]:
    """An exec with a dialogue with its program, its head already heard."""
    streams = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    created = await ask(bench, "POST", f"/containers/{name}/exec", {"Cmd": list(command), **streams, **config})
    assert created.status == 201, created.body
    id = str(created.document["Id"])
    client = await connect(bench)
    await client.say(request("POST", f"/exec/{id}/start", {}, UPGRADE))
    assert (await client.hear_head())[0] == "HTTP/1.1 101 UPGRADED"
    return id, client


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


async def run(bench: Bench, *command: str, stdin: bytes = b"", **config: Any) -> Outcome:
    """Runs a program in a container to its end, as `docker run --rm -i` does."""
    config = {"OpenStdin": True, "StdinOnce": True, **config}
    name = await create(bench, "", *command, is_started=False, **config)
    client = await attach(bench, name)
    assert (await ask(bench, "POST", f"/containers/{name}/start")).status == 204
    await client.say(stdin)
    client.finish()
    frames = split_frames(await client.hear_end())
    waited = await ask(bench, "POST", f"/containers/{name}/wait")
    await ask(bench, "DELETE", f"/containers/{name}")
    output = ["".join(text.decode() for stream, text in frames if stream == number) for number in (1, 2)]
    return Outcome(waited.document["StatusCode"], *output)


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(text)) + text


def split_frames(raw: bytes) -> list[tuple[int, bytes]]:
    frames = []
    while raw:
        stream, size = struct.unpack(">BxxxI", raw[:8])
        frames.append((stream, raw[8 : 8 + size]))
        raw = raw[8 + size :]
    return frames


def without_ids(text: str) -> str:
    return re.sub(r"[0-9a-f]{64}", "ID", text)
