"""Prepared lines are the plain ones: byte for byte what the chain would have written, in whatever order both come."""

from itertools import accumulate, zip_longest
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.exchange import Exchange, Stage, exchange_id
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.identity import Peer, Principal, identify
from sockproxy.judging.policy import Decision, Effect, Reason
from sockproxy.operating.twins import PYTHON, Twins
from sockproxy.recording.chain import Chain
from sockproxy.recording.event import completed_event, decided_event
from sockproxy.recording.prepared import Place, prepare
from tests.exchanges import CATALOGUE, DOCKER_CLI, LIST, MemorySink, answered, decided
from tests.forms import COMPILED, FORMS, IF_COMPILED


class Kind(NamedTuple):
    """What all exchanges of one kind have in common."""

    listener: str
    path: str
    target: str
    user_agent: str
    version: ApiVersion | None
    decision: Decision


class Times(NamedTuple):
    """Seconds of the monotonic clock."""

    received: float
    forwarded: float
    answered: float
    completed: float


class One(NamedTuple):
    """What is an exchange's own."""

    number: int
    principal: Principal
    times: Times
    status: int
    bytes_out: int


PREFIX = "c0ffee"
EPOCH = 1_700_000_000.0  # what the monotonic clock is behind that of the world


def new_exchange(kind: Kind, one: One) -> Exchange:
    times = one.times
    key = exchange_id(PREFIX, one.number)
    exchange = Exchange(key, kind.listener, one.principal, times.received, EPOCH + times.received)
    exchange.method, exchange.target, exchange.user_agent = "GET", kind.target, kind.user_agent
    exchange.api_version = kind.version
    exchange.classified = CATALOGUE.classify("GET", kind.path, kind.version)
    exchange.decision = kind.decision
    exchange.decided_at = times.received
    exchange.forwarded_at, exchange.answered_at, exchange.completed_at = times[1:]
    exchange.status, exchange.bytes_out = one.status, one.bytes_out
    for stage in (Stage.DECIDED, Stage.FORWARDED, Stage.ANSWERED):
        exchange.advance(stage)
    return exchange


def new_chain(form: Twins = PYTHON) -> tuple[MemorySink, Chain]:
    sink = MemorySink()
    return sink, Chain(sink, "deny-writes", lambda *_: None, form.lines)


def plainly(chain: Chain, kind: Kind, one: One) -> None:
    exchange = new_exchange(kind, one)
    chain.record(decided_event(exchange), at_once=False)
    chain.record(completed_event(exchange), at_once=False)


def by_preparation(chain: Chain, kind: Kind, first: One, ones: list[One]) -> None:
    account = (prepare(new_exchange(kind, first)), None)
    chain.record_served([(account, *one[:2], *one.times, *one[3:]) for one in ones], PREFIX, EPOCH)


def plain_lines(kind: Kind, ones: list[One]) -> bytes:
    sink, chain = new_chain()
    for one in ones:
        plainly(chain, kind, one)
    chain.flush()
    return sink.lines


def prepared_lines(form: Twins, kind: Kind, first: One, batches: list[list[One]], plain: list[One]) -> bytes:
    """Batches with one plain exchange behind each of them, as long as there are any."""
    sink, chain = new_chain(form)
    for batch, behind in zip_longest(batches, plain):
        by_preparation(chain, kind, first, batch or [])
        if behind is not None:
            plainly(chain, kind, behind)
    chain.flush()
    return sink.lines


def times_of(start: int, steps: tuple[int, int, int]) -> Times:
    # In parts of a second that a float can say: what is added in another order is still the same.
    return Times(*(moment / (1 << 20) for moment in accumulate(steps, initial=start)))


def principals(text: st.SearchStrategy[str]) -> st.SearchStrategy[Principal]:
    number, some = st.none() | st.integers(0, 1 << 31), st.none() | text
    kinds = st.sampled_from(("unix", "tcp"))
    return st.builds(Peer, text, kinds, number, number, number, some, some, some, some).map(identify)


def kinds(text: st.SearchStrategy[str]) -> st.SearchStrategy[Kind]:
    decision = st.builds(
        Decision, st.just(Effect.ALLOW), st.just(Reason.ALLOWED_BY_RULE), text, text, text, text, st.none()
    )
    paths = st.sampled_from(["/containers/json", "/containers/x/json", "/_ping", "/images/a/b/json", "/version"])
    version = st.none() | st.builds(ApiVersion, st.just(1), st.integers(18, 55))
    return st.builds(Kind, text, paths, text, text, version, decision)


def ones(text: st.SearchStrategy[str]) -> st.SearchStrategy[One]:
    step = st.integers(0, 1 << 10) | st.integers(0, 1 << 38)  # a millisecond, three days
    times = st.builds(times_of, st.integers(1, 1 << 44), st.tuples(step, step, step))
    return st.builds(
        One, st.integers(1, 1 << 40), principals(text), times, st.integers(200, 599), st.integers(0, 1 << 40)
    )


ANY_TEXT = st.text(max_size=20)
# What a file name or a command line that is no UTF-8 becomes: lone surrogates, which JSON in UTF-8 cannot say.
UNDECODABLE = st.binary(min_size=1, max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=150, deadline=None)
@given(
    kinds(ANY_TEXT),
    ones(ANY_TEXT),
    st.lists(st.lists(ones(ANY_TEXT), min_size=1, max_size=3), max_size=3),
    st.lists(ones(ANY_TEXT), max_size=3),
)
def test_prepared_lines_are_the_plain_lines(
    form: Twins, kind: Kind, first: One, batches: list[list[One]], plain: list[One]
) -> None:
    in_order = [one for batch, behind in zip_longest(batches, plain) for one in [*(batch or []), behind] if one]
    assert prepared_lines(form, kind, first, batches, plain) == plain_lines(kind, in_order)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(kinds(ANY_TEXT), ones(UNDECODABLE))
def test_a_process_whose_name_is_no_text_is_recorded_as_on_the_plain_way(form: Twins, kind: Kind, one: One) -> None:
    first = one._replace(principal=DOCKER_CLI)
    assert prepared_lines(form, kind, first, [[one]], []) == plain_lines(kind, [one])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(kinds(UNDECODABLE), ones(ANY_TEXT))
def test_a_name_in_the_configuration_that_is_no_text_is_recorded_as_on_the_plain_way(
    form: Twins, kind: Kind, one: One
) -> None:
    assert prepared_lines(form, kind, one, [[one]], []) == plain_lines(kind, [one])


@pytest.mark.parametrize("form", FORMS)
def test_lines_say_where_the_chain_is_then(form: Twins) -> None:
    served = ((prepare(answered(decided(LIST))), None), 10, DOCKER_CLI, 2.0, 2.25, 2.5, 3.0, 200, 7)
    first, place = form.lines([served], PREFIX, EPOCH, Place(0, "0" * 64))
    second, after = form.lines([served, served], PREFIX, EPOCH, place)
    assert (place.seq, after.seq) == (2, 6)
    assert (first.count(b"\n"), second.count(b"\n")) == (2, 4)
    assert f'"hash":"{place.prev}"'.encode() in first.splitlines()[1]
    assert f'"prev":"{place.prev}"'.encode() in second.splitlines()[0]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=300, deadline=None)
@given(
    received=st.floats(0, 1e7),
    waits=st.tuples(*[st.floats(0, 1e-2) | st.floats(0, 1e6) | st.integers(0, 10**9).map(lambda n: n / 1e6)] * 3),
    epoch=st.floats(-1e9, 4e9) | st.just(EPOCH),
    number=st.integers(1, 1 << 63),
    size=st.integers(0, 1 << 62),
    seq=st.integers(0, 1 << 60),
)
def test_every_number_is_written_as_python_does(
    form: Twins,
    received: float,
    waits: tuple[float, float, float],
    epoch: float,
    number: int,
    size: int,
    seq: int,
) -> None:
    moments = list(accumulate(waits, initial=received))
    served = ((prepare(answered(decided(LIST))), None), number, DOCKER_CLI, *moments, 200, size)
    place = Place(seq, "ab" * 32)
    assert form.lines([served] * 2, PREFIX, epoch, place) == PYTHON.lines([served] * 2, PREFIX, epoch, place)


@pytest.mark.parametrize("form", FORMS)
def test_lines_of_any_length_are_taken(form: Twins) -> None:
    long = DOCKER_CLI._replace(exe="x" * 200_000)
    served = [
        ((prepare(answered(decided(LIST))), None), 1, who, 2.0, 2.25, 2.5, 3.0, 200, 7) for who in (long, DOCKER_CLI)
    ]
    place = Place(0, "0" * 64)
    for batch in (served, served[1:], served[:1], []):
        assert form.lines(batch, PREFIX, EPOCH, place) == PYTHON.lines(batch, PREFIX, EPOCH, place)


@IF_COMPILED
def test_what_is_no_place_in_a_chain_is_refused() -> None:
    assert COMPILED is not None
    for prev in ("", "0" * 63, "0" * 65, "é" * 64):
        with pytest.raises(ValueError):
            COMPILED.lines([], PREFIX, EPOCH, Place(0, prev))
