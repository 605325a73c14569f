"""A proxy whose record goes to a file and to collectors at once, as a user starts it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from sockproxy.recording.trail import verify
from tests.brokers import TOPIC, Brokers, brokers
from tests.collector import Collector
from tests.ports import free_port

from .dialogue import eventually
from .null_engine import NullEngine
from .proxy_process import ProxyProcess

CONFIG = """
version: 1
engine: unix://$engine
listeners: [{address: "unix://$socket", policy: allow-all}]
admin: tcp://$admin
audit:
  - {file: $audit}
  - {syslog: "tcp://127.0.0.1:%d", on_failure: %s, queue_bytes_max: 20000}
  - {otlp: "http://127.0.0.1:%d/v1/logs", on_failure: continue}
"""


class Stage:
    """A proxy, and its two collectors."""

    def __init__(self, place: Path, engine: Path, on_failure: str) -> None:
        ports = [free_port(), free_port()]
        self.syslog = Collector("tcp", str(ports[0]), place / "syslog").start()
        self.otlp = Collector("http", str(ports[1]), place / "otlp").start()
        config = CONFIG % (ports[0], on_failure, ports[1])
        self.proxy = ProxyProcess(place / "p", engine, "allow-all", config=config)
        self.proxy.start()
        self.sink = f"tcp://127.0.0.1:{ports[0]}"

    def change(self) -> int:
        return self.proxy.api.call("POST", "/containers/web/start").status

    def counted(self, result: str) -> float:
        name = f'sockproxy_audit_events_total{{result="{result}",sink="{self.sink}"}} '
        return sum(
            float(line.removeprefix(name)) for line in self.proxy.metrics().splitlines() if line.startswith(name)
        )

    def end(self) -> None:
        self.proxy.stop()
        for collector in (self.syslog, self.otlp):
            collector.__exit__()


@pytest.fixture
def place(folder: Path) -> Path:
    made = folder / uuid4().hex[:8]
    made.mkdir()
    return made


@pytest.fixture
def engine(place: Path) -> Iterator[NullEngine]:
    with NullEngine(place / "engine.sock") as engine:
        yield engine


def is_whole(place: Path, lines: list[bytes]) -> bool:
    received = place / "received.jsonl"
    received.write_bytes(b"".join(line + b"\n" for line in dict.fromkeys(lines)))
    return verify([str(received)]).is_whole


def test_what_waits_at_the_end_is_shipped(place: Path, engine: NullEngine) -> None:
    stage = Stage(place, engine.path, "deny-writes")
    assert [stage.change() for _ in range(5)] == [200] * 5
    stage.proxy.stop()
    for collector in (stage.syslog, stage.otlp):
        eventually(lambda of=collector: len(of.lines) == 10)  # type: ignore[misc]  # bound now
        assert is_whole(place, collector.lines)
    assert len(stage.proxy.trail()) == 10
    stage.end()


@pytest.mark.parametrize("on_failure", ["continue", "deny-writes"])
def test_a_collector_that_is_killed_and_comes_back(place: Path, engine: NullEngine, on_failure: str) -> None:
    stage = Stage(place, engine.path, on_failure)
    assert stage.change() == 200
    eventually(lambda: len(stage.syslog.lines) == 2)
    stage.syslog.kill()
    statuses = [stage.change() for _ in range(40)]
    before = len(engine.requests())
    assert statuses[:5] == [200] * 5, "the queue has room"
    assert statuses[-1] == (200 if on_failure == "continue" else 503)
    assert before == 1 + statuses.count(200), "what is refused reaches no engine"
    assert stage.counted("failed") > 0
    stage.syslog.start()
    eventually(lambda: stage.change() == 200)
    eventually(lambda: stage.counted("shipped") == len(stage.proxy.trail()))
    assert stage.counted("lost") == 0
    eventually(lambda: len(set(stage.syslog.lines)) == len(stage.proxy.trail()))
    assert is_whole(place, stage.syslog.lines)
    stage.end()


KAFKA = """
version: 1
engine: unix://$engine
listeners: [{address: "unix://$socket", policy: allow-all}]
admin: tcp://$admin
audit:
  - {file: $audit}
  - {kafka: "kafka://%s/%s", queue_bytes_max: 20000}
"""


@pytest.fixture
def cluster() -> Iterator[Brokers]:
    with brokers() as made:
        yield made


def test_a_broker_that_goes_away_and_comes_back(place: Path, engine: NullEngine, cluster: Brokers) -> None:
    proxy = ProxyProcess(place / "p", engine.path, "allow-all", config=KAFKA % (cluster.server, TOPIC))
    proxy.start()
    try:

        def change() -> int:
            return proxy.api.call("POST", "/containers/web/start").status

        assert change() == 200
        cluster.messages(2)
        cluster.leave()
        statuses = [change() for _ in range(40)]
        assert statuses[:5] == [200] * 5, "the queue has room"
        assert statuses[-1] == 503
        assert len(engine.requests()) == 1 + statuses.count(200), "what is refused reaches no engine"
        assert proxy.api.call("GET", "/containers/json").status == 200, "reads go on"
        cluster.come_back()
        eventually(lambda: change() == 200)
    finally:
        proxy.stop()
    trail = proxy.trail()
    lines = cluster.lines(len(trail))
    assert len(lines) == len(trail), "each once"
    assert is_whole(place, lines)
