"""Answers in the engine's place, and the end of a connection that can carry no other request.

Owns which status and words the proxy's own answers have. Must not know why (`proxy`). Begin at `answer` and `reject`.
"""

import socket
from contextlib import suppress

from sockproxy.errors import AuditRefused, BadRequest, BadRequestReason, PeerGone
from sockproxy.exchange import Exchange, Stage
from sockproxy.forwarding.meter import Refusal
from sockproxy.forwarding.moving.cuts import BoundedCut, ConnectionCut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.sockets import open_stream
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead

_JSON_ERRORS_FROM = ApiVersion(1, 24)
LIMIT_OF_REASON = {
    BadRequestReason.HEAD_TOO_LARGE: "head_bytes_max",
    BadRequestReason.TOO_MANY_FIELDS: "fields_max",
    BadRequestReason.TARGET_TOO_LARGE: "target_bytes_max",
    BadRequestReason.HEAD_TOO_SLOW: "head_seconds",
    BadRequestReason.BODY_TOO_LARGE: "judged_body_bytes_max",
    BadRequestReason.TOO_MANY_BODIES: "judged_bodies_bytes_max",
}


async def answer(
    proxy: Proxy,
    client: Stream,
    exchange: Exchange,
    head: RequestHead,
    stage: Stage,
    status: int,
    message: str,
    *,
    retry_seconds: int = 0,
) -> bool:
    """Answers in the engine's place. The connection stays open if the request was read to its end."""
    keep_alive = head.keep_alive and not proxy.is_draining and await _discard_body(proxy, client, exchange, head)
    client.write(
        whole_answer(exchange, status, message, keep_alive=keep_alive, minor=head.minor, retry_seconds=retry_seconds)
    )
    proxy.complete(exchange, stage)
    if not keep_alive:
        await _linger(proxy, client)
    return keep_alive


async def refuse_above_limit(
    proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead, refusal: Refusal
) -> bool:
    """Answers one whose policy allows it, or needs to ask for it, but not so often or so many at once."""
    proxy.observers.limit_hit(refusal.limit)
    exchange.detail = refusal.detail
    with suppress(AuditRefused):  # lawful: it is refused all the same
        proxy.observers.decided(exchange)
    message = f"sockproxy: {refusal.detail} ({refusal.limit}); try again in {refusal.retry_seconds} s"
    return await answer(
        *(proxy, client, exchange, head, Stage.REFUSED, 429, message), retry_seconds=refusal.retry_seconds
    )


async def refuse_while_draining(proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead) -> bool:
    with suppress(AuditRefused):  # lawful: it is refused all the same, and with the same status
        proxy.observers.decided(exchange)
    return await answer(proxy, client, exchange, head, Stage.REFUSED, 503, "sockproxy: shutting down")


async def reject(proxy: Proxy, client: Stream, exchange: Exchange, error: BadRequest) -> bool:
    """Answers a request that cannot be read, and ends the connection: where the next one begins is not known."""
    exchange.bad_request_reason = error.reason
    exchange.detail = error.detail
    if error.reason in LIMIT_OF_REASON:
        proxy.observers.limit_hit(LIMIT_OF_REASON[error.reason])
    if exchange.status == 0:
        client.write(whole_answer(exchange, error.status, f"sockproxy: {error.detail}", keep_alive=False, minor=1))
    proxy.complete(exchange, Stage.REJECTED if exchange.stage is Stage.RECEIVED else Stage.FAILED)
    await _linger(proxy, client)
    return False


async def refuse_connection(proxy: Proxy, sock: socket.socket, limit: str) -> None:
    """Answers a connection that is above a limit, and closes it."""
    detail = f"sockproxy: too many connections ({limit})"
    client = await open_stream(proxy.loop, proxy.hangups, sock)
    try:
        client.write(
            http1.answer(
                *(503, detail),
                api_version_is_old=False,
                request_id="",
                keep_alive=False,
                minor=1,
                head_only=False,
            )
        )
        await _linger(proxy, client)
    finally:
        client.abort()


async def _discard_body(proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead) -> bool:
    """Reads and drops a small body; False where that is not worth it, or not possible any more."""
    if head.framing.kind is FramingKind.NONE:
        return True
    if exchange.stage is Stage.FORWARDED or head.expects_continue:
        return False
    bytes_max = proxy.limits.discarded_body_bytes_max
    if head.framing.length > bytes_max:
        return False
    relay = Relay("downstream", client, None, BoundedCut(head.framing, bytes_max))
    await _run_at_most(proxy, relay, proxy.limits.linger_seconds)
    exchange.bytes_in = relay.count
    return relay.is_whole


def whole_answer(
    exchange: Exchange, status: int, message: str, *, keep_alive: bool, minor: int, retry_seconds: int = 0
) -> bytes:
    """The bytes of an answer in the engine's place, whose status is the exchange's from now on."""
    exchange.status = status
    version = exchange.api_version
    return http1.answer(
        status,
        message,
        api_version_is_old=version is not None and version < _JSON_ERRORS_FROM,
        request_id=exchange.id,
        keep_alive=keep_alive,
        minor=minor,
        head_only=exchange.method == "HEAD",
        retry_seconds=retry_seconds,
    )


async def _linger(proxy: Proxy, client: Stream) -> None:
    """Closes so that the answer arrives: what the client still sends is read for a while, since unread bytes make the
    kernel reset the connection and drop what was not yet read on the other side."""
    client.write_eof()
    await _run_at_most(proxy, Relay("downstream", client, None, ConnectionCut()), proxy.limits.linger_seconds)


async def _run_at_most(proxy: Proxy, relay: Relay, seconds: float) -> None:
    """Runs a relay to its end, however that comes, but not longer than that."""
    deadline = proxy.deadlines.start(seconds, relay.stop)
    try:
        relay.start()
        await relay.wait()
    except (BadRequest, PeerGone):
        pass  # lawful: the relay says itself whether it came to its proper end
    finally:
        proxy.deadlines.stop(deadline)
