"""Fuzzes the reading of bodies: whatever the bytes, a body is refused with 400, or has a canonical form that reads the same.

    python tests/fuzz/fuzz_payload.py [--runs N] [--seed S]    mutates the rows of tests/cases/bodies_*.json

Every other exception, and every broken law, is a finding: it ends the run and shows the bytes.
"""

import argparse
import collections
import json
import pathlib
import random
import sys

from sockproxy.data import load_bodies
from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.payload import Bodies, UnknownFields

CASES = pathlib.Path(__file__).parents[1] / "cases"
BODIES = Bodies(*load_bodies())
OPERATIONS = sorted(BODIES.operations)
PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\u003a",
    b"\xff",
    b"\xe2\x84\xaa",
    b"\xc5\xbf",
    b"null",
    b"1e9",
    b"-0",
    b"\x00",
]

Case = tuple[str, bytes]


def outcome(operation: str, raw: bytes, mode: UnknownFields) -> str:
    try:
        payload = BODIES.read_payload(operation, None, raw, mode)
    except BadRequest as error:
        assert error.status == 400
        assert error.reason in (BadRequestReason.BODY, BadRequestReason.UNKNOWN_FIELD)
        assert error.reason is BadRequestReason.BODY or mode is UnknownFields.DENY
        assert error.detail.isprintable()
        return f"{mode}: {error.reason}"
    assert BODIES.read_payload(operation, None, payload.canonical, mode) == payload
    assert payload.canonical in (b"", b"null") or json.loads(payload.canonical) == payload.data
    return f"{mode}: read"


def load_cases() -> list[Case]:
    rows = [row for name in ("read", "refused") for row in json.loads((CASES / f"bodies_{name}.json").read_text())]
    return [(row["operation"], bytes.fromhex(row["hex"]) if "hex" in row else row["body"].encode()) for row in rows]


def mutate(choose: random.Random, cases: list[Case]) -> Case:
    operation, raw = choose.choice(cases)
    if choose.random() < 0.1:
        operation = choose.choice(OPERATIONS)
    for _ in range(choose.randrange(1, 4)):
        at = choose.randrange(len(raw) + 1)
        end = min(len(raw), at + choose.choice([0, 0, 1, 4]))
        other = choose.choice(cases)[1]
        some = choose.randrange(len(other) + 1)
        raw = raw[:at] + choose.choice([choose.choice(PIECES), other[some : some + 12], raw[at : at + 8]]) + raw[end:]
    return operation, raw


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    choose = random.Random(options.seed)
    cases = load_cases()
    seen: collections.Counter[str] = collections.Counter()
    for run in range(options.runs):
        operation, raw = mutate(choose, cases)
        for mode in UnknownFields:
            try:
                seen[outcome(operation, raw, mode)] += 1
            except Exception:
                print(f"finding in run {run} of seed {options.seed}: {operation} {mode} {raw!r}", file=sys.stderr)
                raise
    print(f"seed {options.seed}", *(f"{count:8} {name}" for name, count in sorted(seen.items())), sep="\n")


if __name__ == "__main__":
    main()
