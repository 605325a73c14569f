"""From the numbers of all rounds to what people and programs read: medians, ratios, a table, a JSON document.

A ratio is taken within a round, proxy to baseline, and the median is taken of the ratios: what the machine did in
that round has met both. Must not know how the numbers came about. Begin at `markdown`.
"""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.contest import Results
from benchmarks.proxies import BASELINE, PROXIES, version
from benchmarks.scenarios import SCENARIOS, Effort, Measure

_ABSENT = "-"
_STEADY_MAX = 1.5  # the dearest round to the cheapest; more is noise, or a proxy that changed its ways meanwhile
_RESIDUE_MIN = 1000  # descriptors, last round to first; enough to change how HAProxy treats its pool


def markdown(results: Results, names: Sequence[str], effort: Effort) -> str:
    """The table: a row for each measure, a column for each proxy, the ratio to the baseline behind each value."""
    baseline = BASELINE if BASELINE in names else names[0]
    titles = [PROXIES[name].title for name in names]
    rows = [["what", "unit", *titles, "wanted"], ["---", "---", *("---:" for _ in names), "---:"]]
    for scenario, by_proxy in results.items():
        for measure in SCENARIOS[scenario].measures:
            cells = [_cell(by_proxy, name, baseline, measure) for name in names]
            rows.append([measure.title, measure.unit, *cells, _wanted(measure)])
    return _caption(names, baseline, effort) + "\n" + _aligned(rows) + _doubts(results)


def _caption(names: Sequence[str], baseline: str, effort: Effort) -> str:
    """What was compared, where and how; a paragraph of markdown."""
    where = machine()
    parts = [
        ", ".join(f"{PROXIES[name].title} {version(name)}" for name in names),
        f"{where['processors']} x {where['processor']}, Linux {where['kernel']}, Python {where['python']}",
        f"medians of {effort.rounds} rounds, in parentheses the median of the ratios to {PROXIES[baseline].title}",
        f"transfers of {effort.transfer_bytes >> 20} MiB; {effort.idle_streams[0]:,} idle streams beside a download, "
        f"{effort.idle_streams[-1]:,} for memory",
    ]
    return ".\n".join(parts) + ".\n"


def _doubts(results: Results) -> str:
    """What a median hides: costs that varied much between the rounds (in their order), and proxies that kept residue."""
    lines = []
    for scenario, by_proxy in results.items():
        for name, rounds in by_proxy.items():
            cpu = [numbers["cpu"] for numbers in rounds if "cpu" in numbers]
            if cpu and max(cpu) > _STEADY_MAX * min(cpu):
                lines.append(f"- unsteady: {scenario}, {name}: {', '.join(map(_number, cpu))}")
            if rounds and rounds[-1]["descriptors"] - rounds[0]["descriptors"] > _RESIDUE_MIN:
                grown = f"{rounds[0]['descriptors']:.0f} to {rounds[-1]['descriptors']:.0f}"
                lines.append(f"- residue: before {scenario}, {name} held {grown} descriptors: do not use its figures")
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _cell(by_proxy: Mapping[str, Sequence[Mapping[str, float]]], name: str, baseline: str, measure: Measure) -> str:
    values = [numbers[measure.key] for numbers in by_proxy[name]]
    if not values:
        return _ABSENT
    base = [numbers[measure.key] for numbers in by_proxy[baseline]]
    shown = _number(median(values))
    if measure.is_absolute or not base:
        return shown
    ratio = median(value / other for value, other in zip(values, base, strict=True))
    return f"{shown} ({ratio:.2f})"


def _number(value: float) -> str:
    """Three digits that count, as a person would write them."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _wanted(measure: Measure) -> str:
    if measure.wanted is None:
        return ""
    return f"at most {measure.wanted:g}" if measure.is_absolute else f"at most ({measure.wanted:g})"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a markdown table whose columns stand under each other in plain text, too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = rows[1]
    lines = []
    for row in rows:
        fitted = []
        for cell, width, kind in zip(row, widths, rule, strict=True):
            if row is rule:
                fitted.append("-" * (width - 1) + cell[-1])
            else:
                fitted.append(cell.rjust(width) if kind.endswith(":") else cell.ljust(width))
        lines.append("| " + " | ".join(fitted) + " |")
    return "\n".join(lines) + "\n"


def document(results: Results, names: Sequence[str], effort: Effort) -> dict[str, object]:
    """All that was measured, with what it was measured on."""
    return {
        "machine": machine(),
        "versions": {name: version(name) for name in names},
        "effort": {name: getattr(effort, name) for name in Effort.__slots__},
        "medians": {
            scenario: {name: _medians(rounds) for name, rounds in by_proxy.items() if rounds}
            for scenario, by_proxy in results.items()
        },
        "rounds": results,
    }


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: median(numbers[key] for numbers in rounds) for key in rounds[0]}


def machine() -> dict[str, object]:
    """What the ratios, too, may depend on."""
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": found[1] if found else platform.machine(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
