"""Stream: heads and bytes are read however they are cut, both directions end apart, a gone peer shows."""

import asyncio

import pytest

from sockproxy.forwarding.moving.stream import BUFFER_BYTES_MAX
from tests.streams import open_pairs, read_some, until

HEAD = b"GET / HTTP/1.1\r\nHost: d\r\n\r\n"

HEADS = [
    ("crlf", HEAD, HEAD),
    ("crlf-with-bytes-behind", HEAD + b"body", HEAD),
    ("bare-lf", b"GET / HTTP/1.1\nHost: d\n\nrest", b"GET / HTTP/1.1\nHost: d\n\n"),
    ("mixed-line-ends", b"GET / HTTP/1.1\nHost: d\n\r\nrest", b"GET / HTTP/1.1\nHost: d\n\r\n"),
]


@pytest.mark.parametrize(("sent", "head"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_head_is_read_however_it_is_cut(sent: bytes, head: bytes, size: int) -> None:
    async with open_pairs(1) as [(stream, peer)]:
        reading = asyncio.create_task(stream.read_head(1000))
        for start in range(0, len(sent), size):
            await peer.send(sent[start : start + size])
            await asyncio.sleep(0)
        assert await reading == head
        peer.finish()
        rest = sent[len(head) :]
        got = b""
        while piece := await read_some(stream):
            got += piece
        assert got == rest


async def test_a_head_that_has_arrived_is_taken_at_once() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        assert stream.take_head(1000) is None
        await peer.send(HEAD + b"x")
        await until(lambda: stream.has_bytes)
        assert stream.take_head(1000) == HEAD
        assert await read_some(stream) == b"x"


async def test_a_head_may_be_as_large_as_the_limit_and_no_larger() -> None:
    async with open_pairs(2) as [(stream, peer), (other, other_peer)]:
        await peer.send(HEAD)
        assert await stream.read_head(len(HEAD)) == HEAD
        await other_peer.send(HEAD)
        with pytest.raises(asyncio.LimitOverrunError):
            await other.read_head(len(HEAD) - 1)


async def test_an_endless_head_is_cut_off_at_the_limit() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        sending = asyncio.create_task(peer.send(b"x" * (1 << 20)))
        with pytest.raises(asyncio.LimitOverrunError):
            await stream.read_head(BUFFER_BYTES_MAX)
        sending.cancel()


async def test_the_end_before_a_head_and_within_one() -> None:
    async with open_pairs(2) as [(stream, peer), (other, other_peer)]:
        peer.finish()
        assert await stream.read_head(1000) == b""
        await other_peer.send(b"GET /")
        other_peer.finish()
        with pytest.raises(asyncio.IncompleteReadError):
            await other.read_head(1000)


async def test_expire_ends_a_wait() -> None:
    async with open_pairs(1) as [(stream, _)]:
        reading = asyncio.create_task(stream.read_head(1000))
        await asyncio.sleep(0)
        stream.expire()
        with pytest.raises(TimeoutError):
            await reading


async def test_a_busy_reader_pauses_the_peer_and_loses_nothing() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        sent = bytes(range(256)) * (1 << 13)  # 2 MiB
        sending = asyncio.create_task(peer.send(sent))
        await until(lambda: stream.is_reading_paused)
        assert not sending.done()
        got = b""
        while len(got) < len(sent):
            got += await read_some(stream)
        assert got == sent


async def test_half_close_leaves_the_other_direction_open() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        ended = asyncio.Event()
        stream.on_eof = ended.set
        peer.finish()
        await asyncio.wait_for(ended.wait(), 5)
        stream.write(b"still here")
        stream.write_eof()
        assert await peer.receive_all() == b"still here"


async def test_a_half_closed_peer_that_goes_away_is_noticed() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        ended, lost = asyncio.Event(), asyncio.Event()
        stream.on_eof, stream.on_lost = ended.set, lost.set
        peer.finish()
        await asyncio.wait_for(ended.wait(), 5)
        stream.watch_hangup()
        await asyncio.sleep(0)
        assert not lost.is_set()
        peer.close()
        await asyncio.wait_for(lost.wait(), 5)


async def test_a_sink_gets_what_was_buffered_first() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        await peer.send(b"early")
        await until(lambda: stream.has_bytes)
        got: list[bytes] = []
        ended = asyncio.Event()
        stream.set_sink(got.append, ended.set)
        assert got == [b"early"]
        await peer.send(b"late")
        peer.finish()
        await asyncio.wait_for(ended.wait(), 5)
        assert b"".join(got) == b"earlylate"


async def test_what_was_put_back_is_read_again() -> None:
    async with open_pairs(1) as [(stream, peer)]:
        await peer.send(b"abc")
        data = await read_some(stream)
        stream.put_back(data[1:])
        assert await read_some(stream) == b"bc"


async def test_a_slow_target_stops_the_source() -> None:
    async with open_pairs(2) as [(source, source_peer), (target, target_peer)]:
        source.set_sink(lambda data: target.write_from(source, data), lambda: target.write_eof())
        sent = b"z" * (8 << 20)
        sending = asyncio.create_task(source_peer.send(sent))
        await until(lambda: source.is_reading_paused)
        assert not sending.done()
        receiving = asyncio.create_task(target_peer.receive_all())
        await sending
        source_peer.finish()
        assert await receiving == sent
