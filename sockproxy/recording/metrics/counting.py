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
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from sockproxy.errors import BadRequestReason, EngineErrorReason
from sockproxy.exchange import Exchange, Served
from sockproxy.judging.catalogue import Classified, Traffic
from sockproxy.judging.policy import Decision, Effect, Policy
from sockproxy.recording.chain import RESULTS
from sockproxy.recording.metrics.exemplars import SLOW_SECONDS, Exemplars
from sockproxy.recording.metrics.families import (
    FAMILIES,
    OVERHEAD_BUCKETS,
    REQUEST_BUCKETS,
    STREAM_BUCKETS,
    Labels,
)
from sockproxy.recording.metrics.telling import Row, Samples, to_metric

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
_NO_RULE = "none"
_DENY = Effect.DENY
_NOT_KNOWN = (_UNKNOWN_OPERATION, "unary")

Times = tuple[float, float | None, float | None, float | None]
"""Seconds that went by for the request, as a stream, at the engine, and in the proxy; None: it was none, or never there."""

_TIMED = (
    ("sockproxy_request_duration_seconds", REQUEST_BUCKETS, True),
    ("sockproxy_stream_duration_seconds", STREAM_BUCKETS, True),
    ("sockproxy_engine_duration_seconds", REQUEST_BUCKETS, True),
    ("sockproxy_overhead_seconds", OVERHEAD_BUCKETS, False),
)
"""Where `Times` are counted, in their order: family, its buckets, and whether it has the label `operation`."""


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


class States(NamedTuple):
    """What is asked at each scrape, `before_collect` first: whoever has more to count does it then."""

    before_collect: Callable[[], None] = lambda: None
    express_in_flight: Callable[[], int] = int  # exchanges under way of which only `served` will tell
    engine_is_reachable: Callable[[], bool] = bool
    engine_connections: Callable[[], Mapping[str, int]] = dict  # state (idle, busy) -> how many
    client_connections: Callable[[], int] = int
    limits_used: Callable[[], Mapping[str, float]] = dict  # limit -> how much of it, from 0 to 1
    policies: Callable[[], Iterable[Policy]] = tuple  # those in force
    certificates: Callable[[], Mapping[str, float]] = dict  # listener -> when its certificate ends, since the epoch


class Metrics:
    """The observer that counts, and the collector that tells."""

    def __init__(
        self,
        registry: CollectorRegistry,
        version: str,
        *,
        limits: Iterable[str] = (),
        sinks: Iterable[str] = (),
        states: States | None = None,
        count_served: CountServed = count_served,
    ) -> None:
        """Registers itself. `limits` and `sinks`: their names in the configuration, told from the start with 0. `states`: what
        others know. `count_served`: the function here, or its compiled twin."""
        self._count_served = count_served
        self._states = states or States()
        self._exemplars = Exemplars()
        self._requests: dict[tuple[str, str, str, str, int], int] = {}
        self._decisions: dict[Labels, int] = {}
        self._denials: dict[Labels, int] = {}
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
        decision = exchange.decision
        if decision is not None:
            operation = None if exchange.classified is None else exchange.classified.operation
            name, kind = (
                _NOT_KNOWN if operation is None else (operation.operation_id, IN_FLIGHT_KIND[operation.traffic])
            )
            self._count_decision(decision, name)
            self._in_flight[exchange.id] = kind

    def completed(self, exchange: Exchange) -> None:
        """Counts the outcome; and the decision, if it was not told of (a sink refused it, before it came here)."""
        operation, method = _operation_and_method(exchange.classified, exchange.method)
        policy, decision = _NO_POLICY, exchange.decision
        if decision is not None:
            policy = decision.policy
            if self._in_flight.pop(exchange.id, None) is None:
                self._count_decision(decision, operation)
            if decision.effect is _DENY or decision.shadow is _DENY:
                labels = (policy, operation, decision.effect, decision.reason)
                self._exemplars.count("sockproxy_decisions_total", labels, exchange)
                denial = (exchange.listener, policy, decision.rule or _NO_RULE)
                self._denials[denial] = self._denials.get(denial, 0) + 1
        key = (exchange.listener, policy, operation, method, exchange.status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._observe_times(exchange, operation)
        if exchange.bytes_in or exchange.bytes_out:
            row = self._bytes.get(operation) or self._bytes.setdefault(operation, [0, 0])
            row[0] += exchange.bytes_in
            row[1] += exchange.bytes_out
        if exchange.bad_request_reason is not None:
            self._count_bad_request(exchange, exchange.bad_request_reason)
        if exchange.engine_error_reason is not None:
            self._count_engine_error(exchange, exchange.engine_error_reason)

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
        self._states.before_collect()
        self._fold()
        samples = self._samples()
        for family in FAMILIES:
            yield to_metric(family, samples[family.name], self._exemplars)

    def _count_decision(self, decision: Decision, operation: str) -> None:
        key = (decision.policy, operation, decision.effect, decision.reason)
        self._decisions[key] = self._decisions.get(key, 0) + 1

    def _count_bad_request(self, exchange: Exchange, reason: BadRequestReason) -> None:
        self._bad_requests[reason] += 1
        self._exemplars.count("sockproxy_bad_requests_total", (reason,), exchange)

    def _count_engine_error(self, exchange: Exchange, reason: EngineErrorReason) -> None:
        self._engine_errors[reason] += 1
        self._exemplars.count("sockproxy_engine_errors_total", (reason,), exchange)

    def _observe_times(self, exchange: Exchange, operation: str) -> None:
        request, stream, engine, overhead = times = times_of(exchange)
        _observe(self._request_seconds, operation, REQUEST_BUCKETS, request)
        if overhead is not None:
            self._overhead_seconds[bisect_left(OVERHEAD_BUCKETS, overhead)] += 1
            self._overhead_seconds[-1] += overhead
            if engine is not None:
                _observe(self._engine_seconds, operation, REQUEST_BUCKETS, engine)
            if stream is not None:
                _observe(self._stream_seconds, operation, STREAM_BUCKETS, stream)
        if request >= SLOW_SECONDS or stream is not None:
            self._remember_slow(exchange, operation, times)

    def _remember_slow(self, exchange: Exchange, operation: str, times: Times) -> None:
        for (family, buckets, has_operation), seconds in zip(_TIMED, times, strict=True):
            if seconds is not None:
                self._exemplars.time(family, (operation,) * has_operation, buckets, seconds, exchange)

    def _requests_by_code(self) -> dict[Labels, int]:
        """The engine may answer with any number; those that are no status are one."""
        counts: dict[Labels, int] = {}
        for (*labels, status), count in self._requests.items():
            key = (*labels, str(status) if 100 <= status <= 599 else "none")
            counts[key] = counts.get(key, 0) + count
        return counts

    def _samples(self) -> dict[str, Samples]:
        """Family -> label values -> number, or row of a histogram."""
        states = self._states
        in_flight = dict.fromkeys(IN_FLIGHT_KIND.values(), 0) | Counter(self._in_flight.values())
        in_flight["unary"] += states.express_in_flight()
        policies = {policy.name: policy for policy in states.policies()}
        return {
            "sockproxy_requests_total": self._requests_by_code(),
            "sockproxy_decisions_total": self._decisions,
            "sockproxy_denials_total": self._denials,
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
            "sockproxy_engine_reachable": {(): int(states.engine_is_reachable())},
            "sockproxy_engine_connections": _by_one_label(states.engine_connections()),
            "sockproxy_engine_errors_total": _by_one_label(self._engine_errors),
            "sockproxy_bad_requests_total": _by_one_label(self._bad_requests),
            "sockproxy_limits_hit_total": _by_one_label(self._limits_hit),
            "sockproxy_limit_used_ratio": _by_one_label(states.limits_used()),
            "sockproxy_client_connections": {(): states.client_connections()},
            "sockproxy_policy_operations": {(name,): len(policy.can_allow) for name, policy in policies.items()},
            "sockproxy_policy_info": {(name, one.mode, one.revision): 1 for name, one in policies.items()},
            "sockproxy_audit_events_total": self._audit_events,
            "sockproxy_audit_rejected_requests_total": {(): self._audit_rejected},
            "sockproxy_tls_certificate_not_after_seconds": _by_one_label(states.certificates()),
            "sockproxy_config_last_reload_successful": {(): self._reload_successful},
            "sockproxy_config_last_reload_success_timestamp_seconds": {(): self._reload_success_time},
            "sockproxy_build_info": {self._build: 1},
        }


def times_of(exchange: Exchange) -> Times:
    """How long what took: see the picture above."""
    received, forwarded, answered = exchange.received_at, exchange.forwarded_at, exchange.answered_at
    whole = exchange.completed_at - received
    if not forwarded:
        return whole, None, None, None
    overhead = forwarded - received
    if not answered:
        return whole, None, None, overhead
    traffic = None if exchange.classified is None or (known := exchange.classified.operation) is None else known.traffic
    # A hijack may be answered like any other request: by an error, or because it was asked to detach.
    if exchange.is_tunnel or traffic is Traffic.STREAM:
        return answered - received, exchange.completed_at - answered, answered - forwarded, overhead
    if traffic is Traffic.UNARY:
        overhead += exchange.completed_at - answered
    return whole, None, answered - forwarded, overhead


def _operation_and_method(classified: Classified | None, method: str) -> tuple[str, str]:
    operation = None if classified is None else classified.operation
    if operation is None:
        return _UNKNOWN_OPERATION, method if method in _METHODS else _OTHER_METHOD
    return operation.operation_id, operation.method


def _new_row(buckets: tuple[float, ...]) -> Row:
    return [0] * (len(buckets) + 1) + [0.0]


def _observe(rows: dict[str, Row], operation: str, buckets: tuple[float, ...], seconds: float) -> None:
    row = rows.get(operation) or rows.setdefault(operation, _new_row(buckets))
    row[bisect_left(buckets, seconds)] += 1
    row[-1] += seconds


def _by_one_label(values: Mapping[str, float | Row]) -> Samples:
    return {(label,): value for label, value in values.items()}
