"""The audit trail: what an event says, how lines are chained, which request waits for its line, and what follows where a
sink fails."""

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import AuditRefused, ConfigError, Finding
from sockproxy.exchange import Exchange, Stage
from sockproxy.judging.catalogue import ApiVersion, Classified
from sockproxy.recording import chain
from sockproxy.recording.audit import AuditTrail, may_change_engine
from sockproxy.recording.event import (
    FIELDS,
    GENESIS,
    PRINCIPAL_FIELDS,
    canonical,
    completed_event,
    decided_event,
    milliseconds,
    rfc3339,
)
from tests.exchanges import (
    ALLOWED,
    ATTACH,
    DENIED,
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

CASES = Path(__file__).parent / "cases"
OUTCOME = ("status", "bytes_in", "bytes_out", "duration_ms", "engine_ms")


class MemorySink:
    """A sink that takes so many bytes more, and cuts what does not fit at the last line, as a full disk's file does."""

    def __init__(self, name: str = "memory", *, room: int = 1 << 30, last_line: bytes = b"", fragment: bytes = b""):
        self.name = name
        self.last_line = last_line
        self.fragment = fragment
        self.room = room
        self.content = b""
        self.writes = 0
        self.is_open = True

    @property
    def file(self) -> "MemorySink":
        return self

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        self.writes += 1
        kept = len(lines) if len(lines) <= self.room else lines.rfind(b"\n", 0, self.room) + 1
        self.content += lines[:kept]
        self.room -= kept
        return kept

    def cut_fragment(self) -> None:
        self.fragment = b""

    rotates = False
    is_full = False

    def reopen(self) -> None:
        pass

    def rotate(self) -> bool:
        return False

    def sync(self) -> bool:
        return True

    def last_lines(self, bytes_max: int) -> list[bytes]:
        return []

    def close(self) -> None:
        self.is_open = False

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.content.splitlines()]


class Pipe(MemorySink):
    """A sink that takes so many bytes more, and cannot take anything back."""

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        kept = min(len(lines), self.room)
        self.content += lines[:kept]
        self.room -= kept
        return kept


class Recorder:
    """A trail with its sinks, what it wants to be called later, and what it counted."""

    def __init__(self, *sinks: tuple[MemorySink, chain.OnFailure]) -> None:
        self.due: list[object] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.trail = AuditTrail(sinks, self.due.append, self._count)

    def _count(self, sink: str, result: str, count: int) -> None:
        self.counts[sink, result] += count

    def passes(self, exchange: Exchange) -> bool:
        """Whether the request may go on; its completed event follows in either case."""
        try:
            self.trail.decided(exchange)
        except AuditRefused:
            self.trail.completed(refused(exchange))
            return False
        is_denied = exchange.decision is not None and exchange.decision.effect == "deny"
        self.trail.completed(refused(exchange, Stage.DENIED, 403) if is_denied else answered(exchange))
        return True


def is_chain(lines: bytes, previous: str = GENESIS, seq: int = 0) -> bool:
    """What the documentation tells an outsider to do, without any of our code."""
    for event in map(json.loads, lines.decode().split("\n")[:-1]):
        claimed = event.pop("hash")
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        actual = hashlib.sha256((event["prev"] + text).encode()).hexdigest()
        if (event["prev"], event["seq"], claimed) != (previous, seq + 1, actual):
            return False
        previous, seq = claimed, seq + 1
    return True


# What an event says


def told_exchanges() -> list[Exchange]:
    return [
        answered(decided(LIST, id="a-1"), bytes_out=4711),
        answered(decided(START, SHADOWED, id="a-2", version=None), 204),
        refused(decided(ATTACH, DENIED, id="a-3"), Stage.DENIED, 403),
        refused(decided(PROFILE, DENIED, id="a-4"), Stage.DENIED, 403),
        rejected(id="a-5"),
    ]


def test_lines_are_those_that_were_promised() -> None:
    sink = MemorySink()
    recorder = Recorder((sink, "deny-writes"))
    for exchange in told_exchanges():
        if exchange.decision is not None:
            recorder.trail.decided(exchange)
        recorder.trail.completed(exchange)
    recorder.trail.close()
    assert sink.content == (CASES / "audit_trail.jsonl").read_bytes()
    assert is_chain(sink.content)


def test_every_event_has_all_fields() -> None:
    for exchange in told_exchanges():
        for event in (decided_event(exchange), completed_event(exchange)):
            assert {*event, "hash"} == set(FIELDS)
            assert set(event["principal"]) == set(PRINCIPAL_FIELDS)
            assert list(event) == sorted(event), "in the order in which they are written"


def test_both_events_of_an_exchange_differ_in_stage_time_and_outcome_only() -> None:
    exchange = answered(decided(), bytes_out=4711)
    before, after = decided_event(exchange), completed_event(exchange)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"stage", "time", *OUTCOME}
    assert [before[key] for key in OUTCOME] == [None] * 5
    assert [after[key] for key in OUTCOME] == [200, 0, 4711, 2.5, 1]


def test_what_got_no_answer_has_no_status() -> None:
    exchange = refused(decided(), status=0)
    assert completed_event(exchange)["status"] is None
    assert completed_event(exchange)["engine_ms"] is None


TIMES = [
    (0.0, "1970-01-01T00:00:00.000000Z"),
    (1735689599.999999, "2024-12-31T23:59:59.999999Z"),
    (1735689600.5, "2025-01-01T00:00:00.500000Z"),
    (4102444800.000001, "2100-01-01T00:00:00.000001Z"),
]


@pytest.mark.parametrize(("seconds", "text"), TIMES)
def test_time(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


MILLISECONDS = [(0.0, "0"), (0.001, "1"), (0.0000014, "0.001"), (1.2345678, "1234.568"), (604800.0, "604800000")]


@pytest.mark.parametrize(("seconds", "text"), MILLISECONDS)
def test_milliseconds_look_alike_in_every_json(seconds: float, text: str) -> None:
    assert json.dumps(milliseconds(seconds)) == orjson.dumps(milliseconds(seconds)).decode() == text


# The chain

# What JSON must escape, what some readers take for a line's end, and lone surrogates, as undecodable file names have them.
texts = st.text(st.sampled_from('a"\\/\0\n\r\x7f\x85é\u2028\udc80\ud800😀'), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.floats(0, 1e6)), max_size=5))
def test_whatever_is_recorded_anybody_can_check(facts: list[tuple[str, str, float]]) -> None:
    sink = MemorySink()
    recorder = Recorder((sink, "deny-writes"))
    for agent, name, seconds in facts:
        exchange = answered(decided(START))
        exchange.user_agent = agent
        exchange.classified = exchange.classified._replace(resource_name=name)
        exchange.completed_at += seconds
        recorder.trail.decided(exchange)
        recorder.trail.completed(exchange)
    recorder.trail.close()
    assert sink.content.count(b"\n") == 2 * len(facts)
    assert is_chain(sink.content)


def test_what_utf_8_cannot_say_is_spelled_out() -> None:
    sink = MemorySink()
    exchange = decided(START)
    exchange.user_agent = "caf\udce9"
    exchange.principal = exchange.principal._replace(exe="/bin/\udcff")
    Recorder((sink, "deny-writes")).trail.decided(exchange)
    assert (sink.events[0]["user_agent"], sink.events[0]["principal"]["exe"]) == ("caf\\udce9", "/bin/\\udcff")


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_and_sha256sum_agree() -> None:
    check = """printf %s%s "$(jq -r .prev <<<"$0")" "$(jq -cS 'del(.hash)' <<<"$0")" | sha256sum"""
    for line in (CASES / "audit_trail.jsonl").read_text().splitlines():
        result = subprocess.run(["bash", "-c", check, line], check=True, capture_output=True, text=True)
        assert result.stdout.split()[0] == json.loads(line)["hash"]


def test_canonical_form_is_sorted_at_every_level() -> None:
    assert canonical({"b": {"d": 1, "c": "é"}, "a": None}) == '{"a":null,"b":{"c":"é","d":1}}'.encode()


def test_a_trail_goes_on_behind_its_last_line() -> None:
    first, second = MemorySink(), MemorySink()
    assert Recorder((first, "deny-writes")).passes(decided(START))
    second.last_line = first.content.splitlines()[0]
    assert Recorder((second, "deny-writes")).passes(decided(START))
    assert [event["seq"] for event in second.events] == [2]
    assert is_chain(second.content, json.loads(second.last_line)["hash"], 1)


GOOD_LINE = (CASES / "audit_trail.jsonl").read_bytes().splitlines()[0]
UNUSABLE = [
    ("not-json", b"hello", b"", "not an audit event"),
    ("not-an-object", b"[1]", b"", "not an audit event"),
    ("no-hash", b'{"seq":1,"prev":""}', b"", "not an audit event"),
    ("prev-no-text", b'{"seq":1,"prev":1,"hash":""}', b"", "not an audit event"),
    ("changed", GOOD_LINE.replace(b"allow", b"deny ", 1), b"", "was changed"),
    ("another-file", b"", b"[Unit]", "not an audit trail"),
    ("another-line", b"", b'{"v":2', "not an audit trail"),
]


@pytest.mark.parametrize(("id", "last_line", "fragment", "message"), UNUSABLE, ids=[row[0] for row in UNUSABLE])
def test_no_trail_begins_behind_what_is_none(id: str, last_line: bytes, fragment: bytes, message: str) -> None:
    sink = MemorySink("audit.jsonl", last_line=last_line, fragment=fragment)
    with pytest.raises(ConfigError, match=message) as error:
        Recorder((sink, "deny-writes"))
    assert error.value.findings[0].file == "audit.jsonl"
    assert sink.fragment == fragment


TORN = [(b"", b'{"api_ver'), (b"", b'{"api_version":"1.41","body":null,'), (b"", b"\0\0\0"), (GOOD_LINE, b"anything")]


@pytest.mark.parametrize(("last_line", "fragment"), TORN)
def test_an_interrupted_line_is_cut_off_and_told_of(last_line: bytes, fragment: bytes) -> None:
    sink = MemorySink(last_line=last_line, fragment=fragment)
    recorder = Recorder((sink, "deny-writes"))
    assert sink.fragment == b""
    assert recorder.trail.cut_bytes == {"memory": len(fragment)}


# Which request waits for its line

IN_VERSION_1_20 = ApiVersion(1, 20)
AT_ONCE = [
    ("read", decided(LIST), False, True),
    ("stream", decided(EVENTS), False, True),
    ("write", decided(START), True, True),
    ("tunnel", decided(ATTACH), True, True),
    ("unknown", decided(PROFILE), True, True),
    ("read-that-this-version-lacks", decided(("GET", "/swarm"), version=IN_VERSION_1_20), True, True),
    ("denied-write", decided(START, DENIED), False, False),
    ("denied-write-in-shadow", decided(START, SHADOWED), True, True),
]


@pytest.mark.parametrize(("id", "exchange", "in_writes", "in_all"), AT_ONCE, ids=[row[0] for row in AT_ONCE])
def test_line_is_kept_before_the_effect(id: str, exchange: Exchange, in_writes: bool, in_all: bool) -> None:
    for on_failure, is_owed in (("deny-writes", in_writes), ("continue", in_writes), ("deny-all", in_all)):
        sink = MemorySink()
        recorder = Recorder((sink, on_failure))
        recorder.trail.decided(exchange)
        assert len(sink.events) == (1 if is_owed else 0)
        assert len(recorder.due) == (0 if is_owed else 1)
        recorder.trail.flush()
        assert len(sink.events) == 1


def test_without_a_classification_it_may_change_anything() -> None:
    assert may_change_engine(None)
    assert may_change_engine(Classified(None, False, "", ""))


def test_reads_are_written_by_the_dozen_and_in_order() -> None:
    sink = MemorySink()
    recorder = Recorder((sink, "deny-writes"))
    for number in range(10):
        recorder.passes(decided(LIST, id=f"a-{number}"))
    assert (sink.writes, len(recorder.due)) == (0, 1)
    recorder.trail.flush()
    assert (sink.writes, len(sink.events)) == (1, 20)
    assert [event["id"] for event in sink.events] == [f"a-{number // 2}" for number in range(20)]


def test_a_write_takes_along_what_waits_before_it() -> None:
    sink = MemorySink()
    recorder = Recorder((sink, "deny-writes"))
    recorder.passes(decided(LIST, id="a-1"))
    recorder.trail.decided(decided(START, id="a-2"))
    assert sink.writes == 1
    assert [(event["id"], event["stage"]) for event in sink.events] == [
        ("a-1", "decided"),
        ("a-1", "completed"),
        ("a-2", "decided"),
    ]


def test_a_batch_is_bounded() -> None:
    sink = MemorySink()
    recorder = Recorder((sink, "deny-writes"))
    while not sink.writes:
        recorder.passes(decided(LIST))
    assert chain.BATCH_BYTES <= len(sink.content) < chain.BATCH_BYTES + 1024


def test_reopening_tells_all_that_went_wrong() -> None:
    class Stubborn(MemorySink):
        def reopen(self) -> None:
            raise ConfigError((Finding(self.name, 0, "", "is away"),))

    recorder = Recorder((Stubborn("one"), "deny-writes"), (MemorySink(), "continue"), (Stubborn("two"), "continue"))
    with pytest.raises(ConfigError) as error:
        recorder.trail.reopen()
    assert [finding.file for finding in error.value.findings] == ["one", "two"]


# What follows where a sink fails

FAILING = [  # on_failure, (read, write, tunnel, unknown, denied) that go on
    ("deny-writes", (True, False, False, False, True)),
    ("deny-all", (False, False, False, False, True)),
    ("continue", (True, True, True, True, True)),
]


@pytest.mark.parametrize(("on_failure", "passing"), FAILING)
def test_who_goes_on_without_a_record(on_failure: chain.OnFailure, passing: tuple[bool, ...]) -> None:
    recorder = Recorder((MemorySink(room=0), on_failure))
    requests = [(LIST, ALLOWED), (START, ALLOWED), (ATTACH, ALLOWED), (PROFILE, ALLOWED), (START, DENIED)]
    assert tuple(recorder.passes(decided(*request)) for request in requests) == passing
    assert recorder.counts["memory", "failed"] > 0
    assert recorder.counts["memory", "written"] == 0


@pytest.mark.parametrize(("on_failure", "passing"), FAILING)
@pytest.mark.parametrize("kind", [MemorySink, Pipe])
def test_the_trail_goes_on_when_the_sink_does(
    kind: type[MemorySink], on_failure: chain.OnFailure, passing: tuple[bool, ...]
) -> None:
    sink = kind(room=2000)  # two lines and a half
    recorder = Recorder((sink, on_failure))
    for number in range(5):
        recorder.passes(decided(START, id=f"a-{number}"))
    assert not recorder.passes(decided(START, id="a-5")) or on_failure == "continue"
    sink.room = 1 << 30
    assert recorder.passes(decided(START, id="a-6"))
    recorder.trail.flush()
    assert is_chain(sink.content)
    assert [event["seq"] for event in sink.events] == list(range(1, 15))
    assert recorder.counts["memory", "written"] == 14
    assert recorder.counts["memory", "lost"] == 0


def test_a_refused_request_leaves_both_its_lines() -> None:
    sink = MemorySink(room=0)
    recorder = Recorder((sink, "deny-writes"))
    assert not recorder.passes(decided(START))
    sink.room = 1 << 30
    recorder.trail.flush()
    assert [(event["stage"], event["effect"], event["status"]) for event in sink.events] == [
        ("decided", "allow", None),
        ("completed", "allow", 503),
    ]


def test_what_waits_is_bounded_and_what_is_lost_is_counted() -> None:
    sink = MemorySink(room=0)
    recorder = Recorder((sink, "deny-writes"))
    for _ in range(20):
        exchange = decided(LIST)
        exchange.user_agent = "x" * 100_000
        assert recorder.passes(exchange)
    assert not recorder.passes(decided(START))
    lost = recorder.counts["memory", "lost"]
    sink.room = 1 << 30
    recorder.trail.close()
    assert lost > 0
    assert chain.PENDING_BYTES_MAX < len(sink.content) < chain.PENDING_BYTES_MAX + 110_000
    assert recorder.counts["memory", "written"] + lost == 42
    assert is_chain(sink.content)


def test_what_waits_at_the_end_is_lost() -> None:
    sink = MemorySink(room=1000)
    recorder = Recorder((sink, "deny-writes"))
    recorder.passes(decided(LIST))
    recorder.passes(decided(LIST))
    recorder.trail.close()
    assert recorder.counts == {("memory", "written"): 1, ("memory", "failed"): 1, ("memory", "lost"): 3}
    assert not sink.is_open


def test_each_sink_has_its_own_chain_and_any_may_refuse() -> None:
    older = MemorySink("older", last_line=GOOD_LINE)
    broken, patient = MemorySink("broken", room=0), MemorySink("patient", room=0)
    recorder = Recorder((older, "deny-writes"), (patient, "continue"), (broken, "deny-writes"))
    with pytest.raises(AuditRefused) as error:
        recorder.trail.decided(decided(START))
    assert error.value.sink == "broken"
    patient.room = 1 << 30
    recorder.trail.flush()
    assert [sink.events[0]["seq"] for sink in (older, patient)] == [2, 1]
    assert is_chain(patient.content)
    assert is_chain(older.content, json.loads(GOOD_LINE)["hash"], 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([LIST, START, PROFILE]), st.integers(0, 3000)), max_size=25),
    st.sampled_from([MemorySink, Pipe]),
    st.sampled_from(["deny-writes", "deny-all", "continue"]),
)
def test_however_a_sink_fails_nothing_passes_unrecorded(
    steps: list[tuple[tuple[str, str], int]], kind: type[MemorySink], on_failure: chain.OnFailure
) -> None:
    sink = kind(room=0)
    recorder = Recorder((sink, on_failure))
    for number, (request, room) in enumerate(steps):
        sink.room = room
        is_passing = recorder.passes(exchange := decided(request, id=f"a-{number}"))
        whole = sink.content[: sink.content.rfind(b"\n") + 1]
        is_kept = f'"id":"{exchange.id}"'.encode() in whole
        is_owed = on_failure == "deny-all" or (on_failure == "deny-writes" and request != LIST)
        assert is_kept or not (is_passing and is_owed)
        assert is_chain(whole)
    sink.room = 1 << 30
    recorder.trail.close()
    assert is_chain(sink.content)
    assert len(sink.events) == 2 * len(steps)


def test_what_was_lost_at_the_end_is_not_written_later() -> None:
    sink = MemorySink(room=0)
    recorder = Recorder((sink, "continue"))
    recorder.passes(decided(LIST, ALLOWED, id="a-1"))
    recorder.trail.close()
    assert recorder.counts["memory", "lost"] == 2
    sink.room = 1 << 20
    writes = sink.writes
    recorder.trail.flush()
    assert (sink.writes, sink.content) == (writes, b"")
