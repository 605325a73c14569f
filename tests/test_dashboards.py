"""The dashboards: the JSON is what the tables say, and keeps the rules that grafana/dashboard-linter has for dashboards.

The rules are written down here anew, under its names, over the JSON that is checked in. Whether a query has data is
asked of a real Prometheus, in test_observability.py.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import pytest

from grafana.building import build
from grafana.dashboards import BOARDS, FOLDER, file_of
from grafana.kubernetes import NAMES
from grafana.shapes import Board
from sockproxy.operating.config import load_policy
from sockproxy.recording.metrics import FAMILIES, Kind
from tests.exchanges import CATALOGUE

DASHBOARDS = {board.uid: json.loads(file_of(board).read_text(encoding="utf-8")) for board in BOARDS}
EACH = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels_of(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables_of(dashboard: Any) -> dict[str, Any]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def targets_of(dashboard: Any) -> Iterator[tuple[str, str]]:
    """Each query, and the panel that it is of."""
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


# Generated


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_json_is_current(board: Board) -> None:
    assert file_of(board).read_text(encoding="utf-8") == build(board), "python -m grafana.dashboards"


def test_there_are_no_others() -> None:
    assert {file.name for file in FOLDER.glob("*.json")} == {file_of(board).name for board in BOARDS}


# The linter's rules: what is wrong with a dashboard, in a list


def template_datasource(dashboard: Any) -> list[str]:
    found = [(v["name"], v["label"], v["query"]) for v in dashboard["templating"]["list"] if v["type"] == "datasource"]
    return [] if found == [("datasource", "Data source", "prometheus")] else [str(found)]


def template_of(name: str) -> Callable[[Any], list[str]]:
    def rule(dashboard: Any) -> list[str]:
        wanted = {"type": "query", "label": name.title(), "multi": True, "includeAll": True, "allValue": ".+"}
        variable = variables_of(dashboard).get(name, {}) | {}
        wrong = [key for key, value in wanted.items() if variable.get(key) != value]
        return wrong + ([] if variable.get("datasource") == SOURCE else ["datasource"])

    return rule


def template_on_time_change_reload(dashboard: Any) -> list[str]:
    return [
        name
        for name, variable in variables_of(dashboard).items()
        if variable["type"] == "query" and variable["refresh"] != 2
    ]


def panel_datasource(dashboard: Any) -> list[str]:
    asked = [
        (panel["title"], one["datasource"]) for panel in panels_of(dashboard) for one in (panel, *panel["targets"])
    ]
    return [title for title, source in asked if source != SOURCE]


def panel_title_description(dashboard: Any) -> list[str]:
    return [
        str(panel["id"])
        for panel in panels_of(dashboard)
        if not panel.get("title") or len(panel.get("description", "")) < 20
    ]


UNITS = {"none", "short", "percentunit", "s", "bytes", "Bps", "reqps", "cps"}


def panel_units(dashboard: Any) -> list[str]:
    return [
        panel["title"] for panel in panels_of(dashboard) if panel["fieldConfig"]["defaults"].get("unit") not in UNITS
    ]


def panel_no_targets(dashboard: Any) -> list[str]:
    asked = [(panel["title"], [target["expr"] for target in panel["targets"]]) for panel in panels_of(dashboard)]
    return [title for title, expressions in asked if not expressions or not all(expressions)]


SELECTOR = re.compile(r"\b((?:sockproxy|process)_\w+)(\{[^}]*\})?(\[[^\]]*\])?")
CALL = re.compile(r"(\w+)\($")


def selectors(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Of each selector: the metric, its matchers, its range, and the function that it stands in."""
    for found in SELECTOR.finditer(text):
        call = CALL.search(text[: found.start()])
        yield found[1], found[2] or "", found[3] or "", call[1] if call else ""


def target_matcher(label: str) -> Callable[[Any], list[str]]:
    def rule(dashboard: Any) -> list[str]:
        wanted = f'{label}=~"${label}"'
        return [title for title, text in targets_of(dashboard) if any(wanted not in s[1] for s in selectors(text))]

    return rule


def target_rate_interval(dashboard: Any) -> list[str]:
    found = [(title, one) for title, text in targets_of(dashboard) for one in selectors(text)]
    rates = [title for title, (_, _, over, call) in found if call in ("rate", "irate") and over != "[$__rate_interval]"]
    fixed = [title for title, (_, _, over, _) in found if over not in ("", "[$__rate_interval]", "[$__range]")]
    return rates + fixed


COUNTED = ("_total", "_bucket", "_count", "_sum")


def target_counter_agg(dashboard: Any) -> list[str]:
    return [
        title
        for title, text in targets_of(dashboard)
        if any(
            metric.endswith(COUNTED) != (call in ("rate", "irate", "increase"))
            for metric, _, _, call in selectors(text)
        )
    ]


def uneditable_dashboard(dashboard: Any) -> list[str]:
    return [] if dashboard["editable"] is False else ["editable"]


# And our own


def fixed_names(dashboard: Any) -> list[str]:
    wanted = re.fullmatch(r"sockproxy-[a-z]+", dashboard["uid"]) and dashboard["schemaVersion"] >= 36
    return (
        []
        if wanted and dashboard["tags"] == ["sockproxy"] and dashboard["links"] and "id" not in dashboard
        else ["names"]
    )


def all_variables(dashboard: Any) -> list[str]:
    return sorted({"datasource", "job", "instance", "policy", "operation"} ^ set(variables_of(dashboard)))


def known_metrics(dashboard: Any) -> list[str]:
    """Each metric is one of ours, and is asked for labels that it has."""
    labels = {family.name: {*family.labels, "job", "instance"} for family in FAMILIES}
    for family in FAMILIES:
        if family.kind is Kind.HISTOGRAM:
            labels |= {
                f"{family.name}_{part}": {*family.labels, "job", "instance", "le"}
                for part in ("bucket", "count", "sum")
            }
    unknown = []
    for title, text in targets_of(dashboard):
        for metric, matchers, _, _ in selectors(text):
            asked = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers))
            if not metric.startswith("process_") and not asked <= labels.get(metric, set()):
                unknown.append(f"{title}: {metric}{sorted(asked)}")
    return unknown


def narrowed_where_possible(dashboard: Any) -> list[str]:
    """What has a policy or an operation follows the variable, unless it names some itself."""
    labels = {family.name.removesuffix("_total"): family.labels for family in FAMILIES}
    return [
        f"{title}: {label}"
        for title, text in targets_of(dashboard)
        for metric, matchers, _, _ in selectors(text)
        for label in ("policy", "operation")
        if label in labels.get(re.sub(r"_(total|bucket|count|sum)$", "", metric), ())
        and f"{label}=" not in matchers
        and f"{label}!" not in matchers
        and "sockproxy_requests_total" not in text  # over which events are counted, of all policies
    ]


def ids_once(dashboard: Any) -> list[str]:
    ids = [panel["id"] for panel in dashboard["panels"]]
    titles = [panel["title"] for panel in panels_of(dashboard)]
    return [] if len(set(ids)) == len(ids) and len(set(titles)) == len(titles) else ["twice"]


def no_panel_over_another(dashboard: Any) -> list[str]:
    places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
    too_wide = [title for title, at in places if at["x"] + at["w"] > 24]
    return too_wide + [f"{one} and {other}" for (one, a), (other, b) in combinations(places, 2) if overlap(a, b)]


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return (
        a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    )


RULES: dict[str, Callable[[Any], list[str]]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_of("job"),
    "template-instance-rule": template_of("instance"),
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_matcher("job"),
    "target-instance-rule": target_matcher("instance"),
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable_dashboard,
    "fixed-names": fixed_names,
    "all-variables": all_variables,
    "known-metrics": known_metrics,
    "narrowed-where-possible": narrowed_where_possible,
    "ids-once": ids_once,
    "no-panel-over-another": no_panel_over_another,
}
"""Without template-label-promql-rule and target-promql-rule: a real Prometheus reads all of them (test_observability.py)."""


@pytest.mark.parametrize("rule", RULES)
@EACH
def test_rules(dashboard: Any, rule: str) -> None:
    assert RULES[rule](dashboard) == []


def spoilt(change: Callable[[Any], object]) -> Any:
    dashboard = json.loads(json.dumps(DASHBOARDS["sockproxy-overview"]))
    change(dashboard)
    return dashboard


def first_target(dashboard: Any) -> Any:
    return panels_of(dashboard)[0]["targets"][0]


def ask(text: str) -> Callable[[Any], object]:
    return lambda dashboard: first_target(dashboard).update(expr=text)


HERE = 'job=~"$job",instance=~"$instance"'
SPOILT: dict[str, Callable[[Any], object]] = {
    "template-datasource-rule": lambda it: variables_of(it)["datasource"].update(name="prometheus"),
    "template-job-rule": lambda it: variables_of(it)["job"].update(allValue=".*"),
    "template-instance-rule": lambda it: it["templating"]["list"].remove(variables_of(it)["instance"]),
    "template-on-time-change-reload-rule": lambda it: variables_of(it)["policy"].update(refresh=1),
    "panel-datasource-rule": lambda it: first_target(it).update(datasource={"type": "prometheus", "uid": "mine"}),
    "panel-title-description-rule": lambda it: panels_of(it)[0].update(description=""),
    "panel-units-rule": lambda it: panels_of(it)[0]["fieldConfig"]["defaults"].pop("unit"),
    "panel-no-targets-rule": lambda it: panels_of(it)[0]["targets"].clear(),
    "target-rate-interval-rule": ask(f"rate(process_cpu_seconds_total{{{HERE}}}[5m])"),
    "target-job-rule": ask('sockproxy_engine_up{instance=~"$instance"}'),
    "target-instance-rule": ask('sockproxy_engine_up{job=~"$job"}'),
    "target-counter-agg-rule": ask(f"sum(process_cpu_seconds_total{{{HERE}}})"),
    "uneditable-dashboard": lambda it: it.update(editable=True),
    "fixed-names": lambda it: it.update(uid="x"),
    "all-variables": lambda it: it["templating"]["list"].pop(),
    "known-metrics": ask(f'sockproxy_engine_up{{{HERE},policy="x"}}'),
    "narrowed-where-possible": ask(f"sockproxy_policy_operations{{{HERE}}}"),
    "ids-once": lambda it: panels_of(it)[0].update(id=panels_of(it)[1]["id"]),
    "no-panel-over-another": lambda it: panels_of(it)[0]["gridPos"].update(w=24),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_would_find_something(rule: str) -> None:
    assert RULES[rule](spoilt(SPOILT[rule])) != []


# What is shown


def test_every_metric_is_on_a_dashboard() -> None:
    asked = {
        metric
        for dashboard in DASHBOARDS.values()
        for _, text in targets_of(dashboard)
        for metric, *_ in selectors(text)
    }
    shown = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in asked}
    assert {family.name for family in FAMILIES} <= shown


def test_the_operations_of_kubernetes_are_those_of_the_policy() -> None:
    assert set(NAMES) == load_policy("kubernetes-1.4", CATALOGUE).can_allow
    assert len(NAMES) == 22


def test_they_have_the_names_of_the_kubelet() -> None:
    (series,) = (panel for panel in panels_of(DASHBOARDS["sockproxy-kubernetes"]) if panel["title"] == "Operations")
    (table,) = (panel for panel in panels_of(DASHBOARDS["sockproxy-kubernetes"]) if panel["title"] == "All operations")
    named = {operation: name for operation, name in NAMES.items() if name}
    overrides = series["fieldConfig"]["overrides"]
    assert {one["matcher"]["options"]: one["properties"][0]["value"] for one in overrides} == named
    (column,) = table["fieldConfig"]["overrides"]
    assert {key: word["text"] for key, word in column["properties"][0]["value"][0]["options"].items()} == named
