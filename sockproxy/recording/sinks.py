"""Where audit lines go: a file, standard output.

Owns bytes that must not be torn, lost in silence, or mixed with another writer's. Must not know what a line says
(`audit`). Begin at `open_sink`.

A **file** (mode 0600, appended to, locked by flock so that nobody else writes to it) takes a line when write(2) has
taken the whole of it; nothing is synced, so a line survives the process but not the machine. If a line fits only in
part (disk full, quota, size limit), that part is cut off again: a file that fails ends with a whole line. After it was
moved away, `reopen` goes on in a new file, and the chain goes on over both.

A **stream** (standard output, and every path that is no regular file: a pipe, /dev/stderr) cannot take anything back. A
line that went out in part stays the first of what waits, and is finished before anything else is written. Whether the
stream is blocking is left as it is, since it may be shared: each write is at most what poll(2) promises to take without
waiting. A reader that is slow is waited for, `STREAM_PATIENCE_MS`, if a request waits for its line; if that was in vain,
not again until bytes are taken. A chain on a stream begins anew with each process: it has no end that could be read.

One trail has one writer. Several workers would not share a file: either each writes its own trail (to read them all is
to sort by time), or they hand their events to the one process that owns the trail, and wait for its word on those that
are owed. A shared chain would need a lock around each line and the last hash in shared memory, and a worker that dies
between the two would break it.
"""

import fcntl
import os
import select
import stat
from collections.abc import Callable

from sockproxy.errors import ConfigError, Finding
from sockproxy.recording.audit import Sink

STANDARD_OUTPUT = "-"

LINE_BYTES_MAX = 16 << 20
"""Of a trail that is read; a line holds a request's head (1 MiB) thrice at most, escaped."""

STREAM_PATIENCE_MS = 50
"""How long a slow reader of a stream may hold up everything; a log shipper is late by a few milliseconds."""

_BLOCK_BYTES = 64 << 10
_STREAM_BYTES = select.PIPE_BUF
# pipe(7): "O_NONBLOCK disabled, n <= PIPE_BUF: all n bytes are written atomically"; POLLOUT means that so much fits


def open_sink(file: str) -> Sink:
    """The sink that a configuration names: `-` is standard output, anything else a path. Raises ConfigError."""
    if file == STANDARD_OUTPUT:
        return StreamSink(STANDARD_OUTPUT, 1)
    fd = _open(file)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return FileSink(file, fd)
    return StreamSink(file, fd)


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
        fd = _open(self.name)
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


class StreamSink:
    """Standard output, or what else cannot be taken back."""

    last_line = b""
    fragment = b""

    def __init__(self, name: str, fd: int, wait_until_writable: Callable[[int], bool] | None = None) -> None:
        """`wait_until_writable`: whether the stream takes bytes within so many milliseconds."""
        self.name = name
        self._fd = fd
        self._wait_until_writable = wait_until_writable or _writability(fd)
        self._was_waited_for_in_vain = False

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        """Writes what the stream takes; waits for it once at most."""
        written = 0
        patience_ms = STREAM_PATIENCE_MS if may_wait and not self._was_waited_for_in_vain else 0
        try:
            while written < len(lines):
                if not self._wait_until_writable(0):
                    if not patience_ms:
                        break
                    if not self._wait_until_writable(patience_ms):
                        self._was_waited_for_in_vain = True
                        break
                    patience_ms = 0
                written += os.write(self._fd, lines[written : written + _STREAM_BYTES])
                self._was_waited_for_in_vain = False
        except OSError:
            return written  # a reader that is gone (EPIPE) or full (EAGAIN, where somebody made it non-blocking)
        return written

    def cut_fragment(self) -> None:
        """There is none."""

    def reopen(self) -> None:
        """A stream is not moved away."""

    def close(self) -> None:
        """Leaves standard output open: it belongs to the process."""
        if self.name != STANDARD_OUTPUT:
            os.close(self._fd)


def _writability(fd: int) -> Callable[[int], bool]:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return lambda milliseconds: bool(poll.poll(milliseconds))


def _open(path: str) -> int:
    try:
        # Read as well, for the chain's last line; a named pipe opened so does not wait for its reader.
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        raise _unusable(path, f"there is no folder {folder} for it; make it, writable for this user") from None
    except OSError as error:
        raise _unusable(path, f"cannot be opened for appending: {error.strerror}") from error


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
