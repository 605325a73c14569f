"""Scoop: one buffer for all relays, and nobody finds another's bytes in it."""

import asyncio

from sockproxy.forwarding.moving import scoop
from sockproxy.forwarding.moving.scoop import Scoop
from sockproxy.forwarding.moving.stream import Stream
from tests.streams import open_pairs, read_some, until

SIZE = 4 << 20


def scooping(source: Stream, target: Stream) -> Scoop:
    def take(data: memoryview) -> None:
        assert data.obj is scoop._buffer.obj
        running.send(data)

    running = Scoop(source, target, take)
    return running


async def test_slow_readers_get_their_own_bytes_out_of_the_shared_buffer() -> None:
    async with asyncio.timeout(20), open_pairs(4) as [(a, a_sender), (to_a, a_end), (b, b_sender), (to_b, b_end)]:
        for source, target in ((a, to_a), (b, to_b)):
            assert scooping(source, target).start()
        sending = asyncio.gather(a_sender.send(b"a" * SIZE), b_sender.send(b"b" * SIZE))
        await until(lambda: a.is_reading_paused and b.is_reading_paused)
        assert max(to_a.unsent_bytes, to_b.unsent_bytes) <= scoop.BUFFER_BYTES
        received = await asyncio.gather(a_end.receive(SIZE), b_end.receive(SIZE))
        await sending
        assert received == [b"a" * SIZE, b"b" * SIZE]


async def test_after_a_stop_the_stream_reads_again() -> None:
    async with asyncio.timeout(20), open_pairs(2) as [(source, sender), (target, receiver)]:
        running = scooping(source, target)
        assert running.start()
        await sender.send(b"first")
        assert await receiver.receive(5) == b"first"
        running.stop()
        running.stop()
        await sender.send(b"second")
        assert await read_some(source) == b"second"


async def test_ends_and_losses_reach_the_streams() -> None:
    async with asyncio.timeout(20), open_pairs(2) as [(source, sender), (target, _)]:
        assert scooping(source, target).start()
        sender.finish()
        await until(lambda: source.saw_eof)
        source.write(b"still writable")
        assert await sender.receive(14) == b"still writable"
        source.close()
        await until(lambda: source.is_lost)


async def test_a_target_that_is_closing_gets_nothing_past_its_transport() -> None:
    async with asyncio.timeout(20), open_pairs(2) as [(source, sender), (target, receiver)]:
        running = scooping(source, target)
        assert running.start()
        target.close()
        assert not scooping(source, target).start()
        running.send(b"late")
        await sender.send(b"for the stream")
        assert await read_some(source) == b"for the stream"
        assert await receiver.receive_all() == b""
