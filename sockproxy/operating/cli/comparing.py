"""`sockproxy matrix`, `diff` and `versions`: policies side by side, and which Docker speaks which API version.

Owns the two formats that others read (CSV, JSON) and the forms in which a table gets narrower. What policies make
of operations is asked of `judging.comparison`. Ruled by: DESIGN, "The command line" (headers and lines are a
contract).
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import click
import orjson

from sockproxy.data import builtin_policy_names, client_policy_names, load_docker_releases
from sockproxy.judging import comparison
from sockproxy.judging.catalogue import ApiVersion, Operation
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Policy
from sockproxy.operating.cli import parameters, tables
from sockproxy.operating.cli.asking import shadow_note
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.tables import Table
from sockproxy.operating.config.wording import quoted
from sockproxy.operating.known import load_catalogue, newest_api

FACTS = ("operation", "method", "path", "tag", "access")
"""What the matrix says of an operation, before the policies."""

NARROWER = ("path", "tag", "access", "method")
"""What a terminal that is too narrow does without, first to last."""

SIGNS = {"allow": "+", "if": "?", "deny": "-"}
"""Cells where there is no room for words."""

MARKS = {"allow": "+", "if": "?", "deny": "."}
"""Cells where there is no room for blanks between them either: fifty policies fit into eighty columns."""

SIGNS_OF_DIFF = (("+", "added"), ("-", "removed"), ("~", "changed"))
"""The sign of a line, and the key in JSON."""

VERSION_COLUMNS = ("docker_release", "api_version", "kubernetes_1_4")


@click.command(
    cls=parameters.ManyWords,
    many="--policy",
    belongs=lambda word: not word.startswith("-"),
    epilog=parameters.examples(
        "sockproxy matrix",
        "sockproxy matrix --policy readonly ./ci.yaml --api 1.44",
        "sockproxy matrix --policy 'traefik*' 'dozzle*'",
        "sockproxy matrix --format csv > policies.csv",
    ),
)
@click.option(
    "--policy",
    "names",
    multiple=True,
    shell_complete=parameters.complete_policy,
    metavar="NAME|FILE...",
    help="Built-in policies, patterns of their names, or files; without it, the built-in ones that are not for one client.",
)
@click.option(
    "--api",
    "version",
    type=parameters.parse_api_version,
    shell_complete=parameters.complete_api_version,
    metavar="V",
    help="API version; default: newest.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "markdown", "csv", "json"]), default="table", show_default=True
)
def matrix(names: tuple[str, ...], version: ApiVersion | None, form: str) -> int:
    """Show all operations of an API version against policies.

    A cell is what the policy's rules say of a request for that operation: allow, deny, or if (a requirement is met).
    """
    hint = "" if names else f"{len(client_policy_names())} more are each for one client: --policy 'traefik*' or '*'"
    names = _chosen(names)
    version = version or newest_api()
    catalogue = load_catalogue()
    policies = [parameters.load_policy(name, catalogue) for name in names]
    _note_shadow(names, policies)
    names = tuple(map(tables.printable, names))
    columns = [comparison.effects(policy, catalogue, version) for policy in policies]
    operations = [each for each in catalogue.operations.values() if each.in_version(version)]
    rows = tuple((*_facts(each), *(column[each.operation_id] for column in columns)) for each in operations)
    if form == "table":
        tables.write(list(_narrower(names, rows, (hint,) if hint and tables.is_terminal() else ())))
    else:
        click.echo(_MATRIX_FORMATS[form](names, rows), nl=False)
    return ExitCode.DONE


@click.command(
    epilog=parameters.examples(
        "sockproxy diff kubernetes-1.3 kubernetes-1.4",
        "sockproxy diff --format json readonly ./ci.yaml",
    )
    + "\n\n\b\nExit codes: 0 equal, 1 different, 2 wrong usage or an unreadable file."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("p", shell_complete=parameters.complete_policy)
@click.argument("q", shell_complete=parameters.complete_policy)
def diff(p: str, q: str, form: str) -> int:
    """Show what policy Q allows that P does not, and the other way round.

    A line is "+ Operation" for what only Q allows, "- Operation" for what only P allows, "~ Operation" for what both
    allow, but not in the same API versions. P and Q are built-in policies or files.
    """
    catalogue = load_catalogue()
    policy_p, policy_q = parameters.load_policy(p, catalogue), parameters.load_policy(q, catalogue)
    _note_shadow((p, q), (policy_p, policy_q))
    found = comparison.diff_policies(policy_p, policy_q, catalogue)
    lines = [(sign, name) for sign, name in found if name != UNKNOWN_SELECTOR]
    if form == "json":
        click.echo(orjson.dumps({key: [name for has, name in lines if has == sign] for sign, key in SIGNS_OF_DIFF}))
    else:
        click.echo("".join(f"{sign} {name}\n" for sign, name in lines), nl=False)
    if len(found) > len(lines):
        # It is no operation, so it has no line.
        allowing = {"+": q, "-": p}.get(found[-1][0], "each, in its own API versions,")
        click.echo(f"sockproxy: {allowing} lets unknown requests pass ({UNKNOWN_SELECTOR})", err=True)
    return ExitCode.NO if lines else ExitCode.DONE


@click.command(epilog=parameters.examples("sockproxy versions", "sockproxy versions --format csv"))
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def versions(form: str) -> int:
    """List Docker releases, newest first: their API version, and whether Kubernetes 1.4 supported them."""
    rows = tuple(tuple(release[column] for column in VERSION_COLUMNS) for release in load_docker_releases())
    if form == "table":
        tables.write([Table(VERSION_COLUMNS, rows, empty="no releases")])
    elif form == "csv":
        click.echo(_as_csv(VERSION_COLUMNS, rows), nl=False)
    else:
        click.echo(orjson.dumps([dict(zip(VERSION_COLUMNS, row, strict=True)) for row in rows], option=_INDENTED))
    return ExitCode.DONE


def _note_shadow(names: Sequence[str], policies: Sequence[Policy]) -> None:
    for name, policy in zip(names, policies, strict=True):
        if note := shadow_note(name, policy):
            click.echo(note, err=True)


def _chosen(words: Sequence[str]) -> tuple[str, ...]:
    """The policies that the words name or are a pattern for; without a word those that are not made for one client, since
    all are more than a screen has columns for."""
    builtin = builtin_policy_names()
    if not words:
        return tuple(name for name in builtin if name not in client_policy_names())
    chosen: list[str] = []
    for word in words:
        is_pattern = "*" in word and "/" not in word
        found = [name for name in builtin if fnmatchcase(name, word)] if is_pattern else [word]
        if not found:
            raise click.UsageError(f"no built-in policy matches {quoted(word)}")
        chosen += found
    return tuple(dict.fromkeys(chosen))


def _facts(operation: Operation) -> tuple[str, ...]:
    return (operation.operation_id, operation.method, operation.path, operation.tag, operation.access)


def _narrower(names: Sequence[str], rows: tuple[tuple[str, ...], ...], notes: tuple[str, ...]) -> Iterator[Table]:
    """The matrix as a table, in ever narrower forms."""
    table = Table((*FACTS, *names), rows, "no operation is in that API version", notes)
    yield table
    for column in NARROWER:
        table = table.without(column)
        yield table
    numbers = tuple(map(str, range(1, len(names) + 1)))
    legend = ", ".join(f"{number}={name}" for number, name in zip(numbers, names, strict=True))
    yield Table((FACTS[0], *numbers), table.rows, table.empty, (legend, *notes))
    signs = tuple((name, *(SIGNS[cell] for cell in cells)) for name, *cells in table.rows)
    yield Table((FACTS[0], *numbers), signs, table.empty, (legend, _meaning(SIGNS), *notes))
    marks = tuple((name, "".join(MARKS[cell] for cell in cells)) for name, *cells in table.rows)
    yield Table((FACTS[0], _ruler(len(names))), marks, table.empty, (legend, _meaning(MARKS), *notes))


def _meaning(signs: Mapping[str, str]) -> str:
    return ", ".join(f"{sign} {word}" for word, sign in signs.items())


def _ruler(count: int) -> str:
    """`1   5    10   15`: each number begins above the column that it counts."""
    ruler = ""
    for number in (1, *range(5, count + 1, 5)):
        ruler = ruler.ljust(number - 1) + str(number)
    return ruler


def _matrix_csv(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _as_csv((*FACTS, *names), rows)


def _matrix_markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    header = (*FACTS, *(name.replace("|", "\\|") for name in names))
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _matrix_json(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    objects = [
        dict(zip(FACTS, row, strict=False)) | {"policies": dict(zip(names, row[len(FACTS) :], strict=True))}
        for row in rows
    ]
    return orjson.dumps(objects, option=_INDENTED | orjson.OPT_APPEND_NEWLINE).decode()


def _as_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


_INDENTED = orjson.OPT_INDENT_2
_MATRIX_FORMATS = {"csv": _matrix_csv, "markdown": _matrix_markdown, "json": _matrix_json}
