"""What flows in a tunnel of attach and exec start: bytes -> the output that a person would see.

Owns the two framings that there are. Must not know who reads them. Begin at `unframed`. Sources: the Engine API document,
ContainerAttach, "Stream format"; RFC 6455, section 5.2.

    a frame of output   STREAM 0 0 0 SIZE(4, big endian) payload    STREAM is 0, 1 or 2; where there is no terminal
    WebSocket           FIN|opcode MASK|length [length] [mask] payload

Output of a terminal has no frames, and before API 1.42 an engine does not tell which it is. So frames are told by how they
begin, and what is none is taken as it is: whatever came is seen, if only with a header in it.
"""

from collections.abc import Callable

Unframe = Callable[[bytes], bytes]
"""The output within the next bytes of a tunnel; keeps what it needs to know between two calls."""

_HEADER = 8
_STREAMS = (0, 1, 2)
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2  # opcodes whose payload is somebody's data
_LENGTH_16, _LENGTH_64 = 126, 127
_MASK = 4


def unframed(*, is_websocket: bool) -> Unframe:
    """How a new tunnel is read."""
    return _Websocket().feed if is_websocket else _Multiplexed().feed


class _Multiplexed:
    """Frames, for as long as there are frames; from the first that is none, bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""  # a header that has not come in full
        self._left = 0  # of the payload that is due
        self._is_framed = True

    def feed(self, data: bytes) -> bytes:
        if not self._is_framed:
            return data
        out = []
        data = self._rest + data
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                out.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            header = data[at : at + _HEADER]
            if not _may_be_header(header):
                self._is_framed = False
                out.append(data[at:])
                at = len(data)
            elif len(header) < _HEADER:
                break
            else:
                self._left = int.from_bytes(header[4:])
                at += _HEADER
        self._rest = data[at:]
        return b"".join(out)


def _may_be_header(data: bytes) -> bool:
    return data[0] in _STREAMS and not any(data[1:4])


class _Websocket:
    """The payloads of data frames; control frames are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self._is_data = False
        self._mask = b""
        self._seen = 0  # of this payload, which its mask goes on from

    def feed(self, data: bytes) -> bytes:
        out = []
        data = self._rest + data
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                if self._is_data:
                    out.append(self._unmasked(piece))
                self._seen += len(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            size = self._header(data[at : at + 14])
            if not size:
                break
            at += size
        self._rest = data[at:]
        return b"".join(out)

    def _header(self, data: bytes) -> int:
        """Takes a frame's header and returns its size; 0 if it has not come in full."""
        if len(data) < 2:
            return 0
        length, is_masked = data[1] & 0x7F, bool(data[1] & 0x80)
        more = {_LENGTH_16: 2, _LENGTH_64: 8}.get(length, 0)
        size = 2 + more + _MASK * is_masked
        if len(data) < size:
            return 0
        self._left = int.from_bytes(data[2 : 2 + more]) if more else length
        self._is_data = data[0] & 0x0F in (_CONTINUATION, _TEXT, _BINARY)
        self._mask = data[2 + more : size]
        self._seen = 0
        return size

    def _unmasked(self, piece: bytes) -> bytes:
        if not self._mask:
            return piece
        turned = self._mask[self._seen % _MASK :] + self._mask[: self._seen % _MASK]
        mask = (turned * (len(piece) // _MASK + 1))[: len(piece)]
        return (int.from_bytes(piece) ^ int.from_bytes(mask)).to_bytes(len(piece))
