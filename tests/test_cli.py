"""The command line: names, exit codes and machine formats as a contract, and `explain` says what the proxy would
do. How it looks is in `test_cli_terminal`."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.data import builtin_policy_names, client_policy_names, load_docker_releases
from sockproxy.errors import BadRequest
from sockproxy.forwarding.serving.gates import Entrance
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.compiling import policy_of_nobody
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.judge import judge
from sockproxy.operating.cli import choosing, parameters, running
from sockproxy.operating.cli.root import Root
from sockproxy.operating.config import Config, load_config, load_policy
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.ports import ADMIN_PORT, is_taken
from sockproxy.wire import http1
from tests.cli_runs import run, run_process

CASES = Path(__file__).parent / "cases"
EXIT_CODES = json.loads((CASES / "cli/exit_codes.json").read_text())
TRAIL = CASES / "audit_trail.jsonl"
CATALOGUE = load_catalogue()
POLICIES = {name: load_policy(name, CATALOGUE) for name in builtin_policy_names()}


# Exit codes


@pytest.fixture
def broken_trail(tmp_path: Path) -> Path:
    first, _, *rest = TRAIL.read_bytes().splitlines(keepends=True)
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(first + b"".join(rest))
    return broken


@pytest.mark.parametrize("case", EXIT_CODES, ids=lambda case: case["id"])
def test_exit_code(case: dict[str, Any], broken_trail: Path) -> None:
    places = {"{cases}": str(CASES / "cli"), "{trail}": str(TRAIL), "{broken}": str(broken_trail)}
    args = [re.sub(r"\{\w+\}", lambda found: places[found[0]], arg) for arg in case["args"]]
    result = run(*args)
    assert (result.exit_code, result.stderr if case["code"] == 0 and "err" not in case else "") == (case["code"], "")
    assert case.get("out", "") in result.stdout
    assert case.get("err", "") in result.stderr
    assert case.get("whole_out", result.stdout) == result.stdout


FAULTS = {
    "fault": (70, r"sockproxy: a fault of its own: KeyError: 'a fault\\nof ours' \(cli_faults\.py:\d+\)\n"),
    "interrupt": (130, r"\n"),
    "taken": (2, r"sockproxy: /run/sockproxy/docker\.sock: Address already in use\n"),
    "nameless": (2, r"sockproxy: the engine's socket is no socket\n"),
    "wrong": (1, r"a\.yaml:3: policies\.ci: is wrong\na\.yaml:4: policies\.ci: is wrong\n"),
    "unreadable": (2, r"a\.yaml:3: policies\.ci: is wrong\n"),
    "quiet": (0, ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_border(name: str) -> None:
    code, stderr = FAULTS[name]
    failing = Root("sockproxy", table={name: (f"tests.cli_faults:{name}", "") for name in FAULTS})
    result = CliRunner().invoke(failing, [name])
    assert (result.exit_code, result.stdout) == (code, "")
    assert re.fullmatch(stderr, result.stderr)


def test_reader_that_goes_away_ends_quietly() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb") as output:
        result = run_process("matrix", capture_output=False, stdout=output, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (141, "")


# explain


def test_explain_json_is_one_object() -> None:
    result = run("explain", "--policy", "kubernetes-1.4", "POST", "/v1.24/containers/web/pause", "--format", "json")
    assert json.loads(result.stdout) == {
        "operation": "ContainerPause",
        "effect": "deny",
        "policy": "kubernetes-1.4",
        "rule": "",
        "reason": "no rule allows it",
        "api_version": "1.24",
        "resource": {"kind": "container", "name": "web"},
    }
    assert result.stdout.count("\n") == 1


METHODS = [*sorted({operation.method for operation in CATALOGUE.operations.values()}), "get", "G T", "", "OPTIONS", "É"]
PATHS = sorted({operation.path for operation in CATALOGUE.operations.values()})
known_targets = st.builds(
    lambda prefix, path, name, query: prefix + re.sub(r"\{\w+\}", name, path) + query,
    st.sampled_from(["", "/v1.14", "/v1.24", "/v1.55", "/v1.99", "/v01.3"]),
    st.sampled_from(PATHS),
    st.sampled_from(["web", "a/b/c", "json", "x%2Fy", "ä", ".."]),
    st.sampled_from(["", "?", "?a=1", "?%zz"]),
)
targets = st.text(max_size=12).filter(lambda text: not {"\r", "\n"} & set(text))  # else it is several lines of a head
principals = st.sampled_from([{}, {"uid": 0}, {"uid": 7, "exe": "/bin/sh"}, {"address": "10.0.0.1:5"}])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), st.sampled_from(METHODS), known_targets | targets, principals)
def test_explain_says_what_is_enforced(policy: str, method: str, target: str, facts: dict[str, Any]) -> None:
    words = [word for key, value in facts.items() for word in ("--as", f"{key}={value}")]
    result = run("explain", "--policy", policy, *words, "--format", "json", "--", method, target)
    told = json.loads(result.stdout)
    principal = identify(Peer("here", "tcp" if "address" in facts else "unix", **facts))
    try:
        head = http1.parse_request_head(f"{method} {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode(), 10)
        _, classified, decision, *_ = judge(CATALOGUE, POLICIES[policy], principal, head.method, head.target)
    except BadRequest as error:
        assert (told["effect"], told["reason"]) == ("deny", f"bad-request: {error.detail}")
        assert result.exit_code == 1
    else:
        operation_id = classified.operation.operation_id if classified.operation else ""
        expected = (operation_id, decision.effect, decision.policy, decision.rule, decision.detail)
        assert tuple(told[key] for key in ("operation", "effect", "policy", "rule", "reason")) == expected
        assert result.exit_code == (0 if decision.effect == "allow" else 1)


def test_explain_shows_names_that_a_terminal_does_not_obey() -> None:
    result = run("explain", "GET", "/containers/%E2%80%AEgnirts/json")  # U+202E turns the direction of what follows
    assert "resource   container \\u202egnirts\n" in result.stdout


# matrix, diff, versions


@pytest.mark.parametrize("version", ["1.14", "1.24", "1.55"])
def test_matrix_csv_has_a_row_for_each_operation_of_that_version(version: str) -> None:
    result = run("matrix", "--policy", "kubernetes-1.4", "readonly", "--api", version, "--format", "csv")
    header, *rows = csv.reader(io.StringIO(result.stdout))
    assert header == ["operation", "method", "path", "tag", "access", "kubernetes-1.4", "readonly"]
    asked = ApiVersion.parse(version)
    assert [row[0] for row in rows] == [name for name, each in CATALOGUE.operations.items() if each.in_version(asked)]
    assert {cell for row in rows for cell in row[5:]} <= {"allow", "deny", "if"}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_matrix_agrees_with_explain(policy: str) -> None:
    nobody = identify(Peer("here", "unix"))
    for row in csv.DictReader(io.StringIO(run("matrix", "--policy", policy, "--format", "csv").stdout)):
        target = "/v1.55" + re.sub(r"\{\w+\}", "x", row["path"])
        judgement = judge(CATALOGUE, POLICIES[policy], nobody, row["method"], target)
        assert (judgement.decision.effect if judgement.is_of_head else "if") == row[policy], target


def columns_of(*args: str) -> list[str]:
    return run("matrix", "--format", "csv", *args).stdout.splitlines()[0].split(",")[5:]


def test_matrix_shows_the_policies_that_are_named_or_matched_each_once() -> None:
    assert columns_of("--policy", "traefik*", "readonly", "traefik") == ["traefik", "traefik-swarm", "readonly"]
    assert columns_of("--policy", "*") == list(builtin_policy_names())
    assert columns_of() == sorted(set(builtin_policy_names()) - set(client_policy_names()))


def test_matrix_formats_say_the_same() -> None:
    rows = [list(row) for row in csv.reader(io.StringIO(run("matrix", "--format", "csv").stdout))]
    markdown = [line.strip("|\n ").split(" | ") for line in run("matrix", "--format", "markdown").stdout.splitlines()]
    assert [markdown[0], *markdown[2:]] == rows
    assert set(markdown[1]) == {"---"}
    plain = run("matrix").stdout.splitlines()
    assert [line.split() for line in plain] == rows
    objects = json.loads(run("matrix", "--format", "json").stdout)
    header = rows[0]
    assert [[*(one[key] for key in header[:5]), *one["policies"].values()] for one in objects] == rows[1:]
    assert [*objects[0]["policies"]] == header[5:]


def test_diff_is_what_differs_in_the_matrix() -> None:
    rows = list(csv.DictReader(io.StringIO(run("matrix", "--format", "csv").stdout)))
    for p, q in [("kubernetes-1.4", "readonly"), ("readonly", "allow-all"), ("allow-all", "kubernetes-1.3")]:
        lines = set(run("diff", p, q).stdout.splitlines())
        assert {f"+ {row['operation']}" for row in rows if (row[p], row[q]) == ("deny", "allow")} <= lines
        assert {f"- {row['operation']}" for row in rows if (row[p], row[q]) == ("allow", "deny")} <= lines
        assert all(re.fullmatch(r"[-+~] [A-Za-z0-9]+", line) for line in lines)


def test_versions_csv() -> None:
    lines = run("versions", "--format", "csv").stdout.splitlines()
    assert lines[0] == "docker_release,api_version,kubernetes_1_4"
    assert len(lines) == 1 + len(load_docker_releases())
    assert {"1.12.x,1.24,yes", "1.9.x,1.21,yes", "1.8.x,1.20,no"} <= set(lines)


# audit


def test_audit_show_filters_and_passes_json_on() -> None:
    events = [json.loads(line) for line in TRAIL.read_text().splitlines()]
    shown = run("audit", "show", "--format", "json", "--effect", "deny", "--stage", "completed", str(TRAIL)).stdout
    denied = [each for each in events if (each["effect"], each["stage"]) == ("deny", "completed")]
    assert [json.loads(line) for line in shown.splitlines()] == denied != []
    one = run("audit", "show", "--format", "json", "--id", events[0]["id"], str(TRAIL)).stdout
    assert [json.loads(line) for line in one.splitlines()] == [each for each in events if each["id"] == events[0]["id"]]
    named = run("audit", "show", "--operation", "ContainerList", str(TRAIL)).stdout.splitlines()
    assert len(named) == sum(each["operation"] == "ContainerList" for each in events)
    grouped = run(
        "audit", "show", "--operation", "@Container", "--operation", "@unknown", str(TRAIL)
    ).stdout.splitlines()
    wanted = [each for each in events if each["operation"].startswith("Container") or not each["operation"]]
    assert len(grouped) == len(wanted) > len(named)
    assert "no operation is meant by" in run("audit", "show", "--operation", "Nothing*", str(TRAIL)).stderr


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--principal", "uid:10*"), 9),
        (("--principal", "uid:0"), 0),
        (("--container", "web"), 4),
        (("--container", "x"), 0),
        (("--since", "2025-01-01T00:00:00.251Z"), 5),
        (("--until", "2025-01-01T00:00:00.251Z"), 4),
        (("--since", "2h"), 0),
    ],
)
def test_audit_show_of_whom_and_when(args: tuple[str, ...], expected: int) -> None:
    assert len(run("audit", "show", *args, str(TRAIL)).stdout.splitlines()) == expected


def test_audit_show_takes_no_wrong_time() -> None:
    result = run("audit", "show", "--since", "yesterday", str(TRAIL))
    assert (result.exit_code, "expected a time" in result.stderr) == (2, True)


def test_audit_show_follows(tmp_path: Path) -> None:
    lines = TRAIL.read_bytes().splitlines(keepends=True)
    growing = tmp_path / "audit.jsonl"
    growing.write_bytes(lines[0])
    command = [sys.executable, "-m", "sockproxy", "audit", "show", "--follow", "--format", "json", str(growing)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, growing.open("ab", buffering=0) as writer:
        assert process.stdout is not None
        for line in lines[1:]:
            process.stdout.readline()
            writer.write(line)
        assert json.loads(process.stdout.readline()) == json.loads(lines[-1])
        process.terminate()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("csv", "stage,count\ndecided,4\ncompleted,5\n"),
        ("json", '{"stage":"decided","count":4}\n{"stage":"completed","count":5}\n'),
        ("table", "stage      count\ndecided    4\ncompleted  5\n"),
    ],
)
def test_audit_query(form: str, expected: str) -> None:
    sql = "SELECT stage, count(*) AS count FROM events GROUP BY stage ORDER BY stage DESC"
    assert run("audit", "query", "--format", form, sql, str(TRAIL)).stdout == expected


def test_audit_query_says_what_is_wrong() -> None:
    result = run("audit", "query", "SELECT operatoin FROM events", str(TRAIL))
    assert (result.exit_code, "operatoin" in result.stderr) == (2, True)


def test_audit_export_and_the_summary_of_it(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    assert run("audit", "export", "--to", lake, "--host", "h1", str(TRAIL)).stdout.startswith("9 events")
    told = [run("audit", "summary", "--format", "json", source).stdout for source in (str(TRAIL), lake)]
    assert told[0] == told[1]
    learnt = [yaml.safe_load(run("learn", source).stdout) for source in (str(TRAIL), lake)]
    assert learnt[0] == learnt[1]
    assert run("audit", "export", "--to", lake, "--host-pattern", "x", str(TRAIL)).exit_code == 2


def test_audit_summary_json_counts_each_request_once() -> None:
    events = [json.loads(line) for line in TRAIL.read_text().splitlines()]
    summary = json.loads(run("audit", "summary", "--format", "json", str(TRAIL)).stdout)
    assert summary["requests"] == len({event["id"] for event in events})
    assert sum(entry["requests"] for entry in summary["operations"]) == summary["requests"]


def test_audit_reads_standard_input() -> None:
    with TRAIL.open("rb") as trail:
        result = run_process("audit", "verify", "-", stdin=trail)
    assert (result.returncode, result.stdout.split()[0]) == (0, "whole")


# Parameters


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--as a=1 b=2 GET /x=1", "--as a=1 --as b=2 GET /x=1"),
        ("GET / --as a=1", "GET / --as a=1"),
        ("--as a=1 --as b=2 c=3 GET d=4", "--as a=1 --as b=2 --as c=3 GET d=4"),
        ("--as a=1 --format json b=2", "--as a=1 --format json b=2"),
        ("--as=a=1 GET /", "--as=a=1 GET /"),
        ("--as", "--as"),
        ("a=1 --as GET b=2", "a=1 --as GET --as b=2"),
    ],
)
def test_spread(args: str, expected: str) -> None:
    assert (
        parameters.spread(args.split(), "--as", lambda word: bool(re.fullmatch("[a-z]+=.*", word))) == expected.split()
    )


@pytest.mark.parametrize(
    ("word", "facts"),
    [
        ("uid=1000,tls_subject=CN=ci-7", {"uid": 1000, "tls_subject": "CN=ci-7"}),
        (
            "tls_subject=CN=ci-7,O=Example,address=192.0.2.7",
            {"tls_subject": "CN=ci-7,O=Example", "address": "192.0.2.7:0"},
        ),
        ("tls_subject=UID=7,CN=ci", {"tls_subject": "UID=7,CN=ci"}),
        ("exe=/srv/a,b", {"exe": "/srv/a,b"}),
        ("spiffe_id=spiffe://example.org/ci,uid=0", {"tls_sans": ("URI:spiffe://example.org/ci",), "uid": 0}),
    ],
)
def test_facts_may_stand_behind_commas(word: str, facts: dict[str, Any]) -> None:
    assert parameters.parse_facts([word]) == facts


@pytest.mark.parametrize(
    ("words", "peer"),
    [
        ([], Peer("command line", "unix")),
        (["uid=0", "gid=0"], Peer("command line", "unix", uid=0, gid=0)),
        (["tls_subject=CN=ci-1,O=x"], Peer("command line", "tcp", tls_subject="CN=ci-1,O=x")),
        (["address=10.0.0.1:5"], Peer("command line", "tcp", address="10.0.0.1:5")),
        (["address=10.0.0.1"], Peer("command line", "tcp", address="10.0.0.1:0")),
        (["tls_san=DNS:A.b", "tls_san=URI:x"], Peer("command line", "tcp", tls_sans=("DNS:a.b", "URI:x"))),
        (["tls_fingerprint=" + "AB:" * 31 + "AB"], Peer("command line", "tcp", tls_fingerprint="ab" * 32)),
        (["kind=unix", "exe="], Peer("command line", "unix", exe="")),
    ],
)
def test_parse_peer(words: list[str], peer: Peer) -> None:
    assert parameters.parse_peer(words) == peer


@pytest.mark.parametrize("word", ["uid=+5", "uid=1_0", "uid= 5", "uid=٣", "uid=", "uid=12345678901"])
def test_numbers_are_digits(word: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a number"):
        parameters.parse_peer([word])


FACTS_OF_PEERS = [
    *("uid=1000", "uid=0", "exe=/usr/bin/docker", "address=10.1.2.3", "address=192.0.2.1:5"),
    *("tls_subject=CN=ci-7", "tls_subject=CN=me", "tls_san=URI:spiffe://example.org/ops/1"),
]


@cache
def config_of_clients() -> Config:
    return load_config(str(CASES / "cli" / "clients.yaml"), CATALOGUE)


@given(st.sampled_from([0, 1, 2]), st.lists(st.sampled_from(FACTS_OF_PEERS), max_size=3, unique_by=lambda one: one[:5]))
def test_the_policy_is_chosen_as_the_proxy_chooses_it(at: int, facts: list[str]) -> None:
    config = config_of_clients()
    listener = config.listeners[at]
    policy, peer, _ = choosing.choose(None, config, listener.name, facts, CATALOGUE)
    nobody = policy_of_nobody(CATALOGUE)
    gate = Entrance(listener.name, listener.clients, nobody).gate_of(peer)
    assert (policy.name, policy.revision) == (gate.policy.name, gate.policy.revision)


# serve, demo

NOTHING = running.Single(listen=(), engine=None, policy=None, admin=None, audit=())


@pytest.mark.parametrize(
    ("environment", "euid", "listener"),
    [
        ({}, 0, "unix:///run/sockproxy/docker.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "unix:///run/sockproxy/docker.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, "unix:///run/user/1000/sockproxy/docker.sock"),
        ({"XDG_RUNTIME_DIR": "here"}, 1000, "unix:///run/sockproxy/docker.sock"),
        ({}, 1000, "unix:///run/sockproxy/docker.sock"),
    ],
)
def test_default_socket(environment: dict[str, str], euid: int, listener: str) -> None:
    config = running.from_options(NOTHING, environment, euid)
    assert [str(each.address) for each in config.listeners] == [listener]
    assert (str(config.engine), str(config.admin), config.audit) == (
        "unix:///var/run/docker.sock",
        "tcp://127.0.0.1:9323",
        (),
    )
    assert [each.policy_names[0] for each in config.listeners] == ["kubernetes-1.4"]


def test_options_go_where_they_belong() -> None:
    listen = ("tcp://127.0.0.1:2375", "unix:///tmp/x.sock")
    single = running.Single(listen, engine="tcp://e:1", policy="readonly", admin="none", audit=("-", "/tmp/a"))
    config = running.from_options(single, {"DOCKER_HOST": "tcp://other:2"}, 0)
    assert tuple(str(each.address) for each in config.listeners) == listen
    assert {each.policy_names[0] for each in config.listeners} == {"readonly"}
    assert (str(config.engine), config.admin) == ("tcp://e:1", None)
    assert [each.file for each in config.audit] == ["-", "/tmp/a"]


def test_engine_is_where_docker_host_says() -> None:
    config = running.from_options(NOTHING, {"DOCKER_HOST": "tcp://other:2"}, 0)
    assert str(config.engine) == "tcp://other:2"


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/x/sockproxy/__main__.py", f"{sys.executable} -m sockproxy"),
        ("/nowhere/bin/pytest", f"{sys.executable} -m sockproxy"),
    ],
)
def test_how_called(program: str, typed: str) -> None:
    assert running.how_called(program) == typed


def test_serve_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    options = ["--listen", f"unix://{tmp_path}/s.sock", "--engine", f"unix://{tmp_path}/e.sock", "--admin", "none"]
    command = [sys.executable, "-m", "sockproxy", "serve", *options, "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            awaited = {"listening", "engine-down"}  # the latter tells that its loop runs
            while awaited:
                awaited.discard(json.loads(next(process.stderr))["event"])
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_serve_does_without_the_usual_admin_listener_where_that_is_taken(tmp_path: Path) -> None:
    options = ["--listen", f"unix://{tmp_path}/s.sock", "--engine", f"unix://{tmp_path}/e.sock"]
    command = [sys.executable, "-m", "sockproxy", "serve", *options, "--log-format", "json"]
    with listening_at(ADMIN_PORT), subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            seen: list[str] = []
            while "engine-down" not in seen:
                seen.append(json.loads(next(process.stderr))["event"])
            assert ("admin-taken" in seen, "listening" in seen, "admin" in seen) == (True, True, False)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def listening_at(port: int) -> Iterator[None]:
    """While somebody listens there: this test, or whoever does already."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not is_taken(port):
            sock.bind(("127.0.0.1", port))
            sock.listen()
        yield


def test_explain_waits_for_nothing_that_it_does_not_use() -> None:
    code = (
        "import sys\nfrom sockproxy.operating.cli.root import root\n"
        "try: root.main(['explain', 'GET', '/info'])\n"
        "finally: print(*{'aiohttp', 'uvloop', 'rich', 'prometheus_client', 'asyncio', 'zipfile'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == ""
