"""The numbers of the page: what the metrics say of the time between two readings, and the policies side by side.

Owns which metrics are read, and how two readings become rates. Must not know whose metrics they are (one process's, or the
sum of several), nor who looks. Begin at `read` and `between`; the matrix is that of `sockproxy matrix`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from sockproxy.judging import comparison
from sockproxy.judging.catalogue import ApiVersion, Catalogue
from sockproxy.judging.policy import Effect
from sockproxy.operating.admin.showing import Told, shown
from sockproxy.operating.config import ListenerConfig
from sockproxy.recording import metrics

_QUANTILES = (("p50_ms", 0.5), ("p99_ms", 0.99))
_LEAST_FAILURE = 500  # the first status that says that something has failed


@dataclass(slots=True)
class Counted:
    """What was counted of an operation. `within`: upper bound in seconds -> requests that took no longer."""

    total: float = 0.0
    denied: float = 0.0
    failed: float = 0.0
    seconds: float = 0.0
    within: dict[float, float] = field(default_factory=dict)


@dataclass(slots=True)
class Reading:
    """What the metrics said at a time, in seconds of any clock."""

    at: float
    operations: defaultdict[str, Counted] = field(default_factory=lambda: defaultdict(Counted))
    gauges: dict[str, float] = field(default_factory=dict)
    in_flight: dict[str, float] = field(default_factory=dict)
    connections: dict[str, float] = field(default_factory=dict)
    audit: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))


_GAUGES = {
    "sockproxy_engine_up": "engine_up",
    "sockproxy_config_last_reload_successful": "reload_successful",
    "sockproxy_audit_rejected_requests_total": "audit_rejected",
    "process_cpu_seconds_total": "cpu_seconds",
    "process_resident_memory_bytes": "memory_bytes",
    "process_start_time_seconds": "start_time",
}


def read(families: Iterable[metrics.Told], at: float) -> Reading:
    """One reading of all metrics, as `recording.metrics.tell` tells them."""
    reading = Reading(at)
    for *_, samples in families:
        for name, labels, value, _ in samples:
            _take(reading, name, labels, value)
    return reading


def _take(reading: Reading, name: str, labels: Mapping[str, str], value: float) -> None:
    if name in _GAUGES:
        reading.gauges[_GAUGES[name]] = value
    elif name in _TAKERS:
        _TAKERS[name](reading, labels, value)


def _requests(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    counted = reading.operations[labels["operation"]]
    counted.total += value
    counted.failed += value * (labels["code"] == "none" or int(labels["code"]) >= _LEAST_FAILURE)


def _decisions(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    reading.operations[labels["operation"]].denied += value * (labels["effect"] == Effect.DENY)


def _bucket(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    reading.operations[labels["operation"]].within[float(labels["le"])] = value


def _sum(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    reading.operations[labels["operation"]].seconds = value


def _in_flight(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    reading.in_flight[labels["kind"]] = value


def _connections(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    reading.connections[labels["state"]] = value


def _audit(reading: Reading, labels: Mapping[str, str], value: float) -> None:
    reading.audit[labels["sink"]][labels["result"]] = value


_TAKERS = {
    "sockproxy_requests_total": _requests,
    "sockproxy_decisions_total": _decisions,
    "sockproxy_request_duration_seconds_bucket": _bucket,
    "sockproxy_request_duration_seconds_sum": _sum,
    "sockproxy_exchanges_in_flight": _in_flight,
    "sockproxy_engine_connections": _connections,
    "sockproxy_audit_events_total": _audit,
}


def between(before: Reading, after: Reading) -> Told:
    """Rates a second, latencies in milliseconds, and what is now. A quantile is the bound that so many requests kept to; None:
    none did."""
    seconds = max(after.at - before.at, 1e-3)
    operations = [
        {"operation": shown(name), **_rates(before.operations[name], counted, seconds)}
        for name, counted in sorted(after.operations.items())
        if counted.total or counted.denied
    ]
    whole = _rates(_together(before), _together(after), seconds)
    gauges = after.gauges
    cpu_seconds = gauges.get("cpu_seconds", 0.0) - before.gauges.get("cpu_seconds", 0.0)
    return {
        "whole": whole,
        "operations": operations,
        "in_flight": after.in_flight,
        "connections": after.connections,
        "engine_up": gauges.get("engine_up"),
        "reload_successful": gauges.get("reload_successful"),
        "audit_rejected": gauges.get("audit_rejected"),
        "cpu_percent": round(100 * max(cpu_seconds, 0.0) / seconds, 1),
        "memory_bytes": gauges.get("memory_bytes"),
        "start_time": gauges.get("start_time"),
        "audit": {shown(sink): results for sink, results in sorted(after.audit.items())},
    }


def _rates(before: Counted, after: Counted, seconds: float) -> Told:
    within = {bound: count - before.within.get(bound, 0.0) for bound, count in after.within.items()}
    timed = within.get(inf, 0.0)
    took = after.seconds - before.seconds
    return {
        "total": int(after.total),
        "denied_total": int(after.denied),
        "rate": round((after.total - before.total) / seconds, 1),
        "denied": round((after.denied - before.denied) / seconds, 1),
        "failed": round((after.failed - before.failed) / seconds, 1),
        "mean_ms": round(1000 * took / timed, 3) if timed else None,
        **{name: _quantile(within, timed, share) for name, share in _QUANTILES},
    }


def _quantile(within: Mapping[float, float], timed: float, share: float) -> float | None:
    if not timed:
        return None
    bound = next((bound for bound, count in sorted(within.items()) if count >= share * timed), inf)
    return None if bound == inf else 1000 * bound


def _together(reading: Reading) -> Counted:
    whole = Counted()
    for counted in reading.operations.values():
        whole.total += counted.total
        whole.denied += counted.denied
        whole.failed += counted.failed
        whole.seconds += counted.seconds
        for bound, count in counted.within.items():
            whole.within[bound] = whole.within.get(bound, 0.0) + count
    return whole


def matrix(listeners: Iterable[ListenerConfig], catalogue: Catalogue, version: ApiVersion) -> Told:
    """Operations of an API version by the policies that clients meet: what their rules say, as `sockproxy matrix` tells it."""
    listeners = tuple(listeners)
    policies = {client.policy.name: client.policy for one in listeners for client in one.clients}
    columns = [comparison.effects(policy, catalogue, version) for policy in policies.values()]
    operations = [one for one in catalogue.operations.values() if one.in_version(version)]
    return {
        "api_version": str(version),
        "policies": [
            {
                "name": shown(name),
                "revision": policy.revision,
                "mode": policy.mode,
                "listeners": [shown(one.name) for one in listeners if name in one.policy_names],
            }
            for name, policy in policies.items()
        ],
        "operations": [
            {
                **{fact: getattr(one, fact) for fact in ("method", "path", "tag", "access")},
                "operation": one.operation_id,
                "effects": [column[one.operation_id] for column in columns],
            }
            for one in operations
        ],
    }
