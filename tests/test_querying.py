"""Trails as tables: the same events in all forms, and the same answers as from reading them one by one."""

import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.exchange import Recorded
from sockproxy.operating.known import load_catalogue, load_known_bodies
from sockproxy.operating.learning import learnt_policy
from sockproxy.operating.querying import COLUMNS, PRINCIPAL, Archive, needs_archive
from sockproxy.recording.event import FIELDS, PRINCIPAL_FIELDS, RESPONSE_BODY, completed_event, encodable
from sockproxy.recording.learning import Learner
from sockproxy.recording.summary import Summary, alone, summarise
from sockproxy.recording.trail import read_events
from sockproxy.wire.tracing import Traceparent
from tests.exchanges import START, answered, decided

CASE = Path(__file__).parent / "cases" / "audit_trail.jsonl"
EVENTS = [json.loads(line) for line in CASE.read_text().splitlines()]

# What strangers can put into an event: any text that UTF-8 can carry.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
EVENT = st.builds(
    lambda event, changes, principal: event | changes | {"principal": event["principal"] | principal},
    st.sampled_from(EVENTS),
    st.fixed_dictionaries(
        {
            "operation": st.sampled_from(["", "ContainerList", "ContainerStart"]),
            "target": st.one_of(TEXT, st.sampled_from(["/v1.41/containers/json", "/_ping"])),
            "user_agent": TEXT,
            "effect": st.sampled_from(["allow", "deny"]),
            "reason": st.sampled_from(["allowed-by-rule", "no-rule", "bad-request"]),
            "shadow": st.sampled_from([None, "allow", "deny"]),
            "status": st.sampled_from([None, 200, 403]),
            "bytes_in": st.one_of(st.none(), st.integers(0, 2**40)),
            "bytes_out": st.one_of(st.none(), st.integers(0, 2**40)),
            "time": st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(
                lambda moment: f"{moment.isoformat(timespec='microseconds')}Z"
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "uid": st.sampled_from([None, 0, 1000]),
            "container": st.one_of(st.none(), TEXT),
            "tls_subject": st.one_of(st.none(), TEXT),
            "address": st.sampled_from([None, "10.0.0.7:4711", "10.0.0.7:4712", "[2001:db8::1]:5"]),
        }
    ),
)


def trail_of(folder: Path, events: Sequence[dict[str, Any]], name: str = "audit.jsonl") -> str:
    path = folder / name
    text = "".join(json.dumps(event) + "\n" for event in events).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return str(path)


def ask(sql: str, *sources: str) -> list[tuple[Any, ...]]:
    with closing(Archive(sources)) as archive:
        return list(archive.ask(sql).rows)


def counted(*sources: str) -> Summary:
    with closing(Archive(sources)) as archive:
        return summarise(archive.alike())


@pytest.fixture
def store() -> Iterator[str]:
    """An object store that is none: fsspec's file system in memory."""
    yield "memory://audit"
    memory = fsspec.filesystem("memory")
    if memory.exists("/audit"):
        memory.rm("/audit", recursive=True)


def test_every_field_is_a_column() -> None:
    assert tuple(COLUMNS)[: len(FIELDS)] == FIELDS
    assert tuple(PRINCIPAL) == PRINCIPAL_FIELDS
    at_times = decided(START)
    at_times.traceparent = Traceparent("1" * 32, "2" * 16, "01")
    at_times.recording = Recorded("a.cast", "0" * 64, 1, False)
    more = encodable(completed_event(answered(at_times))).keys() | {RESPONSE_BODY}
    assert more - set(FIELDS) == set(tuple(COLUMNS)[len(FIELDS) :])


def test_what_is_told_at_times_can_be_asked_for(tmp_path: Path) -> None:
    told = {
        "traceparent": "00-1-2-01",
        "response_body": {"Id": "a"},
        "recording": {"file": "a.cast", "sha256": "0", "bytes": 7, "is_cut": False},
    }
    source = trail_of(tmp_path, [EVENTS[1] | told, EVENTS[1]])
    with closing(Archive([source])) as archive:
        archive.export(str(tmp_path / "lake"), "a")
    sql = "SELECT traceparent, recording.bytes, response_body->>'Id' FROM events ORDER BY ALL"
    for each in (source, str(tmp_path / "lake")):
        assert ask(sql, each) == [("00-1-2-01", 7, "a"), (None, None, None)]


@settings(max_examples=25, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=12))
def test_counted_at_once_is_counted_one_by_one(events: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = trail_of(folder, events)
        expected = summarise(map(alone, read_events([source])))
        assert counted(source) == expected
        with closing(Archive([source])) as archive:
            assert archive.export(str(folder / "lake"), "a") == len(events)
        assert counted(str(folder / "lake")) == expected


@settings(max_examples=20, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=12), st.booleans())
def test_learnt_at_once_is_learnt_one_by_one(events: list[dict[str, Any]], looks_inside: bool) -> None:
    bodies = load_known_bodies() if looks_inside else None
    with tempfile.TemporaryDirectory() as name:
        source = trail_of(Path(name), [event | created(number) for number, event in enumerate(events)])
        one_by_one, at_once = (Learner(load_catalogue(), bodies=bodies) for _ in range(2))
        for event in read_events([source]):
            one_by_one.add(event)
        with closing(Archive([source])) as archive:
            for alike in archive.alike(in_all=looks_inside):
                at_once.add_alike(alike)
    texts = [learnt_policy(one, "x", with_requirements=looks_inside) for one in (one_by_one, at_once)]
    assert yaml.safe_load(texts[0]) == yaml.safe_load(texts[1])  # comments name the first who asked, in another order
    counts = [
        {name: (seen.times, seen.first_time, seen.last_time) for name, seen in learner.sightings.items()}
        for learner in (one_by_one, at_once)
    ]
    assert counts[0] == counts[1]


def created(number: int) -> dict[str, Any]:
    """What makes of an event a create of some image, every other time."""
    if number % 2:
        return {}
    target = f"/v1.41/containers/create?name=c{number % 3}"
    return {"operation": "ContainerCreate", "method": "POST", "target": target, "body": {"Image": f"i{number % 5}"}}


def test_what_was_exported_is_what_was_recorded(tmp_path: Path) -> None:
    with closing(Archive([str(CASE)])) as archive:
        archive.export(str(tmp_path / "lake"), "builder-1")
    columns = ", ".join(COLUMNS)
    of_trail, of_lake = (
        ask(f"SELECT {columns} FROM events ORDER BY seq", source) for source in (str(CASE), str(tmp_path / "lake"))
    )
    assert of_lake == of_trail != []
    assert [file.parent.relative_to(tmp_path / "lake").parts for file in (tmp_path / "lake").rglob("*.parquet")] == [
        ("day=2025-01-01", "host=builder-1")
    ]


def test_a_host_is_found_in_the_name_of_its_file(tmp_path: Path) -> None:
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        trail_of(tmp_path / host, EVENTS, "audit.jsonl.1.gz")
    with closing(Archive([str(tmp_path / "*" / "audit.jsonl*")])) as archive:
        archive.export(str(tmp_path / "lake"), "otherwise", "/([ab])/audit")
    assert ask("SELECT host, count(*) FROM events GROUP BY host ORDER BY host", str(tmp_path / "lake")) == [
        ("a", len(EVENTS)),
        ("b", len(EVENTS)),
    ]


def test_each_export_adds_and_a_trail_beside_counts_too(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    for _ in range(2):
        with closing(Archive([str(CASE)])) as archive:
            archive.export(lake, "a")
    assert ask("SELECT count(*) FROM events", lake, str(CASE)) == [(3 * len(EVENTS),)]


def test_an_object_store_is_read_and_written(store: str) -> None:
    with closing(Archive([str(CASE)])) as archive:
        archive.export(store, "a")
    assert counted(store) == summarise(map(alone, read_events([str(CASE)])))


def test_what_was_decided_and_not_completed_is_a_view() -> None:
    completed = {event["id"] for event in EVENTS if event["stage"] == "completed"}
    expected = {event["id"] for event in EVENTS if event["stage"] == "decided"} - completed
    assert {row[0] for row in ask("SELECT id FROM unfinished", str(CASE))} == expected
    assert ask("SELECT count(*) FROM requests", str(CASE)) == [(len(completed),)]


@pytest.mark.parametrize(
    ("line", "told"),
    [("hello\n", "alformed JSON"), ("{}\n", "not an audit event"), ('{"v": 2}\n', "not an audit event")],
)
def test_what_is_no_event_is_an_error(tmp_path: Path, line: str, told: str) -> None:
    path = Path(trail_of(tmp_path, EVENTS))
    path.write_text(path.read_text() + line)
    with pytest.raises(OSError, match=told):
        ask("SELECT count(*) FROM events", str(path))


@pytest.mark.parametrize(
    ("sources", "told"),
    [(["/nowhere.jsonl"], "nowhere"), (["nostore://x"], "nostore:// cannot be reached")],
)
def test_what_cannot_be_read_is_named(sources: list[str], told: str) -> None:
    with pytest.raises(OSError, match=told):
        Archive(sources)


def test_a_wrong_question_is_answered_in_words() -> None:
    with pytest.raises(OSError, match="operatoin"):
        ask("SELECT operatoin FROM events", str(CASE))
    with pytest.raises(OSError, match="number"):
        Archive([str(CASE)], memory="many")


def test_what_has_no_room_in_memory_goes_to_a_file(tmp_path: Path) -> None:
    wide = [event | {"id": str(number), "user_agent": f"{number:<4000}"} for number, event in enumerate(EVENTS * 8000)]
    source = trail_of(tmp_path, wide)
    sql = "SELECT count(*) FROM (SELECT user_agent, count(*) FROM events GROUP BY user_agent)"
    with pytest.raises(OSError, match="memory"), closing(Archive([source], memory="200MiB", threads=1)) as archive:
        archive.ask("SET temp_directory = ''")
        list(archive.ask(sql).rows)
    with closing(Archive([source], memory="200MiB", threads=1)) as archive:
        assert list(archive.ask(sql).rows) == [(len(wide),)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (str(CASE), False),
        ("/dev/stdin", False),
        ("nowhere.jsonl", False),
        (str(CASE.parent), True),
        ("logs/*/audit.jsonl", True),
        ("s3://bucket/audit", True),
        ("day.parquet", True),
    ],
)
def test_which_sources_need_it(source: str, expected: bool) -> None:
    assert needs_archive(source) is expected
