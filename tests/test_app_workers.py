"""`sockproxy serve --workers N` as a whole: one admin listener, one end, and nobody left behind."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

from sockproxy.recording.trail import verify
from tests.streams import until
from tests.test_app import HELD, READ, Program, failed, open_all, start, write_config

WORKERS = ("--config", "{folder}/sockproxy.yaml", "--workers", "2")


def children(program: Program) -> list[int]:
    """The workers."""
    pid = program.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").is_symlink() and os.path.exists(f"/proc/{pid}/exe")


async def test_their_metrics_are_one_and_their_trails_are_whole() -> None:
    async with open_all(*WORKERS) as (program, _):
        for _ in range(20):
            assert await program.ask(READ) == (200, b"[]")
        sample = (
            'sockproxy_decisions_total{effect="allow",operation="ContainerList",policy="own",reason="allowed-by-rule"}'
        )
        assert await program.metric(sample) == 20
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        assert not program.socket.exists()
        trails = [path for path in program.folder.glob("audit.jsonl*") if path.stat().st_size]
        reports = [verify([str(path)]) for path in trails]
        assert all(report.is_whole for report in reports)
        assert sum(report.decided for report in reports) == 20


async def test_who_connects_while_they_drain_is_turned_away_at_once() -> None:
    async with open_all(*WORKERS) as (program, engine):
        busy = await program.connect()
        await busy.send(HELD)
        await engine.is_asked()
        program.signal(signal.SIGTERM)
        await program.event("draining")
        await program.event("draining")
        try:
            late = await program.connect()
            assert await late.receive_all() == b""
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # nobody listens any more
        except ConnectionResetError:
            pass  # the socket was closed while it waited to be accepted
        engine.release.set()
        assert (await busy.receive_until(b"[]")).endswith(b"[]")
        assert await program.ended() == 0


async def test_they_do_not_outlive_their_parent() -> None:
    async with open_all(*WORKERS) as (program, _):
        workers = children(program)
        assert len(workers) == 2
        program.process.kill()
        await program.process.wait()
        await until(lambda: not any(map(is_there, workers)))


async def test_a_worker_that_dies_ends_the_service() -> None:
    async with open_all(*WORKERS) as (program, _):
        os.kill(children(program)[0], signal.SIGKILL)
        assert await program.ended() == 1
        assert "worker-ended" in [event["event"] for event in program.events]


async def test_a_reload_reaches_all_and_comes_never_too_early() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_config(folder, "ContainerList")
        program = await start(folder, *(option.format(folder=folder) for option in WORKERS))
        async with asyncio.timeout(20):
            await program.event("listening")
            program.signal(signal.SIGHUP)
            await program.started()
            write_config(folder, "VolumeList")
            program.signal(signal.SIGHUP)
            await program.event("reloaded")
            await program.event("reloaded")
            assert (await program.ask(READ))[0] == 403
            program.close()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0


async def test_what_a_worker_cannot_do_is_said(tmp_path: Path) -> None:
    write_config(tmp_path, "ContainerList", audit="/nowhere/audit.jsonl")
    code, said = await failed(tmp_path, *(option.format(folder=tmp_path) for option in WORKERS))
    assert code == 1
    assert "there is no folder /nowhere for it" in said
