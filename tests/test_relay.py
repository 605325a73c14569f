"""Relay: bodies are cut out of a connection's bytes wherever these are cut, and go on in the right framing.

Dialogues over socket pairs: the source's far end sends, the target's far end receives.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import BadRequest, BadRequestReason, PeerGone
from sockproxy.forwarding.relay import ConnectionCut, Cut, DiscardingCut, Relay, request_cut, response_cut
from sockproxy.forwarding.stream import Stream
from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind
from tests.streams import Peer, open_pairs, until


def length(size: int) -> Framing:
    return Framing(FramingKind.LENGTH, size)


def to_client(framing: Framing) -> Cut:
    return response_cut(framing, knows_chunks=True)


def to_old_client(framing: Framing) -> Cut:
    return response_cut(framing, knows_chunks=False)


class Body(NamedTuple):
    """A body as it comes, as it goes on (a client's chunks may be cut otherwise), and how much of it is payload."""

    make_cut: Callable[[Framing], Cut]
    framing: Framing
    sent: bytes
    expected: bytes
    count: int


CHUNKED = b"3\r\nabc\r\n0010\r\n0123456789abcdef\r\n0\r\n\r\n"
WITH_TRAILERS = b"1\r\nz\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
BODIES = {
    "length-up": Body(request_cut, length(5), b"hello", b"hello", 5),
    "length-down": Body(to_client, length(5), b"hello", b"hello", 5),
    "none-up": Body(request_cut, http1.NO_BODY, b"", b"", 0),
    "none-down": Body(to_client, Framing(FramingKind.NONE, 99), b"", b"", 0),
    "length-0": Body(request_cut, length(0), b"", b"", 0),
    "chunked-down-as-it-came": Body(to_client, http1.CHUNKED, CHUNKED, CHUNKED, 19),
    "trailers-down-as-they-came": Body(to_client, http1.CHUNKED, WITH_TRAILERS, WITH_TRAILERS, 1),
    "chunked-down-for-1.0": Body(to_old_client, http1.CHUNKED, CHUNKED, b"abc0123456789abcdef", 19),
    "trailers-down-for-1.0": Body(to_old_client, http1.CHUNKED, WITH_TRAILERS, b"z", 1),
    "chunked-up": Body(request_cut, http1.CHUNKED, CHUNKED, b"13\r\nabc0123456789abcdef\r\n0\r\n\r\n", 19),
    "trailers-up": Body(request_cut, http1.CHUNKED, WITH_TRAILERS, WITH_TRAILERS, 1),
    "empty-chunked-up": Body(request_cut, http1.CHUNKED, b"000\r\n\r\n", b"0\r\n\r\n", 0),
}
BEHIND = b"GET / HTTP/1.1\r\n"


@asynccontextmanager
async def open_relay(cut: Cut) -> AsyncIterator[tuple[Relay, Peer, Peer]]:
    """A relay that runs, the peer that sends and the one that receives."""
    async with asyncio.timeout(10), open_pairs(2) as [(source, sender), (target, receiver)]:
        relay = Relay("downstream", source, target, cut)
        relay.start()
        yield relay, sender, receiver


# --- cuts


def in_pieces(cut: Cut, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What goes on for these pieces, and what was left over."""
    out, rest = b"", b""
    for piece in pieces:
        if cut.is_done:
            rest += piece
            continue
        some, consumed = cut.cut(piece)
        out += bytes(some)
        rest += piece[consumed:]
    return out, rest


def split(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if start < end]


def payload_of(chunked: bytes) -> tuple[bytes, tuple[http1.Field, ...]]:
    body = http1.ChunkedBody()
    payload = b"".join(map(bytes, body.feed(chunked)))
    assert body.done
    assert body.consumed == len(chunked)
    return payload, body.trailers


@settings(max_examples=200)
@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_where_the_bytes_are_cut_changes_nothing(name: str, places: list[int], has_more: bool) -> None:
    body = BODIES[name]
    cut = body.make_cut(body.framing)
    more = BEHIND if has_more else b""
    out, rest = in_pieces(cut, split(body.sent + more, places))
    if name.endswith("chunked-up") and body.expected:  # one chunk for each piece: the same body, chunked otherwise
        assert payload_of(out) == payload_of(body.expected)
    else:
        assert out == body.expected
    assert rest == more
    assert cut.is_done
    assert not cut.ends_with_connection
    assert cut.count == body.count


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("size", [1, 1000], ids=["byte-by-byte", "whole"])
async def test_a_body_goes_on_and_what_is_behind_stays(body: Body, size: int) -> None:
    async with open_relay(body.make_cut(body.framing)) as (relay, sender, receiver):
        data = body.sent + BEHIND
        for start in range(0, len(data), size):
            await sender.send(data[start : start + size])
            await asyncio.sleep(0)
        await relay.wait()
        assert relay.is_whole
        assert relay.count == body.count
        assert await rest_of(relay.source) == BEHIND
        relay.target.close()  # type: ignore[union-attr]
        out = await receiver.receive_all()
        if body.framing is http1.CHUNKED and body.make_cut is request_cut:
            assert payload_of(out) == payload_of(body.expected)
        else:
            assert out == body.expected


async def test_a_chunked_upload_goes_on_in_one_chunk_for_each_read() -> None:
    async with open_relay(request_cut(http1.CHUNKED)) as (_, sender, receiver):
        for sent, expected in (
            (b"2\r\nab\r\n", b"2\r\nab\r\n"),
            (b"1\r\nc\r\n2\r\nde\r\n", b"3\r\ncde\r\n"),
            (b"0\r\n", b""),
        ):
            await sender.send(sent)
            assert await receiver.receive(len(expected)) == expected
        await sender.send(b"\r\n")
        assert await receiver.receive(5) == b"0\r\n\r\n"


async def test_until_the_connection_ends() -> None:
    async with open_relay(ConnectionCut()) as (relay, sender, receiver):
        await sender.send(b"some ")
        assert await receiver.receive(5) == b"some "
        assert not relay.is_whole
        await sender.send(b"more")
        sender.finish()
        await relay.wait()
        assert await receiver.receive(4) == b"more"
        assert relay.is_whole
        assert relay.count == 9


# --- endings

BROKEN = {
    "chunk-size": (b"1\r\na\r\n-1\r\n", BadRequestReason.CHUNK),
    "chunk-extension": (b"1;a=b\r\na\r\n0\r\n\r\n", BadRequestReason.CHUNK),
    "no-crlf-behind-a-chunk": (b"1\r\nab\r\n0\r\n\r\n", BadRequestReason.CHUNK),
    "framing-in-trailers": (b"0\r\nContent-Length: 1\r\n\r\n", BadRequestReason.TRAILER),
}


@pytest.mark.parametrize(("sent", "reason"), BROKEN.values(), ids=BROKEN)
async def test_broken_framing_is_told_to_whoever_waits(sent: bytes, reason: BadRequestReason) -> None:
    async with open_relay(request_cut(http1.CHUNKED)) as (relay, sender, _):
        await sender.send(sent)
        with pytest.raises(BadRequest) as raised:
            await relay.wait()
        assert raised.value.reason is reason
        assert relay.is_done
        assert not relay.is_whole


@pytest.mark.parametrize("framing", [length(9), http1.CHUNKED], ids=["length", "chunked"])
async def test_an_end_within_a_body_is_no_proper_end(framing: Framing) -> None:
    async with open_relay(request_cut(framing)) as (relay, sender, _):
        await sender.send(b"5\r\nhell")
        sender.finish()
        with pytest.raises(PeerGone) as raised:
            await relay.wait()
        assert raised.value.side == "downstream"
        assert not relay.is_whole


async def test_an_end_that_came_before_the_relay_is_seen() -> None:
    async with asyncio.timeout(10), open_pairs(1) as [(source, sender)]:
        await sender.send(b"hel")
        sender.finish()
        await until(lambda: source.saw_eof)
        relay = Relay("upstream", source, None, request_cut(length(5)))
        relay.start()
        with pytest.raises(PeerGone):
            await relay.wait()
        assert relay.count == 3


async def test_stop_leaves_what_comes_with_the_source() -> None:
    async with open_relay(request_cut(length(9))) as (relay, sender, receiver):
        await sender.send(b"abc")
        assert await receiver.receive(3) == b"abc"
        relay.stop()
        await sender.send(b"def")
        assert await relay.source.read_some() == b"def"
        await relay.wait()
        assert not relay.is_whole


async def test_stop_with_an_error_is_told_to_whoever_waits() -> None:
    async with open_relay(request_cut(length(9))) as (relay, _, _):
        waiting = asyncio.create_task(relay.wait())
        await asyncio.sleep(0)
        relay.stop(BadRequest(408, BadRequestReason.BODY_TOO_SLOW, "too slow"))
        with pytest.raises(BadRequest):
            await waiting


async def test_who_is_told_of_the_end_finds_what_is_behind_the_body() -> None:
    # A pipelined request: the client has not finished, though nothing more will come.
    async with asyncio.timeout(10), open_pairs(2) as [(source, sender), (target, _)]:
        await sender.send(b"hello" + BEHIND)
        sender.finish()
        await until(lambda: source.saw_eof)
        seen: list[bool] = []
        Relay("downstream", source, target, request_cut(length(5)), lambda: seen.append(source.is_ended)).start()
        assert seen == [False]
        assert source.take_all() == BEHIND


async def test_a_body_of_no_bytes_is_over_before_it_begins() -> None:
    async with open_relay(request_cut(length(0))) as (relay, sender, _):
        assert relay.is_done
        await relay.wait()
        await sender.send(BEHIND)
        assert await relay.source.read_some() == BEHIND


# --- back-pressure


async def test_a_slow_target_holds_the_source_back_and_nothing_is_lost() -> None:
    size = 4 << 20
    async with open_relay(request_cut(length(size))) as (relay, sender, receiver):
        sent = bytes(range(256)) * (size // 256)
        sending = asyncio.create_task(sender.send(sent))
        await until(lambda: relay.source.is_reading_paused)
        held = relay.count
        for _ in range(50):
            await asyncio.sleep(0)
        assert relay.count == held < size // 2
        assert not sending.done()
        receiving = asyncio.create_task(receiver.receive(size))
        await asyncio.gather(sending, relay.wait())
        assert await receiving == sent


async def test_a_target_that_goes_away_lets_the_source_go_on() -> None:
    async with open_relay(request_cut(length(4 << 20))) as (relay, sender, receiver):
        sending = asyncio.create_task(sender.send(b"x" * (4 << 20)))
        await until(lambda: relay.source.is_reading_paused)
        receiver.close()
        await sending
        await relay.wait()
        assert relay.is_whole  # all came; that nobody took it, the target knows


# --- discarding


def discarding(framing: Framing, bytes_max: int) -> DiscardingCut:
    return DiscardingCut(request_cut(framing), bytes_max)


@pytest.mark.parametrize("framing", [length(5), http1.CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize(("bytes_max", "is_whole"), [(5, True), (4, False)], ids=["at-the-limit", "one-above"])
async def test_a_body_is_discarded_up_to_a_limit(framing: Framing, bytes_max: int, is_whole: bool) -> None:
    sent = b"hello" if framing.kind is FramingKind.LENGTH else b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    async with asyncio.timeout(10), open_pairs(1) as [(source, sender)]:
        relay = Relay("downstream", source, None, discarding(framing, bytes_max))
        relay.start()
        await sender.send(sent + BEHIND)
        await until(lambda: relay.is_done)
        assert relay.is_whole is is_whole
        if is_whole:
            await relay.wait()
            assert await rest_of(source) == BEHIND
        else:
            with pytest.raises(BadRequest) as raised:
                await relay.wait()
            assert (raised.value.status, raised.value.reason) == (413, BadRequestReason.BODY_TOO_LARGE)


async def rest_of(source: Stream) -> bytes:
    got = b""
    while len(got) < len(BEHIND):
        got += await source.read_some()
    return got


async def test_what_ends_with_the_connection_is_discarded_to_its_end() -> None:
    async with asyncio.timeout(10), open_pairs(1) as [(source, sender)]:
        relay = Relay("downstream", source, None, DiscardingCut(ConnectionCut(), 10))
        relay.start()
        await sender.send(b"x" * 10)
        sender.finish()
        await relay.wait()
        assert (relay.is_whole, relay.count) == (True, 10)
