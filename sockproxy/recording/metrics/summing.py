"""The metrics of several processes as one.

Owns which are summed and which are not. Must not know how the processes are asked. Begin at `Sum`.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric, Sample

Told = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""One metric: name, help text, type, samples (name, labels, value); it can be said as JSON."""

MERGE: dict[str, Callable[[float, float], float]] = {
    "sockproxy_engine_up": min,
    "sockproxy_config_last_reload_successful": min,
    "sockproxy_config_last_reload_success_timestamp_seconds": min,
    "sockproxy_tls_certificate_not_after_seconds": min,
    "sockproxy_build_info": max,
    "process_start_time_seconds": min,
    "process_max_fds": max,
}
"""Metric -> how the values of two workers become one; all others are summed."""


def tell(registry: CollectorRegistry) -> list[Told]:
    """All that a registry holds, for `Sum` in another process."""
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            [(one.name, one.labels, float(one.value)) for one in metric.samples],
        )
        for metric in registry.collect()
    ]


class Sum:
    """A collector: what all processes tell, as one."""

    def __init__(self, ask: Callable[[], Iterable[Told]], registry: CollectorRegistry) -> None:
        """`ask` is called at each scrape, and may raise OSError."""
        self._ask = ask
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: what there is, only the processes know."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families, merged."""
        merged: dict[str, Metric] = {}
        for name, documentation, kind, samples in self._ask():
            merged.setdefault(name, Metric(name, documentation, kind)).samples.extend(Sample(*one) for one in samples)
        for metric in merged.values():
            metric.samples = _merge(metric)
            yield metric


def _merge(metric: Metric) -> list[Sample]:
    combine = MERGE.get(metric.name, float.__add__)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in metric.samples:
        key = (sample.name, tuple(sample.labels.items()))
        values[key] = combine(values[key], float(sample.value)) if key in values else float(sample.value)
    whole = Metric(metric.name, metric.documentation, metric.type)
    for (name, labels), value in values.items():
        whole.add_sample(name, dict(labels), value)
    return whole.samples
