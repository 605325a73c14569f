"""What is shown of requests and trails: facts that are named, in texts that nobody can misread."""

import json
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from sockproxy.exchange import Exchange, Extent, Level
from sockproxy.operating.admin.showing import (
    KEPT_CHARACTERS_MAX,
    TAIL_LINES_MAX,
    TEXT_CHARACTERS_MAX,
    kept,
    row,
    rows_of_served,
    shown,
    trail_told,
)
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.chain import TrailState
from sockproxy.recording.event import completed_event
from sockproxy.recording.prepared import prepare
from tests.exchanges import DENIED, DOCKER_CLI, LIST, PROFILE, START, MemorySink, answered, decided, rejected

NEVER_SHOWN = {"body", "prev", "hash", "seq", "v"}

SHOWN = {
    # what came -> what is shown
    "ordinary": ("container web", "container web"),
    "markup-stays-text": ("<b onclick='x'>", "<b onclick='x'>"),
    "a-line-end": ("a\nb", "a\\nb"),
    "an-escape": ("\x1b[31m", "\\x1b[31m"),
    "turned-around": ("\u202egpj.exe", "\\u202egpj.exe"),
    "no-width": ("a\u200bb", "a\\u200bb"),
    "half-a-pair": ("\ud800", "\\ud800"),
    "other-scripts": ("größe-名前", "größe-名前"),
    "at-the-limit": ("x" * TEXT_CHARACTERS_MAX, "x" * TEXT_CHARACTERS_MAX),
    "too-long": ("x" * (TEXT_CHARACTERS_MAX + 1), "x" * (TEXT_CHARACTERS_MAX - 1) + "…"),
}


@pytest.mark.parametrize(("came", "seen"), SHOWN.values(), ids=SHOWN)
def test_texts(came: str, seen: str) -> None:
    assert shown(came) == seen
    exchange = decided(("POST", f"/containers/{came}/start"))
    exchange.user_agent = came
    assert row(exchange)["user_agent"] == seen
    assert len(orjson.dumps(row(exchange))) < 20 * TEXT_CHARACTERS_MAX


@pytest.mark.parametrize("value", [None, 7, 0.5, True])
def test_other_values_are_as_they_are(value: object) -> None:
    assert shown(value) is value


EXCHANGES = {
    "under-way": (
        decided(START),
        {"stage": "decided", "status": None, "operation": "ContainerStart", "effect": "allow"},
    ),
    "over": (answered(decided(LIST)), {"stage": "completed", "status": 200, "duration_ms": 2.5, "engine_ms": 1}),
    "denied": (decided(START, DENIED), {"effect": "deny", "reason": "no rule allows it", "resource": "container web"}),
    "unknown": (decided(PROFILE), {"operation": "", "target": "/v1.41/debug/pprof/heap"}),
    "unread": (rejected(), {"reason": "bad-request", "status": 400, "policy": ""}),
}


@pytest.mark.parametrize(("exchange", "says"), EXCHANGES.values(), ids=EXCHANGES)
def test_a_row_is_of_the_audit_event(exchange: Exchange, says: dict[str, Any]) -> None:
    told = row(exchange)
    assert told | says == told
    assert not NEVER_SHOWN & told.keys()
    assert (told["who"], told["principal"]) == ("/usr/bin/docker", "uid:1000")


def test_what_else_an_event_may_hold_is_not_shown() -> None:
    """As bodies, from level Request on."""
    event = completed_event(answered(decided(START)))
    assert set(row(answered(decided(START)))) - set(event) == {"who"}


def test_a_read_of_the_express_way_is_shown_like_any_other() -> None:
    plain = answered(decided(LIST, id="c0ffee-2a"), bytes_out=2)
    plain.decided_at = plain.received_at
    served = ((prepare(plain), None), 42, DOCKER_CLI, 100.0, 100.001, 100.002, 100.0025, 200, 2)
    epoch = plain.received_time - plain.received_at
    assert rows_of_served([served], "c0ffee", epoch) == [row(plain)]


@pytest.mark.parametrize(("length", "is_kept"), [(KEPT_CHARACTERS_MAX, True), (KEPT_CHARACTERS_MAX + 1, False)])
def test_what_is_long_is_not_kept_as_it_is(length: int, is_kept: bool) -> None:
    exchange = decided(START)
    exchange.user_agent = "u" * (length - len(exchange.target))
    held = kept(exchange)
    assert (held is exchange) == is_kept
    assert row(held) == row(exchange)
    assert is_kept or len(json.dumps(held)) < 2 * KEPT_CHARACTERS_MAX


# --- trails


@dataclass
class Written:
    """A trail with some lines, and what its file holds."""

    sink: MemorySink
    trail: AuditTrail

    @property
    def state(self) -> TrailState:
        return self.trail.states(1 << 20)[0]


@pytest.fixture
def written() -> Written:
    sink = MemorySink()
    trail = AuditTrail([(sink, "deny-writes")], lambda flush: None, lambda *_: None)
    for number in range(6):
        exchange = decided(START, id=f"a-{number}")
        trail.decided(exchange)
        trail.completed(answered(exchange))
    trail.flush()
    return Written(sink, trail)


def test_a_whole_trail(written: Written) -> None:
    told = trail_told(written.state)
    assert (told["seq"], told["began_at"], told["waiting"], told["is_whole"]) == (12, 0, 0, True)
    assert [line["seq"] for line in told["tail"]] == list(range(13 - TAIL_LINES_MAX, 13))
    assert told["tail"][-1]["hash"] == told["hash"]


CHANGES = {
    "a-line-is-gone": lambda lines: lines[:-2] + lines[-1:],
    "the-last-is-gone": lambda lines: lines[:-1],
    "a-word-is-another": lambda lines: [*lines[:-1], lines[-1].replace(b"ContainerStart", b"ContainerStop")],
    "one-too-many": lambda lines: [*lines, b'{"seq":13}'],
    "no-json": lambda lines: [*lines, b"written by somebody else"],
    "no-object": lambda lines: [*lines, b"[]"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_was_changed_behind_the_writers_back(written: Written, change: Any) -> None:
    written.sink.lines = b"\n".join(change(written.sink.lines.splitlines())) + b"\n"
    assert trail_told(written.state)["is_whole"] is False


def test_what_cannot_be_read_back_is_not_judged(written: Written) -> None:
    assert trail_told(written.state._replace(last_lines=[]))["is_whole"] is None


def test_lines_that_wait_are_told(written: Written) -> None:
    written.trail.completed(answered(decided(LIST, id="b-1")))
    told = trail_told(written.state)
    assert (told["seq"], told["waiting"], told["is_whole"]) == (13, 1, None)


def test_bodies_are_not_kept() -> None:
    exchange = answered(decided(START))
    exchange.extent = Extent(Level.REQUEST, wants_body=True, wants_answer=False, is_alike=True)
    exchange.extent.body = b"a secret"
    held = kept(exchange)
    assert isinstance(held, Exchange) and held.extent is None
    assert exchange.extent is not None  # for who is told of it after us
    assert row(held) == row(exchange)


def test_what_is_left_out_of_the_record_is_counted_only() -> None:
    served = ((None, None), 42, DOCKER_CLI, 100.0, 100.001, 100.002, 100.0025, 200, 2)
    assert rows_of_served([served], "c0ffee", 0.0) == []
