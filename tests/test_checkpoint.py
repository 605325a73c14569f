"""Checkpoints: when a trail is signed, who can tell, and what whoever has no key can still do to it without being seen."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import ConfigError
from sockproxy.operating.querying import Archive
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.checkpoint import (
    CHECKPOINT_FIELDS,
    Seal,
    Terms,
    load_signer,
    load_verifier,
    name_of_trail,
)
from sockproxy.recording.event import GENESIS, chain_hash
from sockproxy.recording.following import follow
from sockproxy.recording.prepared import Place
from sockproxy.recording.sinks import FileSink, keep_beside, open_sink, read_beside
from sockproxy.recording.trail import BreakKind, Expected, Report, read_events, read_verified, verify
from tests.exchanges import START, answered, decided

Lines = list[bytes]

OFTEN = Terms(every=10, seconds=10)


class Keys:
    """A pair of keys as PEM files in `folder`."""

    def __init__(self, folder: Path, name: str = "audit") -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        self.private, self.public = str(folder / f"{name}.key"), str(folder / f"{name}.pub")
        Path(self.private).write_bytes(pem(key))
        Path(self.public).write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )


def pem(key: ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


class Process:
    """A process that writes a signed trail, with a clock that only moves when it is told to."""

    def __init__(
        self, path: Path, keys: Keys, terms: Terms = OFTEN, epoch: float = 1735689600.0, name: str = "host:audit"
    ) -> None:
        self.path, self.now, self.epoch, self.number = path, 0.0, epoch, 0
        self.counts: dict[tuple[str, str], int] = {}
        file = str(path)
        sink = open_sink(file)
        assert isinstance(sink, FileSink)
        seal = Seal(
            load_signer(keys.private),
            name,
            terms,
            lambda line: keep_beside(file, line),
            read_beside(file),
            lambda: self.epoch + self.now,
            lambda: self.now,
        )
        self.trail = AuditTrail([(sink, "deny-writes")], lambda flush: None, self.count, seals={file: seal})

    def count(self, sink: str, result: str, count: int) -> None:
        self.counts[sink, result] = self.counts.get((sink, result), 0) + count

    def serves(self, count: int = 1, *, seconds: float = 0.0) -> "Process":
        """That many writes, two lines each, so many seconds apart."""
        for _ in range(count):
            exchange = decided(START, id=f"{self.epoch:.0f}-{self.number}")
            exchange.received_time = self.epoch + self.now
            self.trail.decided(exchange)
            self.trail.completed(answered(exchange))
            self.trail.flush()
            self.number += 1
            self.now += seconds
        return self

    def ends(self) -> None:
        self.trail.close()

    def is_killed(self) -> None:
        """Nothing of what a proper end does is done."""
        self.trail._chains[0].sink.close()


def lines_of(path: Path) -> Lines:
    return path.read_bytes().splitlines(keepends=True)


def stages(path: Path) -> str:
    """A letter for each line: decided, completed, and the first of a checkpoint's cause in capitals."""
    events = [json.loads(line) for line in lines_of(path)]
    return "".join(event["stage"][0] if "cause" not in event else event["cause"][0].upper() for event in events)


def checked(path: Path, keys: Keys, **options: object) -> Report:
    return verify([str(path)], public_keys=[load_verifier(keys.public)], **options)  # type: ignore[arg-type]


# When


WRITTEN: list[tuple[str, Callable[[Process], object], str]] = [
    ("nothing-happens", lambda one: one.ends(), ""),
    ("a-proper-end", lambda one: (one.serves(2), one.ends()), "dIcdcE"),
    ("so-many-lines", lambda one: one.serves(11).is_killed(), "dIcdcdcdcdcdIcdcdcdcdcdIc"),
    ("so-many-seconds", lambda one: one.serves(4, seconds=5).is_killed(), "dIcdcdIcdc"),
    ("nothing-new", lambda one: (one.serves(5), one.trail.flush(), one.trail.flush(), one.ends()), "dIcdcdcdcdcE"),
    ("a-file-is-moved-away", lambda one: (one.serves(1), one.trail.reopen(), one.is_killed()), "dIcR"),
]


@pytest.mark.parametrize(("id", "happens", "written"), WRITTEN, ids=[row[0] for row in WRITTEN])
def test_when_a_trail_is_signed(
    tmp_path: Path, keys: Keys, id: str, happens: Callable[[Process], object], written: str
) -> None:
    path = tmp_path / "audit.jsonl"
    happens(Process(path, keys))
    assert stages(path) == written
    assert checked(path, keys).is_whole or not written


def test_what_happens_once_in_a_while_is_signed_by_the_clock(tmp_path: Path, keys: Keys) -> None:
    one = Process(tmp_path / "audit.jsonl", keys).serves(1)
    one.now = 9.9
    one.trail.flush()
    assert stages(one.path) == "dIc"
    one.now = 10
    one.trail.flush()
    assert stages(one.path) == "dIcI"


def test_what_a_killed_process_left_unsigned_is_signed_at_the_next_start_and_told(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(2).is_killed()
    Process(path, keys).serves(1).ends()
    Process(path, keys).serves(1).ends()
    assert stages(path) == "dIcdcSdcEdcE"
    report = checked(path, keys)
    assert (report.is_whole, report.checkpoints, report.signed_late, report.signed_seq) == (True, 4, 1, 12)


@pytest.mark.parametrize("torn", [b"", b'{"cause":"int'], ids=["nothing", "half-a-line"])
def test_a_new_file_without_a_whole_line_goes_on_behind_the_older_one(tmp_path: Path, keys: Keys, torn: bytes) -> None:
    """And not behind the checkpoint that was kept: lines follow that one."""
    path, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.20250101T000000.000000Z"
    Process(path, keys).serves(2).is_killed()
    path.rename(moved)
    path.write_bytes(torn)
    Process(path, keys).serves(1).ends()
    assert (stages(moved), stages(path)) == ("dIcdc", "SdcE")
    report = verify([str(moved), str(path)], public_keys=[load_verifier(keys.public)])
    assert (report.broken, report.trails, report.lines) == (None, 1, 9)


# Who can tell


def test_anybody_can_check_the_chain_without_knowing_checkpoints(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(7).ends()
    previous, seq = GENESIS, 0
    for event in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        claimed = event.pop("hash")
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        actual = hashlib.sha256((event["prev"] + text).encode()).hexdigest()
        assert (event["prev"], event["seq"], claimed) == (previous, seq + 1, actual)
        previous, seq = claimed, seq + 1


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("openssl")), reason="needs jq and openssl")
def test_openssl_can_check_a_signature(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(1).ends()
    check = """
        jq -cjS 'del(.hash, .signature)' <<<"$0" >text && jq -r .signature <<<"$0" | tr -d '\\n' |
            sed 's/../\\\\x&/g' | xargs -0 printf %b >signature &&
        openssl pkeyutl -verify -rawin -pubin -inkey "$1" -in text -sigfile signature
    """
    command = ["bash", "-c", check, lines_of(path)[-1].decode(), keys.public]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_a_checkpoint_has_the_keys_that_were_promised(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(1).ends()
    checkpoint = json.loads(lines_of(path)[-1])
    assert set(checkpoint) == set(CHECKPOINT_FIELDS)
    assert (checkpoint["stage"], checkpoint["trail"], checkpoint["every"]) == ("checkpoint", "host:audit", 10)
    assert checkpoint["key"] == load_signer(keys.private).key == load_verifier(keys.public).key


def test_who_reads_events_does_not_see_checkpoints(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(7).ends()
    for read in (read_events, read_verified):
        assert [event["stage"] for event in read([str(path)])] == ["decided", "completed"] * 7
    followed = islice(follow(str(path), lambda: None), 14)
    assert [event["stage"] for event in followed] == ["decided", "completed"] * 7
    archive = Archive([str(path)], threads=1)
    assert list(archive.ask("SELECT stage, count(*) FROM events GROUP BY stage ORDER BY stage").rows) == [
        ("completed", 7),
        ("decided", 7),
    ]
    archive.close()


# What whoever has no key can do


def rewritten(lines: Lines, first: int = 0) -> Lines:
    """The lines from `first` on chained anew, checkpoints left out: all that can be done without the key."""
    previous = json.loads(lines[first - 1])["hash"] if first else GENESIS
    seq = first
    forged = lines[:first]
    for line in lines[first:]:
        event = json.loads(line)
        if event["stage"] == "checkpoint":
            continue
        del event["hash"]
        seq += 1
        event |= {"prev": previous, "seq": seq}
        previous = event["hash"] = chain_hash(previous, event)
        forged.append(json.dumps(event).encode() + b"\n")
    return forged


def rechained(lines: Lines, first: int) -> Lines:
    """The same, but checkpoints keep what they sign."""
    previous = json.loads(lines[first - 1])["hash"]
    forged = lines[:first]
    for line in lines[first:]:
        event = json.loads(line)
        del event["hash"]
        event["prev"] = previous
        previous = event["hash"] = chain_hash(previous, event)
        forged.append(json.dumps(event).encode() + b"\n")
    return forged


def edited(lines: Lines, index: int) -> Lines:
    return [*lines[:index], lines[index].replace(b'"uid":1000', b'"uid":1001'), *lines[index + 1 :]]


LONG = "dI" + "cdcdcdcdcdI" * 59 + "cdcdcdcdcE"  # the trail of the rows below: a checkpoint each 10 lines
FORGED: list[tuple[str, Callable[[Lines], Lines], BreakKind]] = [
    ("edited", lambda x: edited(x, 4), BreakKind.CHANGED),
    ("edited-and-chained-anew", lambda x: rechained(edited(x, 4), 4), BreakKind.SIGNATURE),
    ("edited-and-chained-anew-without-checkpoints", lambda x: rewritten(edited(x, 4), 4), BreakKind.UNSIGNED),
    ("edited-behind-the-first-checkpoint", lambda x: rewritten(edited(x, 14), 14), BreakKind.UNSIGNED),
    ("removed-and-chained-anew", lambda x: rewritten(x[:30] + x[32:], 30), BreakKind.UNSIGNED),
    ("checkpoint-removed", lambda x: x[:12] + x[13:], BreakKind.REMOVED),
    ("promise-of-a-checkpoint-changed", lambda x: [*x[:12], x[12].replace(b'"every":10', b'"every":99'), *x[13:]],
     BreakKind.CHANGED),
    ("that-and-chained-anew", lambda x: rechained([*x[:12], x[12].replace(b'"every":10', b'"every":99'), *x[13:]], 12),
     BreakKind.SIGNATURE),
    ("signature-of-another-checkpoint", lambda x: rechained([*x[:23], x[12], *x[24:]], 23), BreakKind.SEQ_GAP),
    ("signature-no-hexadecimal", lambda x: rechained([*x[:12], x[12].replace(b'"signature":"', b'"signature":"x')], 12),
     BreakKind.SIGNATURE),
    ("written-anew", lambda x: rewritten(x), BreakKind.UNSIGNED),
]  # fmt: skip


@pytest.fixture(scope="module")
def long_trail(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Lines:
    path = tmp_path_factory.mktemp("long") / "audit.jsonl"
    Process(path, keys).serves(300, seconds=0.5).ends()
    assert stages(path) == LONG
    return lines_of(path)


@pytest.mark.parametrize(("id", "forge", "kind"), FORGED, ids=[row[0] for row in FORGED])
def test_forging_shows(
    tmp_path: Path, keys: Keys, long_trail: Lines, id: str, forge: Callable[[Lines], Lines], kind: BreakKind
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(forge(long_trail)))
    broken = checked(path, keys).broken
    assert broken is not None
    assert broken.kind is kind


def test_without_a_key_a_trail_that_was_written_anew_looks_whole(tmp_path: Path, long_trail: Lines) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(rewritten(long_trail)))
    assert verify([str(path)]).is_whole


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 660), end=st.integers(1, 661))
def test_a_forger_gets_no_further_than_a_cut_and_a_few_lines(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, long_trail: Lines, first: int, end: int
) -> None:
    """What is accepted of a forged trail is a piece of its true beginning, and what no checkpoint has signed yet."""
    path = tmp_path_factory.getbasetemp() / "forged"
    path.write_bytes(b"".join(rewritten(edited(long_trail[:end], min(first, end - 1)), min(first, end - 1))))
    report = checked(path, keys)
    if report.is_whole:
        assert first >= report.signed_seq
        assert report.last_seq - report.signed_seq <= 10 + 256


def test_slow_trails_may_not_stay_unsigned_either(tmp_path: Path, keys: Keys) -> None:
    """A line a minute: what is forged behind the last checkpoint are few lines, but hours."""
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(20, seconds=60).ends()
    lines = lines_of(path)
    path.write_bytes(b"".join(rewritten(edited(lines, 10), 10)))
    Path(f"{path}.checkpoint").unlink()
    broken = checked(path, keys).broken
    assert broken is not None
    assert (broken.kind, "a checkpoint is due after 10" in broken.message) == (BreakKind.UNSIGNED, True)


def test_a_cut_end_shows_against_the_checkpoint_that_was_kept(tmp_path: Path, keys: Keys, long_trail: Lines) -> None:
    path, beside = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.checkpoint"
    path.write_bytes(b"".join(long_trail[:24]))
    assert checked(path, keys).is_whole
    beside.write_bytes(long_trail[23])
    assert checked(path, keys).is_whole
    beside.write_bytes(long_trail[34])
    for report in (checked(path, keys), verify([str(path)])):
        assert report.broken is not None
        assert (report.broken.kind, report.broken.missing) == (BreakKind.END, (25, 35))
        assert report.broken.after == json.loads(long_trail[23])["time"]
    noted = json.loads(long_trail[34])
    beside.unlink()
    for seq, noted_hash, is_whole in (
        (24, json.loads(long_trail[23])["hash"], True),
        (3, json.loads(long_trail[2])["hash"], True),
        (35, noted["hash"], False),
        (24, noted["hash"], False),
    ):
        assert checked(path, keys, expected=[Expected(seq, noted_hash, "a note")]).is_whole is is_whole


def test_of_several_trails_none_may_be_forged_or_cut(tmp_path: Path, keys: Keys, long_trail: Lines) -> None:
    """As several workers write them: what shows at the end of one shows at the end of each."""
    first, second = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.2"
    Process(second, keys, epoch=1735699600.0).serves(3).ends()  # later, and so read behind the other
    beside = tmp_path / "audit.jsonl.checkpoint"

    def both() -> Report:
        return verify([str(first), str(second)], public_keys=[load_verifier(keys.public)])

    for lines, kept, expected in (
        (long_trail, long_trail[-1], None),
        (long_trail[:24], long_trail[34], (BreakKind.END, str(first), 24, (25, 35))),
        (rewritten(edited(long_trail, 14), 14), None, (BreakKind.UNSIGNED, str(first), 602, None)),
        (rewritten(long_trail), None, (BreakKind.UNSIGNED, str(first), 600, None)),
    ):
        first.write_bytes(b"".join(lines))
        beside.unlink(missing_ok=True)
        if kept is not None:
            beside.write_bytes(kept)
        broken = both().broken
        assert (broken and (broken.kind, broken.file, broken.line, broken.missing)) == expected


def test_a_copy_of_the_checkpoint_may_be_given_like_a_file(tmp_path: Path, keys: Keys, long_trail: Lines) -> None:
    path, copy = tmp_path / "audit.jsonl", tmp_path / "elsewhere.checkpoint"
    path.write_bytes(b"".join(long_trail[:24]))
    for seq, is_whole in ((13, True), (24, True), (35, False)):
        copy.write_bytes(long_trail[seq - 1])
        report = verify([str(copy), str(path)], public_keys=[load_verifier(keys.public)])
        assert (report.is_whole, report.files, report.lines) == (is_whole, 1, 24)
    copy.write_bytes(long_trail[0])
    with pytest.raises(ConfigError, match="is no checkpoint"):
        verify([str(copy), str(path)])
    with pytest.raises(ConfigError, match="cannot be read"):
        verify([str(path), str(tmp_path / "missing.checkpoint")])


def test_what_was_cut_off_between_two_processes_stays_missing(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, keys).serves(7).ends()
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:13]))
    second = Process(path, keys)
    assert second.trail.missing_lines == {str(path): (14, 17)}
    second.serves(1).ends()
    broken = checked(path, keys).broken
    assert broken is not None
    assert (broken.line, broken.kind, broken.missing) == (14, BreakKind.REMOVED, (14, 17))


def test_a_trail_goes_on_though_its_file_was_moved_away_meanwhile(tmp_path: Path, keys: Keys) -> None:
    path, older = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    Process(path, keys).serves(3).ends()
    path.rename(older)
    second = Process(path, keys)
    assert second.trail.missing_lines == {}
    second.serves(3).ends()
    report = verify([str(path), str(older)], public_keys=[load_verifier(keys.public)])
    assert (report.is_whole, report.trails, report.last_seq) == (True, 1, 15)


FOREIGN = ["", "{}", "hello", '{"stage":"checkpoint","seq":9}', "another-trail", "another-key"]


@pytest.mark.parametrize("kept", FOREIGN)
def test_a_kept_checkpoint_that_is_not_our_own_leads_nowhere(tmp_path: Path, keys: Keys, kept: str) -> None:
    path = tmp_path / "audit.jsonl"
    line = kept.encode()
    if kept.startswith("another"):
        signer = load_signer(keys.private if kept == "another-trail" else Keys(tmp_path, "other").private)
        name = "host:other" if kept == "another-trail" else "host:audit"
        line, _ = Seal(signer, name, Terms()).checkpoint("end", Place(8, GENESIS))
    Path(f"{path}.checkpoint").write_bytes(line)
    Process(path, keys).serves(1).ends()
    assert json.loads(lines_of(path)[0])["seq"] == 1


def test_a_checkpoint_that_cannot_be_kept_is_counted_and_the_trail_goes_on(tmp_path: Path, keys: Keys) -> None:
    (tmp_path / ".audit.jsonl.checkpoint.new").mkdir()
    one = Process(tmp_path / "audit.jsonl", keys).serves(5)
    failed = one.counts[str(one.path), "failed"]
    assert failed > 0
    (tmp_path / ".audit.jsonl.checkpoint.new").rmdir()
    one.serves(1)
    assert json.loads((tmp_path / "audit.jsonl.checkpoint").read_bytes())["seq"] == 13
    assert one.counts[str(one.path), "failed"] == failed
    assert one.counts[str(one.path), "written"] == 14


# Keys


def test_a_trail_of_another_key_is_told_apart(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    Process(path, Keys(tmp_path, "other")).serves(1).ends()
    broken = checked(path, keys).broken
    assert broken is not None
    assert broken.kind is BreakKind.SIGNATURE
    assert load_signer(keys.private).key in broken.message


def test_no_trail_of_another_place_takes_the_place_of_an_end_that_was_cut_off(tmp_path: Path, keys: Keys) -> None:
    for name in ("audit", "elsewhere"):
        Process(tmp_path / name, keys, epoch=1735689600.0 + len(name), name=f"host:{name}").serves(9).ends()
    spliced = tmp_path / "spliced"
    spliced.write_bytes(b"".join(lines_of(tmp_path / "audit")[:12] + lines_of(tmp_path / "elsewhere")))
    broken = checked(spliced, keys).broken
    assert broken is not None
    assert (broken.kind, broken.line) == (BreakKind.SIGNATURE, 14)
    assert "host:elsewhere" in broken.message and "host:audit" in broken.message
    assert verify([str(tmp_path / "audit"), str(tmp_path / "elsewhere")]).trails == 2


def test_a_trail_may_get_another_name(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "audit.jsonl"
    for name in ("host:audit", "host2:audit"):
        Process(path, keys, name=name).serves(2).ends()
    assert checked(path, keys).is_whole


def test_a_key_may_change(tmp_path: Path, keys: Keys) -> None:
    path, new = tmp_path / "audit.jsonl", Keys(tmp_path, "new")
    Process(path, keys).serves(2).ends()
    Process(path, new).serves(2).ends()
    both = [load_verifier(keys.public), load_verifier(new.public)]
    assert verify([str(path)], public_keys=both).is_whole
    for one in both:
        assert not verify([str(path)], public_keys=[one]).is_whole


UNUSABLE = [
    ("missing", None, "cannot be read"),
    ("no-pem", b"hello", "no private key"),
    ("another-kind", pem(x25519.X25519PrivateKey.generate()), "no Ed25519 key"),
]


@pytest.mark.parametrize(("name", "content", "message"), UNUSABLE, ids=[row[0] for row in UNUSABLE])
def test_unusable_keys(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_signer(str(tmp_path / name))
    with pytest.raises(ConfigError):
        load_verifier(str(tmp_path / name))


def test_a_trail_is_called_by_its_host_and_its_place() -> None:
    host, _, place = name_of_trail("/var/log/audit.jsonl").partition(":")
    assert host
    assert place == "/var/log/audit.jsonl"
    assert name_of_trail("-").endswith(":-")
