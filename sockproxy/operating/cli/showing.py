"""`sockproxy audit show` and `summary`: what a trail tells.

Owns which events are shown, and how; trails are read by `recording`. Ruled by: DESIGN, "The audit event".
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import cast

import click
import orjson

from sockproxy.operating.cli import parameters, querying, tables
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.tables import Table
from sockproxy.operating.querying import Archive, needs_archive
from sockproxy.recording import trail
from sockproxy.recording.event import Event, rfc3339
from sockproxy.recording.following import follow
from sockproxy.recording.summary import TABLES, Count, Key, Summary, alone, summarise

FOLLOW_SECONDS = 0.2
"""How often a followed file is looked at: at once, for people."""

SHOWN = {
    "operations": "no requests",
    "denials": "nothing was denied",
    "shadow_denials": "",
    "actions": "nobody asked",
}
"""The tables of a summary that are for people, and what an empty one says; "" leaves it out."""

_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str) -> str:
    """A moment as events tell it, from RFC 3339 or from how long ago it was: 90s, 15m, 2h, 3d."""
    if match := _AGO.fullmatch(text):
        ago = timedelta(**{_UNITS[match[2]]: int(match[1])})
        return rfc3339((datetime.now(UTC) - ago).timestamp())
    try:
        moment = datetime.fromisoformat(text)
        return rfc3339((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise click.BadParameter("expected a time such as 2026-11-24T09:15:00Z, or 15m, 2h, 3d ago") from error


@click.command(
    epilog=parameters.examples(
        "sockproxy audit show --effect deny audit.jsonl",
        "sockproxy audit show --operation @Exec --operation @Volume audit.jsonl",
        "sockproxy audit show --follow --principal 'uid:10*' audit.jsonl",
        "sockproxy audit show --since 2h --container web audit.jsonl.1.gz audit.jsonl",
        "sockproxy audit show --format json audit.jsonl | jq .principal",
    )
)
@click.option(
    "--operation",
    "operations",
    multiple=True,
    type=parameters.parse_selector,
    shell_complete=parameters.complete_selector,
    metavar="OP",
    help="Only these operations, by the selectors of policies: ContainerStart, 'Volume*', @Exec, @unknown.",
)
@click.option("--effect", type=click.Choice(["allow", "deny"]), help="Only what was allowed, or denied.")
@click.option("--stage", type=click.Choice(["decided", "completed"]), help="Only events of that stage.")
@click.option("--id", metavar="ID", help="Only one request: the Sockproxy-Request-Id of its answer.")
@click.option("--principal", metavar="GLOB", help="Only of those who asked: uid:0, a TLS subject, an address, ...")
@click.option(
    "--container", metavar="NAME", help="Only what a container asked, or was asked of it: name, id, or its beginning."
)
@click.option("--since", type=parse_time, metavar="TIME", help="Not before: RFC 3339, or 90s, 15m, 2h, 3d ago.")
@click.option("--until", type=parse_time, metavar="TIME", help="Before that.")
@click.option(
    "--follow", "-f", is_flag=True, help="Go on with what comes; the last FILE is followed over its rotation."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@querying.sources
def show(
    files: tuple[str, ...],
    operations: tuple[frozenset[str], ...],
    effect: str | None,
    stage: str | None,
    id: str | None,
    principal: str | None,
    container: str | None,
    since: str | None,
    until: str | None,
    follow: bool,
    form: str,
) -> int:
    """Print events, one a line, in the order of the files."""
    is_asked = {"effect": effect, "stage": stage, "id": id}
    equals = {key: value for key, value in is_asked.items() if value is not None}
    wanted = _wanted(equals, frozenset().union(*operations) if operations else None, since, until)
    is_theirs = _whose(principal, container)
    tell = _tell_people if form == "text" else tables.json_text
    for event in _events(files, is_followed=follow):
        if wanted(event) and is_theirs(event):
            click.echo(tell(event))
    return ExitCode.DONE


def _events(files: tuple[str, ...], *, is_followed: bool) -> Iterator[Event]:
    if not is_followed:
        return trail.read_events(files)
    return _all_and_more(files)


def _all_and_more(files: tuple[str, ...]) -> Iterator[Event]:
    yield from trail.read_events(files[:-1])
    yield from follow(files[-1], lambda: time.sleep(FOLLOW_SECONDS))


def _wanted(
    equals: dict[str, str], operations: frozenset[str] | None, since: str | None, until: str | None
) -> Callable[[Event], bool]:
    def wanted(event: Event) -> bool:
        if not all(event[key] == value for key, value in equals.items()):
            return False
        moment = str(event["time"])
        return (operations is None or event["operation"] in operations) and (
            (since is None or moment >= since) and (until is None or moment < until)
        )

    return wanted


def _whose(principal: str | None, container: str | None) -> Callable[[Event], bool]:
    def is_theirs(event: Event) -> bool:
        if principal is not None and not fnmatchcase(trail.principal_of(event), principal):
            return False
        return container is None or _is_of_container(event, container)

    return is_theirs


def _is_of_container(event: Event, name: str) -> bool:
    asking = cast("dict[str, object]", event["principal"]).get("container")
    resource = cast("dict[str, object]", event["resource"])
    names = [asking] if resource.get("kind") != "container" else [asking, resource.get("name")]
    return any(str(one).startswith(name) for one in names if one)


def _tell_people(event: Event) -> str:
    text = trail.describe(event)
    if not tables.is_terminal():
        return text
    verdict = event["shadow"] or event["effect"]
    return click.style(text, fg=None if verdict == "allow" else "yellow" if event["shadow"] else "red")


@click.command(
    epilog=parameters.examples(
        "sockproxy audit summary audit.jsonl.1.gz audit.jsonl",
        "sockproxy audit summary /srv/audit 's3://bucket/audit/*/*/*.parquet'",
    )
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@querying.archive
@querying.memory
@querying.threads
@querying.sources
def summary(files: tuple[str, ...], form: str, archive: bool, memory: str, threads: int | None) -> int:
    """Count requests: who did what, how often, what was denied, first and last seen."""
    if archive or any(map(needs_archive, files)):
        with closing(Archive(files, memory=memory, threads=threads)) as opened:
            found = summarise(opened.alike())
    else:
        found = summarise(map(alone, trail.read_events(files)))
    if form == "json":
        click.echo(tables.json_text(_as_object(found), orjson.OPT_INDENT_2))
        return ExitCode.DONE
    click.echo(f"{found.requests} requests, {_size(found.bytes_in)} in, {_size(found.bytes_out)} out")
    if found.lines.requests:
        click.echo(tables.printable_lines(f"first {found.lines.first_time}\nlast  {found.lines.last_time}"))
    for name, empty in SHOWN.items():
        rows = found.most_first(name)
        if rows or empty:
            click.echo(f"\n{name.replace('_', ' ')}")
            tables.write(_counts(name, rows, empty))
    return ExitCode.DONE


def _as_object(found: Summary) -> dict[str, object]:
    plain: dict[str, object] = {
        "lines": found.lines.requests,
        "requests": found.requests,
        "first_time": found.lines.first_time,
        "last_time": found.lines.last_time,
        "bytes_in": found.bytes_in,
        "bytes_out": found.bytes_out,
    }
    for name, counting in TABLES.items():
        plain[name] = [
            dict(zip(counting.columns, key, strict=True))
            | {"requests": count.requests, "first_time": count.first_time, "last_time": count.last_time}
            for key, count in found.most_first(name)
        ]
    return plain


def _counts(name: str, rows: list[tuple[Key, Count]], empty: str) -> list[Table]:
    """With first and last seen, where there is room for it."""
    header = ("requests", *TABLES[name].columns, "first", "last")
    cells = tuple((f"{one.requests:>8}", *key, _second(one.first_time), _second(one.last_time)) for key, one in rows)
    table = Table(header, cells, empty=empty)
    return [table, table.without("first"), table.without("first").without("last")]


def _second(moment: str) -> str:
    return moment.partition(".")[0]


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"
