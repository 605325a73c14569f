"""RoundTrip: one allowed request on its way to the engine, and the answer on its way back.

Owns the heads in both directions, the choice between a body and a tunnel, and how each ending of one side reaches the
other. Must not know rules or what is recorded. Begin at `RoundTrip.run`.

How endings are passed on: a client that finishes sending (half-close) lets the engine see just that; a client that is gone
closes the engine's connection; an engine that is gone within an answer closes the client's, without a proper end.
"""

import asyncio
import time
from collections.abc import Callable
from math import ceil

from sockproxy.errors import BadRequest, BadRequestReason, EngineError, EngineErrorReason, PeerGone, RecordingRefused
from sockproxy.exchange import Exchange, Extent, Stage
from sockproxy.forwarding.deadlines import Deadline
from sockproxy.forwarding.moving.cuts import ConnectionCut, CopyingCut, Cut, KeptCut, request_cut, response_cut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.shared import Proxy, Recording
from sockproxy.judging.catalogue import Access, Operation, Traffic
from sockproxy.judging.judge import Judgement
from sockproxy.judging.policy import Record
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead, ResponseHead

_HOST = (b"Host", b"docker")  # the engine does not look at it; what a client sends need not be passed on
_REPLACED = frozenset({b"host"})
# Of the body as the client sent it: whoever expected it has been told to go on, and the engine gets neither trailers nor
# what is encoded (no engine decodes a body, and what is encoded is no JSON).
_REPLACED_WITH_BODY = _REPLACED | {b"expect", b"trailer", b"content-encoding"}
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
        "_recording",
        "_sent_on",
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
        self._recording: Recording | None = None

    def _is_tunnelling(self, head: RequestHead) -> bool:
        return head.has_upgrade and self._operation is not None and self._operation.traffic in _TUNNEL_TRAFFIC

    async def run(self) -> bool:
        """Carries the request; True if the client's connection can carry another. Raises EngineError, BadRequest or
        RecordingRefused where the client can still be answered, PeerGone where not."""
        is_reusable = False
        if self._record is not None:
            self._begin_recording(self._record)
        try:
            answer = await self._receive_final_head(await self._send_and_receive())
            if self._is_tunnel(answer):
                return await self._tunnel(answer)
            keep_alive, is_reusable = await self._relay_answer(answer)
            return keep_alive
        finally:
            self._unlink(is_reusable=is_reusable)
            self._end_recording()

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
                fields = http1.end_to_end(answer.fields, keep_upgrade=False)
                self._client.write(
                    http1.serialise_response_head(1, answer.status, answer.reason, fields, http1.NO_BODY)
                )
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
        framing, minor = _framing_for(self._head.minor, answer.framing)
        is_upload_over = upload is None or upload.is_whole
        keep_alive = (
            self._head.keep_alive
            and framing.kind is not FramingKind.UNTIL_CLOSE
            and (is_upload_over or answer.keep_alive)
            and not self._proxy.is_draining
        )
        fields = http1.end_to_end(answer.fields, keep_upgrade=False)
        fields.extend(_connection_fields(minor, framing, keep_alive=keep_alive))
        exchange.status = answer.status
        client.write(http1.serialise_response_head(minor, answer.status, answer.reason, fields, framing))
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
        client, upstream, exchange, proxy = self._client, self._engine_stream(), self._exchange, self._proxy
        fields = http1.end_to_end(answer.fields, keep_upgrade=answer.status == 101)
        exchange.status, exchange.is_tunnel = answer.status, True
        client.write(http1.serialise_response_head(1, answer.status, answer.reason, fields, answer.framing))
        client.on_eof = None
        upstream.on_lost = self._engine_lost
        down = Relay("upstream", upstream, client, self._output_cut(), lambda: _pass_end(upstream, client))
        up = Relay("downstream", client, upstream, self._input_cut(), lambda: _pass_end(client, upstream))
        self._download, self._tunnelled = down, up
        idle = proxy.deadlines.start(
            proxy.limits.tunnel_idle_seconds, self._tunnel_is_idle, lambda: up.count + down.count
        )
        try:
            down.start()
            if upstream.is_lost:
                self._engine_lost()
            if self._upload is not None:
                await self._upload.wait()
            up.start()
            await down.wait()
            proxy.ended_tunnels.add(up)
            if not proxy.is_draining:
                await up.wait()
        finally:
            proxy.ended_tunnels.discard(up)
            proxy.deadlines.stop(idle)
            exchange.bytes_in += self.bytes_in
            exchange.bytes_out = self.bytes_out
            self._end_recording()
        proxy.complete(exchange, Stage.ANSWERED)
        return False

    def _tunnel_is_idle(self) -> None:
        self._proxy.observers.limit_hit("tunnel_idle_seconds")
        self._client.abort()
        self._engine_stream().abort()

    # --- its session, where that is recorded

    def _begin_recording(self, record: Record) -> None:
        if self._proxy.recorder is None:
            raise RecordingRefused("there is no directory for it")
        try:
            self._recording = self._proxy.recorder.begin(self._exchange, record)
        except OSError as error:
            raise RecordingRefused(error.strerror or "its file cannot be made") from error

    def _output_cut(self) -> ConnectionCut:
        return ConnectionCut() if self._recording is None else self._kept(self._recording, self._recording.output)

    def _input_cut(self) -> ConnectionCut:
        if self._recording is None or not self._recording.has_input:
            return ConnectionCut()
        return self._kept(self._recording, self._recording.input)

    def _kept(self, recording: Recording, keep: Callable[[bytes], None]) -> ConnectionCut:
        """What is recorded before it goes on; where it has to be and cannot, it does not go on and the session ends."""
        client, upstream = self._client, self._engine_stream()
        ends_session = self._proxy.recorder is not None and self._proxy.recorder.ends_session

        def end_session() -> None:
            self._exchange.detail = "the session could not be recorded any more"
            client.abort()
            upstream.abort()

        def keep_or_end(data: bytes) -> bool:
            keep(data)
            if recording.is_cut and ends_session:
                self._proxy.loop.call_soon(end_session)  # not from within a relay's own callback
                return False
            return True

        return KeptCut(keep_or_end)

    def _end_recording(self) -> None:
        if self._recording is not None and self._proxy.recorder is not None:
            self._proxy.recorder.end(self._exchange, self._recording)
            self._recording = None

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

    def _engine_lost(self) -> None:
        """A tunnel's engine is gone: what it sent is still delivered, then the client sees it, too."""
        client = self._client
        client.close()
        if client.unsent_bytes:
            seconds = self._proxy.limits.keep_alive_seconds
            self._proxy.deadlines.start(seconds, client.abort, lambda: client.unsent_bytes)

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


def _pass_end(source: Stream, target: Stream) -> None:
    """One direction of a tunnel has ended; the other goes on."""
    target.write_eof()
    source.watch_hangup()


def canonical_request(head: RequestHead, judgement: Judgement, *, passes_upgrade: bool) -> bytes:
    """The head that the engine gets, from what was judged, and the body as far as that was judged, too."""
    body = judgement.body
    left_out = _REPLACED if body is None else _REPLACED_WITH_BODY
    passed = http1.end_to_end(head.fields, keep_upgrade=passes_upgrade)
    fields = [_HOST, *(field for field in passed if field[0].lower() not in left_out)]
    framing = head.framing if body is None else http1.Framing(FramingKind.LENGTH, len(body))
    return http1.serialise_request_head(head.method, judgement.target.canonical, fields, framing) + (body or b"")


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


def _framing_for(client_minor: int, framing: http1.Framing) -> tuple[http1.Framing, int]:
    """In which framing and version a client gets a body: HTTP/1.0 has no chunks, there the connection's end is the body's."""
    if client_minor == 0 and framing.kind is FramingKind.CHUNKED:
        return http1.UNTIL_CLOSE, 0
    return framing, client_minor


def _connection_fields(minor: int, framing: http1.Framing, *, keep_alive: bool) -> list[http1.Field]:
    # Go's docker client takes an answer with `Connection: close` to a hijacking request for a successful hijack, so a
    # body that ends with the connection goes without, as it does from the engine.
    if framing.kind is FramingKind.UNTIL_CLOSE:
        return []
    if minor == 0:
        return [(b"Connection", b"keep-alive")] if keep_alive else []
    return [] if keep_alive else [(b"Connection", b"close")]
