"""What may be told of a request: secrets become marks, by names that are data, and what nobody knows is one."""

import json
import runpy
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.data import load_bodies, load_secrets
from sockproxy.judging.catalogue import parse_target
from sockproxy.recording.redaction import INTEGER_MAX, MARK, Redactor, mark_by
from tests.secret_places import GENERATED, OPERATIONS, QUERIES, SHAPES, in_any_form

ROWS = load_secrets()
REDACTOR = Redactor(ROWS, mark_by(b"k" * 32))
TREATMENTS = {
    "plain",
    "names",
    "secret",
    "values",
    "environment",
    "options",
    "address",
    "instructions",
    "outputs",
    "step",
}


def mark(text: str) -> str:
    """How a text is marked."""
    return REDACTOR.hide(text.encode())


def quoted(text: str) -> str:
    return quote_plus(text, safe=":")


def told(body: Any, operation_id: str = "ContainerCreate") -> Any:
    return REDACTOR.body(operation_id, body).data


# (body, what is told of it)
BODIES: list[tuple[Any, Any]] = [
    ({"Image": "busybox", "Tty": True}, {"Image": "busybox", "Tty": True}),
    (
        {"Env": ["A=b", "A=", "A", "PATH=/bin:/sbin"]},
        {"Env": [f"A={mark('b')}", "A=", "A", f"PATH={mark('/bin:/sbin')}"]},
    ),
    ({"Env": ["no variable at all"]}, {"Env": [mark("no variable at all")]}),
    ({"Env": {"A": "b"}}, {"Env": {"A": mark("b")}}),
    ({"Nobody": "knows"}, {"Nobody": mark("knows")}),
    ({"HostConfig": {"Nobody": {"knows": [1]}}}, {"HostConfig": {"Nobody": REDACTOR.hide(b'{"knows":[1]}')}}),
    ({"Nobody": True, "Knows": None, "This": ""}, {"Nobody": True, "Knows": None, "This": ""}),
    ({"Nobody": 4711}, {"Nobody": REDACTOR.hide(b"4711")}),
    ({"Labels": {"any": "thing"}}, {"Labels": {"any": "thing"}}),
    ({"Labels": {"u": "https://a:b@c/d"}}, {"Labels": {"u": f"https://{mark('a:b')}@c/d"}}),
    ({"password": "p", "username": "u"}, {"password": mark("p"), "username": "u"}),
    ({"JoinToken": "t", "RemoteAddrs": ["10.0.0.1"]}, {"JoinToken": mark("t"), "RemoteAddrs": ["10.0.0.1"]}),
    ({"JoinTokens": {"Worker": "w", "Manager": "m"}}, {"JoinTokens": {"Worker": mark("w"), "Manager": mark("m")}}),
    ({"Data": "c2VjcmV0", "Name": "n"}, {"Data": mark("c2VjcmV0"), "Name": "n"}),
    ({"GraphDriver": {"Data": {"UpperDir": "/x"}}}, {"GraphDriver": {"Data": {"UpperDir": "/x"}}}),
    (
        {"HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": "t", "max-size": "1m"}}}},
        {"HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": mark("t"), "max-size": "1m"}}}},
    ),
    (
        {"DriverOpts": {"type": "cifs", "device": "//h/s", "o": "ro,addr=h,username=u,password=p,q"}},
        {
            "DriverOpts": {
                "type": "cifs",
                "device": "//h/s",
                "o": f"ro,addr=h,username={mark('u')},password={mark('p')},{mark('q')}",
            }
        },
    ),
    (
        {"Options": {"com.docker.network.bridge.name": "b", "x": "y"}},
        {"Options": {"com.docker.network.bridge.name": "b", "x": mark("y")}},
    ),
    ({"DNSConfig": {"Options": ["ndots:1"]}}, {"DNSConfig": {"Options": ["ndots:1"]}}),
    (
        {"ExternalCAs": [{"URL": "https://u@h/p?t=s"}]},
        {"ExternalCAs": [{"URL": f"https://{mark('u')}@h/p?{mark('t=s')}"}]},
    ),
    ({"OnBuild": ["CMD true", "ENV A=b"]}, {"OnBuild": ["CMD true", f"ENV {mark('A=b')}"]}),
    ({"CreatedBy": "|2 A=b T=a b /bin/sh -c x"}, {"CreatedBy": f"|2{mark(' A=b T=a b /bin/sh -c x')}"}),
    (
        {"CreatedBy": "RUN |1 A=b /bin/sh -c x # buildkit"},
        {"CreatedBy": f"RUN |1{mark(' A=b /bin/sh -c x # buildkit')}"},
    ),
    ({"CreatedBy": "/bin/sh -c #(nop)  ENV A=b"}, {"CreatedBy": f"/bin/sh -c #(nop)  ENV{mark(' A=b')}"}),
    ({"CreatedBy": "ARG A=b"}, {"CreatedBy": f"ARG{mark(' A=b')}"}),
    ({"CreatedBy": "RUN /bin/sh -c env # buildkit"}, {"CreatedBy": "RUN /bin/sh -c env # buildkit"}),
    ({"Cmd": ["|1", "A=b c", "/bin/sh", "-c", "x"]}, {"Cmd": ["|1", f"A={mark('b c')}", "/bin/sh", "-c", "x"]}),
    ({"Cmd": ["/bin/sh", "-c", "#(nop) ", "ENV A=b"]}, {"Cmd": ["/bin/sh", "-c", "#(nop) ", f"ENV{mark(' A=b')}"]}),
    ({"Cmd": ["env", "-i"]}, {"Cmd": ["env", "-i"]}),
    ({"Settings": {"Env": [{"Name": "A", "Value": "b"}]}}, {"Settings": {"Env": [{"Name": "A", "Value": mark("b")}]}}),
    ({"Memory": INTEGER_MAX + 1, "NanoCPUs": 1.0}, {"Memory": str(INTEGER_MAX + 1), "NanoCPUs": 1}),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_bodies(body: Any, expected: Any) -> None:
    assert told(body) == expected


def test_a_body_that_is_all_variables() -> None:
    assert told(["A=b"], "PluginSet") == [f"A={mark('b')}"]


TWICE = '{"a":1,"a":2}'

# (query, what is told of it)
TARGETS = [
    ("name=web&all=1", "name=web&all=1"),
    (
        "remote=https%3A%2F%2Fu%3Ap%40h%2Fr.git%23b",
        "remote=" + quoted(f"https://{mark('u:p')}@h/r.git#b"),
    ),
    ("fromSrc=https%3A%2F%2Fh%2Fx%3Fsig%3Ds", "fromSrc=" + quoted(f"https://h/x?{mark('sig=s')}")),
    ("fromSrc=-", "fromSrc=-"),
    ("changes=ENV+A+b", "changes=" + quoted(f"ENV {mark('A b')}")),
    ("changes=USER+a", "changes=USER+a"),
    ("buildargs=x", f"buildargs={mark('x')}"),
    ("unknown=x", f"unknown={mark('x')}"),
    ("Name=x", f"Name={mark('x')}"),
    ("unknown=", "unknown="),
    ("t=https%3A%2F%2Fu%3Ap%40h%2Fr", "t=" + quoted(f"https://{mark('u:p')}@h/r")),
    ("filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D", "filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"),
    ("t=a%2F%2Fb%40c%40d%2F%2Fe+f%40g%2F%2F%40", "t=" + quoted(f"a//{mark('b@c')}@d//e f@g//@")),
    ("buildargs=%7B%22a%22%3A1%2C%22a%22%3A2%7D", f"buildargs={mark(TWICE)}"),
]


@pytest.mark.parametrize(("query", "expected"), TARGETS)
def test_targets(query: str, expected: str) -> None:
    assert REDACTOR.target(f"/v1.41/build?{query}") == f"/v1.41/build?{expected}"


def test_build_arguments_keep_their_names() -> None:
    arguments = {"USER": "me", "TOKEN": "t", "UNSET": None}
    target = REDACTOR.target(f"/build?t=a&buildargs={quote_plus(json.dumps(arguments))}")
    assert json.loads(parse_qs(target.partition("?")[2])["buildargs"][0]) == {
        "USER": mark("me"),
        "TOKEN": mark("t"),
        "UNSET": None,
    }


@pytest.mark.parametrize("name", ["buildargs", "outputs"])
@pytest.mark.parametrize("depth", [200, 900, 10_000])
def test_a_parameter_that_is_nested_deeply_is_a_secret(name: str, depth: int) -> None:
    value = '[{"Attrs":{"a":' + "[" * depth + "]" * depth + "}}]"
    assert REDACTOR.target(f"/build?{name}={quote_plus(value)}") == f"/build?{name}={mark(value)}"


@pytest.mark.parametrize("text", ["@" + "/" * 250_000, "//" * 125_000, "//@" * 80_000, " //a@" * 50_000])
def test_a_target_takes_no_longer_than_it_is_long(text: str) -> None:
    # Where each slash begins a search to the end, it takes minutes, in which nobody else is served.
    began_at = time.process_time()
    REDACTOR.target(f"/build?t={quote_plus(text, safe='/@')}")
    REDACTOR.body("ContainerCreate", {"Labels": {"a": text}})
    assert time.process_time() - began_at < 5


def test_a_target_without_a_query_is_the_same() -> None:
    assert REDACTOR.target("/v1.41/containers/a@b/json") == "/v1.41/containers/a@b/json"


def test_equal_secrets_have_equal_marks_by_one_key_only() -> None:
    assert mark("a") == mark("a") != mark("b")
    assert mark_by(b"other" * 4)(b"a") != mark("a")
    assert mark("a").startswith(MARK)


def test_what_an_answer_repeats_is_marked() -> None:
    hidden = REDACTOR.body("ContainerCreate", {"Env": ["A=tops3cret"]}).hidden
    answer = {"message": "invalid environment variable: A=tops3cret"}
    assert REDACTOR.answer(answer, hidden) == {"message": mark("invalid environment variable: A=tops3cret")}
    assert REDACTOR.answer(answer, frozenset()) == answer


def test_every_name_of_a_body_is_in_the_table() -> None:
    names = {name for fields in load_bodies().types.values() for name in fields}
    missing = names - {*ROWS.known, *ROWS.fields}
    assert not missing, "say in secrets.json whether these are secrets"


def test_the_table_names_each_once_and_nothing_that_there_is_not() -> None:
    assert not {*ROWS.known} & {*ROWS.fields}
    assert not {*ROWS.known_parameters} & {*ROWS.parameters}
    assert {*ROWS.fields.values(), *ROWS.parameters.values(), *ROWS.operations.values()} <= TREATMENTS
    everything = {*ROWS.known, *ROWS.fields}
    assert all(part in everything for name in ROWS.fields if "." in name for part in name.split("."))


@pytest.mark.parametrize("operation_id", OPERATIONS)
@given(GENERATED)
def test_no_secret_of_a_body_is_told(operation_id: str, secret: str) -> None:
    for body in SHAPES[operation_id](secret):
        text = orjson.dumps(told(body, operation_id)).decode()
        assert not [form for form in in_any_form(secret) if form in text], body


@given(st.sampled_from(QUERIES), GENERATED)
def test_no_secret_of_a_query_is_told(query: Any, secret: str) -> None:
    target = REDACTOR.target(parse_target("POST", f"/v1.41/build?{query(secret)}").canonical)
    assert not [form for form in in_any_form(secret) if form in target]


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(JSON)
def test_whatever_a_body_is_it_has_one_form_for_all_writers(body: Any) -> None:
    event = told(body)
    written = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert orjson.dumps(event, option=orjson.OPT_SORT_KEYS).decode() == written


def test_the_page_is_made_of_the_table() -> None:
    """After a change: .venv/bin/python docs/make_redaction.py"""
    docs = Path(__file__).parent.parent / "docs"
    script = runpy.run_path(str(docs / "make_redaction.py"))
    assert (docs / "redaction.md").read_text(encoding="utf-8") == script["render"]()
    assert set(script["MEANINGS"]) == TREATMENTS
