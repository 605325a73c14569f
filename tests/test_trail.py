"""Trails read back: every way to tamper with one shows, and what is told of one is right."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import ConfigError
from sockproxy.recording.event import GENESIS, chain_hash
from sockproxy.recording.trail import ANYWHERE, BreakKind, describe, principal_of, read_events, verify, verifying

CASE = Path(__file__).parent / "cases" / "audit_trail.jsonl"
LINES = CASE.read_bytes().splitlines(keepends=True)
LAST_HASH = json.loads(LINES[-1])["hash"]

Lines = list[bytes]


def file_of(folder: Path, lines: Lines, name: str = "audit.jsonl") -> str:
    path = folder / name
    path.write_bytes(b"".join(lines))
    return str(path)


def rehash(lines: Lines, first: int, *, seq: int | None = None) -> Lines:
    """What somebody does who knows how the chain is made: the lines from `first` on are chained anew."""
    previous = json.loads(lines[first - 1])["hash"] if first else GENESIS
    forged = lines[:first]
    for line in lines[first:]:
        event = json.loads(line)
        del event["hash"]
        event["prev"] = previous
        event["seq"] = event["seq"] if seq is None else seq
        previous = event["hash"] = chain_hash(previous, event)
        forged.append(json.dumps(event).encode() + b"\n")
    return forged


def test_a_whole_trail_is_whole(tmp_path: Path) -> None:
    report = verify([file_of(tmp_path, LINES)])
    assert report.is_whole
    assert (report.files, report.lines, report.trails) == (1, 9, 1)
    assert (report.decided, report.completed, report.unfinished) == (4, 5, 0)
    assert (report.first_seq, report.last_seq, report.last_hash) == (1, 9, LAST_HASH)


def test_an_empty_trail_is_whole(tmp_path: Path) -> None:
    assert verify([file_of(tmp_path, [])]).is_whole
    assert verify([file_of(tmp_path, [])], expected_last_hash=LAST_HASH).broken.kind is BreakKind.END


TAMPERED: list[tuple[str, Callable[[Lines], Lines], int, BreakKind]] = [
    ("value-changed", lambda x: [*x[:3], x[3].replace(b"204", b"409"), *x[4:]], 4, BreakKind.CHANGED),
    ("value-retyped", lambda x: [*x[:3], x[3].replace(b"204", b'"204"'), *x[4:]], 4, BreakKind.CHANGED),
    ("hash-changed", lambda x: [*x[:3], x[3].replace(b'"hash":"2', b'"hash":"0'), *x[4:]], 4, BreakKind.CHANGED),
    ("key-added", lambda x: [x[0].replace(b'{"api', b'{"a":"","api'), *x[1:]], 1, BreakKind.CHANGED),
    ("key-doubled", lambda x: [x[0].replace(b'{"api', b'{"effect":"deny","api'), *x[1:]], 1, BreakKind.CHANGED),
    ("key-doubled-within", lambda x: [x[0].replace(b'"uid":', b'"uid":0,"uid":'), *x[1:]], 1, BreakKind.CHANGED),
    ("last-changed", lambda x: [*x[:8], x[8].replace(b"deny", b"allow")], 9, BreakKind.CHANGED),
    (
        "changed-and-hashed",
        lambda x: x[:3] + _allowed(x, 3),
        5,
        BreakKind.CHANGED,
    ),
    ("first-removed", lambda x: x[1:], 1, BreakKind.REMOVED),
    ("one-removed", lambda x: x[:3] + x[4:], 4, BreakKind.REMOVED),
    ("many-removed", lambda x: x[:1] + x[8:], 2, BreakKind.REMOVED),
    ("removed-and-hashed", lambda x: rehash(x[:3] + x[4:], 3), 4, BreakKind.SEQ_GAP),
    ("doubled", lambda x: [*x[:4], x[3], *x[4:]], 5, BreakKind.DUPLICATE),
    ("swapped", lambda x: [*x[:3], x[4], x[3], *x[5:]], 4, BreakKind.REMOVED),
    ("older-moved-behind", lambda x: [*x, x[4]], 10, BreakKind.DUPLICATE),
    ("trail-doubled", lambda x: x + x, 10, BreakKind.DUPLICATE),
    ("not-json", lambda x: [*x[:2], b"hello\n", *x[2:]], 3, BreakKind.UNREADABLE),
    ("not-utf-8", lambda x: [*x[:2], b'{"v":"\xff"}\n', *x[2:]], 3, BreakKind.UNREADABLE),
    ("not-an-event", lambda x: [*x[:2], b'{"v":1}\n', *x[2:]], 3, BreakKind.UNREADABLE),
    ("not-an-object", lambda x: [*x[:2], b"[]\n", *x[2:]], 3, BreakKind.UNREADABLE),
    ("another-version", lambda x: [x[0].replace(b'"v":1', b'"v":2'), *x[1:]], 1, BreakKind.UNREADABLE),
    ("seq-no-number", lambda x: [x[0].replace(b'"seq":1', b'"seq":"1"'), *x[1:]], 1, BreakKind.UNREADABLE),
    ("blank-line", lambda x: [*x[:2], b"\n", *x[2:]], 3, BreakKind.UNREADABLE),
    ("nested-without-end", lambda x: [*x, b"[" * 100_000 + b"\n"], 10, BreakKind.UNREADABLE),
    ("too-long", lambda x: [*x, b" " * (verifying.LINE_BYTES_MAX + 1), b"\n"], 10, BreakKind.UNREADABLE),
    ("torn", lambda x: [*x[:8], x[8][:100]], 9, BreakKind.TORN),
    ("newline-missing", lambda x: [*x[:8], x[8][:-1]], 9, BreakKind.TORN),
    ("glued", lambda x: [*x[:3], x[3][:-1], *x[4:]], 4, BreakKind.UNREADABLE),
]


def _allowed(lines: Lines, index: int) -> Lines:
    """A line that says something else and carries the hash of that, before the lines that follow unchanged."""
    forged = lines[index].replace(b'"shadow":"deny"', b'"shadow":null')
    return [rehash([*lines[:index], forged], index)[index], *lines[index + 1 :]]


@pytest.mark.parametrize(("id", "tamper", "line", "kind"), TAMPERED, ids=[row[0] for row in TAMPERED])
def test_tampering_shows(tmp_path: Path, id: str, tamper: Callable[[Lines], Lines], line: int, kind: BreakKind) -> None:
    path = file_of(tmp_path, tamper(LINES))
    report = verify([path])
    assert report.broken is not None
    assert (report.broken.file, report.broken.line, report.broken.kind) == (path, line, kind)
    assert report.lines == line - 1
    assert str(report.broken).startswith(f"{path}:{line}: {kind.value}: ")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, CASE.stat().st_size - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(tmp_path_factory: pytest.TempPathFactory, place: int, flip: int) -> None:
    content = bytearray(CASE.read_bytes())
    content[place] ^= flip
    assert not verify([file_of(tmp_path_factory.getbasetemp(), [bytes(content)])]).is_whole


def test_no_line_but_the_last_can_be_removed(tmp_path: Path) -> None:
    for first in range(len(LINES)):
        for behind in range(first + 1, len(LINES)):
            assert not verify([file_of(tmp_path, LINES[:first] + LINES[behind:])]).is_whole


def test_a_cut_end_shows_against_a_noted_hash(tmp_path: Path) -> None:
    whole, cut = file_of(tmp_path, LINES, "whole"), file_of(tmp_path, LINES[:-1], "cut")
    assert verify([whole], expected_last_hash=LAST_HASH).is_whole
    assert verify([cut]).is_whole
    broken = verify([cut], expected_last_hash=LAST_HASH).broken
    assert broken is not None
    assert (broken.line, broken.kind) == (8, BreakKind.END)


def test_the_form_of_a_line_does_not_matter(tmp_path: Path) -> None:
    reordered = [json.dumps(json.loads(line), sort_keys=True, indent=None).encode() + b"\n" for line in LINES]
    assert verify([file_of(tmp_path, reordered)]).is_whole


def test_a_trail_over_several_files(tmp_path: Path) -> None:
    older, newer = file_of(tmp_path, LINES[:4], "audit.jsonl.1"), file_of(tmp_path, LINES[4:], "audit.jsonl")
    packed = tmp_path / "audit.jsonl.2.gz"
    packed.write_bytes(gzip.compress(b"".join(LINES[:4])))
    assert verify([older, newer]).lines == 9
    assert verify([str(packed), newer]).lines == 9
    assert verify([newer, str(packed)]).is_whole
    assert verify([newer, older]).is_whole
    assert verify([newer]).broken.kind is BreakKind.REMOVED
    noted = json.loads(LINES[3])["hash"]
    assert verify([newer], previous_hash=noted).lines == 5
    assert verify([newer], previous_hash="1" * 64).broken.kind is BreakKind.REMOVED
    assert verify([older], previous_hash=noted).broken.kind is BreakKind.CHANGED


def test_trails_one_behind_the_other(tmp_path: Path) -> None:
    others = rehash([line.replace(b"a-", b"b-") for line in LINES], 0)
    report = verify([file_of(tmp_path, LINES[:5] + others)])
    assert (report.is_whole, report.trails, report.lines, report.last_seq) == (True, 2, 14, 9)


def test_pieces_of_several_trails_are_no_one_trail(tmp_path: Path) -> None:
    others = rehash([line.replace(b"a-", b"b-") for line in LINES], 0)
    files = [file_of(tmp_path, LINES[3:], "audit.jsonl"), file_of(tmp_path, others[3:], "audit.jsonl.2")]
    assert all(verify([file], previous_hash=ANYWHERE).is_whole for file in files)
    broken = verify(files, previous_hash=ANYWHERE).broken
    assert broken is not None
    assert "are verified one by one" in broken.message


def test_what_was_decided_and_not_completed_is_told(tmp_path: Path) -> None:
    report = verify([file_of(tmp_path, LINES[:5])])
    assert (report.is_whole, report.unfinished) == (True, 1)


def test_memory_is_bounded() -> None:
    recent = verifying._Recent(2)
    for item in "abcb":
        recent.add(item)
    recent.remove("z")
    assert ("a" in recent, "b" in recent, len(recent), recent.forgotten) == (False, True, 2, 1)


CUT = gzip.compress(b"x" * 1000, mtime=0)[:-9]  # with no time in it, which would be in the test's name
UNREADABLE = [("missing", None), ("folder", None), ("cut.gz", CUT), ("no.gz", b"plain")]


@pytest.mark.parametrize(("name", "content"), UNREADABLE)
def test_an_unreadable_file_is_an_error(tmp_path: Path, name: str, content: bytes | None) -> None:
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        verify([str(tmp_path / name)])


def test_events_of_several_files_are_read(tmp_path: Path) -> None:
    older, newer = file_of(tmp_path, [*LINES[:4], b'{"v":1,'], "older"), file_of(tmp_path, LINES[4:], "newer")
    assert [event["seq"] for event in read_events([older, newer])] == list(range(1, 10))


@pytest.mark.parametrize("line", [b"hello\n", b" " * (verifying.LINE_BYTES_MAX + 1)], ids=["not-json", "too-long"])
def test_what_is_no_event_is_an_error(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(ConfigError) as error:
        list(read_events([file_of(tmp_path, [LINES[0], line])]))
    assert error.value.findings[0].line == 2


PRINCIPALS = [
    ({"kind": "unix", "uid": 0}, "uid:0"),
    ({"kind": "unix", "uid": 1000, "container": "web"}, "web"),
    ({"kind": "tcp", "address": "10.0.0.1:4242"}, "10.0.0.1"),
    ({"kind": "tcp", "address": "[::1]:4242"}, "[::1]"),
    ({"kind": "tcp", "address": "10.0.0.1:4242", "tls_subject": "CN=ci"}, "CN=ci"),
    ({"kind": "unix"}, "unknown"),
]


@pytest.mark.parametrize(("principal", "name"), PRINCIPALS, ids=[row[1] for row in PRINCIPALS])
def test_name_of_a_principal(principal: dict[str, object], name: str) -> None:
    assert principal_of({"principal": principal}) == name


def test_an_event_as_a_line() -> None:
    lines = [describe(event) for event in read_events([str(CASE)])]
    assert lines[1] == (
        "2025-01-01T00:00:00.252500Z completed allow 200 2.5 ms ContainerList uid:1000 "
        "GET /v1.41/containers/json [ci/allow[0]: allowed by rule]"
    )
    assert "allow (shadow: deny) ContainerStart" in lines[2]


def test_a_line_for_people_moves_no_cursor() -> None:
    event = json.loads(LINES[0]) | {"target": "/\x1b[2J\n"}
    assert describe(event).isprintable()


@pytest.mark.parametrize("stage", ["begun", "checkpoint", None, ["decided"]])
def test_a_line_of_no_stage_that_there_is_is_told_of(tmp_path: Path, stage: object) -> None:
    forged = json.dumps(json.loads(LINES[0]) | {"stage": stage}).encode() + b"\n"
    broken = verify([file_of(tmp_path, rehash([forged], 0))]).broken
    assert broken is not None and broken.kind is BreakKind.UNREADABLE


def test_an_outsider_agrees_on_the_case() -> None:
    event = json.loads(LINES[0])
    claimed = event.pop("hash")
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256((event["prev"] + text).encode()).hexdigest() == claimed
