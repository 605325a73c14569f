"""Bodies: rows of what is read and refused, what a real Go decoder made of generated bodies, and laws.

`cases/bodies_go.jsonl` was recorded: what Go 1.19's encoding/json read into the types of the engine 20.10, without its zeros.
`go` in the other two files is what the same decoder says of the row: where it reads and we refuse, we are the stricter one.
"""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sockproxy.data import load_bodies, load_operations
from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.payload import Bodies, Payload, UnknownFields
from sockproxy.judging.payload.text import DEPTH_MAX, VALUES_MAX, Misread, parse_json
from sockproxy.judging.payload.types import Types, fold

CASES = Path(__file__).parent / "cases"
ROWS = load_bodies()
BODIES = Bodies(*ROWS)
READ = json.loads((CASES / "bodies_read.json").read_text())
REFUSED = json.loads((CASES / "bodies_refused.json").read_text())
RECORDED = [json.loads(line) for line in (CASES / "bodies_go.jsonl").read_text().splitlines()]

CREATE_FIELDS = {**ROWS.types["Config"], **ROWS.types["HostConfig"], **ROWS.types["ContainerCreateRequest"]}
STRUCTS = {**ROWS.types, "ContainerCreateRequest": CREATE_FIELDS}

STRICTER = re.compile(
    r"stands twice in one object|is not UTF-8|is not base64|is null, not a|is not written as a whole number"
    r"|has more than \d+ elements|is not JSON: (unexpected content|number is infinity|no low|invalid (low|high))"
    r"|that every engine knows and that is not null"
)
"""What we refuse although Go reads it: it reads it in a way that another reader, or another engine, would not."""

LAXER = re.compile(r"cannot unmarshal number -0 |^EOF$")
"""What we read although this Go refuses it: -0 is 0, and no body is no body."""


def sent(row: dict[str, Any]) -> bytes:
    return bytes.fromhex(row["hex"]) if "hex" in row else str(row["body"]).encode()


def read(operation: str, body: bytes | str, unknown: UnknownFields = UnknownFields.DENY) -> Payload:
    return BODIES.read_payload(operation, None, body if isinstance(body, bytes) else body.encode(), unknown)


def refusal(operation: str, body: bytes | str, unknown: UnknownFields = UnknownFields.DENY) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        read(operation, body, unknown)
    return raised.value


@pytest.mark.parametrize("row", READ, ids=lambda row: row["id"])
def test_read(row: dict[str, Any]) -> None:
    payload = read(row["operation"], sent(row))
    assert payload.canonical.decode() == row["canonical"]
    assert row["go"] == "reads" or LAXER.search(row["go"])


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["id"])
def test_refused(row: dict[str, Any]) -> None:
    error = refusal(row["operation"], sent(row))
    assert (error.status, error.reason) == (400, row["reason"])
    assert error.detail.startswith(row["detail"])


def test_the_refused_are_many_and_none_is_also_read() -> None:
    assert len(REFUSED) > 100
    assert not {row["id"] for row in READ} & {row["id"] for row in REFUSED}


@pytest.mark.parametrize("at", range(0, len(RECORDED), 100))
def test_what_is_read_is_what_go_reads(at: int) -> None:
    for row in RECORDED[at : at + 100]:
        try:
            payload = read(row["operation"], sent(row), UnknownFields.DROP)
        except BadRequest as error:
            assert "error" in row or STRICTER.search(error.detail), row
        else:
            if "error" in row:
                assert LAXER.search(row["error"]), row
            else:
                assert without_zeros(payload.data) == row["read"], row


def without_zeros(value: Any) -> Any:
    """As the recording was made: Go writes zeros that are absent here, and `omitempty` hides some that are not."""
    if isinstance(value, dict):
        inner = {name: without_zeros(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one not in (None, "", 0, [], {})}
    if isinstance(value, list):
        elements = [without_zeros(one) for one in value]
        while elements and type(elements[-1]) in (int, float) and elements[-1] == 0:
            elements.pop()
        return elements
    return value


def test_the_recording_has_both() -> None:
    assert sum("read" in row for row in RECORDED) > 400
    assert sum("error" in row for row in RECORDED) > 100


# Shape: what a policy finds


def test_a_policy_finds_the_names_of_the_documents() -> None:
    payload = read(
        "ContainerCreate",
        '{"image":"busybox","Cmd":"sh","Tty":null,"hoſtconfig":{"PRIVILEGED":true,"Binds":["/:/h"],"Memory":null}}',
    )
    assert payload.data == {
        "Image": "busybox",
        "Cmd": ["sh"],
        "HostConfig": {"Privileged": True, "Binds": ["/:/h"]},
    }


def test_a_host_config_is_found_at_one_place() -> None:
    nested = read("ContainerCreate", '{"Image":"i","HostConfig":{"Privileged":true}}')
    flat = read("ContainerCreate", '{"Image":"i","Privileged":true}')
    start = read("ContainerStart", '{"Privileged":true}')
    assert nested == flat
    assert start.data == {"HostConfig": {"Privileged": True}}


@pytest.mark.parametrize("body", ["", " \n", "null"])
def test_no_body_is_nothing(body: str) -> None:
    assert read("ContainerCreate", body) == Payload({}, body.strip().encode())
    assert read("PluginSet", body) == Payload([], body.strip().encode())


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"1234567"])
def test_a_start_since_1_24_has_no_body(body: bytes) -> None:
    assert BODIES.read_payload("ContainerStart", ApiVersion(1, 24), body) == Payload({}, b"")


@pytest.mark.parametrize("minor, is_read", [(12, True), (23, True), (24, False), (41, False)])
def test_a_start_has_a_host_config_until_1_23(minor: int, is_read: bool) -> None:
    body = b'{"Privileged":true}'
    if is_read:
        assert BODIES.read_payload("ContainerStart", ApiVersion(1, minor), body).data["HostConfig"]
    else:
        with pytest.raises(BadRequest, match=re.escape("has no body after API 1.23")):
            BODIES.read_payload("ContainerStart", ApiVersion(1, minor), body)


def test_a_start_that_resets_is_not_shortened_to_one_that_does_not() -> None:
    # The engine ignores a start's body of up to seven bytes.
    for body in ('{"Binds":null}', '{"HostConfig":{}}', '{"HostConfig":{"Binds":null}}'):
        assert len(read("ContainerStart", body).canonical) > 7


def test_an_operation_without_json_is_a_fault_of_ours() -> None:
    with pytest.raises(LookupError):
        read("ContainerStop", "{}")


# Unknown fields

UNKNOWN = '{"Image":"i","Surprise":{"b":[1,null,"x"]},"HostConfig":{"Also":1.5,"Binds":[]}}'


def test_unknown_fields_are_denied_dropped_or_passed() -> None:
    error = refusal("ContainerCreate", UNKNOWN)
    assert (error.reason, error.detail) == (
        BadRequestReason.UNKNOWN_FIELD,
        "ContainerCreate: Surprise is no field that the engine's API knows",
    )
    assert read("ContainerCreate", UNKNOWN, UnknownFields.DROP).data == {"Image": "i", "HostConfig": {"Binds": []}}
    assert read("ContainerCreate", UNKNOWN, UnknownFields.PASS).canonical.decode() == UNKNOWN


@pytest.mark.parametrize("names", [("New", "new"), ("New", "NEW"), ("newſ", "news"), ("Neu\u212a", "neuk")])
def test_an_unknown_field_passes_in_one_spelling_only(names: tuple[str, str]) -> None:
    body = json.dumps({"Image": "i", names[0]: 1, names[1]: 2})
    assert "in two spellings" in refusal("ContainerCreate", body, UnknownFields.PASS).detail
    assert read("ContainerCreate", body, UnknownFields.DROP).data == {"Image": "i"}


@pytest.mark.parametrize("operation, names", ROWS.ignored.items())
def test_what_dockerode_adds_is_dropped_always(operation: str, names: list[str]) -> None:
    for mode in UnknownFields:
        assert read(operation, json.dumps(dict.fromkeys(names, "x")), mode) == Payload({}, b"{}")


# Limits


def test_depth() -> None:
    def nested(levels: int) -> bytes:
        return b'{"X":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"

    assert read("ContainerCreate", nested(DEPTH_MAX), UnknownFields.DROP).data == {}
    for levels in (DEPTH_MAX + 1, 200, 300, 2000):
        assert refusal("ContainerCreate", nested(levels), UnknownFields.DROP).reason is BadRequestReason.BODY


def test_depth_is_not_the_number_of_brackets() -> None:
    body = json.dumps({"HostConfig": {"Devices": [{"PathOnHost": "/dev/null"}] * DEPTH_MAX}})
    assert len(read("ContainerCreate", body).data["HostConfig"]["Devices"]) == DEPTH_MAX


def test_values() -> None:
    def many(commas: int) -> bytes:
        return b'["' + b'","'.join([b""] * (commas + 1)) + b'"]'

    assert len(read("PluginSet", many(VALUES_MAX)).data) == VALUES_MAX + 1
    assert refusal("PluginSet", many(VALUES_MAX + 1)).detail == f"PluginSet: the body has more than {VALUES_MAX} values"


# The table


def test_every_body_is_of_an_operation_that_has_one() -> None:
    operations = load_operations()
    assert set(ROWS.operations) <= set(operations)
    assert {operations[name]["access"] for name in ROWS.operations} <= {"write", "tunnel"}
    assert {operations[name]["method"] for name in ROWS.operations} == {"POST", "PUT"}
    assert BODIES.operations == set(ROWS.operations)


def test_no_two_fields_of_a_struct_are_one_to_go() -> None:
    for name, fields in STRUCTS.items():
        assert len({fold(field) for field in fields}) == len(fields), name
        assert all(field.isascii() for field in fields), name


@pytest.mark.parametrize(
    "operation, path, type_, first, last",
    [
        ("ContainerCreate", "HostConfig.Privileged", "bool", "1.21", None),
        ("ContainerCreate", "HostConfig.Mounts", "[]Mount", "1.25", None),
        ("ContainerCreate", "HostConfig.Mounts.BindOptions.ReadOnlyNonRecursive", "bool", "1.44", None),
        ("ContainerCreate", "HostConfig.Annotations", "map[string]string", "1.43", None),
        ("ContainerCreate", "Image", "string", "1.21", None),
        ("ContainerCreate", "MacAddress", "string", "1.21", "1.51"),
        ("PluginPull", "Value", "[]string", "1.25", None),
        ("ServiceCreate", "TaskTemplate.ContainerSpec.Privileges.Seccomp.Mode", "string", "1.44", None),
    ],
)
def test_a_field_is_found_by_its_path(operation: str, path: str, type_: str, first: str, last: str | None) -> None:
    field = BODIES.field(operation, path.split("."))
    assert field == (type_, ApiVersion.parse(first), None if last is None else ApiVersion.parse(last))


@pytest.mark.parametrize("path", ["Privileged", "HostConfig.privileged", "HostConfig.Binds.x", "Labels.a", "X", "X.Y"])
def test_no_field_of_a_create(path: str) -> None:
    assert BODIES.field("ContainerCreate", path.split(".")) is None


def test_versions_of_fields_are_in_order() -> None:
    for fields in ROWS.types.values():
        for _, first, last in fields.values():
            assert (
                ApiVersion(1, 21) <= ApiVersion.parse(first) <= (ApiVersion.parse(last or "1.55")) <= ApiVersion(1, 55)
            )


def test_what_is_ignored_is_no_field() -> None:
    for operation, names in ROWS.ignored.items():
        fields = STRUCTS[ROWS.operations[operation]]
        assert {fold(name) for name in names}.isdisjoint(map(fold, fields))


def test_only_two_characters_beyond_ascii_fold_into_it() -> None:
    folding = [chr(code) for code in range(128, sys.maxunicode + 1) if fold(chr(code)).isascii()]
    assert folding == ["ſ", "\u212a"]


# Laws


def bodies_of(type_: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a type as a client may send them, null included."""
    if type_.startswith("*"):
        return bodies_of(type_[1:], depth)
    if type_.startswith("map[string]"):
        return st.dictionaries(texts, st.none() | bodies_of(type_.removeprefix("map[string]"), depth + 1), max_size=2)
    if (sequence := re.fullmatch(r"\[([0-9]*)\](.+)", type_)) is not None:
        return st.lists(bodies_of(sequence[2], depth + 1), max_size=2)
    if type_ in STRUCTS or type_ == "struct{}":
        return structs_of(STRUCTS.get(type_, {}), depth)
    return LEAVES[type_]


def structs_of(fields: dict[str, Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    if not fields:
        return st.just({})
    names = st.lists(st.sampled_from(sorted(fields)), max_size=4 if depth < 2 else 2, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {name: st.none() | st.deferred(lambda name=name: bodies_of(fields[name][0], depth + 1)) for name in chosen}  # type: ignore[misc]
        )
    )


texts = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(["a:b", "null", "", "ſ", "host"])
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "string": texts,
    "strings": texts | st.lists(texts, max_size=2),
    "bytes": st.sampled_from(["", "YQ==", "YWJj"]),
    "float32": st.floats(-1e30, 1e30) | st.integers(0, 5),
    **{f"int{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (32, 64)},
    **{f"uint{bits}": st.integers(0, 2**bits - 1) for bits in (16, 32, 64)},
    "int": st.integers(-(2**63), 2**63 - 1),
    "uint": st.integers(0, 2**64 - 1),
}

requests = st.sampled_from(sorted(ROWS.operations)).flatmap(
    lambda operation: st.tuples(st.just(operation), bodies_of(ROWS.operations[operation]))
)
"""(operation, body as Python value); a few have nothing but null in a Config."""


def read_or_skip(operation: str, body: bytes, mode: UnknownFields = UnknownFields.DENY) -> Payload:
    try:
        return read(operation, body, mode)
    except BadRequest as error:
        assume("every engine knows" not in error.detail)
        raise


@given(requests)
def test_the_canonical_form_is_a_fixed_point(request: tuple[str, Any]) -> None:
    operation, body = request
    payload = read_or_skip(operation, json.dumps(body).encode())
    assert read(operation, payload.canonical) == payload
    assert payload.canonical == b"" or json.loads(payload.canonical) == payload.data


ZEROS = (False, 0, 0.0, -0.0, "", [], {}, [None], [""], {"k": None}, {"k": ""})


@pytest.mark.parametrize("struct", sorted(STRUCTS))
def test_a_zero_is_taken_for_no_other_type(struct: str) -> None:
    types = Types(STRUCTS, UnknownFields.DENY)
    for name, (type_, _, _) in STRUCTS[struct].items():
        for zero in ZEROS:
            alone, within = outcome(types.reader(type_), zero), outcome(types.reader(struct), {name: zero})
            told = None if alone is None else json.dumps({name: json.loads(alone)})
            assert within == told, (name, type_, zero)


def outcome(read: Callable[[Any], Any], value: Any) -> str | None:
    """What a reader makes of a value, as text, since to Python False is 0 and 0.0; None where it refuses."""
    try:
        return json.dumps(read(copy.deepcopy(value)))
    except Misread:
        return None


@given(requests)
def test_what_was_sent_is_in_the_canonical_form(request: tuple[str, Any]) -> None:
    operation, body = request
    payload = read_or_skip(operation, json.dumps(body).encode())
    assume(operation not in ("ContainerCreate", "ContainerStart"))  # whose two places become one
    assert payload.data == naively_canonical(body, ROWS.operations[operation])


def naively_canonical(value: Any, type_: str) -> Any:
    if type_.startswith("*"):
        return naively_canonical(value, type_[1:])
    if type_ in STRUCTS:
        fields = STRUCTS[type_]
        return {name: naively_canonical(one, fields[name][0]) for name, one in value.items() if one is not None}
    if type_.startswith("map[string]"):
        inner = type_.removeprefix("map[string]")
        zero = {"string": "", "struct{}": {}}.get(inner)
        return {key: zero if one is None else naively_canonical(one, inner) for key, one in value.items()}
    if isinstance(value, list) and type_ != "strings":
        return [naively_canonical(one, type_.partition("]")[2]) for one in value]
    return [value] if type_ == "strings" and isinstance(value, str) else value


SPELLINGS: tuple[Callable[[str], str], ...] = (
    str.lower,
    str.upper,
    str.swapcase,
    lambda name: name.replace("s", "ſ").replace("S", "ſ"),
    lambda name: name.replace("k", "\u212a").replace("K", "\u212a"),
)


@given(requests, st.sampled_from(SPELLINGS), st.booleans())
def test_spelling_and_blanks_change_nothing(request: tuple[str, Any], spell: Callable[[str], str], ascii: bool) -> None:
    operation, body = request
    plain = read_or_skip(operation, json.dumps(body).encode())
    respelt = respell(body, ROWS.operations[operation], spell)
    assert read(operation, json.dumps(respelt, indent=1, ensure_ascii=ascii)) == plain


def respell(value: Any, type_: str, spell: Callable[[str], str]) -> Any:
    if type_.startswith("*"):
        return respell(value, type_[1:], spell)
    if isinstance(value, dict) and type_.startswith("map[string]"):
        return {key: respell(one, type_.removeprefix("map[string]"), spell) for key, one in value.items()}
    if isinstance(value, dict) and type_ in STRUCTS:
        fields = STRUCTS[type_]
        return {spell(name): respell(one, fields[name][0], spell) for name, one in value.items()}
    if isinstance(value, list) and type_.startswith("["):
        return [respell(one, type_.partition("]")[2], spell) for one in value]
    return value


@given(requests, st.sampled_from(["Xtra", "x-new", "Prıvileged"]), st.none() | texts | st.lists(texts), st.data())
def test_an_unknown_field_anywhere(request: tuple[str, Any], name: str, value: Any, data: st.DataObject) -> None:
    operation, body = request
    plain = read_or_skip(operation, json.dumps(body).encode())
    places = list(structs_in(body, ROWS.operations[operation]))
    assume(places)
    data.draw(st.sampled_from(places))[name] = value
    changed = json.dumps(body)
    assert read_or_skip(operation, changed.encode(), UnknownFields.DROP) == plain
    assert refusal(operation, changed).reason is BadRequestReason.UNKNOWN_FIELD
    passed = read(operation, changed, UnknownFields.PASS)
    assert read(operation, passed.canonical, UnknownFields.PASS) == passed
    assert read(operation, passed.canonical, UnknownFields.DROP).data == plain.data


def structs_in(value: Any, type_: str) -> Iterator[dict[str, Any]]:
    if type_.startswith("*"):
        yield from structs_in(value, type_[1:])
    elif isinstance(value, dict) and type_.startswith("map[string]"):
        for one in value.values():
            yield from structs_in(one, type_.removeprefix("map[string]"))
    elif isinstance(value, dict) and type_ in STRUCTS:
        yield value
        for name, one in list(value.items()):
            yield from structs_in(one, STRUCTS[type_][name][0])
    elif isinstance(value, list) and type_.startswith("["):
        for one in value:
            yield from structs_in(one, type_.partition("]")[2])


Pairs = list[tuple[str, Any]]
documents: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([":", "a:b", "\\u003a", ",", "{", "\\"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(st.sampled_from(["a", "b", ":", "a:"]), inner), max_size=3).map(tuple)
    ),
    max_leaves=8,
)
"""JSON documents in which an object is a tuple of pairs, so that a name may stand twice."""


def written(value: Any, escape: bool) -> str:
    if isinstance(value, tuple):
        return "{" + ",".join(f"{written(name, escape)}:{written(one, escape)}" for name, one in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(one, escape) for one in value) + "]"
    if isinstance(value, str) and escape:
        return '"' + "".join(f"\\u{ord(character):04x}" for character in value) + '"'
    return json.dumps(value)


def has_twice(value: Any) -> bool:
    if isinstance(value, tuple):
        return len({name for name, _ in value}) < len(value) or any(has_twice(one) for _, one in value)
    return isinstance(value, list) and any(map(has_twice, value))


@given(documents, st.booleans())
@example((("a", (("b", 1), ("b", 2))), (":", ":")), True)
def test_a_name_that_stands_twice_is_found_anywhere(document: Any, escape: bool) -> None:
    text = written(document, escape).encode()
    if has_twice(document):
        with pytest.raises(Misread, match="stands twice"):
            parse_json(text)
    else:
        assert parse_json(text) == json.loads(text)


@given(
    st.sampled_from(sorted(ROWS.operations)),
    st.binary(max_size=40) | st.text(st.characters(codec="utf-8"), max_size=40).map(str.encode),
)
@example("ContainerCreate", b"\xff")
def test_any_bytes_are_read_or_refused(operation: str, body: bytes) -> None:
    try:
        read(operation, body)
    except BadRequest as error:
        assert error.status == 400
        assert error.detail.startswith(f"{operation}: ")
        assert error.detail.isprintable()


def test_fuzz_target_finds_nothing() -> None:
    target = Path(__file__).parent / "fuzz" / "fuzz_payload.py"
    run = subprocess.run([sys.executable, target, "--runs", "3000"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert {f"{mode}: {what}" for mode in UnknownFields for what in ("read", "body")} <= {
        line.split(maxsplit=1)[1] for line in run.stdout.splitlines()
    }
