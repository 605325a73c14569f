"""`wire.http1` and its neighbours: the tables of tests/cases/http1_*.json, the laws, and two oracles (h11, llhttp).

An id names the section that rules, or the client or engine that was seen to send it. Bytes stand in the tables as
Latin-1 text.
"""

import functools
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
from sockproxy.wire import fields, http1
from sockproxy.wire.http1 import CHUNKED, NO_BODY, UNTIL_CLOSE, Framing, FramingKind, RequestHead

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


def test_a_section_of_fields_that_was_seen_before_is_read_as_it_would_be_anew():
    section = b"Host: d\r\nA: b\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    newer, older = (parse_request(b"POST / HTTP/1.%d\r\n" % minor + section) for minor in (1, 0))
    assert (newer.expects_continue, newer.keep_alive) == (True, True)
    assert (older.expects_continue, older.keep_alive) == (False, False)
    assert parse_request(b"PUT /x HTTP/1.1\r\n" + section) == newer._replace(method="PUT", target="/x")
    with pytest.raises(BadRequest) as raised:
        http1.parse_request_head(b"POST / HTTP/1.1\r\n" + section, fields_max=3)
    assert raised.value.reason is BadRequestReason.TOO_MANY_FIELDS


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


# --- oracles ----------------------------------------------------------------------------------------------------------

NAMES = [
    *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection"),
    *(b"Content-Type", b"Expect", b"Upgrade", b"Trailer", b"X-A"),
]
VALUES = [
    *(b"", b"d", b"5", b"12", b"05", b"+5", b"5, 5", b"a/b", b"\xe4", b"a\tb", b"\x00", b"a\rb"),
    *(
        b"chunked",
        b"gzip, chunked",
        b"Chunked",
        b"close",
        b"keep-alive",
        b"upgrade",
        b"close, x-a",
        b"h2c",
        b"100-continue",
    ),
]
LIKELY = [
    (b"Host", b"d"),
    (b"Content-Length", b"5"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Connection", b"keep-alive"),
]


@functools.cache
def field_lines() -> st.SearchStrategy[bytes]:
    pair = st.sampled_from(LIKELY) | st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=5))
    colon = st.sampled_from([b": "] * 9 + [b":", b":\t ", b" : "])
    end = st.sampled_from([b"\r\n"] * 12 + [b" \r\n", b"\t\r\n", b"\n", b"\r\n "])
    line = st.tuples(pair, colon, end).map(lambda drawn: drawn[0][0] + drawn[1] + drawn[0][1] + drawn[2])
    return st.lists(line, max_size=4).map(b"".join)


@functools.cache
def heads() -> st.SearchStrategy[bytes]:
    """Heads of which a third is valid, and the rest is wrong in a place or two."""
    method = st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"X-A"])
    target = st.sampled_from([b"/", b"/a?b=c", b"/%2f", b"*"]) | st.from_regex(rb"\A/[!-\"$-~]*\Z")
    hosts = st.sampled_from([b"Host: d\r\n"] * 5 + [b"host:\r\n", b""])
    version = st.sampled_from([b"HTTP/1.1"] * 3 + [b"HTTP/1.0"])
    whole = st.tuples(method, target, version, hosts, field_lines())
    return whole.map(lambda drawn: b"%b %b %b\r\n%b%b\r\n" % drawn)


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
        self.parser = httptools.HttpRequestParser(self)
        self.keep_alive = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.payload += data

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self.done = True


LLHTTP_METHODS = {"GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT"}  # Theirs alone: a closed list of methods.


def check_llhttp_agrees(raw: bytes, head: RequestHead) -> None:
    seen = Seen()
    peer = seen.parser
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
    assert seen.keep_alive or not head.keep_alive


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
    # Theirs alone: llhttp refuses a tab behind "chunked", which is one of the blanks around a value.
    if head.method in LLHTTP_METHODS and b"chunked\t" not in raw.lower():
        check_llhttp_agrees(raw, head)


def check_h11_agrees_on_response(raw: bytes, method: str, head: http1.ResponseHead) -> None:
    peer = h11.Connection(h11.CLIENT)
    peer.send(
        h11.Request(
            method=method, target="/", headers=[(b"Host", b"d"), (b"Connection", b"upgrade"), (b"Upgrade", b"tcp")]
        )
    )
    peer.send(h11.EndOfMessage())
    peer.receive_data(raw)
    response = peer.next_event()
    assert isinstance(response, h11.InformationalResponse if head.status < 200 else h11.Response)
    assert (response.status_code, response.reason) == (head.status, head.reason)
    theirs = [(name, value) for name, value in response.headers.raw_items() if name.lower() != b"transfer-encoding"]
    assert theirs == [(name, value) for name, value in head.fields if name.lower() != b"transfer-encoding"]
    if head.framing.kind is FramingKind.NONE and head.status >= 200:
        assert isinstance(peer.next_event(), h11.EndOfMessage)
    if head.framing.length > 0 and head.framing.kind is FramingKind.LENGTH:
        assert peer.next_event() is h11.NEED_DATA


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"200 OK", b"204 ", b"304 a b", b"101 UPGRADED", b"100 Continue", b"500 \xff"]), field_lines())
def test_h11_reads_an_accepted_response_alike(status, lines):
    raw = b"HTTP/1.1 %b\r\n%b\r\n" % (status, lines)
    for method in ("GET", "HEAD"):
        try:
            head = http1.parse_response_head(raw, FIELDS_MAX, method)
        except EngineError:
            return
        check_h11_agrees_on_response(raw, method, head)


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
    if not raw.endswith(b"\r\n\r\n"):
        assert refusal(raw)
        return
    try:
        plain = *http1.read_request_line(line), fields.read_fields(section[:-2])
    except BadRequest:
        assert refusal(raw)
        return
    method, target, version, pairs = plain
    found = http1._REQUEST_LINE.match(raw)
    assert target == b"*" or (found and found.groups() == (method, target, version))
    assert fields.parse_fields(raw, len(line), FIELDS_MAX) == pairs


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
