"""Docker's client in a terminal, as a person uses it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Door

READ_SECONDS = 30.0


class Terminal:
    """A docker command whose three standard streams are one pseudo terminal, of which the test holds the other end."""

    def __init__(self, door: "Door", *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = b""  # since it was last waited for something
        self.resize(rows, columns)
        self._process = subprocess.Popen(
            [door.program, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=door.environment(TERM="xterm"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the client by SIGWINCH, as when a window is dragged."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize_until(self, rows: int, columns: int, end: bytes) -> None:
        """Resizes until the screen has shown `end`. A client listens for new sizes only a while after it has told its first
        one, so it is told again (and reads then what the size is now)."""
        self.resize(rows, columns)
        seen = b""
        deadline = time.monotonic() + READ_SECONDS
        while end not in seen:
            assert time.monotonic() < deadline, f"{end!r} did not come: {seen!r}"
            self._process.send_signal(signal.SIGWINCH)
            self.shows(end, 0.1)
            seen += self.shown

    def send(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read_until(self, end: bytes) -> None:
        """Reads on until the screen has shown `end`."""
        assert self.shows(end, READ_SECONDS), f"{end!r} did not come: {self.shown!r}"

    def shows(self, end: bytes, seconds: float) -> bool:
        """Whether the screen shows `end` within that time."""
        self.shown = b""
        deadline = time.monotonic() + seconds
        while end not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            self.shown += os.read(self._ours, 65536)
        return True

    def wait(self) -> int:
        return self._process.wait(READ_SECONDS)
