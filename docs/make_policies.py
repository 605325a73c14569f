"""The page of the built-in policies: what each is for, and which operations they allow, as docs/policies.md.

Owns how the page looks. What it says comes from the policies' own files and from what `sockproxy matrix` asks, so it is
made anew after every change of a policy; a test holds it against the files.

    .venv/bin/python docs/make_policies.py
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from sockproxy.data import builtin_policy_names, client_policy_names, load_builtin_policy
from sockproxy.judging.catalogue import Access, ApiVersion, Catalogue, Operation
from sockproxy.judging.comparison import Verdict, effects
from sockproxy.judging.policy import Policy
from sockproxy.operating.cli import parameters
from sockproxy.operating.known import load_catalogue, newest_api

PAGE = Path(__file__).with_name("policies.md")

HEAD = """\
# Built-in policies

These come with sockproxy, as ordinary policy files in [sockproxy/data/policies](../sockproxy/data/policies). Use one by its
name (`--policy traefik`, or `policy: traefik` for a listener), or extend it. Those in the folder `clients` are for one
client each, and allow what the client's own source calls, and nothing else; a denial then means that the client does what
it never did. Where it is certain what a client asks for, that is required, too (`if` in the tables;
[requirements.md](requirements.md) says what a requirement asks). Nearly all of them only say of an operation whether it may be
called: a policy that allows `ContainerCreate` or `ServiceCreate` without a requirement gives away the host, whatever else it
denies, and the text below says so.

An exact policy also tells when a client has changed: shadow mode counts and records what a policy would deny.

This page is made by `docs/make_policies.py`.
"""


class Row(NamedTuple):
    """A built-in policy, and what is told of it."""

    policy: Policy
    comment: tuple[str, ...]
    allowed: tuple[Operation, ...]


def main() -> int:
    """Makes the page anew; the exit code."""
    PAGE.write_text(render(), encoding="utf-8")
    return 0


def render() -> str:
    """The page."""
    catalogue = load_catalogue()
    rows = {name: _row(name, catalogue) for name in builtin_policy_names()}
    clients = client_policy_names()
    parts = [HEAD, *_overview(rows, clients), *_operations(rows, clients, catalogue)]
    parts += ["## Each policy\n", *(_policy(name, row, name in clients) for name, row in rows.items())]
    return "\n".join(parts)


def _row(name: str, catalogue: Catalogue) -> Row:
    policy = parameters.load_policy(name, catalogue)
    return Row(policy, tuple(_comment(load_builtin_policy(name)[1])), tuple(_allowed(policy, catalogue)))


def _comment(text: str) -> Iterator[str]:
    """The lines of the comment at the top; what is set in by blanks there is set in as markdown wants it."""
    for line in takewhile(lambda each: each.startswith("#"), text.splitlines()):
        said = line[2:]
        yield f"    {said.strip()}" if said.startswith("  ") else said


def _allowed(policy: Policy, catalogue: Catalogue) -> Iterator[Operation]:
    """What the policy allows, each operation asked in the newest API version that has it."""
    newest = newest_api()
    answers: dict[ApiVersion, Mapping[str, Verdict]] = {}
    for operation in catalogue.operations.values():
        version = operation.last_api or newest
        if version not in answers:
            answers[version] = effects(policy, catalogue, version)
        if answers[version][operation.operation_id] is not Verdict.DENY:
            yield operation


def _overview(rows: Mapping[str, Row], clients: tuple[str, ...]) -> Iterator[str]:
    yield "## Which there are\n"
    for title, chosen in (("For everybody", set(rows) - set(clients)), ("For one client each", set(clients))):
        yield f"### {title}\n"
        lines: list[tuple[str, ...]] = [("policy", "operations", "of them writes", "tunnels", "API versions", "for")]
        for name in sorted(chosen):
            policy, comment, allowed = rows[name]
            counts = (str(sum(each.access is access for each in allowed)) for access in (Access.WRITE, Access.TUNNEL))
            lines.append((_link(name), str(len(allowed)), *counts, str(policy.api_versions), _first_sentence(comment)))
        yield _table(lines)


def _operations(rows: Mapping[str, Row], clients: tuple[str, ...], catalogue: Catalogue) -> Iterator[str]:
    general = [name for name in rows if name not in clients and name != "allow-all"]
    yield "## Which operations they allow\n"
    yield "By group, without `allow-all`. The last column names the policies for one client.\n"
    for tag, operations in _by_tag(catalogue.operations.values()).items():
        yield f"### {tag}\n"
        lines: list[tuple[str, ...]] = [("operation", "access", *general, "clients")]
        for operation in operations:
            marks = (_mark(rows[name], operation) for name in general)
            names = (_link(name) for name in clients if operation in rows[name].allowed)
            lines.append((f"`{operation.operation_id}`", operation.access, *marks, ", ".join(names)))
        yield _table(lines)


def _policy(name: str, row: Row, is_client: bool) -> str:
    file = f"../sockproxy/data/policies/{'clients/' * is_client}{name}.yaml"
    told = ["Everything."] if name == "allow-all" else [f"API versions: {row.policy.api_versions}.", ""]
    if name != "allow-all":
        for tag, operations in _by_tag(row.allowed).items():
            told.append(f"- {tag}: {', '.join(_marked(row.policy, each) for each in operations)}")
    return "\n".join([f"### {name}", "", *row.comment, "", f"[The file]({file}). {told[0]}", *told[1:], ""])


def _by_tag(operations: Iterable[Operation]) -> Mapping[str, list[Operation]]:
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(operation.tag, []).append(operation)
    return groups


def _mark(row: Row, operation: Operation) -> str:
    if operation not in row.allowed:
        return ""
    return "if" if row.policy.asks(operation.operation_id) else "yes"


def _marked(policy: Policy, operation: Operation) -> str:
    told = [] if operation.access is Access.READ else [str(operation.access)]
    if policy.asks(operation.operation_id):
        told.append(f"if {' or '.join(_required(each) for each in policy.requires(operation.operation_id))}")
    more = f" ({', '.join(told)})" if told else ""
    return f"`{operation.operation_id}`{more}"


def _required(requirements: Iterable[tuple[str, object]]) -> str:
    """What a rule requires, as it would stand in a policy."""
    return " and ".join(
        f"`{key}: {value if isinstance(value, str) else json.dumps(value)}`" for key, value in requirements
    )


def _first_sentence(comment: tuple[str, ...]) -> str:
    paragraph = " ".join(comment[: comment.index("")] if "" in comment else comment)
    return paragraph.replace("|", "\\|")


def _link(name: str) -> str:
    return f"[{name}](#{name.replace('.', '')})"


def _table(lines: Iterable[tuple[str, ...]]) -> str:
    header, *rows = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ("---",) * len(header), *rows))


if __name__ == "__main__":
    sys.exit(main())
