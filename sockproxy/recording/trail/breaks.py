"""What is found out about a trail: that it is whole, or the first place where it is not.

Owns the kinds of breaks, and the words around them. Must not know how they are found (`verifying`). Begin at `Report`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class BreakKind(StrEnum):
    """What is wrong with a line, or before it."""

    UNREADABLE = "unreadable"  # not JSON, not an event, or of another version
    CHANGED = "changed"  # does not carry its own hash, or another line stood before it
    REMOVED = "removed"  # lines are missing before it
    DUPLICATE = "duplicate"  # was there already, or stands too late
    SEQ_GAP = "seq-gap"  # follows the line before by its hash, but not by its number
    TORN = "torn"  # the file ends within it
    END = "end"  # the trail does not come to a place that is expected
    SIGNATURE = "signature"  # a checkpoint that was not signed with the given key
    UNSIGNED = "unsigned"  # a checkpoint is missing that should be there


class Break(NamedTuple):
    """The first place where a trail is not what was written. `missing`: the first and the last `seq` of lines that should
    stand before it; `after`, `before`: the times of the lines between which it happened, where they are known."""

    file: str
    line: int
    kind: BreakKind
    message: str
    missing: tuple[int, int] | None = None
    after: str = ""
    before: str = ""

    def __str__(self) -> str:
        when = [f"{word} {time}" for word, time in (("after", self.after), ("before", self.before)) if time]
        return f"{self.file}:{self.line}: {self.kind.value}: {self.message}" + (
            f"; {' and '.join(when)}" if when else ""
        )


@dataclass(slots=True)
class Report:
    """What `verify` found, up to the first break. `last_hash` is worth noting elsewhere. `unfinished`: decided, and not
    completed (in flight, lost, or ended with the process); telling, but no break. `signed_seq`: all lines up to it are
    signed by the checkpoint there; whether its signature was checked, depends on whether a key was given. `signed_late`:
    checkpoints that signed, at a later start, what a process left unsigned that did not end well."""

    files: int = 0
    lines: int = 0
    trails: int = 0
    decided: int = 0
    completed: int = 0
    unfinished: int = 0
    checkpoints: int = 0
    first_seq: int = 0
    last_seq: int = 0
    last_hash: str = ""
    first_time: str = ""
    last_time: str = ""
    signed_seq: int = 0
    signed_time: str = ""
    signed_late: int = 0
    broken: Break | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every line is what was written, where it was written."""
        return self.broken is None


class Expected(NamedTuple):
    """A line that has to be there, as it was noted elsewhere; `source` says where."""

    seq: int
    hash: str
    source: str
