"""The chunked transfer coding: bytes <-> payload, in both directions.

Owns where a chunk ends and the next begins, and the trailer section behind the last one. Must not know what is in the
payload, nor which side sends it: what is wrong raises BadRequest, and whoever reads from the engine turns that into its
own error. Begin at `ChunkedBody.feed`. Source: RFC 9112, 7.1.
"""

import re
from collections.abc import Iterable

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.wire.fields import NEVER_TRAILERS, Field, parse_fields, serialise_fields

Data = bytes | bytearray | memoryview

LAST_CHUNK = b"0\r\n\r\n"
"""The end of a body without trailers."""

TRAILER_SECTION_BYTES_MAX = 16 << 10
"""The lines behind the last chunk. No docker client or engine is known to send any; Node.js allows as much for a head."""

TRAILER_FIELDS_MAX = 100
"""Fields in a trailer section; precedents for whole heads: Apache httpd 100, websockets 128."""

# RFC 9112, 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF; chunk-size = 1*HEXDIG
# The CRLF behind the data is read together with the size line that follows it. "Recipients MUST anticipate potentially
# large hexadecimal numerals and prevent parsing errors": 16 digits are what the engine takes. Chunk extensions, which
# "a recipient MUST ignore", are refused: readers cut them at different places, and no known client sends one.
_SIZE_LINE = re.compile(rb"\r\n([0-9A-Fa-f]{1,16})\r\n")
_SIZE_LINE_BEGUN = re.compile(rb"\r(?:\n(?:[0-9A-Fa-f]{1,16}\r?)?)?")
_SIZE_LINE_BYTES_MAX = 2 + 16 + 2
_CANONICAL_SIZE_LINE = re.compile(rb"\r\n([1-9a-f][0-9a-f]{0,15})\r\n")  # as we would write it, and not the last one


class ChunkedBody:
    """A strict, incremental reader of one chunked body; the bytes may be cut anywhere.

    `consumed` is how many bytes of what was fed last belong to the body (the rest is the next message's), `payload_bytes`
    how much payload has come, `done` whether it has ended, `trailers` the fields behind it. Holds no payload: at most one
    size line or trailer section.
    """

    __slots__ = ("_held", "_in_trailers", "_left", "consumed", "done", "payload_bytes", "trailers")

    def __init__(self) -> None:
        self.consumed = 0
        self.payload_bytes = 0
        self.done = False
        self.trailers: tuple[Field, ...] = ()
        self._left = 0  # payload bytes of this chunk that are still to come
        self._in_trailers = False
        self._held = bytearray(b"\r\n")  # of a line that has begun; in the beginning as if a chunk had just ended

    def feed(self, data: Data) -> list[Data]:
        """The pieces of payload in `data`, which they borrow from; raises BadRequest (CHUNK, TRAILER).

        An error takes the pieces before it along: half of a body that is wrong is not handed on.
        hot: hops from size line to size line; 0.7 us a chunk whatever its size (timeit).
        """
        return self._walk(data, is_framed=False)

    def reframe(self, data: Data) -> list[Data]:
        """The same with canonical framing around the pieces, chunk by chunk; raises like `feed`. A size line goes on when it
        has come whole, and a chunk is closed with its last byte, before the sender does so."""
        return self._walk(data, is_framed=True)

    def hop(self, data: Data) -> int:
        """How many of the first bytes may go on as they are, being payload and canonical size lines; what is behind them is
        for `feed` or `reframe`. Ends within a chunk.

        hot: the fast twin of `reframe`; 0.24 us a chunk instead of 0.69, whatever its size (timeit).
        """
        at, left, size, lines = 0, self._left, len(data), 0
        if not left:
            return 0
        while at + left < size:
            line = _CANONICAL_SIZE_LINE.match(data, at + left)
            if line is None:
                break
            at = line.end()
            lines += at - line.start()
            left = int(line[1], 16)
        if at + left > size:
            left -= size - at
            at = size
        self._left = left
        self.payload_bytes += at - lines
        return at

    def _walk(self, data: Data, *, is_framed: bool) -> list[Data]:
        view = memoryview(data)
        size = len(view)
        at = 0
        parts: list[Data] = []
        while at < size and not self.done:
            if self._left:
                end = min(at + self._left, size)
                parts.append(view[at:end])
                self._left -= end - at
                self.payload_bytes += end - at
                at = end
                if is_framed and not self._left:
                    parts.append(b"\r\n")
            elif self._in_trailers:
                at = self._read_trailers(view, at)
                if is_framed and self.done:
                    parts.append(serialise_trailers(self.trailers))
            else:
                at = self._read_size(view, at)
                if is_framed and self._left:
                    parts.append(b"%x\r\n" % self._left)
        self.consumed = at
        return parts

    def _read_size(self, view: memoryview, at: int) -> int:
        """Reads the line between two chunks, or as much of it as there is; the place behind it."""
        held = self._held
        if not held:
            line = _SIZE_LINE.match(view, at)
            if line is not None:
                self._begin_chunk(int(line[1], 16))
                return line.end()
        before = len(held)
        held += view[at : at + _SIZE_LINE_BYTES_MAX - before]
        line = _SIZE_LINE.match(held)
        if line is not None:
            end = at + line.end() - before
            self._begin_chunk(int(line[1], 16))
            return end
        if _SIZE_LINE_BEGUN.fullmatch(held) is None:
            raise BadRequest(
                400, BadRequestReason.CHUNK, "a chunk is not followed by CRLF, 1 to 16 hex digits and CRLF"
            )
        return at + len(held) - before

    def _begin_chunk(self, size: int) -> None:
        self._left = size
        self._in_trailers = size == 0
        self._held[:] = b"" if size else b"\r\n"

    def _read_trailers(self, view: memoryview, at: int) -> int:
        """Reads the trailer section, or as much of it as there is; the place behind it."""
        held = self._held
        before = len(held)
        held += view[at : at + TRAILER_SECTION_BYTES_MAX - before]
        end = held.find(b"\r\n\r\n", max(before - 3, 0)) + 4
        if end < 4:
            if len(held) == TRAILER_SECTION_BYTES_MAX:
                raise BadRequest(400, BadRequestReason.TRAILER, "the trailer section is too large")
            return at + len(held) - before
        self.trailers = _parse_trailers(bytes(held[:end]))
        self.done = True
        return at + end - before


def _parse_trailers(raw: bytes) -> tuple[Field, ...]:
    try:
        fields = parse_fields(raw, 0, TRAILER_FIELDS_MAX)
    except BadRequest as error:
        raise BadRequest(400, BadRequestReason.TRAILER, f"in the trailer section: {error.detail}") from error
    # RFC 9110, 6.5.1: "A sender MUST NOT generate a trailer field unless the sender knows the corresponding header field
    # name's definition permits the field to be sent in trailers." A reader that merges them would get another request
    # than the judged one.
    if any(name.lower() in NEVER_TRAILERS for name, _ in fields):
        raise BadRequest(
            400, BadRequestReason.TRAILER, "a field that frames, routes or is judged is in the trailer section"
        )
    return tuple(fields)


def encode_chunk(data: bytes | bytearray | memoryview) -> bytes:
    """One chunk with this payload; nothing for no payload, since an empty chunk would be the last one."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if data else b""


def serialise_trailers(fields: Iterable[Field]) -> bytes:
    """The last chunk and the trailer section: the end of a chunked body."""
    return b"0\r\n" + serialise_fields(fields) + b"\r\n"
