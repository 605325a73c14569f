"""`wire.answers`: the proxy's own answers, byte by byte."""

import json

import pytest

from sockproxy.wire import http1
from sockproxy.wire.http1 import Framing, FramingKind

ANSWERS = [  # status, old API, keep-alive, minor, HEAD, what comes out behind the status line
    (403, False, True, 1, False, b"json length body"),
    (403, True, True, 1, False, b"text nosniff length body"),
    (400, False, False, 1, False, b"json close length body"),
    (503, False, True, 0, False, b"json keep-alive length body"),
    (503, True, False, 0, True, b"text nosniff close length"),
    (599, False, True, 1, True, b"json length"),
]
PARTS = {
    b"json": b"Content-Type: application/json\r\nSockproxy-Request-Id: 7f\r\n",
    b"text": b"Content-Type: text/plain; charset=utf-8\r\n",
    b"nosniff": b"X-Content-Type-Options: nosniff\r\nSockproxy-Request-Id: 7f\r\n",
    b"close": b"Connection: close\r\n",
    b"keep-alive": b"Connection: keep-alive\r\n",
    b"length": b"Content-Length: %d\r\n\r\n",
    b"body": b"%b",
}


@pytest.mark.parametrize(("status", "old", "keep_alive", "minor", "head_only", "parts"), ANSWERS)
def test_answers_in_the_shape_of_the_engine(status, old, keep_alive, minor, head_only, parts):
    text = 'no "way"\r\nA: ü\ud800'
    raw = http1.answer(
        status,
        text,
        api_version_is_old=old,
        request_id="7f",
        keep_alive=keep_alive,
        minor=minor,
        head_only=head_only,
    )
    body = 'no "way"\r\nA: ü?\n'.encode() if old else b'{"message":"no \\"way\\"\\r\\nA: \xc3\xbc?"}\n'
    expected = b"".join(PARTS[part] for part in parts.split())
    line, _, rest = raw.partition(b"\r\n")
    assert rest == (expected % (len(body) if head_only else (len(body), body)))
    assert line.startswith(b"HTTP/1.%d %d " % (minor, status))
    head = raw[: raw.index(b"\r\n\r\n") + 4]
    assert http1.parse_response_head(head, 10, "GET").framing == Framing(FramingKind.LENGTH, len(body))
    assert old or head_only or json.loads(body)["message"] == text.replace("\ud800", "?")
