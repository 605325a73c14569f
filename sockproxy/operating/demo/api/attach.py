"""Operations that take the connection over: attach and exec start; and the other operations on execs.

Owns the order of takeover, answer and start, which is that of dockerd 20.10: an attach is refused after its takeover, an
exec start before. Must not know how bytes move (`hijack`).
"""

import asyncio
from dataclasses import replace

from aiohttp import WSMsgType, web

from sockproxy.operating.demo.api import hijack
from sockproxy.operating.demo.api.answers import empty_answer, json_answer
from sockproxy.operating.demo.api.calls import GOT_EOF, Call
from sockproxy.operating.demo.api.connection import take_over, taken_over
from sockproxy.operating.demo.api.hijack import Wishes
from sockproxy.operating.demo.api.logs import replay_of
from sockproxy.operating.demo.objects import describe, execs, lifecycle
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Container, Exec


async def attach(call: Call) -> web.StreamResponse:
    """Joins the client to the container's program, or to its next one if none runs."""
    try:
        container, wishes = _attachable(call)
    except Refused as refused:
        return await taken_over(take_over(call.request, hijack.refused_head(refused.status, refused.message)))
    replay = replay_of(container, stdout=wishes.stdout, stderr=wishes.stderr) if call.flag("logs") else b""
    client = take_over(call.request, hijack.head(call.request, has_engine_headers=False))
    lifecycle.tell(call.state, container, "attach")
    if call.flag("stream"):
        if await hijack.join(client.read, client.write, container.process, wishes, replay):
            lifecycle.tell(call.state, container, "detach")
    elif replay:
        await client.write(replay)
    return await taken_over(client)


def _attachable(call: Call) -> tuple[Container, Wishes]:
    container = call.state.container(call.name)
    if container.status == "paused":
        raise Refused(409, f"container {call.name} is paused, unpause the container before attach")
    if container.status == "restarting":
        raise Refused(409, f"container {call.name} is restarting, wait until the container is running")
    try:
        keys = hijack.parse_detach_keys(call.text("detachKeys"))
    except ValueError as fault:
        raise Refused(400, str(fault)) from None
    return container, Wishes(
        stdin=call.flag("stdin") and bool(container.config["OpenStdin"]),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        ends_stdin=bool(container.config["StdinOnce"]),
        detach_keys=keys,
    )


async def attach_websocket(call: Call) -> web.StreamResponse:
    """The same over a websocket: binary messages both ways, raw bytes without frames."""
    container, wishes = _attachable(call)
    socket = web.WebSocketResponse()
    if not socket.can_prepare(call.request).ok:
        return web.Response(status=400, body=b"not websocket protocol")
    await socket.prepare(call.request)

    async def read() -> bytes:
        while (message := await socket.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
            found = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
            if found:
                return found
        return b""

    await hijack.join(read, socket.send_bytes, container.process, replace(wishes, has_frames=False))
    await socket.close()
    return socket


async def create_exec(call: Call) -> web.StreamResponse:
    body = await call.body()
    instance = execs.create(call.state, call.state.container(call.name), body)
    return await json_answer(call.request, {"Id": instance.id}, 201)


async def start_exec(call: Call) -> web.StreamResponse:
    """Detached it is an ordinary answer, whatever else the request says; else the connection is the program's, and
    why it cannot be started stands in the stream."""
    body = await (call.body(GOT_EOF) if call.version >= (1, 22) else call.untyped_body(GOT_EOF))
    instance = call.state.exec(call.name)
    if body.get("Detach"):
        execs.start(call.state, instance)
        return empty_answer(200)
    client = take_over(call.request, hijack.head(call.request, has_engine_headers=True))
    await asyncio.sleep(call.state.bounds.exec_start_seconds)
    try:
        process = execs.start(call.state, instance)
    except Refused as refused:
        text = f"{refused.message}\r\n".encode(errors="replace")
        await client.write(text if instance.config["Tty"] else hijack.frame(1, text))
        return await taken_over(client)
    if await hijack.join(client.read, client.write, process, _wishes_of(instance)):
        lifecycle.tell(call.state, instance.container, "exec_detach", execID=instance.id)
    return await taken_over(client)


def _wishes_of(instance: Exec) -> Wishes:
    config = instance.config
    try:
        keys = hijack.parse_detach_keys(config["DetachKeys"])
    except ValueError:
        keys = hijack.DETACH_KEYS
    return Wishes(config["AttachStdin"], config["AttachStdout"], config["AttachStderr"], True, keys)


async def resize_exec(call: Call) -> web.StreamResponse:
    rows, columns = call.number("h"), call.number("w")
    instance = call.state.exec(call.name)
    await execs.resize(call.state, instance, rows, columns)
    return empty_answer(200)


async def inspect_exec(call: Call) -> web.StreamResponse:
    return await json_answer(call.request, describe.exec_document(call.state.exec(call.name)))
