"""Clients: what a match asks, when it holds, and that what is not known meets nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.judging.clients import ANYBODY, KEYS, Match, Resident, first_of, holds, parse_key
from sockproxy.judging.identity import Peer, identify

A = "ab" * 32
UNIX = Peer("front", "unix", uid=1000, gid=998, pid=7, exe="/usr/bin/docker", container=A)
TCP = Peer("front", "tcp", address="10.1.2.3:4000")
TLS = Peer(
    "front",
    "tcp",
    address="10.1.2.3:4000",
    tls_subject="CN=ci-7,OU=builders,O=Example",
    tls_sans=("DNS:CI-7.example.com", "URI:spiffe://example.org/ci/7"),
    tls_fingerprint=A,
)


def subject(text: str) -> Peer:
    return TLS._replace(tls_subject=text)


def at(address: str) -> Peer:
    return TCP._replace(address=address)


HOLDS: list[tuple[str, str | int, Peer, bool]] = [
    ("uid", 1000, UNIX, True),
    ("uid", "1000", UNIX, True),
    ("uid", 100, UNIX, False),
    ("uid", 0, UNIX._replace(uid=0), True),
    ("uid", 0, TCP, False),
    ("gid", 998, UNIX, True),
    ("gid", 1000, UNIX, False),
    ("exe", "/usr/bin/docker", UNIX, True),
    ("exe", "/usr/*", UNIX, True),
    ("exe", "/usr/bin/docke", UNIX, False),
    ("exe", "docker", UNIX, False),
    ("exe", "*", UNIX._replace(exe=None), False),
    ("exe", "/usr/bin/docker", UNIX._replace(exe="/usr/bin/docker (deleted)"), False),
    ("exe", "/a[b]", UNIX._replace(exe="/a[b]"), True),
    ("exe", "/a[b]", UNIX._replace(exe="/ab"), False),
    ("exe", "/a*", UNIX._replace(exe="/a\nb"), True),
    ("container", "abababababab", UNIX, True),
    ("container", A, UNIX, True),
    ("container", "ab*ab", UNIX, True),
    ("container", "cdcdcdcdcdcd", UNIX, False),
    ("container", "*", UNIX._replace(container=None), False),
    ("tls_subject", "CN=ci-*", TLS, True),
    ("tls_subject", "cn=ci-?", TLS, True),
    ("tls_subject", "CN=CI-7", TLS, False),
    ("tls_subject", "OU=builders", TLS, True),
    ("tls_subject", "CN=ci-7,OU=builders,O=Example", TLS, True),
    ("tls_subject", "CN=ci-*, OU=*, O=Example", TLS, True),
    ("tls_subject", "CN=ci-*,O=Example", TLS, False),
    ("tls_subject", "O=Example,OU=builders,CN=ci-7", TLS, False),
    ("tls_subject", "CN=*", TCP, False),
    ("tls_subject", "CN=*", subject(""), False),
    ("tls_subject", "CN=ci-*", subject("CN=ci-7,CN=root"), False),
    ("tls_subject", "CN=ci-*", subject("CN=ci-7,CN=ci-8"), True),
    ("tls_subject", "CN=ci-*", subject("UID=7+CN=ci-7,O=Example"), True),
    ("tls_subject", "CN=root", subject("O=x\\,CN=root"), False),
    ("tls_subject", "CN=root", subject("O=x\\+CN=root"), False),
    ("tls_subject", "CN=a\\,b", subject("CN=a\\,b"), True),
    ("tls_subject", "CN=ci-*,O=Example", subject("CN=ci-7\\,OU=x,O=Example"), True),
    ("tls_subject", "CN=ci-*,O=Example", subject("CN=ci-7,OU=x,O=Example"), False),
    ("tls_subject", "CN=ci-*", subject("OU=CN=ci-7"), False),
    ("tls_san", "DNS:ci-7.example.com", TLS, True),
    ("tls_san", "DNS:*.EXAMPLE.com", TLS, True),
    ("tls_san", "DNS:*", TCP, False),
    ("tls_san", "email:*", TLS, False),
    ("tls_san", "URI:spiffe://example.org/*", TLS, True),
    ("spiffe_id", "spiffe://example.org/ci/*", TLS, True),
    ("spiffe_id", "spiffe://example.org/cd/*", TLS, False),
    ("spiffe_id", "spiffe://*", TLS._replace(tls_sans=("DNS:spiffe://example.org/ci",)), False),
    ("spiffe_id", "spiffe://*", TLS._replace(tls_sans=(*TLS.tls_sans, "URI:https://example.org")), False),
    ("tls_fingerprint", A, TLS, True),
    ("tls_fingerprint", ":".join(["AB"] * 32), TLS, True),
    ("tls_fingerprint", "0" * 64, TLS, False),
    ("tls_fingerprint", A, TCP, False),
    ("cidr", "10.0.0.0/8", TCP, True),
    ("cidr", "10.1.2.3", TCP, True),
    ("cidr", "192.168.0.0/16", TCP, False),
    ("cidr", "10.0.0.0/8", at("::ffff:10.1.2.3:4000"), True),
    ("cidr", "fd00::/8", at("fd12::1:4000"), True),
    ("cidr", "fd00::/8", TCP, False),
    ("cidr", "fe80::/10", at("fe80::1%eth0:4000"), True),
    ("cidr", "0.0.0.0/0", at(":0"), False),
    ("cidr", "0.0.0.0/0", UNIX, False),
]


@pytest.mark.parametrize(("key", "asked", "peer", "expected"), HOLDS)
def test_a_key_holds_for_whom_it_means(key: str, asked: str | int, peer: Peer, expected: bool) -> None:
    assert holds(Match(((key, parse_key(key, asked)),)), peer) is expected


def test_every_key_is_tried() -> None:
    assert {row[0] for row in HOLDS} == set(KEYS)


def test_all_keys_of_a_match_have_to_hold() -> None:
    both = Match((("uid", parse_key("uid", 1000)), ("exe", parse_key("exe", "/usr/bin/docker"))))
    assert holds(both, UNIX)
    assert not holds(both, UNIX._replace(exe="/bin/sh"))
    assert not holds(both, UNIX._replace(uid=0))


def test_anybody_is_everybody() -> None:
    assert all(holds(ANYBODY, peer) for peer in (UNIX, TCP, TLS, Peer("front", "tcp")))


@pytest.mark.parametrize("key", KEYS)
def test_who_is_not_known_is_meant_by_no_key(key: str) -> None:
    widest = {"tls_subject": "CN=*", "tls_san": "DNS:*", "spiffe_id": "spiffe://*", "cidr": "::/0"}
    number_or_digits = "0" * 64 if key == "tls_fingerprint" else "*" if key in ("exe", "container") else "0"
    match = Match(((key, parse_key(key, widest.get(key, number_or_digits))),))
    assert not any(holds(match, Peer("front", kind)) for kind in ("unix", "tcp"))  # type: ignore[arg-type]


WRONG = [
    ("container", "ab", "expected a container's id, or its first 12 digits or more, or a pattern with *"),
    ("container", A.upper(), "expected a container's id, or its first 12 digits or more, or a pattern with *"),
    ("tls_subject", "ci-*", 'expected a subject, as in "CN=ci-*" or "CN=ci-*,O=Example"'),
    ("tls_subject", "CN=a,,O=b", 'expected a subject, as in "CN=ci-*" or "CN=ci-*,O=Example"'),
    ("tls_subject", "*=a", 'expected a subject, as in "CN=ci-*" or "CN=ci-*,O=Example"'),
    ("tls_san", "*.a", 'expected the kind of name before it, one of DNS, URI, IP, email, as in "DNS:*.example.com"'),
    ("tls_san", "DNS", 'expected the kind of name before it, one of DNS, URI, IP, email, as in "DNS:*.example.com"'),
    ("spiffe_id", "example.org/ci", 'expected a SPIFFE id, as in "spiffe://example.org/ci/*"'),
    ("tls_fingerprint", A[:-1], "expected the SHA-256 of a certificate, 64 hexadecimal digits"),
    ("cidr", "10.0.0.1/8", 'is no network but an address in one; did you mean "10.0.0.0/8"?'),
    ("cidr", "example.com", 'expected a network, as in "10.0.0.0/8"'),
]


@pytest.mark.parametrize(("key", "asked", "message"), WRONG)
def test_what_cannot_be_asked(key: str, asked: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_key(key, asked)
    assert str(caught.value) == message


escaped = st.text(st.sampled_from("ab*?[+,=\\ "), min_size=1, max_size=8).map(
    lambda value: "".join(f"\\{c}" if c in "+,\\" else c for c in value)
)


@given(values=st.lists(escaped, min_size=1, max_size=4), other=escaped)
def test_a_value_never_reaches_into_another_part(values: list[str], other: str) -> None:
    """Whatever stands in the values that somebody may choose, an attribute that is not there is not found."""
    peer = subject(",".join(f"O={value}" for value in values) + f",OU={other}")
    assert not holds(Match((("tls_subject", parse_key("tls_subject", "CN=*")),)), peer)
    assert holds(Match((("tls_subject", parse_key("tls_subject", "O=*")),)), peer)


COUNTED_AS = [
    (UNIX, "uid:1000"),
    (TCP, "address:10.1.2.3"),
    (at("::1:4000"), "address:::1"),
    (TLS, "tls:CN=ci-7,OU=builders,O=Example"),
    (subject(""), f"tls:{A}"),
]


@pytest.mark.parametrize(("peer", "key"), COUNTED_AS)
def test_what_a_principal_is_counted_by(peer: Peer, key: str) -> None:
    assert identify(peer).key == key


# --- the first that holds


def asking(**keys: str | int) -> Match:
    return Match(tuple((key, parse_key(key, value)) for key, value in keys.items()))


WATCHER = Match((("container", Resident("watcher-*")),))
ID = asking(container="abababababab")
NOT_WATCHER = {"container": "cd" * 32, "container_name": "web"}

FIRST: list[tuple[list[Match], Peer, int | None]] = [
    ([WATCHER, ANYBODY], TCP._replace(is_introduced=True, **NOT_WATCHER), 1),
    ([WATCHER, ANYBODY], TCP._replace(is_introduced=True), 1),  # in no container
    ([WATCHER, ANYBODY], TCP, None),  # who would not be told must not be somebody else by that
    ([ID, ANYBODY], TCP, None),
    ([asking(cidr="10.0.0.0/8"), WATCHER, ANYBODY], TCP, 0),  # what comes before counts
    ([Match((*asking(cidr="192.168.0.0/16").asked, *WATCHER.asked)), ANYBODY], TCP, 1),  # does not hold anyway
    ([ID, ANYBODY], UNIX._replace(container=None), 1),  # of which the engine need not be asked
    ([WATCHER, ANYBODY], UNIX, None),
    ([asking(uid=0), ID], UNIX, 1),
    ([asking(uid=0)], UNIX, None),
]


@pytest.mark.parametrize(("matches", "peer", "expected"), FIRST)
def test_the_first_that_holds_unless_one_before_might(matches: list[Match], peer: Peer, expected: int | None) -> None:
    assert first_of(matches, peer) == expected
