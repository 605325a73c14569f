"""What is read of a request before it is judged: its head, and its body where a rule, or the record, asks for it.

Owns how long and how large these may be. Must not know policies, nor what is done then. Begin at `read_raw_head`. What only
the record asks for is looked at and left where it is: whatever becomes of that, the body goes its way as it came.
"""

import asyncio
import re
from typing import NamedTuple

from sockproxy.errors import BadRequest, BadRequestReason, PeerGone
from sockproxy.exchange import Exchange
from sockproxy.forwarding.moving.cuts import BoundedCut, Cut, above, response_cut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead

# A body of these types is taken by the engine for more parameters, which beat those of the query. No known client sends one.
_FORM_TYPES = frozenset({b"application/x-www-form-urlencoded", b"multipart/form-data"})
# RFC 9110, 8.3.1: media-type = type "/" subtype parameters. Anything else is refused beside a body, since the engine folds
# and trims it by Unicode: a dotted capital I makes a form of what is none here.
_MEDIA_TYPE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++/[!#$%&'*+.^_`|~0-9A-Za-z-]++)[ \t]*+(?:;[\t -~]*+)?")
_OF_LIMITS = frozenset({BadRequestReason.BODY_TOO_LARGE, BadRequestReason.TOO_MANY_BODIES})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_raw_head(proxy: Proxy, client: Stream) -> bytes:
    """The bytes of one head. Raises BadRequest where it is too large, too slow, or ends within."""
    if (raw := client.take_head(proxy.limits.head_bytes_max)) is not None:
        return raw  # the usual way: it came in one piece, no limit of time is needed
    deadline = proxy.deadlines.start(proxy.limits.head_seconds, client.expire)
    try:
        return await client.read_head(proxy.limits.head_bytes_max)
    except asyncio.LimitOverrunError as error:
        raise BadRequest(
            431, BadRequestReason.HEAD_TOO_LARGE, f"the head is above {proxy.limits.head_bytes_max} bytes"
        ) from error
    except asyncio.IncompleteReadError as error:
        raise BadRequest(400, BadRequestReason.INCOMPLETE, "the connection ended within a head") from error
    except TimeoutError as error:
        raise BadRequest(
            408, BadRequestReason.HEAD_TOO_SLOW, f"the head took more than {proxy.limits.head_seconds:g} s"
        ) from error
    finally:
        proxy.deadlines.stop(deadline)


def check_no_form(head: RequestHead) -> BadRequest | None:
    """What is wrong with the media type of a body."""
    content_type = http1.field(head.fields, b"content-type")
    if content_type is None:
        return None
    media_type = _MEDIA_TYPE.fullmatch(content_type)
    if media_type is None:
        return BadRequest(400, BadRequestReason.CONTENT_TYPE, "Content-Type is no media type")
    if media_type[1].lower() in _FORM_TYPES:
        detail = "a form as body is not forwarded: its fields would override the query"
        return BadRequest(400, BadRequestReason.CONTENT_TYPE, detail)
    return None


class Taken(NamedTuple):
    """What became of a body that a rule asks for: `body`, or None and the reason why it was left with the client, all of it.
    `head`: what is still to come of the request says this one."""

    head: RequestHead
    body: bytes | None
    refusal: BadRequest | None = None


async def take_body(proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead, *, is_enforced: bool) -> Taken:
    """The body that a rule asks for. Raises BadRequest where it is too slow, or ends within; and where it is too large or there
    are too many, if that is enforced."""
    kept = None if is_enforced else bytearray()
    try:
        body = await _read_body(proxy, client, exchange, head, kept)
    except BadRequest as error:
        if kept is None or error.reason not in _OF_LIMITS:
            raise
        # Lawful: it passes unjudged, so what was read goes back to where it came from.
        exchange.bytes_in = 0
        if not kept:
            return Taken(head, None, error)
        client.put_back(bytes(kept))
        return Taken(_without_expectation(head), None, error)
    return Taken(head._replace(framing=http1.NO_BODY, expects_continue=False), body)


def _without_expectation(head: RequestHead) -> RequestHead:
    """The same once the client was told to go on."""
    fields = tuple(field for field in head.fields if field[0].lower() != b"expect")
    return head._replace(fields=fields, expects_continue=False)


async def _read_body(
    proxy: Proxy, client: Stream, exchange: Exchange, head: RequestHead, kept: bytearray | None
) -> bytes:
    limits, held = proxy.limits, bytearray()
    relay = Relay("downstream", client, None, BoundedCut(head.framing, limits.judged_body_bytes_max, held, kept))
    size_max = limits.judged_body_bytes_max if head.framing.kind is FramingKind.CHUNKED else head.framing.length
    if size_max > limits.judged_body_bytes_max:
        detail = f"the body is above {limits.judged_body_bytes_max} bytes"
        raise BadRequest(413, BadRequestReason.BODY_TOO_LARGE, detail)
    key = exchange.principal.key
    if not proxy.holding.has_room(key, size_max):
        raise BadRequest(503, BadRequestReason.TOO_MANY_BODIES, "too many bodies are held to be judged; try again")
    if head.expects_continue:
        client.write(_CONTINUE)

    def is_idle() -> None:
        proxy.observers.limit_hit("body_idle_seconds")
        relay.stop(BadRequest(408, BadRequestReason.BODY_TOO_SLOW, "no byte of the body came for too long"))

    deadline = proxy.deadlines.start(limits.body_idle_seconds, is_idle, lambda: relay.count)
    proxy.holding.take(key, size_max)
    try:
        relay.start()
        await relay.wait()
    except PeerGone as error:
        raise BadRequest(400, BadRequestReason.INCOMPLETE, "the connection ended within a body") from error
    finally:
        proxy.holding.give(key, size_max)
        proxy.deadlines.stop(deadline)
        exchange.bytes_in = relay.count
    return bytes(held)


async def peek_body(
    proxy: Proxy, client: Stream, key: str, head: RequestHead, *, passes: bool
) -> tuple[RequestHead, bytes | str]:
    """The body that only the record asks for, and which stays with the client's stream, or why it cannot be had; and the head
    as it is then. `key`: whose it is; `passes`: as far as is known, the request is allowed."""
    if head.framing.kind is FramingKind.NONE:
        return head, b""
    if head.framing.length > proxy.limits.audited_body_bytes_max:
        return head, above(proxy.limits.audited_body_bytes_max)
    if head.expects_continue:
        if not passes:
            return head, "it was not asked for"
        client.write(_CONTINUE)
        head = _without_expectation(head)
    return head, await _peek(proxy, client, key, head.framing)


async def _peek(proxy: Proxy, client: Stream, key: str, framing: http1.Framing) -> bytes | str:
    limits = proxy.limits
    bytes_max = limits.audited_body_bytes_max
    if not proxy.holding.has_room(key, bytes_max):
        proxy.observers.limit_hit("judged_bodies_bytes_max")
        return "too many bodies were held"
    peek = _Peek(framing, bytes_max)
    deadline = proxy.deadlines.start(limits.body_idle_seconds, client.expire, lambda: peek.seen)
    proxy.holding.take(key, bytes_max)
    try:
        if not await client.wait_until(peek.is_enough):
            return "the connection ended within it"
    except TimeoutError:
        return "it came too slowly"  # lawful: whoever forwards it has the same limit, and refuses
    except BadRequest as error:
        return error.detail  # lawful: whoever forwards it meets the same, and refuses
    finally:
        proxy.holding.give(key, bytes_max)
        proxy.deadlines.stop(deadline)
    return bytes(peek.body) if len(peek.body) <= bytes_max else above(bytes_max)


class _Peek:
    """Looks at a body that arrives, until all of it is here or it is too large."""

    def __init__(self, framing: http1.Framing, bytes_max: int) -> None:
        self._cut: Cut = response_cut(framing, knows_chunks=False)
        self._bytes_max = bytes_max
        self.seen = 0
        self.body = bytearray()

    def is_enough(self, arrived: bytes | bytearray) -> bool:
        """Whether that is enough of the connection's bytes; they only grow."""
        if not self._cut.is_done:
            self.body += self._cut.cut(bytes(arrived[self.seen :]))[0]
            self.seen = len(arrived)
        return self._cut.is_done or len(self.body) > self._bytes_max
