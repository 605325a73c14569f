"""The metrics of several processes as one.

Owns which are summed and which are not. Must not know how the processes are asked. Begin at `Sum`.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Exemplar

ToldExemplar = tuple[dict[str, str], float, float]
"""Labels, value, and when (seconds since the epoch)."""

ToldSample = tuple[str, dict[str, str], float, ToldExemplar | None]
"""Name, labels, value, exemplar."""

Told = tuple[str, str, str, str, list[ToldSample]]
"""One metric: name, help text, type, unit, samples; it can be said as JSON."""

MERGE: dict[str, Callable[[float, float], float]] = {
    "sockproxy_engine_up": min,
    "sockproxy_engine_reachable": min,
    "sockproxy_limit_used_ratio": max,
    "sockproxy_policy_operations": max,
    "sockproxy_policy": max,
    "sockproxy_config_last_reload_successful": min,
    "sockproxy_config_last_reload_success_timestamp_seconds": min,
    "sockproxy_tls_certificate_not_after_seconds": min,
    "sockproxy_build": max,
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
            metric.unit,
            [(one.name, one.labels, float(one.value), _tell_exemplar(one.exemplar)) for one in metric.samples],
        )
        for metric in registry.collect()
    ]


def _tell_exemplar(exemplar: Exemplar | None) -> ToldExemplar | None:
    return None if exemplar is None else (exemplar.labels, exemplar.value, float(exemplar.timestamp or 0.0))


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
        merged: dict[str, tuple[Metric, list[ToldSample]]] = {}
        for name, documentation, kind, unit, samples in self._ask():
            whole = Metric(name, documentation, kind, unit)
            merged.setdefault(name, (whole, []))[1].extend(samples)
        for metric, samples in merged.values():
            _add_merged(metric, samples)
            yield metric


def _add_merged(metric: Metric, samples: Iterable[ToldSample]) -> None:
    combine = MERGE.get(metric.name, float.__add__)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    latest: dict[tuple[str, tuple[tuple[str, str], ...]], ToldExemplar] = {}
    for name, labels, value, exemplar in samples:
        key = (name, tuple(labels.items()))
        values[key] = combine(values[key], value) if key in values else value
        if exemplar is not None and (key not in latest or latest[key][2] < exemplar[2]):
            latest[key] = exemplar
    for key, value in values.items():
        found = latest.get(key)
        metric.add_sample(key[0], dict(key[1]), value, exemplar=None if found is None else Exemplar(*found))
