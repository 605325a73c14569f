"""RoundTrip: one allowed request on its way to the engine, and the answer on its way back.

Owns the order of heads and bodies in both directions, the choice between a body and a tunnel (`tunnel`), and how each ending
of one side reaches the other. Must not know rules, how a head goes on (`canonical`), or what is recorded. Begin at
`RoundTrip.run`.

How endings are passed on: a client that finishes sending (half-close) lets the engine see just that; a client that is gone
closes the engine's connection; an engine that is gone within an answer closes the client's, without a proper end.
"""

import asyncio
import time
from math import ceil

from sockproxy.errors import BadRequest, BadRequestReason, EngineError, EngineErrorReason, PeerGone
from sockproxy.exchange import Exchange, Extent, Stage
from sockproxy.forwarding.deadlines import Deadline
from sockproxy.forwarding.moving.cuts import CopyingCut, Cut, request_cut, response_cut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.canonical import (
    canonical_answer,
    canonical_request,
    framing_for,
    interim_answer,
    tunnel_answer,
)
from sockproxy.forwarding.serving.sessions import RecordedSession
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.forwarding.serving.tunnel import Tunnel
from sockproxy.judging.catalogue import Access, Operation, Traffic
from sockproxy.judging.judge import Judgement
from sockproxy.judging.policy import Record
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead, ResponseHead

_REPEATABLE_METHODS = frozenset({"GET", "HEAD"})
_JSON = b"application/json"
_TUNNEL_TRAFFIC = frozenset({Traffic.HIJACK, Traffic.WEBSOCKET, Traffic.UPGRADE})


class RoundTrip:
    """Carries one request and its answer."""

    __slots__ = (
        "_client",
        "_download",
        "_exchange",
        "_head",
        "_operation",
        "_proxy",
        "_record",
        "_sent_on",
        "_session",
        "_tunnelled",
        "_upload",
        "_upload_deadline",
        "_upstream",
        "request",
    )

    def __init__(
        self,
        proxy: Proxy,
        client: Stream,
        exchange: Exchange,
        head: RequestHead,
        judgement: Judgement,
        sent_on: Stream | None = None,
        record: Record | None = None,
    ) -> None:
        """`sent_on`: the kept connection on which the request was sent already. `record`: what of its session is recorded."""
        self._proxy = proxy
        self._client = client
        self._exchange = exchange
        self._head = head
        self._operation = judgement.classified.operation
        self.request = canonical_request(head, judgement, passes_upgrade=self._is_tunnelling(head))
        self._upload: Relay | None = None
        self._download: Relay | None = None
        self._tunnelled: Relay | None = None  # from the client, once there is a tunnel
        self._upload_deadline: Deadline | None = None
        self._sent_on = sent_on
        self._upstream = sent_on
        self._record = record
        self._session: RecordedSession | None = None

    def _is_tunnelling(self, head: RequestHead) -> bool:
        return head.has_upgrade and self._operation is not None and self._operation.traffic in _TUNNEL_TRAFFIC

    async def run(self) -> bool:
        """Carries the request; True if the client's connection can carry another. Raises EngineError, BadRequest or
        RecordingRefused where the client can still be answered, PeerGone where not."""
        is_reusable = False
        if self._record is not None:
            self._session = RecordedSession(self._proxy, self._exchange, self._record)
        try:
            answer = await self._receive_final_head(await self._send_and_receive())
            if self._is_tunnel(answer):
                return await self._tunnel(answer)
            keep_alive, is_reusable = await self._relay_answer(answer)
            return keep_alive
        finally:
            self._unlink(is_reusable=is_reusable)
            self._end_session()

    @property
    def exchange(self) -> Exchange:
        """What it carries."""
        return self._exchange

    @property
    def bytes_in(self) -> int:
        """Bytes of the client's body and tunnel that came so far."""
        return sum(relay.count for relay in (self._upload, self._tunnelled) if relay is not None)

    @property
    def bytes_out(self) -> int:
        """The same of the engine's."""
        return 0 if self._download is None else self._download.count

    def end(self, detail: str) -> None:
        """Cuts off both sides at once. The record of how it ended says `detail` where else the reason of the decision is."""
        exchange = self._exchange
        exchange.detail = detail
        if exchange.decision is not None:
            exchange.decision = exchange.decision._replace(detail=detail)
        self._client.abort()
        if self._upstream is not None:
            self._upstream.abort()

    # --- there

    async def _send_and_receive(self) -> bytes:
        """Sends the request and returns the first head that comes back, on a kept connection where there is one."""
        engine = self._proxy.engine
        kept = self._sent_on or engine.acquire_idle()
        if kept is not None:
            raw = await (self._receive(kept) if kept is self._sent_on else self._send(kept))
            if raw:
                return raw
            if not self._may_repeat(kept):
                raise self._no_answer()
            self._unlink(is_reusable=False)
        raw = await self._send(await engine.connect())
        if not raw:
            raise self._no_answer()
        return raw

    def _may_repeat(self, upstream: Stream) -> bool:
        # A kept connection that the engine closed just when it was used again: it was reset before anything was read.
        return (
            self._upload is None
            and self._exchange.method in _REPEATABLE_METHODS
            and isinstance(upstream.error, ConnectionError)
            and not self._client.is_lost
        )

    def _no_answer(self) -> Exception:
        upload = self._upload
        if upload is not None and isinstance(upload.error, BadRequest):
            return upload.error
        if self._client.is_lost or (upload is not None and upload.error is not None):
            return PeerGone("downstream")
        return EngineError(502, EngineErrorReason.CLOSED, "the engine closed the connection without an answer")

    async def _send(self, upstream: Stream) -> bytes:
        """Sends the request on `upstream`, and waits for a head; b"" if none comes."""
        self._upstream = upstream
        upstream.write(self.request)
        self._exchange.forwarded_at = time.monotonic()
        self._start_upload(upstream)
        return await self._receive(upstream)

    async def _receive(self, upstream: Stream) -> bytes:
        """Waits for a head on `upstream`, where the request was sent, and passes on how the client ends meanwhile."""
        self._upstream, client = upstream, self._client
        if self._exchange.stage is Stage.DECIDED:
            self._exchange.advance(Stage.FORWARDED)
        client.on_eof = self._client_finished
        client.on_lost = self._client_lost
        if client.is_lost:
            self._client_lost()
        elif client.saw_eof and (self._upload is None or self._upload.is_done):
            self._client_finished()
        return await self._read_head(upstream)

    def _start_upload(self, upstream: Stream) -> None:
        if self._head.framing.kind is FramingKind.NONE or self._head.framing.length == 0:
            return
        upload = Relay("downstream", self._client, upstream, request_cut(self._head.framing), self._upload_ended)
        self._upload = upload
        self._watch_upload(upload)
        upload.start()

    def _watch_upload(self, upload: Relay) -> None:
        self._upload_deadline = self._proxy.deadlines.start(
            self._proxy.limits.body_idle_seconds, self._upload_is_idle, lambda: upload.count
        )

    def _upload_is_idle(self) -> None:
        if self._upload is None or self._upload.is_done:
            return
        if self._client.is_reading_paused:
            self._watch_upload(self._upload)  # it is the engine that does not take it
        else:
            self._proxy.observers.limit_hit("body_idle_seconds")
            self._upload.stop(BadRequest(408, BadRequestReason.BODY_TOO_SLOW, "no byte of the body came for too long"))

    def _upload_ended(self) -> None:
        upload = self._upload
        if upload is None or self._upstream is None:
            return
        if upload.error is not None:
            self._upstream.abort()  # half a body must not look like a whole one
        elif self._client.is_ended:
            self._client_finished()

    async def _read_head(self, upstream: Stream) -> bytes:
        limits = self._proxy.limits
        if (raw := upstream.take_head(limits.engine_head_bytes_max)) is not None:
            return raw
        limit = _answer_limit(self._operation)
        seconds = getattr(limits, limit) if limit else 0.0
        waited = time.monotonic() - self._exchange.forwarded_at
        if seconds and waited >= seconds:
            raise _too_late(seconds, limit)
        left = _left_of(seconds, waited) if upstream is self._sent_on else seconds
        deadline = self._proxy.deadlines.start(left, upstream.expire)
        try:
            return await upstream.read_head(limits.engine_head_bytes_max)
        except TimeoutError as error:
            raise _too_late(seconds, limit) from error
        except asyncio.IncompleteReadError as error:
            raise EngineError(502, EngineErrorReason.MALFORMED, "the engine's answer ends within its head") from error
        except asyncio.LimitOverrunError as error:
            detail = f"the head of the engine's answer is above {limits.engine_head_bytes_max} bytes"
            raise EngineError(502, EngineErrorReason.MALFORMED, detail, limit="engine_head_bytes_max") from error
        finally:
            self._proxy.deadlines.stop(deadline)

    # --- and back

    async def _receive_final_head(self, raw: bytes) -> ResponseHead:
        """Passes interim answers on and returns the final one."""
        upstream = self._engine_stream()
        while True:
            answer = http1.parse_response_head(raw, self._proxy.limits.fields_max, self._exchange.method)
            if answer.status >= 200 or answer.status == 101:
                self._exchange.answered_at = time.monotonic()
                return answer
            if self._head.minor >= 1:
                self._client.write(interim_answer(answer))
            raw = await self._read_head(upstream)
            if not raw:
                raise self._no_answer()

    def _is_tunnel(self, answer: ResponseHead) -> bool:
        # Which it is, only the answer tells: an exec start that detaches is an ordinary exchange in spite of its Upgrade.
        if answer.status == 101:
            if not self._is_tunnelling(self._head):
                raise EngineError(502, EngineErrorReason.MALFORMED, "the engine switched protocols unasked")
            return True
        return (
            answer.status == 200
            and answer.framing.kind is FramingKind.UNTIL_CLOSE
            and self._operation is not None
            and self._operation.traffic is Traffic.HIJACK
        )

    async def _relay_answer(self, answer: ResponseHead) -> tuple[bool, bool]:
        """Passes an answer on; whether the client's and the engine's connection can carry another request."""
        client, upstream, upload, exchange = self._client, self._engine_stream(), self._upload, self._exchange
        framing, minor = framing_for(self._head.minor, answer.framing)
        is_upload_over = upload is None or upload.is_whole
        keep_alive = (
            self._head.keep_alive
            and framing.kind is not FramingKind.UNTIL_CLOSE
            and (is_upload_over or answer.keep_alive)
            and not self._proxy.is_draining
        )
        exchange.status = answer.status
        client.write(canonical_answer(answer, minor, framing, keep_alive=keep_alive))
        cut = response_cut(answer.framing, knows_chunks=minor >= 1)
        if exchange.extent is not None:
            cut = self._copying(exchange.extent, cut, answer)
        download = Relay("upstream", upstream, client, cut)
        self._download = download
        download.start()
        try:
            await download.wait()
            if upload is not None and keep_alive:
                await upload.wait()
        except BadRequest as error:
            raise PeerGone("upstream") from error  # lawful: its framing is broken, and its head has gone out already
        finally:
            exchange.bytes_out = download.count
            if upload is not None:
                exchange.bytes_in = upload.count
        self._proxy.complete(exchange, Stage.ANSWERED)
        return keep_alive, answer.keep_alive and is_upload_over

    def _copying(self, extent: Extent, cut: Cut, answer: ResponseHead) -> Cut:
        """The cut; it makes a copy where the record wants one."""
        if not extent.wants_answer or cut.is_done or not _is_json(answer):
            return cut
        return CopyingCut(cut, answer.framing, self._proxy.limits.audited_body_bytes_max, extent)

    async def _tunnel(self, answer: ResponseHead) -> bool:
        """Carries both directions until both have ended, or one side is gone."""
        client, exchange = self._client, self._exchange
        exchange.status, exchange.is_tunnel = answer.status, True
        client.write(tunnel_answer(answer))
        client.on_eof = None
        tunnel = Tunnel(self._proxy, client, self._engine_stream(), self._session)
        self._download, self._tunnelled = tunnel.down, tunnel.up
        try:
            await tunnel.run(self._upload)
        finally:
            exchange.bytes_in += self.bytes_in
            exchange.bytes_out = self.bytes_out
            self._end_session()
        self._proxy.complete(exchange, Stage.ANSWERED)
        return False

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()

    # --- endings

    def _client_finished(self) -> None:
        """The client sends nothing more: the engine sees the same, and from now on a hang-up is watched for. Where it has sent
        more requests, the engine does not see the end yet, as it would not behind unread bytes."""
        if self._client.is_ended:
            self._engine_stream().write_eof()
        self._client.watch_hangup()

    def _client_lost(self) -> None:
        """The client is gone: what it sent is still delivered, then the engine sees it, too."""
        upstream = self._engine_stream()
        upstream.close()
        if upstream.unsent_bytes:
            self._proxy.deadlines.start(self._proxy.limits.linger_seconds, upstream.abort)

    def abandon(self) -> None:
        """Gives back what `run` has not: for a round trip that was sent but never ran."""
        self._unlink(is_reusable=False)

    def _unlink(self, *, is_reusable: bool) -> None:
        client, upstream = self._client, self._upstream
        client.on_eof = client.on_lost = None
        if self._upload is not None:
            self._exchange.bytes_in = max(self._exchange.bytes_in, self._upload.count)
            self._upload.stop()
            self._proxy.deadlines.stop(self._upload_deadline)
        if upstream is not None:
            self._upstream = None
            self._proxy.engine.release(upstream, is_reusable=is_reusable)

    def _engine_stream(self) -> Stream:
        if self._upstream is None:
            raise RuntimeError("the round trip has no connection to the engine")
        return self._upstream


def _is_json(answer: ResponseHead) -> bool:
    content_type = http1.field(answer.fields, b"content-type") or b""
    return content_type.partition(b";")[0].strip().lower() == _JSON


def _answer_limit(operation: Operation | None) -> str:
    """The limit of how long the engine may take for its head; "" where it lawfully takes as long as it takes."""
    if operation is None or operation.traffic is not Traffic.UNARY:
        return ""
    return "engine_read_answer_seconds" if operation.access is Access.READ else "engine_write_answer_seconds"


def _left_of(seconds: float, waited: float) -> float:
    """What is left of a limit where some of it has passed elsewhere; in whole quarters, since `deadlines` keeps a table for
    each duration."""
    return seconds * ceil(4 - 4 * waited / seconds) / 4 if seconds else 0.0


def _too_late(seconds: float, limit: str) -> EngineError:
    detail = f"the engine did not answer within {seconds:g} s"
    return EngineError(504, EngineErrorReason.ANSWER_TIMEOUT, detail, limit)
