"""A question of the proxy's own to the engine: one GET, its answer held whole.

Owns how it is asked, and that its answer ends. Must not know what it is asked for, nor what an answer means. Begin at `ask`.
"""

from sockproxy.errors import BadRequest, BadRequestReason, EngineError, EngineErrorReason
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.cuts import BoundedCut
from sockproxy.forwarding.moving.relay import Relay
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind

HOST = (b"Host", b"docker")
"""What the engine gets as the host: it does not look at it."""


async def ask(stream: Stream, target: str, limits: Limits, bytes_max: int, held: bytearray) -> tuple[int, bool]:
    """The status, and whether the connection can be asked more; `held` gets the body, or what came of one that is not whole.
    Raises EngineError; BadRequest (413: the body is above `bytes_max`) or PeerGone; and what `Stream.read_head` raises."""
    stream.write(http1.serialise_request_head("GET", target, [HOST], http1.NO_BODY))
    raw = await stream.read_head(limits.engine_head_bytes_max)
    answer = http1.parse_response_head(raw, limits.fields_max, "GET")
    if answer.status < 200 or answer.framing.kind is FramingKind.UNTIL_CLOSE:
        raise EngineError(502, EngineErrorReason.MALFORMED, "the engine's answer has no end that could be told")
    if answer.framing.length > bytes_max:
        raise BadRequest(413, BadRequestReason.BODY_TOO_LARGE, f"the body is above {bytes_max} bytes")
    relay = Relay("upstream", stream, None, BoundedCut(answer.framing, bytes_max, held))
    relay.start()
    try:
        await relay.wait()
    finally:
        relay.stop()
    return answer.status, answer.keep_alive
