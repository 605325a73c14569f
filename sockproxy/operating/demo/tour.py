"""The demo: the embedded engine with a proxy before it, to play with or as a guided tour that ends by itself.

Owns the steps of the tour. Must not know how engine and proxy work: it uses them as any client does.
Begin at `run_demo` and `run_tour`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from sockproxy.forwarding.downstream.binding import remove_socket_files
from sockproxy.operating.app import bind_all, files_of, run_until_done, running, stop_signal
from sockproxy.operating.config import config_from_options
from sockproxy.operating.demo.api.answers import API_VERSION
from sockproxy.operating.demo.engine import start_demo_engine
from sockproxy.operating.greeting import greeting, metrics_url
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.service import Service
from sockproxy.recording.trail import verify

Say = Callable[[str], None]

_POLICY = "kubernetes-1.4"
_ATTACH = "POST /v1.41/containers/{id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n"
_UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class Place(NamedTuple):
    """A running demo."""

    socket: str
    audit_file: str
    service: Service


@asynccontextmanager
async def _demo() -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory(prefix="sockproxy-demo-") as folder:
        engine = await start_demo_engine(f"{folder}/engine.sock")
        config = config_from_options(
            load_catalogue(),
            listen=[f"unix://{folder}/docker.sock"],
            engine=f"unix://{folder}/engine.sock",
            policy=_POLICY,
            admin="tcp://127.0.0.1:0",
            audit=[f"{folder}/audit.jsonl"],
        )
        sockets = bind_all(config)
        files = files_of(sockets)
        try:
            async with running(config, sockets) as service:
                yield Place(f"{folder}/docker.sock", f"{folder}/audit.jsonl", service)
        finally:
            remove_socket_files(files)
            await engine.stop()


def run_demo(say: Say = print, command: str = "sockproxy") -> int:
    """Serves the embedded engine through a proxy until Ctrl-C; the exit code."""

    async def serve() -> int:
        stop = stop_signal()
        async with _demo() as place:
            url = metrics_url(place.service.admin)
            say(greeting(place.service.config, url, api_version=".".join(map(str, API_VERSION)), command=command))
            await stop.wait()
        return 0

    return run_until_done(serve())


def run_tour(say: Say = print) -> int:
    """Shows what the proxy does, step by step; 0 if every step showed what it should, else 1."""
    return run_until_done(_tour(say))


async def _tour(say: Say) -> int:
    async with _demo() as place:
        connector = aiohttp.UnixConnector(place.socket)
        async with aiohttp.ClientSession("http://docker", connector=connector) as client:
            say(f"A proxy with policy {_POLICY} stands before an embedded engine, at {place.socket}")
            for number, (title, step) in enumerate(STEPS, 1):
                say(f"\n{number}. {title}")
                if not await step(place, client, lambda line: say(f"   {line}")):
                    say("   This is not what should have happened.")
                    return 1
    say("\nThe tour is over. `sockproxy demo` without --tour leaves it running for your own clients.")
    return 0


Step = Callable[[Place, aiohttp.ClientSession, Say], Awaitable[bool]]


async def _allowed(place: Place, client: aiohttp.ClientSession, say: Say) -> bool:
    async with client.get("/v1.41/containers/json") as answer:
        say(f"GET /v1.41/containers/json -> {answer.status}")
        for container in await answer.json():
            say(f"  {container['Names'][0].lstrip('/'):12} {container['Image']:18} {container['Status']}")
        return answer.status == 200


async def _denied(place: Place, client: aiohttp.ClientSession, say: Say) -> bool:
    async with client.post("/v1.41/containers/web/pause") as answer:
        say(f"POST /v1.41/containers/web/pause -> {answer.status}")
        say(f"  {(await answer.json())['message']}")
        say(f"  request id {answer.headers['Sockproxy-Request-Id']}, which is the audit event's id")
        return answer.status == 403


async def _resized(place: Place, client: aiohttp.ClientSession, say: Say) -> bool:
    body = {"Image": "busybox:latest", "Cmd": ["sh"], "Tty": True, "OpenStdin": True, "AttachStdin": True}
    async with client.post("/v1.41/containers/create", json=body) as answer:
        container = (await answer.json())["Id"]
    async with client.post(f"/v1.41/containers/{container}/start"):
        say(f"attach to container {container[:12]}: the connection is taken over for as long as the terminal lives")
    reader, writer = await asyncio.open_unix_connection(place.socket)
    try:
        writer.write((_ATTACH.format(id=container) + _UPGRADE).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        say(f"  {head.decode().splitlines()[0]}")
        async with client.post(f"/v1.41/containers/{container}/resize?h=40&w=132") as answer:
            say(f"POST .../resize?h=40&w=132 on another connection, meanwhile -> {answer.status}")
            is_resized = answer.status == 200
        writer.write(b"stty size\r")
        seen = await asyncio.wait_for(reader.readuntil(b"40 132"), 5)
        say(f"  the program in the terminal says: {seen.decode().split()[-2]} {seen.decode().split()[-1]}")
        return is_resized
    finally:
        writer.close()


async def _verified(place: Place, client: aiohttp.ClientSession, say: Say) -> bool:
    place.service.trail.flush()
    report = verify([place.audit_file])
    say(
        f"{report.lines} lines in {place.audit_file}: the chain of hashes is {'whole' if report.is_whole else 'broken'}"
    )
    return report.is_whole


async def _measured(place: Place, client: aiohttp.ClientSession, say: Say) -> bool:
    url = metrics_url(place.service.admin)
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        lines = [line for line in (await answer.text()).splitlines() if line.startswith("sockproxy_decisions_total{")]
    say(url)
    for line in lines:
        say(f"  {line}")
    return bool(lines)


STEPS: tuple[tuple[str, Step], ...] = (
    ("What the policy allows goes through", _allowed),
    ("What it does not is answered by the proxy, and says why", _denied),
    ("A terminal is resized while a client is attached to it", _resized),
    ("Every request is in the audit trail, which shows if it was changed", _verified),
    ("And in the metrics, by operation", _measured),
)
