"""`expression`: CEL as its specification has it, what is refused when it is read, what it may cost; nothing but true allows.

Every case goes through `judge`, as requests do; the rows are in tests/cases/expressions.yaml.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from sockproxy.data import load_bodies, load_operations
from sockproxy.errors import BadRequest
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.compiling import compile_policy
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.judge import Judgement, judge
from sockproxy.judging.payload import Bodies, read_query
from sockproxy.judging.policy import Effect, Policy, Requirement, Rule
from sockproxy.judging.requirements.expression import KIND, make_expression
from sockproxy.judging.requirements.expression.cost import COST_MAX, evaluate, regex_size
from sockproxy.judging.requirements.expression.program import compile_expression
from sockproxy.judging.requirements.expression.tree import read_tree
from sockproxy.judging.requirements.facts import Facts, Unmet

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "expressions.yaml").read_text(encoding="utf-8"))
BODIES = Bodies(*load_bodies())
CATALOGUE = Catalogue(load_operations())
PRINCIPAL = identify(Peer("unix:///run/p.sock", "unix", uid=1000, gid=100))
CREATE = "/v1.41/containers/create?name=ci-1"


def policy(require: dict[str, Any], *operations: str) -> Policy:
    requirements = tuple(
        Requirement(key, value, KIND.make(value, ()), KIND.reads_body(value)) for key, value in require.items()
    )
    return compile_policy("p", CATALOGUE, allow=[Rule("p/allow[0]", (), None, frozenset(operations), requirements)])


def ask(expression: str, body: Any = None, *, method: str = "POST", target: str = CREATE) -> Judgement:
    operation = CATALOGUE.classify(method, target.partition("?")[0].removeprefix("/v1.41"), None).operation
    assert operation is not None
    raw = None if body is None else json.dumps(body).encode()
    asked = policy({"expression": expression}, operation.operation_id)
    return judge(CATALOGUE, asked, PRINCIPAL, method, target, content_length=len(raw or b""), body=raw, bodies=BODIES)


@pytest.mark.parametrize(("expression", "said"), CASES["asked"])
def test_what_is_made_of_it(expression: str, said: str | None) -> None:
    decision = ask(expression, CASES["body"]).decision
    assert decision.effect is (Effect.ALLOW if said is None else Effect.DENY)
    if said is not None:
        assert decision.detail.startswith('expression "')
        assert decision.detail.endswith(f'" {said}')


@pytest.mark.parametrize(("expression", "said"), CASES["refused"])
def test_what_is_refused(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]") as refused:
        make_expression(expression)
    assert str(refused.value).startswith(said)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["body.Tty\0 || true", "body.Image == '\ud800'"])
def test_text_that_the_library_would_cut(text: str) -> None:
    with pytest.raises(ValueError, match="has a character that no text has"):
        make_expression(text)


def test_an_operation_without_a_body_is_asked_the_rest() -> None:
    delete = {"method": "DELETE", "target": "/v1.41/containers/ci-1?force=1"}
    assert ask("resource.kind == 'container' && resource.name == 'ci-1'", **delete).decision.effect is Effect.ALLOW
    assert ask("query.force == ['0']", **delete).decision.detail == "expression \"query.force == ['0']\" is false"
    assert ask("body == {} && operation.access == 'write'", **delete).decision.effect is Effect.ALLOW
    unversioned = ask("!has(request.api_version)", method="GET", target="/info")
    assert unversioned.decision.effect is Effect.ALLOW


# What is said of values


@pytest.mark.parametrize(
    "expression",
    [
        *("int(body.Env[0]) == 1", "body.Labels[body.Env[0]] == ''", "body.Env[0] + 1 == 2", "body.Env[0].A == 1"),
        *("body.Env[0] > 1", "body.Env[0]", "body.Env[0].all(x, true)", "bool(body.Env[0])", "body.Env[0] == ''"),
        *("body.Env[7] == body.Env[0]", "body.Env[0] in body.Env[0]", "body.Env.map(e, e)[0]", "-body.Env[0] == 1"),
    ],
)
def test_values_stay_secret(expression: str) -> None:
    decision = ask(expression, {"Env": ["hunter2"], "Labels": {"a": "b"}}).decision
    assert decision.effect is Effect.DENY
    assert "hunter2" not in decision.detail


def test_a_long_expression_is_told_in_one_line() -> None:
    detail = ask("body.Tty &&\n" + "  body.Tty &&\n" * 20 + "  body.Tty", {"Tty": False}).decision.detail
    assert detail == 'expression "' + ("body.Tty && " * 7)[:80] + '..." is false'


# Hostile values


def facts(body: Any, query: str = "") -> Facts:
    return Facts("ContainerCreate", None, PRINCIPAL, "", read_query(query), body)


def asked(expression: str, body: Any, query: str = "") -> Unmet | None:
    return make_expression(expression)(facts(body, query))


@pytest.mark.parametrize("at", ["Image", "Env"])
def test_a_text_does_not_end_at_a_nul(at: str) -> None:
    """The library would take it for the end, and the engine would not."""
    body = {"Image": "ok", "Env": ["ok"]} | {at: "ok\0evil" if at == "Image" else ["ok\0evil"]}
    assert asked("body.Image == 'ok' && body.Env == ['ok']", {"Image": "ok", "Env": ["ok"]}) is None
    assert "NUL" in str(asked("body.Image == 'ok' && body.Env == ['ok']", body))
    assert "NUL" in str(asked("body.Labels.all(k, k == 'ok')", {"Labels": {"ok\0evil": ""}}))
    assert "NUL" in str(asked("query.t == ['ok']", {}, "t=ok%00evil"))


def test_what_is_not_mentioned_does_not_count() -> None:
    assert asked("body.Image == 'ok'", {"Image": "ok", "Cmd": ["\0"], "Env": ["x"] * 20_000}) is None


@pytest.mark.parametrize(
    ("expression", "body", "is_met"),
    [
        ("body.A == 1", {"A": 2**63}, False),
        ("body.A == 18446744073709551615u", {"A": 2**64 - 1}, True),
        ("body.A > 0", {"A": 2**64}, None),
        ("body.A > 0", {"A": 10**400}, None),
        ("body.A == body.A", {"A": float("nan")}, None),
        ("body.A > 1e308", {"A": float("inf")}, None),
        ("body.A == 'x'", {"A": "\ud800"}, None),
        ("body.A", {"A": {}}, False),
        ("has(body.A)", [], None),
        ("has(body.A)", None, None),
    ],
)
def test_values_that_no_body_can_have_are_met_or_deny(expression: str, body: Any, is_met: bool | None) -> None:
    """Where it is None, either is right, but for a crash; what is raised denies."""
    try:
        outcome = asked(expression, body)
    except Exception:  # noqa: BLE001 - whatever is raised denies
        assert is_met is None
        return
    assert is_met is None or (outcome is None) is is_met


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"A": value}
    return value


def test_depth_is_no_matter() -> None:
    assert asked("body == body && has(body.A.A.A)", nested(100)) is None


# What it may cost

LISTS = {name: list(range(5_000)) for name in "AB"}
DEAR = [
    ("body.A.all(x, body.B.exists(y, x == y))", LISTS),
    ("body.A.all(x, body.A.all(y, x <= 5000))", LISTS),
    ("body.A.map(x, x).size() > 0", LISTS),
    ("body.A.filter(x, x > 0).size() > 0", LISTS),
    ("body.A.all(x, x in body.B)", LISTS),
    ("body.A.exists(x, body.A + body.B == [])", LISTS),
    ("body.A.exists(x, body.A == body.B)", LISTS),
    ("body.A.contains(body.B)", {"A": "a" * 500_000, "B": "a" * 250_000 + "b"}),
    ("body.A.exists(x, body.B + x == '')", {"A": ["a"] * 5_000, "B": "b" * 100_000}),
    ("body.A.all(x, !x.matches('b'))", {"A": ["a"] * 5_000}),
    ("body.B.matches('(a|b)*a(a|b){200}c')", {"B": "ab" * 100_000}),
    ("body.A.exists(x, size(body.B) == x)", {"A": LISTS["A"], "B": "ä" * 100_000}),
    ("size(body.A.map(x, body.A)) > 1", LISTS),
]


@pytest.mark.parametrize(("expression", "body"), DEAR)
def test_what_would_cost_too_much_is_not_begun(expression: str, body: Any) -> None:
    """Each would take from 50 ms to minutes; the bounds beside them are what `test_ordinary...` asks for."""
    assert str(asked(expression, body)).endswith("cannot be evaluated: it costs too much for values of this size")


def test_the_library_ends_by_itself() -> None:
    """The second line: it counts the turns of macros, whatever we made of their cost."""
    unmet = asked("body.A.all(x, x >= 0)", {"A": list(range(10_001))})
    assert str(unmet).endswith("cannot be evaluated: it goes over too many elements")
    assert asked("body.A.all(x, x >= 0)", {"A": list(range(9_999))}) is None


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        ("body.A.all(x, x.startsWith('/srv/'))", {"A": ["/srv/a:/a"] * 1_000}),
        ("body.A.all(x, x.matches('^/srv/[a-z]+:/'))", {"A": ["/srv/a:/a"] * 500}),
        ("body.A.all(x, x in ['NET_ADMIN', 'NET_RAW', 'CHOWN'])", {"A": ["CHOWN"] * 1_000}),
        ("body.A.all(x, body.B.exists(y, x == y))", {"A": ["a"] * 80, "B": ["b"] * 79 + ["a"]}),
        ("body.A.map(x, x).size() > 0", {"A": list(range(240))}),
        ("body.A.all(k, body.A[k] != 'x')", {"A": {f"com.example.label{i}": "value" for i in range(80)}}),
        ("body.A.matches('^[a-z./]+:[0-9.]+$')", {"A": "registry.example.com/" + "a" * 20_000 + ":1.2"}),
        ("!body.A.contains('x')", {"A": "a" * 900_000}),
    ],
)
def test_ordinary_and_rather_large_values_are_not_too_much(expression: str, body: Any) -> None:
    assert asked(expression, body) is None


def test_elements_and_bytes_are_counted_from_above() -> None:
    expression = compile_expression("body.A.all(x, x == '')")
    assert evaluate(expression.cost, {"n": 0, "b": 0}) < evaluate(expression.cost, {"n": 10, "b": 0}) < COST_MAX
    assert expression.mentioned == {"body": {"A": {}}}


@pytest.mark.parametrize(
    ("pattern", "size"),
    [("", 1), ("abc", 4), ("a{10}", 60), ("(a{2,10}){3}", 13 * 30), ("(?i)a", 24), (r"\pL", 2_400), ("a{,5}", 30)],
)
def test_size_of_a_regex(pattern: str, size: int) -> None:
    assert regex_size(pattern) == size


MENTIONED = [
    ("body.A.B > 0 && has(query.t)", {"body": {"A": {"B": {}}}, "query": {"t": {}}}),
    ("body.A.B > 0 && body.A == {}", {"body": {"A": {}}}),
    ("body.A == {} && body.A.B > 0", {"body": {"A": {}}}),
    ("body['A'].B[0] == 1", {"body": {"A": {"B": {}}}}),
    ("body.A[body.B] == 1", {"body": {"A": {}, "B": {}}}),
    ("body.A.all(x, .body.C)", {"body": {"A": {}, "C": {}}}),
    ("body.A.all(x, x.C == body.D)", {"body": {"A": {}, "D": {}}}),
    ("size(body) > 0 && body.A", {"body": {}}),
    ("(has(body.A) ? body.A : {}) == {}", {"body": {"A": {}}}),
    ("true", {}),
]


@pytest.mark.parametrize(("expression", "mentioned"), MENTIONED)
def test_what_is_mentioned(expression: str, mentioned: Any) -> None:
    assert compile_expression(expression).mentioned == mentioned


@given(st.binary(max_size=60))
def test_any_bytes_are_a_tree_or_refused(raw: bytes) -> None:
    try:
        read_tree(raw)
    except ValueError:
        return


# When the body is read


def needs_body(expression: str, method: str, target: str) -> bool:
    operation = CATALOGUE.classify(method, target, None).operation
    assert operation is not None
    asked = policy({"expression": expression}, operation.operation_id)
    return judge(CATALOGUE, asked, PRINCIPAL, method, target, content_length=9, bodies=BODIES).needs_body


def test_a_body_is_read_where_it_is_mentioned_or_does_something_else() -> None:
    assert needs_body("body.Name == 'x'", "POST", "/networks/create")
    assert not needs_body("principal.uid == 1000", "POST", "/networks/create")
    assert not needs_body("principal.uid == 1000", "POST", "/containers/x/exec")
    # A mount may create a volume, and a start below API 1.24 a container.
    assert needs_body("principal.uid == 1000", "POST", "/containers/create")
    assert needs_body("principal.uid == 1000", "POST", "/v1.20/containers/x/start".removeprefix("/v1.20"))
    assert needs_body("principal.uid == 1000", "POST", "/services/create")


def test_a_body_that_is_not_read_goes_on_as_it_came() -> None:
    read = ask("principal.uid == 1000", {"Nmae": 1}, target="/v1.41/networks/create")
    assert (read.decision.effect, read.body) == (Effect.ALLOW, None)
    with pytest.raises(BadRequest):
        ask("principal.uid == 1000 && !has(body.Name)", {"Nmae": 1}, target="/v1.41/networks/create")


def test_what_a_request_does_as_well_is_asked_as_such() -> None:
    """The mount is a VolumeCreate, whose rule sees another operation, path and body."""
    wanted = "operation.id == 'VolumeCreate' ? body.Driver == 'nfs' && request.path == '/volumes/create' : body.Tty"
    both = policy({"expression": wanted}, "ContainerCreate", "VolumeCreate")
    outcomes = {}
    for driver in ("nfs", "other"):
        mount = {"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Name": driver}}}
        raw = json.dumps({"Tty": True, "HostConfig": {"Mounts": [mount]}}).encode()
        judged = judge(*(CATALOGUE, both, PRINCIPAL, "POST", CREATE), content_length=len(raw), body=raw, bodies=BODIES)
        outcomes[driver] = judged.decision.effect
    assert outcomes == {"nfs": Effect.ALLOW, "other": Effect.DENY}


BODIES_OF_ANOTHER_KIND = [
    ("/plugins/x/set", ["DEBUG=1"], True),
    ("/plugins/x/set", [], False),
    ("/plugins/pull?remote=x", [{"Name": "network", "Value": ["host"]}], True),
    ("/build?t=x", "an archive", True),
    ("/build?t=x", None, False),
]


@pytest.mark.parametrize(("target", "body", "is_there"), BODIES_OF_ANOTHER_KIND)
def test_a_body_that_is_no_object_is_not_taken_for_an_empty_one(target: str, body: Any, is_there: bool) -> None:
    decision = ask("body == {}", body, target=f"/v1.41{target}").decision
    assert decision.effect is (Effect.DENY if is_there else Effect.ALLOW)
    assert decision.detail.endswith("has no JSON object as its body") is is_there
    assert ask("principal.uid == 1000", body, target=f"/v1.41{target}").decision.effect is Effect.ALLOW


# Laws

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abAÄ.\n", max_size=3), inner, max_size=4),
)
SOME = [row[0] for row in CASES["asked"]] + [
    *("body.A == body.B", "body.A < body.B", "body.A in body.B", "body.A.all(x, x == body.B)", "body.A[body.B] == 1"),
    *("body.A + body.B == body.A", "string(body.A) == body.B", "body.A.map(x, x) == body.B", "body.A", "!body.A"),
]


@given(st.sampled_from(SOME), st.dictionaries(st.sampled_from(["A", "B", "Image", "HostConfig", "Cmd"]), VALUES))
def test_total(expression: str, body: Any) -> None:
    """Whatever is in a body: true or a sentence, and nothing is raised."""
    unmet = asked(expression, body)
    assert unmet is None or (unmet.field == "expression" and str(unmet).isprintable())


PIECES = [
    *(
        "body",
        ".A",
        ".all(x, ",
        ".map(x, ",
        ".exists_one(body, ",
        "x",
        "has(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        " ",
    ),
    *(
        "&&",
        "||",
        "!",
        "-",
        "+",
        "==",
        "<",
        "in",
        "?",
        "1",
        "1u",
        ".5",
        "'a'",
        "b'a'",
        "r'(a*'",
        "null",
        "true",
        "query",
    ),
    *(".matches(", "size(", "type(", "dyn(", "google.protobuf.Struct{", "'\\u0000'", "\n", "//", "ä", "`", "\\", "?."),
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=20), VALUES)
def test_any_text_is_an_expression_or_refused(text: str, value: Any) -> None:
    try:
        check = make_expression(text)
    except ValueError as error:
        assert str(error)
        return
    check(facts({"A": value}))


def equal(a: Any, b: Any) -> bool:
    """As CEL has it: true is not 1, numbers are compared by value, and what is of two types is not equal."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[name]) for name, value in a.items())
    return bool(a == b)


ORACLES: dict[str, Any] = {
    "body.A == body.B": lambda a, b: equal(a, b),
    "body.A != body.B": lambda a, b: not equal(a, b),
    "body.A in body.L": lambda a, b: any(equal(a, one) for one in [b, 1, "x"]),
    "body.L.exists(x, x == body.A)": lambda a, b: any(equal(a, one) for one in [b, 1, "x"]),
    "body.L.all(x, x == body.A)": lambda a, b: all(equal(a, one) for one in [b, 1, "x"]),
    "body.L.exists_one(x, x == body.A)": lambda a, b: sum(equal(a, one) for one in [b, 1, "x"]) == 1,
    "body.L.filter(x, x == body.A).size() == 0": lambda a, b: not any(equal(a, one) for one in [b, 1, "x"]),
    "body.L.map(x, x == body.A)[0]": lambda a, b: equal(a, b),
    "has(body.A)": lambda a, b: True,
    "has(body.C)": lambda a, b: False,
    "type(body.A) == string": lambda a, b: isinstance(a, str),
    "type(body.A) == bool ? body.A : true": lambda a, b: a if isinstance(a, bool) else True,
}


@given(st.sampled_from(sorted(ORACLES)), VALUES, VALUES)
def test_equality_and_macros_are_as_those_of_python(expression: str, a: Any, b: Any) -> None:
    body = {"A": a, "B": b, "L": [b, 1, "x"]}
    assume(b"\\u0000" not in orjson.dumps(body))
    assert (asked(expression, body) is None) is ORACLES[expression](a, b)


NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


@given(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.tuples(NUMBERS, NUMBERS) | st.tuples(TEXTS, TEXTS))
def test_order_is_as_pythons(operator: str, pair: tuple[Any, Any]) -> None:
    a, b = pair
    expected = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[operator]
    assert (asked(f"body.A {operator} body.B", {"A": a, "B": b}) is None) is expected


@given(TEXTS, TEXTS)
def test_texts_are_as_those_of_python(a: str, b: str) -> None:
    body = {"A": a, "B": b}
    outcomes = {
        "body.A.startsWith(body.B)": a.startswith(b),
        "body.A.endsWith(body.B)": a.endswith(b),
        "body.A.contains(body.B)": b in a,
        f"size(body.A) == {len(a)}": True,
        f"size(body.A + body.B) == {len(a) + len(b)}": True,
    }
    assert {expression: asked(expression, body) is None for expression in outcomes} == outcomes


# Who has none pays nothing


def test_the_library_is_imported_with_the_first_expression_only() -> None:
    code = """
import sys
from sockproxy.judging.requirements.kinds import KINDS
KINDS["images"].make(["busybox"], ())
print(*(name for name in sys.modules if "cel" in name.split(".")[-1] or ".expression." in name))
KINDS["expression"].make("body.Tty", ())
print("cel_expr_python.cel" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\nTrue\n"


def test_without_the_library_an_expression_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sockproxy.judging.requirements.expression import program

    program._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(ValueError, match="needs the library cel-expr-python, which is not installed here"):
        make_expression("body.Tty && 1 == 1")
    monkeypatch.undo()
    program._environment.cache_clear()
    make_expression("body.Tty && 1 == 1")
