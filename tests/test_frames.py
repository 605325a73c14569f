"""The output within a tunnel, however it is cut into pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sockproxy.wire.frames import unframed

PAYLOADS = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=300)), max_size=6)
CUTS = st.lists(st.integers(0, 2000), max_size=8)


def in_pieces(data: bytes, cuts: list[int], *, is_websocket: bool = False) -> bytes:
    feed = unframed(is_websocket=is_websocket)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return b"".join(feed(data[start:end]) for start, end in pairwise(places))


def multiplexed(payloads: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data for stream, data in payloads)


def websocket_frame(payload: bytes, opcode: int = 2, mask: bytes = b"") -> bytes:
    size = len(payload)
    is_masked = 0x80 if mask else 0
    if size < 126:
        length = bytes([is_masked | size])
    elif size < 1 << 16:
        length = bytes([is_masked | 126]) + size.to_bytes(2)
    else:
        length = bytes([is_masked | 127]) + size.to_bytes(8)
    data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return bytes([0x80 | opcode]) + length + mask + data


@given(PAYLOADS, CUTS)
def test_frames_of_output_are_unpacked(payloads: list[tuple[int, bytes]], cuts: list[int]) -> None:
    assert in_pieces(multiplexed(payloads), cuts) == b"".join(data for _, data in payloads)


@given(st.binary(max_size=300).filter(lambda data: data[:1] not in (b"\0", b"\1", b"\2")), CUTS)
def test_the_output_of_a_terminal_is_taken_as_it_is(data: bytes, cuts: list[int]) -> None:
    assert in_pieces(data, cuts) == data


@given(PAYLOADS, st.binary(min_size=1, max_size=50).filter(lambda data: data[0] > 2), CUTS)
def test_what_is_no_frame_is_seen_all_the_same(payloads: list[tuple[int, bytes]], rest: bytes, cuts: list[int]) -> None:
    seen = in_pieces(multiplexed(payloads) + rest, cuts)
    assert seen == b"".join(data for _, data in payloads) + rest


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.sampled_from([b"", b"\1\2\3\4"])), max_size=5),
    CUTS,
)
def test_websocket_frames_are_unpacked(frames: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(websocket_frame(payload, mask=mask) for payload, mask in frames)
    assert in_pieces(data, cuts, is_websocket=True) == b"".join(payload for payload, _ in frames)


def test_websocket_frames_of_every_size_and_kind() -> None:
    large = bytes(range(256)) * 300
    data = (
        websocket_frame(b"a", 1) + websocket_frame(b"ping", 9) + websocket_frame(large) + websocket_frame(b"\3\xe8", 8)
    )
    assert in_pieces(data, [], is_websocket=True) == b"a" + large
