"""Relay: bodies go on in the right framing and end as they have to, on whichever way they are moved.

Dialogues over socket pairs: the source's far end sends, the target's far end receives.
"""

import asyncio
import select
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import BadRequest, BadRequestReason, PeerGone
from sockproxy.forwarding.moving import relay as relay_module
from sockproxy.forwarding.moving import splice
from sockproxy.forwarding.moving.cuts import BoundedCut, ConnectionCut, Cut, Sight, request_cut, response_cut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.scoop import Scoop
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind
from tests.bodies import BEHIND, BODIES, Body, length, split
from tests.streams import Peer, open_pairs, read_some, until


@asynccontextmanager
async def open_relay(cut: Cut) -> AsyncIterator[tuple[Relay, Peer, Peer]]:
    """A relay that runs, the peer that sends and the one that receives."""
    async with asyncio.timeout(10), open_pairs(2) as [(source, sender), (target, receiver)]:
        relay = Relay("downstream", source, target, cut)
        relay.start()
        yield relay, sender, receiver


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
        assert await receiver.receive_all() == body.expected


async def test_what_came_of_an_upload_goes_on_at_once_and_a_size_line_when_it_is_whole() -> None:
    async with open_relay(request_cut(http1.CHUNKED)) as (_, sender, receiver):
        for sent, expected in (
            (b"0", b""),
            (b"A\r\nab", b"a\r\nab"),
            (b"cdefghij", b"cdefghij\r\n"),
            (b"\r\n2\r\nde\r\n1", b"2\r\nde\r\n"),
            (b"\r\nf\r\n0\r\n", b"1\r\nf\r\n"),
            (b"\r\n", b"0\r\n\r\n"),
        ):
            await sender.send(sent)
            assert await receiver.receive(len(expected)) == expected


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
        assert await read_some(relay.source) == b"def"
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
        assert await read_some(relay.source) == BEHIND


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


# --- faster ways: whatever happens, it ends as it does on the plain one

FAST = ("splice", "scoop")


@contextmanager
def way(name: str) -> Iterator[None]:
    """Bodies go that way from their first byte on ("plain": never another)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay_module, "BULK_BYTES", sys.maxsize if name == "plain" else 1)
        patch.setattr(relay_module, "BULK_PIECE_BYTES", 1)
        patch.setattr(splice, "IS_AVAILABLE", name == "splice")
        yield


class Passage(NamedTuple):
    """What is sent and how it ends, how the far end reads, and when somebody stops it."""

    body: str
    scale: int  # bytes for each byte of a payload
    places: list[int]
    ending: str
    is_slow: bool


class Outcome(NamedTuple):
    received: bytes
    count: int
    is_whole: bool
    error: str
    rest: bytes


def scaled(body: Body, scale: int) -> Body:
    """The same body with a larger payload in its largest chunk."""
    size = 5 * scale
    if body.framing.kind is FramingKind.LENGTH and body.framing.length:
        return body._replace(framing=length(size), sent=b"h" * size, expected=b"h" * size, count=size)
    if body.framing.kind is FramingKind.CHUNKED:
        head, chunk = b"%X\r\n" % size, b"h" * size + b"\r\n"
        return body._replace(sent=head + chunk + b"%x\r\n" % size + chunk + body.sent)
    return body


async def passage(of: Passage) -> Outcome:
    body = scaled(BODIES[of.body], of.scale) if of.body in BODIES else None
    cut = body.make_cut(body.framing) if body else ConnectionCut()
    sent = body.sent if body else b"t" * 5 * of.scale
    pieces = split(sent + BEHIND if of.ending == "more behind" else sent, of.places)
    if of.ending == "ends early" or of.ending == "breaks":
        pieces = pieces[:-1]
    if of.ending == "breaks":
        pieces.append(b"\r\nx\r\n")
    async with open_relay(cut) as (relay, sender, receiver):
        reading = None if of.is_slow else asyncio.create_task(receiver.receive_all())
        for piece in pieces:
            sending = asyncio.create_task(sender.send(piece))
            for _ in range(20):
                await asyncio.sleep(0)
            reading = reading or (None if sending.done() else asyncio.create_task(receiver.receive_all()))
            await sending
        if of.ending != "more behind":
            sender.finish()
        error = ""
        try:
            reading = reading or asyncio.create_task(receiver.receive_all())
            await relay.wait()
        except (BadRequest, PeerGone) as raised:
            error = repr(raised)
        rest = await rest_of(relay.source) if of.ending == "more behind" and relay.is_whole else b""
        relay.target.close()  # type: ignore[union-attr]
        return Outcome(await reading, relay.count, relay.is_whole, error, rest)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        Passage,
        st.sampled_from([*sorted(BODIES), "until the end"]),
        st.sampled_from([1, 20, 100_000]),
        st.lists(st.integers(0, 1_000_000), max_size=5),
        st.sampled_from(["whole", "more behind", "ends early", "breaks"]),
        st.booleans(),
    ).filter(lambda of: of.ending != "more behind" or of.body != "until the end")
)
def test_every_way_does_what_the_plain_one_does(of: Passage) -> None:
    outcomes = {}
    for name in ("plain", *FAST):
        with way(name):
            outcomes[name] = uvloop.run(passage(of))
    assert outcomes["splice"] == outcomes["plain"]
    assert outcomes["scoop"] == outcomes["plain"]
    assert splice.Splice.count == 0


@pytest.mark.parametrize("name", ["plain", *FAST])
async def test_the_directions_of_a_tunnel_go_and_end_apart(name: str) -> None:
    size = 3 << 20
    with way(name):
        async with asyncio.timeout(20), open_pairs(2) as [(left, left_peer), (right, right_peer)]:
            there = Relay("downstream", left, right, ConnectionCut(), right.write_eof)
            back = Relay("upstream", right, left, ConnectionCut(), left.write_eof)
            there.start()
            back.start()
            receiving = [asyncio.create_task(peer.receive_all()) for peer in (right_peer, left_peer)]
            await asyncio.gather(left_peer.send(b"l" * size), right_peer.send(b"r" * size))
            left_peer.finish()
            assert await receiving[0] == b"l" * size
            await there.wait()
            await right_peer.send(b"late")
            right_peer.finish()
            assert await receiving[1] == b"r" * size + b"late"
            await back.wait()
            assert (there.count, back.count) == (size, size + 4)


@pytest.mark.parametrize("name", FAST)
async def test_back_pressure_holds_on_every_way_and_a_stop_hands_all_on_that_was_counted(name: str) -> None:
    with way(name):
        async with open_relay(ConnectionCut()) as (relay, sender, receiver):
            sending = asyncio.create_task(sender.send(b"x" * (16 << 20)))
            await until(lambda: relay.source.is_reading_paused)
            held = relay.count
            for _ in range(50):
                await asyncio.sleep(0)
            assert relay.count == held < 3 << 20
            relay.stop()
            sending.cancel()
            relay.target.close()  # type: ignore[union-attr]
            assert await receiver.receive_all() == b"x" * held


@pytest.mark.parametrize("name", ["plain", *FAST])
async def test_a_target_that_goes_away_lets_every_way_go_on(name: str) -> None:
    with way(name):
        async with open_relay(request_cut(length(8 << 20))) as (relay, sender, receiver):
            sending = asyncio.create_task(sender.send(b"x" * (8 << 20)))
            await until(lambda: relay.source.is_reading_paused)
            receiver.close()
            await sending
            await relay.wait()
            assert relay.is_whole  # all came; that nobody took it, the target knows
            assert isinstance(relay.target.error, ConnectionError)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["plain", *FAST])
async def test_a_reset_is_no_end(name: str) -> None:
    with way(name):
        async with open_relay(ConnectionCut()) as (relay, sender, receiver):
            await sender.send(b"first")
            assert await receiver.receive(5) == b"first"
            relay.source.write(b"unread")
            await until(lambda: select.select([sender.sock], [], [], 0)[0])
            sender.close()
            with pytest.raises(PeerGone):
                await relay.wait()


class KeepingCut(ConnectionCut):
    """Like the tunnel of a recorded terminal: what passes is kept."""

    sight = Sight.KEEPING

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes | memoryview] = []

    def cut(self, data: bytes | memoryview) -> tuple[bytes | memoryview, int]:
        self.kept.append(data)
        return super().cut(data)


@pytest.mark.parametrize("name", FAST)
async def test_who_keeps_the_bytes_gets_them_as_objects_of_their_own(name: str) -> None:
    cut = KeepingCut()
    with way(name):
        async with open_relay(cut) as (_, sender, receiver):
            for piece in (b"first", b"other", b"third"):
                await sender.send(piece)
                assert await receiver.receive(5) == piece
    assert cut.kept == [b"first", b"other", b"third"]
    assert {type(piece) for piece in cut.kept} == {bytes}


@pytest.mark.parametrize("cut", [ConnectionCut, lambda: response_cut(http1.CHUNKED, knows_chunks=True)])
async def test_a_connection_with_tls_goes_the_plain_way(
    cut: Callable[[], Cut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "is_raw", False)
    monkeypatch.setattr(splice.Splice, "stop", None)  # nobody who has taken over could hand back
    monkeypatch.setattr(Scoop, "send", None)
    with way("splice"):
        async with open_relay(cut()) as (relay, sender, receiver):
            for _ in range(3):
                await sender.send(b"3\r\nabc\r\n")
                assert await receiver.receive(8) == b"3\r\nabc\r\n"
            monkeypatch.undo()
            relay.stop()


# --- discarding


def discarding(framing: Framing, bytes_max: int) -> BoundedCut:
    return BoundedCut(framing, bytes_max)


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
        got += await read_some(source)
    return got


@pytest.mark.parametrize("cuts", [(), (1,), (3, 4, 20)])
async def test_a_bounded_body_is_held_without_its_framing(cuts: tuple[int, ...]) -> None:
    sent = b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n" + BEHIND
    async with asyncio.timeout(10), open_pairs(1) as [(source, sender)]:
        held = bytearray()
        relay = Relay("downstream", source, None, BoundedCut(http1.CHUNKED, 11, held))
        relay.start()
        for start, end in pairwise((0, *cuts, len(sent))):
            await sender.send(sent[start:end])
        await relay.wait()
        assert (bytes(held), relay.count, relay.is_whole) == (b"hello world", 11, True)
        assert await rest_of(source) == BEHIND
