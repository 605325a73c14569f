"""`sockproxy audit replay`: a recorded session, played.

Owns the finding of its file, the check that it is what was recorded, and the pace. Must not know how recordings come about
(`recording.terminals`).
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import click
import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.operating.cli import parameters, querying
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.recording import trail
from sockproxy.recording.event import Event

IDLE_SECONDS = 2.0
"""The longest pause that is played as long as it was, unless told otherwise."""


@click.command(
    epilog=parameters.examples(
        "sockproxy audit replay 01f3a9-42 audit.jsonl",
        "sockproxy audit replay --speed 0 01f3a9-42 audit.jsonl > session.txt",
        "sockproxy audit replay --directory /mnt/backup/sessions 01f3a9-42 audit.jsonl",
    )
    + "\n\n\b\nExit codes: 0 played, 1 the recording is not what was recorded, 2 wrong usage or an unreadable file."
)
@click.option("--speed", type=click.FloatRange(0), default=1.0, show_default=True, help="How fast; 0: without pauses.")
@click.option(
    "--idle-max",
    type=click.FloatRange(0),
    default=IDLE_SECONDS,
    show_default=True,
    help="The longest pause, in seconds.",
)
@click.option("--input", "with_input", is_flag=True, help="Show what was typed, not what came out.")
@click.option("--directory", type=click.Path(), help="Where the recordings are now.")
@click.argument("id")
@querying.sources
def replay(
    id: str, files: tuple[str, ...], speed: float, idle_max: float, with_input: bool, directory: str | None
) -> int:
    """Play the session of a request: ID is that of its audit events.

    The recording's hash must be the one in the trail. It holds what a program wrote to a terminal, and yours obeys it.
    """
    recorded = next((event["recording"] for event in trail.read_events(files) if _is_session(event, id)), None)
    if not isinstance(recorded, dict):
        click.echo(f"sockproxy: no session of {id} was recorded here", err=True)
        return ExitCode.NO
    name = str(recorded["file"])
    file = os.path.join(directory, os.path.basename(name)) if directory is not None else name
    lines = _checked_lines(file, str(recorded["sha256"]))
    for text in _played(lines, "i" if with_input else "o", speed, idle_max, time.sleep):
        click.echo(text, nl=False)
    if recorded["is_cut"]:
        click.echo("\nsockproxy: the recording ends before the session did", err=True)
    return ExitCode.DONE


def _is_session(event: Event, id: str) -> bool:
    return event["id"] == id and event.get("recording") is not None


def _checked_lines(file: str, sha256: str) -> list[bytes]:
    """The lines of a recording. Raises ConfigError if it is not what was recorded, OSError if it cannot be read."""
    with open(file, "rb") as opened:
        content = opened.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ConfigError((Finding(file, 0, "", "is not what was recorded: its hash is another than the trail's"),))
    return content.splitlines()


def _played(
    lines: list[bytes], kind: str, speed: float, idle_max: float, wait: Callable[[float], None]
) -> Iterator[str]:
    before = 0.0
    for line in lines[1:]:
        at, what, text = cast("list[Any]", orjson.loads(line))
        if what == kind:
            if speed:
                wait(min((at - before) / speed, idle_max))
            before = at
            yield text
