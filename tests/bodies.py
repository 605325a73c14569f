"""Bodies in every framing, for the tests of who cuts them and who moves them: as they come, and as they go on."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from sockproxy.forwarding.moving.cuts import Cut, request_cut, response_cut
from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind


def length(size: int) -> Framing:
    return Framing(FramingKind.LENGTH, size)


def to_client(framing: Framing) -> Cut:
    return response_cut(framing, knows_chunks=True)


def to_old_client(framing: Framing) -> Cut:
    return response_cut(framing, knows_chunks=False)


class Body(NamedTuple):
    """A body as it comes, as it goes on, and how much of it is payload."""

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
    "chunked-up": Body(request_cut, http1.CHUNKED, CHUNKED, b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", 19),
    "trailers-up": Body(request_cut, http1.CHUNKED, WITH_TRAILERS, WITH_TRAILERS, 1),
    "empty-chunked-up": Body(request_cut, http1.CHUNKED, b"000\r\n\r\n", b"0\r\n\r\n", 0),
}
BEHIND = b"GET / HTTP/1.1\r\n"


def split(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if start < end]
