"""A regular file as a sink (mode 0600, appended to, locked by flock so that nobody else writes to it).

Owns its end, which is a whole line whatever happens. It takes a line when write(2) has taken the whole of it, so a line
survives the process; `Fsync` says what survives the machine. If a line fits only in part (disk full, quota, size limit), that
part is cut off again. After the file was moved away, by itself (`rotate`) or by others (`reopen`), it goes on in a new one, and
the chain goes on over both. Begin at `FileSink.write`; the names of older files are `older`'s.
"""

import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from sockproxy.errors import ConfigError, Finding
from sockproxy.recording.sinks import older

Fsync = Literal["always", "interval", "never"]
"""When lines are forced to disk: those that a request waits for before it goes on, and the rest by `sync`; all by `sync`,
which is called once a second; as the kernel likes."""


class Rotation(NamedTuple):
    """When a file is moved away by ourselves: when it has so many bytes; at the ends of periods of so many seconds, counted
    from midnight UTC. 0: not for that. Of the older files so many stay; None: all."""

    bytes_max: int = 0
    seconds: int = 0
    keep: int | None = None


NO_ROTATION = Rotation()

LINE_BYTES_MAX = 16 << 20
"""Of a trail that is read; a line holds a request's head (1 MiB) thrice at most, escaped."""

CHECKPOINT_SUFFIX = ".checkpoint"
"""Of the file beside a trail in which its newest checkpoint is kept."""

RETRY_BYTES = 1 << 20
"""How much longer a file may become that could not be moved away, until that is tried again."""

_BLOCK_BYTES = 64 << 10
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class FileSink:
    """A regular file."""

    def __init__(
        self,
        name: str,
        fd: int,
        rotation: Rotation = NO_ROTATION,
        fsync: Fsync = "never",
        *,
        clock: Callable[[], float] = time.time,
        fdatasync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        """Takes over `fd`, locks it and reads its end; that of the newest older file if there is no whole line in it. Raises
        ConfigError, with `fd` closed."""
        self.name = name
        self.rotates = bool(rotation.bytes_max or rotation.seconds)
        self._fd = fd
        self._torn_bytes = 0  # of a line that was written in part and could not be cut off yet
        self._rotation = rotation
        self._bytes_due = rotation.bytes_max
        self._fsync = fsync
        self._clock = clock
        self._fdatasync = fdatasync
        self._fd_in_use = threading.Lock()  # what is synced in another thread must not be closed meanwhile
        self._synced_size = -1
        try:
            _lock(name, fd)
            self.last_line, self.fragment = _read_end(name, fd)
            if os.fstat(fd).st_size == len(self.fragment):
                # Nothing is whole: it was begun when the older one was moved away.
                self.last_line = _read_end_of_older(name)
        except ConfigError:
            os.close(fd)
            raise
        if fsync != "never":
            self._sync_folder()
        if fsync == "always":
            self.write = self._write_through  # type: ignore[method-assign]  # hot: chosen once, since each line comes by
        self._ends_at = _end_of_period(rotation, min(clock(), os.fstat(fd).st_mtime))

    @property
    def file(self) -> "FileSink":
        """Itself: it can be read back, and moved away."""
        return self

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        """Appends; what is kept ends with a whole line. A file is always waited for."""
        written = 0
        try:
            self._cut_torn()
            written = os.write(self._fd, lines)
            while written < len(lines):
                written += os.write(self._fd, memoryview(lines)[written:])
        except OSError:
            return self._keep_whole_lines(lines, written)
        return written

    def _write_through(self, lines: bytes, *, may_wait: bool) -> int:
        """The same, and what a request waits for is on the disk then."""
        written = FileSink.write(self, lines, may_wait=may_wait)
        if may_wait and written == len(lines) and not self.sync():
            return self._take_back(lines)
        return written

    def cut_fragment(self) -> None:
        """Removes what stands behind the last whole line."""
        self._torn_bytes = len(self.fragment)
        try:
            self._cut_torn()
        except OSError as error:
            raise _unusable(self.name, f"its torn last line cannot be cut off: {error.strerror}") from error
        self.fragment = b""

    def reopen(self) -> None:
        """Goes on in a new, empty file if the path names another file than before, or none. Raises ConfigError."""
        if self._is_in_place():
            return
        fd = open_file(self.name)
        try:
            _lock(self.name, fd)
            if os.fstat(fd).st_size or not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _unusable(self.name, "holds something already; the trail goes on in the file that was moved away")
        except ConfigError:
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        self._synced_size = -1

    def last_lines(self, bytes_max: int) -> list[bytes]:
        """The last whole lines of the file; none if it cannot be read, or its last line is longer."""
        try:
            size = os.fstat(self._fd).st_size
            start = max(0, size - bytes_max)
            lines = os.pread(self._fd, size - start, start).split(b"\n")
        except OSError:
            return []  # lawful: this is for people who look; a file that cannot be written is told of elsewhere
        return lines[start > 0 : -1]

    @property
    def is_full(self) -> bool:
        """Whether it is time to go on in a new file."""
        size = os.fstat(self._fd).st_size
        if not size:
            return False
        is_large = self._rotation.bytes_max > 0 and size >= self._bytes_due
        return is_large or self._clock() >= self._ends_at

    def rotate(self) -> bool:
        """Gives the file the name of an older one, and goes on in a new one. Whether that could be done; if not, it goes on in
        the old one, and `is_full` only after a while."""
        now = self._clock()
        self._ends_at = _end_of_period(self._rotation, now)
        try:
            if self._is_in_place():
                self._begin_new(older.name(self.name, now))
            else:
                self.reopen()
        except (OSError, ConfigError):
            self._bytes_due = os.fstat(self._fd).st_size + RETRY_BYTES
            return False
        self._bytes_due = self._rotation.bytes_max
        older.keep_newest(self.name, self._rotation.keep)
        return True

    def _begin_new(self, old_name: str) -> None:
        # The new file is there before the old one is moved: what fails until then has changed nothing.
        new_name = older.unfinished(self.name)
        fd = os.open(new_name, _FLAGS | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            _lock(new_name, fd)
            os.rename(self.name, old_name)
            os.rename(new_name, self.name)
        except (OSError, ConfigError):
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        self._synced_size = -1
        if self._fsync != "never":
            self._sync_folder()

    def sync(self) -> bool:
        """Forces to disk what was written. Whether that could be done. May be called in another thread."""
        with self._fd_in_use:
            try:
                size = os.fstat(self._fd).st_size
                if size != self._synced_size:
                    self._fdatasync(self._fd)
                    self._synced_size = size
            except OSError:
                return False
        return True

    def _take_back(self, lines: bytes) -> int:
        """Lines that did not get to the disk are not kept: whether they are there, nobody can say any more."""
        self._torn_bytes += len(lines)
        self._synced_size = -1
        return self._keep_whole_lines(b"", 0)

    def _sync_folder(self) -> None:
        """Forces to disk that there is this file."""
        fd = os.open(os.path.dirname(self.name) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError:
            pass  # lawful: a file system that cannot has nothing that could be lost so
        finally:
            os.close(fd)

    def close(self) -> None:
        """Closes the file, and with it ends the lock."""
        try:
            self._cut_torn()
        except OSError:
            self._torn_bytes = 0  # whoever opens the file next finds the torn line and cuts it off
        if self._fsync != "never":
            self.sync()
        with self._fd_in_use:
            os.close(self._fd)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.name), os.fstat(self._fd))
        except OSError:
            return False

    def _keep_whole_lines(self, lines: bytes, written: int) -> int:
        kept = lines.rfind(b"\n", 0, written) + 1
        self._torn_bytes += written - kept
        try:
            self._cut_torn()
        except OSError:
            return kept  # cut off before the next write, which fails until that works
        return kept

    def _cut_torn(self) -> None:
        # Counted from the file's end and not from where we believe it to be: somebody may have emptied the file.
        if self._torn_bytes:
            os.ftruncate(self._fd, max(0, os.fstat(self._fd).st_size - self._torn_bytes))
            self._torn_bytes = 0


def open_file(path: str) -> int:
    """A descriptor to append by. Raises ConfigError."""
    try:
        # Read as well, for the chain's last line; a named pipe opened so does not wait for its reader.
        return os.open(path, _FLAGS, 0o600)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        raise _unusable(path, f"there is no folder {folder} for it; make it, writable for this user") from None
    except OSError as error:
        raise _unusable(path, f"cannot be opened for appending: {error.strerror}") from error


def keep_beside(path: str, checkpoint: bytes) -> bool:
    """Keeps the newest checkpoint of a trail beside it, in the place of an older one. Whether that could be done."""
    beside = path + CHECKPOINT_SUFFIX
    new = older.unfinished(beside)
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, checkpoint)
        finally:
            os.close(fd)
        os.rename(new, beside)  # whole or not at all
    except OSError:
        return False
    return True


def read_beside(path: str) -> bytes:
    """The checkpoint that was kept beside a trail, if there is one. Raises ConfigError."""
    try:
        with open(path + CHECKPOINT_SUFFIX, "rb") as file:
            return file.read(LINE_BYTES_MAX)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _unusable(path + CHECKPOINT_SUFFIX, f"cannot be read: {error.strerror}") from error


def _lock(name: str, fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _unusable(name, "another process writes this trail; each needs a file of its own") from error


def _end_of_period(rotation: Rotation, begin: float) -> float:
    """When the period ends in which something was written last; never, if there are none."""
    seconds = rotation.seconds
    return (begin // seconds + 1) * seconds if seconds else float("inf")


def _read_end_of_older(name: str) -> bytes:
    """The last line of the newest file that was moved away by ourselves, which one without a whole line goes on behind."""
    newest = older.newest(name)
    if newest is None:
        return b""
    try:
        fd = os.open(newest, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(newest, f"cannot be read: {error.strerror}") from error
    try:
        return _read_end(newest, fd)[0]
    finally:
        os.close(fd)


def _read_end(name: str, fd: int) -> tuple[bytes, bytes]:
    """The last whole line without its newline, and what stands behind it."""
    size = os.fstat(fd).st_size
    end = _behind_last_newline(name, fd, size)
    fragment = os.pread(fd, size - end, end)
    if end == 0:
        return b"", fragment
    start = _behind_last_newline(name, fd, end - 1)
    return os.pread(fd, end - 1 - start, start), fragment


def _behind_last_newline(name: str, fd: int, size: int) -> int:
    """Where the line begins that ends at `size`; reads no more than that line."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
        if size - end > LINE_BYTES_MAX:
            raise _unusable(name, f"is not an audit trail: it ends with a line of more than {LINE_BYTES_MAX >> 20} MiB")
    return 0


def _unusable(name: str, message: str) -> ConfigError:
    return ConfigError((Finding(name, 0, "", message),))
