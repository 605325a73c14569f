"""Moving bytes from one stream to another: one framed body, or one direction of a tunnel.

Owns back-pressure between two streams, the choice of a faster way for much, and how it ends. Must not know operations, rules,
metrics, what a head is, nor where a body ends, which its *cut* says (`cuts`). Begin at `Relay`.

A relay works by callbacks, without a task of its own: it may run while the connection's coroutine waits for something else
(an upload while the engine's head is due), and it costs one wake-up for a whole body.
"""

import asyncio
from collections.abc import Callable

from sockproxy.errors import BadRequest, PeerGone, Side
from sockproxy.forwarding.moving.cuts import Cut, Data, Sight
from sockproxy.forwarding.moving.scoop import Scoop
from sockproxy.forwarding.moving.sockets import make_room
from sockproxy.forwarding.moving.splice import Splice
from sockproxy.forwarding.moving.stream import Stream

BULK_BYTES = 1 << 20
"""So much in large pieces, one after the other, and the rest goes a faster way: below it, taking over costs more than it
saves, and keystrokes are cheapest as callbacks."""

BULK_PIECE_BYTES = 16 << 10
"""What counts as a large piece: half of what io.Copy of dockerd sends at a time, and more than people type."""


class Relay:
    """Moves one body from `source` to `target` (None: it is read and dropped). `start` returns at once; `wait` returns when
    the body's last byte was handed to the target. What goes wrong is kept in `error` until somebody waits."""

    __slots__ = (
        "_bulk_bytes",
        "_cut",
        "_on_done",
        "_scoop",
        "_side",
        "_splice",
        "_waiter",
        "error",
        "is_done",
        "source",
        "target",
    )

    def __init__(
        self, side: Side, source: Stream, target: Stream | None, cut: Cut, on_done: Callable[[], None] | None = None
    ) -> None:
        self._side: Side = side  # which peer the source is
        self.source = source
        self.target = target
        self._cut = cut
        self._on_done = on_done
        self._waiter: asyncio.Future[None] | None = None
        self._splice: Splice | None = None
        self._scoop: Scoop | None = None
        self._bulk_bytes = 0
        self.is_done = cut.is_done
        self.error: Exception | None = None  # BadRequest (its framing), PeerGone (its source)

    @property
    def count(self) -> int:
        """Bytes of the body that came so far."""
        return self._cut.count

    @property
    def is_whole(self) -> bool:
        """The body came to its proper end."""
        return self.is_done and self.error is None and (self._cut.is_done or self._cut.ends_with_connection)

    def start(self) -> None:
        """From now on what arrives goes on."""
        if not self.is_done:
            self.source.set_sink(self._take, self._source_ended)

    def stop(self, error: Exception | None = None) -> None:
        """No more goes on; what arrives stays with the source."""
        if not self.is_done:
            self.error = error
            self._finish()

    async def wait(self) -> None:
        """Returns when the body is through. Raises what went wrong: BadRequest or PeerGone."""
        if not self.is_done:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.error is not None:
            raise self.error

    def _take(self, data: Data) -> None:
        try:
            out, consumed = self._cut.cut(data)
        except BadRequest as error:
            self.error = error  # lawful: raised again by `wait`, and `is_done` tells those who do not wait
            self._finish()
            return
        if self.target is not None and len(out):
            if self._scoop is not None:
                self._scoop.send(out)
            else:
                self.target.write_from(self.source, out)
        if self._cut.is_done:
            if consumed < len(data):
                self.source.put_back(bytes(data[consumed:]))
            self._finish()
        elif len(data) >= BULK_PIECE_BYTES:
            self._bulk_bytes += len(data)
            if self._bulk_bytes >= BULK_BYTES:
                self._bulk_bytes = 0
                self._speed_up()
        else:
            self._bulk_bytes = 0

    def _speed_up(self) -> None:
        """The one place that chooses how a body goes on. Whoever has to look at its bytes says so by the cut's `sight`; who
        keeps them gets the plain way, and so does a connection with TLS."""
        sight, source, target = self._cut.sight, self.source, self.target
        if target is None or sight is Sight.KEEPING or self._scoop is not None:
            return
        if sight is Sight.NONE:
            if self._cut.unseen_max < BULK_BYTES:
                return
            self._splice = Splice(source, target, self._cut, self._finish)
            if self._splice.start():
                make_room(target)
                return
        make_room(target)
        scoop = Scoop(source, target, self._take)
        if scoop.start():
            self._scoop = scoop

    def _source_ended(self) -> None:
        if self.is_done:
            return
        if not self._cut.ends_with_connection or self.source.error is not None:
            self.error = PeerGone(self._side)
        self._finish()

    def _finish(self) -> None:
        self.is_done = True
        for way in (self._splice, self._scoop):
            if way is not None:
                way.stop()
        self.source.clear_sink()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._on_done is not None:
            self._on_done()
