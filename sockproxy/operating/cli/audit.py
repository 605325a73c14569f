"""`sockproxy audit` and its `verify`: what a trail is worth.

Owns the telling; chains are checked by `recording.trail`. What a trail tells: `showing`, `querying`. Ruled by: DESIGN, "The
audit event".
"""

import re
from collections.abc import Iterator
from dataclasses import asdict

import click
import orjson

from sockproxy.operating.cli import parameters, querying, replaying, showing, tables
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.recording import trail
from sockproxy.recording.checkpoint import load_verifier
from sockproxy.recording.event import GENESIS
from sockproxy.recording.trail import Expected

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def parse_hash(text: str) -> str:
    """The hash of a line, as `verify` prints it."""
    if not _HASH.fullmatch(text):
        raise click.BadParameter("expected 64 hexadecimal digits, as `audit verify` prints them")
    return text


def parse_previous_hash(text: str) -> str:
    """The hash of the line before the first, or that nothing is known of it."""
    return trail.ANYWHERE if text == "any" else parse_hash(text)


def parse_expected(text: str) -> Expected:
    """A place in a trail, as a checkpoint or `verify` names one."""
    seq, colon, line_hash = text.partition(":")
    if not colon or not re.fullmatch("[1-9][0-9]{0,15}", seq, re.ASCII):
        raise click.BadParameter("expected the number of a line and its hash, as in 4711:9aec...")
    return Expected(int(seq), parse_hash(line_hash), "--expect")


@click.group(
    epilog=parameters.examples(
        "sockproxy audit verify /var/log/sockproxy/audit.jsonl",
        "sockproxy audit show --effect deny audit.jsonl.1.gz audit.jsonl",
        "sockproxy audit summary audit.jsonl",
    )
)
def audit() -> None:
    """Verify, read, count and query audit trails.

    Files are given from the oldest to the newest, to verify in any order; - is standard input, *.gz is unpacked.
    """


@audit.command(
    epilog=parameters.examples(
        "sockproxy audit verify audit.jsonl.2.gz audit.jsonl.1 audit.jsonl",
        "sockproxy audit verify --last-hash $HASH audit.jsonl",
        "sockproxy audit verify --public-key signing.pub audit.jsonl",
        "sockproxy audit verify --expect 4711:$HASH audit.jsonl",
    )
    + "\n\n\b\nExit codes: 0 whole, 1 broken, 2 wrong usage or an unreadable file."
)
@click.option("--last-hash", type=parse_hash, metavar="HASH", help="The hash that the last line must have.")
@click.option(
    "--previous-hash",
    type=parse_previous_hash,
    metavar="HASH|any",
    help="The hash of the line before the first, in older files; any: those are not looked for.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="Check the checkpoints' signatures with it (PEM); several, where the key has changed.",
)
@click.option(
    "--expect",
    "expected",
    multiple=True,
    type=parse_expected,
    metavar="SEQ:HASH",
    help="A line that has to be there, as it was noted elsewhere; may be given several times.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@querying.sources
def verify(
    files: tuple[str, ...],
    last_hash: str | None,
    previous_hash: str | None,
    public_keys: tuple[str, ...],
    expected: tuple[Expected, ...],
    form: str,
) -> int:
    """Check that no line was changed, removed or added.

    Files are given in any order. A cut end shows only against a place that was noted elsewhere: by --expect or
    --last-hash, by the newest checkpoint, which stands beside a signed trail as FILE.checkpoint, or by a copy of
    it, which is given like the files if its name ends so.
    """
    report = trail.verify(
        files,
        expected_last_hash=last_hash or "",
        previous_hash=GENESIS if previous_hash is None else previous_hash,
        public_keys=[load_verifier(file) for file in public_keys],
        expected=expected,
    )
    if form == "json":
        broken = report.broken._asdict() if report.broken else None
        click.echo(tables.json_text(asdict(report) | {"broken": broken}, orjson.OPT_INDENT_2))
    elif report.is_whole:
        told = _told(report, is_signature_checked=bool(public_keys))
        click.echo("\n        ".join(map(tables.printable, told)))
    if report.broken:
        click.echo(tables.printable(str(report.broken)), err=True)
    return ExitCode.DONE if report.is_whole else ExitCode.NO


def _told(report: trail.Report, *, is_signature_checked: bool) -> Iterator[str]:
    trails = f" in {report.trails} trails" if report.trails > 1 else ""
    yield (
        f"whole   {report.lines} lines{trails}, {report.decided} decided, {report.completed} completed, "
        f"{report.unfinished} unfinished"
    )
    yield f"last hash {report.last_hash or 'none'}"
    if report.checkpoints:
        behind = report.last_seq - report.signed_seq
        late = f", {report.signed_late} of them late, at the next start" if report.signed_late else ""
        yield (
            f"signed to seq {report.signed_seq}, {report.signed_time}, by {report.checkpoints} checkpoints{late}; "
            f"{behind} lines follow" + ("" if is_signature_checked else " (signatures not checked: --public-key)")
        )


for command in (showing.show, showing.summary, replaying.replay, querying.query, querying.export):
    audit.add_command(command)
