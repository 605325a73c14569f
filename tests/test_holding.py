"""Holding: so many bytes in all, a quarter of them for one principal, and nothing is kept of who holds none."""

from hypothesis import given
from hypothesis import strategies as st

from sockproxy.forwarding.holding import Holding


def test_one_has_a_share_and_the_others_have_room() -> None:
    holding = Holding(100, 10)
    holding.take("a", 25)
    assert not holding.has_room("a", 1)
    for other in ("b", "c", "d"):
        assert holding.has_room(other, 25)
        assert not holding.has_room(other, 26)
        holding.take(other, 25)
    assert not holding.has_room("e", 1)
    holding.give("a", 5)
    assert holding.has_room("e", 5) and holding.has_room("a", 5)


def test_one_body_has_room_however_little_there_is() -> None:
    assert Holding(10, 10).has_room("a", 10)
    assert not Holding(10, 100).has_room("a", 11)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))))
def test_what_was_given_back_is_forgotten(held: list[tuple[str, int]]) -> None:
    holding = Holding(1000, 1)
    for key, count in held:
        holding.take(key, count)
    for key, count in reversed(held):
        holding.give(key, count)
    assert (holding.bytes, holding.principal_count) == (0, 0)
