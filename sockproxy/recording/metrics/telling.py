"""From the numbers to what prometheus_client exposes.

Owns names of samples, bounds of buckets, and where exemplars stand. Must not know how anything was counted (`counting`).
Begin at `to_metric`.
"""

from collections.abc import Mapping
from itertools import accumulate

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from sockproxy.recording.metrics.exemplars import REQUEST_ID, Exemplars, Remembered
from sockproxy.recording.metrics.families import Family, Kind, Labels

Row = list[float]
"""A histogram: how many fell into each bucket (not cumulative), those above all, and the sum of their values."""

Samples = Mapping[Labels, float | Row]


def to_metric(family: Family, samples: Samples, exemplars: Exemplars) -> Metric:
    """A family with its samples."""
    metric = Metric(base_name(family), family.help, family.kind, unit_of(family))
    for values, value in samples.items():
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, list):
            _add_histogram(metric, family, values, value, exemplars)
        elif family.kind is Kind.COUNTER:
            metric.add_sample(family.name, labels, value, exemplar=_exemplar(exemplars.of(family.name, values)))
        else:
            metric.add_sample(family.name, labels, value)
    return metric


def base_name(family: Family) -> str:
    """The family's name as OpenMetrics has it: without what the samples of its type have behind it."""
    return family.name.removesuffix(SUFFIXES.get(family.kind, ""))


SUFFIXES = {Kind.COUNTER: "_total", Kind.INFO: "_info"}

UNITS = ("seconds", "bytes", "ratio")


def unit_of(family: Family) -> str:
    """The base unit that a family's name says, or ""."""
    word = base_name(family).rpartition("_")[2]
    return word if word in UNITS else ""


def _add_histogram(metric: Metric, family: Family, values: Labels, row: Row, exemplars: Exemplars) -> None:
    *counts, seconds = row
    labels = dict(zip(family.labels, values, strict=True))
    bounds = (*map(str, family.buckets), "+Inf")
    for place, (bound, count) in enumerate(zip(bounds, accumulate(counts), strict=True)):
        exemplar = _exemplar(exemplars.of(family.name, values, place))
        metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count, exemplar=exemplar)
    metric.add_sample(f"{family.name}_count", labels, sum(counts))
    metric.add_sample(f"{family.name}_sum", labels, seconds)


def _exemplar(found: Remembered | None) -> Exemplar | None:
    if found is None:
        return None
    request_id, value, time = found
    return Exemplar({REQUEST_ID: request_id}, value, time)
