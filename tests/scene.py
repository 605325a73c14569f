"""A proxy in use, for the page to show: two workers before the demo engine, clients of several kinds, streams that stay open.

Owns the configuration and who asks for what. Begin at `scene`.
"""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.demo import UPGRADE, Bench, Dialogue, demo_engine, request
from tests.test_app import Program, start

TOKEN = "a-token-that-only-this-test-has"
HOSTILE = '<img src=x onerror="document.title=`owned`"><script>document.title=`owned`</script>'
BACKWARDS = "\u202ebew"  # a name with a character that turns what follows around

CONFIG = """\
version: 1
engine: unix://{folder}/engine.sock
admin: tcp://127.0.0.1:0
admin_token_file: token
listeners:
  - {{address: "unix://{folder}/d.sock", name: build, policy: builders}}
  - {{address: "unix://{folder}/dashboards.sock", name: dashboards, policy: readonly}}
audit:
  - {{file: {folder}/audit.jsonl}}
policies:
  builders:
    extends: [readonly]
    allow:
      - operations: [ContainerStart, ContainerStop, ContainerRestart, ContainerWait, ContainerDelete, ContainerAttach, "@Exec"]
      - operations: [ImageTag, VolumeCreate, VolumeDelete, NetworkCreate, NetworkDelete]
      - operations: [ContainerCreate]
        require: {{pod_security: baseline, bind_sources: [/srv/**], images: ["busybox:*", "nginx:*"]}}
    deny:
      - {{operations: ["@Swarm", "@Node"], reason: no swarm on build hosts}}
"""

PRIVILEGED = {"Image": "busybox:latest", "HostConfig": {"Privileged": True}}

READS = (
    ("/v1.41/containers/json", 8),
    ("/v1.41/containers/web/json", 6),
    ("/v1.41/containers/db/json", 5),
    ("/v1.41/images/json", 3),
    ("/v1.41/info", 2),
    ("/v1.41/version", 1),
    ("/v1.41/networks", 2),
    ("/v1.41/volumes", 1),
)
RARE = (
    ("d", "POST", "/v1.41/containers/db/restart?t=0", None),
    ("d", "POST", "/v1.41/containers/web/pause", None),
    ("d", "POST", "/v1.41/containers/create?name=root", PRIVILEGED),
    ("d", "POST", "/v1.41/swarm/init", {}),
    ("d", "POST", "/v1.41/volumes/create", {"Name": "cache"}),
    ("d", "DELETE", "/v1.41/volumes/cache", None),
    ("d", "POST", f"/v1.41/containers/{quote(HOSTILE, safe='')}/pause", None),
    ("d", "POST", f"/v1.41/containers/{quote(HOSTILE, safe='')}/stop", None),
    ("d", "POST", f"/v1.41/containers/{quote(BACKWARDS)}/kill", None),
    ("dashboards", "POST", "/v1.41/containers/web/stop", None),
    ("dashboards", "DELETE", "/v1.41/images/redis:7-alpine", None),
    ("d", "GET", "/v1.41/nothing/of/the/kind", None),
)


class Scene(NamedTuple):
    program: Program
    engine: Bench
    folder: Path

    @property
    def url(self) -> str:
        return self.program.admin


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Runs until it is left; all that clients ask for goes on meanwhile."""
    with tempfile.TemporaryDirectory(prefix="sockproxy-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "sockproxy.yaml").write_text(CONFIG.format(folder=folder))
        (folder / "token").write_text(TOKEN)
        async with demo_engine(folder) as engine:
            program = await start(folder, "--config", f"{folder}/sockproxy.yaml", "--workers", "2")
            try:
                await program.started()
                reading = asyncio.create_task(program.ended())  # its log, which nobody would read otherwise
                yield Scene(program, engine, folder)
            finally:
                reading.cancel()
                program.close()
                program.process.kill()
                await program.process.wait()


@asynccontextmanager
async def clients(scene: Scene) -> AsyncIterator[None]:
    """Everybody who asks, and streams that stay open."""
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as asking:
        for work in (_read(scene, "d", is_over), _read(scene, "dashboards", is_over), _ask_rarely(scene, is_over)):
            asking.create_task(work)
        streams = [await connect(scene, "d") for _ in range(3)]
        try:
            await streams[0].say(request("GET", "/v1.41/events"))
            await streams[1].say(request("GET", "/v1.41/containers/web/logs?follow=1&stdout=1"))
            attach = "/v1.41/containers/console/attach?stream=1&stdin=1&stdout=1"
            await streams[2].say(request("POST", attach, fields=UPGRADE))
            for stream in streams:
                await stream.hear_head()
            yield
        finally:
            is_over.set()
            for stream in streams:
                stream.close()


async def connect(scene: Scene, listener: str) -> Dialogue:
    return Dialogue(*await asyncio.open_unix_connection(f"{scene.folder}/{listener}.sock"))


async def _read(scene: Scene, listener: str, is_over: asyncio.Event) -> None:
    chosen = random.Random(7)
    targets, weights = zip(*READS, strict=True)
    client = await connect(scene, listener)
    while not is_over.is_set():
        await client.say(request("GET", chosen.choices(targets, weights)[0]))
        await client.hear_answer()
        await asyncio.sleep(0.004 * chosen.random())  # a pace, not a wait for anything
    client.close()


async def _ask_rarely(scene: Scene, is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        for listener, method, target, body in RARE:
            client = await connect(scene, listener)
            await client.say(request(method, target, body))
            await client.hear_answer()
            client.close()
            await asyncio.sleep(0.15)  # another pace
