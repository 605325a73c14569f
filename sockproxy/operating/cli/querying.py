"""`sockproxy audit query` and `export`: trails as tables.

Owns the options and how rows are told. What is read, and how, is `operating.querying`'s.
"""

import csv
import io
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import click
import orjson

from sockproxy.operating.cli import parameters, tables
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.tables import Table
from sockproxy.operating.querying import MEMORY, ROWS_AT_ONCE, Answer, Archive

TABLE_ROWS_MAX = 10_000
"""Rows of a table for people: its columns are as wide as the widest of all its rows, so they are held in memory."""

sources = click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    callback=lambda _context, _parameter, names: parameters.trail_files(names),
)
memory = click.option("--memory", default=MEMORY, show_default=True, metavar="SIZE", help="What it may take of memory.")
archive = click.option(
    "--archive", is_flag=True, help="Read by DuckDB, on all cores. Directories, patterns and URLs always are."
)
threads = click.option(
    "--threads", type=click.IntRange(1, 1024), metavar="N", help="How many; a core each if not told."
)


@click.command(
    epilog=parameters.examples(
        'sockproxy audit query "SELECT operation, count(*) FROM requests GROUP BY ALL" audit.jsonl',
        'sockproxy audit query --format csv "SELECT time, resource.name FROM requests\n'
        "    WHERE operation = 'ContainerCreate' AND time > now() - INTERVAL 1 DAY\" 'logs/*/audit.jsonl*'",
        'sockproxy audit query "SELECT host, count(*) FROM events GROUP BY host" s3://bucket/audit',
    )
)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@memory
@threads
@click.argument("sql", metavar="SQL")
@sources
def query(files: tuple[str, ...], sql: str, form: str, memory: str, threads: int | None) -> int:
    """Ask trails in SQL, by DuckDB: events, requests (completed ones) and unfinished (decided, no more).

    FILEs are trails, packed or not, Parquet that `audit export` wrote, directories of it, patterns in quotes, and URLs of
    object stores. What does not fit into memory goes to temporary files. The chain is not checked: `audit verify` does.
    """
    with closing(Archive(files, memory=memory, threads=threads)) as archive:
        for text in TELL[form](archive.ask(sql)):
            click.echo(text, nl=False)
    return ExitCode.DONE


@click.command(
    epilog=parameters.examples(
        "sockproxy audit export --to /srv/audit audit.jsonl.2.gz audit.jsonl.1",
        "sockproxy audit export --to s3://bucket/audit --host-pattern '/logs/([^/]+)/' '/logs/*/audit.jsonl.1'",
    )
)
@click.option("--to", "directory", required=True, metavar="DIRECTORY", help="Where to; or the URL of an object store.")
@click.option("--host", default=platform.node, metavar="NAME", help="Whose trail it is.  [default: this host's name]")
@click.option(
    "--host-pattern", default="", metavar="REGEX", help="Finds the host in a file's path, as the first group."
)
@memory
@threads
@sources
def export(
    files: tuple[str, ...], directory: str, host: str, host_pattern: str, memory: str, threads: int | None
) -> int:
    """Write trails as Parquet files, partitioned by day and host: day=.../host=.../audit-....parquet.

    Each call adds files. All columns are kept, `prev` and `hash` among them.
    """
    if host_pattern and _groups(host_pattern) != 1:
        raise click.BadParameter("expected a regular expression with one group", param_hint="--host-pattern")
    with closing(Archive(files, memory=memory, threads=threads)) as archive:
        written = archive.export(directory, host, host_pattern)
    click.echo(f"{written} events written to {directory}")
    return ExitCode.DONE


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return 0  # lawful: the caller says what is expected


def _as_table(answer: Answer) -> Iterator[str]:
    rows = tuple(tuple(map(_cell, row)) for row in islice(answer.rows, TABLE_ROWS_MAX))
    table = Table(answer.columns, rows, empty="no rows")
    if next(answer.rows, None) is not None:
        table = Table(answer.columns, rows, empty="", notes=(f"only the first {TABLE_ROWS_MAX} rows are shown",))
    tables.write([table])
    return iter(())


def _as_csv(answer: Answer) -> Iterator[str]:
    tell = _printable_cell if tables.is_terminal() else _cell
    yield _csv_lines([answer.columns])
    while rows := list(islice(answer.rows, ROWS_AT_ONCE)):
        yield _csv_lines(map(tell, row) for row in rows)


def _csv_lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _as_json(answer: Answer) -> Iterator[str]:
    for row in answer.rows:
        named = dict(zip(answer.columns, row, strict=True))
        yield tables.json_text(named, orjson.OPT_APPEND_NEWLINE)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return tables.json_text(value) if isinstance(value, dict | list) else str(value)


def _printable_cell(value: Any) -> str:
    return tables.printable(_cell(value))


TELL: dict[str, Callable[[Answer], Iterator[str]]] = {"table": _as_table, "csv": _as_csv, "json": _as_json}
"""Form of the answer -> its text, piece by piece."""
