"""`sockproxy audit verify`, `show` and `summary`: what a trail is worth, and what it tells.

Owns the telling; trails are read by `recording.trail`. Ruled by: DESIGN, "The audit event".
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import click
import orjson

from sockproxy.operating.cli import parameters, tables
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.tables import Table
from sockproxy.recording import trail
from sockproxy.recording.event import GENESIS

COUNTED = {
    "operations": ("operation", "effect"),
    "denials": ("operation", "policy", "reason"),
    "shadow_denials": ("operation", "policy", "reason"),
    "principals": ("principal", "effect"),
    "listeners": ("listener",),
    "policies": ("policy",),
    "statuses": ("status",),
    "effects": ("effect",),
}
"""The counters of a summary, and what each counts by."""

SHOWN = {
    "operations": "no requests",
    "denials": "nothing was denied",
    "shadow_denials": "",
    "principals": "nobody asked",
}
"""The counters that make a table for people, and what an empty one says; "" leaves it out."""

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def parse_hash(text: str) -> str:
    """The hash of a line, as `verify` prints it."""
    if not _HASH.fullmatch(text):
        raise click.BadParameter("expected 64 hexadecimal digits, as `audit verify` prints them")
    return text


_files = click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(),
    callback=lambda _context, _parameter, names: parameters.trail_files(names),
)


@click.group(
    epilog=parameters.examples(
        "sockproxy audit verify /var/log/sockproxy/audit.jsonl",
        "sockproxy audit show --effect deny audit.jsonl.1.gz audit.jsonl",
        "sockproxy audit summary audit.jsonl",
    )
)
def audit() -> None:
    """Verify, read and count audit trails.

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
@_files
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


@audit.command(
    epilog=parameters.examples(
        "sockproxy audit show --effect deny audit.jsonl",
        "sockproxy audit show --id 01f3a9-42 audit.jsonl",
        "sockproxy audit show --format json audit.jsonl | jq .principal",
    )
)
@click.option(
    "--operation",
    "operations",
    multiple=True,
    type=parameters.parse_operation,
    shell_complete=parameters.complete_operation,
    metavar="OP",
    help="Only these operations.",
)
@click.option("--effect", type=click.Choice(["allow", "deny"]), help="Only what was allowed, or denied.")
@click.option("--stage", type=click.Choice(["decided", "completed"]), help="Only events of that stage.")
@click.option("--id", "exchange_id", metavar="ID", help="Only one request: the Sockproxy-Request-Id of its answer.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_files
def show(
    files: tuple[str, ...],
    operations: tuple[str, ...],
    effect: str | None,
    stage: str | None,
    exchange_id: str | None,
    form: str,
) -> int:
    """Print events, one a line, in the order of the files."""
    wanted = {"effect": effect, "stage": stage, "id": exchange_id}
    conditions = {key: value for key, value in wanted.items() if value is not None}
    tell = trail.describe if form == "text" else lambda event: orjson.dumps(event).decode()
    for event in trail.read_events(files):
        is_named = not operations or event["operation"] in operations
        if is_named and all(event[key] == value for key, value in conditions.items()):
            click.echo(tell(event))
    return ExitCode.DONE


@audit.command(epilog=parameters.examples("sockproxy audit summary audit.jsonl.1.gz audit.jsonl"))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_files
def summary(files: tuple[str, ...], form: str) -> int:
    """Count requests by operation, denial and principal."""
    found = trail.summarise(trail.read_events(files))
    if form == "json":
        click.echo(orjson.dumps(_as_object(found), option=orjson.OPT_INDENT_2))
        return ExitCode.DONE
    click.echo(f"{found.requests} requests, {_size(found.bytes_in)} in, {_size(found.bytes_out)} out")
    if found.lines:
        click.echo(f"first {found.first_time}\nlast  {found.last_time}")
    for name, empty in SHOWN.items():
        counter = getattr(found, name)
        if counter or empty:
            click.echo(f"\n{name.replace('_', ' ')}")
            tables.write([_counts(COUNTED[name], counter, empty)])
    return ExitCode.DONE


def _as_object(found: trail.Summary) -> dict[str, object]:
    plain: dict[str, object] = {
        name: getattr(found, name) for name in ("lines", "requests", "first_time", "last_time", "bytes_in", "bytes_out")
    }
    for name, columns in COUNTED.items():
        plain[name] = [
            dict(zip(columns, words, strict=True)) | {"requests": count}
            for words, count in _most_first(getattr(found, name))
        ]
    return plain


def _counts(columns: tuple[str, ...], counter: Counter[str] | Counter[tuple[str, ...]], empty: str) -> Table:
    rows = tuple((f"{count:>8}", *words) for words, count in _most_first(counter))
    return Table(("requests", *columns), rows, empty=empty)


def _most_first(counter: Mapping[str, int] | Mapping[tuple[str, ...], int]) -> Iterable[tuple[tuple[str, ...], int]]:
    entries = (((key,) if isinstance(key, str) else key, count) for key, count in counter.items())
    return sorted(entries, key=lambda entry: (-entry[1], entry[0]))


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"
