"""The heads that go on, in canonical form: what the engine gets of a request, and a client of an answer.

Owns which fields are replaced or left out, and in which framing and version a body goes on. Must not know streams, nor when
something is sent. Begin at `canonical_request` and `canonical_answer`.
"""

from functools import lru_cache

from sockproxy.forwarding.upstream.asking import HOST
from sockproxy.judging.judge import Judgement
from sockproxy.wire import http1
from sockproxy.wire.http1 import FramingKind, RequestHead, ResponseHead

_REPLACED = frozenset({b"host"})  # by one that is always the same: what a client sends need not be passed on
# Of the body as the client sent it: whoever expected it has been told to go on, and the engine gets neither trailers nor
# what is encoded (no engine decodes a body, and what is encoded is no JSON).
_REPLACED_WITH_BODY = _REPLACED | {b"expect", b"trailer", b"content-encoding"}


def canonical_request(head: RequestHead, judgement: Judgement, *, passes_upgrade: bool) -> bytes:
    """The head that the engine gets, from what was judged, and the body as far as that was judged, too."""
    body = judgement.body
    fields = _passed_on(head.fields, passes_upgrade, _REPLACED if body is None else _REPLACED_WITH_BODY)
    framing = head.framing if body is None else http1.Framing(FramingKind.LENGTH, len(body))
    return http1.serialise_request_head(head.method, judgement.target.canonical, fields, framing) + (body or b"")


@lru_cache(
    maxsize=64
)  # a client writes the same fields into all of its requests; no more than 64 heads are held for that
def _passed_on(
    fields: tuple[http1.Field, ...], passes_upgrade: bool, left_out: frozenset[bytes]
) -> tuple[http1.Field, ...]:
    """Of a client's fields, those that the engine gets."""
    passed = http1.end_to_end(fields, keep_upgrade=passes_upgrade)
    return HOST, *(field for field in passed if field[0].lower() not in left_out)


def framing_for(client_minor: int, framing: http1.Framing) -> tuple[http1.Framing, int]:
    """In which framing and version a client gets a body: HTTP/1.0 has no chunks, there the connection's end is the body's."""
    if client_minor == 0 and framing.kind is FramingKind.CHUNKED:
        return http1.UNTIL_CLOSE, 0
    return framing, client_minor


def canonical_answer(answer: ResponseHead, minor: int, framing: http1.Framing, *, keep_alive: bool) -> bytes:
    """The head of an answer whose body goes on in that framing."""
    fields = http1.end_to_end(answer.fields, keep_upgrade=False)
    fields.extend(_connection_fields(minor, framing, keep_alive=keep_alive))
    return http1.serialise_response_head(minor, answer.status, answer.reason, fields, framing)


def interim_answer(answer: ResponseHead) -> bytes:
    """A head that comes before the answer's own."""
    fields = http1.end_to_end(answer.fields, keep_upgrade=False)
    return http1.serialise_response_head(1, answer.status, answer.reason, fields, http1.NO_BODY)


def tunnel_answer(answer: ResponseHead) -> bytes:
    """The head behind which a tunnel begins."""
    fields = http1.end_to_end(answer.fields, keep_upgrade=answer.status == 101)
    return http1.serialise_response_head(1, answer.status, answer.reason, fields, answer.framing)


def _connection_fields(minor: int, framing: http1.Framing, *, keep_alive: bool) -> list[http1.Field]:
    # Go's docker client takes an answer with `Connection: close` to a hijacking request for a successful hijack, so a
    # body that ends with the connection goes without, as it does from the engine.
    if framing.kind is FramingKind.UNTIL_CLOSE:
        return []
    if minor == 0:
        return [(b"Connection", b"keep-alive")] if keep_alive else []
    return [] if keep_alive else [(b"Connection", b"close")]
