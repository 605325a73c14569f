"""The proxy's own answers, in the shape of the engine's errors.

Owns how a status and a message become the bytes of a response. Must not know why it is answered (`BadRequest`,
`EngineError`, `Decision`), nor the connection. Begin at `answer`. Source: the engine's own errors, dockerd 20.10.24.
"""

from http import HTTPStatus

import orjson

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

_TYPE_JSON = b"Content-Type: application/json\r\n"
# Below API 1.24 the engine answers errors as text, with these fields; its clients print the body as it is.
_TYPE_TEXT = b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"

# RFC 9112, 9.3: 1.1 persists unless told otherwise; 1.0 only if the "keep-alive" option is there.
_CONNECTION = {
    (1, True): b"",
    (1, False): b"Connection: close\r\n",
    (0, True): b"Connection: keep-alive\r\n",
    (0, False): b"Connection: close\r\n",
}


def answer(
    status: int,
    message: str,
    *,
    api_version_is_old: bool,
    request_id: str,
    keep_alive: bool,
    minor: int,
    head_only: bool,
    retry_seconds: int = 0,
) -> bytes:
    """A whole response: `{"message": ...}`, or plain text for an API below 1.24; no body if the request was a HEAD.

    Content-Length is always there, and Connection: close only when the connection does not stay open: Go's docker
    client takes any answer with it to a hijacking request for a successful hijack. `retry_seconds`: when to ask again.
    """
    text = message.encode("utf-8", "replace")  # orjson refuses lone surrogates
    body = (text if api_version_is_old else orjson.dumps({"message": text.decode()})) + b"\n"
    return b"".join(
        (
            b"HTTP/1.%d %d %b\r\n" % (minor, status, PHRASES.get(status, b"")),
            _TYPE_TEXT if api_version_is_old else _TYPE_JSON,
            b"Sockproxy-Request-Id: %b\r\n" % request_id.encode("ascii"),
            b"Retry-After: %d\r\n" % retry_seconds if retry_seconds else b"",
            _CONNECTION[minor, keep_alive],
            b"Content-Length: %d\r\n\r\n" % len(body),
            b"" if head_only else body,
        )
    )
