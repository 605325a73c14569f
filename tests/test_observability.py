"""What a real Prometheus makes of a real proxy: its metrics are clean, every panel shows something, every rule counts.

One proxy with two workers, under a load that brings everything about (`observed`), and one Prometheus that scrapes it
every half second, for all tests. A panel's query is asked as Grafana would, with its variables in their places.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sockproxy.recording.metrics import FAMILIES

from .integration.dialogue import eventually
from .observed import Observed
from .prometheus import JOB, ROOT, RULES, SCRAPE_SECONDS, Prometheus, needs, promtool

DASHBOARDS = sorted((ROOT / "grafana").glob("*.json"))
DATA_SECONDS = 20.0  # at most, until what the load does shows in a query


class World(NamedTuple):
    """What is observed, who observes it, and since when (seconds since the epoch)."""

    observed: Observed
    prometheus: Prometheus
    begin: float


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    needs("prometheus")
    with tempfile.TemporaryDirectory(prefix="observed-", dir="/tmp") as name:
        observed = Observed(Path(name))
        prometheus = Prometheus(Path(name), observed.proxy.admin)
        try:
            observed.start()
            prometheus.start()
            yield World(observed, prometheus, time.time())
        finally:
            prometheus.stop()
            observed.stop()


# Metrics


def scrape(world: World, accept: str = "text/plain") -> str:
    with urlopen(Request(f"http://{world.observed.proxy.admin}/metrics", headers={"Accept": accept}), timeout=10) as it:
        return str(it.read().decode())


def test_promtool_finds_nothing_in_the_metrics(world: World) -> None:
    assert promtool("check", "metrics", stdin=scrape(world)) == ""


def test_promtool_would_find_something() -> None:
    assert "no help text" in promtool("check", "metrics", stdin="# TYPE a_seconds gauge\na_seconds 1\n")


def test_all_metrics_of_all_workers_are_told(world: World) -> None:
    told = {line.split(" ")[2] for line in scrape(world).splitlines() if line.startswith("# TYPE sockproxy_")}
    assert told == {family.name for family in FAMILIES}


def test_openmetrics_is_read_by_its_own_parser(world: World) -> None:
    families = {
        metric.name: metric for metric in text_string_to_metric_families(scrape(world, "application/openmetrics-text"))
    }
    assert any(sample.exemplar for sample in families["sockproxy_decisions"].samples)
    assert any(sample.exemplar for sample in families["sockproxy_stream_duration_seconds"].samples)


def test_exemplars_arrive_and_lead_to_the_record(world: World) -> None:
    denials = 'sockproxy_decisions_total{effect="deny"}'

    def found() -> list[Any]:
        asked = {"query": denials, "start": str(world.begin - 10), "end": str(time.time() + 1)}
        return list(world.prometheus.get("query_exemplars", **asked))

    eventually(lambda: bool(found()), DATA_SECONDS)
    ids = {one["labels"]["request_id"] for series in found() for one in series["exemplars"]}
    trails = world.observed.proxy.socket.parent.glob("audit.jsonl*")
    events = [json.loads(line) for trail in trails for line in trail.read_bytes().splitlines()]
    assert ids <= {event["id"] for event in events if event["effect"] == "deny"}


# Panels


class Asked(NamedTuple):
    """A query of a panel."""

    expression: str
    is_instant: bool


def panels() -> Iterator[Any]:
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield pytest.param(dashboard, panel, id=f"{file.stem}: {panel['title']}")


def all_values(dashboard: Any) -> dict[str, str]:
    """The variables with All chosen."""
    return {one["name"]: one["allValue"] for one in dashboard["templating"]["list"] if one["type"] == "query"}


def as_grafana_asks(text: str, variables: dict[str, str], begin: float) -> str:
    """With every variable in its place. Raises AssertionError if one is left."""
    built_in = {
        "__rate_interval": f"{int(4 * SCRAPE_SECONDS)}s",
        "__range": f"{int(time.time() - begin) + 1}s",
    }
    asked = re.sub(r"\$\{?(\w+)\}?", lambda found: (variables | built_in).get(found[1], found[0]), text)
    assert "$" not in asked, f"a variable that is none: {asked}"
    return asked


@pytest.mark.parametrize(("dashboard", "panel"), list(panels()))
def test_every_query_of_every_panel_has_data(world: World, dashboard: Any, panel: Any) -> None:
    for target in panel["targets"]:

        def has_data(target: Any = target) -> bool:
            world.observed.check()
            expression = as_grafana_asks(target["expr"], all_values(dashboard), world.begin)
            if target.get("instant"):
                return bool(world.prometheus.now(expression))
            return bool(world.prometheus.values(expression, world.begin, time.time()))

        has_data.__name__ = f"that there is data: {target['expr']}"
        eventually(has_data, DATA_SECONDS)


def test_a_query_without_data_would_be_found(world: World) -> None:
    for nothing in ('sockproxy_engine_up{job="nobody"}', "0 * sockproxy_engine_up / 0"):
        assert world.prometheus.values(nothing, world.begin, time.time()) == []
        assert world.prometheus.now(nothing) == []
    with pytest.raises(AssertionError, match="parse error"):
        world.prometheus.now("sum(")


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_variable_has_values(world: World, file: Path) -> None:
    dashboard = json.loads(file.read_text())
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found, variable["query"]
            selector = as_grafana_asks(found[1], all_values(dashboard), world.begin)
            eventually(
                lambda it=found[2], one=selector: world.prometheus.get(f"label/{it}/values", **{"match[]": one}),
                DATA_SECONDS,
            )


# Rules


def records() -> list[str]:
    groups = yaml.safe_load((RULES / "recording.yaml").read_text())["groups"]
    return [rule["record"] for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("record", records())
def test_every_recording_rule_counts(world: World, record: str) -> None:
    eventually(lambda: bool(world.prometheus.values(record, world.begin, time.time())), DATA_SECONDS)


def test_every_rule_is_evaluated_without_a_fault(world: World) -> None:
    def rules() -> list[Any]:
        return [rule for group in world.prometheus.get("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] != "unknown" for rule in rules()), DATA_SECONDS)
    assert {(rule["name"], rule.get("lastError", "")) for rule in rules() if rule["health"] != "ok"} == set()


def test_the_job_is_scraped(world: World) -> None:
    eventually(lambda: world.prometheus.now(f'up{{job="{JOB}"}}') == [1.0], DATA_SECONDS)
