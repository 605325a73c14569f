"""Policies' own tests: the file is read strictly, the answers are those of the proxy, and the built-in policies pass."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sockproxy.data import builtin_policy_names, client_policy_names
from sockproxy.errors import ConfigError
from sockproxy.judging.comparison import Verdict, effects
from sockproxy.judging.identity import Peer, identify
from sockproxy.operating.config import load_policy
from sockproxy.operating.config.testfile import load_tests
from tests.cli_runs import run
from tests.exchanges import CATALOGUE

CASES = Path(__file__).parent / "cases"
FINDINGS = yaml.safe_load((CASES / "test_findings.yaml").read_text(encoding="utf-8"))
OF_BUILTIN = Path(__file__).parent.parent / "sockproxy/data/policies/tests"


@pytest.mark.parametrize("case", FINDINGS, ids=lambda case: case["id"])
def test_findings(case: Mapping[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "a.test.yaml"
    file.write_text(case["text"], encoding="utf-8")
    try:
        load_tests(str(file), CATALOGUE)
    except ConfigError as error:
        assert {finding.file for finding in error.findings} == {str(file)}
        found = [f"{line}: {key}: {message}" for _, line, key, message in error.findings]
    else:
        found = []
    assert found == [finding.replace("{folder}", str(tmp_path)) for finding in case["findings"]]


def test_a_policy_that_is_wrong_is_told_with_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\npolicies: {p: {alow: []}}\n")
    (tmp_path / "t.yaml").write_text("version: 1\npolicy: p.yaml\ntests: [{name: a, request: GET /, expect: deny}]\n")
    with pytest.raises(ConfigError, match=r'p\.yaml:2: policies\.p\.alow: unknown key; did you mean "allow"\?'):
        load_tests(str(tmp_path / "t.yaml"), CATALOGUE)


def test_a_test_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "version: 1\npolicy: readonly\ntests:\n"
        "  - {name: a, request: GET /info, as: {uid: 7, exe: /bin/x}, expect: allow, rule: 'readonly/allow[3]'}\n"
        "  - {name: b, request: GET /info, as: {tls_subject: CN=ci}, expect: deny}\n"
    )
    first, second = load_tests(str(file), CATALOGUE).tests
    assert (first.line, first.method, first.target) == (4, "GET", "/info")
    assert first.principal == identify(Peer("test", "unix", uid=7, exe="/bin/x"))
    assert first.expected == {"effect": "allow", "rule": "readonly/allow[3]"}
    assert second.principal == identify(Peer("test", "tcp", tls_subject="CN=ci"))


def test_a_body_may_be_keys_with_values(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "version: 1\npolicy: allow-all\ntests:\n"
        "  - name: a\n    request: POST /containers/create\n    expect: allow\n"
        "    body: {Image: ä, HostConfig: {Privileged: true, Memory: 5, CapAdd: [ALL], Binds: null}}\n"
        "    found: {container: {web: null}}\n"
        "  - {name: b, request: POST /containers/create, expect: allow, body: '{\"Image\": '}\n"
    )
    first, second = load_tests(str(file), CATALOGUE).tests
    hosts = {"Privileged": True, "Memory": 5, "CapAdd": ["ALL"], "Binds": None}
    assert json.loads(first.body) == {"Image": "ä", "HostConfig": hosts}
    assert [question.name for question in first.found] == ["web"]
    assert second.body == b'{"Image": '


def test_json_tells_what_was_expected_and_what_came() -> None:
    result = run("test", "--format", "json", str(CASES / "cli/fails.test.yaml"))
    [told] = json.loads(result.stdout)
    assert result.exit_code == 1
    assert result.stderr == ""
    assert (told["policy"], [one["passed"] for one in told["tests"]]) == ("ci", [True, False, False, False])
    assert told["tests"][1] == {
        "name": "pauses",
        "line": 5,
        "passed": False,
        "expected": {"effect": "allow", "rule": "ci/allow[0]"},
        "actual": {"effect": "deny", "operation": "ContainerPause", "rule": "", "reason": "no rule allows it"},
    }


# The built-in policies; those that are for one client each are tested by `test_builtin_policies`

FOR_EVERYBODY = sorted({*builtin_policy_names()} - {*client_policy_names()})


@pytest.mark.parametrize("name", FOR_EVERYBODY)
def test_a_built_in_policy_passes_its_own_tests(name: str) -> None:
    result = run("test", str(OF_BUILTIN / f"{name}.yaml"))
    assert (result.exit_code, result.stderr) == (0, "")


def test_each_policy_for_everybody_has_its_tests() -> None:
    assert sorted(path.stem for path in OF_BUILTIN.iterdir()) == FOR_EVERYBODY


@pytest.mark.parametrize("name", sorted({*FOR_EVERYBODY} - {"allow-all"}))
def test_every_operation_that_a_built_in_policy_allows_is_tested(name: str) -> None:
    tested = load_tests(str(OF_BUILTIN / f"{name}.yaml"), CATALOGUE).tests
    named = {
        one.expected["operation"] for one in tested if one.expected["effect"] == "allow" and "operation" in one.expected
    }
    verdicts = effects(load_policy(name, CATALOGUE), CATALOGUE, None)
    assert {operation for operation, verdict in verdicts.items() if verdict is not Verdict.DENY} == named
