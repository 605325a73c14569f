"""The query as the engine reads it."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.catalogue import parse_target
from sockproxy.judging.payload.query import JSON, Query, read_query


def query(**parameters: str) -> Query:
    return read_query(urlencode(parameters))


def test_the_first_of_equal_names_counts() -> None:
    parameters = read_query("name=a&name=b&NAME=c&t=1&t=2")
    assert parameters.first("name") == "a"
    assert parameters.first("NAME") == "c"
    assert parameters.every("t") == ("1", "2")
    assert (parameters.first("Name"), parameters.every("Name")) == ("", ())


@pytest.mark.parametrize(
    "text, values",
    [
        ("", {}),
        ("a=", {"a": ("",)}),
        ("a=b+c%2Bd", {"a": ("b c+d",)}),
        ("%61=1&a=2", {"a": ("1", "2")}),
        ("a=b%3Dc%26d", {"a": ("b=c&d",)}),
        ("a=%FF", {"a": ("\udcff",)}),
        ("=x", {"": ("x",)}),
    ],
)
def test_what_a_canonical_query_says(text: str, values: dict[str, tuple[str, ...]]) -> None:
    assert read_query(text).values == values


# 20.10's own answers are in the engine's tests; here every form that a client sends, and those that people get wrong.
FALSE = [
    "",
    "0",
    "no",
    "false",
    "none",
    "False",
    "FALSE",
    "No",
    "NONE",
    " false ",
    "\t0\n",
    "\xa0no\x85",
    "\u2028none\u3000",
]
TRUE = [
    "1",
    "true",
    "True",
    "yes",
    "off",
    "n",
    "f",
    "00",
    "-0",
    "0.0",
    "null",
    "nil",
    "disabled",
    "\x1cfalse",
    "fa lse",
    "ｎｏ",
]


@pytest.mark.parametrize("text", FALSE)
def test_off(text: str) -> None:
    assert not query(force=text).flag("force", True)


@pytest.mark.parametrize("text", TRUE)
def test_on(text: str) -> None:
    assert query(force=text).flag("force")


def test_a_flag_that_is_absent_is_off_unless_it_is_on_by_default() -> None:
    assert not query().flag("force")
    assert query().flag("pause", True)


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("filters", '{"label":{"a=b":true,"c":true}}', {"label": ["a=b", "c"]}),
        ("filters", '{"label":["a=b","c"]}', {"label": ["a=b", "c"]}),
        ("filters", '{"label":null}', {"label": []}),
        ("filters", '{"label":["a"],"name":null}', {"label": ["a"], "name": []}),
        ("filters", "{}", {}),
        ("filters", "", None),
        ("ulimits", "null", None),  # as the docker command sends it
        ("buildargs", '{"A":"1","B":null}', {"A": "1", "B": None}),
        ("labels", '{"a":"b"}', {"a": "b"}),
        ("cachefrom", '["a","b"]', ["a", "b"]),
        ("ulimits", '[{"name":"nofile","Soft":1,"Hard":2}]', [{"Name": "nofile", "Soft": 1, "Hard": 2}]),
        ("outputs", '[{"Type":"local","Attrs":{"dest":"/x"}}]', [{"Type": "local", "Attrs": {"dest": "/x"}}]),
    ],
)
def test_json_in_a_query(name: str, text: str, value: Any) -> None:
    assert query(**{name: text}).json(name) == value


@pytest.mark.parametrize(
    "name, text, detail",
    [
        (
            "filters",
            '{"label":{"a":true},"label":{"b":true}}',
            "the parameter filters.label stands twice in one object",
        ),
        ("filters", '{"label":{"a":true,"a":true}}', "the parameter filters.label.a stands twice in one object"),
        ("filters", '{"label":{"a":false}}', "the parameter filters.label.a is false, which engines read in two ways"),
        ("filters", '{"label":{"a":true},"name":["b"]}', "the parameter filters.label is an object, not a list"),
        ("filters", '{"label":"a"}', "the parameter filters.label is a string, not an object"),
        ("filters", '["label"]', "the parameter filters is a list, not an object"),
        ("filters", '{"label":["a"]} x', "the parameter filters is not JSON"),
        ("filters", "1", "the parameter filters is a number, not an object"),
        ("buildargs", '{"A":1}', "the parameter buildargs.A is a number, not a string"),
        (
            "ulimits",
            '[{"Name":"n","name":"m"}]',
            "the parameter ulimits[0].Name stands twice in one object, in two spellings",
        ),
        ("ulimits", '[{"Surprise":1}]', "the parameter ulimits[0].Surprise is no field that the engine's API knows"),
        ("cachefrom", '["a",null]', "the parameter cachefrom[1] is null, not a string"),
    ],
)
def test_json_in_a_query_that_is_refused(name: str, text: str, detail: str) -> None:
    with pytest.raises(BadRequest) as raised:
        query(**{name: text}).json(name)
    assert raised.value.reason is BadRequestReason.QUERY
    assert raised.value.detail.startswith(detail)


def test_bytes_that_are_no_text_are_refused_as_json() -> None:
    with pytest.raises(BadRequest, match="is not UTF-8"):
        read_query("filters=%7B%22%FF%22%3A%5B%5D%7D").json("filters")


def test_a_parameter_that_is_no_json_is_a_fault_of_ours() -> None:
    with pytest.raises(LookupError):
        query(name="{}").json("name")


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4))))
def test_nothing_is_lost_between_client_and_policy(pairs: list[tuple[str, str]]) -> None:
    raw = urlencode([(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in pairs])
    canonical = parse_target("GET", f"/x?{raw}").query
    got = read_query(canonical).values
    assert sum(map(len, got.values())) == len([pair for pair in raw.split("&") if pair])
    for name, value in pairs:
        assert value.encode("utf-8", "replace").decode() in got[name.encode("utf-8", "replace").decode()]


@given(
    st.sampled_from(sorted(JSON)),
    st.text(st.characters(codec="utf-8")) | st.builds(json.dumps, st.dictionaries(st.text(), st.lists(st.text()))),
)
def test_any_text_is_read_or_refused(name: str, text: str) -> None:
    try:
        query(**{name: text}).json(name)
    except BadRequest as error:
        assert error.reason is BadRequestReason.QUERY
