"""`wire.http1` and its neighbours: the tables of tests/cases/http1_*.json, the laws, and two oracles (h11, llhttp).

An id names the section that rules, or the client or engine that was seen to send it. Bytes stand in the tables as
Latin-1 text.
"""

import functools
import itertools
import json
import pathlib
import subprocess
import sys

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import BadRequest, BadRequestReason, EngineError, EngineErrorReason
from sockproxy.wire import chunked, fields, http1
from sockproxy.wire.http1 import CHUNKED, NO_BODY, UNTIL_CLOSE, ChunkedBody, Framing, FramingKind, RequestHead

TESTS = pathlib.Path(__file__).parent
FIELDS_MAX = 100
STATUS = {BadRequestReason.EXPECT: 417, BadRequestReason.TOO_MANY_FIELDS: 431}  # all others: 400


def cases(name: str) -> list:
    rows = json.loads((TESTS / "cases" / f"http1_{name}.json").read_text())
    return [pytest.param(row[1].encode("latin-1"), *row[2:], id=row[0]) for row in rows]


def as_fields(rows: list[list[str]]) -> tuple[http1.Field, ...]:
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in rows)


def as_framing(text: str | int) -> Framing:
    named = {"none": NO_BODY, "chunked": CHUNKED, "until-close": UNTIL_CLOSE}
    if isinstance(text, int):
        return Framing(FramingKind.LENGTH, text)
    return named.get(text) or Framing(FramingKind.NONE, int(text.removeprefix("none:")))


def parse_request(raw: bytes) -> RequestHead:
    return http1.parse_request_head(raw, FIELDS_MAX)


def refusal(raw: bytes) -> BadRequest | None:
    try:
        parse_request(raw)
    except BadRequest as error:
        return error
    return None


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "reason"), cases("requests_refused"))
def test_refuses_request(raw, reason):
    error = refusal(raw)
    assert error is not None
    assert (error.reason, error.status) == (reason, STATUS.get(error.reason, 400))


@pytest.mark.parametrize(("raw", "expected"), cases("requests_accepted"))
def test_accepts_request(raw, expected):
    expected |= {"fields": as_fields(expected["fields"]), "framing": as_framing(expected["framing"])}
    assert parse_request(raw)._asdict() == expected


@pytest.mark.parametrize(("raw", "expected"), cases("requests_accepted"))
def test_refuses_request_that_is_cut_or_has_bytes_behind(raw, expected):
    assert all(refusal(raw[:end]) for end in range(len(raw)))
    assert all(refusal(raw + behind) for behind in (b"\0", b"x", b"\n", b"\r\n", b"0\r\n\r\n", raw, raw[:20]))


@pytest.mark.parametrize("at_limit", [0, 1, 7])
def test_limits_the_number_of_fields(at_limit):
    raw = b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * at_limit + b"%b\r\n"
    assert len(http1.parse_request_head(raw % b"", at_limit).fields) == at_limit + 1  # the empty Host of 1.0
    with pytest.raises(BadRequest) as caught:
        http1.parse_request_head(raw % b"A: b\r\n", at_limit)
    assert (caught.value.status, caught.value.reason) == (431, BadRequestReason.TOO_MANY_FIELDS)


def test_detail_never_repeats_what_was_sent():
    rows = [row.values[0].replace(b"e", b"\xb5") for row in cases("requests_refused")]
    assert not [raw for raw in rows if (error := refusal(raw)) and not error.detail.isascii()]


@given(st.binary(max_size=300))
def test_reads_any_bytes_or_refuses_them(raw):
    refusal(raw)
    refusal(raw + b"\r\n\r\n")
    refusal(b"GET / HTTP/1.1\r\nHost: d\r\n" + raw + b"\r\n\r\n")


# --- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "method"), cases("responses_refused"))
def test_refuses_response(raw, method):
    with pytest.raises(EngineError) as caught:
        http1.parse_response_head(raw, FIELDS_MAX, method)
    assert (caught.value.status, caught.value.reason) == (502, EngineErrorReason.MALFORMED)


@pytest.mark.parametrize(("raw", "method", "expected"), cases("responses_accepted"))
def test_accepts_response(raw, method, expected):
    expected |= {"fields": as_fields(expected["fields"]), "framing": as_framing(expected["framing"])}
    expected["reason"] = expected["reason"].encode("latin-1")
    assert http1.parse_response_head(raw, FIELDS_MAX, method)._asdict() == expected


@pytest.mark.parametrize(("raw", "method", "expected"), cases("responses_accepted"))
def test_response_survives_writing(raw, method, expected):
    head = http1.parse_response_head(raw, FIELDS_MAX, method)
    passed = http1.end_to_end(head.fields, keep_upgrade=True)
    again = http1.parse_response_head(
        http1.serialise_response_head(1, head.status, head.reason, passed, head.framing), FIELDS_MAX, method
    )
    assert (again.status, again.reason, again.framing) == (head.status, head.reason, head.framing)
    assert http1.end_to_end(again.fields, keep_upgrade=True) == passed


def test_limits_the_number_of_fields_of_a_response():
    raw = b"HTTP/1.1 204 No Content\r\n" + b"A: b\r\n" * 3 + b"\r\n"
    assert len(http1.parse_response_head(raw, 3, "GET").fields) == 3
    with pytest.raises(EngineError):
        http1.parse_response_head(raw, 2, "GET")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_writes_request_head():
    head = http1.serialise_request_head(
        "POST", "/a?b=c", [(b"Host", b""), (b"A", b"\xff")], Framing(FramingKind.LENGTH, 0)
    )
    assert head == b"POST /a?b=c HTTP/1.1\r\nHost: \r\nA: \xff\r\nContent-Length: 0\r\n\r\n"
    assert http1.serialise_request_head("GET", "/", [], NO_BODY) == b"GET / HTTP/1.1\r\n\r\n"
    assert http1.serialise_request_head("OPTIONS", "*", [], CHUNKED) == (
        b"OPTIONS * HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/a b"),
        ("GET", "/a\r\nHost: e"),
        ("GET", "/a HTTP/1.1\r\n\r\nGET /b"),
        ("GET", "/ä"),
        ("GET", "/a#"),
        ("GET", "/\x00"),
        ("GET", ""),
        ("GET", "a"),
        ("GET", "*"),
        ("CONNECT", "/a"),
        ("CONNECT", "d:80"),
        ("G T", "/a"),
        ("", "/a"),
        ("GET\r\n", "/a"),
    ],
)
def test_writes_no_other_request_line_than_it_reads(method, target):
    with pytest.raises(ValueError):
        http1.serialise_request_head(method, target, [], NO_BODY)


@pytest.mark.parametrize(
    ("minor", "framing", "line"),
    [
        (1, Framing(FramingKind.LENGTH, 12), b"Content-Length: 12\r\n"),
        (0, Framing(FramingKind.LENGTH, 0), b"Content-Length: 0\r\n"),
        (1, Framing(FramingKind.NONE, 7), b"Content-Length: 7\r\n"),
        (1, CHUNKED, b"Transfer-Encoding: chunked\r\n"),
        (1, NO_BODY, b""),
        (0, UNTIL_CLOSE, b""),
    ],
)
def test_writes_response_head(minor, framing, line):
    head = http1.serialise_response_head(minor, 200, b"OK", [(b"A", b"b")], framing)
    assert head == b"HTTP/1.%d 200 OK\r\nA: b\r\n%b\r\n" % (minor, line)


def test_writes_no_chunks_for_1_0():
    with pytest.raises(ValueError):
        http1.serialise_response_head(0, 200, b"OK", [], CHUNKED)


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
    assert http1.parse_response_head(head, FIELDS_MAX, "GET").framing == Framing(FramingKind.LENGTH, len(body))
    assert old or head_only or json.loads(body)["message"] == text.replace("\ud800", "?")


# --- from hop to hop --------------------------------------------------------------------------------------------------

H, C = (b"Host", b"d"), (b"Content-Type", b"application/json")

END_TO_END = [  # id, what came, whether Upgrade stays, what goes on
    ("all", [H, C, (b"A", b"b")], False, [H, C, (b"A", b"b")]),
    ("nothing", [], False, []),
    ("order-and-repetition", [(b"A", b"1"), H, (b"a", b"2")], False, [(b"A", b"1"), H, (b"a", b"2")]),
    ("framing", [(b"content-length", b"5"), H, (b"Transfer-Encoding", b"chunked")], True, [H]),
    ("known", [(n, b"x") for n in (b"Keep-Alive", b"TE", b"Proxy-Connection", b"Proxy-Authorization")], True, []),
    ("named", [(b"Connection", b"close, X-A ,,x-b"), (b"x-a", b"1"), (b"X-B", b"2"), (b"X-C", b"3")], False, [(b"X-C", b"3")]),
    ("named-in-two-lines", [(b"Connection", b"x"), (b"X", b"1"), (b"connection", b"y"), (b"Y", b"2"), H], False, [H]),
    ("named-and-repeated", [(b"Connection", b"x"), (b"X", b"1"), H, (b"x", b"2")], False, [H]),
    ("upgrade-dropped", [(b"Connection", b"Upgrade"), (b"Upgrade", b"tcp"), H], False, [H]),
    ("upgrade", [(b"connection", b"upgrade"), (b"upgrade", b"tcp"), H], True, [H, (b"Connection", b"Upgrade"), (b"upgrade", b"tcp")]),
    ("upgrade-not-in-connection", [(b"Upgrade", b""), H], True, [H, (b"Upgrade", b"")]),
    ("upgrade-in-connection-only", [(b"Connection", b"upgrade"), H], True, [H]),
    ("upgrade-among-others", [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"A")], True,
     [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")]),
    ("two-upgrades", [(b"Upgrade", b"a"), H, (b"Upgrade", b"b")], True, [H, (b"Upgrade", b"a"), (b"Upgrade", b"b")]),
    ("trailer", [(b"Trailer", b"X-Sum"), (b"Expect", b"100-continue")], False, [(b"Trailer", b"X-Sum"), (b"Expect", b"100-continue")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "keep_upgrade", "expected"), [pytest.param(*row[1:], id=row[0]) for row in END_TO_END]
)
def test_passes_end_to_end_fields_only(sent, keep_upgrade, expected):
    assert http1.end_to_end(tuple(sent), keep_upgrade=keep_upgrade) == expected


@pytest.mark.parametrize("name", sorted(fields.NEVER_CONNECTION_OPTIONS))
def test_drops_no_field_that_frames_routes_or_is_judged(name):
    sent = [(b"Host", b"d"), (b"Connection", b"close, " + name.title()), (name, b"x")]
    with pytest.raises(BadRequest):
        http1.end_to_end(sent, keep_upgrade=False)


def test_finds_the_first_field_of_a_name():
    sent = [(b"User-Agent", b"a"), (b"USER-AGENT", b"b")]
    assert http1.field(sent, b"user-agent") == b"a"
    assert http1.field(sent, b"host") is None


# --- chunks -----------------------------------------------------------------------------------------------------------


def read_chunks(pieces) -> tuple:
    """Refusal or None, whether done, payload, trailers, and how many bytes belonged to the body."""
    body, payload, consumed = ChunkedBody(), b"", 0
    for piece in pieces:
        try:
            payload += b"".join(body.feed(piece))
        except BadRequest as error:
            return error.reason, error.status
        consumed += body.consumed
    return None, body.done, payload, body.trailers, consumed


def ways(raw: bytes):
    """The bytes whole, byte by byte, in two parts at every place, and with an empty part at every place."""
    yield [raw]
    yield [raw[i : i + 1] for i in range(len(raw))]
    for i in range(len(raw)):
        yield [raw[:i], raw[i:]]
        yield [memoryview(raw[:i]), b"", bytearray(raw[i:])]


@pytest.mark.parametrize(("raw", "reason"), cases("chunks_refused"))
def test_refuses_chunks(raw, reason):
    for pieces in ways(raw):
        assert read_chunks(pieces) == (reason, 400)
        assert read_chunks([*pieces, b"5\r\nhello"]) == (reason, 400)


@pytest.mark.parametrize(("raw", "payload", "trailers"), cases("chunks_accepted"))
def test_accepts_chunks(raw, payload, trailers):
    expected = None, True, payload.encode("latin-1"), as_fields(trailers), len(raw)
    for pieces in ways(raw):
        assert read_chunks(pieces) == expected
        assert read_chunks([*pieces[:-1], bytes(pieces[-1]) + raw, raw]) == expected


@pytest.mark.parametrize(("raw", "payload", "trailers"), cases("chunks_accepted"))
def test_awaits_the_rest_of_chunks(raw, payload, trailers):
    for end in range(len(raw)):
        error, done, got, trailers_yet, consumed = read_chunks([raw[:end]])
        assert (error, done, trailers_yet, consumed) == (None, False, (), end)
        assert payload.encode("latin-1").startswith(got)


def test_pieces_are_slices_of_what_was_fed():
    data = bytearray(b"5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\nGET")
    body = ChunkedBody()
    pieces = body.feed(data)
    assert [piece.obj for piece in pieces] == [data, data]
    assert data[body.consumed :] == b"GET"
    assert body.feed(b"5\r\nhello") == []
    assert body.consumed == 0


def test_takes_the_largest_chunk_size():
    body = ChunkedBody()
    assert body.feed(b"F" * 16 + b"\r\nab") == [b"ab"]
    assert body.feed(b"\r\n0\r\n\r\n") == [b"\r\n0\r\n\r\n"]
    assert not body.done


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_limits_the_trailer_section(step):
    def read(section_bytes: int) -> tuple:
        raw = b"0\r\nA: " + b"b" * (section_bytes - 9) + b"\r\n\r\n"
        return read_chunks([raw[i : i + step] for i in range(0, len(raw), step)])

    assert read(chunked.TRAILER_SECTION_BYTES_MAX)[1] is True
    assert read(chunked.TRAILER_SECTION_BYTES_MAX + 1) == (BadRequestReason.TRAILER, 400)


def test_limits_the_number_of_trailers():
    lines = b"A: b\r\n" * chunked.TRAILER_FIELDS_MAX
    assert len(read_chunks([b"0\r\n" + lines + b"\r\n"])[3]) == chunked.TRAILER_FIELDS_MAX
    assert read_chunks([b"0\r\n" + lines + b"A: b\r\n\r\n"]) == (BadRequestReason.TRAILER, 400)


def test_writes_chunks():
    assert http1.encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert http1.encode_chunk(memoryview(b"hello")[1:3]) == b"2\r\nel\r\n"
    assert http1.encode_chunk(b"") == b""  # an empty chunk would end the body
    assert http1.serialise_trailers([]) == http1.LAST_CHUNK
    assert http1.serialise_trailers([(b"A", b"b")]) == b"0\r\nA: b\r\n\r\n"


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=20), st.data())
def test_reads_the_chunks_that_it_writes_however_they_are_cut(payload, behind, data):
    body = b"".join(map(http1.encode_chunk, payload)) + http1.serialise_trailers([(b"X-Sum", b"1")])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body + behind)), max_size=10)))
    pieces = [(body + behind)[a:b] for a, b in itertools.pairwise([0, *cuts, len(body + behind)])]
    assert read_chunks(pieces) == (None, True, b"".join(payload), ((b"X-Sum", b"1"),), len(body))


# --- oracles ----------------------------------------------------------------------------------------------------------

NAMES = [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Content-Type", b"Expect", b"Upgrade", b"Trailer", b"X-A"]  # fmt: skip
VALUES = [b"", b"d", b"5", b"12", b"05", b"+5", b"5, 5", b"chunked", b"gzip, chunked", b"Chunked", b"close", b"keep-alive", b"upgrade", b"close, x-a",
          b"h2c", b"100-continue", b"a/b", b"\xe4", b"a\tb", b"\x00", b"a\rb"]  # fmt: skip
LIKELY = [
    (b"Host", b"d"),
    (b"Content-Length", b"5"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Connection", b"keep-alive"),
]


@functools.cache
def heads() -> st.SearchStrategy[bytes]:
    """Heads of which a good part is valid, and the rest is wrong in a place or two."""
    method = st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"X-A", b"CONNECT"])
    target = st.sampled_from([b"/", b"/a?b=c", b"/%2f", b"*", b"http://d/"]) | st.from_regex(rb"\A/[!-~]*\Z")
    pair = st.sampled_from(LIKELY) | st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=5))
    colon = st.sampled_from([b": "] * 9 + [b":", b":\t ", b" : "])
    end = st.sampled_from([b"\r\n"] * 12 + [b" \r\n", b"\t\r\n", b"\n", b"\r\n "])
    line = st.tuples(pair, colon, end).map(lambda drawn: drawn[0][0] + drawn[1] + drawn[0][1] + drawn[2])
    hosts = st.sampled_from([b"Host: d\r\n"] * 5 + [b"host:\r\n", b""])
    version = st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/1.2"])
    whole = st.tuples(method, target, version, hosts, st.lists(line, max_size=4))
    return whole.map(lambda drawn: b"%b %b %b\r\n%b%b\r\n" % (*drawn[:4], b"".join(drawn[4])))


def body_of(head: RequestHead) -> tuple[bytes, bytes]:
    """A body as the head frames it, and its payload; the longest ones are left out."""
    if head.framing.kind is FramingKind.CHUNKED:
        return b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello"
    payload = b"x" * (head.framing.length if 0 < head.framing.length < 1000 else 0)
    return payload, payload


def check_h11_agrees(raw: bytes, head: RequestHead) -> None:
    peer = h11.Connection(h11.SERVER)
    body, payload = body_of(head)
    peer.receive_data(raw + body)
    request = peer.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (head.method.encode(), head.target.encode())
    assert request.http_version == b"1.%d" % head.minor
    theirs = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"transfer-encoding"]
    ours = [(name, value) for name, value in head.fields if name.lower() != b"transfer-encoding"]
    # Ours alone: HTTP/1.0 without Host gets an empty one. Theirs alone: Transfer-Encoding in lower case.
    assert ours in (theirs, [*theirs, (b"Host", b"")])
    assert not head.expects_continue or peer.they_are_waiting_for_100_continue
    if head.framing.length < 1000:
        events = [peer.next_event()]
        while not isinstance(events[-1], h11.EndOfMessage):
            events.append(peer.next_event())
        assert b"".join(event.data for event in events[:-1]) == payload
        assert peer.trailing_data[0] == b""
    # Theirs alone: h11 keeps no connection of HTTP/1.0.
    assert peer.their_state is not h11.MUST_CLOSE or not head.keep_alive or head.minor == 0


class Seen:
    """What llhttp tells of a request."""

    def __init__(self) -> None:
        self.target, self.payload, self.fields, self.done = b"", b"", [], False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.payload += data

    def on_message_complete(self) -> None:
        self.done = True


LLHTTP_METHODS = {"GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT"}  # Theirs alone: a closed list of methods.


def check_llhttp_agrees(raw: bytes, head: RequestHead) -> None:
    seen = Seen()
    peer = httptools.HttpRequestParser(seen)
    body, payload = body_of(head)
    try:
        peer.feed_data(raw + body)
    except httptools.HttpParserUpgrade:
        payload = b""  # Theirs alone: what follows a head with Upgrade is left to the caller.
        assert head.has_upgrade
    assert (peer.get_method().decode(), seen.target.decode()) == (head.method, head.target)
    assert peer.get_http_version() == f"1.{head.minor}"
    ours = [(name, value) for name, value in head.fields if value or name != b"Host"]
    theirs = [(name, value.rstrip(b" \t")) for name, value in seen.fields if value or name != b"Host"]
    assert ours == [pair for pair in theirs if pair != (b"X-Sum", b"1")]
    assert seen.payload in (payload, b"")
    assert seen.done or head.framing.length >= 1000
    assert peer.should_keep_alive() or not head.keep_alive


@pytest.mark.parametrize(("raw", "expected"), cases("requests_accepted"))
def test_h11_reads_every_accepted_case_alike(raw, expected):
    check_h11_agrees(raw, parse_request(raw))


@settings(max_examples=500, deadline=None)
@given(heads())
def test_two_oracles_read_what_is_accepted_alike(raw):
    if refusal(raw):
        return
    head = parse_request(raw)
    check_h11_agrees(raw, head)
    if head.method in LLHTTP_METHODS:
        check_llhttp_agrees(raw, head)


@settings(max_examples=300, deadline=None)
@given(heads())
def test_request_survives_writing(raw):
    if refusal(raw):
        return
    head = parse_request(raw)
    passed = http1.end_to_end(head.fields, keep_upgrade=True)
    again = parse_request(http1.serialise_request_head(head.method, head.target, passed, head.framing))
    assert again[:2] == head[:2]
    assert (again.framing, again.has_upgrade) == (head.framing, head.has_upgrade)
    assert http1.end_to_end(again.fields, keep_upgrade=True) == passed


@settings(max_examples=300, deadline=None)
@given(heads())
def test_fast_and_plain_form_read_alike(raw):
    """The regexes against the plain readers, which go line by line."""
    line, _, section = raw.partition(b"\r\n")
    try:
        plain = *http1.read_request_line(line), fields.read_fields(section[:-2])
    except BadRequest:
        assert refusal(raw)
        return
    method, target, version, pairs = plain
    found = http1._REQUEST_LINE.match(raw)
    assert target == b"*" or (found and found.groups() == (method, target, version))
    assert fields.parse_fields(raw, len(line), FIELDS_MAX) == pairs


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"5\r\nhello\r\n", b"0\r\n", b"\r\n", b"A: b\r\n", b"a\r\n0123456789\r\n", b"5", b"\n", b"0"]), max_size=6))  # fmt: skip
def test_h11_reads_accepted_chunks_alike(parts):
    raw = b"".join(parts)
    outcome = read_chunks([raw])
    if outcome[0] is not None or not outcome[1]:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
    events = [peer.next_event()]
    while not isinstance(events[-1], h11.EndOfMessage):
        events.append(peer.next_event())
    _, _, payload, trailers, consumed = outcome
    assert b"".join(event.data for event in events[1:-1]) == payload
    assert tuple(events[-1].headers.raw_items()) == trailers
    assert peer.trailing_data[0] == raw[consumed:]


# --- cost -------------------------------------------------------------------------------------------------------------

M = 1 << 20
GET = b"GET /a HTTP/1.1\r\nHost: d\r\n"
HOSTILE = {  # each about a mebibyte; a reader whose time grows with the square would take hours
    "blanks": b" " * M,
    "letters": b"a" * M,
    "letters-for-a-target": b"GET /" + b"a" * M,
    "letters-for-a-version": b"GET /a " + b"a" * M + b"\r\n\r\n",
    "blanks-in-request-line": b"GET" + b" " * M + b"/ HTTP/1.1\r\n\r\n",
    "blanks-before-value": GET + b"A:" + b" " * M + b"b\r\n\r\n",
    "blanks-behind-value": GET + b"A: b" + b" " * M + b"\r\n\r\n",
    "blanks-inside-value": GET + b"A: b" + b" " * M + b"c\r\n\r\n",
    "blanks-between-letters": GET + b"A: " + b"b " * (M // 2) + b"\r\n\r\n",
    "blanks-and-a-control": GET + b"A: " + b"b " * (M // 2) + b"\x01\r\n\r\n",
    "name-without-colon": GET + b"A" * M + b"\r\n\r\n",
    "colons": GET + b":" * M + b"\r\n\r\n",
    "carriage-returns": GET + b"\r" * M + b"\r\n\r\n",
    "line-feeds": GET + b"\n" * M + b"\r\n\r\n",
    "empty-lines": GET + b"\r\n" * (M // 2) + b"\r\n\r\n",
    "folds": GET + b"A: b\r\n" + b" c\r\n" * (M // 4) + b"\r\n",
    "fields": GET + b"A:\r\n" * (M // 4) + b"\r\n",
    "fields-and-a-bad-one": GET + b"A:\r\n" * (M // 4) + b"A \r\n\r\n",
    "connections": GET + b"Connection: a\r\n" * (M // 15) + b"\r\n",
    "lengths": GET + b"Content-Length: 5\r\n" * (M // 19) + b"\r\n",
    "length-digits": GET + b"Content-Length: " + b"1" * M + b"\r\n\r\n",
    "commas": GET + b"Connection: " + b"," * M + b"\r\n\r\n",
    "options": GET + b"Connection: " + b"a , " * (M // 4) + b"\r\n\r\n",
    "blanks-in-connection": GET + b"Connection: a" + b" " * M + b"b\r\n\r\n",
    "letters-for-a-host": b"GET / HTTP/1.1\r\nHost: " + b"a" * M + b"/\r\n\r\n",
    "escapes-for-a-host": b"GET / HTTP/1.1\r\nHost: " + b"%41a" * (M // 4) + b"/\r\n\r\n",
    "brackets-for-a-host": b"GET / HTTP/1.1\r\nHost: [" + b":" * M + b"\r\n\r\n",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in HOSTILE.items()])
def test_time_grows_no_faster_than_the_head(raw):
    for fields_max in (1000, M):
        try:
            http1.parse_request_head(raw, fields_max)
        except BadRequest as error:
            assert error.reason
        with pytest.raises(EngineError):
            http1.parse_response_head(raw, fields_max, "GET")


@pytest.mark.timeout(20)
def test_time_grows_no_faster_than_the_chunks():
    raw = b"1\r\nx\r\n" * (M // 6) + http1.LAST_CHUNK
    for step in (1, 5, M):
        outcome = read_chunks([memoryview(raw)[i : i + step] for i in range(0, len(raw), step)][:200_000])
        assert outcome[0] is None


@pytest.mark.timeout(60)
def test_fuzz_target_finds_nothing():
    done = subprocess.run(
        [sys.executable, TESTS / "fuzz" / "fuzz_http1.py", "--runs", "5000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {"request: head", "response: head", "chunks: done"} <= {
        line.split(maxsplit=1)[1] for line in done.stdout.splitlines()
    }
