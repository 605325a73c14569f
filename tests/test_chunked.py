"""`wire.chunked`: the tables of tests/cases/http1_chunks_*.json whole, cut at every place, and with bytes behind; the
laws; and h11 as oracle. Ids name the section that rules; bytes stand in the tables as Latin-1 text.
"""

import itertools
import json
import pathlib

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.wire import chunked, http1
from sockproxy.wire.chunked import ChunkedBody

CASES = pathlib.Path(__file__).parent / "cases"


def cases(name: str) -> list:
    rows = json.loads((CASES / f"http1_chunks_{name}.json").read_text())
    return [pytest.param(row[1].encode("latin-1"), *row[2:], id=row[0]) for row in rows]


def as_fields(rows: list[list[str]]) -> tuple[http1.Field, ...]:
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in rows)


def read_chunks(pieces) -> tuple:
    """Refusal or None, whether done, payload, trailers, and how many bytes belonged to the body."""
    body, payload, consumed = ChunkedBody(), bytearray(), 0
    for piece in pieces:
        try:
            payload += b"".join(body.feed(piece))
        except BadRequest as error:
            return error.reason, error.status
        consumed += body.consumed
    return None, body.done, bytes(payload), body.trailers, consumed


def ways(raw: bytes):
    """The bytes whole, byte by byte, in two parts at every place, and with an empty part at every place."""
    yield [raw]
    yield [raw[i : i + 1] for i in range(len(raw))]
    for i in range(len(raw)):
        yield [raw[:i], raw[i:]]
        yield [memoryview(raw[:i]), b"", bytearray(raw[i:])]


@pytest.mark.parametrize(("raw", "reason"), cases("refused"))
def test_refuses_chunks(raw, reason):
    for pieces in itertools.chain(ways(raw), ways(b"1\r\nx\r\n" + raw)):
        assert read_chunks(pieces) == (reason, 400)
        assert read_chunks([*pieces, b"5\r\nhello"]) == (reason, 400)


@pytest.mark.parametrize(("raw", "payload", "trailers"), cases("accepted"))
def test_accepts_chunks(raw, payload, trailers):
    expected = None, True, payload.encode("latin-1"), as_fields(trailers), len(raw)
    for pieces in ways(raw):
        assert read_chunks(pieces) == expected
        assert read_chunks([*pieces[:-1], bytes(pieces[-1]) + raw, raw]) == expected


@pytest.mark.parametrize(("raw", "payload", "trailers"), cases("accepted"))
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


PARTS = [b"5\r\nhello\r\n", b"0\r\n", b"\r\n", b"A: b\r\n", b"a\r\n0123456789\r\n", b"5", b"\n", b"0"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=6))
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


@pytest.mark.timeout(20)
def test_time_grows_no_faster_than_the_chunks():
    raw = b"1\r\nx\r\n" * ((1 << 20) // 6) + http1.LAST_CHUNK
    for step in (1, 5, 1 << 20):
        starts = itertools.islice(range(0, len(raw), step), 100_000)
        outcome = read_chunks(raw[start : start + step] for start in starts)
        assert outcome[0] is None


# --- canonical framing, and its fast twin

SIZE_LINES = st.sampled_from([b"%x", b"%X", b"0%x"])
CHUNKS = st.lists(st.tuples(SIZE_LINES, st.integers(1, 40)), max_size=8)


def cut_up(raw: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(bounds)]


@given(CHUNKS, st.lists(st.integers(0, 1000), max_size=8))
def test_chunks_in_canonical_framing_with_and_without_hops_however_they_are_cut(chunks, places):
    bodies = [(line % size, b"x" * size) for line, size in chunks]
    raw = b"".join(b"%b\r\n%b\r\n" % body for body in bodies) + b"00\r\nA:b\r\n\r\n"
    canonical = b"".join(http1.encode_chunk(payload) for _, payload in bodies) + b"0\r\nA: b\r\n\r\n"
    plain, hopping, out, hopped_out = ChunkedBody(), ChunkedBody(), b"", b""
    for piece in cut_up(raw, places):
        out += b"".join(plain.reframe(piece))
        hopped = hopping.hop(piece)
        hopped_out += piece[:hopped]
        if hopped < len(piece):
            hopped_out += b"".join(hopping.reframe(piece[hopped:]))
        assert hopped_out == out
        assert hopping.payload_bytes == plain.payload_bytes
    assert out == canonical
    assert plain.payload_bytes == sum(size for _, size in chunks)
    assert plain.done
    assert hopping.done


@pytest.mark.parametrize("line", [b"A", b"0a", b"0", b"a ", b"a;b=c", b"-a", b"1" * 17])
def test_hops_over_nothing_but_canonical_size_lines(line):
    body = ChunkedBody()
    body.feed(b"3\r\nx")
    assert body.hop(b"yz\r\n5\r\nhello\r\n2") == len(b"yz\r\n5\r\n")  # the chunk's end is not whole
    body = ChunkedBody()
    body.feed(b"3\r\nx")
    assert body.hop(b"yz\r\n%b\r\n0123456789\r\n" % line) == 0
    assert body.hop(b"yz") == 0
    assert body.hop(b"y") == 1
