"""What a running program tells its page, by one process and by several: it looks only while it is watched, and ends in time."""

import json
import signal
from typing import Any

import aiohttp
import pytest

from tests.test_app import READ, VOLUMES, open_all
from tests.test_app_workers import WORKERS

KINDS = {"one-process": ("--config", "{folder}/sockproxy.yaml"), "two-workers": WORKERS}
PAUSE = b"POST /v1.41/containers/web/pause HTTP/1.1\r\nHost: d\r\n\r\n"


class Watching:
    """One who watches: all that was told so far."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.operations: set[str] = set()
        self.now: dict[str, Any] = {}

    async def listen(self) -> None:
        """Takes the next event."""
        name = ""
        while line := (await self._answer.content.readline()).decode().rstrip("\n"):
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                self.now[name] = json.loads(value)
        if name == "flow":
            self.operations |= {row["operation"] for row in self.now["flow"]["rows"]}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
async def test_what_is_told_to_one_who_watches(options: tuple[str, ...]) -> None:
    async with open_all(*options) as (program, _), aiohttp.ClientSession() as session:
        await program.ask(PAUSE)  # before anybody watches
        async with session.get(f"{program.admin}/live") as answer:
            watching = Watching(answer)
            while "denials" not in watching.now:
                await watching.listen()
            (denial,) = watching.now["denials"]
            assert (denial["operation"], denial["times"]) == ("ContainerPause", 1)
            assert denial["remedy"]["yaml"].endswith("- operations: [ContainerPause]\n")
            for request in (READ, READ, READ, VOLUMES, PAUSE):
                await program.ask(request)
            while not {"ContainerList", "VolumeList", "ContainerPause"} <= watching.operations:
                await watching.listen()
            while watching.now["numbers"]["whole"]["total"] < 6:
                await watching.listen()
            assert all(trail["is_whole"] in (True, None) for trail in watching.now["trails"])
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0  # in time, though somebody watches


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
async def test_policies_are_those_in_force(options: tuple[str, ...]) -> None:
    async with open_all(*options) as (program, _):
        status, text = await program.get("/policies?api=1.41")
        told = json.loads(text)
        assert (status, told["api_version"], [one["name"] for one in told["policies"]]) == (200, "1.41", ["own"])
        effects = {one["operation"]: one["effects"] for one in told["operations"]}
        assert (effects["ContainerList"], effects["ContainerPause"]) == (["allow"], ["deny"])
        config = program.folder / "sockproxy.yaml"
        config.write_text(config.read_text().replace("ContainerList", "ContainerPause"))
        program.signal(signal.SIGHUP)
        for _ in range(1 + (options is WORKERS)):
            await program.event("reloaded")
        told = json.loads((await program.get("/policies?api=1.41"))[1])
        effects = {one["operation"]: one["effects"] for one in told["operations"]}
        assert (effects["ContainerList"], effects["ContainerPause"]) == (["deny"], ["allow"])
