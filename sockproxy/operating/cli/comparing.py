"""`sockproxy matrix`, `diff` and `versions`: policies side by side, and which Docker speaks which API version.

Owns the two formats that others read (CSV, JSON) and the forms in which a table gets narrower. What a policy allows is
asked of `judging.policy.decide`, operation by operation. Ruled by: DESIGN, "The command line" (headers and lines are a
contract).
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import click
import orjson

from sockproxy.data import builtin_policy_names, load_docker_releases
from sockproxy.judging.catalogue import UNKNOWN, ApiVersion, Classified, Operation
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.policy import AccessRequest, Decision, Effect, Policy, decide
from sockproxy.operating.cli import parameters, tables
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.tables import Table

FACTS = ("operation", "method", "path", "tag", "access")
"""What the matrix says of an operation, before the policies."""

NARROWER = ("path", "tag", "access", "method")
"""What a terminal that is too narrow does without, first to last."""

SIGNS = {"allow": "+", "deny": "-"}
"""Cells where there is no room for words."""

ANYBODY = identify(Peer("", "unix"))
"""Who asks, where policies are compared."""

VERSION_COLUMNS = ("docker_release", "api_version", "kubernetes_1_4")


class Difference(NamedTuple):
    """Operations that only one of two policies allows, sorted, and what else differs, for people."""

    added: list[str]
    removed: list[str]
    notes: list[str]


@click.command(
    cls=parameters.ManyWords,
    many="--policy",
    belongs=lambda word: not word.startswith("-"),
    epilog=parameters.examples(
        "sockproxy matrix",
        "sockproxy matrix --policy readonly ./ci.yaml --api 1.44",
        "sockproxy matrix --format csv > policies.csv",
    ),
)
@click.option(
    "--policy",
    "names",
    multiple=True,
    shell_complete=parameters.complete_policy,
    metavar="NAME|FILE...",
    help="Built-in policies or files; without it, all built-in ones.",
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

    A cell is what happens to a request for that operation: allow or deny.
    """
    names = tuple(dict.fromkeys(names or builtin_policy_names()))
    version = version or parameters.newest_api()
    catalogue = parameters.load_catalogue()
    policies = [parameters.load_policy(name, catalogue) for name in names]
    _note_shadow(names, policies)
    operations = [each for each in catalogue.operations.values() if each.in_version(version)]
    rows = tuple((*_facts(each), *(_decide(p, each, version).effect for p in policies)) for each in operations)
    if form == "table":
        tables.write(list(_narrower(names, rows)))
    else:
        click.echo(_MATRIX_FORMATS[form](names, rows), nl=False)
    return ExitCode.DONE


@click.command(
    epilog=parameters.examples(
        "sockproxy diff kubernetes-1.3 kubernetes-1.4",
        "sockproxy diff --format json readonly ./ci.yaml",
    )
    + "\n\n\b\nExit codes: 0 no difference, 1 a difference, 2 wrong usage or an unreadable file."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("p", shell_complete=parameters.complete_policy)
@click.argument("q", shell_complete=parameters.complete_policy)
def diff(p: str, q: str, form: str) -> int:
    """Show what policy Q allows that P does not, and the other way round.

    A line is "+ Operation" for what only Q allows, "- Operation" for what only P allows. P and Q are built-in policies
    or files. What differs without being an operation (API versions, unknown requests) is told on standard error.
    """
    catalogue = parameters.load_catalogue()
    found = compare(
        parameters.load_policy(p, catalogue), parameters.load_policy(q, catalogue), list(catalogue.operations.values())
    )
    if form == "json":
        # No rule can require anything yet, so there is none whose requirements could have changed.
        click.echo(orjson.dumps({"added": found.added, "removed": found.removed, "changed": []}))
    else:
        signs = dict.fromkeys(found.added, "+") | dict.fromkeys(found.removed, "-")
        click.echo("".join(f"{signs[name]} {name}\n" for name in sorted(signs)), nl=False)
    for note in found.notes:
        click.echo(f"sockproxy diff: {note}", err=True)
    return ExitCode.NO if any(found) else ExitCode.DONE


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


def compare(p: Policy, q: Policy, operations: Iterable[Operation]) -> Difference:
    """What differs between two policies. An operation is allowed if it is in any API version that has it."""
    added, removed, narrowed = [], [], 0
    newest = parameters.newest_api()
    asked = (None, *(ApiVersion(newest.major, minor) for minor in range(newest.minor + 1)))
    for operation in operations:
        in_p, in_q = _reach(p, operation, asked), _reach(q, operation, asked)
        if in_q and not in_p:
            added.append(operation.operation_id)
        elif in_p and not in_q:
            removed.append(operation.operation_id)
        elif in_p != in_q:
            narrowed += 1
    notes = []
    if narrowed:
        allowed = f"{p.name} allows API {p.api_versions}, {q.name} API {q.api_versions}"
        notes.append(f"{narrowed} operations are allowed by both, but not in the same API versions: {allowed}")
    lenient = [policy.name for policy in (p, q) if _reach(policy, None, asked)]
    if len(lenient) == 1:
        notes.append(f"only {lenient[0]} lets requests pass that are no known operation (@unknown)")
    return Difference(sorted(added), sorted(removed), notes)


def _reach(
    policy: Policy, operation: Operation | None, asked: Iterable[ApiVersion | None]
) -> frozenset[ApiVersion | None]:
    """In which of the API versions (None: unversioned) the policy lets an operation (None: the unknown) pass."""
    has = (version for version in asked if operation is None or operation.in_version(version))
    return frozenset(version for version in has if _decide(policy, operation, version).effect is Effect.ALLOW)


def _decide(policy: Policy, operation: Operation | None, version: ApiVersion | None) -> Decision:
    classified = Classified(operation, True, "", "") if operation else UNKNOWN
    method, path = (operation.method, operation.path) if operation else ("", "")
    return decide(policy, AccessRequest(ANYBODY, classified, version, method, path))


def _note_shadow(names: Sequence[str], policies: Sequence[Policy]) -> None:
    for name, policy in zip(names, policies, strict=True):
        if policy.mode == "shadow":
            click.echo(f"sockproxy matrix: {name} is in shadow mode: what it would deny passes, too", err=True)


def _facts(operation: Operation) -> tuple[str, ...]:
    return (operation.operation_id, operation.method, operation.path, operation.tag, operation.access)


def _narrower(names: Sequence[str], rows: tuple[tuple[str, ...], ...]) -> Iterator[Table]:
    """The matrix as a table, in ever narrower forms."""
    table = Table((*FACTS, *names), rows, empty="no operation is in that API version")
    yield table
    for column in NARROWER:
        table = table.without(column)
        yield table
    numbers = tuple(map(str, range(1, len(names) + 1)))
    legend = ", ".join(f"{number} {name}" for number, name in zip(numbers, names, strict=True))
    yield Table((FACTS[0], *numbers), table.rows, table.empty, (legend,))
    signs = tuple((name, *(SIGNS[cell] for cell in cells)) for name, *cells in table.rows)
    meaning = ", ".join(f"{sign} {word}" for word, sign in SIGNS.items())
    yield Table((FACTS[0], *numbers), signs, table.empty, (legend, meaning))


def _matrix_csv(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _as_csv((*FACTS, *names), rows)


def _matrix_markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    header = (*FACTS, *names)
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
