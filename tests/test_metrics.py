"""Metrics: every promised one with its labels, counted rightly, in a form that Prometheus and promtool take."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from sockproxy.errors import BadRequestReason, EngineErrorReason
from sockproxy.exchange import Exchange, Stage
from sockproxy.forwarding.limits import Limits
from sockproxy.judging.catalogue import ApiVersion, Traffic
from sockproxy.operating.config import load_policy
from sockproxy.operating.twins import Twins
from sockproxy.recording.metrics import FAMILIES, IN_FLIGHT_KIND, Kind, Metrics, States
from tests.exchanges import (
    ATTACH,
    CATALOGUE,
    DENIED,
    DOCKER_CLI,
    EVENTS,
    LIST,
    PROFILE,
    SHADOWED,
    START,
    answered,
    decided,
    refused,
    rejected,
)
from tests.forms import FORMS

INSPECT = ("GET", "/containers/web/json")
PROMISED = (Path(__file__).parent / "cases" / "metrics.txt").read_text().split()
LISTENER = "unix:///run/docker.sock"
READONLY = load_policy("readonly", CATALOGUE)
LIMITS = tuple(field.name for field in fields(Limits))


class Scraped:
    """Metrics, and what somebody sees who scrapes them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            self.registry,
            "0.1.0",
            limits=LIMITS,
            sinks=["-", "/var/log/audit.jsonl"],
            states=States(
                engine_is_reachable=lambda: True,
                engine_connections=lambda: {"idle": 2, "busy": 1},
                client_connections=lambda: 3,
                limits_used=lambda: {"connections_max": 0.25},
                policies=lambda: (READONLY, READONLY),
                certificates=lambda: {LISTENER: 1767225600.0},
            ),
        )

    def observe(self, *exchanges: Exchange) -> "Scraped":
        for exchange in exchanges:
            if exchange.decision is not None:
                self.metrics.decided(exchange)
            self.metrics.completed(exchange)
        return self

    def families(self) -> dict[str, Metric]:
        return {
            metric.name: metric for metric in text_string_to_metric_families(generate_latest(self.registry).decode())
        }

    def value(self, sample: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(sample, labels)


def everything() -> Scraped:
    """Every metric has a sample."""
    return Scraped().observe(
        answered(decided(LIST), bytes_out=10),
        answered(decided(EVENTS), bytes_out=10),
        refused(decided(START, DENIED), Stage.DENIED, 403),
        rejected(),
    )


# The promise


def spelled(name: str, labels: set[str]) -> str:
    return name + ("{" + ",".join(sorted(labels)) + "}" if labels else "")


def test_every_promised_metric_is_declared_with_its_labels() -> None:
    declared = {spelled(family.name, set(family.labels)) for family in FAMILIES}
    promised = {spelled(text.partition("{")[0], labels_in(text)) for text in PROMISED}
    assert declared == promised
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) == len(PROMISED)


def labels_in(text: str) -> set[str]:
    return set(text.partition("{")[2].rstrip("}").split(",")) - {""}


SHOWN_AS = {Kind.INFO: Kind.GAUGE}  # in Prometheus' own text format


def test_every_metric_is_told_with_its_labels() -> None:
    families = everything().families()
    for family in FAMILIES:
        told = families[family.name.removesuffix("_total")]
        labels = {frozenset(set(sample.labels) - {"le"}) for sample in told.samples}
        assert labels == {frozenset(family.labels)}
        assert (told.type, told.documentation) == (SHOWN_AS.get(family.kind, family.kind), family.help)


def test_the_process_is_told_of() -> None:
    families = everything().families()
    assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds"} <= set(families)
    assert {name.partition("_")[0] for name in families} == {"sockproxy", "process"}


RULES = [  # what `promtool check metrics` asks of a metric
    ("has-help", lambda family: family.help.endswith(".") and len(family.help) > 20),
    ("counter-ends-in-total", lambda family: family.name.endswith("_total") == (family.kind is Kind.COUNTER)),
    (
        "base-units-only",
        lambda family: not any(unit in family.name for unit in ("milli", "micro", "_ms", "minutes", "kib")),
    ),
    ("histogram-in-seconds", lambda family: family.kind is not Kind.HISTOGRAM or family.name.endswith("_seconds")),
    ("info-ends-in-info", lambda family: family.name.endswith("_info") == (family.kind is Kind.INFO)),
    ("no-type-in-name", lambda family: not any(kind in family.name for kind in ("counter", "gauge", "histogram"))),
    ("no-reserved-suffix", lambda family: not family.name.endswith(("_count", "_sum", "_bucket"))),
    ("no-reserved-label", lambda family: not {"le", "quantile", "job", "instance"} & set(family.labels)),
    ("lower-case", lambda family: family.name == family.name.lower()),
    ("buckets-rise", lambda family: list(family.buckets) == sorted(set(family.buckets))),
    ("buckets-for-histograms", lambda family: bool(family.buckets) == (family.kind is Kind.HISTOGRAM)),
]


@pytest.mark.parametrize(("id", "rule"), RULES, ids=[row[0] for row in RULES])
def test_rules_of_naming(id: str, rule: object) -> None:
    assert [family.name for family in FAMILIES if not rule(family)] == []


def test_what_can_be_foreseen_begins_with_zero() -> None:
    scraped = Scraped()
    for reason in BadRequestReason:
        assert scraped.value("sockproxy_bad_requests_total", reason=reason) == 0
    for reason in EngineErrorReason:
        assert scraped.value("sockproxy_engine_errors_total", reason=reason) == 0
    for limit in LIMITS:
        assert scraped.value("sockproxy_limits_hit_total", limit=limit) == 0
    for sink in ("-", "/var/log/audit.jsonl"):
        for result in ("written", "failed", "lost"):
            assert scraped.value("sockproxy_audit_events_total", sink=sink, result=result) == 0
    for kind in ("unary", "stream", "tunnel"):
        assert scraped.value("sockproxy_exchanges_in_flight", kind=kind) == 0
    assert scraped.value("sockproxy_audit_rejected_requests_total") == 0
    assert scraped.value("sockproxy_overhead_seconds_count") == 0


# Exchanges

REQUESTS = [  # exchange, then the labels policy, operation, method, code
    ("read", answered(decided(LIST)), ("ci", "ContainerList", "GET", "200")),
    ("write", answered(decided(START), 304), ("ci", "ContainerStart", "POST", "304")),
    ("denied", refused(decided(START, DENIED), Stage.DENIED, 403), ("ci", "ContainerStart", "POST", "403")),
    ("unknown", refused(decided(PROFILE, DENIED), Stage.DENIED, 403), ("ci", "unknown", "GET", "403")),
    ("strange-method", refused(decided(("BREW", "/"), DENIED), Stage.DENIED, 403), ("ci", "unknown", "other", "403")),
    ("unreadable", rejected(), ("none", "unknown", "other", "400")),
    ("unanswered", refused(decided(LIST), status=0), ("ci", "ContainerList", "GET", "none")),
    ("strange-status", answered(decided(LIST), 999), ("ci", "ContainerList", "GET", "none")),
    ("low-status", answered(decided(LIST), 99), ("ci", "ContainerList", "GET", "none")),
]


@pytest.mark.parametrize(("id", "exchange", "labels"), REQUESTS, ids=[row[0] for row in REQUESTS])
def test_requests(id: str, exchange: Exchange, labels: tuple[str, str, str, str]) -> None:
    scraped = Scraped().observe(exchange)
    named = dict(zip(("policy", "operation", "method", "code"), labels, strict=True))
    assert scraped.value("sockproxy_requests_total", listener=LISTENER, **named) == 1


def test_statuses_without_a_code_are_one_series() -> None:
    scraped = Scraped().observe(*(answered(decided(LIST), status) for status in (0, 7, 700)))
    labels = {"policy": "ci", "operation": "ContainerList", "method": "GET", "code": "none"}
    assert scraped.value("sockproxy_requests_total", listener=LISTENER, **labels) == 3


DECISIONS = [
    (answered(decided(LIST)), "allow", "allowed-by-rule"),
    (refused(decided(LIST, DENIED), Stage.DENIED, 403), "deny", "no-rule"),
    (answered(decided(LIST, SHADOWED)), "allow", "no-rule"),
]


@pytest.mark.parametrize(("exchange", "effect", "reason"), DECISIONS)
def test_decisions(exchange: Exchange, effect: str, reason: str) -> None:
    scraped = Scraped().observe(exchange)
    labels = {"policy": "ci", "operation": "ContainerList", "effect": effect, "reason": reason}
    assert scraped.value("sockproxy_decisions_total", **labels) == 1


RULED = DENIED._replace(rule="ci/deny[0]")


@pytest.mark.parametrize(
    ("exchange", "rule", "count"),
    [
        (refused(decided(LIST, DENIED), Stage.DENIED, 403), "none", 1),
        (refused(decided(LIST, RULED), Stage.DENIED, 403), "ci/deny[0]", 1),
        (answered(decided(LIST, SHADOWED)), "none", 1),
        (answered(decided(LIST)), "none", None),
    ],
)
def test_denials_are_told_by_who_asked_and_by_the_rule(exchange: Exchange, rule: str, count: int | None) -> None:
    scraped = Scraped().observe(exchange)
    assert scraped.value("sockproxy_denials_total", listener=exchange.listener, policy="ci", rule=rule) == count


def test_a_decision_that_audit_refused_first_is_counted_once() -> None:
    scraped = Scraped()
    scraped.metrics.completed(refused(decided(START)))
    labels = {"policy": "ci", "operation": "ContainerStart", "effect": "allow", "reason": "allowed-by-rule"}
    assert scraped.value("sockproxy_decisions_total", **labels) == 1
    assert scraped.value("sockproxy_exchanges_in_flight", kind="unary") == 0


def test_in_flight() -> None:
    scraped = Scraped()
    exchanges = {"unary": decided(LIST, id="1"), "stream": decided(EVENTS, id="2"), "tunnel": decided(ATTACH, id="3")}
    for kind, exchange in exchanges.items():
        scraped.metrics.decided(exchange)
        assert scraped.value("sockproxy_exchanges_in_flight", kind=kind) == 1
    for kind, exchange in exchanges.items():
        scraped.metrics.completed(answered(exchange))
        assert scraped.value("sockproxy_exchanges_in_flight", kind=kind) == 0


def test_all_traffic_has_a_kind() -> None:
    assert set(IN_FLIGHT_KIND) == set(Traffic)


def test_bytes() -> None:
    upload = answered(decided(START), bytes_out=3)
    upload.bytes_in = 1 << 40
    scraped = Scraped().observe(upload, answered(decided(START), bytes_out=4))
    assert scraped.value("sockproxy_bytes_total", operation="ContainerStart", direction="in") == 1 << 40
    assert scraped.value("sockproxy_bytes_total", operation="ContainerStart", direction="out") == 7


def test_bad_requests_and_engine_errors() -> None:
    unreachable = refused(decided(LIST), status=502)
    unreachable.engine_error_reason = EngineErrorReason.UNREACHABLE
    scraped = Scraped().observe(rejected(BadRequestReason.HOST), unreachable)
    assert scraped.value("sockproxy_bad_requests_total", reason="host") == 1
    assert scraped.value("sockproxy_engine_errors_total", reason="unreachable") == 1


def attached() -> Exchange:
    exchange = answered(decided(ATTACH), 101)
    exchange.is_tunnel = True
    return exchange


TIMES = [  # exchange, operation, then milliseconds: request, engine, overhead, stream
    ("unary", answered(decided(LIST)), "ContainerList", (2.5, 1.0, 1.5, None)),
    ("download", answered(decided(("GET", "/containers/web/export"))), "ContainerExport", (2.5, 1.0, 1.0, None)),
    ("stream", answered(decided(EVENTS)), "SystemEvents", (2.0, 1.0, 1.0, 0.5)),
    ("tunnel", attached(), "ContainerAttach", (2.0, 1.0, 1.0, 0.5)),
    ("hijack-that-failed", answered(decided(ATTACH), 404), "ContainerAttach", (2.5, 1.0, 1.0, None)),
    ("unknown", answered(decided(PROFILE)), "unknown", (2.5, 1.0, 1.0, None)),
    ("denied", refused(decided(LIST, DENIED), Stage.DENIED, 403), "ContainerList", (1.0, None, 0.0, None)),
]


@pytest.mark.parametrize(("id", "exchange", "operation", "milliseconds"), TIMES, ids=[row[0] for row in TIMES])
def test_times(id: str, exchange: Exchange, operation: str, milliseconds: tuple[float | None, ...]) -> None:
    scraped = Scraped().observe(exchange)
    seconds = (
        scraped.value("sockproxy_request_duration_seconds_sum", operation=operation),
        scraped.value("sockproxy_engine_duration_seconds_sum", operation=operation),
        scraped.value("sockproxy_overhead_seconds_sum"),
        scraped.value("sockproxy_stream_duration_seconds_sum", operation=operation),
    )
    assert tuple(value and round(value * 1000, 6) for value in seconds) == milliseconds


durations = st.floats(0, 400) | st.sampled_from([0.0001, 0.001, 0.5, 300.0, 1000.0])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from([LIST, INSPECT]), durations, durations, durations, st.sampled_from([200, 404])),
            max_size=6,
        ),
        max_size=3,
    )
)
def test_what_was_served_counts_like_what_was_completed(
    form: Twins, batches: list[list[tuple[Any, float, float, float, int]]]
) -> None:
    """Each batch through the form, and in the one way that does not know batches."""
    registry, plain_registry = CollectorRegistry(), CollectorRegistry()
    metrics, plain = Metrics(registry, "test", count_served=form.count_served), Metrics(plain_registry, "test")
    for batch in batches:
        served = []
        for request, there, engine, back, status in batch:
            exchange = timed(decided(request), there, engine, back, status)
            moments = (exchange.received_at, exchange.forwarded_at, exchange.answered_at, exchange.completed_at)
            served.append(((None, metrics.account(exchange)), 1, DOCKER_CLI, *moments, status, 7))
            plain.decided(exchange)
            plain.completed(exchange)
        metrics.served(served)
    assert samples_of(registry) == pytest.approx(samples_of(plain_registry))


def timed(exchange: Exchange, there: float, engine: float, back: float, status: int) -> Exchange:
    exchange = answered(exchange, status)
    exchange.forwarded_at = exchange.received_at + there
    exchange.answered_at = exchange.forwarded_at + engine
    exchange.completed_at = exchange.answered_at + back
    exchange.bytes_in, exchange.bytes_out = 0, 7
    return exchange


def samples_of(registry: CollectorRegistry) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.value and not sample.name.startswith("process_")
    }


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 400) | st.sampled_from([0.001, 0.5, 300.0]), min_size=1, max_size=10))
def test_a_histogram_counts_what_is_not_above_its_bounds(durations: list[float]) -> None:
    scraped = Scraped()
    for seconds in durations:
        exchange = refused(decided(LIST), Stage.DENIED, 403)
        exchange.received_at, exchange.completed_at = 0.0, seconds
        scraped.observe(exchange)
    name = "sockproxy_request_duration_seconds"
    bounds = next(family.buckets for family in FAMILIES if family.name == name)
    for bound in bounds:
        told = scraped.value(f"{name}_bucket", operation="ContainerList", le=str(bound))
        assert told == sum(seconds <= bound for seconds in durations)
    assert scraped.value(f"{name}_bucket", operation="ContainerList", le="+Inf") == len(durations)
    assert scraped.value(f"{name}_count", operation="ContainerList") == len(durations)
    assert scraped.value(f"{name}_sum", operation="ContainerList") == pytest.approx(sum(durations))


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text(), st.text(), st.integers())
def test_nothing_from_the_wire_becomes_a_label(method: str, path: str, agent: str, status: int) -> None:
    exchange = decided((method, path), DENIED)
    exchange.user_agent = agent
    scraped = Scraped().observe(refused(exchange, Stage.DENIED, status))
    (sample,) = scraped.families()["sockproxy_requests"].samples
    assert sample.labels["operation"] in {"unknown", *CATALOGUE.operations}
    assert sample.labels["method"] in {"GET", "HEAD", "POST", "PUT", "DELETE", "other"}
    assert sample.labels["code"] == "none" or 100 <= int(sample.labels["code"]) <= 599


HOSTILE = ("\n", '"', "\\", "\x00", "é", "\ud7ff", "A" * 5000, "GET ", "sockproxy_requests_total 1\n", "{}", "")


def hostile(number: int) -> Iterator[Exchange]:
    """What somebody may send who wants to fill the memory of a proxy, or of a Prometheus; each time something new."""
    status, kind = divmod(number, len(HOSTILE))
    word = f"{HOSTILE[kind]}{number:x}"
    agent = decided(("GET", f"/containers/{word}/json"), id=f"id-{number}", version=ApiVersion(1, number))
    agent.user_agent = word
    yield answered(agent, status)
    yield answered(decided(("GET", f"/images/{word}/json")), 100 + status % 500)
    yield refused(decided((f"BREW{number}", "/containers/json"), DENIED), Stage.DENIED, 403)
    yield refused(decided(("POST", f"/{word}/{number}"), DENIED), Stage.DENIED, 403)
    unread = rejected(list(BadRequestReason)[number % len(BadRequestReason)], id=f"id-{number}")
    unread.method = unread.target = unread.user_agent = word
    yield unread


def test_series_are_bounded_whatever_is_sent() -> None:
    scraped, with_every_status = Scraped(), 600 * len(HOSTILE)
    for number in range(with_every_status):
        scraped.observe(*hostile(number))
    series = {f"{sample.name}{sample.labels}" for metric in scraped.registry.collect() for sample in metric.samples}
    for number in range(with_every_status, with_every_status + 500):
        scraped.observe(*hostile(number))
    later = {f"{sample.name}{sample.labels}" for metric in scraped.registry.collect() for sample in metric.samples}
    assert later == series
    requests = {sample for sample in series if "sockproxy_requests_total" in sample}
    assert (
        2 * 500 < len(requests) <= 3 * 501 + 3
    )  # two operations and all that is none, with every status; denied, and unread
    assert len(series) < 2000
    assert len(generate_latest(scraped.registry)) < 300_000


# Exemplars

REQUEST = "sockproxy_request_duration_seconds_bucket"
ENGINE = "sockproxy_engine_duration_seconds_bucket"
OVERHEAD = "sockproxy_overhead_seconds_bucket"
STREAM = "sockproxy_stream_duration_seconds_bucket"
DECISIONS = "sockproxy_decisions_total"


def slow(exchange: Exchange, seconds: float = 0.2) -> Exchange:
    """The same, but the engine took its time."""
    exchange.answered_at += seconds
    exchange.completed_at += seconds
    return exchange


def unreachable() -> Exchange:
    exchange = refused(decided(LIST), status=502)
    exchange.engine_error_reason = EngineErrorReason.UNREACHABLE
    return exchange


EXEMPLARS = [  # an exchange, and the samples that name it: with the bucket that it is in, or the value of the counter
    ("quick", answered(decided(LIST)), {}),
    ("slow", slow(answered(decided(LIST))), {REQUEST: "0.25", ENGINE: "0.25", OVERHEAD: "0.0025"}),
    ("just-slow", timed(decided(LIST), 0.0, 0.011, 0.0, 200), {REQUEST: "0.025", ENGINE: "0.025", OVERHEAD: "5e-05"}),
    ("above-all-buckets", slow(answered(decided(LIST)), 400.0), {REQUEST: "+Inf", ENGINE: "+Inf", OVERHEAD: "0.0025"}),
    (
        "stream",
        slow(answered(decided(EVENTS)), 0.0002),
        {REQUEST: "0.0025", ENGINE: "0.0025", OVERHEAD: "0.0025", STREAM: "1.0"},
    ),
    ("denied", refused(decided(LIST, DENIED), Stage.DENIED, 403), {DECISIONS: None}),
    ("would-be-denied", answered(decided(LIST, SHADOWED)), {DECISIONS: None}),
    ("unreadable", rejected(), {"sockproxy_bad_requests_total": None}),
    ("no-engine", unreachable(), {"sockproxy_engine_errors_total": None}),
]


@pytest.mark.parametrize(("id", "exchange", "samples"), EXEMPLARS, ids=[row[0] for row in EXEMPLARS])
def test_exemplars(id: str, exchange: Exchange, samples: dict[str, str | None]) -> None:
    scraped = Scraped().observe(exchange)
    told = {
        sample.name: (sample.labels.get("le"), sample.exemplar)
        for metric in openmetrics_families(openmetrics.generate_latest(scraped.registry).decode())
        for sample in metric.samples
        if sample.exemplar is not None
    }
    assert {name: bucket for name, (bucket, _) in told.items()} == samples
    for _, exemplar in told.values():
        assert exemplar.labels == {"request_id": exchange.id}
        assert exchange.received_time <= float(exemplar.timestamp) < exchange.received_time + 500


def test_the_last_one_is_the_exemplar() -> None:
    scraped = Scraped()
    for number in range(3):
        scraped.observe(slow(answered(decided(LIST, id=f"a-{number}"))))
    text = openmetrics.generate_latest(scraped.registry).decode()
    assert set(re.findall(r'# \{request_id="([^"]*)"\}', text)) == {"a-2"}


def test_exemplars_are_in_openmetrics_only() -> None:
    assert "request_id" not in generate_latest(Scraped().observe(slow(answered(decided(LIST)))).registry).decode()


def test_openmetrics_names_the_units() -> None:
    families = openmetrics_families(openmetrics.generate_latest(everything().registry).decode())
    units = {metric.name: metric.unit for metric in families if metric.unit}
    assert set(units.values()) == {"seconds", "bytes", "ratio"}
    assert all(name.endswith(f"_{unit}") for name, unit in units.items())


# What others tell


def test_states_and_counts_that_others_tell() -> None:
    scraped = Scraped()
    metrics = scraped.metrics
    metrics.engine_up(True)
    metrics.limit_hit("connections_max")
    metrics.audit_events("-", "written", 12)
    metrics.audit_events("-", "written", 30)
    metrics.audit_rejected()
    assert scraped.value("sockproxy_engine_up") == 1
    assert scraped.value("sockproxy_limits_hit_total", limit="connections_max") == 1
    assert scraped.value("sockproxy_audit_events_total", sink="-", result="written") == 42
    assert scraped.value("sockproxy_audit_rejected_requests_total") == 1
    assert scraped.value("sockproxy_engine_connections", state="idle") == 2
    assert scraped.value("sockproxy_engine_connections", state="busy") == 1
    assert scraped.value("sockproxy_engine_reachable") == 1
    assert scraped.value("sockproxy_client_connections") == 3
    assert scraped.value("sockproxy_limit_used_ratio", limit="connections_max") == 0.25
    assert scraped.value("sockproxy_tls_certificate_not_after_seconds", listener=LISTENER) == 1767225600.0
    metrics.engine_up(False)
    assert scraped.value("sockproxy_engine_up") == 0


def test_policies_in_force_are_told_of_once() -> None:
    scraped = Scraped()
    assert scraped.value("sockproxy_policy_operations", policy="readonly") == 39
    labels = {"policy": "readonly", "mode": "enforce", "revision": READONLY.revision}
    assert scraped.value("sockproxy_policy_info", **labels) == 1


def test_a_reload_that_fails_keeps_the_time_of_the_last_that_did_not() -> None:
    scraped = Scraped()
    scraped.metrics.config_reload(success=True, time=1735689600.0)
    scraped.metrics.config_reload(success=False, time=1735689700.0)
    assert scraped.value("sockproxy_config_last_reload_successful") == 0
    assert scraped.value("sockproxy_config_last_reload_success_timestamp_seconds") == 1735689600.0


def test_the_build_is_told_of() -> None:
    (sample,) = Scraped().families()["sockproxy_build_info"].samples
    assert (sample.labels["version"], sample.value) == ("0.1.0", 1)
