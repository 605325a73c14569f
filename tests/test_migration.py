"""Settings of other proxies: the policy allows what HAProxy let pass with them, operation by operation."""

import csv
import random
import re
from pathlib import Path

import pytest

from sockproxy.judging.catalogue import Operation
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.judge import judge
from sockproxy.judging.policy import Effect, Policy
from sockproxy.judging.versions import ANY_API_VERSION
from sockproxy.operating.config import check_config, load_policy
from sockproxy.operating.config.writing import policy_file
from sockproxy.operating.migration import PROXIES, SECTIONS, Proxy, known_settings, migrate, read_settings
from tests.cli_runs import run
from tests.exchanges import CATALOGUE
from tests.haproxy import Request, Settings, judged_by_haproxy, passing

SOMEBODY = identify(Peer("here", "tcp"))
VALUES = [
    "0",
    "1",
    "2",
    "00",
    "01",
    "+1",
    "-1",
    "-0",
    "1.5",
    "1x",
    "1 ",
    " 1",
    "",
    "true",
    "TRUE",
    "yes",
    "on",
    "0x1",
    "-",
]


def targets_of(operation: Operation) -> list[Request]:
    """How an operation is asked for: with a version and without, with a query, with what need not be escaped escaped."""
    path = re.sub(r"\{\w+\}", "web-1", operation.path)
    escaped = f"/%{ord(path[1]):02x}{path[2:]}"
    targets = [path, f"/v{operation.first_api}{path}", f"/v{operation.last_api or '1.99'}{path}?all=1", escaped]
    return [(operation.method, target) for target in targets]


REQUESTS = [request for operation in CATALOGUE.operations.values() for request in targets_of(operation)]


def sets_of(proxy: Proxy) -> list[Settings]:
    """Nothing, all, each setting alone and with POST, and some of everything."""
    names = known_settings(proxy)
    chance = random.Random(1)
    single = [{name: "1"} for name in names] + [{name: "1", "POST": "1"} for name in names]
    closing = [dict.fromkeys(proxy.defaults, "0"), dict.fromkeys(names, "1"), dict.fromkeys(names, "0")]
    mixed = [{name: chance.choice("01") for name in names} for _ in range(20)]
    gates = [{"CONTAINERS": "1", "POST": chance.choice("01"), gate: "1"} for gate in proxy.gates]
    values = [{"CONTAINERS": value, "POST": value} for value in VALUES]
    return [{}, *single, *closing, *mixed, *gates, *values]


def policy_of(proxy: Proxy, settings: Settings, folder: Path) -> Policy:
    file = folder / "policy.yaml"
    rules = migrate(proxy, settings, CATALOGUE).rules
    file.write_text(policy_file("p", head=[], allow=rules, api_versions=ANY_API_VERSION))
    check_config(str(file), CATALOGUE)
    return load_policy(str(file), CATALOGUE)


def allowed(policy: Policy, request: Request) -> bool:
    return judge(CATALOGUE, policy, SOMEBODY, *request).decision.effect is Effect.ALLOW


@pytest.mark.parametrize("proxy", PROXIES.values(), ids=PROXIES)
def test_the_same_operations_pass(tmp_path: Path, proxy: Proxy) -> None:
    settings = sets_of(proxy)
    with judged_by_haproxy(tmp_path, proxy, settings) as sockets:
        theirs = [passing(path, REQUESTS) for path in sockets]
    for one, passed in zip(settings, theirs, strict=True):
        policy = policy_of(proxy, one, tmp_path)
        different = [
            (request, was) for request, was in zip(REQUESTS, passed, strict=True) if allowed(policy, request) is not was
        ]
        assert not different, one


SETTINGS = list(csv.DictReader((Path(__file__).parent / "cases/proxy_settings.csv").open(encoding="utf-8")))
USUAL = {"SystemEvents", "SystemPing", "SystemPingHead", "SystemVersion"}


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: f"{row['proxy']} {row['settings']}")
def test_what_settings_open(tmp_path: Path, row: dict[str, str]) -> None:
    """What people are told of each setting; `-` takes away from what is open without any."""
    settings = dict(word.split("=") for word in row["settings"].split())
    policy = policy_of(PROXIES[row["proxy"]], settings, tmp_path)
    words = row["operations"].split()
    expected = (USUAL | set(words)) - {word for named in words for word in (named, named[1:]) if named[0] == "-"}
    assert {name for rule in policy.allow for name in rule.operations} == expected


def test_every_setting_is_in_the_table() -> None:
    told = {(row["proxy"], word.split("=")[0]) for row in SETTINGS for word in row["settings"].split()}
    named = {name for _, name in told}
    assert {name for proxy in PROXIES.values() for name in known_settings(proxy)} == named
    assert {("linuxserver", name) for name in PROXIES["linuxserver"].gates} <= told


LOOKS_ALIKE: list[tuple[str, Settings, Request]] = [
    ("tecnativa", {"CONTAINERS": "1"}, ("GET", "/v1.41/containers/web/nothing")),
    ("tecnativa", {"CONTAINERS": "1"}, ("GET", "/v1.41/Containers/json")),
    ("tecnativa", {}, ("GET", "/v1.41/versions-of-something")),
    ("tecnativa", {"POST": "1", "ALLOW_START": "1"}, ("POST", "/v1.41/containers/web/start/exec")),
    ("tecnativa", {"NETWORKS": "1"}, ("GET", "/v1.20/networks")),
    ("linuxserver", {"ALLOW_START": "1"}, ("DELETE", "/v1.41/containers/web/start")),
    ("linuxserver", {"CONTAINERS": "1"}, ("GET", "/v1.41/containers/web/alias/export")),
]
"""What passed there and does not here: no operations, operations of a later API, and operations on another container than
the pattern was meant for (a name with a slash)."""


@pytest.mark.parametrize(("name", "settings", "request_"), LOOKS_ALIKE, ids=[str(case[2]) for case in LOOKS_ALIKE])
def test_what_only_looks_like_an_operation_does_not_pass(
    tmp_path: Path, name: str, settings: Settings, request_: Request
) -> None:
    proxy = PROXIES[name]
    assert not allowed(policy_of(proxy, settings, tmp_path), request_)
    with judged_by_haproxy(tmp_path, proxy, [settings]) as [path]:
        assert passing(path, [request_]) == [True]


@pytest.mark.parametrize("proxy", PROXIES.values(), ids=PROXIES)
def test_every_section_is_one(proxy: Proxy) -> None:
    firsts = {operation.path.split("/")[1] for operation in CATALOGUE.operations.values()}
    assert set(SECTIONS.values()) == firsts


# The command

TOLD: list[tuple[str, str, int, str, str]] = [
    ("tecnativa", "CONTAINERS=1\n# a comment\n\nPOST=0\r\n", 0, "# ContainerAttachWebsocket is a GET", ""),
    ("tecnativa", "CONTAINERS=1", 0, "ContainerArchive reads any file", ""),
    ("tecnativa", "CONTAINERS=" + "1" * 5000, 0, "ContainerArchive reads any file", ""),  # more than int() reads
    ("tecnativa", "CONTAINERS=1", 0, "api_versions: {unversioned: allow}", ""),
    ("tecnativa", "", 0, "- operations: [SystemPing, SystemPingHead]", ""),
    ("tecnativa", "EVENTS=0\nPING=0\nVERSION=0", 0, "allow: []", ""),
    ("tecnativa", "CONTAINERS=0\nCONTAINERS=1", 0, "- ContainerList\n", ""),
    ("tecnativa", "ALLOW_START=1", 0, "", "ALLOW_START=1 opens nothing without POST=1\n"),
    ("linuxserver", "ALLOW_START=1", 0, "- operations: [ContainerStart]", ""),
    ("linuxserver", "ALLOW_START=1", 0, "is a creation as well: it passed there, and is denied here", ""),
    ("linuxserver", "ALLOW_LOGS=1", 0, "", "ALLOW_LOGS=1 opens nothing without CONTAINERS=1\n"),
    ("tecnativa", "CONTAINERS=true", 0, "", 'CONTAINERS="true" was off: HAProxy takes numbers only, and 1 is on\n'),
    ("tecnativa", "CONTAINER=1", 0, "", "CONTAINER is no setting of tecnativa, and had no effect; did you mean"),
    ("tecnativa", "ALLOW_PAUSE=1", 0, "", "ALLOW_PAUSE is no setting of tecnativa"),
    ("tecnativa", "PATH=/bin\nHAPROXY_VERSION=3\nLOG_LEVEL=info\nDISABLE_IPV6=1", 0, "policies", ""),
    ("tecnativa", "SOCKET_PATH=/run/d.sock", 0, "", 'serve --engine "unix:///run/d.sock"'),
    ("linuxserver", "LIBPOD_PING=1\nLIBPOD_VERSION=1\nLIBPOD_PODS=0", 0, "policies", ""),
    ("linuxserver", "LIBPOD_PODS=1", 1, "policies", "LIBPOD_PODS is left out"),
    (
        "tecnativa",
        "export CONTAINERS=1\nPOST=1\nx",
        1,
        "",
        'standard input:1: "export CONTAINERS=1" is not of the form NAME=value\nstandard input:3: ',
    ),
    ("tecnativa", "X" * 1_100_000, 2, "", "larger than 1 MiB"),
    ("haproxy", "", 2, "", "tecnativa"),
]


def test_settings_may_be_as_they_stand_in_a_compose_file() -> None:
    text = "  - INFO=1\n  - 'PING=0'  # not that\n  EXEC: \"1\"\n  POST: 1  # all methods\nNODES=1\nINFO=0"
    assert read_settings(text, "env") == {"INFO": "0", "PING": "0", "EXEC": "1", "POST": "1", "NODES": "1"}


@pytest.mark.parametrize(
    ("proxy", "settings", "code", "out", "err"), TOLD, ids=[f"{case[0]}-{case[1][:30]}" for case in TOLD]
)
def test_import(proxy: str, settings: str, code: int, out: str, err: str) -> None:
    result = run("import", proxy, input=settings)
    assert result.exit_code == code
    assert out in result.stdout
    assert err in result.stderr
    assert err or not result.stderr


def test_import_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "proxy.env").write_text("INFO=1\n")
    result = run("import", "--name", "info", "tecnativa", str(tmp_path / "proxy.env"))
    assert "\n  info:\n" in result.stdout
    assert "[SystemInfo]" in result.stdout
    assert run("import", "tecnativa", str(tmp_path / "none")).exit_code == 2


def test_hostile_names_stay_in_their_line() -> None:
    result = run("import", "tecnativa", input="\x1b[2J=1\nA\x1bB=1\nC=\x1b\n")
    assert result.stderr.replace("\n", "").isprintable()
