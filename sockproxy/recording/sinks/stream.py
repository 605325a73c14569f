"""A stream as a sink: standard output, and every path that is no regular file (a pipe, /dev/stderr).

Owns what cannot be taken back. A line that went out in part stays the first of what waits, and is finished before anything
else is written. Whether the stream is blocking is left as it is, since it may be shared: each write is at most what poll(2)
promises to take without waiting. A reader that is slow is waited for, `STREAM_PATIENCE_MS`, if a request waits for its
line; if that was in vain, not again until bytes are taken. A chain on a stream begins anew with each process: it has no end
that could be read.
"""

import os
import select
from collections.abc import Callable

STANDARD_OUTPUT = "-"

STREAM_PATIENCE_MS = 50
"""How long a slow reader of a stream may hold up everything; a log shipper is late by a few milliseconds."""

_STREAM_BYTES = select.PIPE_BUF
# pipe(7): "O_NONBLOCK disabled, n <= PIPE_BUF: all n bytes are written atomically"; POLLOUT means that so much fits


class StreamSink:
    """Standard output, or what else cannot be taken back."""

    file = None

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

    def close(self) -> None:
        """Leaves standard output open: it belongs to the process."""
        if self.name != STANDARD_OUTPUT:
            os.close(self._fd)


def _writability(fd: int) -> Callable[[int], bool]:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return lambda milliseconds: bool(poll.poll(milliseconds))
