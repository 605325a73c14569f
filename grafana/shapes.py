"""Dashboards as values. Must not know Grafana's JSON (`building`). Begin at `Board`.

In expressions a word behind `%` stands for what every query needs, the matchers of the dashboard's variables above all:

    %here        the job and instance
    %policy      the policy
    %operation   the operation
    %rate        over how long a rate is taken: Grafana's own, which always has enough samples
"""

from typing import Literal, NamedTuple

WORDS = {
    "%here": 'job=~"$job",instance=~"$instance"',
    "%policy": 'policy=~"$policy"',
    "%operation": 'operation=~"$operation"',
    "%rate": "$__rate_interval",
}

Kind = Literal["timeseries", "stat", "table", "heatmap"]

WIDTH = 24  # of a dashboard, in Grafana's columns


class Query(NamedTuple):
    """What is asked, and how a series is called. In a table `legend` is the heading of its numbers."""

    text: str
    legend: str = ""
    has_exemplars: bool = False

    @property
    def expression(self) -> str:
        """With what these words stand for."""
        text = self.text
        for word, meaning in WORDS.items():
            text = text.replace(word, meaning)
        return text


class Panel(NamedTuple):
    """One picture."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    is_stacked: bool = False
    min: float | None = 0
    max: float | None = None
    words: tuple[tuple[int, str, str], ...] = ()
    """Value, what it is called, and its colour: for states."""
    limits: tuple[tuple[float, str], ...] = ()
    """From which value on which colour: what is no longer well."""
    hidden: tuple[str, ...] = ()
    """Columns of a table that say nothing."""


class Row(NamedTuple):
    """Panels under a heading, from left to right and from top to bottom."""

    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    operations: tuple[str, ...] = ()
    """Those that it is about; none: all."""
    names: tuple[tuple[str, str], ...] = ()
    """operationId -> what it is called here."""

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them."""
        return tuple(panel for row in self.rows for panel in row.panels)


UP_OR_DOWN = ((0, "down", "red"), (1, "up", "green"))
YES_OR_NO = ((0, "no", "red"), (1, "yes", "green"))
