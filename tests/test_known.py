"""Known: what may be learnt of a head, when, and how much is remembered."""

import re
from pathlib import Path

import pytest

from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.known import (
    KNOWN_ANSWERS_MAX,
    KNOWN_HEAD_BYTES_MAX,
    KNOWN_HEADS_MAX,
    TO_COME,
    UNUSUAL,
    KnownAnswer,
    body_length,
    learn,
    learn_answer,
)
from sockproxy.judging.judge import judge
from sockproxy.operating.config import load_policy
from sockproxy.wire import http1
from sockproxy.wire.http1 import CHUNKED, NO_BODY, Framing, FramingKind
from tests.exchanges import CATALOGUE
from tests.streams import PRINCIPAL

READ = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\nUser-Agent: test\r\n\r\n"
WRITE = b"POST /v1.41/containers/x/start HTTP/1.1\r\nHost: d\r\n\r\n"
HEAD_END = b"\r\n\r\n"
ALLOW_ALL = load_policy("allow-all", CATALOGUE)


# --- heads of requests


def known_after(raw: bytes, policy: str = "allow-all", *, times: int = 2) -> int:
    gate = Gate("listener", load_policy(policy, CATALOGUE))
    for _ in range(times):
        learn_once(gate, raw)
    return len(gate.known)


def learn_once(gate: Gate, raw: bytes) -> None:
    end = raw.index(HEAD_END) + 4
    head = http1.parse_request_head(raw[:end], 1000)
    judgement = judge(
        CATALOGUE,
        gate.policy,
        PRINCIPAL,
        head.method,
        head.target,
        content_length=max(head.framing.length, 0),
    )
    learn(gate, raw[:end], head, judgement, b"canonical", lambda: None)


NEVER_LEARNT = {
    "a write": WRITE,
    "a write without a body in its name": b"DELETE /v1.41/containers/x HTTP/1.1\r\nHost: d\r\n\r\n",
    "a body": READ.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}"),
    "a body of no length": READ.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
    "a chunked body": READ.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a hijack": b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n",
    "a websocket": b"GET /v1.41/containers/x/attach/ws HTTP/1.1\r\nHost: d\r\n\r\n",
    "a stream": b"GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n",
    "logs": b"GET /v1.41/containers/x/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n",
    "stats": b"GET /v1.41/containers/x/stats HTTP/1.1\r\nHost: d\r\n\r\n",
    "a download": b"GET /v1.41/containers/x/export HTTP/1.1\r\nHost: d\r\n\r\n",
    "a head": READ.replace(b"GET", b"HEAD"),
    "HTTP/1.0": READ.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "the last request": READ.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "what nobody knows": b"GET /debug/pprof/heap HTTP/1.1\r\nHost: d\r\n\r\n",
    "not in that version": b"GET /v1.20/volumes HTTP/1.1\r\nHost: d\r\n\r\n",
    "too long": READ.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * KNOWN_HEAD_BYTES_MAX)),
}


@pytest.mark.parametrize("raw", NEVER_LEARNT.values(), ids=NEVER_LEARNT)
def test_what_must_be_looked_at_each_time_is_never_learnt(raw: bytes) -> None:
    assert known_after(raw, times=3) == 0


def test_what_is_denied_is_never_learnt(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow.yaml"
    shadow.write_text('version: 1\npolicies:\n  shadow:\n    mode: shadow\n    allow: [{operations: ["Container*"]}]\n')
    denied = b"GET /v1.41/volumes HTTP/1.1\r\nHost: d\r\n\r\n"
    assert known_after(denied, "kubernetes-1.4", times=3) == 0
    assert known_after(denied, str(shadow), times=3) == 0
    assert known_after(denied) == 1


def test_every_operation_that_is_learnt_is_a_unary_read() -> None:
    for operation in CATALOGUE.operations.values():
        path = re.sub(r"\{[^}]*\}", "x", operation.path)
        version = f"/v{operation.last_api or '1.41'}"
        raw = f"{operation.method} {version}{path} HTTP/1.1\r\nHost: d\r\n\r\n".encode()
        may = (operation.access, operation.traffic, operation.method) == ("read", "unary", "GET")
        assert known_after(raw) <= may, operation.operation_id


def test_a_head_is_known_when_it_comes_for_the_second_time() -> None:
    assert [known_after(READ, times=times) for times in range(4)] == [0, 0, 1, 1]
    at_the_limit = READ.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * (KNOWN_HEAD_BYTES_MAX - len(READ) - 5)))
    assert len(at_the_limit) == KNOWN_HEAD_BYTES_MAX
    assert known_after(at_the_limit) == 1


def test_the_memory_is_bounded() -> None:
    gate = Gate("listener", ALLOW_ALL)
    for number in range(KNOWN_HEADS_MAX + 10):
        raw = READ.replace(b"test", b"%d" % number)
        learn_once(gate, raw)
        learn_once(gate, raw)
        assert len(gate.known) <= KNOWN_HEADS_MAX
        assert len(gate.seen) <= KNOWN_HEADS_MAX
    assert raw in gate.known  # what comes now is known


# --- heads of answers

UNUSUAL_ANSWERS = {
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "the-last": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "until-the-end": b"HTTP/1.1 200 OK\r\n\r\n",
    "no-http": b"SSH-2.0-OpenSSH\r\n\r\n",
    "nothing": b"\r\n\r\n",
}


@pytest.mark.parametrize("raw", UNUSUAL_ANSWERS.values(), ids=UNUSUAL_ANSWERS)
def test_an_answer_that_is_not_the_usual_is_not_remembered(raw: bytes) -> None:
    known: dict[bytes, KnownAnswer] = {}
    assert learn_answer(known, raw, 100) is None
    assert not known


def test_the_usual_answer_is_remembered_as_a_client_gets_it() -> None:
    known: dict[bytes, KnownAnswer] = {}
    raw = b"HTTP/1.1 404  \r\nKeep-Alive: 5\r\nserver:  D \r\nContent-Length: 1\r\n\r\n"
    answer = learn_answer(known, raw, 100)
    expected = b"HTTP/1.1 404  \r\nserver: D\r\nContent-Length: 1\r\n\r\n"
    assert answer == KnownAnswer(expected, 404, Framing(FramingKind.LENGTH, 1))
    assert known == {raw: answer}


def test_the_memory_of_answers_is_emptied_when_it_is_full() -> None:
    known: dict[bytes, KnownAnswer] = {}
    for number in range(KNOWN_ANSWERS_MAX + 1):
        learn_answer(known, b"HTTP/1.1 200 OK\r\nDate: %d\r\nContent-Length: 0\r\n\r\n" % number, 100)
    assert len(known) == 1


TWO = Framing(FramingKind.LENGTH, 2)
BODIES = [
    (NO_BODY, b"", 0),
    (NO_BODY, b"x", UNUSUAL),
    (TWO, b"", TO_COME),
    (TWO, b"x", TO_COME),
    (TWO, b"xy", 2),
    (TWO, b"xyz", UNUSUAL),
    (CHUNKED, b"", TO_COME),
    (CHUNKED, b"2\r\nxy\r\n0\r\n", TO_COME),
    (CHUNKED, b"2\r\nxy\r\n0\r\n\r\n", 2),
    (CHUNKED, b"0\r\nX: 1\r\n\r\n", 0),
    (CHUNKED, b"2\r\nxy\r\n0\r\n\r\nz", UNUSUAL),
    (CHUNKED, b"-1\r\n", UNUSUAL),
]


@pytest.mark.parametrize(("framing", "body", "length"), BODIES)
def test_how_long_a_body_is_that_is_here(framing: Framing, body: bytes, length: int) -> None:
    assert body_length(framing, b"head" + body, 4) == length
