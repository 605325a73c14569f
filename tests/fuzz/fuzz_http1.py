"""Fuzzes the readers of `sockproxy.wire.http1`: whatever the bytes, only the outcomes listed here may come out.

    python tests/fuzz/fuzz_http1.py [--runs N] [--seed S]      mutates the rows of tests/cases/http1_*.json
    python tests/fuzz/fuzz_http1.py --atheris [...]            guided by coverage, where atheris is installed

Every other exception, and every broken law, is a finding: it ends the run and shows the bytes.
"""

import argparse
import collections
import json
import pathlib
import random
import sys

from sockproxy.errors import BadRequest, BadRequestReason, EngineError, EngineErrorReason
from sockproxy.wire import http1

FIELDS_MAX = 20

REFUSALS = {
    # what parse_request_head may refuse a head with, and the status that answers it
    BadRequestReason.REQUEST_LINE: 400,
    BadRequestReason.METHOD: 400,
    BadRequestReason.HTTP_VERSION: 400,
    BadRequestReason.TARGET: 400,
    BadRequestReason.TARGET_FORM: 400,
    BadRequestReason.LINE_END: 400,
    BadRequestReason.FIELD_NAME: 400,
    BadRequestReason.FIELD_VALUE: 400,
    BadRequestReason.FIELD_FOLDED: 400,
    BadRequestReason.HOST: 400,
    BadRequestReason.CONTENT_LENGTH: 400,
    BadRequestReason.TRANSFER_ENCODING: 400,
    BadRequestReason.BOTH_LENGTHS: 400,
    BadRequestReason.CONTENT_TYPE: 400,
    BadRequestReason.TRAILER: 400,
    BadRequestReason.INCOMPLETE: 400,
    BadRequestReason.EXPECT: 417,
    BadRequestReason.TOO_MANY_FIELDS: 431,
}
CHUNK_REFUSALS = {BadRequestReason.CHUNK, BadRequestReason.TRAILER}

Chunked = tuple[str, bytes, tuple[http1.Field, ...], int]


def request_outcome(raw: bytes) -> str:
    try:
        head = http1.parse_request_head(raw, FIELDS_MAX)
    except BadRequest as error:
        assert error.status == REFUSALS[error.reason], error.reason
        return f"request: {error.reason}"
    passed = http1.end_to_end(head.fields, keep_upgrade=True)
    again = http1.parse_request_head(
        http1.serialise_request_head(head.method, head.target, passed, head.framing), FIELDS_MAX + 2
    )
    assert (again.method, again.target, again.framing) == (head.method, head.target, head.framing)
    assert http1.end_to_end(again.fields, keep_upgrade=True) == passed
    assert again.has_upgrade == head.has_upgrade
    return "request: head"


def response_outcome(raw: bytes, method: str) -> str:
    try:
        head = http1.parse_response_head(raw, FIELDS_MAX, method)
    except EngineError as error:
        assert (error.status, error.reason) == (502, EngineErrorReason.MALFORMED)
        return "response: malformed"
    passed = http1.end_to_end(head.fields, keep_upgrade=True)
    written = http1.serialise_response_head(1, head.status, head.reason, passed, head.framing)
    again = http1.parse_response_head(written, FIELDS_MAX + 2, method)
    assert (again.status, again.reason, again.framing) == (head.status, head.reason, head.framing)
    assert http1.end_to_end(again.fields, keep_upgrade=True) == passed
    return "response: head"


def read_chunks(pieces: list[bytes]) -> Chunked:
    """What a ChunkedBody makes of a body that arrives like this: outcome, payload, trailers, bytes that belong to it."""
    body = http1.ChunkedBody()
    payload, consumed = b"", 0
    for piece in pieces:
        try:
            payload += b"".join(body.feed(piece))
        except BadRequest as error:
            assert error.status == 400 and error.reason in CHUNK_REFUSALS, error.reason
            return f"chunks: {error.reason}", b"", (), 0
        consumed += body.consumed
        assert body.done or body.consumed == len(piece)
    return ("chunks: done" if body.done else "chunks: more"), payload, body.trailers, consumed


def chunks_outcome(raw: bytes) -> str:
    whole = read_chunks([raw])
    assert read_chunks([raw[i : i + 1] for i in range(len(raw))]) == whole
    assert read_chunks([raw[: len(raw) // 2], raw[len(raw) // 2 :]]) == whole
    outcome, payload, trailers, consumed = whole
    if outcome == "chunks: done":
        written = http1.encode_chunk(payload) + http1.serialise_trailers(trailers)
        assert read_chunks([written, raw[consumed:]]) == (outcome, payload, trailers, len(written))
    return outcome


def check(raw: bytes) -> list[str]:
    """The outcomes for some bytes; raises for whatever is not listed above."""
    return [request_outcome(raw), response_outcome(raw, "GET"), response_outcome(raw, "HEAD"), chunks_outcome(raw)]


SPICES = [bytes([byte]) for byte in (0, 9, 10, 11, 13, 32, 35, 43, 44, 45, 48, 58, 59, 127, 128, 255)] + [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"chunked",
    b"Host: d\r\n",
    b"HTTP/1.0",
]


def mutate(raw: bytes, dice: random.Random) -> bytes:
    """The bytes with up to four places cut, doubled, replaced or spiced."""
    for _ in range(dice.randint(0, 4)):
        start = dice.randint(0, len(raw))
        end = min(len(raw), start + dice.choice((0, 0, 1, 1, 2, 8, 40)))
        raw = raw[:start] + dice.choice((b"", raw[start:end] * 2, *dice.sample(SPICES, 4))) + raw[end:]
    return raw


def seeds() -> list[list[bytes]]:
    """The raw bytes of all case files, file by file, so that each kind gets its share."""
    cases = pathlib.Path(__file__).parent.parent / "cases"
    return [
        [row[1].encode("latin-1") for row in json.loads(path.read_text())]
        for path in sorted(cases.glob("http1_*.json"))
    ]


def run(runs: int, seed: int) -> collections.Counter[str]:
    dice = random.Random(seed)
    pool = seeds()
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(runs):
        raw = mutate(dice.choice(dice.choice(pool)), dice)
        try:
            outcomes.update(check(raw))
        except Exception as error:
            raise SystemExit(f"run {number} of seed {seed}: {type(error).__name__} {error}: {raw!r}") from error
    return outcomes


def run_atheris(arguments: list[str]) -> None:
    import atheris  # type: ignore[import-not-found]  # optional, and heavy to import

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments], check)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="further arguments are libFuzzer's")
    options, rest = parser.parse_known_args()
    if options.atheris:
        run_atheris(rest)
        return
    for outcome, count in sorted(run(options.runs, options.seed).items()):
        print(f"{count:9}  {outcome}")


if __name__ == "__main__":
    main()
