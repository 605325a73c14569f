"""From `shapes` to Grafana's JSON.

Owns what all dashboards have in common: the variables, one data source for everything, units, descriptions, ids, legends.
Must not know what is shown. Begin at `build`. The rules are those of grafana/dashboard-linter; tests/test_dashboards.py
holds the result to them.
"""

import json
from collections.abc import Callable
from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build_of
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_options
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.shapes import WORDS, Board, Panel, Query

TAG = "sockproxy"
REF_IDS = "ABCDE"  # of a panel's queries, in their order
REFRESH = "30s"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL = model.VariableOption(selected=True, text="All", value="$__all")


def build(board: Board) -> str:
    """A dashboard's JSON, the same each time."""
    made = (
        build_of.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .refresh(REFRESH)
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(_variables(board))
        .links([_link_to_others()])
    )
    number = 0
    for row in board.rows:
        number += 1
        made = made.with_row(build_of.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made = made.with_panel(_panel(panel, board).id(number))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _link_to_others() -> build_of.DashboardLink:
    link = build_of.DashboardLink("sockproxy").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(False).include_vars(True).keep_time(True)


# --- variables


def _variables(board: Board) -> list[Any]:
    of_operations = f',operation=~"{"|".join(board.operations)}"' if board.operations else ""
    return [
        build_of.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _variable("job", "Job", "label_values(sockproxy_build_info, job)"),
        _variable("instance", "Instance", 'label_values(sockproxy_build_info{job=~"$job"}, instance)'),
        _variable("policy", "Policy", f"label_values(sockproxy_decisions_total{{{_HERE}}}, policy)"),
        _variable(
            "operation",
            "Operation",
            f"label_values(sockproxy_decisions_total{{{_HERE}{of_operations}}}, operation)",
            "|".join(board.operations) or ".+",
        ),
    ]


_HERE = WORDS["%here"]


def _variable(name: str, label: str, query: str, all_value: str = ".+") -> build_of.QueryVariable:
    return (
        build_of.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(all_value)
        .current(ALL)
    )


# --- panels


def _panel(panel: Panel, board: Board) -> Any:
    made = KINDS[panel.kind](panel)
    made = made.title(panel.title).description(panel.description).datasource(SOURCE).unit(panel.unit)
    made = made.span(panel.width).height(panel.height)
    if panel.min is not None:
        made = made.min(panel.min)
    if panel.max is not None:
        made = made.max(panel.max)
    if panel.words:
        made = made.mappings([_words(panel)])
    if panel.limits or panel.words:
        made = made.thresholds(_thresholds(panel))
    for place, query in enumerate(panel.queries):
        made = made.with_target(_target(panel, query, REF_IDS[place]))
    return _with_names(made, panel, board)


def _target(panel: Panel, query: Query, ref_id: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expression).ref_id(ref_id).datasource(SOURCE)
    made = made.legend_format(query.legend or "__auto")
    if panel.kind == "table":
        return made.instant().format(PromQueryFormat.TABLE)
    if panel.kind == "heatmap":
        made = made.format(PromQueryFormat.HEATMAP)
    return made.range().exemplar(query.has_exemplars)


def _timeseries(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.TABLE)
    legend = legend.placement(options.LegendPlacement.BOTTOM).show_legend(True).calcs(["mean", "max", "lastNotNull"])
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    made = timeseries.Panel().legend(legend).tooltip(tooltip).line_width(1)
    made = made.fill_opacity(40 if panel.is_stacked else 10).show_points(options.VisibilityMode.NEVER)
    if panel.is_stacked:
        made = made.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if panel.limits:
        made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    return made


def _stat(panel: Panel) -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    mode = options.BigValueColorMode.BACKGROUND if panel.words else options.BigValueColorMode.VALUE
    return stat.Panel().reduce_options(last).color_mode(mode).graph_mode(options.BigValueGraphMode.AREA)


def _table(panel: Panel) -> table.Panel:
    first = common.TableSortByFieldState().display_name(panel.queries[0].legend).desc(True)
    made = table.Panel().filterable(True).show_header(True).sort_by([first])
    if len(panel.queries) > 1:
        made = made.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        columns = {f"Value #{REF_IDS[place]}": query.legend for place, query in enumerate(panel.queries)}
    else:
        columns = {"Value": panel.queries[0].legend}
    organize = {
        "excludeByName": dict.fromkeys(("Time", *panel.hidden), True),
        "renameByName": columns,
        "indexByName": {},
    }
    return made.with_transformation(model.DataTransformerConfig(id_val="organize", options=organize))


def _heatmap(panel: Panel) -> heatmap.Panel:
    axis = heatmap.YAxisConfig().unit(panel.unit).axis_placement(options.AxisPlacement.LEFT)
    colours = heatmap.HeatmapColorOptions().scheme("Blues").steps(64).mode(heatmap_options.HeatmapColorMode.SCHEME)
    return heatmap.Panel().calculate(False).y_axis(axis).color(colours)


KINDS: dict[str, Callable[[Panel], Any]] = {
    "timeseries": _timeseries,
    "stat": _stat,
    "table": _table,
    "heatmap": _heatmap,
}


# --- words, colours, names


def _words(panel: Panel) -> model.ValueMap:
    return model.ValueMap(
        options={
            str(value): model.ValueMappingResult(text=word, color=colour, index=place)
            for place, (value, word, colour) in enumerate(panel.words)
        }
    )


def _thresholds(panel: Panel) -> build_of.ThresholdsConfig:
    steps = [model.Threshold(value=None, color="green")]
    steps += [model.Threshold(value=float(value), color=colour) for value, colour in panel.limits]
    return build_of.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _with_names(made: Any, panel: Panel, board: Board) -> Any:
    """Operations under the names that the board has for them: as series, and in a table's column."""
    if panel.kind == "table":
        words = {
            operation: model.ValueMappingResult(text=name, index=place)
            for place, (operation, name) in enumerate(board.names)
        }
        if words:
            mapped = model.DynamicConfigValue(id_val="mappings", value=[model.ValueMap(options=words)])
            made = made.override_by_name("operation", [mapped])
        return made
    if any(query.legend == "{{operation}}" for query in panel.queries):
        for operation, name in board.names:
            made = made.override_by_name(operation, [model.DynamicConfigValue(id_val="displayName", value=name)])
    return made
