"""What is seen of a process: all is counted, a bounded part of it is shown; and nothing is done while nobody looks."""

from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from sockproxy.exchange import Exchange, Stage
from sockproxy.judging.compiling import compile_policy
from sockproxy.judging.policy import Policy
from sockproxy.operating.admin.live import (
    DENIALS_SHOWN_MAX,
    LEFT_SECONDS,
    NOTABLE_MAX,
    READS_MAX,
    ROWS_MAX,
    Window,
    merge_looks,
)
from sockproxy.operating.admin.showing import KEPT_CHARACTERS_MAX
from sockproxy.operating.observers import DENIALS_MAX, Observers
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.metrics import Metrics, Registry
from tests.exchanges import (
    ATTACH,
    CATALOGUE,
    DENIED,
    DOCKER_CLI,
    LIST,
    SHADOWED,
    START,
    MemorySink,
    answered,
    decided,
    refused,
    rejected,
)

CI = compile_policy("ci", CATALOGUE)


class World:
    """Observers with a window, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.metrics = Metrics(Registry(), "0.1.0")
        trail = AuditTrail([(MemorySink(), "deny-writes")], lambda flush: None, lambda *_: None)
        self.observers = Observers(trail, self.metrics, "a", lambda tell: None)
        self.waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self.policies: dict[str, Policy] = {"ci": CI}
        self.window = Window(
            self.metrics, self.observers, trail, lambda: self.policies, lambda *one: self.waiting.append(one)
        )

    def tell(self, *exchanges: Exchange) -> None:
        for exchange in exchanges:
            if exchange.decision is not None:
                self.observers.decided(exchange)
            if exchange.completed_at:
                self.observers.completed(exchange)

    def serve(self, count: int, first: int = 1) -> None:
        account = self.observers.account(decided(LIST))
        for number in range(first, first + count):
            self.observers.served((account, number, DOCKER_CLI, 100.0, 100.001, 100.002, 100.003, 200, 2))
        self.observers.tell_served()

    def pass_time(self) -> None:
        """As long as one who looks would not let pass."""
        seconds, call = self.waiting.popleft()
        assert seconds == LEFT_SECONDS
        call()

    @property
    def is_watched(self) -> bool:
        return self.observers._counting is not self.metrics


@pytest.fixture
def world() -> World:
    return World()


def ids(told: dict[str, Any]) -> list[str]:
    return [row["id"] for row in told["rows"]]


def test_nothing_is_done_while_nobody_looks(world: World) -> None:
    assert not world.is_watched and not world.waiting
    world.tell(answered(decided(START)))
    world.serve(3)
    assert not world.waiting
    told = world.window.look()
    assert (told["seen"], told["rows"]) == (0, [])


def test_what_happens_between_two_looks_is_shown_once(world: World) -> None:
    world.window.look()
    world.tell(answered(decided(LIST, id="a-x")), decided(ATTACH, id="a-y"))
    world.serve(2)
    told = world.window.look()
    assert told["seen"] == 3
    assert sorted(ids(told)) == ["a-1", "a-2", "a-x", "a-y"]
    assert world.window.look()["rows"] == []


def test_a_request_that_ends_meanwhile_is_one_row(world: World) -> None:
    world.window.look()
    stream = decided(ATTACH, id="a-y")
    world.tell(stream)
    assert [row["stage"] for row in world.window.look()["rows"]] == ["decided"]
    world.observers.completed(answered(stream))
    assert [row["stage"] for row in world.window.look()["rows"]] == ["completed"]
    world.tell(decided(ATTACH, id="a-z"), answered(decided(ATTACH, id="a-z")))
    assert ids(world.window.look()) == ["a-z"]


def test_it_closes_when_nobody_has_looked_for_a_while(world: World) -> None:
    world.window.look()
    assert world.is_watched
    world.pass_time()  # somebody has looked since
    assert world.is_watched
    world.window.look()
    world.pass_time()
    assert world.is_watched
    world.pass_time()
    assert not world.is_watched and not world.waiting
    world.window.look()
    assert world.is_watched and len(world.waiting) == 1


def test_what_is_counted_is_the_same_watched_or_not(world: World) -> None:
    other = World()
    other.window.look()
    for one in (world, other):
        one.tell(answered(decided(START)), refused(decided(LIST, DENIED), Stage.DENIED, 403), rejected())
        one.serve(40)
    families = [[(metric.name, metric.samples) for metric in one.metrics.collect()] for one in (world, other)]
    assert families[0] == families[1]


def test_reads_do_not_push_out_what_is_rare(world: World) -> None:
    world.window.look()
    world.tell(refused(decided(START, DENIED, id="a-denied"), Stage.DENIED, 403))
    world.serve(10_000)
    for number in range(200):
        world.tell(answered(decided(LIST, id=f"a-read-{number}")))
    told = world.window.look()
    assert told["seen"] == 10_201
    assert "a-denied" in ids(told)
    assert len(told["rows"]) <= NOTABLE_MAX + 2 * READS_MAX


def test_what_is_held_between_two_looks_is_bounded(world: World) -> None:
    world.window.look()
    for number in range(500):
        exchange = decided(START, DENIED, id=f"a-{number}")
        exchange.user_agent = "u" * 10 * KEPT_CHARACTERS_MAX
        world.tell(refused(exchange, Stage.DENIED, 403))
    told = world.window.look()
    assert (told["seen"], len(told["rows"])) == (500, NOTABLE_MAX)
    assert len(orjson.dumps(told)) < 200_000


# --- denials


def deny(world: World, number: int = 1, request: tuple[str, str] = START) -> None:
    decision = DENIED._replace(policy_revision=CI.revision)
    world.tell(refused(decided(request, decision, id=f"a-{number}"), Stage.DENIED, 403))


def test_denials_are_kept_for_who_looks_later(world: World) -> None:
    deny(world)
    (denial,) = world.window.look()["denials"]
    assert (denial["operation"], denial["reason"], denial["times"]) == ("ContainerStart", "no rule allows it", 1)
    assert denial["remedy"]["yaml"].splitlines()[-1] == "      - operations: [ContainerStart]"
    assert world.window.look()["denials"] == [denial]


def test_denials_of_one_kind_are_counted_and_the_last_is_shown(world: World) -> None:
    deny(world, 1)
    deny(world, 2, ATTACH)
    deny(world, 3)
    denials = world.window.look()["denials"]
    assert [(one["id"], one["times"]) for one in denials] == [("a-3", 2), ("a-2", 1)]


def test_what_would_be_denied_is_a_denial(world: World) -> None:
    world.tell(answered(decided(START, SHADOWED)))
    assert [one["shadow"] for one in world.window.look()["denials"]] == ["deny"]


def test_what_is_kept_of_denials_is_bounded(world: World) -> None:
    for number in range(3 * DENIALS_MAX):
        deny(world, number, ("POST", f"/containers/{number}/start"))
    assert len(world.observers.denials) == DENIALS_MAX
    operations = list(CATALOGUE.operations.values())
    for number, one in enumerate(operations[: 2 * DENIALS_SHOWN_MAX]):
        deny(world, number, (one.method, one.path.replace("{", "").replace("}", "")))
    assert len(world.window.look()["denials"]) <= DENIALS_SHOWN_MAX


def test_a_denial_of_great_length_is_shown_in_short(world: World) -> None:
    deny(world, 1, ("POST", f"/containers/{'x' * KEPT_CHARACTERS_MAX}/start"))
    (denial,) = world.window.look()["denials"]
    assert not isinstance(world.observers.denials[0], Exchange)
    assert "explain --audit" in denial["remedy"]["say"]


def test_a_policy_that_was_reloaded_is_told(world: World) -> None:
    deny(world)
    world.policies = {}
    assert world.window.look()["denials"][0]["remedy"]["say"] == "The policy is another one by now."


# --- several processes


def test_several_processes_are_told_as_one(world: World) -> None:
    other = World()
    for one in (world, other):
        one.window.look()
    for number in range(NOTABLE_MAX):
        world.tell(answered(decided(START, id=f"a-{number}")))
        other.tell(answered(decided(START, id=f"b-{number}")))
    deny(world)
    told = merge_looks([world.window.look(), other.window.look()])
    assert told["seen"] == 2 * NOTABLE_MAX + 1
    assert len(told["rows"]) == ROWS_MAX
    assert (len(told["denials"]), len(told["trails"])) == (1, 2)


def test_denials_of_one_kind_are_one_whichever_process_they_came_to(world: World) -> None:
    other = World()
    deny(world, 1)
    deny(world, 2)
    deny(other, 3)
    deny(other, 4, ATTACH)
    told = merge_looks([world.window.look(), other.window.look()])
    assert sorted((one["operation"], one["times"]) for one in told["denials"]) == [
        ("ContainerAttach", 1),
        ("ContainerStart", 3),
    ]
