"""Cuts: where the bytes of a connection are cut apart changes nothing of what goes on, and what is behind a body stays."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.forwarding.moving.cuts import Cut
from tests.bodies import BEHIND, BODIES, split


def in_pieces(cut: Cut, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What goes on for these pieces, and what was left over."""
    out, rest = b"", b""
    for piece in pieces:
        if cut.is_done:
            rest += piece
            continue
        some, consumed = cut.cut(piece)
        out += bytes(some)
        rest += piece[consumed:]
    return out, rest


@settings(max_examples=200)
@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 100), max_size=6), st.booleans())
def test_where_the_bytes_are_cut_changes_nothing(name: str, places: list[int], has_more: bool) -> None:
    body = BODIES[name]
    cut = body.make_cut(body.framing)
    more = BEHIND if has_more else b""
    out, rest = in_pieces(cut, split(body.sent + more, places))
    assert out == body.expected
    assert rest == more
    assert cut.is_done
    assert not cut.ends_with_connection
    assert cut.count == body.count
