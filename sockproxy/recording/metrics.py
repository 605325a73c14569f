"""Every metric of sockproxy, declared once, on an injected registry.

Owns names, labels, help texts and buckets (`FAMILIES`), and the numbers behind them. Must not know sockets, files or
where it is scraped (`operating.admin`). Begin at `FAMILIES`, then `Metrics.completed`.

On the way of a request numbers go into plain dicts, label values -> number; they become metric families when they are
scraped (`collect`). The numbers of several processes could be summed table by table. Label values come from catalogue,
configuration and closed sets: what a client sends never makes a new one.

What the times mean, for an exchange with an engine's answer:

    received ──── decided ──── forwarded ──────────── answered ────────── completed
       ├───────── overhead ────────┤├──── engine ─────────┤├─ overhead, unary ──┤
       ├────────────────── request, streams and tunnels ──┤├─ stream ───────────┤
       ├────────────────── request, all others ─────────────────────────────────┤

`sockproxy_overhead_seconds` is what the proxy itself added. Behind the answer only unary operations can tell it:
elsewhere the time belongs to the engine's and the client's pace. A slow client's share of a unary answer is in it.
"""

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from sockproxy.errors import BadRequestReason, EngineErrorReason
from sockproxy.exchange import Exchange, Served
from sockproxy.judging.catalogue import Classified, Traffic
from sockproxy.judging.policy import Decision
from sockproxy.recording.audit import RESULTS

Labels = tuple[str, ...]
Row = list[float]
"""A histogram: how many fell into each bucket (not cumulative), those above all, and the sum of their values."""

Value = float | Row
Samples = Mapping[Labels, Value]


class Kind(StrEnum):
    """The type of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """One metric. `buckets` (upper bounds in seconds) are for histograms only."""

    name: str
    kind: Kind
    labels: Labels
    help: str
    buckets: tuple[float, ...] = ()


_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# From an inspect (a millisecond or two) to a stop, a pull or a commit (minutes).
_OVERHEAD_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
# Expected: 0.1 ms; a slow disk under the audit trail: tens of milliseconds.
_STREAM_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0, 604800.0)
# From an exec's second to the seven days of the idle limit.

FAMILIES = (
    Family(
        "sockproxy_requests_total",
        Kind.COUNTER,
        ("listener", "policy", "operation", "method", "code"),
        "Completed requests by the status that the client got; code none: no answer, policy none: not readable.",
    ),
    Family(
        "sockproxy_decisions_total",
        Kind.COUNTER,
        ("policy", "operation", "effect", "reason"),
        "Decisions by what happened and why. Under mode shadow the effect is allow and the reason tells what would be.",
    ),
    Family(
        "sockproxy_request_duration_seconds",
        Kind.HISTOGRAM,
        ("operation",),
        "From a request's head to its end; for streams and tunnels to the head of the answer.",
        _REQUEST_BUCKETS,
    ),
    Family(
        "sockproxy_engine_duration_seconds",
        Kind.HISTOGRAM,
        ("operation",),
        "From the head that went to the engine to the head of the engine's answer.",
        _REQUEST_BUCKETS,
    ),
    Family(
        "sockproxy_overhead_seconds",
        Kind.HISTOGRAM,
        (),
        "What the proxy added to forwarded requests: until the head went to the engine, and for unary operations "
        "from the engine's answer to the end.",
        _OVERHEAD_BUCKETS,
    ),
    Family(
        "sockproxy_exchanges_in_flight",
        Kind.GAUGE,
        ("kind",),
        "Exchanges that are decided and not completed: unary (uploads and downloads, too), stream, tunnel.",
    ),
    Family(
        "sockproxy_stream_duration_seconds",
        Kind.HISTOGRAM,
        ("operation",),
        "How long streams and tunnels lived, from the head of the answer to their end.",
        _STREAM_BUCKETS,
    ),
    Family(
        "sockproxy_bytes_total",
        Kind.COUNTER,
        ("operation", "direction"),
        "Bytes of bodies and tunnels of completed exchanges; direction in: from the client, out: to the client.",
    ),
    Family(
        "sockproxy_engine_up",
        Kind.GAUGE,
        (),
        "Whether the engine answered when it was last asked: 1 or 0.",
    ),
    Family(
        "sockproxy_engine_connections",
        Kind.GAUGE,
        ("state",),
        "Connections to the engine: idle ones are kept for the next request, busy ones carry an exchange.",
    ),
    Family(
        "sockproxy_engine_errors_total",
        Kind.COUNTER,
        ("reason",),
        "Exchanges that failed because the engine was away, too slow, or answered what cannot be read.",
    ),
    Family(
        "sockproxy_bad_requests_total",
        Kind.COUNTER,
        ("reason",),
        "Requests that could not be read, or exceeded a limit, and were never judged.",
    ),
    Family(
        "sockproxy_limits_hit_total",
        Kind.COUNTER,
        ("limit",),
        "How often a limit ended or refused something; the label is the limit's key in the configuration.",
    ),
    Family(
        "sockproxy_audit_events_total",
        Kind.COUNTER,
        ("sink", "result"),
        "Audit events written and lost (never in the trail), and attempts to write that failed (offered again).",
    ),
    Family(
        "sockproxy_audit_rejected_requests_total",
        Kind.COUNTER,
        (),
        "Requests that were allowed and refused, because an audit sink did not take their record.",
    ),
    Family(
        "sockproxy_tls_certificate_not_after_seconds",
        Kind.GAUGE,
        ("listener",),
        "When a TLS listener's certificate ends, in seconds since the epoch.",
    ),
    Family(
        "sockproxy_config_last_reload_successful",
        Kind.GAUGE,
        (),
        "Whether the configuration was taken when it was last read: 1 or 0.",
    ),
    Family(
        "sockproxy_config_last_reload_success_timestamp_seconds",
        Kind.GAUGE,
        (),
        "When a configuration was last taken, in seconds since the epoch.",
    ),
    Family(
        "sockproxy_build_info",
        Kind.GAUGE,
        ("version", "python"),
        "Always 1; the labels tell what runs.",
    ),
)
"""All but `process_*`, which `prometheus_client.ProcessCollector` tells."""

IN_FLIGHT_KIND = MappingProxyType(
    {
        Traffic.UNARY: "unary",
        Traffic.DOWNLOAD: "unary",
        Traffic.UPLOAD: "unary",
        Traffic.STREAM: "stream",
        Traffic.HIJACK: "tunnel",
        Traffic.WEBSOCKET: "tunnel",
        Traffic.UPGRADE: "tunnel",
    }
)
"""How the bytes flow -> label `kind`; what is not `unary` may live for days."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
_OTHER_METHOD = "other"
_UNKNOWN_OPERATION = "unknown"
_NO_POLICY = "none"


class Account(NamedTuple):
    """Where exchanges of one kind are counted: label values, and rows of the tables."""

    request: tuple[str, str, str, str]
    decision: Labels
    statuses: dict[int, int]
    request_seconds: Row
    engine_seconds: Row
    bytes: list[int]


class Metrics:
    """The observer that counts, and the collector that tells."""

    def __init__(
        self,
        registry: CollectorRegistry,
        version: str,
        *,
        limits: Iterable[str] = (),
        sinks: Iterable[str] = (),
        engine_connections: Callable[[], Mapping[str, int]] = dict,
        express_in_flight: Callable[[], int] = int,
        before_collect: Callable[[], None] = lambda: None,
    ) -> None:
        """Registers itself. `limits` and `sinks`: their names in the configuration, told from the start with 0;
        `engine_connections` is asked at each scrape: state (idle, busy) -> how many,
        and `express_in_flight`: how many exchanges are under way of which only `served` will tell.
        `before_collect` is called first at each scrape, for whoever has more to tell."""
        self._before_collect = before_collect
        self._express_in_flight = express_in_flight
        self._engine_connections = engine_connections
        self._requests: dict[tuple[str, str, str, str, int], int] = {}
        self._decisions: dict[Labels, int] = {}
        self._accounts: dict[tuple[tuple[str, str, str, str], Labels], Account] = {}
        self._request_seconds: dict[str, Row] = {}
        self._engine_seconds: dict[str, Row] = {}
        self._overhead_seconds = _new_row(_OVERHEAD_BUCKETS)
        self._stream_seconds: dict[str, Row] = {}
        self._bytes: dict[str, list[int]] = {}
        self._in_flight: dict[str, str] = {}  # exchange id -> kind
        self._engine_up = 0
        self._engine_errors: dict[str, int] = dict.fromkeys(EngineErrorReason, 0)
        self._bad_requests: dict[str, int] = dict.fromkeys(BadRequestReason, 0)
        self._limits_hit = dict.fromkeys(limits, 0)
        self._audit_events: dict[Labels, int] = {(sink, result): 0 for sink in sinks for result in RESULTS}
        self._audit_rejected = 0
        self._reload_successful = 0
        self._reload_success_time = 0.0
        self._build: Labels = (version, platform.python_version())
        registry.register(self)
        ProcessCollector(registry=registry)

    def decided(self, exchange: Exchange) -> None:
        """Counts the decision; from here on the exchange is in flight."""
        if exchange.decision is not None:
            self._count_decision(exchange.decision, exchange.classified)
            self._in_flight[exchange.id] = _kind(exchange.classified)

    def completed(self, exchange: Exchange) -> None:
        """Counts the outcome; and the decision, if it was not told of (a sink refused it, before it came here)."""
        operation, method = _operation_and_method(exchange.classified, exchange.method)
        status = exchange.status if 100 <= exchange.status <= 599 else 0
        policy = _NO_POLICY
        if exchange.decision is not None:
            policy = exchange.decision.policy
            if self._in_flight.pop(exchange.id, None) is None:
                self._count_decision(exchange.decision, exchange.classified)
        key = (exchange.listener, policy, operation, method, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._observe_times(exchange, operation)
        if exchange.bytes_in or exchange.bytes_out:
            row = self._bytes.get(operation) or self._bytes.setdefault(operation, [0, 0])
            row[0] += exchange.bytes_in
            row[1] += exchange.bytes_out
        if exchange.bad_request_reason is not None:
            self._bad_requests[exchange.bad_request_reason] += 1
        if exchange.engine_error_reason is not None:
            self._engine_errors[exchange.engine_error_reason] += 1

    def account(self, exchange: Exchange) -> "Account":
        """What `served` needs of exchanges like this one."""
        decision, classified = exchange.decision, exchange.classified
        if decision is None:
            raise ValueError("an account is made of a decided exchange")
        operation, method = _operation_and_method(classified, exchange.method)
        request = (exchange.listener, decision.policy, operation, method)
        decided = (decision.policy, operation, decision.effect, decision.reason)
        known = self._accounts.get((request, decided))
        if known is None:
            known = self._accounts[request, decided] = Account(
                request,
                decided,
                {},
                self._request_seconds.setdefault(operation, _new_row(_REQUEST_BUCKETS)),
                self._engine_seconds.setdefault(operation, _new_row(_REQUEST_BUCKETS)),
                self._bytes.setdefault(operation, [0, 0]),
            )
        return known

    def served(self, batch: Iterable[Served]) -> None:
        """Counts unary reads, decision and outcome of each at once. hot: what `decided` and `completed` do for one after the
        other, in a fourth of the time."""
        overhead = self._overhead_seconds
        for (_, account), _, _, received, forwarded, answered, completed, status, bytes_out in batch:
            account.statuses[status] = account.statuses.get(status, 0) + 1
            seconds, row = completed - received, account.request_seconds
            row[bisect_left(_REQUEST_BUCKETS, seconds)] += 1
            row[-1] += seconds
            seconds, row = answered - forwarded, account.engine_seconds
            row[bisect_left(_REQUEST_BUCKETS, seconds)] += 1
            row[-1] += seconds
            seconds = (forwarded - received) + (completed - answered)
            overhead[bisect_left(_OVERHEAD_BUCKETS, seconds)] += 1
            overhead[-1] += seconds
            account.bytes[1] += bytes_out

    def _fold(self) -> None:
        """Takes into the tables what `served` has counted apart, by the status."""
        for account in self._accounts.values():
            for status, count in account.statuses.items():
                key = (*account.request, status)
                self._requests[key] = self._requests.get(key, 0) + count
                self._decisions[account.decision] = self._decisions.get(account.decision, 0) + count
            account.statuses.clear()

    def engine_up(self, is_up: bool) -> None:
        """The engine answered, or did not."""
        self._engine_up = int(is_up)

    def limit_hit(self, limit: str) -> None:
        """A limit, by its name in the configuration, ended or refused something."""
        self._limits_hit[limit] = self._limits_hit.get(limit, 0) + 1

    def audit_events(self, sink: str, result: str, count: int) -> None:
        """What became of audit events; `audit.RESULTS`."""
        self._audit_events[sink, result] = self._audit_events.get((sink, result), 0) + count

    def audit_rejected(self) -> None:
        """A request was refused, because a sink did not take its record."""
        self._audit_rejected += 1

    def config_reload(self, *, success: bool, time: float) -> None:
        """A configuration was read at `time` (seconds since the epoch), and taken or not."""
        self._reload_successful = int(success)
        if success:
            self._reload_success_time = time

    def collect(self) -> Iterator[Metric]:
        """All families, with what was counted so far."""
        self._before_collect()
        self._fold()
        samples = self._samples()
        for family in FAMILIES:
            yield _collect(family, samples[family.name])

    def _count_decision(self, decision: Decision, classified: Classified | None) -> None:
        operation, _ = _operation_and_method(classified, "")
        key = (decision.policy, operation, decision.effect, decision.reason)
        self._decisions[key] = self._decisions.get(key, 0) + 1

    def _observe_times(self, exchange: Exchange, operation: str) -> None:
        received, answered, completed = exchange.received_at, exchange.answered_at, exchange.completed_at
        traffic = _traffic(exchange.classified)
        # A hijack may be answered like any other request: by an error, or because it was asked to detach.
        is_long = answered > 0 and (exchange.is_tunnel or traffic is Traffic.STREAM)
        _observe(self._request_seconds, operation, _REQUEST_BUCKETS, (answered if is_long else completed) - received)
        if is_long:
            _observe(self._stream_seconds, operation, _STREAM_BUCKETS, completed - answered)
        if not exchange.forwarded_at:
            return
        overhead = exchange.forwarded_at - received
        if answered:
            _observe(self._engine_seconds, operation, _REQUEST_BUCKETS, answered - exchange.forwarded_at)
            if traffic is Traffic.UNARY:
                overhead += completed - answered
        _add(self._overhead_seconds, _OVERHEAD_BUCKETS, overhead)

    def _samples(self) -> dict[str, Samples]:
        """Family -> label values -> number, or row of a histogram."""
        in_flight = dict.fromkeys(IN_FLIGHT_KIND.values(), 0) | Counter(self._in_flight.values())
        in_flight["unary"] += self._express_in_flight()
        return {
            "sockproxy_requests_total": {(*key[:4], _code(key[4])): count for key, count in self._requests.items()},
            "sockproxy_decisions_total": self._decisions,
            "sockproxy_request_duration_seconds": _by_one_label(self._request_seconds),
            "sockproxy_engine_duration_seconds": _by_one_label(self._engine_seconds),
            "sockproxy_overhead_seconds": {(): self._overhead_seconds},
            "sockproxy_exchanges_in_flight": _by_one_label(in_flight),
            "sockproxy_stream_duration_seconds": _by_one_label(self._stream_seconds),
            "sockproxy_bytes_total": {
                (operation, direction): count
                for operation, row in self._bytes.items()
                for direction, count in zip(("in", "out"), row, strict=True)
            },
            "sockproxy_engine_up": {(): self._engine_up},
            "sockproxy_engine_connections": _by_one_label(self._engine_connections()),
            "sockproxy_engine_errors_total": _by_one_label(self._engine_errors),
            "sockproxy_bad_requests_total": _by_one_label(self._bad_requests),
            "sockproxy_limits_hit_total": _by_one_label(self._limits_hit),
            "sockproxy_audit_events_total": self._audit_events,
            "sockproxy_audit_rejected_requests_total": {(): self._audit_rejected},
            "sockproxy_tls_certificate_not_after_seconds": {},  # no listener speaks TLS yet
            "sockproxy_config_last_reload_successful": {(): self._reload_successful},
            "sockproxy_config_last_reload_success_timestamp_seconds": {(): self._reload_success_time},
            "sockproxy_build_info": {self._build: 1},
        }


def _traffic(classified: Classified | None) -> Traffic | None:
    return None if classified is None or classified.operation is None else classified.operation.traffic


def _kind(classified: Classified | None) -> str:
    traffic = _traffic(classified)
    return "unary" if traffic is None else IN_FLIGHT_KIND[traffic]


def _operation_and_method(classified: Classified | None, method: str) -> tuple[str, str]:
    if classified is None or classified.operation is None:
        return _UNKNOWN_OPERATION, method if method in _METHODS else _OTHER_METHOD
    return classified.operation.operation_id, classified.operation.method


def _code(status: int) -> str:
    return str(status) if status else "none"


def _new_row(buckets: tuple[float, ...]) -> Row:
    return [0] * (len(buckets) + 1) + [0.0]


def _observe(rows: dict[str, Row], operation: str, buckets: tuple[float, ...], seconds: float) -> None:
    row = rows.get(operation) or rows.setdefault(operation, _new_row(buckets))
    _add(row, buckets, seconds)


def _add(row: Row, buckets: tuple[float, ...], seconds: float) -> None:
    row[bisect_left(buckets, seconds)] += 1
    row[-1] += seconds


def _by_one_label(values: Mapping[str, Value]) -> Samples:
    return {(label,): value for label, value in values.items()}


def _collect(family: Family, samples: Samples) -> Metric:
    metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
    for values, value in samples.items():
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, list):
            _add_histogram(metric, family, labels, value)
        else:
            metric.add_sample(family.name, labels, value)
    return metric


def _add_histogram(metric: Metric, family: Family, labels: dict[str, str], row: Row) -> None:
    *counts, seconds = row
    for bound, count in zip((*map(str, family.buckets), "+Inf"), accumulate(counts), strict=True):
        metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{family.name}_count", labels, sum(counts))
    metric.add_sample(f"{family.name}_sum", labels, seconds)
