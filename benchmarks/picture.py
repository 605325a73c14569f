"""The picture of the README, docs/cost.svg, of the numbers that `growth` measured.

Owns how it looks. Must not know how the numbers came about. Begin at `draw`. The same numbers give the same bytes, with the
versions of constraints.txt: no date, no random names. Text stays text; it has a background of its own, which like all
colours follows the reader's choice of dark or light. To draw anew without measuring: `python -m benchmarks --redraw`.

Needs matplotlib, which is imported where it draws only: measuring goes without.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.growth import PANELS
from benchmarks.proxies import Missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which people who see fewer colours can tell apart; light and dark, told apart by contrast.
_INK, _MUTED, _PAPER, _RULE = "#1f2328", "#59636e", "#ffffff", "#d8dee4"
_COLOURS = {"sockproxy": "#0072b2", "haproxy": "#b34a00"}
_IN_THE_DARK = {
    _INK: "#e6edf3",
    _MUTED: "#9198a1",
    _PAPER: "#0d1117",
    _RULE: "#2d333b",
    "#0072b2": "#56b4e9",
    "#b34a00": "#e69f00",
}
_LABELS = {
    "sockproxy": "sockproxy",
    "sockproxy seen before": "sockproxy",
    "sockproxy never seen": "sockproxy,\nhead not\nseen before",
    "sockproxy length": "sockproxy",
    "haproxy": "HAProxy",
    "haproxy length": "HAProxy",
}
"""Curve -> what is written beside it."""
_WHAT = {
    "rules": "CPU of a small GET",
    "connections": "CPU of a small GET",
    "bytes": "CPU of a download; dashed: chunked",
}
"""Panel -> what its height is."""
_DASHED = ("never seen", "chunked")  # how a proxy's second curve is drawn
_SIZE_INCHES = (10.0, 3.5)
_FONT_POINTS = 9
_MEASURED = "DejaVu Sans"  # comes with matplotlib: places are the same whatever fonts this machine has
_SHOWN = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"  # narrower, so it fits
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sockproxy",
    "font.family": _MEASURED,
    "font.size": _FONT_POINTS,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _RULE,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_LABEL_GAP = 0.075  # between the middles of two labels, in heights of a panel


def check_installed() -> None:
    """Raises Missing, with what to do, where it cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise Missing("not installed: matplotlib; pip install -c constraints.txt -e '.[bench]'")


def draw(numbers: Mapping[str, Any]) -> str:
    """The picture as SVG. Raises ImportError without matplotlib."""
    # Imported here: it takes half a second, and whoever measures or asks for help has no need of it.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE_INCHES, facecolor=_PAPER)
        FigureCanvasSVG(figure)
        places = figure.subplots(1, len(PANELS))
        figure.subplots_adjust(left=0.06, right=0.925, top=0.83, bottom=0.16, wspace=0.58)
        for place, key in zip(places, PANELS, strict=True):
            _draw_panel(place, key, numbers["panels"][key])
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata=_NO_METADATA)
    return _finished(drawn.getvalue(), digest(numbers))


def digest(numbers: Mapping[str, Any]) -> str:
    """What of the numbers is kept in the picture, so that it shows which ones it was drawn of."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def _draw_panel(place: "Axes", key: str, curves: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    panel = PANELS[key]
    ends = []
    for name, points in curves.items():
        steps, medians = [point[0] for point in points], [point[1] for point in points]
        colour = _COLOURS[name.partition(" ")[0]]
        place.plot(steps, medians, "--o" if name.endswith(_DASHED) else "-o", color=colour)
        if name in _LABELS:
            ends.append((medians[-1], _LABELS[name], colour))
    place.set_xscale("log", base=2 if key == "bytes" else 10)
    place.set_yscale("log")
    place.set_title(panel.title, loc="left", fontweight="bold", pad=18)
    place.text(0, 1.04, _WHAT[key], transform=place.transAxes, color=_MUTED)
    place.set_xlabel(panel.unit, loc="left")
    most = max(point[0] for points in curves.values() for point in points)
    place.set_xticks([step for step in _TICKS[key] if step <= most * 1.1])
    place.xaxis.set_major_formatter(lambda value, _: _size(value) if key == "bytes" else f"{value:,.0f}")
    place.yaxis.set_major_formatter(lambda value, _: _time(value))
    place.minorticks_off()
    place.tick_params(length=0)
    place.tick_params(axis="x", pad=6)
    _set_bounds(place, curves)
    _write_labels(place, ends)


_TICKS = {
    "rules": PANELS["rules"].steps,
    "connections": PANELS["connections"].steps,
    "bytes": tuple(1 << shift for shift in (10, 16, 22, 28)),
}
"""Where an axis has its numbers."""


def _set_bounds(place: "Axes", curves: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """Whole powers of ten, and at least three of them: what differs by a tenth must not look like a mountain."""
    values = [point[1] for points in curves.values() for point in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    place.set_ylim(10.0**low, 10.0 ** max(high, low + 3))


def _write_labels(place: "Axes", ends: Sequence[tuple[float, str, str]]) -> None:
    """Each at the end of its curve, moved apart where two would lie on one another."""
    low, high = (math.log10(bound) for bound in place.get_ylim())
    below = -math.inf
    for value, label, colour in sorted(ends):
        height = max((math.log10(value) - low) / (high - low), below + _LABEL_GAP)
        place.text(1.03, height, label, transform=place.transAxes, color=colour, va="center")
        below = height


def _time(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:g} {unit}"
    return f"{microseconds:g} µs"


def _size(count: float) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count:g} B"


def _finished(drawn: str, numbers_digest: str) -> str:
    """Without what readers of SVG have no need of, with the colours of the dark."""
    drawn = drawn.replace(f"'{_MEASURED}'", _SHOWN)
    drawn = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in _IN_THE_DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    first, rest = drawn.strip().split(">", 1)
    lines = f"{first}>\n<!-- of the numbers {numbers_digest} -->\n{style}{rest}".splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"
