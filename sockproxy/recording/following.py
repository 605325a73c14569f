"""A trail that is being written, read as it grows.

Owns how a file is read over its rotation. Must not know how long to wait. Begin at `follow`.
"""

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from sockproxy.errors import ConfigError, Finding
from sockproxy.recording.checkpoint import is_checkpoint
from sockproxy.recording.event import Event
from sockproxy.recording.trail import parse_line


def follow(path: str, wait: Callable[[], None]) -> Iterator[Event]:
    """The events of a file, and those that come, for ever; `wait` is called where there is nothing more for now. A file that
    takes its place is read from its beginning, once the old one was read to its end; and so is one that was cut to nothing.
    Raises ConfigError for a line that is no event, OSError if the file cannot be opened to begin with."""
    file: BinaryIO = open(path, "rb")  # noqa: SIM115  # it is another one later
    rest = b""
    try:
        while True:
            for line in file:
                rest += line
                if rest.endswith(b"\n"):
                    event = _event(path, rest)
                    if not is_checkpoint(event):
                        yield event
                    rest = b""
            if (newer := _newer(path, file)) is not None:
                file.close()
                file, rest = newer, b""
                continue
            wait()
    finally:
        file.close()


def _newer(path: str, file: BinaryIO) -> BinaryIO | None:
    """What is to be read in the place of a file that was read to its end."""
    try:
        now, read = os.stat(path), os.fstat(file.fileno())
        is_same = (now.st_dev, now.st_ino) == (read.st_dev, read.st_ino)
        if is_same and now.st_size >= file.tell():
            return None
        # What came between the last line and the move is read first.
        return None if not is_same and read.st_size > file.tell() else open(path, "rb")
    except FileNotFoundError:
        return None  # lawful: it was moved away, and its successor is not there yet


def _event(path: str, line: bytes) -> Event:
    event = parse_line(line)
    if isinstance(event, str):
        raise ConfigError((Finding(path, 0, "", event),))
    return event
