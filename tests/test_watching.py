"""When files of a configuration count as changed. Each look is made by the test; no time passes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sockproxy.operating.config.files import FILE_BYTES_MAX, NOTHING, Files, read_file, see
from sockproxy.operating.watching import FileWatch
from tests.streams import until

OLD, NEW = b"version: 1\n", b"version: 2\n"


def watch_of(*files: Path) -> FileWatch:
    """A watch that has taken these files and looked at them."""
    watch = FileWatch(lambda changed: None)
    watch.take({str(file): see(str(file)) for file in files})
    assert (watch.look(), watch.look()) == ([], [])
    return watch


def looks(watch: FileWatch, count: int = 4) -> list[list[str]]:
    return [watch.look() for _ in range(count)]


def write(file: Path) -> None:
    file.write_bytes(NEW)


def replace_by_rename(file: Path) -> None:
    draft = file.with_suffix(".new")
    draft.write_bytes(NEW)
    os.utime(draft, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))  # as `cp -p` and some editors do
    draft.rename(file)


def write_in_place_and_set_back_the_clock(file: Path) -> None:
    before = file.stat()
    file.write_bytes(NEW)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_link(file: Path) -> None:
    (file.parent / "elsewhere").write_bytes(NEW)
    file.unlink()
    file.symlink_to(file.parent / "elsewhere")


def remove(file: Path) -> None:
    file.unlink()


CHANGES = [write, replace_by_rename, write_in_place_and_set_back_the_clock, replace_by_link, remove]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_told_once_when_two_looks_have_seen_the_same(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(OLD)
    watch = watch_of(file)
    change(file)
    assert looks(watch) == [[], [str(file)], [], []]


def test_a_volume_of_kubernetes_changes_by_a_link_behind_the_link(tmp_path: Path) -> None:
    for name, text in (("..2026_1", OLD), ("..2026_2", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_bytes(text)
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    watch = watch_of(tmp_path / "p.yaml")
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert looks(watch) == [[], [str(tmp_path / "p.yaml")], [], []]


def test_what_was_only_touched_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(OLD)
    watch = watch_of(file)
    os.utime(file, ns=(1, 1))
    assert looks(watch) == [[], [], [], []]
    copy = tmp_path / "copy"
    copy.write_bytes(OLD)
    copy.rename(file)
    assert looks(watch) == [[], [], [], []]
    write(file)
    assert looks(watch) == [[], [str(file)], [], []]


def test_a_file_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(OLD)
    watch = watch_of(file)
    with file.open("wb", buffering=0) as stream:
        for _ in range(5):
            stream.write(NEW)
            assert watch.look() == []
    assert looks(watch) == [[str(file)], [], [], []]


def test_several_are_told_together(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for file in files:
        file.write_bytes(OLD)
    watch = watch_of(*files)
    write(files[0])
    write(files[2])
    assert looks(watch) == [[], [str(files[0]), str(files[2])], [], []]


def test_a_file_that_was_missing_is_told_when_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    watch = watch_of(file)
    write(file)
    assert looks(watch) == [[], [str(file)], [], []]


def test_whatever_changes_after_it_was_read_is_a_change_though_nobody_has_looked(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(OLD)
    files: Files = {}
    assert read_file(str(file), files) == OLD
    replace_by_rename(file)
    watch = FileWatch(lambda changed: None)
    watch.take(files)
    assert looks(watch) == [[], [str(file)], [], []]


def test_what_was_taken_anew_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(OLD)
    watch = watch_of(file)
    write(file)
    assert watch.look() == []
    watch.take({str(file): see(str(file))})  # somebody has asked for it meanwhile
    assert looks(watch) == [[], [], [], []]


def test_what_is_told_of_a_file_is_bounded_and_needs_none(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * (FILE_BYTES_MAX + 5))
    assert len(read_file(str(file))) == FILE_BYTES_MAX + 1
    assert see(str(tmp_path / "none")) == see("\0") == NOTHING
    files: Files = {}
    with pytest.raises(FileNotFoundError):
        read_file(str(tmp_path / "none"), files)
    assert files == {str(tmp_path / "none"): NOTHING}


async def test_it_looks_by_itself_until_it_is_stopped(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(OLD)
    told: list[list[str]] = []
    watch = FileWatch(told.append, seconds=0.001)
    watch.take({str(file): see(str(file))})
    watch.start()
    write(file)
    await until(lambda: told)
    watch.stop()
    assert told == [[str(file)]]
