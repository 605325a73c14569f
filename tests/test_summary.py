"""What is counted of trails."""

from pathlib import Path

from sockproxy.recording.summary import TABLES, Count, Summary, alone, summarise
from sockproxy.recording.trail import read_events

CASE = Path(__file__).parent / "cases" / "audit_trail.jsonl"


def numbers(summary: Summary, name: str) -> dict[tuple[str, ...], int]:
    return {key: count.requests for key, count in summary.tables[name].items()}


def test_each_request_counts_once() -> None:
    summary = summarise(map(alone, read_events([str(CASE)])))
    first, last = "2025-01-01T00:00:00.250500Z", "2025-01-01T00:00:00.252500Z"
    assert summary.lines == Count(9, first, last)
    assert (summary.requests, summary.bytes_in, summary.bytes_out) == (5, 0, 4711)
    expected = {
        "operations": {
            ("ContainerList", "allow"): 1,
            ("ContainerStart", "allow"): 1,
            ("ContainerAttach", "deny"): 1,
            ("unknown", "deny"): 2,
        },
        "principals": {("uid:1000", "allow"): 2, ("uid:1000", "deny"): 3},
        "actions": {
            ("uid:1000", "ContainerList", "allow"): 1,
            ("uid:1000", "ContainerStart", "allow"): 1,
            ("uid:1000", "ContainerAttach", "deny"): 1,
            ("uid:1000", "unknown", "deny"): 2,
        },
        "effects": {("allow",): 2, ("deny",): 3},
        "listeners": {("unix:///run/docker.sock",): 5},
        "policies": {("ci",): 4, ("none",): 1},
        "statuses": {("200",): 1, ("204",): 1, ("403",): 2, ("400",): 1},
        "shadow_denials": {("ContainerStart", "ci", "no rule allows it"): 1},
        "denials": {
            ("ContainerAttach", "ci", "no rule allows it"): 1,
            ("unknown", "ci", "no rule allows it"): 1,
            ("unknown", "none", "bad-request"): 1,
        },
    }
    assert {name: numbers(summary, name) for name in TABLES} == expected


def test_first_and_last_seen_do_not_depend_on_the_order() -> None:
    events = list(read_events([str(CASE)]))
    assert summarise(map(alone, reversed(events))).tables == summarise(map(alone, events)).tables


def test_alike_events_count_as_many() -> None:
    event = next(read_events([str(CASE)]))
    early, late = "2024-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z"
    summary = summarise([alone(event)._replace(times=3, first_time=early, last_time=late), alone(event)])
    assert summary.tables["effects"] == {("allow",): Count(4, early, late)}
    assert summary.lines.requests == summary.requests == 4
