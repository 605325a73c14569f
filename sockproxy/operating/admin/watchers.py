"""Those who watch the page, as server-sent events: one reading a second for all of them, and none while there is nobody.

Owns how many may watch, and that one who is slow is dropped: nothing is held for them beyond a few messages. Must not know what
is seen (`live`, `overview`). Begin at `Watchers.watch`; `tick` is what happens every second.

An event is a part of what is seen: `flow` is what has happened since the last, all others are as things are now, sent when they
have changed, and whole to who comes new.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import orjson
from aiohttp import web

from sockproxy.operating.admin.showing import Told

WATCHERS_MAX = 16
"""Those who watch at a time: a team, each with a page or two."""

MESSAGES_MAX = 8
"""What waits for one who is slow, in seconds: a page that was in the background for a moment."""

TICK_SECONDS = 1.0

Look = Callable[[], Told]
"""One reading: name of a part -> what it is. May raise OSError."""

_FLOW = "flow"
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_AGAIN = b"retry: 3000\n\n"  # milliseconds, until a page that was cut off asks anew


class Watcher:
    """One of them: what waits for it, and whether it is still there."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue(MESSAGES_MAX)  # None: it is over

    @property
    def is_gone(self) -> bool:
        """Its connection has ended."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def tell(self, message: bytes) -> bool:
        """Lets a message wait for it; False if too many do already."""
        try:
            self.messages.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    def cut_off(self) -> None:
        """Ends its connection at once, whether it is being written to or waited for."""
        while not self.messages.empty():
            self.messages.get_nowait()
        self.messages.put_nowait(None)
        if self._request.transport is not None:
            self._request.transport.abort()


class Watchers:
    """All of them."""

    def __init__(self, look: Look, tick_seconds: float = TICK_SECONDS) -> None:
        self._look = look
        self._tick_seconds = tick_seconds
        self._watchers: set[Watcher] = set()
        self._parts: dict[str, bytes] = {}  # what is now, as it was sent last
        self._ticking: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._watchers)

    @property
    def is_looking(self) -> bool:
        """Whether a reading is made every second."""
        return self._ticking is not None

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Tells one, until it is gone, or too slow, or all is over."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise web.HTTPServiceUnavailable(text=f"{WATCHERS_MAX} are watching already\n")
        watcher = Watcher(request)
        self._watchers.add(watcher)
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(request)
            await response.write(_AGAIN + b"".join(self._parts.values()))
            if self._ticking is None:
                self._ticking = asyncio.get_running_loop().create_task(self._tick_while_watched())
            while (message := await watcher.messages.get()) is not None:
                await response.write(message)
            return response
        except ConnectionError:
            return response  # lawful: it is gone, or was too slow
        finally:
            self._watchers.discard(watcher)

    async def _tick_while_watched(self) -> None:
        try:
            while self._watchers:
                self.tick()
                await asyncio.sleep(self._tick_seconds)
        finally:
            self._ticking = None
            self._parts.clear()

    def tick(self) -> None:
        """Looks, and tells everybody what is new."""
        for watcher in [one for one in self._watchers if one.is_gone]:
            self._drop(watcher)
        if not self._watchers:
            return
        with suppress(OSError):  # lawful: a worker does not answer, or has ended, which ends all
            message = b"".join(self._changed(self._look()))
            for watcher in list(self._watchers):
                if message and not watcher.tell(message):
                    self._drop(watcher)

    def _drop(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        watcher.cut_off()  # whoever is gone waits for its next message as well, and else would for ever

    def _changed(self, seen: Told) -> Iterator[bytes]:
        for name, part in seen.items():
            message = b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(part))
            if name == _FLOW:
                if part["seen"] or part["rows"]:
                    yield message
            elif self._parts.get(name) != message:
                self._parts[name] = message
                yield message

    async def end(self) -> None:
        """All is over: nobody is told any more."""
        if self._ticking is not None:
            self._ticking.cancel()
        for watcher in self._watchers:
            watcher.cut_off()
