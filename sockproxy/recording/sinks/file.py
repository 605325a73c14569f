"""A regular file as a sink (mode 0600, appended to, locked by flock so that nobody else writes to it).

Owns its end, which is a whole line whatever happens. It takes a line when write(2) has taken the whole of it; nothing is
synced, so a line survives the process but not the machine. If a line fits only in part (disk full, quota, size limit), that
part is cut off again. After the file was moved away, `reopen` goes on in a new one, and the chain goes on over both.
"""

import fcntl
import os
import stat

from sockproxy.errors import ConfigError, Finding

LINE_BYTES_MAX = 16 << 20
"""Of a trail that is read; a line holds a request's head (1 MiB) thrice at most, escaped."""

CHECKPOINT_SUFFIX = ".checkpoint"
"""Of the file beside a trail in which its newest checkpoint is kept."""

_BLOCK_BYTES = 64 << 10


class FileSink:
    """A regular file."""

    def __init__(self, name: str, fd: int) -> None:
        """Takes over `fd`, locks it and reads its end. Raises ConfigError, with `fd` closed."""
        self.name = name
        self._fd = fd
        self._torn_bytes = 0  # of a line that was written in part and could not be cut off yet
        try:
            _lock(name, fd)
            self.last_line, self.fragment = _read_end(name, fd)
        except ConfigError:
            os.close(fd)
            raise

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

    def close(self) -> None:
        """Closes the file, and with it ends the lock."""
        try:
            self._cut_torn()
        except OSError:
            self._torn_bytes = 0  # whoever opens the file next finds the torn line and cuts it off
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
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        raise _unusable(path, f"there is no folder {folder} for it; make it, writable for this user") from None
    except OSError as error:
        raise _unusable(path, f"cannot be opened for appending: {error.strerror}") from error


def keep_beside(path: str, checkpoint: bytes) -> bool:
    """Keeps the newest checkpoint of a trail beside it, in the place of an older one. Whether that could be done."""
    beside = path + CHECKPOINT_SUFFIX
    new = beside + ".new"
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
