"""What the express way knows: heads of requests, and of the engine's answers, with what the plain way made of them.

Owns what may be learnt, how much is remembered, and how long the body behind a known head is. Must not know sockets, nor who
asks for what. Begin at `learn` and `learn_answer`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sockproxy.errors import BadRequest, EngineError
from sockproxy.forwarding.serving.canonical import canonical_answer
from sockproxy.forwarding.serving.gates import Gate, Known
from sockproxy.judging.catalogue import Access, Traffic
from sockproxy.judging.judge import Judgement
from sockproxy.judging.policy import Effect
from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind, RequestHead

KNOWN_HEADS_MAX = 4096
"""Heads remembered for a listener; above that all are forgotten. A kubelet with 100 pods asks for some 1,000."""

KNOWN_HEAD_BYTES_MAX = 2048
"""A longer head is not remembered, so that the memory stays below some 20 MiB."""

KNOWN_FIELDS_MAX = 32
"""A head of more fields is not remembered: parsed, each takes some 100 bytes."""

KNOWN_ANSWERS_MAX = 512
"""Heads of answers to GET that are remembered. Their Date changes every second, and old ones are never seen again."""

TO_COME, UNUSUAL = -1, -2
"""In the place of a body's length: the rest of it is still to come; it is for the plain way."""

_HEAD_END_BYTES = 4


class KnownAnswer(NamedTuple):
    """What the plain way would make of the engine's head: the head for the client, and the framing behind it."""

    head: bytes
    status: int
    framing: Framing


def learn(
    gate: Gate,
    raw: bytes,
    head: RequestHead,
    judgement: Judgement,
    request: bytes,
    account: Callable[[], object],
) -> None:
    """Remembers a head that comes for the second time, if it is allowed, a unary read, and has nothing that must be looked
    at each time."""
    if not _is_usual(raw, head, judgement) or raw in gate.known:
        return
    if raw in gate.seen:
        _make_room(gate.known, KNOWN_HEADS_MAX)
        gate.known[raw] = Known(head, judgement, request, account())
    else:
        _make_room(gate.seen, KNOWN_HEADS_MAX)
        gate.seen.add(raw)


def _is_usual(raw: bytes, head: RequestHead, judgement: Judgement) -> bool:
    operation, decision = judgement.classified.operation, judgement.decision
    return (
        operation is not None
        and judgement.classified.in_version
        and operation.access is Access.READ
        and operation.traffic is Traffic.UNARY
        and decision.effect is Effect.ALLOW
        and decision.shadow is not Effect.DENY
        and judgement.is_of_head
        and head.method == "GET"
        and head.minor == 1
        and head.keep_alive
        and head.framing.kind is FramingKind.NONE
        and len(raw) <= KNOWN_HEAD_BYTES_MAX
        and len(head.fields) <= KNOWN_FIELDS_MAX
    )


def learn_answer(known_answers: dict[bytes, KnownAnswer], raw: bytes, fields_max: int) -> KnownAnswer | None:
    """What the plain way would make of an engine's head, which is remembered; None where it is not the usual."""
    answer = _usual_answer(raw, fields_max) if len(raw) > _HEAD_END_BYTES else None
    if answer is not None:
        _make_room(known_answers, KNOWN_ANSWERS_MAX)
        known_answers[raw] = answer
    return answer


def _make_room(memory: dict[bytes, Any] | set[bytes], size_max: int) -> None:
    if len(memory) >= size_max:
        memory.clear()


def _usual_answer(raw: bytes, fields_max: int) -> KnownAnswer | None:
    try:
        answer = http1.parse_response_head(raw, fields_max, "GET")
    except EngineError:
        return None  # lawful: the plain way reads it again, and answers the client
    if answer.status < 200 or not answer.keep_alive or answer.framing.kind is FramingKind.UNTIL_CLOSE:
        return None
    return KnownAnswer(canonical_answer(answer, 1, answer.framing, keep_alive=True), answer.status, answer.framing)


def body_length(framing: Framing, data: bytes, start: int) -> int:
    """How long the body behind the head is if all of it is here and nothing else, else TO_COME or UNUSUAL."""
    here = len(data) - start
    if framing.kind is not FramingKind.CHUNKED:
        length = framing.length if framing.kind is FramingKind.LENGTH else 0
        return here if here == length else TO_COME if here < length else UNUSUAL
    body = http1.ChunkedBody()
    try:
        length = sum(map(len, body.feed(memoryview(data)[start:])))
    except BadRequest:
        return UNUSUAL  # lawful: the plain way reads it again, and ends the exchange
    if not body.done:
        return TO_COME
    return length if body.consumed == here else UNUSUAL
