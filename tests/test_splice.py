"""Splice: the kernel moves the bytes, and nothing is left open, lost or out of order, whenever it stops."""

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sockproxy.exchange import Stage
from sockproxy.forwarding.moving import relay as relay_module
from sockproxy.forwarding.moving import splice
from sockproxy.forwarding.moving.cuts import ConnectionCut, LengthCut
from sockproxy.forwarding.moving.splice import Splice, pipes
from sockproxy.forwarding.moving.stream import Stream
from tests.streams import Peer, open_pairs, open_world, read_some, until

pytestmark = pytest.mark.skipif(not splice.IS_AVAILABLE, reason="needs Linux")

SIZE = 8 << 20


def descriptors() -> int:
    pipes.close()
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def spliced(passing: splice.Passing) -> AsyncIterator[tuple[Splice, Stream, Peer, Stream, Peer, list[str]]]:
    """A splice that runs; what `on_end` said."""
    async with asyncio.timeout(20), open_pairs(2) as [(source, sender), (target, receiver)]:
        before = descriptors()
        ended: list[str] = []
        running = Splice(source, target, passing, lambda: ended.append("end"))
        assert running.start()
        yield running, source, sender, target, receiver, ended
        running.stop()
        assert Splice.count == 0
        closed = sum(stream.is_lost for stream in (source, target)) + sum(
            p.sock.fileno() < 0 for p in (sender, receiver)
        )
        assert descriptors() == before - closed


async def test_moves_so_many_bytes_and_leaves_what_is_behind_them() -> None:
    passing = LengthCut(SIZE)
    async with spliced(passing) as (_, source, sender, _, receiver, ended):
        receiving = asyncio.create_task(receiver.receive(SIZE))
        await sender.send(b"x" * SIZE + b"behind")
        assert await receiving == b"x" * SIZE
        await until(lambda: ended)
        assert (ended, passing.count, passing.is_done, Splice.count) == (["end"], SIZE, True, 0)
        assert await read_some(source) == b"behind"


async def test_what_the_target_has_not_sent_yet_goes_first() -> None:
    async with spliced(ConnectionCut()) as (_, _, sender, target, receiver, _):
        for round in range(20):
            before = b"%02d" % round * 300_000
            target.write(before)
            await sender.send(b"z" * 50_000)
            assert await receiver.receive(len(before) + 50_000) == before + b"z" * 50_000


async def test_the_end_is_the_streams_to_find() -> None:
    async with spliced(ConnectionCut()) as (_, source, sender, _, receiver, ended):
        await sender.send(b"last")
        sender.finish()
        await until(lambda: source.saw_eof)
        assert await receiver.receive(4) == b"last"
        assert (ended, Splice.count) == ([], 0)


ENDINGS: dict[str, Callable[[Splice, Stream, Stream], None]] = {
    "stopped": lambda running, source, target: running.stop(),
    "source-closed": lambda running, source, target: source.close(),
    "target-closed": lambda running, source, target: target.close(),
    "source-aborted": lambda running, source, target: source.abort(),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
async def test_what_was_on_its_way_arrives_when_it_stops(end: Callable[[Splice, Stream, Stream], None]) -> None:
    passing = ConnectionCut()
    async with spliced(passing) as (running, source, sender, target, receiver, _):
        sending = asyncio.create_task(sender.send(b"x" * SIZE))
        await until(lambda: source.is_reading_paused)
        sending.cancel()
        held = passing.count
        assert held < 2 << 20
        end(running, source, target)
        assert (Splice.count, passing.count) == (0, held)
        receiving = asyncio.create_task(receiver.receive(held))
        assert await receiving == b"x" * held
        await until(lambda: not (source.is_closing or target.is_closing) or source.is_lost or target.is_lost)


async def test_a_target_that_is_gone_takes_nothing_along() -> None:
    async with spliced(ConnectionCut()) as (_, source, sender, target, receiver, _):
        sending = asyncio.create_task(sender.send(b"x" * SIZE))
        await until(lambda: source.is_reading_paused)
        receiver.close()
        source.set_sink(lambda data: None, lambda: None)
        await sending
        await until(lambda: target.is_lost)
        assert isinstance(target.error, ConnectionError)


async def test_there_are_never_more_pipes_and_descriptors_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors()
    monkeypatch.setattr(splice, "PIPES_MAX", 1)
    monkeypatch.setattr(splice, "SPLICES_MAX", 2)
    async with asyncio.timeout(20), open_pairs(6) as pairs:
        (slow, slow_sender), (slow_target, _), (source, sender), (target, receiver), (third, _), (fourth, _) = pairs
        held_up = Splice(slow, slow_target, ConnectionCut(), lambda: None)
        other = Splice(source, target, ConnectionCut(), lambda: None)
        assert held_up.start()
        assert other.start()
        assert not Splice(third, fourth, ConnectionCut(), lambda: None).start()
        sending = asyncio.create_task(slow_sender.send(b"x" * SIZE))
        await until(lambda: slow.is_reading_paused)
        source.set_sink(lambda data: target.write_from(source, data), lambda: None)
        await sender.send(b"no pipe for this")
        assert await receiver.receive(16) == b"no pipe for this"
        assert Splice.count == 1
        sending.cancel()
        held_up.stop()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
async def test_where_the_kernel_does_not_splice_the_streams_go_on(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, "not here")

    async with spliced(ConnectionCut()) as (_, source, sender, _, _, _):
        monkeypatch.setattr(os, "splice", refuse)
        await sender.send(b"all the same")
        assert await read_some(source) == b"all the same"
        assert Splice.count == 0


async def test_a_closing_connection_is_not_spliced() -> None:
    async with open_pairs(2) as [(source, _), (target, _)]:
        before = descriptors()
        target.close()
        assert not Splice(source, target, ConnectionCut(), lambda: None).start()
        assert (Splice.count, descriptors()) == (0, before)


# --- in the story of a connection

GET = b"GET /v1.41/containers/a/export HTTP/1.1\r\nHost: d\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


async def test_both_connections_carry_another_request_behind_a_spliced_body() -> None:
    async with asyncio.timeout(20), open_world() as world:
        client = await world.connect()
        engine = None
        for _ in range(3):
            await client.send(GET)
            engine = engine or await world.accept()
            await engine.receive_until(b"\r\n\r\n")
            sending = asyncio.create_task(engine.send(HEAD + b"x" * SIZE))
            got = b""
            while len(got) < len(HEAD) + SIZE:
                got += await client.receive(min(1 << 16, len(HEAD) + SIZE - len(got)))
                assert Splice.count or not 3 << 20 < len(got) < 6 << 20
            assert got == HEAD + b"x" * SIZE
            await sending
        assert not world.engine_was_called()


@pytest.mark.parametrize("has_finished", [False, True], ids=["at-once", "after-half-close"])
async def test_a_client_that_hangs_up_within_a_spliced_body_is_noticed(has_finished: bool) -> None:
    async with asyncio.timeout(20), open_world() as world:
        client = await world.connect()
        await client.send(GET)
        engine = await world.accept()
        await engine.receive_until(b"\r\n\r\n")
        sending = asyncio.create_task(engine.send(HEAD + b"x" * SIZE))
        await client.receive(len(HEAD) + (3 << 20))
        assert Splice.count == 1
        if has_finished:
            client.finish()
            assert await engine.receive_all() == b""
        client.close()
        with pytest.raises(OSError):
            await sending
        await until(lambda: world.exchanges)
        assert world.exchanges[0].stage is Stage.FAILED
        assert Splice.count == 0


async def test_a_spliced_upload_that_stands_still_is_ended_and_a_slow_engine_is_not_its_fault() -> None:
    post = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % SIZE
    async with asyncio.timeout(20), open_world(body_idle_seconds=0.2) as world:
        client = await world.connect()
        sending = asyncio.create_task(client.send(post + b"x" * (SIZE - 1)))
        engine = await world.accept()
        head = await engine.receive_until(b"\r\n\r\n")
        assert b"Content-Length" in head
        await engine.receive(3 << 20)
        assert Splice.count == 1
        ended = asyncio.Event()
        world.proxy.deadlines.start(0.5, ended.set)  # the engine's time, not the client's
        await ended.wait()
        assert not world.limits_hit
        await engine.receive(SIZE - 1 - (3 << 20))
        await sending
        await until(lambda: world.limits_hit)
        assert world.limits_hit == ["body_idle_seconds"]
        assert (await client.receive(12)) == b"HTTP/1.1 408"
        assert Splice.count == 0


async def test_a_cancelled_connection_leaves_no_descriptor_whenever_that_is() -> None:
    counts, before = set(), 0
    for turns in range(0, 200, 10):
        async with asyncio.timeout(20), open_world() as world:
            client = await world.connect()
            await client.send(GET)
            engine = await world.accept()
            await engine.receive_until(b"\r\n\r\n")
            sending = asyncio.create_task(engine.send(HEAD + b"x" * SIZE))
            reading = asyncio.create_task(client.receive(SIZE))
            for _ in range(turns):
                await asyncio.sleep(0)
            counts.add(Splice.count)
            world.connections.drain()
            await world.connections.finished(0.001)  # and then it is cut off
            reading.cancel()
            sending.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)
            client.close()
            engine.close()
            await until(
                lambda most=before or sys.maxsize: Splice.count == 0 and descriptors() <= most
            )  # else time runs out
            before = before or descriptors()
    assert counts == {0, 1}


def test_the_threshold_is_what_a_pipe_holds() -> None:
    assert relay_module.BULK_BYTES >= splice.PIPE_BYTES
