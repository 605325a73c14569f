"""Attach and exec start: a client's stream joined to a process, raw or in frames, until one of them ends.

Owns the heads after which the connection is a stream, the frames, and which end of stream ends what. As dockerd 20.10:
`container/stream/attach.go` of its source, and what was seen on its socket. Begin at `join`.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from sockproxy.operating.demo.api.answers import HEADERS, RAW_STREAM
from sockproxy.operating.demo.programs.process import Process, Write

DETACH_KEYS = b"\x10\x11"  # Control-P Control-Q
_NAMED_KEYS = {f"ctrl-{letter}": bytes((number,)) for number, letter in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")}

Read = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client wants of a process. `ends_stdin`: the end of what it sends is the end of the standard input.

    Frames are only for a process without a terminal, and for a client that is no websocket.
    """

    stdin: bool
    stdout: bool
    stderr: bool
    ends_stdin: bool
    detach_keys: bytes = DETACH_KEYS
    has_frames: bool = True


def head(request: web.Request, *, has_engine_headers: bool) -> bytes:
    """101 for whoever sent an Upgrade field, with any value; else 200 and bytes until the end. Both without a length."""
    if "Upgrade" in request.headers:
        lines = ["HTTP/1.1 101 UPGRADED", f"Content-Type: {RAW_STREAM}", "Connection: Upgrade", "Upgrade: tcp"]
    else:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {RAW_STREAM}"]
    if has_engine_headers:
        lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def refused_head(status: int, message: str) -> bytes:
    """An attach is refused after the takeover, as a text without a length."""
    text = message.encode(errors="replace")
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {RAW_STREAM}\r\n\r\n".encode() + text + b"\r\n"
    )


def frame(stream: int, chunk: bytes) -> bytes:
    """One piece of output of a process without a terminal, with its stream and length before it."""
    return struct.pack(">BxxxI", stream, len(chunk)) + chunk


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-a,x`, as clients send it. Raises ValueError."""
    if not text:
        return DETACH_KEYS
    keys = [_NAMED_KEYS.get(key.lower(), key.encode()) for key in text.split(",")]
    if any(len(key) != 1 for key in keys):
        raise ValueError(f"Invalid detach keys ({text}) provided")
    return b"".join(keys)


async def join(read: Read, write: Write, process: Process, wishes: Wishes, replay: bytes = b"") -> bool:
    """Moves bytes both ways until the process ends or the client goes; True if it left by its detach keys.

    `replay` goes out first: no output comes between it and what is written from now on, and none is missed.
    """

    has_frames = wishes.has_frames and process.terminal is None

    async def deliver(stream: int, chunk: bytes) -> None:
        if wishes.stdout if stream == 1 else wishes.stderr:
            await write(frame(stream, chunk) if has_frames else chunk)

    process.sinks.append(deliver)
    feeding = asyncio.create_task(_feed(read, process, wishes) if wishes.stdin else _ignore(read))
    ending = asyncio.create_task(process.wait())
    try:
        if replay:
            await write(replay)
        await asyncio.wait({feeding, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done() and not feeding.result().is_leaving:
            await ending
        return feeding.done() and feeding.result().has_detached
    finally:
        process.drop(deliver)
        for task in (feeding, ending):
            task.cancel()
        await asyncio.wait({feeding, ending})


@dataclass(frozen=True, slots=True)
class Fed:
    """How the client's side ended: it leaves the process alone, or waits for what the process still writes."""

    is_leaving: bool
    has_detached: bool = False


async def _feed(read: Read, process: Process, wishes: Wishes) -> Fed:
    """Gives the process what the client sends, up to its end or its detach keys."""
    held = b""
    while chunk := await read():
        if process.terminal:
            chunk, held, has_detached = split_detach_keys(held + chunk, wishes.detach_keys)
            await process.feed(chunk)
            if has_detached:
                return Fed(is_leaving=True, has_detached=True)
        else:
            await process.feed(chunk)
    # stream/attach.go, CopyStreams: the end of stdin is passed on where the process is to have it, but not to a
    # terminal; otherwise the output is closed, too.
    if wishes.ends_stdin and not process.terminal:
        process.stdin.end()
        return Fed(is_leaving=False)
    return Fed(is_leaving=True)


async def _ignore(read: Read) -> Fed:
    while await read():
        continue
    return Fed(is_leaving=False)


def split_detach_keys(typed: bytes, keys: bytes) -> tuple[bytes, bytes, bool]:
    """What goes to the process, what is held back since it may be the beginning of the keys, and whether they are there."""
    at = typed.find(keys)
    if at >= 0:
        return typed[:at], b"", True
    for length in range(min(len(keys) - 1, len(typed)), 0, -1):
        if keys.startswith(typed[-length:]):
            return typed[:-length], typed[-length:], False
    return typed, b"", False
