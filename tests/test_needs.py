"""What is learnt of bodies: a policy that passes what was recorded, and of which no rule and no value can be left out."""

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.data import load_secrets
from sockproxy.errors import BadRequest
from sockproxy.exchange import Level
from sockproxy.judging.judge import judge
from sockproxy.judging.policy import Effect, Policy
from sockproxy.judging.requirements.facts import Findings
from sockproxy.judging.requirements.seen import SEEN, least
from sockproxy.operating.config import check_config, load_policy
from sockproxy.operating.known import load_known_bodies
from sockproxy.operating.learning import learnt_policy
from sockproxy.recording import needs as needs_module
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.event import Event
from sockproxy.recording.learning import Learner
from sockproxy.recording.levels import Levels
from sockproxy.recording.recorded import body_of
from sockproxy.recording.redaction import Redactor, mark_by
from tests.cli_runs import run
from tests.exchanges import CATALOGUE, MemorySink, answered, decided

BODIES = load_known_bodies()
REDACTOR = Redactor(load_secrets(), mark_by(b"k" * 32))
ALLOW_ALL = load_policy("allow-all", CATALOGUE)


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    body: Any = None


def record(asked: list[Asked], level: Level = Level.REQUEST) -> bytes:
    """The trail of requests that passed."""
    levels = Levels((), {"memory": level}, REDACTOR, load_known_bodies)
    trail = AuditTrail([(sink := MemorySink(), "deny-writes")], lambda flush: None, lambda *_: None, levels=levels)
    for number, (method, raw_target, body) in enumerate(asked):
        exchange = decided(id=f"a-{number}")
        target, exchange.classified, exchange.decision, *_ = judge(
            CATALOGUE, ALLOW_ALL, exchange.principal, method, raw_target
        )
        exchange.method, exchange.target, exchange.api_version = (
            method,
            REDACTOR.target(target.canonical),
            target.version,
        )
        raw = b"" if body is None else orjson.dumps(body)
        exchange.extent = levels.extent_of(exchange, None)
        exchange.extent.body = raw if exchange.extent.wants_body else b""
        exchange.bytes_in = len(raw)
        trail.decided(exchange)
        trail.completed(answered(exchange))
    trail.close()
    return sink.lines


def events_of(lines: bytes) -> list[Event]:
    return [json.loads(line) for line in lines.splitlines()]


def learn(events: list[Event], against: Policy | None = None) -> Learner:
    learner = Learner(CATALOGUE, against, bodies=BODIES)
    for event in events:
        learner.add(event)
    return learner


def learnt(events: list[Event], against: Policy | None = None, extends: tuple[str, ...] = ()) -> str:
    return learnt_policy(learn(events, against), "p", extends=extends, with_requirements=True)


def denied(text: str, events: list[Event], file: Path) -> list[str]:
    """Which of the recorded requests a policy denies, and why."""
    file.write_text(text, encoding="utf-8")
    policy = load_policy(str(file), CATALOGUE)
    return [why for event in events if event["stage"] == "decided" and (why := why_denied(policy, event))]


def why_denied(policy: Policy, event: Event) -> str:
    body = body_of(event)
    found: Findings = {}
    while True:
        try:
            judgement = judge(
                *(CATALOGUE, policy, decided().principal, str(event["method"]), str(event["target"])),
                content_length=len(body or b""),
                body=body,
                bodies=BODIES,
                found=found,
            )
        except BadRequest as error:
            return error.detail
        more = needs_module.assume(judgement.questions)
        if not more:
            break
        found = {**found, **more}
    return judgement.decision.detail if judgement.decision.effect is Effect.DENY else ""


# What is required of what was seen


def create(**body: Any) -> Asked:
    return Asked("POST", "/v1.41/containers/create", {"Image": "busybox"} | body)


def host(**config: Any) -> Asked:
    return create(HostConfig=config)


USUAL = {
    "pod_security": "baseline",
    "images": ["docker.io/library/busybox:latest"],
    "bind_sources": [],
    "networks": ["bridge"],
    "capabilities": [],
}
CIFS = {
    "Type": "volume",
    "Target": "/v",
    "VolumeOptions": {"DriverConfig": {"Options": {"type": "cifs", "o": "password=p"}}},
}

# (requests, operation, what is required of it)
LEARNT: list[tuple[list[Asked], str, dict[str, Any]]] = [
    ([create()], "ContainerCreate", USUAL),
    ([create(Env=["TOKEN=t"]), create()], "ContainerCreate", USUAL),
    ([create(), create(Image="a/b:1")], "ContainerCreate", USUAL | {"images": ["docker.io/a/b:1", *USUAL["images"]]}),
    ([host(Binds=["/srv/a:/a", "vol:/v"])], "ContainerCreate", USUAL | {"bind_sources": ["/srv/a"]}),
    ([host(Binds=["/srv/../a:/a"])], "ContainerCreate", USUAL | {"bind_sources": ["/a"]}),
    ([host(NetworkMode="ci")], "ContainerCreate", USUAL | {"networks": ["ci"]}),
    ([host(NetworkMode="host")], "ContainerCreate", USUAL | {"networks": ["host"]}),
    ([host(CapAdd=["cap_net_admin"])], "ContainerCreate", USUAL | {"capabilities": ["NET_ADMIN"]}),
    (
        [host(Privileged=True, CapAdd=["CHOWN"])],
        "ContainerCreate",
        {key: value for key, value in (USUAL | {"capabilities": ["ALL"]}).items() if key != "pod_security"},
    ),
    ([host(VolumesFrom=["x"])], "ContainerCreate", {key: USUAL[key] for key in ("images", "networks", "capabilities")}),
    (
        [Asked("POST", "/images/create?fromImage=busybox&tag=1")],
        "ImageCreate",
        {"images": ["docker.io/library/busybox:1"]},
    ),
    (
        [Asked("POST", f"/images/create?fromImage=busybox{tag}") for tag in ("", "&tag=1")],
        "ImageCreate",
        {"images": ["docker.io/library/busybox:*"]},
    ),
    ([Asked("POST", "/images/create?fromSrc=https://a:b@c/d")], "ImageCreate", {}),
    ([Asked("POST", "/containers/web/start")], "ContainerStart", {}),
    ([Asked("GET", "/containers/json")], "ContainerList", {}),
    (
        [Asked("POST", "/containers/web/exec", {"Cmd": ["a"], "Env": ["A=b"]})],
        "ContainerExec",
        {"pod_security": "baseline", "capabilities": []},
    ),
    ([host(Mounts=[CIFS])], "VolumeCreate", {}),
]


@pytest.mark.parametrize(("asked", "operation", "require"), LEARNT)
def test_what_is_required(asked: list[Asked], operation: str, require: dict[str, Any], tmp_path: Path) -> None:
    events = events_of(record(asked))
    text = learnt(events)
    rules = {rule["operations"][0]: rule.get("require", {}) for rule in yaml.safe_load(text)["policies"]["p"]["allow"]}
    assert rules[operation] == require, text
    assert denied(text, events, tmp_path / "p.yaml") == []


def test_what_cannot_be_required_is_said(tmp_path: Path) -> None:
    text = learnt(events_of(record([host(VolumesFrom=["x"], Privileged=True)])))
    assert "# bind_sources cannot be required: HostConfig.VolumesFrom[0] takes the mounts of" in text
    assert "# Above pod_security baseline: HostConfig.Privileged is true" in text


def test_more_values_than_anybody_reads_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [create(Image=f"a:{number}") for number in range(needs_module.VALUES_MAX + 1)]
    text = learnt(events_of(record(asked)))
    assert f"# images cannot be required: there are more than {needs_module.VALUES_MAX} of them" in text
    assert "images:" not in text


def test_names_that_no_engine_knows_are_dropped(tmp_path: Path) -> None:
    events = events_of(record([create(Unheard=1)]))
    text = learnt(events)
    assert yaml.safe_load(text)["policies"]["p"]["unknown_fields"] == "drop"
    assert denied(text, events, tmp_path / "p.yaml") == []


# The command


def test_a_record_without_bodies_says_so(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(
        record([create(), Asked("GET", "/info"), Asked("POST", "/auth", {"password": "p"})], Level.METADATA)
    )
    result = run("learn", "--requirements", str(file))
    assert result.exit_code == 1
    assert (
        "nothing is required of ContainerCreate: a body is not in the record, once; record at level Request"
        in result.stderr
    )
    assert "SystemAuth" not in result.stderr
    assert "require:" not in result.stdout
    assert "Nothing is required: the record does not have all bodies" in result.stdout


def test_only_what_another_policy_lacks(tmp_path: Path) -> None:
    file, against = tmp_path / "audit.jsonl", tmp_path / "against.yaml"
    file.write_bytes(record([create(), create(Image="a:1"), Asked("GET", "/info")]))
    rule = "{operations: [ContainerCreate], require: {images: [busybox]}}"
    against.write_text(f"version: 1\npolicies: {{q: {{extends: [readonly], allow: [{rule}]}}}}\n")
    result = run("learn", "--requirements", "--against", str(against), str(file))
    assert result.exit_code == 1
    (lacking,) = yaml.safe_load(result.stdout)["policies"]["learnt"]["allow"]
    assert lacking["require"]["images"] == ["docker.io/library/a:1"]
    against.write_text(f"version: 1\npolicies: {{q: {{allow: [{rule}, {{operations: ['*']}}]}}}}\n")
    assert run("learn", "--requirements", "--against", str(against), str(file)).exit_code == 0


def test_without_the_option_nothing_is_required(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(record([create()]))
    result = run("learn", str(file))
    assert (result.exit_code, "require" in result.stdout) == (0, False)


# Properties

digest = "sha256:" + "0a" * 32
images = st.sampled_from(["busybox", "busybox:1", f"a/b@{digest}", "localhost:5000/c", digest, "", "UPPER/x"])
paths = st.sampled_from(["/srv", "/srv/a", "/srv//a/", "/a*b", "/axb", "/a?b", "volume", "/with space"])
binds = st.builds(lambda path, mode: f"{path}:/t{mode}", paths, st.sampled_from(["", ":ro"]))
networks = st.sampled_from(["", "default", "bridge", "host", "none", "ci", "ci-1", "container:x", "c*", "c?"])
names = st.sampled_from(["NET_ADMIN", "cap_net_admin", "SYS_TIME", "ALL", "all", "no name"])
mounts = st.sampled_from([CIFS, {"Type": "bind", "Source": "/m", "Target": "/t"}, {"Type": "tmpfs", "Target": "/t"}])
hosts = st.fixed_dictionaries(
    {},
    optional={
        "Binds": st.lists(binds, max_size=3),
        "NetworkMode": networks,
        "CapAdd": st.lists(names, max_size=2),
        "Privileged": st.booleans(),
        "Mounts": st.lists(mounts, max_size=2),
        "VolumesFrom": st.lists(st.just("x"), max_size=1),
    },
)
creates = st.builds(
    lambda image, config, more: Asked(
        "POST", "/v1.41/containers/create", {"Image": image, "HostConfig": config} | more
    ),
    images,
    hosts,
    st.sampled_from([{}, {"Env": ["A=b"]}, {"Unheard": 1}, {"NetworkingConfig": {"EndpointsConfig": {"net": {}}}}]),
)
others = st.sampled_from(
    [
        Asked("GET", "/info"),
        Asked("POST", "/v1.41/containers/web/start"),
        Asked("POST", "/v1.20/containers/web/start", {"Binds": ["/old:/old"]}),
        Asked("POST", "/v1.41/containers/web/exec", {"Cmd": ["a"], "Privileged": True}),
        Asked("POST", "/v1.41/containers/web/exec", {"Cmd": ["a"]}),
        Asked("POST", "/v1.41/images/create?fromImage=busybox"),
        Asked("POST", "/v1.41/images/create?fromImage=busybox&tag=2"),
        Asked(
            "POST", "/v1.41/volumes/create", {"Name": "v", "DriverOpts": {"type": "none", "o": "bind", "device": "/d"}}
        ),
        Asked("POST", "/v1.41/networks/ci/connect", {"Container": "web"}),
        Asked("POST", "/v1.41/build?t=a&networkmode=host&buildargs=%7B%22A%22%3A%22b%22%7D"),
    ]
)
records = st.lists(creates | others, min_size=1, max_size=6)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learnt") / "p.yaml"


@settings(max_examples=60, deadline=None)
@given(asked=records)
def test_what_was_recorded_passes_and_nothing_can_be_left_out(asked: list[Asked], scratch: Path) -> None:
    events = events_of(record(asked))
    text = learnt(events)
    assert denied(text, events, scratch) == [], text
    check_config(str(scratch), CATALOGUE)
    for less in without_one(yaml.safe_load(text)):
        assert denied(yaml.safe_dump(less), events, scratch), (text, less)


def without_one(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The policy without one of its rules, or without one value of one of its rules."""
    found = []
    for at, rule in enumerate(document["policies"]["p"]["allow"]):
        less = copy.deepcopy(document)
        del less["policies"]["p"]["allow"][at]
        found.append(less)
        for key, values in rule.get("require", {}).items():
            for value in values if isinstance(values, list) else ():
                kept = [one for one in values if one != value]
                less = copy.deepcopy(document)
                less["policies"]["p"]["allow"][at]["require"][key] = kept or (["unused"] if key == "images" else [])
                found.append(less)
    return found


@settings(max_examples=30, deadline=None)
@given(before=records, after=records)
def test_what_was_lacking_makes_it_whole(before: list[Asked], after: list[Asked], scratch: Path) -> None:
    """A policy learnt of some requests, and what it lacks of others, together let all of them pass."""
    scratch.write_text(learnt(events_of(record(before))))
    against = load_policy(str(scratch), CATALOGUE)
    events = events_of(record(after))
    more = yaml.safe_load(learnt(events, against))["policies"]["p"]
    both = yaml.safe_load(scratch.read_text())
    own = both["policies"]["p"]
    own["allow"] += more["allow"] or []
    own.pop("api_versions", None)
    own["unknown_fields"] = "drop"
    assert denied(yaml.safe_dump(both), events, scratch) == []


@given(st.sampled_from(sorted(SEEN)), st.lists(st.sampled_from(["a", "ALL", "b"]), max_size=3))
def test_least_is_enough(key: str, values: list[str]) -> None:
    form = {"bind_sources": "/{}", "images": "docker.io/library/{}:1"}.get(key, "{}")
    written = [form.format(value if key == "capabilities" else value.lower()) for value in values]
    kept = least(key, written)
    assert all(SEEN[key].fit(kept, value) for value in written)
    assert not [
        value for value in kept if len(kept) > 1 and SEEN[key].fit([one for one in kept if one != value], value)
    ]
