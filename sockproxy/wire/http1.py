"""HTTP/1.1 heads: bytes <-> RequestHead and ResponseHead, and how the body behind a head is framed.

Owns the strict reading of start lines and framing, and their one written form. A request that two readers could take
for different ones is refused with BadRequest; an engine's head that cannot be read is EngineError. Must not know
sockets, operations or policies: paths and queries are only bytes of a target here (`judging.catalogue` reads them).
Begin at `parse_request_head`. What else belongs to messages stands beside it and is offered here as well: `fields`
(grammar, hop-by-hop), `chunked` (bodies), `answers` (the proxy's own). Source: RFC 9112 and RFC 9110.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

from sockproxy.errors import BadRequest, BadRequestReason, EngineError, EngineErrorReason
from sockproxy.wire.answers import answer
from sockproxy.wire.chunked import LAST_CHUNK, ChunkedBody, encode_chunk, serialise_trailers
from sockproxy.wire.fields import (
    TOKEN,
    Field,
    by_name,
    check_line_end,
    check_trailer_names,
    connection_options,
    end_to_end,
    field,
    parse_fields,
    serialise_fields,
)

__all__ = [
    "CHUNKED",
    "LAST_CHUNK",
    "NO_BODY",
    "UNTIL_CLOSE",
    "ChunkedBody",
    "Field",
    "Framing",
    "FramingKind",
    "RequestHead",
    "ResponseHead",
    "answer",
    "encode_chunk",
    "end_to_end",
    "field",
    "parse_request_head",
    "parse_response_head",
    "read_request_line",
    "serialise_request_head",
    "serialise_response_head",
    "serialise_trailers",
]

KNOWN_SECTIONS_MAX = 256
"""Sections of fields that are remembered; bodies of another length make another one."""

KNOWN_SECTION_BYTES_MAX = 512
"""A longer one is not remembered, so that the memory stays below 5 MiB even if all are of a hundred fields. The docker command
writes 150 bytes."""

# RFC 9112, 3: request-line = method SP request-target SP HTTP-version; here with origin-form, and no CONNECT.
_REQUEST_LINE = re.compile(rb"(?!CONNECT )([!#$%&'*+\-.^_`|~0-9A-Za-z]++) (/[!-\"$-~]*+) HTTP/1\.([01])(?=\r\n)")
_TARGET = re.compile(rb"[!-\"$-~]++")

# RFC 9112, 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*+)(?=\r\n)")

# RFC 9110, 8.6: Content-Length = 1*DIGIT; 18 digits are a million terabytes, and fit in every reader's 64 bits.
_LENGTH = re.compile(rb"[0-9]{1,18}")

# RFC 9110, 7.2: Host = uri-host [ ":" port ]; RFC 3986, 3.2.2: an IP literal in brackets, or a (possibly empty) name.
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:.\-_~%!$&'()*+,;=]++\]|(?:[0-9A-Za-z.\-_~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*+)?"
)


class FramingKind(Enum):
    """How a body's end is found."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


class Framing(NamedTuple):
    """How a body's end is found. `length` counts for LENGTH; for NONE it is what the answer to a HEAD (or a 304)
    announces without sending it, -1 where it announces nothing. Compare kinds: NO_BODY is not the only one without."""

    kind: FramingKind
    length: int


NO_BODY = Framing(FramingKind.NONE, -1)
CHUNKED = Framing(FramingKind.CHUNKED, -1)
UNTIL_CLOSE = Framing(FramingKind.UNTIL_CLOSE, -1)


class RequestHead(NamedTuple):
    """A request's head, valid. A tuple: made for every request in 0.16 us, as a frozen dataclass 0.56 (timeit)."""

    method: str
    target: str
    minor: int
    fields: tuple[Field, ...]
    framing: Framing
    keep_alive: bool
    expects_continue: bool
    has_upgrade: bool


class ResponseHead(NamedTuple):
    """A response's head, valid. Interim ones (1xx) are heads of their own."""

    status: int
    reason: bytes
    minor: int
    fields: tuple[Field, ...]
    framing: Framing
    keep_alive: bool


def parse_request_head(raw: bytes, fields_max: int) -> RequestHead:
    """A request's head from its first byte through its empty line; raises BadRequest.

    A head of HTTP/1.0 without Host gets an empty one, since it goes on as HTTP/1.1.
    hot: 1.7 us for the head of a docker CLI's create, 4.2 where its fields were not seen before (timeit); see `parse_fields`.
    """
    line = _REQUEST_LINE.match(raw)
    if line is not None:
        method, target, version = line.groups()
        start = line.end()
    else:
        start = raw.find(b"\r\n")
        method, target, version = read_request_line(raw[:start] if start >= 0 else raw)
    minor = 1 if version == b"1" else 0
    section = raw[start:]
    read = _read_section_again if len(section) <= KNOWN_SECTION_BYTES_MAX else _read_section
    return RequestHead(method.decode(), target.decode(), minor, *read(section, minor, fields_max))


def _read_section(section: bytes, minor: int, fields_max: int) -> tuple[tuple[Field, ...], Framing, bool, bool, bool]:
    """What stands behind the request line, from its CRLF on: the fields, and what they say of framing and connection."""
    fields = parse_fields(section, 0, fields_max)
    named = by_name(fields)
    if _needs_host(named, minor):
        fields.append((b"Host", b""))
    framing = _framing(named, minor) or NO_BODY
    options = connection_options(named.get(b"connection"))
    if b"trailer" in named:
        check_trailer_names(named[b"trailer"])
    return (
        tuple(fields),
        framing,
        _is_kept_alive(options, minor),
        _expects_continue(named.get(b"expect"), framing, minor),
        b"upgrade" in named,
    )


# A client writes the same fields into all of its requests, whatever it asks for.
_read_section_again = lru_cache(maxsize=KNOWN_SECTIONS_MAX)(_read_section)


def read_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and minor version of a request line without its CRLF; the plain form. Raises BadRequest."""
    check_line_end(line)
    # RFC 9112, 3: recipients MAY "parse on whitespace-delimited word boundaries"; "however, lenient parsing can result
    # in request smuggling". An empty line in front of the request line (2.2) falls under this, too.
    parts = line.split(b" ", 3)
    if len(parts) != 3:
        raise BadRequest(400, BadRequestReason.REQUEST_LINE, "the request line is not method, target and version")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(400, BadRequestReason.HTTP_VERSION, "the version is neither HTTP/1.1 nor HTTP/1.0")
    if TOKEN.fullmatch(method) is None:
        raise BadRequest(400, BadRequestReason.METHOD, "the method is no token")
    if _TARGET.fullmatch(target) is None:
        raise BadRequest(400, BadRequestReason.TARGET, "the target has characters that no target has, or a fragment")
    _check_target_form(method, target)
    return method, target, version[-1:]


def _check_target_form(method: bytes, target: bytes) -> None:
    # RFC 9112, 3.2.4: "The asterisk-form of request-target is only used for a server-wide OPTIONS request".
    if target == b"*" and method == b"OPTIONS":
        return
    # RFC 9112, 3.2.3: authority-form "is only used for CONNECT requests", which an engine has no use for.
    # RFC 9112, 3.2.2: a server "MUST accept the absolute-form in requests even though most HTTP/1.1 clients will only
    # send the absolute-form to a proxy". Refused: it names a second host, and no known docker client sends it.
    if not target.startswith(b"/") or method == b"CONNECT":
        raise BadRequest(400, BadRequestReason.TARGET_FORM, "the target is not a path that begins with /")


def _needs_host(named: Mapping[bytes, bytes], minor: int) -> bool:
    """Whether a (then 1.0) request has no Host; raises BadRequest if it has to have one, or if it is none."""
    # RFC 9112, 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that
    # lacks a Host header field and to any request message that contains [...] a Host header field with an invalid
    # field value." An empty one is valid: the docker CLI sends it when it hijacks.
    host = named.get(b"host")
    if host is None:
        if minor:
            raise BadRequest(400, BadRequestReason.HOST, "HTTP/1.1 without Host")
        return True
    if _HOST.fullmatch(host) is None:
        raise BadRequest(400, BadRequestReason.HOST, "Host is no host and port")
    return False


def _framing(named: Mapping[bytes, bytes], minor: int) -> Framing | None:
    """What Transfer-Encoding or Content-Length say; None without them. Raises BadRequest for both or odd ones."""
    length = named.get(b"content-length")
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        # RFC 9112, 6.3: both "might indicate an attempt to perform request smuggling [...] or response splitting [...]
        # and ought to be handled as an error". Two readers may cut such a body at different places, and what follows
        # the first cut would pass unjudged.
        if length is not None:
            raise BadRequest(400, BadRequestReason.BOTH_LENGTHS, "both Content-Length and Transfer-Encoding")
        # RFC 9112, 6.1: one "that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST treat
        # the message as if the framing is faulty". The engine ignores the field and takes the body for a request.
        if not minor:
            raise BadRequest(400, BadRequestReason.TRANSFER_ENCODING, "Transfer-Encoding in HTTP/1.0")
        # RFC 9112, 6.1: an unknown coding SHOULD be answered 501; any other one is refused as the rest here is, since
        # whether the last coding is chunked is where readers differ.
        if coding.lower() != b"chunked":
            raise BadRequest(400, BadRequestReason.TRANSFER_ENCODING, "a transfer coding other than one chunked")
        return CHUNKED
    if length is None:
        return None
    # RFC 9112, 6.3: "with an invalid Content-Length header field, [...] the message framing is invalid and the
    # recipient MUST treat it as an unrecoverable error". An empty one means no body to some engines, and the body's
    # bytes are the next request then; a list of equal numbers, which may be accepted, is one number only to some.
    if _LENGTH.fullmatch(length) is None:
        raise BadRequest(400, BadRequestReason.CONTENT_LENGTH, "Content-Length is not 1 to 18 digits")
    return Framing(FramingKind.LENGTH, int(length))


def _is_kept_alive(options: frozenset[bytes], minor: int) -> bool:
    # RFC 9112, 9.3: with the close option "the connection will not persist after the current response"; else HTTP/1.1
    # does persist, and HTTP/1.0 does if the keep-alive option is there (a proxy must not honour that, but a gateway is an
    # origin server to its clients: RFC 9110, 3.7).
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def _expects_continue(expect: bytes | None, framing: Framing, minor: int) -> bool:
    if expect is None:
        return False
    # RFC 9110, 10.1.1: one "that receives an Expect field value containing a member other than 100-continue MAY respond
    # with a 417 (Expectation Failed)".
    if expect.lower() != b"100-continue":
        raise BadRequest(417, BadRequestReason.EXPECT, "an expectation other than 100-continue")
    # RFC 9110, 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that
    # expectation", and nothing is awaited where "the framing indicates that there is no content".
    return minor == 1 and (framing.kind is FramingKind.CHUNKED or framing.length > 0)


def parse_response_head(raw: bytes, fields_max: int, request_method: str) -> ResponseHead:
    """The engine's head from its first byte through its empty line; raises EngineError (502, MALFORMED).

    A 101 has the framing NO_BODY: what follows is a tunnel, as it may be behind a 200 with UNTIL_CLOSE.
    """
    line = _STATUS_LINE.match(raw)
    if line is None:
        raise EngineError(502, EngineErrorReason.MALFORMED, "the engine's answer has no status line")
    version, code, reason = line.groups()
    minor, status = int(version), int(code)
    try:
        fields = parse_fields(raw, line.end(), fields_max)
        named = by_name(fields)
        framing = _response_framing(_framing(named, minor), status, request_method)
        options = connection_options(named.get(b"connection"))
        check_trailer_names(named.get(b"trailer"))
    except BadRequest as error:
        raise EngineError(502, EngineErrorReason.MALFORMED, f"the engine's answer: {error.detail}") from error
    keep_alive = _is_kept_alive(options, minor) and framing is not UNTIL_CLOSE and status != 101
    return ResponseHead(status, reason, minor, tuple(fields), framing, keep_alive)


def _response_framing(announced: Framing | None, status: int, request_method: str) -> Framing:
    # RFC 9112, 6.3: "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or
    # 304 (Not Modified) status code is always terminated by the first empty line after the header fields, regardless of
    # the header fields present in the message".
    if status < 200 or status == 204:
        return NO_BODY
    if status == 304 or request_method == "HEAD":
        # RFC 9110, 8.6: Content-Length is then what a GET would have got, and goes on to the client.
        return Framing(FramingKind.NONE, announced.length) if announced is not None else NO_BODY
    # RFC 9112, 6.3: "this is a response message without a declared message body length, so the message body length is
    # determined by the number of octets received prior to the server closing the connection."
    return announced or UNTIL_CLOSE


def serialise_request_head(method: str, target: str, fields: Iterable[Field], framing: Framing) -> bytes:
    """The head as the engine gets it, always HTTP/1.1; `fields` are end-to-end ones, framing is written from `framing`.

    Raises ValueError if method and target are no request line: the target was made anew from decoded parts, and a fault
    there must not become a second request.
    """
    line = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
    found = _REQUEST_LINE.match(line)
    if (found is None or found.end() != len(line) - 2) and line != b"OPTIONS * HTTP/1.1\r\n":
        raise ValueError("not the method and target of a request")
    return _serialise(line, fields, framing)


def serialise_response_head(minor: int, status: int, reason: bytes, fields: Iterable[Field], framing: Framing) -> bytes:
    """The head as the client gets it, as HTTP/1.`minor`; `fields` are end-to-end ones and, where due, Connection.

    Raises ValueError for chunks in HTTP/1.0.
    """
    if not minor and framing.kind is FramingKind.CHUNKED:
        raise ValueError("HTTP/1.0 knows no chunks")
    return _serialise(b"HTTP/1.%d %d %b\r\n" % (minor, status, reason), fields, framing)


def _serialise(start_line: bytes, fields: Iterable[Field], framing: Framing) -> bytes:
    length = b""
    if framing.kind is FramingKind.CHUNKED:
        length = b"Transfer-Encoding: chunked\r\n"
    elif framing.length >= 0:
        length = b"Content-Length: %d\r\n" % framing.length
    return b"".join((start_line, serialise_fields(fields), length, b"\r\n"))
