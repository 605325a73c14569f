"""judge with findings: what has to be found out is asked, what was found out decides, and what was looked at is pinned.

Findings are data here; how they come from an engine is in `test_inquiry`.
"""

import json
import tempfile
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.judging.catalogue import parse_target
from sockproxy.judging.compiling import in_shadow
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.judge import Judgement, judge
from sockproxy.judging.payload import read_query
from sockproxy.judging.pinning import pin
from sockproxy.judging.policy import Effect, Policy, Reason
from sockproxy.judging.requirements.facts import NOTHING_FOUND, Facts, Finding, Findings, Question
from sockproxy.judging.requirements.joins import JOINS_MAX, MASKED, MODES, READ_ONLY, takes_nothing
from sockproxy.judging.requirements.target import SUBJECTS
from sockproxy.operating.config import load_policy
from sockproxy.operating.config.found import read_findings
from sockproxy.operating.known import load_catalogue, load_known_bodies

from .findings import CONTAINER, EXEC, IMAGE_ID, NETWORK, OTHER, Engine, container, engine_with, volume

CATALOGUE, BODIES = load_catalogue(), load_known_bodies()
SOMEBODY = identify(Peer("here", "unix", uid=1000))

POLICY = """
version: 1
policies:
  ci:
    allow:
      - operations: [ContainerStop, ContainerDelete]
        require: {target: {labels: {owner: ci}}}
      - operations: [ContainerStop]
        require: {target: {names: [web]}, query: {t: "1"}}
      - operations: [ContainerKill]
        require: {target: {labels: {owner: ci}}}
      - operations: [ContainerKill]
      - operations: [ContainerCreate]
        require: {pod_security: baseline, images: ["busybox:*"], networks: ["*", "container:listed"]}
      - operations: [VolumeCreate]
        require: {bind_sources: [/srv/**]}
      - operations: [ContainerRename]
        require: {target: {labels: {owner: ci}}}
        shadow: true
      - operations: [ContainerPause]
      - operations: [ContainerPause]
        require: {target: {labels: {owner: ci}}}
    deny:
      - operations: [ContainerDelete]
        shadow: true
"""


@cache
def laws() -> Policy:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(POLICY)
        file.flush()
        return load_policy(file.name, CATALOGUE)


@pytest.fixture
def policy() -> Policy:
    return laws()


def ask(
    policy: Policy, target: str, body: Any = None, found: Findings = NOTHING_FOUND, method: str = "POST"
) -> Judgement:
    raw = None if body is None else json.dumps(body).encode()
    return judge(
        *(CATALOGUE, policy, SOMEBODY, method, target),
        content_length=len(raw or b""),
        body=raw,
        bodies=BODIES,
        found=found,
    )


def create(policy: Policy, found: Findings = NOTHING_FOUND, **host: Any) -> Judgement:
    return ask(policy, "/v1.41/containers/create", {"Image": "busybox", "HostConfig": host}, found)


STOP = "/v1.41/containers/web/stop"
WEB = Question("container", "web")
OURS, THEIRS = container(labels={"owner": "ci"}), container(labels={"owner": "me"}, name="db")


# --- questions


def test_what_is_not_found_out_is_asked_and_denied(policy: Policy) -> None:
    judged = ask(policy, STOP)
    assert (judged.decision.effect, judged.questions) == (Effect.DENY, (WEB,))
    assert judged.decision.detail == 'target needs what the engine says of container "web"'
    assert not judged.is_of_head


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/v1.41/containers/web/kill", "another rule allows it anyway"),
        ("/v1.41/info", "no rule is of it"),
        ("/v1.41/containers/web/pause", "another rule allows it anyway"),
    ],
)
def test_nothing_is_asked_that_cannot_decide(policy: Policy, target: str, why: str) -> None:
    assert ask(policy, target).questions == (), why


def test_nothing_is_asked_for_a_rule_that_fails_otherwise(policy: Policy) -> None:
    body = {"Image": "alpine", "HostConfig": {"Binds": ["data:/d"]}}
    judged = ask(policy, "/v1.41/containers/create", body)
    assert (judged.decision.effect, judged.questions) == (Effect.DENY, ())
    assert "alpine" in judged.decision.detail


def test_all_volumes_are_asked_for_at_once(policy: Policy) -> None:
    mount = {"Type": "volume", "Source": "third", "Target": "/t"}
    judged = create(policy, Binds=["first:/f", "second:/s", "first:/again", "/anonymous"], Mounts=[mount])
    assert judged.questions == tuple(Question("volume", name) for name in ("first", "second", "third"))


def test_what_a_request_does_beside_asks_as_well(policy: Policy) -> None:
    options = {"DriverConfig": {"Options": {"type": "none", "o": "bind", "device": "/srv/a"}}}
    mount = {"Type": "volume", "Target": "/t", "VolumeOptions": options}
    judged = ask(policy, "/v1.41/volumes/create", {"Name": "v", "DriverOpts": options["DriverConfig"]["Options"]})
    assert judged.questions == (Question("path", "/srv/a"),)
    assert create(policy, Mounts=[mount]).questions == ()  # pod_security denies it before


def test_a_rule_in_shadow_is_asked_about_so_that_it_can_be_told(policy: Policy) -> None:
    judged = ask(policy, "/v1.41/containers/web/rename?name=x")
    assert (judged.decision.effect, judged.questions) == (Effect.DENY, (WEB,))
    judged = ask(policy, "/v1.41/containers/web", found={WEB: Finding(OURS)}, method="DELETE")
    assert (judged.decision.effect, judged.decision.shadow) == (Effect.ALLOW, Effect.DENY)


def test_in_mode_shadow_it_passes_while_it_is_asked_and_as_it_came(policy: Policy) -> None:
    shadow = in_shadow(policy, CATALOGUE)
    judged = ask(shadow, STOP)
    assert (judged.decision.effect, judged.questions) == (Effect.ALLOW, (WEB,))
    judged = ask(shadow, STOP, found={WEB: Finding(OURS)})
    assert (judged.decision.shadow, judged.target.canonical) == (Effect.ALLOW, STOP)


# --- answers


def test_an_answer_decides_and_is_pinned(policy: Policy) -> None:
    judged = ask(policy, STOP, found={WEB: Finding(OURS)})
    assert (judged.decision.effect, judged.questions) == (Effect.ALLOW, ())
    assert judged.target.canonical == f"/v1.41/containers/{CONTAINER}/stop"
    assert judged.classified.resource_name == "web"


def test_an_answer_that_does_not_fit_denies(policy: Policy) -> None:
    judged = ask(policy, STOP, found={WEB: Finding(THEIRS)})
    assert judged.decision.effect is Effect.DENY
    assert judged.decision.detail == 'path.id: the container has the label owner "me"; target requires "ci"'


def test_a_failure_denies_and_says_why(policy: Policy) -> None:
    judged = ask(policy, STOP, found={WEB: Finding(failure="the engine did not answer")})
    assert (judged.decision.effect, judged.questions, judged.decision.absent) == (Effect.DENY, (), "")
    assert judged.decision.detail == 'target cannot be told: container "web": the engine did not answer'


def test_an_absence_is_told_only_where_nothing_else_fails(policy: Policy) -> None:
    missing = {WEB: Finding(absent="No such container: web")}
    judged = ask(policy, STOP, found=missing)
    assert (judged.decision.effect, judged.decision.reason) == (Effect.DENY, Reason.REQUIREMENT)
    assert judged.decision.absent == "No such container: web"
    body = {"Image": "alpine", "HostConfig": {"NetworkMode": "container:web"}}
    judged = ask(policy, "/v1.41/containers/create", body, missing)
    assert (judged.decision.effect, judged.decision.absent) == (Effect.DENY, "")


def test_what_is_pinned_must_not_be_another_request(policy: Policy) -> None:
    judged = ask(policy, STOP, found={WEB: Finding({**OURS, "Id": "web/json"})})
    assert judged.decision.detail == "target cannot be evaluated for this request"


IDS = {"container": CONTAINER, "exec": EXEC, "image": IMAGE_ID, "network": NETWORK}
ROUTES = {name: CATALOGUE.operations[name] for name in SUBJECTS}
KEPT = {
    "ImagePush",
    "ImageGet",
    "ImageGetAll",
    "ImageDelete",
    "VolumeInspect",
    "VolumeDelete",
    "VolumeUpdate",
    "ImageCommit",
}


@pytest.mark.parametrize("operation_id", SUBJECTS)
def test_every_operation_of_target_is_pinned_or_keeps_its_name_on_purpose(policy: Policy, operation_id: str) -> None:
    operation = ROUTES[operation_id]
    path = operation.path.replace("{id}", "some").replace("{name}", "some").replace("{checkpoint}", "c%25")
    version = operation.last_api or operation.first_api
    target = parse_target(operation.method, f"/v{version}{path}?container=some&names=some:latest")
    named = CATALOGUE.classify(operation.method, target.path, version)
    assert named.operation is operation
    there = {(kind, "some"): {"Id": id, "ID": id, "RepoTags": ["some:latest"]} for kind, id in IDS.items()}
    found = Engine({**there, ("volume", "some"): volume("some")})
    query = read_query(target.query)
    facts = Facts(operation_id, version, SOMEBODY, named.resource_name, query, {}, found=found)
    pinned = pin(CATALOGUE, target, named, operation.method, facts).target
    kept = [part for part in pinned.path.split("/") if part == "some"]
    assert bool(kept) is (operation_id in KEPT and named.resource_name != "")
    assert ("container=some" in pinned.query) is (operation_id != "ImageCommit")
    again = CATALOGUE.classify(operation.method, pinned.path, version)
    assert again.operation is operation


# --- joins


def joining(**modes: Any) -> dict[str, Any]:
    return {f"{name}Mode": f"container:{other}" for name, other in modes.items()}


def usual(**more: Any) -> dict[str, Any]:
    """A container as the engine shows it, with all that it has filled in."""
    host = {
        "Runtime": "runc",
        "CgroupnsMode": "host",
        "LogConfig": {"Type": "json-file", "Config": {}},
        "ShmSize": 1 << 26,
        "MaskedPaths": [*sorted(MASKED), "/proc/asound"],
        "ReadonlyPaths": sorted(READ_ONLY),
        **more.pop("host", {}),
    }
    return container(host=host, **more)


ENGINE = {"DefaultRuntime": "runc", "CgroupVersion": "1"}


@pytest.mark.parametrize(
    ("modes", "there", "denied"),
    [
        (joining(Network="web"), {"web": usual()}, ""),
        (joining(Network="web"), {"web": usual(host={"NetworkMode": "host"})}, "HostConfig.NetworkMode joins"),
        (joining(Network="web"), {"web": usual(host={"NetworkMode": "ns:/proc/1/ns/net"})}, "HostConfig.NetworkMode"),
        (joining(Network="web"), {"web": usual(host={"Privileged": True})}, ""),
        (joining(Network="listed"), {"listed": usual(host={"NetworkMode": "host"})}, "HostConfig.NetworkMode joins"),
        (joining(Network="web"), {"web": usual(host=joining(Network="db")), "db": usual()}, ""),
        (
            joining(Network="web"),
            {"web": usual(host=joining(Network="db")), "db": usual(host={"NetworkMode": "host"})},
            "HostConfig.NetworkMode joins",
        ),
        (joining(Ipc="web"), {"web": usual(host={"IpcMode": "shareable"})}, ""),
        (joining(Ipc="web"), {"web": usual(host={"IpcMode": "host"})}, "HostConfig.IpcMode joins"),
        (joining(Pid="web"), {"web": usual()}, ""),
        (joining(Pid="web"), {"web": usual(host={"PidMode": "host"})}, "HostConfig.PidMode joins"),
        (joining(Pid="web"), {"web": usual(host={"Privileged": True})}, "HostConfig.PidMode joins"),
        (joining(Pid="web"), {"web": usual(host={"Runtime": "other"})}, "HostConfig.PidMode joins"),
        (joining(Pid="web"), {"web": usual(host={"MaskedPaths": []})}, "HostConfig.PidMode joins"),
        (joining(Pid="web"), {"web": usual(host={"MaskedPaths": None})}, "HostConfig.PidMode joins"),
        (joining(Pid="web"), {"web": usual(host={"ReadonlyPaths": 1})}, "pod_security cannot be evaluated"),
        (joining(Pid="web"), {"web": usual(host={"NewInSomeEngine": True})}, "HostConfig.PidMode joins"),
        (
            joining(Pid="web"),
            {"web": usual(mounts=[{"Type": "bind", "Source": "/", "RW": False}])},
            "HostConfig.PidMode joins",
        ),
        (joining(Pid="web"), {"web": usual(host=joining(Pid="db")), "db": usual()}, ""),
        (
            joining(Pid="web"),
            {"web": usual(host=joining(Pid="db")), "db": usual(host={"CapAdd": ["SYS_PTRACE"]})},
            "HostConfig.PidMode joins",
        ),
        (joining(Pid="web"), {"web": usual(host=joining(Pid="web"))}, "HostConfig.PidMode joins more than"),
        (joining(Pid=""), {}, "HostConfig.PidMode names no container"),
        ({"UsernsMode": "container:web"}, {"web": usual()}, "HostConfig.UsernsMode"),
        ({"VolumesFrom": ["web"]}, {"web": usual(mounts=[{"Type": "tmpfs", "Source": "", "RW": True}])}, ""),
        (
            {"VolumesFrom": ["web:ro"]},
            {"web": usual(mounts=[{"Type": "bind", "Source": "/srv", "RW": False}])},
            'HostConfig.VolumesFrom[0] takes a mount of the container "web", of which Type is "bind"',
        ),
        (
            {"VolumesFrom": ["web"]},
            {"web": usual(mounts=[{"Type": "npipe", "Source": "", "RW": True}])},
            "VolumesFrom[0]",
        ),
        ({"VolumesFrom": ["web"]}, {"web": usual(mounts="?")}, "pod_security cannot be evaluated"),
        (
            {"VolumesFrom": ["web"]},
            {"web": usual(mounts=[{"Type": "volume", "Name": "gone", "Driver": "local", "RW": True}])},
            "pod_security cannot be evaluated",
        ),
        (
            {"VolumesFrom": ["web"]},
            {"web": usual(mounts=[{"Type": "tmpfs", "Source": "", "RW": "true"}])},
            "pod_security cannot be evaluated",
        ),
    ],
)
def test_joins(policy: Policy, modes: dict[str, Any], there: dict[str, Any], denied: str) -> None:
    found = Engine({**{("container", name): one for name, one in there.items()}, ("engine", ""): ENGINE})
    judged = create(policy, found, **modes)
    assert denied in judged.decision.detail
    assert judged.decision.effect is (Effect.DENY if denied else Effect.ALLOW), judged.decision.detail
    if not denied:
        assert b":web" not in (judged.body or b"")


def test_joins_end(policy: Policy) -> None:
    there = {f"c{at}": {"host": joining(Network=f"c{at + 1}")} for at in range(JOINS_MAX + 1)}
    assert "in a row" in create(policy, engine_with({"container": there}), **joining(Network="c0")).decision.detail


# --- laws

NAMES = st.sampled_from(["web", "db", CONTAINER])
LABELS = st.dictionaries(st.sampled_from(["owner", "x"]), st.sampled_from(["ci", "me"]))
HOSTS = st.fixed_dictionaries(
    {},
    optional={
        "NetworkMode": st.sampled_from(["host", "none", "container:web", "container:db", "container:"]),
        "PidMode": st.sampled_from(["host", "", "container:web", "container:db"]),
        "IpcMode": st.sampled_from(["host", "private", "container:web"]),
        "Binds": st.lists(st.sampled_from(["/:/h", "data:/d", "more:/m:ro", "/x"]), max_size=2),
        "VolumesFrom": st.lists(st.sampled_from(["web", "db:ro"]), max_size=2),
        "Privileged": st.booleans(),
    },
)
MOUNTS = st.lists(
    st.sampled_from(
        [
            {"Type": "bind", "Source": "/", "RW": True},
            {"Type": "volume", "Name": "data", "Driver": "local", "RW": True},
            {"Type": "tmpfs", "Source": "", "RW": True},
        ]
    ),
    max_size=2,
)
CONTAINERS = st.builds(
    lambda id, labels, host, mounts: usual(id=id, labels=labels, host=host, mounts=mounts),
    *(st.sampled_from([CONTAINER, OTHER]), LABELS, HOSTS, MOUNTS),
)
VOLUMES = st.sampled_from([volume("v"), volume("v", type="none", o="bind", device="/"), volume("v", driver="rexray")])
DATA = {"container": CONTAINERS, "volume": VOLUMES, "engine": st.just(ENGINE), "path": st.just({})}
REQUESTS = st.one_of(
    st.tuples(st.sampled_from([STOP, STOP + "?t=1", "/v1.41/containers/db/kill"]), st.none()),
    st.tuples(
        st.just("/v1.41/containers/create"),
        st.builds(lambda host: {"Image": "busybox", "HostConfig": host}, HOSTS),
    ),
)


def finding(data: st.DataObject, question: Question) -> Finding:
    there = data.draw(DATA[question.kind])
    return data.draw(st.sampled_from([Finding(there), Finding(absent="no"), Finding(failure="no")]))


@given(REQUESTS, st.data())
def test_a_request_is_allowed_only_by_answers_and_asks_end(request: tuple[str, Any], data: st.DataObject) -> None:
    """Open questions never allow, what is answered is not asked again, and nothing but what was asked for decides."""
    policy = laws()
    found: dict[Question, Finding] = {}
    for _ in range(40):
        judged = ask(policy, *request, found=found)
        if not judged.questions:
            break
        assert judged.decision.effect is Effect.DENY
        assert found.keys().isdisjoint(judged.questions)
        found |= {one: finding(data, one) for one in judged.questions}
    assert judged.questions == ()
    more = {
        **found,
        Question("container", "unasked"): Finding(OURS),
        Question("volume", "unasked"): Finding(failure="x"),
    }
    assert ask(policy, *request, found=more) == judged._replace(facts=ask(policy, *request, found=more).facts)


@given(REQUESTS, st.data())
def test_less_known_never_allows_more(request: tuple[str, Any], data: st.DataObject) -> None:
    """Taking an answer away, or making it a failure, allows nothing that was not allowed."""
    policy, found = laws(), {}
    while questions := ask(policy, *request, found=found).questions:
        found |= {one: finding(data, one) for one in questions}
    whole = ask(policy, *request, found=found).decision
    for question in found:
        without = {one: known for one, known in found.items() if one != question}
        for less in (without, {**found, question: Finding(failure="gone")}):
            decision = ask(policy, *request, found=less).decision
            assert whole.effect is Effect.ALLOW or decision.effect is Effect.DENY


@given(REQUESTS, st.data())
def test_what_is_allowed_names_only_what_was_looked_at(request: tuple[str, Any], data: st.DataObject) -> None:
    policy, found = laws(), {}
    while questions := ask(policy, *request, found=found).questions:
        found |= {one: finding(data, one) for one in questions}
    judged = ask(policy, *request, found=found)
    if judged.decision.effect is Effect.DENY or not found:
        return
    host = json.loads(judged.body)["HostConfig"] if judged.body else {}
    named = [mode.removeprefix("container:") for mode in host.values() if str(mode).startswith("container:")]
    named += [one.partition(":")[0] for one in host.get("VolumesFrom", ())]
    assert all(name in (CONTAINER, OTHER) for name in named)


def test_findings_are_read_from_a_file() -> None:
    """`found` of a policy's own tests and `--found` of explain have one form: what is wrong with it is told."""
    assert read_findings('{"volume": {"v": null}, "path": {"/x": {"real": "/"}}}') == {
        Question("volume", "v"): Finding(absent="No such volume: v"),
        Question("path", "/x"): Finding({"real": "/"}),
    }
    for wrong in ("", "[]", '{"contaner": {}}', '{"container": []}', '{"container": {"web": 1}}'):
        with pytest.raises(ValueError, match=r"."):
            read_findings(wrong)


@pytest.mark.parametrize(
    ("operation", "host", "is_seen"),
    [
        ("ContainerCreate", None, True),
        ("ContainerStart", None, True),
        ("ContainerCreate", {"NetworkMode": "shop", "IpcMode": "private", "PidMode": "host"}, True),
        ("ContainerCreate", {"Binds": [], "VolumesFrom": [], "Mounts": []}, True),
        ("ContainerCreate", {"Mounts": [{"Type": "volume", "Target": "/data"}]}, True),
        (
            "ContainerCreate",
            {"Mounts": [{"Type": "volume", "Target": "/a"}, {"Source": "data", "Target": "/b"}]},
            False,
        ),
        ("ContainerCreate", {"Binds": ["data:/data"]}, False),
        ("ContainerStart", {"Binds": ["data:/data"]}, False),
        ("ContainerCreate", {"VolumesFrom": ["web"]}, False),
        *(("ContainerCreate", {mode: "container:web"}, False) for mode in MODES),
        ("ServiceCreate", None, False),
    ],
)
def test_what_takes_nothing_along_is_seen_at_a_glance(
    operation: str, host: dict[str, Any] | None, is_seen: bool
) -> None:
    body = {} if host is None else {"HostConfig": host}
    assert takes_nothing(Facts(operation, None, SOMEBODY, "", read_query(""), body)) is is_seen
