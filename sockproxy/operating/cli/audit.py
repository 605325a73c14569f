"""`sockproxy audit` and its `verify`: what a trail is worth.

Owns the telling; chains are checked by `recording.trail`. What a trail tells: `showing`, `querying`. Ruled by: DESIGN, "The
audit event".
"""

import re
from dataclasses import asdict

import click
import orjson

from sockproxy.operating.cli import parameters, querying, replaying, showing
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.recording import trail
from sockproxy.recording.event import GENESIS

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def parse_hash(text: str) -> str:
    """The hash of a line, as `verify` prints it."""
    if not _HASH.fullmatch(text):
        raise click.BadParameter("expected 64 hexadecimal digits, as `audit verify` prints them")
    return text


@click.group(
    epilog=parameters.examples(
        "sockproxy audit verify /var/log/sockproxy/audit.jsonl",
        "sockproxy audit show --effect deny audit.jsonl.1.gz audit.jsonl",
        "sockproxy audit summary audit.jsonl",
    )
)
def audit() -> None:
    """Verify, read, count and query audit trails.

    Files are given from the oldest to the newest; - is standard input, *.gz is unpacked.
    """


@audit.command(
    epilog=parameters.examples(
        "sockproxy audit verify audit.jsonl.2.gz audit.jsonl.1 audit.jsonl",
        "sockproxy audit verify --last-hash $HASH audit.jsonl",
    )
    + "\n\n\b\nExit codes: 0 whole, 1 broken, 2 wrong usage or an unreadable file."
)
@click.option("--last-hash", type=parse_hash, metavar="HASH", help="The hash that the last line must have.")
@click.option(
    "--previous-hash", type=parse_hash, metavar="HASH", help="The hash of the line before the first, in older files."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@querying.sources
def verify(files: tuple[str, ...], last_hash: str | None, previous_hash: str | None, form: str) -> int:
    """Check that no line was changed, removed or added.

    A cut end shows only against a hash that was noted elsewhere: note the last hash, give it back as --last-hash.
    """
    report = trail.verify(files, expected_last_hash=last_hash or "", previous_hash=previous_hash or GENESIS)
    if form == "json":
        broken = report.broken._asdict() if report.broken else None
        click.echo(orjson.dumps(asdict(report) | {"broken": broken}, option=orjson.OPT_INDENT_2))
    elif report.is_whole:
        click.echo(
            f"whole   {report.lines} lines, {report.decided} decided, {report.completed} completed, "
            f"{report.unfinished} unfinished\n        last hash {report.last_hash or 'none'}"
        )
    if report.broken:
        click.echo(str(report.broken), err=True)
    return ExitCode.DONE if report.is_whole else ExitCode.NO


for command in (showing.show, showing.summary, replaying.replay, querying.query, querying.export):
    audit.add_command(command)
