"""Logs: one line an event on standard error, readable on a terminal, JSON elsewhere.

Owns the two forms. Must not know which events there are. An event is a name and fields (`extra`): start, reload, drain,
denials, faults; everything else about a request is in the audit trail and the metrics.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

LogFormat = Literal["auto", "text", "json"]

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def set_up(log_format: LogFormat, level: str, stream: TextIO = sys.stderr) -> None:
    """Sends the events of `sockproxy` and its libraries to `stream`; `auto` is text on a terminal and JSON elsewhere."""
    is_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """`12:34:56 info  denied  operation=ContainerPause reason="no rule allows it"`"""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = " ".join(f"{key}={_quoted(value)}" for key, value in _fields(record).items())
        line = f"{at} {record.levelname.lower():7} {record.getMessage()}  {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "event": ..., ...}`"""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        event = {"time": time.replace("+00:00", "Z"), "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(_utf8(event | _fields(record))).decode()


def _utf8(event: dict[str, object]) -> dict[str, object]:
    """The same as text that UTF-8 can say; a number stays one."""
    return {
        key: value if isinstance(value, int | float) else str(value).encode("utf-8", "backslashreplace").decode()
        for key, value in event.items()
    }


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN}


def _quoted(value: object) -> str:
    """A value as it stands in a line: quoted if it would not end there, with nothing that could break the line."""
    text = str(value)
    if text and text.isprintable() and not set(text) & {" ", '"', "\\"}:
        return text
    escaped = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text.replace("\\", "\\\\")
    )
    return '"' + escaped.replace('"', '\\"') + '"'
