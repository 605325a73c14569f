"""README.md is true: its commands run and answer as it shows, its files are valid, its tables are complete.

Every `console` block is typed, command by command, into one shell that goes through the README from its top. The machine
is a small one: a folder, an embedded engine where dockerd's socket would be, and `Machine.places`, which says where in
that folder the README's places are. What the README shows is compared with what came out, without what is `VARYING`;
`...` stands for anything. Begin at `Machine.run` and `test_console`.
"""

import ast
import configparser
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from benchmarks.picture import digest, draw
from grafana.dashboards import BOARDS, file_of
from sockproxy.data import builtin_policy_names, client_policy_names, load_operations
from sockproxy.forwarding.limits import ClientLimits, Limits
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.clients import KEYS
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config import document, load_policy
from sockproxy.operating.config.shapes import keys_of
from sockproxy.operating.config.testfile import load_tests
from sockproxy.recording.event import FIELDS, PRINCIPAL_FIELDS, RESPONSE_BODY
from sockproxy.recording.metrics import FAMILIES
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
ANSWER_SECONDS = 20.0
ADMIN = "127.0.0.1:9323"
END = b"\x1e"

EXIT_CODES = {
    "docker pause web": 1,
    "sockproxy explain --policy ci.yaml POST /v1.41/swarm/init": 1,
    "sockproxy explain --policy ci.yaml --body create.json POST /v1.41/containers/create": 1,
    "sockproxy explain --policy build.yaml --body alpine.json POST /v1.41/containers/create": 1,
    "sockproxy explain --policy own.yaml DELETE /v1.41/containers/web": 1,
    "sockproxy check wrong.yaml": 1,
    "sockproxy diff kubernetes-1.3 kubernetes-1.4": 1,
    "sockproxy explain --policy ci.yaml --audit "
    "$(sed -n 's/^sockproxy-request-id: //Ip' head | tr -d '\\r') audit.jsonl": 1,
    "sed -i 's/expect: allow/expect: deny/' ci.test.yaml && sockproxy test ci.test.yaml": 1,
    "sockproxy learn --against readonly audit.jsonl": 1,
    "sockproxy explain --format json --policy readonly GET /v1.41/containers/web/export": 1,
}
"""Command -> its exit code, where that is not 0."""

ONLY_LOOKED_AT = {
    "make test": "this is make test",
    "make compiled": "make test does it, where it can",
    "make bench": "it takes half an hour",
    "make bench-growth": "it takes five minutes",
    "make bench-archive": "it takes half an hour, and some 40 GiB",
}
"""Targets that are not run, and why: it is looked whether make knows how."""

NOT_RUN = {"/opt/sockproxy/bin/pip install -c constraints.txt .": "it downloads; make run does the same"}

NOT_EVERYWHERE = ("docker", "promtool")
"""What is not installed on every machine: their commands are left out there."""

STAYS = ("sockproxy serve",)
"""What runs until the end of the README; it is ended by SIGTERM and has to end with 0."""

ENDED = ("make run",)
"""What runs until its greeting is there; it is ended by SIGINT, as by Ctrl-C."""

VARYING = (
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<date>"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "<date>"),
    (r"\b\d\d:\d\d:\d\d\b", "<time>"),
    (r"\b[0-9a-f]{64}\b", "<hash>"),
    (r"\buid:\d+\b( \(\S+/curl\))?", "<uid>"),
    (r"\b[0-9.]+ ms\b", "<duration>"),
)
"""What is another one each time: it is shown as it was once, and taken out of both sides."""

ENGINE = (
    "import asyncio, sys, sockproxy.operating.demo.engine as demo\n"
    "async def main():\n"
    "    await demo.start_demo_engine(sys.argv[1])\n"
    "    await asyncio.Event().wait()\n"
    "asyncio.run(main())\n"
)


# --- what is in the README


class Block(NamedTuple):
    """A fenced block: its language, the heading above it, the line that it begins at, and what is in it."""

    language: str
    heading: str
    line: int
    text: str

    @property
    def file_name(self) -> str:
        """The name that a file's first line gives it."""
        return self.text.splitlines()[0].removeprefix("# ")


class Step(NamedTuple):
    """A command, and what the README shows of its output."""

    command: str
    shown: str


def read_blocks(text: str) -> tuple[Block, ...]:
    blocks: list[Block] = []
    heading, language, lines = "", None, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```") and language is None:
            language, lines = line.removeprefix("```"), []
        elif line.startswith("```"):
            blocks.append(Block(language or "", heading, number - len(lines), "\n".join(lines)))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    return tuple(blocks)


def read_steps(block: Block) -> tuple[Step, ...]:
    """The commands of a console block. What stands above the first is an error."""
    before, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not before, f"line {block.line}: a console block begins with a command"
    return tuple(Step(command, shown) for command, _, shown in (part.rstrip("\n").partition("\n") for part in parts))


def table_below(heading: str, first_column: str) -> list[list[str]]:
    """The rows of the table below a heading that has this first column; without its backticks."""
    section = re.split(r"^## ", README, flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{heading}\n"))
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    begin = next(index for index, row in enumerate(rows) if row[0] == first_column)
    end = next((index for index in range(begin + 2, len(rows)) if rows[index][0] in HEADERS), len(rows))
    return rows[begin + 2 : end]


HEADERS = {
    "match",
    "client limit",
    "status",
    "policy",
    "key",
    "selector",
    "exit code",
    "fields",
    "metric",
    "dashboard",
    "alert",
    "event",
    "what",
}

BLOCKS = read_blocks(README)
CONSOLE = tuple(block for block in BLOCKS if block.language == "console")


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def matches(shown: str, output: str) -> bool:
    """Whether an output is what is shown; `...` stands for anything in a line, a line of it for any lines, or none."""
    lines = without_varying(shown).strip("\n").splitlines()
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*?") + r"\n" for line in lines
    )
    text = without_varying(output).strip("\n")
    return re.fullmatch(pattern, f"{text}\n" if text else "") is not None


def without_varying(text: str) -> str:
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text


# --- the machine


class Machine:
    """Where the README is followed: one shell, and a terminal for each program that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.places = {
            "/var/run/docker.sock": f"{folder}/engine.sock",
            "/run/sockproxy": f"{folder}/run",
            "/var/log/sockproxy": f"{folder}/log",
            "/opt/sockproxy": f"{folder}/opt",
            ADMIN: f"127.0.0.1:{free_port()}",
        }
        self.environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "SOCKPROXY_PURE": "1",  # what it shows is without the compiled parts
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DOCKER_HOST": f"unix://{folder}/engine.sock",
        }
        self.outcomes: dict[Block, str | AssertionError] = {}
        self.staying: list[Terminal] = []
        self.engine = subprocess.Popen([sys.executable, "-c", ENGINE, f"{folder}/engine.sock"], cwd=ROOT)
        wait_for(lambda: (folder / "engine.sock").exists())
        self.shell = Shell(self.home, self.environment)
        for block in BLOCKS:
            if block.language == "yaml":
                (self.home / block.file_name).write_text(self.here(block.text))

    def here(self, text: str) -> str:
        """The README's places, as they are on this machine."""
        for theirs, ours in self.places.items():
            text = text.replace(theirs, ours)
        return text

    def there(self, text: str) -> str:
        """And back."""
        for theirs, ours in self.places.items():
            text = text.replace(ours, theirs)
        return text

    def run(self, block: Block) -> str:
        """Goes through the README to the end of a block; says what was left out of it, and why. Raises AssertionError."""
        for each in CONSOLE[: CONSOLE.index(block) + 1]:
            if each not in self.outcomes:
                self.outcomes[each] = self.try_block(each)
        outcome = self.outcomes[block]
        if isinstance(outcome, AssertionError):
            raise outcome
        return outcome

    def try_block(self, block: Block) -> str | AssertionError:
        try:
            return "; ".join(reason for step in read_steps(block) if (reason := self.run_step(step)))
        except AssertionError as error:
            return error  # the blocks behind it are tried all the same

    def run_step(self, step: Step) -> str:
        command = step.command
        if command in NOT_RUN:
            return ""
        if command in ONLY_LOOKED_AT:
            look_at(command)
            return ""
        program = command.split(" ")[0]
        if program in NOT_EVERYWHERE and shutil.which(program) is None:
            return f"there is no {program} here for `{command}`"
        if command.startswith(STAYS + ENDED):
            self.run_in_terminal(step)
            return ""
        code, output = self.shell.run(self.here(command))
        expected = EXIT_CODES.get(command, 0)
        assert matches(step.shown, self.there(output)), difference(step, self.there(output))
        assert code == expected, f"$ {command}\nends with {code}, not {expected}"
        return ""

    def run_in_terminal(self, step: Step) -> None:
        command = self.here(step.command)
        environment = dict(self.environment)
        place = self.home
        if command.startswith("sockproxy serve"):
            command += f" --admin tcp://{self.places[ADMIN]}"  # the usual port may be taken here
        if command.startswith("make "):
            # This environment as it is, and no engine: `make run` shows the embedded one.
            command = f"exec make -o {sys.prefix}/.run VENV={sys.prefix} {command.removeprefix('make ')}"
            environment["DOCKER_HOST"] = f"unix://{self.folder}/nobody.sock"
            place = ROOT
        terminal = Terminal(command, place, environment)
        self.staying.append(terminal)
        terminal.read_until(lambda output: matches(step.shown, self.there(output)), step)
        if step.command.startswith(ENDED):
            self.staying.remove(terminal)
            terminal.end(signal.SIGINT)

    def close(self) -> None:
        self.shell.close()
        for terminal in self.staying:
            terminal.end(signal.SIGTERM)
        self.engine.terminate()
        self.engine.wait()


class Shell:
    """A bash that is typed into: what is exported, or made, is there for the next command."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, command: str) -> tuple[int, str]:
        """The command's exit code, and what it wrote to standard output and standard error."""
        assert self.bash.stdin is not None and self.bash.stdout is not None
        self.bash.stdin.write(f"{{ {command}\n}} </dev/null; printf '\\036%d\\n' $?\n".encode())
        self.bash.stdin.flush()
        written = bytearray()
        until = time.monotonic() + ANSWER_SECONDS
        while not re.search(rb"\x1e\d+\n\Z", written):
            ready, _, _ = select.select([self.bash.stdout], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"$ {command}\ntakes more than {ANSWER_SECONDS:g} s; so far:\n{written.decode()}"
            piece = os.read(self.bash.stdout.fileno(), 65536)
            assert piece, f"$ {command}\nended the shell:\n{written.decode()}"
            written += piece
        output, _, code = bytes(written).rpartition(END)
        return int(code), output.decode()

    def close(self) -> None:
        self.bash.communicate(timeout=ANSWER_SECONDS)


class Terminal:
    """A program that runs until it is ended, in a terminal of its own."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        ours, theirs = os.openpty()
        self.command = command
        self.descriptor = ours
        self.output = ""
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read_until(self, is_there, step: Step) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while not is_there(self.output):
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, until - time.monotonic()))
            assert ready, difference(step, self.output)
            self.output += self.read()

    def read(self) -> str:
        try:
            return os.read(self.descriptor, 65536).decode().replace("\r\n", "\n")
        except OSError:
            raise AssertionError(f"$ {self.command}\nended:\n{self.output}") from None

    def end(self, number: signal.Signals) -> None:
        """Ends it, as Ctrl-C or a service manager would. Raises AssertionError if it did not end well."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        code = self.process.wait(ANSWER_SECONDS)
        os.close(self.descriptor)
        # make itself ends by the signal that ended what it ran.
        assert code == 0 or "make" in self.command, f"$ {self.command}\nended with {code}:\n{self.output}"
        for place in re.findall(r"unix://(/tmp/sockproxy-\S+)", self.output):
            assert not Path(place).exists(), f"$ {self.command}\nleft {place}"


def look_at(command: str) -> None:
    """Looks whether make knows a target, and all that it would run is there. Raises AssertionError."""
    told = subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    for file in re.findall(r"^sh (\S+)", told.stdout, flags=re.MULTILINE):
        assert (ROOT / file).exists(), f"{command} runs {file}, which is not there"


def difference(step: Step, output: str) -> str:
    return f"$ {step.command}\n--- the README shows\n{step.shown}\n--- what came out\n{output}"


def wait_for(is_true) -> None:
    until = time.monotonic() + ANSWER_SECONDS
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="readme-", dir="/tmp"))  # short: a socket's path has 107 bytes
    machine = Machine(folder)
    try:
        yield machine
    finally:
        machine.close()
        shutil.rmtree(folder)


# --- the tests


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: f"{block.heading}-{block.line}")
def test_console(machine: Machine, block: Block) -> None:
    if skipped := machine.run(block):
        pytest.skip(skipped)


@pytest.mark.parametrize("command", [*EXIT_CODES, *ONLY_LOOKED_AT, *NOT_RUN])
def test_special_commands_are_in_the_readme(command: str) -> None:
    assert command in {step.command for block in CONSOLE for step in read_steps(block)}


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "yaml"], ids=lambda block: block.file_name
)
def test_files(machine: Machine, block: Block) -> None:
    if block.file_name == "compose.yaml":
        service = yaml.safe_load(block.text)["services"]["dashboard"]
        folder = service["volumes"][0].split(":")[1]
        assert service["environment"]["DOCKER_HOST"].startswith(f"unix://{folder}/")
        return
    if block.file_name == "prometheus.yaml":
        (scrape,) = yaml.safe_load(block.text)["scrape_configs"]
        assert scrape["static_configs"] == [{"targets": [ADMIN]}]
        return
    if block.file_name == "ci.test.yaml":
        load_tests(str(machine.home / block.file_name), Catalogue(load_operations()))
        return
    told = subprocess.run(
        [BIN / "sockproxy", "check", block.file_name], cwd=machine.home, capture_output=True, text=True, check=False
    )
    assert told.returncode == (1 if block.file_name == "wrong.yaml" else 0), told.stderr


def test_the_first_policy_has_ten_lines() -> None:
    (block,) = (block for block in BLOCKS if block.language == "yaml" and block.file_name == "ci.yaml")
    assert len(block.text.splitlines()) - 1 == 10


def test_the_chain_is_checked_by_hand(machine: Machine) -> None:
    (block,) = (block for block in BLOCKS if block.language == "python")
    machine.run(max((each for each in CONSOLE if each.line < block.line), key=lambda each: each.line))
    told = subprocess.run(
        [sys.executable, "-c", block.text], cwd=machine.home, capture_output=True, text=True, check=False
    )
    verified = machine.shell.run("sockproxy audit verify audit.jsonl")[1]
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[-1] == verified.split()[-1]
    assert told.stdout.split()[0] == verified.split()[1]


def test_the_unit_is_one() -> None:
    (block,) = (block for block in BLOCKS if block.language == "ini")
    unit = configparser.RawConfigParser(strict=True, interpolation=None)
    unit.optionxform = str
    unit.read_string(block.text)
    service = unit["Service"]
    assert service["ExecStart"] == "/opt/sockproxy/bin/sockproxy serve --config /etc/sockproxy/sockproxy.yaml"
    assert service["ExecStartPre"] == "/opt/sockproxy/bin/sockproxy check /etc/sockproxy/sockproxy.yaml"
    assert float(service["TimeoutStopSec"]) > Limits().drain_seconds
    assert int(service["LimitNOFILE"]) > 2 * Limits().connections_max + Limits().engine_idle_connections_max


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here to ask")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if block.language == "ini")
    (tmp_path / "sockproxy.service").write_text(block.text.replace("/opt/sockproxy/bin", str(BIN)))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "sockproxy.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    findings = [
        line for line in told.stderr.splitlines() if "sockproxy.service" in line and "docker.service" not in line
    ]
    assert not findings


def test_all_metrics() -> None:
    told = [(names(name)[0], names(labels)) for name, labels, _ in table_below("Metrics", "metric")]
    assert told == [(family.name, list(family.labels)) for family in FAMILIES]


def test_all_dashboards() -> None:
    told = {names(file)[0]: int(panels) for file, panels, _ in table_below("Metrics", "dashboard")}
    assert told == {str(file_of(board).relative_to(ROOT)): len(board.panels) for board in BOARDS}


def test_all_alerts() -> None:
    told = [(names(alert)[0], severity) for alert, severity, _ in table_below("Metrics", "alert")]
    groups = yaml.safe_load((ROOT / "prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    severities: dict[str, list[str]] = {}
    for rule in (rule for group in groups for rule in group["rules"]):
        severities.setdefault(rule["alert"], []).append(rule["labels"]["severity"])
    assert told == [(alert, ", ".join(each)) for alert, each in severities.items()]


def test_all_limits() -> None:
    told = {names(key)[0]: float(default) for key, default, _, _ in table_below("Limits", "key")}
    assert told == {field.name: field.default for field in fields(Limits)}


def test_all_policies() -> None:
    catalogue = Catalogue(load_operations())
    told = {names(name)[0]: count for name, count, _ in table_below("Built-in policies", "policy")}
    counts = {}
    for name in set(builtin_policy_names()) - set(client_policy_names()):
        selected = set().union(*(rule.operations for rule in load_policy(name, catalogue).allow))
        counts[name] = "all" if selected > set(catalogue.operations) else str(len(selected))
    assert told == counts
    assert f"one for each of {len(client_policy_names())} clients" in README
    assert f"{len(catalogue.operations)} operations" in README


def test_all_keys() -> None:
    told = {key for keys, _, _ in table_below("The policy file", "key") for key in names(keys)}
    models = (
        *(document.Document, document.ListenerDocument, document.AuditDocument, document.RecordingsDocument),
        document.PolicyDocument,
    )
    assert told == {key for model in models for key in keys_of(model)}


def test_all_match_keys() -> None:
    told = {key for keys, _, _ in table_below("Who asks", "match") for key in names(keys)}
    assert told == set(keys_of(document.MatchDocument)) == set(KEYS)


def test_all_client_limits() -> None:
    told = [names(key)[0] for key, _ in table_below("Who asks", "client limit")]
    assert told == [field.name for field in fields(ClientLimits)]


def test_all_audit_fields() -> None:
    rows = table_below("The audit trail", "fields")
    assert [name for row in rows for name in names(row[0])] != []
    assert {name for row in rows for name in names(row[0])} == {*FIELDS, RESPONSE_BODY}
    principal = next(row[1] for row in rows if "`principal`" in row[0])
    assert names(principal) == list(PRINCIPAL_FIELDS)


def test_all_statuses_of_our_own() -> None:
    errors = {status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
    files = [file for folder in ("wire", "forwarding") for file in (ROOT / "sockproxy" / folder).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    given = {node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) is int} & errors
    assert [int(status) for status, _ in table_below("How a request goes", "status")] == sorted(given)


def test_all_exit_codes() -> None:
    assert [int(code) for code, _ in table_below("The command line", "exit code")] == sorted(ExitCode)


def test_all_log_events() -> None:
    told = {name for row in table_below("Logs", "event") for name in names(row[0])}
    folders = ("operating", "forwarding", "recording")
    files = [
        file for folder in folders for file in (ROOT / "sockproxy" / folder).rglob("*.py") if "demo" not in file.parts
    ]
    assert told == {event for file in files for event in logged_events(ast.parse(file.read_text(encoding="utf-8")))}


def logged_events(tree: ast.AST) -> Iterator[str]:
    """The names of all events that a module logs: the texts of one word in the arguments of `log.<level>(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            if isinstance(of, ast.Name) and of.id == "log":
                for argument in node.args:
                    yield from (
                        part.value
                        for part in ast.walk(argument)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    )


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_links(target: str) -> None:
    file, _, anchor = target.partition("#")
    assert not file or (ROOT / file).exists()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line[:1] == "#"
    }
    assert not anchor or anchor in headings


@pytest.mark.parametrize("file", re.findall(r"`([a-z]+/[\w./-]+)`", README))
def test_named_files(file: str) -> None:
    assert (ROOT / file).exists()


@pytest.mark.parametrize("picture", ["session.svg", "cost.svg"])
def test_a_picture_needs_nothing_from_elsewhere(picture: str) -> None:
    drawn = (ROOT / "docs" / picture).read_text(encoding="utf-8")
    names_of_formats = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"\s]+", drawn)) <= names_of_formats
    assert not re.search(r"<image|@import|@font-face|url\((?!#)", drawn)


def test_the_picture_of_cost_is_of_the_numbers_beside_it() -> None:
    numbers = json.loads((ROOT / "docs/cost.json").read_text(encoding="utf-8"))
    assert f"of the numbers {digest(numbers)} " in (ROOT / "docs/cost.svg").read_text(encoding="utf-8")
    assert {key: len(curves) for key, curves in numbers["panels"].items()} == {"rules": 3, "connections": 2, "bytes": 4}


def test_the_picture_of_cost_is_the_same_each_time() -> None:
    pytest.importorskip("matplotlib", reason="it is drawn by matplotlib, which only `make bench-growth` installs")
    numbers = json.loads((ROOT / "docs/cost.json").read_text(encoding="utf-8"))
    assert draw(numbers) == (ROOT / "docs/cost.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shown", "output", "is_the_same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nc\n", False),
        ("a", "a\nb\n", False),
        ("a\n...", "a\nb\nc\n", True),
        ("a\n...", "a\n", True),
        ("...\nb", "a\nb\n", True),
        ("...\nb", "b\n", True),
        ("a\n...\nc", "a\nb\nd\nc\n", True),
        ("a\n...\nc", "a\nb\nd\n", False),
        ("a ... c", "a b c\n", True),
        ("a ... c", "a b\nc\n", False),
        ("09:15:02 a.c", "10:00:00 a.c\n", True),
        ("09:15:02 a.c", "10:00:00 abc\n", False),
        ("", "", True),
        ("", "a\n", False),
    ],
)
def test_what_is_the_same(shown: str, output: str, is_the_same: bool) -> None:
    assert matches(shown, output) is is_the_same
