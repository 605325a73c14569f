"""The numbers behind the metrics, told to an injected registry.

Owns what is counted when. Must not know sockets, files or where it is scraped (`operating.admin`). Begin at
`Metrics.completed`; names and labels are in `families`.

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
from sockproxy.recording.metrics.families import (
    FAMILIES,
    OVERHEAD_BUCKETS,
    REQUEST_BUCKETS,
    STREAM_BUCKETS,
    Family,
    Labels,
)

Row = list[float]
"""A histogram: how many fell into each bucket (not cumulative), those above all, and the sum of their values."""

Value = float | Row
Samples = Mapping[Labels, Value]

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


def count_served(batch: Iterable[Served], overhead: Row) -> None:
    """Counts unary reads, decision and outcome of each at once. hot: what `decided` and `completed` do for one after the
    other, in a fourth of the time."""
    for (_, account), _, _, received, forwarded, answered, completed, status, bytes_out in batch:
        account.statuses[status] = account.statuses.get(status, 0) + 1
        seconds, row = completed - received, account.request_seconds
        row[bisect_left(REQUEST_BUCKETS, seconds)] += 1
        row[-1] += seconds
        seconds, row = answered - forwarded, account.engine_seconds
        row[bisect_left(REQUEST_BUCKETS, seconds)] += 1
        row[-1] += seconds
        seconds = (forwarded - received) + (completed - answered)
        overhead[bisect_left(OVERHEAD_BUCKETS, seconds)] += 1
        overhead[-1] += seconds
        account.bytes[1] += bytes_out


CountServed = Callable[[Iterable[Served], Row], None]


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
        certificates: Callable[[], Mapping[str, float]] = dict,
        before_collect: Callable[[], None] = lambda: None,
        count_served: CountServed = count_served,
    ) -> None:
        """Registers itself. `limits` and `sinks`: their names in the configuration, told from the start with 0;
        `engine_connections` is asked at each scrape: state (idle, busy) -> how many,
        and `express_in_flight`: how many exchanges are under way of which only `served` will tell.
        `certificates`: listener -> when its certificate ends, in seconds since the epoch.
        `before_collect` is called first at each scrape, for whoever has more to tell. `count_served`: the function here,
        or its compiled twin."""
        self._count_served = count_served
        self._before_collect = before_collect
        self._express_in_flight = express_in_flight
        self._certificates = certificates
        self._engine_connections = engine_connections
        self._requests: dict[tuple[str, str, str, str, int], int] = {}
        self._decisions: dict[Labels, int] = {}
        self._accounts: dict[tuple[tuple[str, str, str, str], Labels], Account] = {}
        self._request_seconds: dict[str, Row] = {}
        self._engine_seconds: dict[str, Row] = {}
        self._overhead_seconds = _new_row(OVERHEAD_BUCKETS)
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
                self._request_seconds.setdefault(operation, _new_row(REQUEST_BUCKETS)),
                self._engine_seconds.setdefault(operation, _new_row(REQUEST_BUCKETS)),
                self._bytes.setdefault(operation, [0, 0]),
            )
        return known

    def served(self, batch: Iterable[Served]) -> None:
        """Counts unary reads, decision and outcome of each at once."""
        self._count_served(batch, self._overhead_seconds)

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
        _observe(self._request_seconds, operation, REQUEST_BUCKETS, (answered if is_long else completed) - received)
        if is_long:
            _observe(self._stream_seconds, operation, STREAM_BUCKETS, completed - answered)
        if not exchange.forwarded_at:
            return
        overhead = exchange.forwarded_at - received
        if answered:
            _observe(self._engine_seconds, operation, REQUEST_BUCKETS, answered - exchange.forwarded_at)
            if traffic is Traffic.UNARY:
                overhead += completed - answered
        _add(self._overhead_seconds, OVERHEAD_BUCKETS, overhead)

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
            "sockproxy_tls_certificate_not_after_seconds": _by_one_label(self._certificates()),
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
