"""The numbers of the page: two readings of the metrics become rates, and the matrix is that of the command line."""

import json

import pytest

from sockproxy.exchange import Exchange, Stage
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.operating.admin import overview
from sockproxy.operating.admin.live import Told
from sockproxy.operating.config import config_from_options
from sockproxy.recording.metrics import Metrics, Registry, Sum, tell
from tests.cli_runs import run
from tests.exchanges import CATALOGUE, DENIED, LIST, START, answered, decided, refused


class Counted:
    """Metrics, read at the seconds of a clock that the test has."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.metrics = Metrics(self.registry, "0.1.0", sinks=["audit.jsonl"])

    def observe(self, *exchanges: Exchange) -> None:
        for exchange in exchanges:
            self.metrics.decided(exchange)
            self.metrics.completed(exchange)

    def read(self, at: float) -> overview.Reading:
        return overview.read(tell(self.registry), at)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def of(told: Told, operation: str) -> Told:
    return next(one for one in told["operations"] if one["operation"] == operation)


def test_rates_are_of_the_time_between(counted: Counted) -> None:
    counted.observe(answered(decided(LIST)))
    before = counted.read(10.0)
    counted.observe(*(answered(decided(LIST, id=f"a-{number}")) for number in range(6)))
    counted.observe(refused(decided(START, DENIED), Stage.DENIED, 403), refused(decided(START), status=503))
    told = overview.between(before, counted.read(12.0))
    listed, started = of(told, "ContainerList"), of(told, "ContainerStart")
    assert (listed["rate"], listed["total"], listed["denied"]) == (3.0, 7, 0.0)
    assert (listed["mean_ms"], listed["p50_ms"], listed["p99_ms"]) == (2.5, 2.5, 2.5)
    assert (started["rate"], started["denied"], started["failed"], started["denied_total"]) == (1.0, 0.5, 0.5, 1)
    assert (told["whole"]["rate"], told["whole"]["total"]) == (4.0, 9)


def test_what_rests_has_no_latency(counted: Counted) -> None:
    counted.observe(answered(decided(LIST)))
    told = overview.between(counted.read(1.0), counted.read(2.0))
    assert (told["whole"]["rate"], told["whole"]["mean_ms"], told["whole"]["p99_ms"]) == (0.0, None, None)
    assert of(told, "ContainerList")["total"] == 1


def test_a_quantile_is_the_bound_that_so_many_kept_to(counted: Counted) -> None:
    before = counted.read(0.0)
    for number in range(100):
        exchange = answered(decided(LIST, id=f"a-{number}"))
        exchange.completed_at = 100.0 + (0.0009 if number < 60 else 0.04 if number < 98 else 1000.0)
        counted.observe(exchange)
    whole = overview.between(before, counted.read(1.0))["whole"]
    assert (whole["p50_ms"], whole["p99_ms"]) == (1.0, None)  # beyond the last bound


def test_one_reading_alone_has_no_rates(counted: Counted) -> None:
    counted.observe(answered(decided(LIST)))
    reading = counted.read(5.0)
    assert overview.between(reading, reading)["whole"]["rate"] == 0.0


def test_the_sum_of_several_reads_like_one(counted: Counted) -> None:
    counted.observe(*(answered(decided(LIST, id=f"a-{number}")) for number in range(3)))
    both = Registry()
    Sum(lambda: [*tell(counted.registry), *tell(counted.registry)], both)
    reading = overview.read(json.loads(json.dumps(tell(both))), 1.0)
    assert overview.between(reading, reading)["whole"]["total"] == 6


def test_trails_and_engine(counted: Counted) -> None:
    counted.metrics.engine_up(True)
    counted.metrics.audit_events("audit.jsonl", "lost", 2)
    reading = counted.read(1.0)
    told = overview.between(reading, reading)
    assert told["engine_up"] == 1
    assert told["audit"] == {"audit.jsonl": {"written": 0, "failed": 0, "lost": 2, "omitted": 0}}
    assert told["in_flight"] == {"unary": 0, "stream": 0, "tunnel": 0}


@pytest.mark.parametrize("version", ["1.21", "1.41", "1.55"])
def test_the_matrix_is_that_of_the_command_line(version: str) -> None:
    config = config_from_options(CATALOGUE, listen=["unix:///tmp/d.sock"], policy="readonly")
    told = overview.matrix(config.listeners, CATALOGUE, ApiVersion.parse(version))
    assert told["api_version"] == version
    assert [(one["name"], one["listeners"]) for one in told["policies"]] == [("readonly", ["unix:///tmp/d.sock"])]
    shown = json.loads(run("matrix", "--policy", "readonly", "--api", version, "--format", "json").stdout)
    rows = [
        {**{key: value for key, value in one.items() if key != "effects"}, "readonly": one["effects"][0]}
        for one in told["operations"]
    ]
    assert json.dumps(shown, sort_keys=True).count('"allow"') == sum(row["readonly"] == "allow" for row in rows)
    assert len(shown if isinstance(shown, list) else shown["operations"]) == len(rows)
