"""Cuts: where one body ends among the bytes of a connection, and in which framing it goes on.

Owns this for each kind of body, and for those who want something more of its bytes: a bound, a copy, a word on whether they
may go on. Must not know streams, nor what a body says. Begin at `Cut`, then `request_cut` and `response_cut`.
"""

import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.exchange import Extent
from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind

Data = bytes | memoryview


class Sight(Enum):
    """Who must look at the bytes of a body on their way, and so how they may go on."""

    NONE = auto()  # nobody: they need not come here at all
    PASSING = auto()  # the cut does, while they pass
    KEEPING = auto()  # somebody keeps what came, so it must be an object of its own


class Cut(Protocol):
    """Cuts one body out of the bytes of a connection and says what is sent on for them."""

    sight: Sight

    @property
    def is_done(self) -> bool:
        """The body's last byte was among those seen."""

    @property
    def ends_with_connection(self) -> bool:
        """The end of the connection is the end of the body."""

    @property
    def count(self) -> int:
        """Bytes of the body so far, without framing."""

    @property
    def unseen_max(self) -> int:
        """How many of the next bytes may go on without being cut (where `sight` is NONE)."""

    def pass_unseen(self, count: int) -> None:
        """So many bytes went on without being cut."""

    def cut(self, data: Data) -> tuple[Data, int]:
        """What to send on for `data`, and how many bytes of it belonged to the body. Raises BadRequest."""


class LengthCut:
    """A body of a known length, sent on as it is."""

    __slots__ = ("count", "is_done", "unseen_max")
    sight = Sight.NONE
    ends_with_connection = False

    def __init__(self, length: int) -> None:
        self.unseen_max = length
        self.count = 0
        self.is_done = length == 0

    def cut(self, data: Data) -> tuple[Data, int]:
        size = min(len(data), self.unseen_max)
        self.pass_unseen(size)
        return (data if size == len(data) else memoryview(data)[:size]), size

    def pass_unseen(self, count: int) -> None:
        self.unseen_max -= count
        self.count += count
        self.is_done = self.unseen_max == 0


class ConnectionCut:
    """Whatever comes until the connection ends, sent on as it is: old answers, and tunnels."""

    __slots__ = ("count", "is_done")
    sight = Sight.NONE
    ends_with_connection = True
    unseen_max = sys.maxsize

    def __init__(self) -> None:
        self.count = 0
        self.is_done = False

    def cut(self, data: Data) -> tuple[Data, int]:
        self.count += len(data)
        return data, len(data)

    def pass_unseen(self, count: int) -> None:
        self.count += count


class KeptCut(ConnectionCut):
    """The same, and somebody keeps a copy. `keep` says whether the bytes may go on."""

    __slots__ = ("_keep",)
    sight = Sight.KEEPING
    unseen_max = 0

    def __init__(self, keep: Callable[[bytes], bool]) -> None:
        super().__init__()
        self._keep = keep

    def cut(self, data: Data) -> tuple[Data, int]:
        self.count += len(data)
        return (data if self._keep(bytes(data)) else b""), len(data)


class ChunkedCut:
    """A chunked body; `Form` says in which form it goes on."""

    __slots__ = ("_body", "_form")
    sight = Sight.PASSING
    ends_with_connection = False
    unseen_max = 0

    def __init__(self, form: "Form") -> None:
        self._body = http1.ChunkedBody()
        self._form = form

    @property
    def is_done(self) -> bool:
        return self._body.done

    @property
    def count(self) -> int:
        return self._body.payload_bytes

    def pass_unseen(self, count: int) -> None:
        raise RuntimeError("the framing must be looked at")

    def cut(self, data: Data) -> tuple[Data, int]:
        hopped = self._body.hop(data) if self._form.may_hop else 0
        if hopped == len(data):
            return data, hopped
        out = self._form.go_on(self._body, memoryview(data)[hopped:] if hopped else data)
        return (b"".join((memoryview(data)[:hopped], out)) if hopped else out), hopped + self._body.consumed


def _as_it_came(body: http1.ChunkedBody, data: Data) -> Data:
    """The engine's framing was checked and is canonical enough: nothing is copied."""
    body.feed(data)
    return data if body.consumed == len(data) else memoryview(data)[: body.consumed]


def _reframed(body: http1.ChunkedBody, data: Data) -> bytes:
    """A client's framing never reaches the engine: its chunks go on in canonical form, which is mostly the same."""
    return b"".join(body.reframe(data))


def _without_chunks(body: http1.ChunkedBody, data: Data) -> bytes:
    """For HTTP/1.0 clients, who know no chunks."""
    return b"".join(body.feed(data))


class Form(NamedTuple):
    """In which form a chunked body goes on. `may_hop`: canonical chunks go on as they came."""

    go_on: Callable[[http1.ChunkedBody, Data], Data]
    may_hop: bool


AS_IT_CAME = Form(_as_it_came, may_hop=True)
REFRAMED = Form(_reframed, may_hop=True)
WITHOUT_CHUNKS = Form(_without_chunks, may_hop=False)


def request_cut(framing: Framing) -> Cut:
    """How a client's body goes on to the engine."""
    if framing.kind is FramingKind.CHUNKED:
        return ChunkedCut(REFRAMED)
    return LengthCut(framing.length if framing.kind is FramingKind.LENGTH else 0)


def response_cut(framing: Framing, *, knows_chunks: bool) -> Cut:
    """How the engine's body goes on to a client."""
    if framing.kind is FramingKind.CHUNKED:
        return ChunkedCut(AS_IT_CAME if knows_chunks else WITHOUT_CHUNKS)
    if framing.kind is FramingKind.UNTIL_CLOSE:
        return ConnectionCut()
    return LengthCut(framing.length if framing.kind is FramingKind.LENGTH else 0)


class BoundedCut:
    """A body that goes nowhere, up to `bytes_max` of it; above that it raises BadRequest (413). `held` gets its bytes, `kept`
    all that came, framing included, of which there may be twice as much."""

    __slots__ = ("_bytes_max", "_cut", "_held", "_kept")
    sight = Sight.PASSING
    ends_with_connection = False
    unseen_max = 0

    def __init__(
        self, framing: Framing, bytes_max: int, held: bytearray | None = None, kept: bytearray | None = None
    ) -> None:
        is_chunked = framing.kind is FramingKind.CHUNKED
        self._cut: Cut = ChunkedCut(WITHOUT_CHUNKS) if is_chunked else LengthCut(framing.length)
        self._bytes_max = bytes_max
        self._held = held
        self._kept = kept

    @property
    def is_done(self) -> bool:
        return self._cut.is_done

    @property
    def count(self) -> int:
        return self._cut.count

    def pass_unseen(self, count: int) -> None:
        raise RuntimeError("the bytes must be counted")

    def cut(self, data: Data) -> tuple[Data, int]:
        if self._kept is not None:
            self._kept += data
        payload, consumed = self._cut.cut(data)
        if self._held is not None:
            self._held += payload
        if self._cut.count > self._bytes_max or (self._kept and len(self._kept) > len(data) + 2 * self._bytes_max):
            raise BadRequest(413, BadRequestReason.BODY_TOO_LARGE, f"the body is above {self._bytes_max} bytes")
        return b"", consumed


class CopyingCut:
    """Another cut of a body in that framing, and a copy of it up to `bytes_max`, which is what the record has of the answer."""

    __slots__ = ("_bytes_max", "_copied", "_copy", "_cut", "_extent")
    sight = Sight.PASSING
    unseen_max = 0

    def __init__(self, cut: Cut, framing: Framing, bytes_max: int, extent: Extent) -> None:
        self._cut = cut
        self._extent = extent
        extent.answer = "the connection ended within it"
        self._copy = response_cut(framing, knows_chunks=False)
        self._bytes_max = bytes_max
        self._copied: bytearray | None = bytearray()

    @property
    def is_done(self) -> bool:
        return self._cut.is_done

    @property
    def ends_with_connection(self) -> bool:
        return self._cut.ends_with_connection

    @property
    def count(self) -> int:
        return self._cut.count

    def pass_unseen(self, count: int) -> None:
        raise RuntimeError("the bytes must be copied")

    def cut(self, data: Data) -> tuple[Data, int]:
        if self._copied is not None:
            self._copied += self._copy.cut(data)[0]
            if len(self._copied) > self._bytes_max:
                self._copied = None
        out = self._cut.cut(data)
        if self._cut.is_done or self._cut.ends_with_connection:
            self._extent.answer = above(self._bytes_max) if self._copied is None else bytes(self._copied)
        return out


def above(bytes_max: int) -> str:
    """Why there is no copy of a body that is too large."""
    return f"it is above {bytes_max} bytes"
