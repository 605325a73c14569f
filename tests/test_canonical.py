"""Canonical: which fields go on, which do not, and in which framing a body goes on."""

import pytest

from sockproxy.forwarding.serving.canonical import (
    canonical_answer,
    canonical_request,
    framing_for,
    interim_answer,
    tunnel_answer,
)
from sockproxy.judging.judge import judge
from sockproxy.operating.config import load_policy
from sockproxy.wire import http1
from sockproxy.wire.http1 import CHUNKED, NO_BODY, UNTIL_CLOSE, Framing, FramingKind
from tests.exchanges import CATALOGUE
from tests.streams import PRINCIPAL

TWO = Framing(FramingKind.LENGTH, 2)
CREATE = b"POST /v1.41/%63ontainers/create?b=2&a=%31 HTTP/1.1\r\n"
REQUESTS = {
    "host-and-target": (
        b"GET /v1.41/%76ersion?a=%31 HTTP/1.1\r\nhost: evil\r\nX: 1\r\n\r\n",
        None,
        b"GET /v1.41/version?a=1 HTTP/1.1\r\nHost: docker\r\nX: 1\r\n\r\n",
    ),
    "hop-by-hop": (
        b"GET /version HTTP/1.1\r\nHost: d\r\nConnection: X\r\nX: 1\r\nKeep-Alive: 5\r\nY: 2\r\n\r\n",
        None,
        b"GET /version HTTP/1.1\r\nHost: docker\r\nY: 2\r\n\r\n",
    ),
    "http-1.0": (b"GET /version HTTP/1.0\r\n\r\n", None, b"GET /version HTTP/1.1\r\nHost: docker\r\n\r\n"),
    "a-body-that-nobody-asked-for": (
        CREATE + b"Host: d\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        None,
        b"POST /v1.41/containers/create?b=2&a=1 HTTP/1.1\r\nHost: docker\r\nExpect: 100-continue\r\n"
        b"Content-Length: 9\r\n\r\n",
    ),
    "a-body-that-was-judged": (
        CREATE
        + b"Host: d\r\nExpect: 100-continue\r\nContent-Encoding: x\r\nTrailer: y\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"{}",
        b"POST /v1.41/containers/create?b=2&a=1 HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n{}",
    ),
}


@pytest.mark.parametrize(("raw", "judged_body", "expected"), REQUESTS.values(), ids=REQUESTS)
def test_what_the_engine_gets(raw: bytes, judged_body: bytes | None, expected: bytes) -> None:
    head = http1.parse_request_head(raw, 100)
    policy = load_policy("allow-all", CATALOGUE)
    judgement = judge(CATALOGUE, policy, PRINCIPAL, head.method, head.target, content_length=0)
    assert canonical_request(head, judgement._replace(body=judged_body), passes_upgrade=False) == expected


@pytest.mark.parametrize(
    ("minor", "framing", "expected"),
    [
        (1, TWO, (TWO, 1)),
        (1, CHUNKED, (CHUNKED, 1)),
        (0, TWO, (TWO, 0)),
        (0, CHUNKED, (UNTIL_CLOSE, 0)),
        (0, UNTIL_CLOSE, (UNTIL_CLOSE, 0)),
    ],
)
def test_in_which_framing_a_client_gets_a_body(minor: int, framing: Framing, expected: tuple[Framing, int]) -> None:
    assert framing_for(minor, framing) == expected


CLOSE, KEEP = b"Connection: close\r\n", b"Connection: keep-alive\r\n"
ANSWERS = {
    "kept": (1, TWO, True, b"Content-Length: 2\r\n"),
    "closed": (1, TWO, False, CLOSE + b"Content-Length: 2\r\n"),
    "kept-for-1.0": (0, TWO, True, KEEP + b"Content-Length: 2\r\n"),
    "closed-for-1.0": (0, TWO, False, b"Content-Length: 2\r\n"),
    "until-the-end": (1, UNTIL_CLOSE, False, b""),  # a close would look like a hijack to Go's docker client
    "until-the-end-for-1.0": (0, UNTIL_CLOSE, False, b""),
    "chunked": (1, CHUNKED, True, b"Transfer-Encoding: chunked\r\n"),
}


@pytest.mark.parametrize(("minor", "framing", "keep_alive", "fields"), ANSWERS.values(), ids=ANSWERS)
def test_what_a_client_is_told_of_its_connection(minor: int, framing: Framing, keep_alive: bool, fields: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX: 1\r\nContent-Length: 2\r\n\r\n"
    answer = http1.parse_response_head(raw, 100, "GET")
    expected = b"HTTP/1.%d 200 OK\r\nX: 1\r\n%b\r\n" % (minor, fields)
    assert canonical_answer(answer, minor, framing, keep_alive=keep_alive) == expected


def test_an_interim_answer_has_no_body() -> None:
    answer = http1.parse_response_head(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", 100, "GET")
    assert answer.framing == NO_BODY
    assert interim_answer(answer) == b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"


def test_a_tunnel_says_what_it_upgrades_to_only_where_it_does() -> None:
    fields = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
    for status in (b"101 UPGRADED", b"200 OK"):
        raw = b"HTTP/1.1 %b\r\n%b\r\n" % (status, fields)
        told = tunnel_answer(http1.parse_response_head(raw, 100, "POST"))
        assert told == b"HTTP/1.1 %b\r\n%b\r\n" % (status, fields if status.startswith(b"101") else b"")
