"""A trail that grows, is moved away, is cut off."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sockproxy.errors import ConfigError
from sockproxy.recording.following import follow

LINES = (Path(__file__).parent / "cases" / "audit_trail.jsonl").read_bytes().splitlines(keepends=True)


class NothingMore(Exception):
    """What ends a reader that would wait for ever."""


def followed(path: Path, *steps: Callable[[], object]) -> list[object]:
    """The numbers of the events that are read, where each wait is one step of what happens to the file."""
    happening = iter(steps)

    def wait() -> None:
        step = next(happening, None)
        if step is None:
            raise NothingMore
        step()

    seen = []
    with pytest.raises(NothingMore):
        for event in follow(str(path), wait):
            seen.append(event["seq"])
    return seen


def append(path: Path, *lines: bytes) -> Callable[[], object]:
    def step() -> None:
        with path.open("ab") as file:
            file.write(b"".join(lines))

    return step


def test_what_comes_is_read(tmp_path: Path) -> None:
    trail = tmp_path / "audit.jsonl"
    append(trail, *LINES[:2])()
    assert followed(trail, append(trail, LINES[2]), append(trail, *LINES[3:5])) == [1, 2, 3, 4, 5]


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    trail = tmp_path / "audit.jsonl"
    append(trail, LINES[0], LINES[1][:40])()
    assert followed(trail, append(trail, LINES[1][40:90]), append(trail, LINES[1][90:])) == [1, 2]


def test_over_a_rotation_nothing_is_lost(tmp_path: Path) -> None:
    trail, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    append(trail, LINES[0])()
    seen = followed(
        trail,
        lambda: os.rename(trail, old),  # its successor is not there yet
        append(old, LINES[1]),  # the writer has the old file open still
        lambda: (append(old, LINES[2])(), append(trail, LINES[3])()),
        append(trail, LINES[4]),
    )
    assert seen == [1, 2, 3, 4, 5]


def test_a_file_that_was_cut_to_nothing_is_read_anew(tmp_path: Path) -> None:
    trail = tmp_path / "audit.jsonl"
    append(trail, *LINES[:3])()
    assert followed(trail, lambda: os.truncate(trail, 0), append(trail, LINES[4])) == [1, 2, 3, 5]


def test_what_is_no_event_is_an_error(tmp_path: Path) -> None:
    trail = tmp_path / "audit.jsonl"
    append(trail, b"hello\n")()
    with pytest.raises(ConfigError):
        followed(trail)
