"""Sinks that hand lines to others: syslog, journald and OpenTelemetry, before real processes that are killed and come back."""

import asyncio
import json
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import AuditRefused, ConfigError
from sockproxy.operating.config.model import AuditConfig, CollectorConfig
from sockproxy.operating.trails import Opened, open_trail
from sockproxy.recording.chain import PENDING_BYTES_MAX
from sockproxy.recording.prepared import lines
from sockproxy.recording.sinks import journal, otlp, syslog
from sockproxy.recording.sinks.outbox import Outbox
from sockproxy.recording.trail import verify
from tests.certificates import Authority
from tests.collector import Collector
from tests.exchanges import START, answered, decided
from tests.ports import free_port
from tests.streams import until

QUEUE = 20_000
CASE = Path(__file__).parent / "cases" / "audit_trail.jsonl"
LINE = CASE.read_bytes().splitlines()[0]
DENIAL = next(line for line in CASE.read_bytes().splitlines() if b'"effect":"deny"' in line)


class Recorder:
    """A trail in front of a collector, and what it has counted."""

    def __init__(self, collector: CollectorConfig, on_failure: str = "deny-writes") -> None:
        self.counts: Counter[str] = Counter()
        self.name = f"{collector.scheme}://{collector.host}:{collector.port}{collector.path}"
        audit = AuditConfig(self.name, "Metadata", on_failure, collector=collector)  # type: ignore[arg-type]  # a word of it
        self.opened: Opened = open_trail([audit], lambda flush: None, self.count, lines)
        self.trail = self.opened.trail
        self.number = 0

    def count(self, sink: str, result: str, count: int) -> None:
        assert sink == self.name
        self.counts[result] += count

    def records(self, count: int = 1, *, user_agent: str = "docker") -> None:
        """That many writes, two lines each. Raises AuditRefused."""
        for _ in range(count):
            exchange = decided(START, id=f"a-{self.number}")
            exchange.user_agent = user_agent
            self.number += 1
            self.trail.decided(exchange)
            self.trail.completed(answered(exchange))
            self.trail.flush()


def are_a_chain(received: list[bytes], tmp_path: Path, count: int) -> bool:
    """Whether these lines are a whole trail of so many. What was sent twice, since nobody knew it was there, counts once."""
    file = tmp_path / "received.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in dict.fromkeys(received)))
    report = verify([str(file)])
    assert report.is_whole, report.broken
    return report.lines == count


# What is sent


def test_a_syslog_message() -> None:
    # RFC 5424, 6: SYSLOG-MSG = HEADER SP STRUCTURED-DATA [SP MSG]
    form = rb"<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [!-~]{1,255} sockproxy \d+ (\w+) - (.*)"
    for line, priority, stage in ((LINE, b"110", b"decided"), (DENIAL, b"108", b"decided")):
        found = re.fullmatch(form, syslog.message(line))
        assert found is not None
        assert found.groups() == (priority, stage, line)


def test_a_frame_has_its_length() -> None:
    assert syslog.frame(b"abc") == b"3 abc"
    assert syslog.frame(b"x" * 1000).startswith(b"1000 x")


def test_an_entry_of_the_journal() -> None:
    fields = dict(field.split(b"=", 1) for field in journal.entry(DENIAL).splitlines())
    event = json.loads(DENIAL)
    assert fields[b"MESSAGE"] == DENIAL
    assert (fields[b"PRIORITY"], fields[b"SYSLOG_IDENTIFIER"]) == (b"4", b"sockproxy-audit")
    assert fields[b"SOCKPROXY_ID"].decode() == event["id"]
    assert fields[b"SOCKPROXY_EFFECT"] == b"deny"
    assert b"SOCKPROXY_STATUS" not in fields, "what is null is no field"


def test_no_value_adds_a_field_to_the_journal() -> None:
    event = json.loads(LINE) | {"policy": "a\nPRIORITY=0"}
    entry = journal.entry(json.dumps(event).encode())
    assert b"SOCKPROXY_POLICY\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n" in entry


def test_log_records() -> None:
    (logs,) = json.loads(otlp.request([LINE, DENIAL]))["resourceLogs"]
    first, second = logs["scopeLogs"][0]["logRecords"]
    assert first["body"]["stringValue"].encode() == LINE
    assert first["timeUnixNano"] == "1735689600250500000"
    assert (first["severityText"], second["severityText"], second["severityNumber"]) == ("INFO", "WARN", 13)
    assert {"key": "sockproxy.seq", "value": {"intValue": "1"}} in first["attributes"]
    assert {"key": "service.name", "value": {"stringValue": "sockproxy"}} in logs["resource"]["attributes"]


REJECTED = [
    (b"{}", 0),
    (b"", 0),
    (b"[]", 0),
    (b'{"partialSuccess":{}}', 0),
    (b'{"partialSuccess":{"rejectedLogRecords":"3"}}', 3),
    (b'{"partialSuccess":{"rejectedLogRecords":3}}', 3),
    (b'{"partialSuccess":{"rejectedLogRecords":"many"}}', 0),
]


@pytest.mark.parametrize(("answer", "count"), REJECTED)
def test_what_a_collector_has_thrown_away(answer: bytes, count: int) -> None:
    assert otlp.rejected(answer) == count


# Datagrams


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Short, since the path of a unix socket has at most 107 bytes."""
    made = Path(f"/tmp/sp-{time.monotonic_ns():x}")
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("kind", ["syslog", "journald"])
def test_a_daemon_that_is_killed_refuses_and_takes_up_the_chain_when_it_is_back(
    place: Path, tmp_path: Path, kind: str
) -> None:
    with Collector("unix", f"{place}/log", tmp_path / "got") as collector:
        recorder = Recorder(CollectorConfig(kind, "unix", path=f"{place}/log"))  # type: ignore[arg-type]  # a word of it
        recorder.records(3)
        asyncio.run(until(lambda: len(collector.got) == 6))  # what it has not read dies with it
        collector.kill()
        with pytest.raises(AuditRefused):
            recorder.records()
        assert recorder.counts["failed"] == 1
        collector.start()
        recorder.records(2)
        recorder.trail.close()
        asyncio.run(until(lambda: len(collector.got) == 11))  # the refused one has no second line here
        assert are_a_chain(collector.lines, tmp_path, 11)
    assert (recorder.counts["written"], recorder.counts["lost"]) == (11, 0)


def test_a_daemon_that_was_started_anew_in_between_is_no_failure(place: Path, tmp_path: Path) -> None:
    with Collector("unix", f"{place}/log", tmp_path / "got") as collector:
        recorder = Recorder(CollectorConfig("syslog", "unix", path=f"{place}/log"))
        recorder.records()
        asyncio.run(until(lambda: len(collector.got) == 2))
        collector.kill()
        collector.start()
        recorder.records()
        asyncio.run(until(lambda: len(collector.got) == 4))
        assert recorder.counts["failed"] == 0


def test_a_daemon_that_does_not_read_is_waited_for_once(place: Path, tmp_path: Path) -> None:
    with Collector("deaf", f"{place}/log", tmp_path / "got"):
        recorder = Recorder(CollectorConfig("syslog", "unix", path=f"{place}/log"))
        with pytest.raises(AuditRefused):
            recorder.records(1000)
        waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw  # who waits leaves the processor to others
        for _ in range(20):
            with pytest.raises(AuditRefused):
                recorder.records()
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waits < 20


def test_what_is_too_large_for_syslog_is_counted_and_not_in_the_way(place: Path, tmp_path: Path) -> None:
    with Collector("unix", f"{place}/log", tmp_path / "got") as collector:
        recorder = Recorder(CollectorConfig("syslog", "unix", path=f"{place}/log"))
        recorder.records(user_agent="x" * 1_000_000)
        recorder.records()
        asyncio.run(until(lambda: len(collector.got) == 2))
        assert recorder.counts["lost"] == 2


def test_what_is_too_large_for_a_datagram_gets_to_the_journal_in_a_file(place: Path, tmp_path: Path) -> None:
    with Collector("unix", f"{place}/log", tmp_path / "got") as collector:
        recorder = Recorder(CollectorConfig("journald", "unix", path=f"{place}/log"))
        recorder.records(user_agent="x" * 300_000)
        recorder.records()
        asyncio.run(until(lambda: len(collector.got) == 4))
        assert are_a_chain(collector.lines, tmp_path, 4)
        assert recorder.counts["lost"] == 0


def test_udp(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    recorder = Recorder(CollectorConfig("syslog", "udp", host="127.0.0.1", port=port))
    with Collector("udp", str(port), tmp_path / "got") as collector:
        recorder.records(3)
        asyncio.run(until(lambda: len(collector.got) == 6))
        assert are_a_chain(collector.lines, tmp_path, 6)


# What waits


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 5))))
def test_an_outbox_keeps_whole_lines_in_their_order_and_no_more_than_it_may(
    steps: list[list[int] | int],
) -> None:
    outbox = Outbox("there", 200, lambda: None)
    waiting: list[bytes] = []
    for number, step in enumerate(steps):
        if isinstance(step, int):
            outbox.forget(len(waiting[:step]))
            del waiting[:step]
        else:
            given = b"".join(b"%d%b\n" % (number, b"x" * size) for size in step)
            kept = outbox.write(given, may_wait=True)
            assert given[:kept].endswith(b"\n") or not kept
            waiting += given[:kept].split(b"\n")[:-1]
            assert kept == len(given) or sum(len(line) + 1 for line in waiting) + len(given) - kept > 200
        assert outbox.first(1000, 1000) == waiting
        assert sum(len(line) + 1 for line in waiting) <= 200


def test_what_is_shipped_at_once_is_bounded() -> None:
    outbox = Outbox("there", 1000, lambda: None)
    outbox.write(b"aaaa\nbbbb\ncccc\n", may_wait=False)
    assert outbox.first(2, 100) == [b"aaaa", b"bbbb"]
    assert outbox.first(9, 8) == [b"aaaa", b"bbbb"]
    assert outbox.first(9, 1) == [b"aaaa"], "one at least"


# Over a network


@asynccontextmanager
async def shipping(collector: CollectorConfig, on_failure: str = "deny-writes") -> AsyncIterator[Recorder]:
    recorder = Recorder(collector, on_failure)
    (shipper,) = recorder.opened.shippers
    task = asyncio.create_task(shipper.run())
    try:
        yield recorder
    finally:
        recorder.trail.close()
        await shipper.finish(task, 1.0)


def far(kind: str, scheme: str, port: int, **keys: object) -> CollectorConfig:
    given = {"host": "localhost", "port": port, "queue_bytes_max": QUEUE} | keys
    return CollectorConfig(kind, scheme, **given)  # type: ignore[arg-type]  # words of it


async def test_a_collector_that_is_killed_gets_all_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    with Collector("tcp", str(port), tmp_path / "got") as collector:
        async with shipping(far("syslog", "tcp", port)) as recorder:
            recorder.records(3)
            await until(lambda: len(collector.got) == 6)
            await until(lambda: recorder.counts["shipped"] == 6)
            collector.kill()
            recorder.records(3)
            await until(lambda: recorder.counts["failed"] >= 2)
            collector.start()
            recorder.records(1)
            await until(lambda: recorder.counts["shipped"] == 14)
            await until(lambda: len(set(collector.lines)) == 14)
            assert are_a_chain(collector.lines, tmp_path, 14)


async def test_a_full_queue_refuses_and_recovers_without_a_gap(tmp_path: Path) -> None:
    port = free_port()
    async with shipping(far("syslog", "tcp", port)) as recorder:
        with pytest.raises(AuditRefused):
            recorder.records(1000)
        assert 5 < recorder.number < 30
        with Collector("tcp", str(port), tmp_path / "got") as collector:
            await until(lambda: recorder.counts["shipped"] > 10)
            recorder.records()
            count = 2 * (recorder.number - 1) + 1  # the refused one has no second line here
            await until(lambda: recorder.counts["shipped"] == count)
            await until(lambda: len(set(collector.lines)) == count)
            assert are_a_chain(collector.lines, tmp_path, count)
    assert recorder.counts["lost"] == 0


async def test_with_continue_what_does_not_fit_is_lost_and_counted(tmp_path: Path) -> None:
    async with shipping(far("syslog", "tcp", free_port()), "continue") as recorder:
        count = (QUEUE + PENDING_BYTES_MAX) // 700 + 100
        recorder.records(count)
        lost = recorder.counts["lost"]
        assert lost > 0
    assert recorder.counts["lost"] == 2 * count, "at the end nothing was shipped"


async def test_tls(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path / "ca"), free_port()
    theirs = authority.sign("/CN=collector", "DNS:localhost")
    with Collector("tls", str(port), tmp_path / "got", theirs.cert, theirs.key) as collector:
        async with shipping(far("syslog", "tls", port, ca=authority.cert)) as recorder:
            recorder.records(2)
            await until(lambda: recorder.counts["shipped"] == 4)
        await until(lambda: len(collector.got) == 4)  # what is shipped has left; no more is known of syslog
        assert are_a_chain(collector.lines, tmp_path, 4)


async def test_a_collector_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    theirs = Authority(tmp_path / "theirs").sign("/CN=collector", "DNS:localhost")
    port = free_port()
    with Collector("tls", str(port), tmp_path / "got", theirs.cert, theirs.key) as collector:
        async with shipping(far("syslog", "tls", port, ca=Authority(tmp_path / "ours").cert)) as recorder:
            recorder.records(2)
            await until(lambda: recorder.counts["failed"] > 0)
        assert collector.got == []


def test_an_authority_that_cannot_be_read_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its TLS cannot be used"):
        Recorder(far("syslog", "tls", 1, ca=str(tmp_path / "missing.pem")))


async def test_opentelemetry(tmp_path: Path) -> None:
    port = free_port()
    with Collector("http", str(port), tmp_path / "got") as collector:
        async with shipping(far("otlp", "http", port, path="/v1/logs")) as recorder:
            recorder.records(3)
            await until(lambda: recorder.counts["shipped"] == 6)
            collector.kill()
            recorder.records(1)
            await until(lambda: recorder.counts["failed"] > 0)
            collector.start()
            await until(lambda: recorder.counts["shipped"] == 8)
        assert are_a_chain(collector.lines, tmp_path, 8)


ANSWERS = [  # the collector's first answer, how many lines of two it has in the end, and how many are lost
    ("503 busy", 2, 0),
    ("429 slowly", 2, 0),
    ("400 no", 0, 2),
    ("401 who", 0, 2),
    ('200 {"partialSuccess":{"rejectedLogRecords":"1"}}', 2, 1),
]


@pytest.mark.parametrize(("first", "arrived", "lost"), ANSWERS)
async def test_what_a_collector_answers(tmp_path: Path, first: str, arrived: int, lost: int) -> None:
    port = free_port()
    (tmp_path / "got.answers").write_text(f"{first}\n")
    with Collector("http", str(port), tmp_path / "got") as collector:
        async with shipping(far("otlp", "http", port, path="/v1/logs")) as recorder:
            recorder.records(1)
            await until(lambda: recorder.counts["shipped"] + recorder.counts["lost"] == 2)
        assert (len(collector.got), recorder.counts["lost"]) == (arrived, lost)
        assert recorder.counts["failed"] == 1


JOURNALD = "/lib/systemd/systemd-journald"


@pytest.mark.skipif(not Path(JOURNALD).exists() or shutil.which("journalctl") is None, reason="needs journald")
def test_the_journal_gives_the_trail_back(tmp_path: Path) -> None:
    """A journald of the test's own, in a mount namespace with a /run of its own."""
    script = f"""
        set -e
        mount -t tmpfs tmpfs /run
        mkdir -p /run/log/journal /run/systemd/journal
        {JOURNALD} >{tmp_path}/journald 2>&1 & echo $! >{tmp_path}/pid
        for _ in $(seq 200); do test -S /run/systemd/journal/socket && break; sleep 0.02; done
        python=$1; shift
        "$python" -c "$1"
        for _ in $(seq 200); do
            journalctl -D /run/log/journal -o cat --all SOCKPROXY_LISTENER=unix:///run/docker.sock >{tmp_path}/told
            test $(wc -l <{tmp_path}/told) -eq 12 && break
            sleep 0.05
        done
        cat {tmp_path}/told
        kill $(cat {tmp_path}/pid)
    """
    program = (
        "from tests.test_collectors import *\n"
        "recorder = Recorder(CollectorConfig('journald', 'unix', path='/run/systemd/journal/socket'), 'continue')\n"
        "recorder.records(5)\nrecorder.records(1, user_agent='x' * 300_000)\n"
        "while recorder.counts['written'] < 12:\n"  # it may be slow to take them: its queue holds few
        "    recorder.trail.flush()\n"
    )
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, program]
    told = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, timeout=60, check=False)
    if told.returncode != 0:
        pytest.skip(f"no journald of our own here: {told.stderr.decode()[-200:]}")
    assert are_a_chain(told.stdout.splitlines(), tmp_path, 12)
