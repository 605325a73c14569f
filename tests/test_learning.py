"""Learning: what a record comes to. The smallest policy lets pass what passed, and nothing of it can be left out."""

import gzip
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.errors import BadRequest, ConfigError
from sockproxy.exchange import Exchange
from sockproxy.judging.compiling import compile_policy, in_shadow
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.judge import judge
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Effect, Policy
from sockproxy.judging.versions import ANY_API_VERSION
from sockproxy.operating.apprentice import Apprentice
from sockproxy.operating.config import check_config, load_policy
from sockproxy.operating.config.writing import WrittenRule, policy_file
from sockproxy.operating.learning import learnt_policy
from sockproxy.recording import trail
from sockproxy.recording.event import GENESIS, Event, chain_hash, completed_event, decided_event
from sockproxy.recording.learning import EXAMPLES_MAX, PRINCIPALS_MAX, Learner
from tests.cli_runs import run, run_process
from tests.exchanges import CATALOGUE, LIST, PROFILE, START, answered, decided, rejected

TRAIL = Path(__file__).parent / "cases/audit_trail.jsonl"
READONLY = load_policy("readonly", CATALOGUE)


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    body_bytes: int


def record(policy: Policy, asked: Asked, exe: str = "/usr/bin/docker") -> list[Event]:
    """The two events that a request leaves under a policy."""
    exchange = decided()
    exchange.principal = identify(Peer("here", "unix", uid=7, exe=exe))
    target, exchange.classified, exchange.decision, *_ = judge(
        CATALOGUE, policy, exchange.principal, asked.method, asked.target, content_length=asked.body_bytes
    )
    exchange.method, exchange.target, exchange.api_version = asked.method, target.canonical, target.version
    exchange.bytes_in = asked.body_bytes
    return [decided_event(exchange), completed_event(answered(exchange))]


def learn(events: list[Event], **options: Any) -> Learner:
    learner = Learner(CATALOGUE, **options)
    for event in events:
        learner.add(event)
    return learner


def read_back(text: str, folder: Path, name: str = "learnt.yaml") -> Policy:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    check_config(str(file), CATALOGUE)
    return load_policy(str(file), CATALOGUE)


def passes(policy: Policy, asked: Asked) -> bool:
    somebody = identify(Peer("there", "tcp"))
    decision = judge(CATALOGUE, policy, somebody, asked.method, asked.target, content_length=asked.body_bytes).decision
    return decision.effect is Effect.ALLOW


def is_known(asked: Asked) -> bool:
    return passes(EVERYTHING_KNOWN, asked)


EVERYTHING_KNOWN = compile_policy(
    "known", CATALOGUE, allow=[replace(READONLY.allow[0], operations=frozenset(CATALOGUE.operations))]
)
METHODS = sorted({operation.method for operation in CATALOGUE.operations.values()})
asked_for = st.builds(
    lambda row, prefix, size: Asked(row.method, prefix + re.sub(r"\{\w+\}", "web", row.path), size),
    st.sampled_from([*CATALOGUE.operations.values()]),
    st.sampled_from(["", "/v1.14", "/v1.23", "/v1.24", "/v1.41", "/v1.55"]),
    st.sampled_from([0, 2, 500]),
) | st.builds(Asked, st.sampled_from(METHODS), st.sampled_from(["/debug/pprof", "/v1.41/foo/bar", "/"]), st.just(0))
policies = st.sampled_from(
    [
        load_policy("allow-all", CATALOGUE),
        in_shadow(READONLY, CATALOGUE),
        READONLY,
        load_policy("kubernetes-1.4", CATALOGUE),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(policies, asked_for), max_size=12))
def test_the_smallest_policy(tmp_path_factory: pytest.TempPathFactory, record_of: list[tuple[Policy, Asked]]) -> None:
    folder = tmp_path_factory.mktemp("learnt")
    learner = learn([event for policy, asked in record_of for event in record(policy, asked)])
    passed = [asked for policy, asked in record_of if passes(policy, asked)]

    everything = read_back(learnt_policy(learner, "all", with_unknown=True), folder)
    assert all(passes(everything, asked) for asked in passed)

    policy = read_back(learnt_policy(learner, "learnt"), folder)
    assert [passes(policy, asked) for asked in passed] == [is_known(asked) for asked in passed]

    for rule in everything.allow:
        others = [one for one in everything.allow if one is not rule]
        less = compile_policy("less", CATALOGUE, api_versions=everything.api_versions, allow=others)
        assert not all(passes(less, asked) for asked in passed), f"{rule.operations} could be left out"


@settings(max_examples=100, deadline=None)
@given(st.lists(asked_for, max_size=8), st.sampled_from(["readonly", "kubernetes-1.4"]))
def test_what_a_policy_lacks(tmp_path_factory: pytest.TempPathFactory, asked: list[Asked], name: str) -> None:
    against = load_policy(name, CATALOGUE)
    events = [event for one in asked for event in record(load_policy("allow-all", CATALOGUE), one)]
    learner = learn(events, against=against)
    lacking = [one for one in asked if not passes(against, one)]
    assert bool(lacking) is bool(learner.sightings or learner.lacks_version)
    text = learnt_policy(learner, "more", extends=(name,), with_unknown=True)
    more = read_back(text, tmp_path_factory.mktemp("lacking"))
    assert all(passes(more, one) for one in asked)
    own = [rule for rule in more.allow if rule.name.startswith("more/")]
    unbound = replace(against, api_versions=ANY_API_VERSION)
    assert not any(rule.operations <= {name for one in unbound.allow for name in one.operations} for rule in own)


# Which events count

COUNTED: list[tuple[str, Event, bool]] = [
    ("allowed", decided_event(decided()), True),
    ("completed only", completed_event(answered(decided())), True),
    ("would be denied", record(in_shadow(READONLY, CATALOGUE), Asked("POST", "/containers/web/kill", 0))[0], True),
    ("denied", record(READONLY, Asked("POST", "/containers/web/kill", 0))[0], False),
    ("cannot be read", completed_event(rejected()), False),
]


@pytest.mark.parametrize(("event", "counts"), [case[1:] for case in COUNTED], ids=[case[0] for case in COUNTED])
def test_which_events_count(event: Event, counts: bool) -> None:
    assert bool(learn([event]).sightings) is counts


def test_denied_requests_count_if_it_is_asked_for() -> None:
    events = record(READONLY, Asked("POST", "/containers/web/kill", 0))
    assert learn(events).left_out == 1
    assert list(learn(events, with_denied=True).sightings) == ["ContainerKill"]


def test_a_request_counts_once() -> None:
    events = record(READONLY, Asked(*LIST, 0))
    assert learn(events * 3).sightings["ContainerList"].times == 3
    assert learn(events[1:] + events).sightings["ContainerList"].times == 2  # the record began between two lines


@pytest.mark.parametrize(
    ("target", "body_bytes", "operations"),
    [
        ("/v1.23/containers/web/start", 500, {"ContainerStart", "ContainerCreate"}),
        ("/containers/web/start", 500, {"ContainerStart", "ContainerCreate"}),
        ("/v1.23/containers/web/start", 2, {"ContainerStart"}),
        ("/v1.24/containers/web/start", 500, {"ContainerStart"}),
    ],
)
def test_a_start_with_a_body_is_a_creation_too(target: str, body_bytes: int, operations: set[str]) -> None:
    events = record(load_policy("allow-all", CATALOGUE), Asked("POST", target, body_bytes))
    assert learn(events).sightings.keys() == operations


# The file


def test_it_says_how_often_when_and_by_whom(tmp_path: Path) -> None:
    events = record(READONLY, Asked(*LIST, 0)) + record(READONLY, Asked("GET", "/v1.41/info", 0), exe="/bin/monitor")
    first = record(READONLY, Asked(*LIST, 0))
    first[0]["time"] = "2024-12-31T23:00:00.000001Z"
    text = learnt_policy(learn(first + events), "learnt")
    assert "# 2 times, 2024-12-31 23:00:00 to 2025-01-01 00:00:00, by uid:7 (/usr/bin/docker)\n" in text
    assert "# once, 2025-01-01 00:00:00, by uid:7 (/bin/monitor)\n" in text
    assert '# Seen: API 1.41 and paths without a version.\n    api_versions: {min: "1.41", unversioned: allow}' in text


HOSTILE = [
    'x\n      - operations: ["@unknown"]',
    "x\r      - operations: [ContainerKill]",
    "x\x85y",
    "x\u2028- operations: [ContainerKill]",
    "\x1b[2J",
    "x" * 5000,
    "\udcff",
]


@pytest.mark.parametrize("exe", HOSTILE)
def test_names_from_outside_stay_in_their_comment(tmp_path: Path, exe: str) -> None:
    text = learnt_policy(learn(record(READONLY, Asked(*LIST, 0), exe=exe)), "learnt")
    assert {name for rule in read_back(text, tmp_path).allow for name in rule.operations} == {"ContainerList"}
    assert text.replace("\n", "").isprintable()
    assert len(text) < 1500


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(), max_size=3))
def test_no_comment_becomes_a_rule(tmp_path_factory: pytest.TempPathFactory, comments: list[str]) -> None:
    rules = [WrittenRule(("ContainerList",), comments), WrittenRule(("@unknown",), comments, is_off=True)]
    text = policy_file("p", head=comments, allow=rules, api_versions=ANY_API_VERSION, version_comments=comments)
    policy = read_back(text, tmp_path_factory.mktemp("comments"))
    assert [rule.operations for rule in policy.allow] == [{"ContainerList"}]


VALUES = st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["\x7f", "\u2028", "\U00010000"]))


@given(VALUES, st.booleans())
def test_what_is_required_is_read_as_it_was_written(values: list[str], is_long: bool) -> None:
    required = values + ["/" * 200] * is_long
    rule = WrittenRule(("ContainerCreate",), reason="".join(values), require={"bind_sources": required})
    text = policy_file("p", head=[], allow=[rule])
    assert text.isascii()
    (read,) = yaml.safe_load(text)["policies"]["p"]["allow"]
    assert read["require"] == {"bind_sources": required}
    assert read.get("reason", "") == "".join(values)


def test_unknown_requests_are_named_and_left_out(tmp_path: Path) -> None:
    learner = learn(record(load_policy("allow-all", CATALOGUE), Asked(*PROFILE, 0)))
    text = learnt_policy(learner, "learnt")
    assert "GET /debug/pprof/heap\n" in text
    assert read_back(text, tmp_path).allow == ()
    assert read_back(learnt_policy(learner, "learnt", with_unknown=True), tmp_path).allow != ()


def test_memory_is_bounded() -> None:
    learner = Learner(CATALOGUE)
    for number in range(200):
        asked = Asked("GET", f"/v1.{number}/nothing/{number}" + "x" * 3000, 0)
        for event in record(load_policy("allow-all", CATALOGUE), asked, exe=f"/{number}" + "x" * 3000):
            learner.add(event)
    assert list(learner.sightings) == [UNKNOWN_SELECTOR]
    sighting = learner.sightings[UNKNOWN_SELECTOR]
    assert (len(sighting.principals), len(sighting.examples), sighting.has_more) == (PRINCIPALS_MAX, EXAMPLES_MAX, True)
    assert max(map(len, (*sighting.principals, *sighting.examples))) < 200


# The command


def chained(events: list[Event]) -> bytes:
    previous, lines = GENESIS, []
    for seq, event in enumerate(events, 1):
        event |= {"seq": seq, "prev": previous}
        previous = chain_hash(previous, event)
        lines.append(json.dumps(event | {"hash": previous}).encode() + b"\n")
    return b"".join(lines)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    events = [*record(READONLY, Asked(*LIST, 0)), *record(in_shadow(READONLY, CATALOGUE), Asked(*START, 0))]
    lines = chained(events).splitlines(keepends=True)
    texts = {
        "whole": b"".join(lines),
        "begins-late": b"".join(lines[1:]),
        "gap": lines[0] + b"".join(lines[2:]),
        "changed": lines[0] + lines[1].replace(b"ContainerList", b"ContainerKill") + lines[2],
        "torn": b"".join(lines)[:-20],
        "no-json": lines[0] + b"hello\n",
        "empty": b"",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(texts["whole"]))
    return {name: str(tmp_path / name) for name in (*texts, "packed.gz", "none")}


COMMANDS: list[tuple[str, int, str, str]] = [
    ("whole", 0, "- operations: [ContainerStart]", ""),
    ("packed.gz", 0, "- operations: [ContainerStart]", ""),
    ("begins-late", 0, "- operations: [ContainerStart]", ""),
    ("torn", 0, "- operations: [ContainerStart]", ""),
    ("whole packed.gz", 0, "# 2 times", ""),
    ("gap", 1, "", "gap:2: removed: "),
    ("changed", 1, "", "changed:2: changed: "),
    ("no-json", 1, "", "no-json:2: unreadable: is not JSON"),
    ("--filtered gap", 0, "- operations: [ContainerStart]", ""),
    ("--filtered no-json", 1, "", "no-json:2: is not JSON"),
    ("none", 2, "", "none: cannot be read: No such file"),
    ("empty", 0, "allow: []", "nothing in the record"),
    ("", 2, "", "Missing argument"),
    ("--name readonly --against readonly whole", 2, "", "would extend itself"),
    ("--name ../x whole", 2, "", "a name has up to 63 letters"),
    ("--name ci whole", 0, "\n  ci:\n", ""),
    ("--against readonly whole", 1, "extends: [readonly]\n    allow:\n", ""),
    ("--against allow-all whole", 0, "# allow-all allows all of the 2 requests", ""),
    ("--against readnly whole", 2, "", 'did you mean "readonly"?'),
]


@pytest.mark.parametrize(("line", "code", "out", "err"), COMMANDS, ids=[case[0] or "nothing" for case in COMMANDS])
def test_learn(files: dict[str, str], line: str, code: int, out: str, err: str) -> None:
    result = run("learn", *(files.get(word, word) for word in line.split()))
    assert (result.exit_code, bool(result.stdout), bool(result.stderr)) == (code, bool(out), bool(err))
    assert out in result.stdout
    assert err in result.stderr


def test_against_names_a_deny_rule_that_stands_in_the_way(tmp_path: Path, files: dict[str, str]) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text('version: 1\npolicies: {p: {extends: [readonly], deny: [{operations: ["*Start"]}]}}\n')
    result = run("learn", "--against", str(policy), files["whole"])
    assert result.exit_code == 1
    assert result.stderr == "sockproxy: ContainerStart is denied by p/deny[0], whatever allows it\n"
    assert "# Denied by p/deny[0], whatever allows it" in result.stdout


def test_standard_input() -> None:
    with TRAIL.open("rb") as lines:
        result = run_process("learn", "-", stdin=lines)
    assert "- operations: [ContainerList]" in result.stdout


def test_it_waits_for_nothing_that_it_does_not_use() -> None:
    code = (
        "import sys\nfrom sockproxy.operating.cli.root import root\n"
        f"try: root.main(['learn', {str(TRAIL)!r}])\n"
        "finally: print(*{'aiohttp', 'uvloop', 'rich', 'prometheus_client', 'asyncio'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert told.stdout.splitlines()[-1] == ""


def test_a_stream_is_read_in_bounded_memory(tmp_path: Path) -> None:
    events = chained([event for _ in range(50) for event in record(READONLY, Asked(*LIST, 0))])
    (tmp_path / "a").write_bytes(events)
    stream = trail.read_verified([str(tmp_path / "a"), str(tmp_path / "none")])
    assert next(stream)["operation"] == "ContainerList"  # before the second file is known to be missing
    with pytest.raises(ConfigError, match="cannot be read"):
        list(stream)


# A proxy that learns


def exchange_of(asked: Asked) -> Exchange:
    exchange = decided((asked.method, asked.target), version=None)
    return answered(exchange)


def test_an_apprentice_keeps_what_the_one_before_it_learnt(tmp_path: Path) -> None:
    file = tmp_path / "learnt.yaml"
    first = Apprentice(str(file), CATALOGUE)
    assert load_policy(str(file), CATALOGUE).allow == ()
    first.learner.add(completed_event(exchange_of(Asked(*LIST, 0))))
    first.save()
    second = Apprentice(str(file), CATALOGUE)
    second.learner.add(completed_event(exchange_of(Asked(*START, 0))))
    second.save()
    operations = {name for rule in load_policy(str(file), CATALOGUE).allow for name in rule.operations}
    assert operations == {"ContainerList", "ContainerStart"}
    assert "not seen since" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["learnt.yaml"]


def test_an_apprentice_does_not_take_the_place_of_what_somebody_wrote(tmp_path: Path) -> None:
    file = tmp_path / "ci.yaml"
    file.write_text("version: 1\npolicies: {ci: {allow: []}}\n")
    with pytest.raises(ConfigError, match="was not learnt"):
        Apprentice(str(file), CATALOGUE)
    assert file.read_text().startswith("version: 1")


def test_an_apprentice_writes_where_no_link_of_somebody_else_leads(tmp_path: Path) -> None:
    file, other = tmp_path / "learnt.yaml", tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / f"learnt.yaml.{os.getpid()}.new").symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        Apprentice(str(file), CATALOGUE)
    assert other.read_text() == "theirs"
    Apprentice(str(file), CATALOGUE)
    assert file.read_text().startswith("# ")


def test_an_apprentice_cannot_begin_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Apprentice(str(tmp_path / "none" / "learnt.yaml"), CATALOGUE)


def test_a_request_that_cannot_be_read_any_more_is_passed_over() -> None:
    event = decided_event(decided()) | {"target": "//"}
    with pytest.raises(BadRequest):
        judge(CATALOGUE, READONLY, decided().principal, "GET", "//")
    assert learn([event]).sightings == {}
