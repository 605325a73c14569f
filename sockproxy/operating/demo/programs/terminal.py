"""A terminal: what a person types becomes echo, lines, signals and the end of input; its size can change.

Owns the line discipline of a tty (the cooked mode of termios(3), as far as people notice it). Pure of I/O but for the
pipe that it feeds: `typed` returns what is to be echoed. Must not know programs, connections or the engine.
"""

import signal
from collections.abc import Callable

from sockproxy.operating.demo.programs.pipes import Pipe

LINE_BYTES_MAX = 4096  # termios(3): a line in canonical mode is limited to 4096 bytes
ESCAPE = 0x1B


class Terminal:
    """Between a typing client and a program's standard input. `interrupt` gets the signals that keys send."""

    __slots__ = ("_escape", "_interrupt", "_line", "_stdin", "columns", "has_echo", "is_cooked", "rows")

    def __init__(self, stdin: Pipe, interrupt: Callable[[int], None]) -> None:
        self._stdin = stdin
        self._interrupt = interrupt
        self._line = bytearray()
        self._escape = b""
        self.rows = 0  # dockerd starts with 0 by 0, too, until a client tells
        self.columns = 0
        self.has_echo = True
        self.is_cooked = True

    def typed(self, chunk: bytes) -> bytes:
        """Takes what was typed and gives back what the screen shows of it."""
        if not self.is_cooked:
            self._stdin.offer(chunk)
            return chunk if self.has_echo else b""
        echo = b"".join(map(self._key, chunk))
        return echo if self.has_echo else b""

    def _key(self, byte: int) -> bytes:
        if self._escape or byte == ESCAPE:
            return self._escaped(byte)
        if special := _KEYS.get(byte):
            return special(self)
        if (byte < 0x20 and byte != 0x09) or len(self._line) >= LINE_BYTES_MAX - 1:
            return b""
        self._line.append(byte)
        return bytes((byte,))

    def _escaped(self, byte: int) -> bytes:
        """Swallows the sequence of an arrow or function key: ESC [ parameters letter, ESC O letter, ESC letter."""
        self._escape += bytes((byte,))
        is_open = len(self._escape) < 16 and (
            self._escape in (b"\x1b", b"\x1b[", b"\x1bO") or (self._escape.startswith(b"\x1b[") and byte < 0x40)
        )
        if not is_open:
            self._escape = b""
        return b""

    def _enter(self) -> bytes:
        self._stdin.offer(bytes(self._line) + b"\n")
        self._line.clear()
        return b"\r\n"

    def _erase(self) -> bytes:
        if not self._line:
            return b""
        while self._line and self._line.pop() & 0xC0 == 0x80:
            continue  # the further bytes of one UTF-8 character
        return b"\b \b"

    def _erase_line(self) -> bytes:
        shown = len(self._line.decode(errors="replace"))
        self._line.clear()
        return b"\b \b" * shown

    def _end(self) -> bytes:
        if self._line:
            self._stdin.offer(bytes(self._line))
            self._line.clear()
        else:
            self._stdin.end_once()
        return b""

    def _interrupted(self) -> bytes:
        self._line.clear()
        self._interrupt(signal.SIGINT)
        return b"^C\r\n"

    def _quit(self) -> bytes:
        self._line.clear()
        self._interrupt(signal.SIGQUIT)
        return b"^\\\r\n"


_KEYS: dict[int, Callable[[Terminal], bytes]] = {
    0x03: Terminal._interrupted,  # ^C
    0x04: Terminal._end,  # ^D
    0x08: Terminal._erase,
    0x0A: Terminal._enter,
    0x0D: Terminal._enter,
    0x15: Terminal._erase_line,  # ^U
    0x1C: Terminal._quit,
    0x7F: Terminal._erase,
}
