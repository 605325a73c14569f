"""`wire.fields`: what passes from hop to hop. What a field may look like is tested with the heads (`test_http1`)."""

import pytest

from sockproxy.errors import BadRequest
from sockproxy.wire import fields, http1

H, C = (b"Host", b"d"), (b"Content-Type", b"application/json")

U, X, Y = (b"Upgrade", b"tcp"), (b"X", b"1"), (b"Y", b"2")
OPTION = (b"Connection", b"Upgrade")

END_TO_END = [  # id, what came, whether Upgrade stays, what goes on
    ("all", [H, C, (b"A", b"b")], False, [H, C, (b"A", b"b")]),
    ("nothing", [], False, []),
    ("order-and-repetition", [(b"A", b"1"), H, (b"a", b"2")], False, [(b"A", b"1"), H, (b"a", b"2")]),
    ("framing", [(b"content-length", b"5"), H, (b"Transfer-Encoding", b"chunked")], True, [H]),
    ("known", [(b"Keep-Alive", b""), (b"TE", b""), (b"HTTP2-Settings", b""), (b"Proxy-Connection", b"")], True, []),
    ("proxies-own", [(b"Proxy-Authorization", b""), H, (b"proxy-authenticate", b"")], True, [H]),
    ("named", [(b"Connection", b"close, x ,,y"), X, Y, H], False, [H]),
    ("named-in-two-lines", [(b"Connection", b"x"), X, (b"connection", b"y"), Y, H], False, [H]),
    ("named-and-repeated", [(b"Connection", b"X"), X, H, (b"x", b"2"), Y], False, [H, Y]),
    ("upgrade-dropped", [OPTION, U, H], False, [H]),
    ("upgrade", [(b"connection", b"upgrade"), U, H], True, [H, OPTION, U]),
    ("upgrade-not-in-connection", [(b"Upgrade", b""), H], True, [H, (b"Upgrade", b"")]),
    ("upgrade-in-connection-only", [OPTION, H], True, [H]),
    (
        "upgrade-among-others",
        [(b"Connection", b"Upgrade, HTTP2-Settings"), U, (b"HTTP2-Settings", b"A")],
        True,
        [OPTION, U],
    ),
    ("two-upgrades", [U, H, (b"Upgrade", b"b")], True, [H, U, (b"Upgrade", b"b")]),
    (
        "trailer-and-expect",
        [(b"Trailer", b"X"), (b"Expect", b"100-continue")],
        False,
        [(b"Trailer", b"X"), (b"Expect", b"100-continue")],
    ),
]


@pytest.mark.parametrize(
    ("sent", "keep_upgrade", "expected"), [pytest.param(*row[1:], id=row[0]) for row in END_TO_END]
)
def test_passes_end_to_end_fields_only(sent, keep_upgrade, expected):
    assert http1.end_to_end(tuple(sent), keep_upgrade=keep_upgrade) == expected


@pytest.mark.parametrize("name", sorted(fields.NEVER_CONNECTION_OPTIONS))
def test_drops_no_field_that_frames_routes_or_is_judged(name):
    sent = [(b"Host", b"d"), (b"Connection", b"close, " + name.title()), (name, b"x")]
    with pytest.raises(BadRequest):
        http1.end_to_end(sent, keep_upgrade=False)


def test_finds_the_first_field_of_a_name():
    sent = [(b"User-Agent", b"a"), (b"USER-AGENT", b"b")]
    assert http1.field(sent, b"user-agent") == b"a"
    assert http1.field(sent, b"host") is None
