"""Requirements: rows of requests with what fails, the wording, the patterns, and laws of paths, references and patterns.

The rows are read by `payload` as a client would send them, so that the spellings that it takes are judged, too.
"""

import json
import posixpath
import re
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.data import load_bodies, load_operations, load_secrets
from sockproxy.errors import BadRequest
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.payload import Bodies, read_query
from sockproxy.judging.requirements.bind_sources import clean, gives_away
from sockproxy.judging.requirements.facts import Check, Facts
from sockproxy.judging.requirements.globs import Globs, expression, step_glob
from sockproxy.judging.requirements.kinds import KINDS
from sockproxy.judging.requirements.query import CAN_BE_SECRET, make_query
from sockproxy.judging.requirements.references import complete_pattern, image_id, parse_reference, reference_globs
from sockproxy.judging.requirements.resources import parse_size
from sockproxy.judging.requirements.wording import SHOWN_CHARACTERS_MAX, shown
from sockproxy.operating.config.requirements import EXAMPLES, NOTES, RequireDocument
from sockproxy.operating.config.shapes import Choice, Flag, Keys, ListOf, Named, Number, Shape, Text, keys_of

from .findings import engine_with

BODIES = Bodies(*load_bodies())
OPERATIONS = load_operations()
PRINCIPAL = identify(Peer("unix:///run/p.sock", "unix", uid=1000))
MORE_THAN_A_BODY = {"body", "query", "resource", "api", "found"}


class Row(NamedTuple):
    """A request, what is required of it, and the field that fails."""

    id: str
    operation: str
    require: dict[str, Any]
    request: Any
    fails: str | None


def rows() -> list[Row]:
    groups = yaml.safe_load((Path(__file__).parent / "cases" / "requirements.yaml").read_text(encoding="utf-8"))
    return [Row(row[0], group["operation"], group["require"], *row[1:]) for group in groups for row in group["rows"]]


ROWS = rows()


def facts(operation: str, request: Any) -> Facts:
    whole = request if isinstance(request, dict) and request.keys() <= MORE_THAN_A_BODY else {"body": request}
    body = whole.get("body", "")
    raw = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    version = ApiVersion.parse(whole["api"]) if "api" in whole else None
    data = BODIES.read_payload(operation, version, raw.encode()).data if operation in BODIES.operations else {}
    return Facts(
        operation,
        version,
        PRINCIPAL,
        whole.get("resource", ""),
        read_query(whole.get("query", "")),
        data,
        found=engine_with(whole.get("found", {})),
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(row: Row) -> None:
    ((key, value),) = row.require.items()
    assert row.operation in (KINDS[key].operations or OPERATIONS)
    unmet = KINDS[key].make(value, ())(facts(row.operation, row.request))
    assert (unmet and unmet.field) == row.fails
    if unmet is not None:
        told = ("only containers", "in a row", "no name of a volume")
        assert any(one in str(unmet) for one in (key, *told)) or unmet.field == "query.rollback" or unmet.absent
        assert str(unmet).isprintable()
        assert "secret" not in unmet.detail


@pytest.mark.parametrize(
    ("patterns", "is_read_only", "told"),
    [
        (["/srv/**"], False, 'what "/srv/**" allows'),
        (["/srv/**/work"], False, 'what "/srv/**/work" allows'),
        (["/srv", "/srv/*"], False, 'what "/srv" allows'),
        (["/home/*/x", "/home/me/?/y"], False, 'what "/home/*/x" allows'),
        (["/srv/**"], True, ""),
        (["/builds/*"], False, ""),
        (["/etc/localtime", "/srv/a", "/srv/b/c"], False, ""),
        (["/home/*/x", "/home/me/y/z"], False, ""),
        ([], False, ""),
        (["/**"], True, "engine's socket"),
        (["/"], True, "engine's socket"),
        (["/run/*"], True, "engine's socket"),
        (["/var/run"], True, "engine's socket"),
        (["/var/lib/*/volumes"], True, ""),
    ],
)
def test_bind_sources_that_give_more_than_they_seem_to(patterns: list[str], is_read_only: bool, told: str) -> None:
    assert told in gives_away(patterns, is_read_only) and bool(told) == bool(gives_away(patterns, is_read_only))


def test_rows_are_told_apart() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)


OF_ITS_OWN = "pod_security"
"""The key that has its rows and laws elsewhere: test_pod_security."""


@pytest.mark.parametrize("key", sorted(KINDS.keys() - {OF_ITS_OWN}))
def test_each_kind_has_rows_of_each_outcome_and_knows_its_operations(key: str) -> None:
    outcomes = {row.fails is None for row in ROWS if key in row.require}
    assert outcomes == {True, False}
    assert (KINDS[key].operations or set()) <= OPERATIONS.keys()


@pytest.mark.parametrize("key", sorted(KINDS.keys() - {OF_ITS_OWN, "query"}))
def test_another_operation_denies(key: str) -> None:
    """A rule is checked when it is loaded; if that were forgotten, nothing would pass."""
    example = next(row.require[key] for row in ROWS if key in row.require)
    outcome = None
    try:
        outcome = KINDS[key].make(example, ())(facts("SystemInfo", ""))
    except LookupError:
        return
    assert outcome is not None or key not in ("images", "networks", "names", "users", "labels")


def test_no_check_raises_on_what_payload_reads() -> None:
    """What raises denies, but says nothing to whoever asks why."""
    checks: dict[str, dict[str, Check]] = {}
    for row in ROWS:
        for key, value in row.require.items():
            checks.setdefault(row.operation, {})[repr(row.require)] = KINDS[key].make(value, ())
    asked = 0
    for line in (Path(__file__).parent / "cases" / "bodies_go.jsonl").read_text(encoding="utf-8").splitlines():
        recorded = json.loads(line)
        try:
            of_body = facts(recorded["operation"], recorded.get("body", ""))
        except BadRequest:  # lawful: what cannot be read is not asked about
            continue
        for check in checks.get(recorded["operation"], {}).values():
            unmet = check(of_body)
            assert unmet is None or str(unmet).isprintable()
            asked += 1
    assert asked > 1000


SAID = [
    (
        ("ContainerCreate", {"bind_sources": ["/srv/**"]}, {"HostConfig": {"Binds": ["/etc:/a"]}}),
        'HostConfig.Binds[0] has the source "/etc"; bind_sources allows /srv/**',
    ),
    (
        ("ContainerCreate", {"bind_sources": []}, {"HostConfig": {"Binds": ["/etc:/a"]}}),
        'HostConfig.Binds[0] has the source "/etc"; bind_sources allows none',
    ),
    (
        ("ContainerCreate", {"images": ["busybox:*"]}, {"Image": "evil"}),
        'Image is "docker.io/library/evil:latest"; images allows busybox:*',
    ),
    (
        ("ContainerCreate", {"images": ["busybox:*"]}, {"Image": "Evil\x1b[2J"}),
        'Image is "Evil\\x1b[2J", which names no image; images allows busybox:*',
    ),
    (
        ("ContainerCreate", {"memory_max": "1GiB"}, {"Image": "i"}),
        "HostConfig.Memory is not set; memory_max is 1GiB",
    ),
    (
        ("ContainerCreate", {"cpus_max": 1.5}, {"HostConfig": {"NanoCpus": 2000000000}}),
        "HostConfig.NanoCpus is 2000000000; cpus_max is 1.5",
    ),
    (
        (
            "ContainerCreate",
            {"ports": ["8000-8999"]},
            {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}},
        ),
        'HostConfig.PortBindings[80/tcp][0] is "80"; ports allows 8000-8999',
    ),
    (
        ("ContainerCreate", {"ports": ["1", "2"]}, {"HostConfig": {"PublishAllPorts": True}}),
        "HostConfig.PublishAllPorts is true, and the engine chooses; ports allows 1, 2",
    ),
    (
        ("ContainerCreate", {"runtimes": ["", "runsc"]}, {"HostConfig": {"Runtime": "x" * 100}}),
        f'HostConfig.Runtime is "{"x" * 80}..."; runtimes allows "", runsc',
    ),
]


@pytest.mark.parametrize(("case", "said"), SAID)
def test_what_is_said(case: tuple[str, dict[str, Any], Any], said: str) -> None:
    operation, require, body = case
    ((key, value),) = require.items()
    assert str(KINDS[key].make(value, ())(facts(operation, body))) == said


def test_ports_leave_the_networks_of_a_service_to_networks() -> None:
    asked = facts("ServiceCreate", {"TaskTemplate": {"Networks": [{"Target": "app"}]}})
    assert KINDS["ports"].make(["80"], ["ports"])(asked) is not None
    assert KINDS["ports"].make(["80"], ["ports", "networks"])(asked) is None


WRONG = [
    ("bind_sources", ["srv/**"]),
    ("bind_sources", ["/srv/"]),
    ("bind_sources", ["/srv/../etc"]),
    ("bind_sources", ["//srv"]),
    ("bind_sources", ["/srv/./x"]),
    ("bind_sources", ["**"]),
    ("images", ["Busybox"]),
    ("images", ["https://registry.example.com/**"]),
    ("images", ["busybox:"]),
    ("images", ["a b"]),
    ("images", [""]),
    ("capabilities", ["NET BIND"]),
    ("capabilities", ["*"]),
    ("capabilities", [""]),
    ("devices", ["fuse"]),
    ("devices", ["/dev/../x"]),
    ("devices", ["/dev/fuse:rwm"]),
    ("devices", ["/dev/fuse:/dev/fuse"]),
    ("ports", ["80-"]),
    ("ports", ["90-80"]),
    ("ports", ["0"]),
    ("ports", ["0-65535"]),
    ("ports", ["70000"]),
    ("ports", ["localhost:80"]),
    ("ports", ["127.0.0.300:80"]),
    ("ports", ["::1:80"]),
    ("ports", ["80/icmp"]),
    ("ports", [""]),
    ("memory_max", "512x"),
    ("memory_max", "5ib"),
    ("memory_max", "0MiB"),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_what_can_never_fit_is_told_when_it_is_made(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"is no|fits no"):
        KINDS[key].make(value, ())


def test_sizes() -> None:
    assert [parse_size(f"2{unit}") for unit in ("B", "KiB", "MiB", "GiB", "TiB")] == [2 * 1024**n for n in range(5)]
    # go-units, RAMInBytes, by which the docker command reads --memory
    assert {parse_size(text) for text in ("536870912", "512m", "512M", "512mb", "512MB", "512Mi", "512mib")} == {2**29}


# How a file says them


def test_each_kind_has_a_key_an_example_and_no_more() -> None:
    assert set(EXAMPLES) == set(keys_of(RequireDocument)) == set(KINDS)
    assert set(NOTES) <= set(KINDS)


@pytest.mark.parametrize("key", EXAMPLES)
def test_example_is_as_its_shape_and_can_be_made(key: str) -> None:
    given = yaml.safe_load(EXAMPLES[key])
    assert given.keys() == {key}
    KINDS[key].make(read(keys_of(RequireDocument)[key].shape, given[key]), ())


def read(shape: Shape, value: Any) -> Any:
    match shape:
        case ListOf(item=item):
            assert isinstance(value, list)
            return tuple(read(item, one) for one in value)
        case Named(item=item, pattern=pattern):
            assert all(re.fullmatch(pattern, name) for name in value)
            return {name: read(item, one) for name, one in value.items()}
        case Text(pattern=pattern, is_empty_right=is_empty_right):
            assert isinstance(value, str)
            assert (value or is_empty_right) and re.fullmatch(pattern or ".*", value)
        case Choice(words=words):
            assert value in words
        case Keys(model=model):
            return {name: read(keys_of(model)[name].shape, one) for name, one in value.items()}
        case Flag():
            assert isinstance(value, bool)
        case Number(is_whole=is_whole):
            assert isinstance(value, int if is_whole else int | float)
        case _:
            raise TypeError(shape)
    return value


def test_the_page_is_as_the_keys() -> None:
    """After a change: .venv/bin/python docs/make_requirements.py"""
    docs = Path(__file__).parents[1] / "docs"
    page = runpy.run_path(str(docs / "make_requirements.py"))["render"]()
    assert page == (docs / "requirements.md").read_text(encoding="utf-8")


# Patterns


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("a*", "a", True),
        ("a*", "a/b", False),
        ("a**", "a/b", True),
        ("**/b", "a/x/b", True),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/b/c", False),
        ("a/*/c", "a//c", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a?c", "ac", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a*", "a\nb", True),
        ("a***", "a/b", True),
        ("*a*b*", "xaxbx", True),
        ("A", "a", False),
    ],
)
def test_pattern(pattern: str, value: str, fits: bool) -> None:
    assert Globs([pattern], "/").fit(value) is fits
    assert step_glob(pattern, "/")(value) is fits


PIECES = st.lists(st.sampled_from(["a", "b", "/", ".", "*", "**", "?", "\n"]), max_size=8).map("".join)


@given(PIECES, PIECES, st.sampled_from(["", "/", "/:@"]))
def test_both_ways_of_matching_agree(pattern: str, value: str, parting: str) -> None:
    expected = re.compile(expression(pattern, parting), re.DOTALL).fullmatch(value) is not None
    assert step_glob(pattern, parting)(value) is expected
    assert Globs([pattern], parting).fit(value) is expected


def test_no_pattern_takes_long() -> None:
    """A regex would try for years."""
    assert not Globs(["**a" * 20 + "b"], "/").fit("a" * 20_000)


# Paths


@given(
    st.lists(st.sampled_from(["a", "b", "..", ".", "", "...", " "]), max_size=8).map(
        lambda parts: "/" + "/".join(parts)
    )
)
def test_paths_are_cleaned_as_an_independent_reader_does(path: str) -> None:
    # posixpath keeps two slashes in front, as POSIX lets it; Go does not.
    assert clean(path) == "/" + posixpath.normpath(path).lstrip("/")
    assert clean(clean(path)) == clean(path)


# References

DIGEST = "sha256:" + "a" * 64
FULL = [
    ("busybox", "docker.io/library/busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36"),
    ("team/app", "docker.io/team/app:latest"),
    ("docker.io/busybox", "docker.io/library/busybox:latest"),
    ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
    ("index.docker.io/team/app:1", "docker.io/team/app:1"),
    ("localhost/x", "localhost/x:latest"),
    ("localhost", "docker.io/library/localhost:latest"),
    ("localhost:5000/x", "localhost:5000/x:latest"),
    ("localhost:5000", "docker.io/library/localhost:5000"),
    ("host:5000/a/b:c", "host:5000/a/b:c"),
    ("Host.example.com/a", "Host.example.com/a:latest"),
    ("a.b/c", "a.b/c:latest"),
    (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
    (f"busybox:1@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
    ("a__b/c-d--e.f", "docker.io/a__b/c-d--e.f:latest"),
    ("a" * 64 + ":1", "docker.io/library/" + "a" * 64 + ":1"),
]
NONE = [
    *("", ":", "@", "/", "a/", "/a", "a//b", "A", "A/b", "a/B", "a b", "-a", "a-", "a..b", "a___b", "a.-b"),
    *("a:", "a:b:c", "a:b/c:", "a@", f"a@{DIGEST}0", "a@sha256:xyz", f"a@{DIGEST.upper()}", "a:" + "x" * 129, "a:-b"),
    *("a" * 256, "http://a/b", "a.b:x/c", "a\n", "ä", "a:ä", "a" * 64 + "/", "docker.io/A"),
]


@pytest.mark.parametrize(("text", "full"), FULL)
def test_reference_in_full(text: str, full: str) -> None:
    assert str(parse_reference(text)) == full
    if "@" not in full:
        assert str(parse_reference(full)) == full


@pytest.mark.parametrize("text", NONE)
def test_no_reference(text: str) -> None:
    assert parse_reference(text) is None


NAMES = st.lists(
    st.sampled_from(["a", "b1", "docker.io", "index.docker.io", "library", "localhost", "x.y", "h:5000", "A", "-", ""]),
    min_size=1,
    max_size=4,
).map("/".join)


@given(NAMES, st.sampled_from(["", ":1", ":latest", ":", f"@{DIGEST}", f":1@{DIGEST}", "@x"]))
def test_reference_in_full_is_itself(name: str, rest: str) -> None:
    reference = parse_reference(name + rest)
    if reference is not None:
        assert parse_reference(str(reference)) == reference
        assert reference_globs([str(reference)]).fit(str(reference))
        assert reference_globs([name + rest]).fit(str(reference))


COMPLETED = [
    ("busybox", ["docker.io/library/busybox:latest"]),
    ("busybox:*", ["docker.io/library/busybox:*", "docker.io/library/busybox@**"]),
    ("busybox@sha256:*", ["docker.io/library/busybox@sha256:*"]),
    ("team/*", ["docker.io/team/*:latest"]),
    ("team/**", ["docker.io/team/**"]),
    ("te**", ["docker.io/te**"]),
    ("**", ["**"]),
    ("**/app:1", ["**/app:1"]),
    ("*.example.com/**", ["*.example.com/**"]),
    ("registry:5000/x", ["registry:5000/x:latest"]),
    ("index.docker.io/busybox", ["docker.io/library/busybox:latest"]),
    ("busybox:1@sha256:*", ["docker.io/library/busybox@sha256:*"]),
    ("busybox:*@sha256:*", ["docker.io/library/busybox@sha256:*"]),
    ("sha256:*", ["sha256:*", "sha256@**"]),
]


@pytest.mark.parametrize(("pattern", "completed"), COMPLETED)
def test_pattern_in_full(pattern: str, completed: list[str]) -> None:
    assert list(complete_pattern(pattern)) == completed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 64, DIGEST),
        (DIGEST, DIGEST),
        ("beef", "sha256:beef"),
        ("sha256:beef", "sha256:beef"),
        ("beef:latest", None),
        ("BEEF", None),
        ("busybox", None),
        ("", None),
        ("a" * 65, None),
    ],
)
def test_id(text: str, expected: str | None) -> None:
    assert image_id(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:p@h/r", "https://...@h/r"),
        (f"https://u:{'p' * 200}@h/r", "https://...@h/r"),
        ("a//b@c//d@e f//g@h", "a//...@e f//...@h"),
        ("https://h/a", "https://h/a"),
        ("a@b//c//@", "a@b//...@"),
        ("//@b", "//@b"),
    ],
)
def test_no_password_of_a_url_is_shown(text: str, expected: str) -> None:
    assert shown(text) == f'"{expected}"'


def test_no_parameter_is_shown_that_is_a_secret_in_the_record() -> None:
    assert set(load_secrets().parameters) == CAN_BE_SECRET
    check = make_query(dict.fromkeys(CAN_BE_SECRET, "ok"))
    for name in CAN_BE_SECRET:
        unmet = check(Facts("ImageBuild", None, identify(Peer("l", "unix")), "", read_query(f"{name}=s3cret"), {}))
        assert unmet is not None and "s3cret" not in str(unmet)


def test_what_is_shown_is_one_short_line() -> None:
    assert shown("a\n\x1b" + "b" * 200).isprintable()
    assert len(shown("b" * 200)) == SHOWN_CHARACTERS_MAX + len('"..."')
