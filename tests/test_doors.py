"""The admin listener's door: so many at a time, and nobody who stays silent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from sockproxy.operating.admin.application import start_admin
from sockproxy.operating.admin.doors import Door

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def open_door(door: Door) -> AsyncIterator[tuple[str, int]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.add_routes([web.get("/", answer)])
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await start_admin(application, [sock], door)
    async with asyncio.timeout(10):
        yield sock.getsockname()
    await runner.cleanup()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)
    return head.split(b"\r\n")[0]


async def test_so_many_and_not_one_more_until_one_has_gone() -> None:
    async with open_door(Door(connections_max=2)) as place:
        inside = [await asyncio.open_connection(*place) for _ in range(2)]
        for one in inside:
            assert await ask(*one) == b"HTTP/1.1 200 OK"
        reader, writer = await asyncio.open_connection(*place)
        writer.write(ASK)
        assert await ended(reader)
        inside[0][1].close()
        while True:  # until that is noticed
            reader, writer = await asyncio.open_connection(*place)
            writer.write(ASK)
            if not await ended(reader):
                break
        assert await ask(*inside[1]) == b"HTTP/1.1 200 OK"


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return not await reader.read(1)
    except ConnectionError:
        return True


async def test_who_asks_for_nothing_is_sent_away_and_who_has_asked_stays() -> None:
    async with open_door(Door(silent_seconds=0.05)) as place:
        asking = await asyncio.open_connection(*place)
        assert await ask(*asking) == b"HTTP/1.1 200 OK"
        silent = [await asyncio.open_connection(*place) for _ in range(2)]
        silent[0][1].write(ASK[:-1])  # a head that does not end is nothing
        for reader, _ in silent:
            assert await ended(reader)
        assert await ask(*asking) == b"HTTP/1.1 200 OK"


async def test_behind_its_end_nobody_is_let_in() -> None:
    async with open_door(Door()) as place:
        pass
    try:
        reader, _ = await asyncio.open_connection(*place)
    except ConnectionRefusedError:
        return
    assert await ended(reader)
