"""Recorded sessions: what is in the file, what becomes of a session that cannot be recorded, and what is left alone."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sockproxy.forwarding.moving.cuts import KeptCut, Sight
from sockproxy.judging.policy import Record
from sockproxy.operating.config import load_policy
from sockproxy.operating.known import load_catalogue
from sockproxy.recording.event import completed_event
from sockproxy.recording.terminals import Terminals
from tests.exchanges import answered, decided
from tests.streams import Peer, World, open_world

ATTACH = (
    b"POST /v1.41/containers/web/attach?stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
START = (
    b"POST /v1.41/exec/web/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    b'{"Detach":true}'
)
RESIZE = b"POST /v1.41/containers/web/resize?h=50&w=132 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

POLICY = """
version: 1
policies:
  recorded:
    allow:
      - operations: ["*"]
      - {operations: [ContainerAttach, ExecStart], record: true, record_input: %s}
"""


@asynccontextmanager
async def recording_world(
    folder: Path, *, with_input: bool = False, bytes_max: int = 1 << 20, ends_session: bool = True
) -> AsyncIterator[World]:
    policy = folder / "recorded.yaml"
    policy.write_text(POLICY % str(with_input).lower())
    async with open_world() as world:
        world.gate.policy = load_policy(str(policy), load_catalogue())
        world.proxy.recorder = Terminals(str(folder / "sessions"), bytes_max, ends_session=ends_session)
        yield world


async def tunnel(world: World) -> tuple[Peer, Peer]:
    """Client and engine, with a tunnel between them."""
    client = await world.connect()
    await client.send(ATTACH)
    engine = await world.accept()
    await engine.receive_until(b"\r\n\r\n")
    await engine.send(UPGRADED)
    await client.receive_until(b"\r\n\r\n")
    return client, engine


async def end(world: World, client: Peer, engine: Peer) -> None:
    engine.finish()
    client.finish()
    for ending in world.endings:
        await ending.wait()


def recording(folder: Path) -> tuple[dict[str, Any], list[list[Any]]]:
    """The head and the events of the one file there is."""
    (file,) = (folder / "sessions").iterdir()
    head, *events = map(json.loads, file.read_text().splitlines())
    return head, events


def told(events: list[list[Any]], kind: str) -> str:
    return "".join(text for _, what, text in events if what == kind)


async def test_what_came_out_is_recorded_and_told_of(tmp_path: Path) -> None:
    async with recording_world(tmp_path) as world:
        client, engine = await tunnel(world)
        await engine.send(b"$ \xc3")
        await client.receive(3)
        await engine.send(b"\xa9t\xff\r\n")
        await client.receive(5)
        await client.send(b"secret")
        await engine.receive(6)
        await end(world, client, engine)
    head, events = recording(tmp_path)
    assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
    assert head["title"] == "ContainerAttach web"
    assert told(events, "o") == "$ \u00e9t\ufffd\r\n"
    assert told(events, "i") == ""
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    recorded = completed_event(world.exchanges[-1])["recording"]
    (file,) = (tmp_path / "sessions").iterdir()
    content = file.read_bytes()
    assert recorded == {
        "file": str(file),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "is_cut": False,
    }
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_what_was_typed_is_recorded_where_that_is_asked_for(tmp_path: Path) -> None:
    async with recording_world(tmp_path, with_input=True) as world:
        client, engine = await tunnel(world)
        await client.send(b"ls\n")
        await engine.receive(3)
        await end(world, client, engine)
    assert told(recording(tmp_path)[1], "i") == "ls\n"


async def test_frames_are_no_output(tmp_path: Path) -> None:
    async with recording_world(tmp_path) as world:
        client, engine = await tunnel(world)
        frames = b"\1\0\0\0\0\0\0\2hi\2\0\0\0\0\0\0\1!"
        await engine.send(frames)
        assert await client.receive(len(frames)) == frames
        await end(world, client, engine)
    assert told(recording(tmp_path)[1], "o") == "hi!"


async def test_a_new_size_is_recorded(tmp_path: Path) -> None:
    async with recording_world(tmp_path) as world:
        recorder = world.proxy.recorder
        client, engine = await tunnel(world)
        resizing = await world.connect()
        await resizing.send(RESIZE)
        engine_of_resize = await world.accept()
        await engine_of_resize.receive_until(b"\r\n\r\n")
        await engine_of_resize.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await resizing.receive_until(b"\r\n\r\n")
        assert isinstance(recorder, Terminals)
        recorder.completed(world.exchanges[-1])  # as the observers do
        resizing.finish()
        await end(world, client, engine)
    assert told(recording(tmp_path)[1], "r") == "132x50"


@pytest.mark.parametrize("target", ["?h=0&w=5", "?h=x&w=5", "?w=5", "?h=1&w=99999", ""])
def test_what_is_no_size_is_left_out(tmp_path: Path, target: str) -> None:
    terminals = Terminals(str(tmp_path), 1 << 20, ends_session=True)
    attached = decided(("POST", "/containers/web/attach"))
    terminals.begin(attached, Record.OUTPUT)
    resized = answered(decided(("POST", "/containers/web/resize"), id="a-2"))
    resized.target += target
    terminals.completed(resized)
    attached.is_tunnel = True
    terminals.end(attached, terminals._open["web"][0])
    assert len((tmp_path / "a-1.cast").read_text().splitlines()) == 1


async def test_what_becomes_no_session_leaves_nothing(tmp_path: Path) -> None:
    async with recording_world(tmp_path) as world:
        client = await world.connect()
        await client.send(START)
        engine = await world.accept()
        await engine.receive_until(b"true}")
        await engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await client.receive_until(b"\r\n\r\n")
        await end(world, client, engine)
        assert "recording" not in completed_event(world.exchanges[-1])
    assert list((tmp_path / "sessions").iterdir()) == []


async def test_a_session_that_cannot_be_recorded_does_not_begin(tmp_path: Path) -> None:
    async with recording_world(tmp_path) as world:
        (tmp_path / "sessions").rmdir()
        client = await world.connect()
        await client.send(ATTACH)
        answer = await client.receive_until(b"\n")
        assert answer.startswith(b"HTTP/1.1 503")
        assert not world.engine_was_called()


@pytest.mark.parametrize("ends_session", [True, False])
async def test_a_session_that_outgrows_its_recording(tmp_path: Path, ends_session: bool) -> None:
    async with recording_world(tmp_path, bytes_max=400, ends_session=ends_session) as world:
        client, engine = await tunnel(world)
        await engine.send(b"a" * 100)
        await client.receive(100)
        await engine.send(b"b" * 300)
        if ends_session:
            assert await client.receive_all() == b""
            assert await engine.receive_all() == b""
            await world.endings[0].wait()
        else:
            assert await client.receive(300) == b"b" * 300
            await end(world, client, engine)
        recorded = completed_event(world.exchanges[-1])["recording"]
    _, events = recording(tmp_path)
    assert (told(events, "o"), told(events, "m") != "") == ("a" * 100, True)
    assert isinstance(recorded, dict)
    assert recorded["is_cut"] is True


async def test_a_full_disk_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with recording_world(tmp_path) as world:
        client, engine = await tunnel(world)
        monkeypatch.setattr("sockproxy.recording.terminals.os.write", _no_room)
        await engine.send(b"unseen")
        assert await client.receive_all() == b""
        monkeypatch.undo()
        await world.endings[0].wait()
        assert world.exchanges[-1].detail == "the session could not be recorded any more"


def _no_room(descriptor: int, data: bytes) -> int:
    raise OSError(28, "No space left on device")


def test_a_copy_is_kept_before_the_bytes_go_on() -> None:
    kept: list[bytes] = []
    cut = KeptCut(lambda data: bool(kept.append(data)) or data != b"no")
    assert (cut.cut(b"yes"), cut.cut(memoryview(b"no"))) == ((b"yes", 3), (b"", 2))
    assert (kept, cut.count, cut.sight) == ([b"yes", b"no"], 5, Sight.KEEPING)


async def test_other_tunnels_are_not_looked_at(tmp_path: Path) -> None:
    async with open_world() as world:
        world.proxy.recorder = Terminals(str(tmp_path / "sessions"), 1 << 20, ends_session=True)
        client, engine = await tunnel(world)
        await engine.send(b"unseen")
        await client.receive(6)
        await end(world, client, engine)
    assert list((tmp_path / "sessions").iterdir()) == []
