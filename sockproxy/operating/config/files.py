"""The files that a configuration is read from, and what they were like then.

Owns how a change of a file is told. Must not know what is in it, nor who asks (`operating.watching`). Begin at `read_file`.
"""

import hashlib
import os
from typing import NamedTuple

FILE_BYTES_MAX = 1 << 20
"""A policy of 10,000 rules has half of it."""


class Looks(NamedTuple):
    """What the kernel tells of a file without reading it. One that was replaced, by a rename or by a link that leads elsewhere,
    is another inode; one that was written in its place has another time."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Seen(NamedTuple):
    """A file as it was read: the digest of what stood in it, and whether its last line has an end. Neither of one that could
    not be read."""

    looks: Looks | None
    digest: bytes | None
    ends_with_line: bool = True


Files = dict[str, Seen]
"""All files that were read for a configuration, and those that should have been."""

NOTHING = Seen(None, None)


def look_at(file: str) -> Looks | None:
    """What a path leads to now, over all links; None if it leads nowhere."""
    try:
        return _looks(os.stat(file))
    except (OSError, ValueError):
        return None  # lawful: what is not there, or must not be seen, looks like nothing; ValueError: a NUL in the name


def see(file: str) -> Seen:
    """A file as it is now."""
    files: Files = {}
    try:
        read_file(file, files)
    except (OSError, ValueError):
        return NOTHING  # lawful: it is told by whoever loads it
    return files[file]


def read_file(file: str, files: Files | None = None) -> bytes:
    """What stands in a file, but no more than one byte above `FILE_BYTES_MAX`. Raises OSError, and ValueError for what is no
    path. `files` is told what it was like; before it is read, so that whatever changes meanwhile is a change."""
    if files is not None:
        files[file] = NOTHING
    with open(file, "rb") as stream:
        looks = _looks(os.fstat(stream.fileno()))
        raw = stream.read(FILE_BYTES_MAX + 1)
    if files is not None:
        files[file] = Seen(looks, hashlib.sha256(raw).digest(), raw[-1:] in (b"", b"\n"))
    return raw


def _looks(found: os.stat_result) -> Looks:
    return Looks(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
