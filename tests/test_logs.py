"""Logs: one line an event, with its fields, readable on a terminal and JSON elsewhere."""

import io
import logging
import os
import pty
import subprocess
import sys

import orjson
import pytest

from sockproxy.operating.logs import JsonFormatter, TextFormatter

RAISES = ValueError("no")


def record(
    event: str, level: int = logging.WARNING, error: Exception | None = None, **extra: object
) -> logging.LogRecord:
    logger = logging.Logger("sockproxy")
    exc_info = (type(error), error, None) if error is not None else None
    return logger.makeRecord("sockproxy", level, __file__, 1, event, (), exc_info, extra=extra)


def as_json(made: logging.LogRecord) -> dict[str, object]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    return orjson.loads(line)


# Field, and its value in readable text.
VALUES = {
    "plain": ("web", "web"),
    "number": (3, "3"),
    "none": (None, "None"),
    "empty": ("", '""'),
    "blank": ("no rule allows it", '"no rule allows it"'),
}


@pytest.mark.parametrize(("value", "text"), VALUES.values(), ids=VALUES)
def test_a_field_in_readable_text(value: object, text: str) -> None:
    line = TextFormatter().format(record("denied", reason=value))
    assert line[8:] == f" warning denied  reason={text}"


def test_an_event_without_fields_has_nothing_behind_it() -> None:
    assert TextFormatter().format(record("stopped", logging.INFO))[8:] == " info    stopped"


@pytest.mark.parametrize("value", ["two\nlines", "a\rreturn", 'a "word"', "\x1b[31mred", "next\u2028line"])
def test_no_value_breaks_out_of_its_line_or_its_quotes(value: str) -> None:
    line = TextFormatter().format(record("reload-failed", reason=value, file="a"))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert line.endswith(" file=a")
    assert as_json(record("reload-failed", reason=value))["reason"] == value


def test_json_names_time_level_event_and_the_fields() -> None:
    made = record("denied", operation="ContainerPause", exchange="a-1")
    made.created = 1735689600.25
    assert as_json(made) == {
        "time": "2025-01-01T00:00:00.250000Z",
        "level": "warning",
        "event": "denied",
        "operation": "ContainerPause",
        "exchange": "a-1",
    }


def test_json_takes_what_json_has_no_word_for() -> None:
    assert as_json(record("engine-down", engine=RAISES))["engine"] == "no"
    assert as_json(record("listening", address="unix:///run/\udcff.sock"))["event"] == "listening"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_fault_tells_where_it_was(formatter: logging.Formatter) -> None:
    assert "ValueError: no" in formatter.format(record("unforeseen", error=RAISES))


TALK = """
import logging, sys
from sockproxy.operating import logs
logs.set_up(sys.argv[1], sys.argv[2])
logging.getLogger("sockproxy").info("started", extra={"workers": 1})
logging.getLogger("asyncio").warning("slow")
"""


def say(log_format: str, level: str, stderr: int) -> None:
    subprocess.run([sys.executable, "-c", TALK, log_format, level], stderr=stderr, check=True, timeout=30)


def said(log_format: str, level: str, *, terminal: bool = False) -> list[str]:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    say(log_format, level, theirs)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    return text.splitlines()


def test_auto_is_json_in_a_pipe_and_text_on_a_terminal() -> None:
    assert [orjson.loads(line)["event"] for line in said("auto", "info")] == ["started", "slow"]
    assert [line[9:] for line in said("auto", "info", terminal=True)] == ["info    started  workers=1", "warning slow"]


def test_what_is_asked_for_beats_what_is_there() -> None:
    assert [line[9:] for line in said("text", "warning")] == ["warning slow"]
    assert [orjson.loads(line)["level"] for line in said("json", "info", terminal=True)] == ["info", "warning"]


def test_a_stream_may_be_named() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.emit(record("started"))
    assert orjson.loads(stream.getvalue())["event"] == "started"
