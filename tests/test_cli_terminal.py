"""How the command line looks: tables that fit, colour on terminals only, help that teaches, completion."""

import json
import re
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.data import builtin_policy_names, client_policy_names
from sockproxy.operating.cli import tables
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.root import COMMANDS, root
from sockproxy.operating.cli.tables import Table
from sockproxy.recording.event import GENESIS, chain_hash
from tests.cli_runs import run, run_on_terminal, run_process

TRAIL = Path(__file__).parent / "cases/audit_trail.jsonl"
WIDTHS = (40, 60, 80, 120)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
BOX_DRAWING = re.compile("[─-╿]")


# Tables and colour


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("args", [("matrix",), ("versions",), ("audit", "summary", str(TRAIL))], ids=" ".join)
def test_tables_fit_where_columns_are_asked_for(args: tuple[str, ...], columns: int) -> None:
    lines = run(*args, columns=columns).stdout.splitlines()
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_tables_fit_the_terminal(columns: int) -> None:
    lines = ESCAPE.sub("", run_on_terminal("matrix", columns=columns)).splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("ContainerPause") for line in lines)


def test_fifty_policies_fit_into_eighty_columns() -> None:
    lines = run("matrix", "--policy", "*", columns=80).stdout.splitlines()
    names = builtin_policy_names()
    row = next(line.split() for line in lines if line.startswith("ContainerPause"))
    assert len(row[1]) == len(names)
    assert [name for name, mark in zip(names, row[1], strict=True) if mark == "+"] == [
        "allow-all",
        "compose",
        "portainer",
    ]
    ruler, at = lines[0], lines[0].index("1 ")
    assert all(ruler[at + number - 1 :].startswith(str(number)) for number in range(5, len(names) + 1, 5))
    assert f"{names.index('portainer') + 1}=portainer" in " ".join(lines[-12:])
    assert max(map(len, lines)) <= 80


def test_only_a_terminal_is_told_that_there_are_more_policies() -> None:
    told = " ".join(ESCAPE.sub("", run_on_terminal("matrix", columns=80)).split())
    assert f"{len(client_policy_names())} more are each for one client: --policy 'traefik*' or '*'" in told
    assert "more are" not in ESCAPE.sub("", run_on_terminal("matrix", "--policy", "readonly", columns=80))
    assert "more are" not in run("matrix").output


def test_terminal_has_colour_unless_no_color_is_set() -> None:
    assert ESCAPE.search(run_on_terminal("matrix", columns=80))
    assert ESCAPE.search(run_on_terminal("explain", "GET", "/info", columns=80))
    assert "\x1b" not in run_on_terminal("matrix", columns=80, env={"NO_COLOR": "1"})
    assert "\x1b" not in run_on_terminal("explain", "GET", "/info", columns=80, env={"NO_COLOR": "1"})


@pytest.mark.parametrize("args", [("matrix",), ("explain", "GET", "/info"), ("versions",), ("--help",)], ids=" ".join)
def test_pipe_has_neither_colour_nor_boxes(args: tuple[str, ...]) -> None:
    stdout = run_process(*args).stdout
    assert stdout
    assert not BOX_DRAWING.search(stdout) and "\x1b" not in stdout


def test_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    tables.write([Table(("a", "b"), (), empty="nothing was denied")])
    assert capsys.readouterr().out == "nothing was denied\n"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.text("ab ", max_size=30)] * 3), min_size=1, max_size=5), st.integers(9, 60))
def test_cut_makes_any_table_fit(rows: list[tuple[str, ...]], width: int) -> None:
    table = tables.cut(Table(("one", "two", "three"), tuple(rows), empty=""), width)
    assert max(map(len, tables.plain_lines(table, width))) <= width


# Help and completion

COMMAND_LINES = [[], *([name] for name in COMMANDS), *(["audit", name] for name in ("verify", "show", "summary"))]


@pytest.mark.parametrize("args", COMMAND_LINES, ids=" ".join)
def test_help_teaches_by_example(args: list[str]) -> None:
    result = run(*args, "--help", columns=80)
    assert result.exit_code == 0
    assert "Examples:\n    sockproxy " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("args", COMMAND_LINES, ids=" ".join)
def test_examples_of_the_help_are_no_wrong_usage(args: list[str]) -> None:
    for line in re.findall(r"^    sockproxy (.*)$", run(*args, "--help").stdout, re.MULTILINE):
        words = re.split(r" [|>] ", line.replace("$HASH", "0" * 64))[0].split()
        command: click.Command = root
        context = click.Context(root, info_name="sockproxy")
        while isinstance(command, click.Group):
            command, context = _descend(command, context, words)
        command.make_context(words[0], words[1:], parent=context).close()


def _descend(group: click.Group, context: click.Context, words: list[str]) -> tuple[click.Command, click.Context]:
    command = group.get_command(context, words[0])
    assert command is not None
    if isinstance(command, click.Group):
        return command, click.Context(command, parent=context, info_name=words.pop(0))
    return command, context


COMPLETIONS = {
    "sockproxy ex": {"explain"},
    "sockproxy explain --policy kub": {"kubernetes-1.3", "kubernetes-1.4"},
    "sockproxy diff read": {"readonly"},
    "sockproxy matrix --api 1.2": {f"1.2{minor}" for minor in range(10)},
    "sockproxy audit show --operation ExecR": {"ExecResize"},
    "sockproxy explain PU": {"PUT"},
    "sockproxy explain GET /ver": {"/version"},
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_completion(line: str) -> None:
    env = {"_SOCKPROXY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    found = {each.removeprefix("plain,") for each in run(env=env).stdout.split()}
    assert COMPLETIONS[line] <= found
    assert all(each.startswith(line.split()[-1]) for each in found)


ORDER = "\x9b2J\x7f\u202e\x1b]0;a\x07"
CHANGES: list[dict[str, object]] = [
    {"user_agent": ORDER, "target": ORDER, "method": ORDER, "effect": ORDER, "reason": ORDER, "listener": ORDER},
    {"time": ORDER, "operation": ORDER, "rule": ORDER, "policy": ORDER, "shadow": ORDER, "status": ORDER},
    {"v": ORDER},
    {"principal": {"kind": ORDER, "exe": ORDER, "tls_subject": ORDER}, "body": {ORDER: ORDER}},
]
READERS = [
    ("audit", "verify"),
    ("audit", "show"),
    ("audit", "show", "--format", "json"),
    ("audit", "summary"),
    ("audit", "summary", "--format", "json"),
    ("audit", "query", "SELECT user_agent, principal, body FROM events"),
    ("audit", "query", "--format", "json", "SELECT user_agent, principal, body FROM events"),
    ("explain", "--audit", "forged"),
    ("learn",),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("reader", READERS, ids=" ".join)
def test_no_terminal_obeys_what_a_trail_says(
    tmp_path: Path, reader: tuple[str, ...], change: dict[str, object]
) -> None:
    event = json.loads(TRAIL.read_text(encoding="utf-8").splitlines()[0]) | {"id": "forged"} | change
    del event["hash"]
    event["hash"] = chain_hash(GENESIS, event)
    file = tmp_path / "audit.jsonl"
    file.write_text(json.dumps(event) + "\n", encoding="utf-8")
    result = run(*reader, str(file))
    assert result.exit_code != ExitCode.FAULT
    assert (result.stdout + result.stderr).replace("\n", "").isprintable()


def test_json_for_a_terminal_says_the_same() -> None:
    event = {"user_agent": ORDER, "ä": "\U0001f600"}
    assert json.loads(tables.json_text(event)) == event
    assert "ä" in tables.json_text(event)


def test_rows_of_csv_are_as_they_are_but_on_a_terminal(tmp_path: Path) -> None:
    ask = ("audit", "query", "--format", "csv", "SELECT chr(155) AS a FROM events LIMIT 1", str(TRAIL))
    assert run(*ask).stdout == "a\n\x9b\n"
    assert "\x9b" not in run_on_terminal(*ask, columns=80)
