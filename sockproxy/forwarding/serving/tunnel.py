"""Tunnel: both directions of a connection whose request the engine has made one of.

Owns that each direction ends by itself, and what else ends both. Must not know what flows, nor how it came to be (`roundtrip`).
Begin at `Tunnel.run`.
"""

from sockproxy.forwarding.moving.cuts import ConnectionCut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.sessions import RecordedSession
from sockproxy.forwarding.serving.shared import Proxy


class Tunnel:
    """What the engine sends goes `down`, what the client sends goes `up`."""

    __slots__ = ("_client", "_proxy", "_upstream", "down", "up")

    def __init__(self, proxy: Proxy, client: Stream, upstream: Stream, session: RecordedSession | None) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream = upstream
        output = ConnectionCut() if session is None else session.output_cut(self._cut_off)
        input = ConnectionCut() if session is None else session.input_cut(self._cut_off)
        self.down = Relay("upstream", upstream, client, output, lambda: _pass_end(upstream, client))
        self.up = Relay("downstream", client, upstream, input, lambda: _pass_end(client, upstream))

    async def run(self, upload: Relay | None) -> None:
        """Carries both directions until both have ended, or one side is gone. `upload`: the request's body, which goes first.
        Raises PeerGone."""
        proxy = self._proxy
        self._upstream.on_lost = self._engine_lost
        idle = proxy.deadlines.start(proxy.limits.tunnel_idle_seconds, self._is_idle, self._count)
        try:
            self.down.start()
            if self._upstream.is_lost:
                self._engine_lost()
            if upload is not None:
                await upload.wait()
            self.up.start()
            await self.down.wait()
            proxy.ended_tunnels.add(self.up)
            if not proxy.is_draining:
                await self.up.wait()
        finally:
            proxy.ended_tunnels.discard(self.up)
            proxy.deadlines.stop(idle)

    def _count(self) -> int:
        return self.up.count + self.down.count

    def _is_idle(self) -> None:
        self._proxy.observers.limit_hit("tunnel_idle_seconds")
        self._cut_off()

    def _cut_off(self) -> None:
        self._client.abort()
        self._upstream.abort()

    def _engine_lost(self) -> None:
        """The engine is gone: what it sent is still delivered, then the client sees it, too."""
        client = self._client
        client.close()
        if client.unsent_bytes:
            seconds = self._proxy.limits.keep_alive_seconds
            self._proxy.deadlines.start(seconds, client.abort, lambda: client.unsent_bytes)


def _pass_end(source: Stream, target: Stream) -> None:
    """One direction has ended; the other goes on."""
    target.write_eof()
    source.watch_hangup()
