"""Files that are moved away, by ourselves or by others, and what is forced to disk: the chain goes on over all of them."""

import os
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.sinks import FileSink, Fsync, Rotation
from sockproxy.recording.sinks.file import RETRY_BYTES, open_file
from sockproxy.recording.trail import BreakKind, verify
from tests.exchanges import LIST, START, answered, decided

DAY = 86400.0
NOON = 1735732800.0  # 2025-01-01T12:00:00Z


class Process:
    """A process that writes a trail, with a clock that only moves when it is told to."""

    def __init__(
        self,
        path: Path,
        rotation: Rotation = Rotation(),  # noqa: B008  # a value
        fsync: Fsync = "never",
        now: float = NOON,
        fdatasync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self.path, self.now, self.number = path, now, 0
        self.counts: Counter[tuple[str, str]] = Counter()
        fd = open_file(str(path))
        self.sink = FileSink(str(path), fd, rotation, fsync, clock=lambda: self.now, fdatasync=fdatasync)
        self.trail = AuditTrail([(self.sink, "deny-writes")], lambda flush: None, self.count)

    def count(self, sink: str, result: str, count: int) -> None:
        self.counts[result] += count  # type: ignore[index]  # one sink

    def serves(self, count: int = 1, request: tuple[str, str] = START) -> "Process":
        """That many requests, two lines each."""
        for _ in range(count):
            self.trail.decided(exchange := decided(request, id=f"{id(self):x}-{self.number}"))
            self.trail.completed(answered(exchange))
            self.trail.flush()
            self.number += 1
        return self

    def ends(self) -> None:
        self.trail.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir() if path.is_file())


def is_whole(folder: Path, lines: int) -> bool:
    report = verify(files(folder))
    assert report.is_whole, report.broken
    return (report.lines, report.trails) == (lines, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


# By ourselves


def test_a_file_that_is_full_is_moved_away(path: Path) -> None:
    Process(path, Rotation(bytes_max=4000)).serves(30).ends()
    sizes = [Path(file).stat().st_size for file in files(path.parent)[1:]]
    assert len(sizes) > 5
    assert all(4000 <= size < 4000 + 2000 for size in sizes)
    assert all(stat.S_IMODE(Path(file).stat().st_mode) == 0o600 for file in files(path.parent))
    assert is_whole(path.parent, 60)


def test_each_day_has_its_file(path: Path) -> None:
    process = Process(path, Rotation(seconds=int(DAY))).serves(2)
    process.now += DAY / 2 - 1
    process.serves(2)
    process.now += 1
    process.trail.flush()  # nothing has to happen for that
    assert [Path(file).name for file in files(path.parent)] == ["audit.jsonl", "audit.jsonl.20250102T000000.000000Z"]
    process.now += 3 * DAY
    process.trail.flush()
    assert len(files(path.parent)) == 2, "an empty file is not moved away"
    process.serves(1).ends()
    assert is_whole(path.parent, 10)


def test_a_file_of_another_day_is_moved_away_at_start(path: Path) -> None:
    Process(path).serves(1).ends()
    os.utime(path, (NOON, NOON))
    Process(path, Rotation(seconds=int(DAY)), now=NOON + DAY).serves(1).ends()
    assert len(files(path.parent)) == 2
    assert is_whole(path.parent, 4)


@pytest.mark.parametrize(("keep", "left"), [(None, 9), (3, 3), (0, 0)])
def test_so_many_older_files_stay(path: Path, keep: int | None, left: int) -> None:
    foreign = [path.with_name(name) for name in ("audit.jsonl.1", "audit.jsonl.old", "other.20250101T000000.000000Z")]
    for one in foreign:
        one.touch()
    process = Process(path, Rotation(1, keep=keep))
    process.serves(1).serves(4, LIST)
    process.ends()
    older = [file for file in files(path.parent) if file.endswith("Z") and "other" not in file]
    assert len(older) in (left, left - 3)
    assert all(one.exists() for one in foreign)


def test_older_files_are_packed_and_counted_all_the_same(path: Path) -> None:
    process = Process(path, Rotation(1, keep=2)).serves(2)
    subprocess.run(["gzip", *files(path.parent)[1:]], check=True)
    process.serves(2).ends()
    assert len([file for file in files(path.parent) if "Z" in file]) == 2


def test_names_of_the_same_moment_differ(path: Path) -> None:
    Process(path, Rotation(1)).serves(3).ends()
    names = [Path(file).name for file in files(path.parent)[1:]]
    assert names[:2] == ["audit.jsonl.20250101T120000.000000Z", "audit.jsonl.20250101T120000.000001Z"]


@pytest.mark.parametrize("torn", [b"", b'{"api_ver', b"\0" * 100], ids=["nothing", "half-a-line", "zeros"])
def test_the_chain_goes_on_though_a_process_ended_before_its_next_line_was_whole(path: Path, torn: bytes) -> None:
    first = Process(path, Rotation(1)).serves(2)
    first.sink.close()
    assert path.stat().st_size == 0
    path.write_bytes(torn)
    Process(path, Rotation(1)).serves(2).ends()
    assert is_whole(path.parent, 8)


def test_what_a_killed_process_began_to_move_is_finished(path: Path) -> None:
    """Between its two renames there is no file, and a new one with another name."""
    first = Process(path).serves(2)
    first.sink.close()
    path.rename(path.with_name("audit.jsonl.20250101T120000.000000Z"))
    path.with_name(".audit.jsonl.new").touch()
    Process(path, Rotation(1500)).serves(4).ends()
    path.with_name(".audit.jsonl.new").unlink(missing_ok=True)
    assert is_whole(path.parent, 12)


def test_a_new_file_that_cannot_be_made_is_counted_and_the_old_one_goes_on(path: Path) -> None:
    blocking = path.with_name(".audit.jsonl.new")
    blocking.mkdir()
    process = Process(path, Rotation(2000)).serves(5)
    assert process.counts["failed"] == 1  # and not with every line
    assert is_whole(path.parent, 10)
    blocking.rmdir()
    process.serves(2 * RETRY_BYTES // 1400)  # until it is tried again
    process.ends()
    older = files(path.parent)[1:]
    assert RETRY_BYTES < Path(older[0]).stat().st_size < RETRY_BYTES + 6000
    assert all(Path(one).stat().st_size < 5000 for one in older[1:]), "the next ones are no larger than they may be"
    assert len(older) > 2
    assert is_whole(path.parent, 10 + 2 * (2 * RETRY_BYTES // 1400))


# By others


def test_logrotate_that_moves_and_sends_sighup(path: Path) -> None:
    process = Process(path).serves(2)
    path.rename(path.with_name("audit.jsonl.1"))
    process.serves(1)
    process.trail.reopen()
    process.serves(1).ends()
    assert is_whole(path.parent, 8)


def test_logrotate_that_makes_the_new_file_itself(path: Path) -> None:
    process = Process(path).serves(2)
    path.rename(path.with_name("audit.jsonl.1"))
    path.touch(0o600)
    process.trail.reopen()
    process.serves(1).ends()
    assert is_whole(path.parent, 6)


def test_logrotate_that_copies_and_truncates_loses_what_came_in_between(path: Path) -> None:
    process = Process(path).serves(2)
    path.with_name("audit.jsonl.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    process.serves(1)
    assert is_whole(path.parent, 6)
    path.with_name("audit.jsonl.2").write_bytes(path.read_bytes())
    process.serves(1)  # it goes on while it is copied
    os.truncate(path, 0)
    process.serves(1).ends()
    broken = verify(files(path.parent)).broken
    assert broken is not None
    assert (broken.kind, broken.missing) == (BreakKind.REMOVED, (7, 8))


def test_who_moves_the_file_away_is_not_disturbed_by_a_full_one(path: Path) -> None:
    process = Process(path, Rotation(3500)).serves(1)
    path.rename(path.with_name("audit.jsonl.1"))
    process.serves(3).ends()
    assert len(files(path.parent)) == 2
    assert is_whole(path.parent, 8)


# What is forced to disk


class Disk:
    """Counts what is forced to it, and fails when it is told to."""

    def __init__(self) -> None:
        self.syncs = 0
        self.fails = False

    def __call__(self, fd: int) -> None:
        if self.fails:
            raise OSError(5, "Input/output error")
        self.syncs += 1


FORCED: list[tuple[Fsync, int, int]] = [("never", 0, 0), ("interval", 0, 1), ("always", 3, 1)]


@pytest.mark.parametrize(("fsync", "for_writes", "now_and_then"), FORCED)
def test_what_is_forced_to_disk(path: Path, fsync: Fsync, for_writes: int, now_and_then: int) -> None:
    disk = Disk()
    process = Process(path, fsync=fsync, fdatasync=disk).serves(3).serves(3, LIST)
    assert disk.syncs == for_writes
    disk.syncs = 0
    if fsync != "never":
        assert process.trail.sync() == process.trail.sync() == ()
    assert disk.syncs == now_and_then, "what is on the disk already is not forced there again"
    process.ends()


def test_a_request_whose_line_does_not_get_to_the_disk_does_not_go_on(path: Path) -> None:
    disk = Disk()
    process = Process(path, fsync="always", fdatasync=disk).serves(1)
    whole = path.read_bytes()
    disk.fails = True
    with pytest.raises(Exception, match="does not take records"):
        process.serves(1)
    assert path.read_bytes() == whole
    assert process.trail.sync() == (str(path),)
    disk.fails = False
    process.serves(1).ends()
    assert is_whole(path.parent, 5)  # the refused one's outcome was not told of here


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_and_one_that_is_read_only_refuse_and_recover(tiny_disk: Path) -> None:
    path = tiny_disk / "audit.jsonl"
    process = Process(path, Rotation(3000))
    with pytest.raises(Exception, match="does not take records"):
        process.serves(1000)
    older = files(tiny_disk)[1:]
    assert len(older) > 5
    Path(older[0]).unlink()
    process.serves(1)
    process.ends()
    report = verify(files(tiny_disk), previous_hash="")
    assert report.is_whole, report.broken
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(Exception, match="cannot be opened"):
        Process(path)
    subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)
    Process(path).serves(1).ends()
    assert verify(files(tiny_disk), previous_hash="").is_whole
