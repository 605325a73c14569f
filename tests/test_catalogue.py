"""The catalogue: every operation in every version, every row of the cases, and properties against naive oracles.

The oracle of `classify` is the engine's own list of routes, in the order in which dockerd 20.10 registers them (its
debug log), with the few that other versions add (`cases/engine_routes.csv`): the first that matches wins.
"""

import csv
import json
import posixpath
import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.data import load_operations
from sockproxy.errors import BadRequest
from sockproxy.judging.catalogue import (
    QUERY_PAIRS_MAX,
    UNKNOWN,
    ApiVersion,
    Catalogue,
    Operation,
    Target,
    parse_any_target,
    parse_target,
)

CASES = Path(__file__).parent / "cases"
CATALOGUE = Catalogue(load_operations())
VERSIONS = [None, *(ApiVersion(1, minor) for minor in range(14, 56))]
READ = json.loads((CASES / "targets_read.json").read_text())
REFUSED = json.loads((CASES / "targets_refused.json").read_text())


def rows(name: str) -> list[dict[str, str]]:
    with (CASES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def gorilla(route: str) -> re.Pattern[str]:
    """gorilla/mux's meaning of a route: `{name:pattern}`, and `[^/]+` where no pattern is given."""
    text = re.sub(r"\{\w+\}", "([^/]+)", route)
    return re.compile(re.sub(r"\{\w+:([^}]+)\}", r"(\1)", text))


ENGINE_ROUTES = [(row["method"], gorilla(row["route"]), row["operation_id"]) for row in rows("engine_routes.csv")]


def classify_naively(method: str, path: str) -> tuple[str, str]:
    for route_method, pattern, operation_id in ENGINE_ROUTES:
        if route_method == method and (match := pattern.fullmatch(path)):
            return operation_id, (match.groups() or ("",))[0] if operation_id else ""
    return "", ""


def classify(method: str, path: str, version: ApiVersion | None = None) -> tuple[str, str]:
    classified = CATALOGUE.classify(method, path, version)
    return classified.operation.operation_id if classified.operation else "", classified.resource_name


# Names that are words of other routes among them. (A plugin called "privileges" has no path of its own.)
NAMES = ("x", "4f5b0f4b1f3e", "a.b-c_d", "json", "create", "prune", "checkpoints")


# --- every operation, every version


def test_there_are_115_operations() -> None:
    assert len(CATALOGUE.operations) == 115


@pytest.mark.parametrize("operation", CATALOGUE.operations.values(), ids=lambda operation: operation.operation_id)
def test_every_operation_in_every_version(operation: Operation) -> None:
    for name in NAMES:
        path = re.sub(r"\{\w+\}", name, operation.path)
        for version in VERSIONS:
            classified = CATALOGUE.classify(operation.method, path, version)
            assert classified.operation is operation
            assert classified.in_version == (
                version is None
                or (operation.first_api <= version and (operation.last_api is None or version <= operation.last_api))
            )


def test_what_each_version_brought_and_took() -> None:
    """Held against a list of its own, so that no version moves unnoticed."""
    for row in rows("operations_by_version.csv"):
        version = ApiVersion.parse(row["api_version"])
        before = ApiVersion(version.major, version.minor - 1)
        operations = CATALOGUE.operations.values()
        now = {operation.operation_id for operation in operations if operation.in_version(version)}
        then = {operation.operation_id for operation in operations if operation.in_version(before)}
        assert (len(now), now - then, then - now) == (
            int(row["operations"]),
            set(row["new"].split()),
            set(row["gone"].split()),
        ), row["api_version"]


def test_every_row_of_the_seed_table() -> None:
    seed = rows("seed_endpoints.csv")
    assert len(seed) == 79
    for row in seed:
        method, _, usage = row["usage"].partition(" ")
        target = parse_target(method, quote(re.sub(r"\([^)]*\)|<[^>]*>", "name", usage), safe="/?=&"))
        classified = CATALOGUE.classify(method, target.path, ApiVersion(1, 24))
        assert classified.operation is not None
        # The table has ContainerCopy, which 1.24 has no more.
        assert classified.in_version == (row["operation_id"] != "ContainerCopy")
        assert classified.operation.operation_id == row["operation_id"]
        for kubernetes in ("1.3", "1.4"):
            called = row[f"kubernetes_{kubernetes.replace('.', '_')}"] == "yes"
            assert (kubernetes in classified.operation.kubernetes) == called, row


def test_only_operations_of_the_seed_table_are_called_by_kubernetes() -> None:
    called = {row["operation_id"] for row in rows("seed_endpoints.csv") if row["kubernetes_1_4"] == "yes"}
    assert {name for name, operation in CATALOGUE.operations.items() if "1.4" in operation.kubernetes} == called


@pytest.mark.parametrize(
    ("method", "path", "version", "in_version"),
    [
        ("POST", "/containers/prune", "1.23", False),
        ("POST", "/containers/prune", "1.24", False),
        ("POST", "/containers/prune", "1.25", True),
        ("POST", "/containers/x/copy", "1.23", True),
        ("POST", "/containers/x/copy", "1.24", False),
        ("GET", "/plugins/x", "1.23", False),
        ("GET", "/plugins/x", "1.24", True),
        ("GET", "/plugins/x", "1.25", False),
        ("GET", "/plugins/x/json", "1.24", False),
        ("GET", "/plugins/x/json", "1.25", True),
        ("HEAD", "/_ping", "1.39", False),
        ("HEAD", "/_ping", "1.40", True),
        ("GET", "/images/x/attestations", "1.54", False),
        ("GET", "/info", "0.9", False),
        ("GET", "/info", "2.0", True),
    ],
)
def test_known_but_not_in_that_version(method: str, path: str, version: str, in_version: bool) -> None:
    classified = CATALOGUE.classify(method, path, ApiVersion.parse(version))
    assert classified.operation is not None
    assert classified.in_version == in_version
    assert CATALOGUE.classify(method, path, None).in_version


def test_unknown_is_one_value() -> None:
    assert CATALOGUE.classify("GET", "/debug/pprof/heap", None) is UNKNOWN
    assert (UNKNOWN.operation, UNKNOWN.in_version) == (None, False)


@pytest.mark.parametrize(
    ("method", "path", "kind", "name"),
    [
        ("GET", "/containers/json", "container", ""),
        ("POST", "/containers/a/b/exec", "container", "a/b"),
        ("DELETE", "/containers/a/checkpoints/b", "container", "a"),
        ("POST", "/exec/a/start", "exec", "a"),
        ("GET", "/images/a/b:c/json", "image", "a/b:c"),
        ("GET", "/distribution/a/json", "image", "a"),
        ("GET", "/networks/n", "network", "n"),
        ("DELETE", "/volumes/v", "volume", "v"),
        ("GET", "/plugins/p/json", "plugin", "p"),
        ("GET", "/nodes/n", "node", "n"),
        ("GET", "/services/s", "service", "s"),
        ("GET", "/tasks/t", "task", "t"),
        ("GET", "/secrets/s", "secret", "s"),
        ("GET", "/configs/c", "config", "c"),
        ("POST", "/swarm/init", "swarm", ""),
        ("GET", "/info", "", ""),
        ("POST", "/build", "", ""),
    ],
)
def test_resource(method: str, path: str, kind: str, name: str) -> None:
    classified = CATALOGUE.classify(method, path, None)
    assert (classified.resource_kind, classified.resource_name) == (kind, name)


# --- the cases of request targets


@pytest.mark.parametrize("case", READ, ids=lambda case: case["id"])
def test_target_that_is_read(case: dict[str, str]) -> None:
    target = parse_target(case["method"], case["target"])
    assert target.canonical == case["canonical"]
    assert str(target.version or "") == case["version"]
    assert classify(case["method"], target.path, target.version) == (case["operation"], case["name"])


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["id"])
def test_target_that_is_refused(case: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse_target(case["method"], case["target"])
    assert (refusal.value.status, refusal.value.reason.value) == (400, case["reason"])


def test_target_parts() -> None:
    assert parse_target("GET", "/v1.24/containers/%C3%BC/json?all&a=%20b") == Target(
        "/containers/ü/json", "all=&a=+b", ApiVersion(1, 24), "/v1.24/containers/%C3%BC/json?all=&a=+b"
    )


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_of_a_query(byte: int) -> None:
    """As Go's url.QueryEscape writes it."""
    character = chr(byte)
    is_unreserved = character.isascii() and (character.isalnum() or character in "-._~")
    canonical = character if is_unreserved else "+" if character == " " else f"%{byte:02X}"
    for written in (f"%{byte:02x}", f"%{byte:02X}"):
        assert parse_target("GET", f"/events?{written}=x{written}").query == f"{canonical}=x{canonical}"


@pytest.mark.parametrize("path", ["/events", "/%65vents"])
@pytest.mark.parametrize(("pairs", "is_read"), [(QUERY_PAIRS_MAX, True), (QUERY_PAIRS_MAX + 1, False)])
def test_pairs_of_a_query(path: str, pairs: int, is_read: bool) -> None:
    target = f"{path}?{'&'.join(['a=1'] * pairs)}"
    if is_read:
        assert parse_target("GET", target).query.count("a=1") == pairs
    else:
        with pytest.raises(BadRequest, match="more than 10000 pairs"):
            parse_target("GET", target)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".24", "1.24.0", "01.24", "1.024", "+1.24", "1.-4", "1_0.2", "1.24\n", " 1.24"]
)
def test_what_is_no_api_version(text: str) -> None:
    with pytest.raises(ValueError, match="not an API version"):
        ApiVersion.parse(text)


def test_api_versions_are_ordered_by_number() -> None:
    assert ApiVersion.parse("1.9") < ApiVersion.parse("1.10") < ApiVersion.parse("2.0")
    assert str(ApiVersion.parse("1.20")) == "1.20"


# --- properties

METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", ""])
LITERALS = {part for row in rows("engine_routes.csv") for part in row["route"].split("/") if "{" not in part}
SEGMENTS = st.sampled_from([*sorted(LITERALS), "x", "a.b", "%2F", "\n", "é", ".", "..", " ", "v1.24"])
PATHS = st.lists(SEGMENTS, max_size=6).map(lambda segments: "/" + "/".join(segments))
PIECES = ["/", "v1.24", "/v1.24/", "containers", "json", "%2f", "%2F", "%41", "%C3%BC", "%25", "~", "*", "#", "@:", "a"]
QUERY_PIECES = ["?", "&", "=", "+", "%20", "%2B", "%26", "%3d"]
REFUSED_PIECES = ["//", "/./", "..", "%2e", "/v01.2/", "%", "%zz", "%00", "%0a", "%ff", ";", "é", " ", "\n"]
TEXTS = (
    st.lists(st.sampled_from([*PIECES, *QUERY_PIECES]), max_size=12).map("".join)
    | st.lists(st.sampled_from([*PIECES, *QUERY_PIECES, *REFUSED_PIECES]), max_size=8).map("".join)
    | st.text(max_size=30)
)
ANY_TARGET = TEXTS | TEXTS.map("/".__add__)


@settings(max_examples=300, deadline=None)
@given(METHODS | st.text(max_size=5), PATHS | st.text(max_size=30), st.sampled_from(VERSIONS))
def test_classify_is_total_and_the_engine_s_first_match(method: str, path: str, version: ApiVersion | None) -> None:
    assert classify(method, path, version) == classify_naively(method, path)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(CATALOGUE.operations)), st.lists(SEGMENTS, min_size=1, max_size=3), st.data())
def test_no_name_leads_to_another_operation_than_the_engine_s(
    operation_id: str, name: list[str], data: st.DataObject
) -> None:
    operation = CATALOGUE.operations[operation_id]
    path = re.sub(r"\{\w+\}", lambda _: "/".join(name), operation.path) + data.draw(st.sampled_from(["", "/", "/json"]))
    assert classify(operation.method, path) == classify_naively(operation.method, path)


def parsed(method: str, target: str) -> Target | None:
    try:
        return parse_target(method, target)
    except BadRequest:
        return None


@settings(max_examples=500, deadline=None)
@given(METHODS, ANY_TARGET)
def test_a_target_is_refused_or_has_one_canonical_form(method: str, text: str) -> None:
    target = parsed(method, text)
    if target is None:
        return
    assert re.fullmatch(r"[!-~]+", target.canonical)
    assert parse_target(method, target.canonical) == target
    assert parse_any_target(method, target.canonical) == target


@settings(max_examples=500, deadline=None)
@given(METHODS, ANY_TARGET)
def test_the_fast_way_gives_what_the_plain_one_gives(method: str, text: str) -> None:
    try:
        plain = parse_any_target(method, text)
    except BadRequest:
        plain = None
    assert parsed(method, text) == plain


@settings(max_examples=500, deadline=None)
@given(ANY_TARGET)
def test_the_canonical_form_means_the_same(text: str) -> None:
    target = parsed("GET", text)
    if target is None:
        return
    raw_path, _, raw_query = text.partition("?")
    path, _, query = target.canonical.partition("?")
    assert unquote_to_bytes(path) == unquote_to_bytes(raw_path)
    assert unquote_to_bytes(path).decode() == (f"/v{target.version}" if target.version else "") + target.path
    assert query == target.query
    assert pairs(query) == pairs(raw_query)
    assert not re.match("//", path)
    assert posixpath.normpath(target.path) == (target.path if target.path == "/" else target.path.removesuffix("/"))


def pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, encoding="latin-1", separator="&")
