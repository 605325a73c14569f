"""Recording rules, alerts and runbooks: promtool reads and tests them, each alert has what whoever it wakes needs.

That a real Prometheus evaluates them is in test_observability.py.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sockproxy.operating.cli.root import root
from sockproxy.recording.metrics import FAMILIES

from .prometheus import ROOT, RULES, promtool

RUNBOOKS = ROOT / "docs" / "runbooks"


def rules_of(file: str) -> list[Any]:
    return [rule for group in yaml.safe_load((RULES / file).read_text())["groups"] for rule in group["rules"]]


RECORDS, ALERTS = rules_of("recording.yaml"), rules_of("alerts.yaml")
NAMES = sorted({alert["alert"] for alert in ALERTS})
TESTS = sorted(RULES.glob("*.test.yaml"))
EACH = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")


# promtool


def test_promtool_reads_the_rules() -> None:
    assert promtool("check", "rules", "prometheus/recording.yaml", "prometheus/alerts.yaml") == ""


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_promtool_tests_the_rules(file: Path) -> None:
    assert promtool("test", "rules", str(file)) == ""


def cases_of(name: str) -> list[Any]:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    return [case for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == name]


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_tested_to_fire_and_not_to_fire(name: str) -> None:
    assert {bool(case.get("exp_alerts")) for case in cases_of(name)} == {True, False}


@EACH
def test_each_severity_is_tested(alert: Any) -> None:
    fired = [one["exp_labels"]["severity"] for case in cases_of(alert["alert"]) for one in case.get("exp_alerts", ())]
    assert alert["labels"]["severity"] in fired


@pytest.mark.parametrize("rule", RECORDS, ids=lambda rule: rule["record"])
def test_each_recording_rule_is_tested(rule: Any) -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    assert any(rule["record"] in case["expr"] for test in tests for case in test.get("promql_expr_test", ()))


# Conventions

PROMISED = {
    *("EngineDown", "EngineWedged", "DenialsRising", "AuditFailing", "RequestsRejectedByAudit", "ConfigReloadFailed"),
    *("CertificateExpiring", "OverheadHigh", "BadRequestsBurst", "ShadowWouldDeny", "StreamsNearLimit"),
    "PolicyAllowsUnused",
}


def test_the_alerts_are_those_that_are_promised() -> None:
    assert set(NAMES) == {f"Sockproxy{name}" for name in PROMISED | {"Down"}}


@EACH
def test_each_alert_says_what_it_is(alert: Any) -> None:
    assert re.fullmatch(r"(?:Sockproxy)(?:[A-Z][a-z]+)+", alert["alert"])
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert "{{" not in annotations["summary"], "the summary is the same for all"
    assert "{{" in annotations["description"], "the description says where"
    assert annotations["runbook_url"] == f"docs/runbooks/{alert['alert'].lower()}.md"
    assert "for" in alert or "increase(" in alert["expr"], "for two scrapes at least, unless any event counts"


@pytest.mark.parametrize("rule", RECORDS, ids=lambda rule: rule["record"])
def test_a_recording_rule_says_what_it_is(rule: Any) -> None:
    level, metric, operation = rule["record"].split(":")
    assert re.fullmatch(r"(?:rate|p99_|count)\d+[md]", operation)
    assert metric.startswith("sockproxy_")
    by = set(re.findall(r"by \(([^)]*)\)", rule["expr"])[0].split(", ")) - {"le"}
    assert set(level.split("_")) == by


def test_rules_ask_for_metrics_that_there_are() -> None:
    told = {family.name for family in FAMILIES} | {rule["record"] for rule in RECORDS}
    for rule in (*RECORDS, *ALERTS):
        asked = set(re.findall(r"[\w:]*sockproxy_[\w:]+", rule["expr"]))
        assert {name.removesuffix("_bucket") for name in asked} <= told, rule["expr"]


# Runbooks


def test_there_is_a_runbook_for_each_alert_and_no_other() -> None:
    assert sorted(file.stem for file in RUNBOOKS.glob("*.md")) == [name.lower() for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_says_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name.lower()}.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert sections[0].startswith(f"# {name}\n")
    assert [section.partition("\n")[0] for section in sections[1:]] == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(len(section) > 60 for section in sections[1:])
    assert "$ " in sections[3], "a diagnosis has commands"
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / target).exists(), target
    for metric in set(re.findall(r"`(sockproxy_\w+)`", text)):
        assert metric in {family.name for family in FAMILIES}


def commands() -> list[str]:
    texts = [file.read_text() for file in sorted(RUNBOOKS.glob("*.md"))]
    return sorted({line for text in texts for line in re.findall(r"^\$ (sockproxy .*)$", text, flags=re.MULTILINE)})


@pytest.mark.parametrize("command", commands())
def test_commands_of_runbooks_are_known(command: str) -> None:
    """Each option is one of the command, and the command takes as many arguments."""
    words = shlex.split(re.split(r" [|>] ", command)[0])[1:]
    found: click.Command = root
    while isinstance(found, click.Group):
        found = found.get_command(click.Context(found), words.pop(0)) or pytest.fail(f"no such command: {command}")
    found.make_parser(click.Context(found)).parse_args(words)


@pytest.mark.parametrize(
    "panel", re.findall(r"\*([A-Z][^*]+)\*", "".join(f.read_text() for f in RUNBOOKS.glob("*.md")))
)
def test_panels_of_runbooks_are_on_a_dashboard(panel: str) -> None:
    dashboards = "".join(file.read_text() for file in (ROOT / "grafana").glob("*.json"))
    assert f'"title": "{panel}"' in dashboards
