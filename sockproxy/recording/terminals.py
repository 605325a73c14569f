"""Recorded terminals: what came out of an attach or an exec start, and what was typed if that was asked for.

Owns the files: asciicast v2, one a session, named by the exchange's id, and which sessions are open. Must not know sockets.
Begin at `Terminals.begin`. Source of the format: asciinema's documentation, "asciicast v2".

A line of a recording is written before its bytes go on to who asked for them. What is no UTF-8 is replaced, character by
character, since the format knows text only.
"""

import codecs
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs

import orjson

from sockproxy.exchange import Exchange, Recorded
from sockproxy.judging.policy import Record
from sockproxy.wire.frames import unframed

RESIZES = frozenset({"ContainerResize", "ExecResize"})

SIZE_DEFAULT = (80, 24)
"""Columns and rows until the client tells: what the engine gives a terminal that nobody has sized."""

_SIZE_MAX = 10_000  # of columns and rows: what is larger is no terminal
_MARK = "m"  # asciicast v2: a mark, with a label


class Terminal:
    """One session that is being recorded. `is_cut`: no more of it can be."""

    def __init__(self, file: Path, exchange: Exchange, record: Record, bytes_max: int) -> None:
        """Raises OSError where the file cannot be made."""
        self._file = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._began_at = time.monotonic()
        self._bytes_left = bytes_max
        self._bytes = 0
        self._hash = hashlib.sha256()
        self.is_cut = False
        is_websocket = _operation(exchange) == "ContainerAttachWebsocket"
        self._output = _Decoder("o", is_websocket=is_websocket)
        self._input = _Decoder("i", is_websocket=is_websocket) if record is Record.WITH_INPUT else None
        width, height = SIZE_DEFAULT
        self._write(
            {
                "version": 2,
                "width": width,
                "height": height,
                "timestamp": int(exchange.received_time),
                "title": f"{_operation(exchange)} {_resource_name(exchange)}",
            }
        )

    @property
    def has_input(self) -> bool:
        """Whether what is typed is recorded, too."""
        return self._input is not None

    def output(self, data: bytes) -> None:
        """What the engine sent."""
        self._tell(self._output, data)

    def input(self, data: bytes) -> None:
        """What the client sent."""
        if self._input is not None:
            self._tell(self._input, data)

    def resize(self, columns: int, rows: int) -> None:
        """The client's terminal has another size now."""
        self._write([self._now(), "r", f"{columns}x{rows}"])

    def end(self) -> Recorded:
        """Closes the file and says what is in it."""
        for decoder in (self._output, self._input):
            if decoder is not None:
                self._tell(decoder, b"", is_last=True)
        os.close(self._descriptor)
        return Recorded(str(self._file), self._hash.hexdigest(), self._bytes, self.is_cut)

    def discard(self) -> None:
        """It was no session after all: nothing is left of it."""
        os.close(self._descriptor)
        self._file.unlink(missing_ok=True)

    def _tell(self, decoder: "_Decoder", data: bytes, *, is_last: bool = False) -> None:
        if text := decoder.text(data, is_last=is_last):
            self._write([self._now(), decoder.kind, text])

    def _now(self) -> float:
        return round(time.monotonic() - self._began_at, 6)

    def _write(self, event: object) -> None:
        if self.is_cut:
            return
        line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
        if len(line) > self._bytes_left:
            self._cut_off("the recording ends here: it would be larger than bytes_max")
            return
        try:
            self._append(line)
        except OSError:
            self.is_cut = True
            # Lawful: the session ends, or the event tells that it is cut, as the configuration says.

    def _append(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._hash.update(line)
        self._bytes += len(line)
        self._bytes_left -= len(line)

    def _cut_off(self, why: str) -> None:
        self.is_cut = True
        with suppress(OSError):  # lawful: `is_cut` tells it as well
            self._append(orjson.dumps([self._now(), _MARK, why], option=orjson.OPT_APPEND_NEWLINE))


class Terminals:
    """The sessions of a process that are being recorded, and where their files go."""

    def __init__(self, directory: str, bytes_max: int, *, ends_session: bool) -> None:
        """`ends_session`: one that cannot be recorded any more ends. Raises OSError where the directory cannot be made."""
        self.ends_session = ends_session
        self._directory = Path(directory)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bytes_max = bytes_max
        self._open: dict[str, list[Terminal]] = {}  # by the name of the container or exec
        self.tell_others: Callable[[str, int, int], None] = _tell_nobody
        """What `resized` is told, for other processes that may have a session of that name."""

    def begin(self, exchange: Exchange, record: Record) -> Terminal:
        """Records a session from now on. Raises OSError where that is not possible."""
        file = self._directory / f"{exchange.id}.cast"
        terminal = Terminal(file, exchange, record, self._bytes_max)
        self._open.setdefault(_resource_name(exchange), []).append(terminal)
        return terminal

    def end(self, exchange: Exchange, terminal: Terminal) -> None:
        """The session is over: the exchange tells of its recording, or there is none if it never became a tunnel."""
        name = _resource_name(exchange)
        self._open[name].remove(terminal)
        if not self._open[name]:
            del self._open[name]
        if exchange.is_tunnel:
            exchange.recording = terminal.end()
        else:
            terminal.discard()

    def completed(self, exchange: Exchange) -> None:
        """Passes on that a terminal has another size, if that is what an exchange was about."""
        if _operation(exchange) not in RESIZES or exchange.status >= 300:
            return
        size = _size(exchange.target)
        if size is not None:
            self.resized(_resource_name(exchange), *size)
            self.tell_others(_resource_name(exchange), *size)

    def resized(self, name: str, columns: int, rows: int) -> None:
        """The terminal of that container or exec has another size now."""
        for terminal in self._open.get(name, ()):
            terminal.resize(columns, rows)


class _Decoder:
    """The text of one direction."""

    def __init__(self, kind: str, *, is_websocket: bool) -> None:
        self.kind = kind
        self._is_framed = kind == "o" or is_websocket
        self._unframe = unframed(is_websocket=is_websocket)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def text(self, data: bytes, *, is_last: bool) -> str:
        return self._decode(self._unframe(data) if self._is_framed else data, is_last)


def _tell_nobody(_name: str, _columns: int, _rows: int) -> None:
    """Of one process that serves alone."""


def _operation(exchange: Exchange) -> str:
    operation = exchange.classified.operation if exchange.classified is not None else None
    return "" if operation is None else operation.operation_id


def _resource_name(exchange: Exchange) -> str:
    return "" if exchange.classified is None else exchange.classified.resource_name


def _size(target: str) -> tuple[int, int] | None:
    """Columns and rows in the query of a resize."""
    query = parse_qs(target.partition("?")[2])
    try:
        columns, rows = int(query["w"][0]), int(query["h"][0])
    except (KeyError, ValueError):
        return None  # lawful: the engine has answered it, and that is all that it is good for
    return (columns, rows) if 0 < columns <= _SIZE_MAX and 0 < rows <= _SIZE_MAX else None
