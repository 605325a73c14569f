"""judge: what a rule requires is asked of the engine's own reading of a request, and of all that the request does."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.compiling import in_shadow
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.judge import CREATES_TOO, VOLUMES_MAX, Judgement, judge
from sockproxy.judging.policy import Effect, Policy, Reason
from sockproxy.operating.config import load_policy
from sockproxy.operating.known import load_catalogue, load_known_bodies

from .findings import NOTHING_THERE

CATALOGUE, BODIES = load_catalogue(), load_known_bodies()
SOMEBODY = identify(Peer("here", "unix", uid=1000))

POLICY = """
version: 1
policies:
  ci:
    unknown_fields: {unknown}
    mode: {mode}
    allow:
      - operations: [ContainerStart, ContainerList]
      - operations: [ContainerCreate]
        require: {{pod_security: baseline, images: ["busybox:*"], volume_drivers: ["*"], bind_sources: ["/srv/**"]}}
      - operations: [ContainerCreate]
        require: {{names: [trusted], images: ["*"]}}
      - operations: [VolumeCreate]
        require: {{bind_sources: ["/srv/**"]}}
      - operations: [ContainerUpdate]
        require: {{pod_security: baseline}}
      - operations: [ContainerUpdate]
      - operations: [ImageCommit]
        require: {{query: {{repo: ci/*}}}}
      - operations: [NetworkConnect]
        require: {{networks: [ci]}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return make_policy(tmp_path)


def make_policy(folder: Path, unknown: str = "deny", mode: str = "enforce") -> Policy:
    file = folder / "ci.yaml"
    file.write_text(POLICY.format(unknown=unknown, mode=mode), encoding="utf-8")
    return load_policy(str(file), CATALOGUE)


def ask(policy: Policy, target: str, body: Any = None, method: str = "POST") -> Judgement:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return judge(
        *(CATALOGUE, policy, SOMEBODY, method, target),
        content_length=len(raw or b""),
        body=raw,
        bodies=BODIES,
        found=NOTHING_THERE,
    )


CREATE = "/v1.41/containers/create"
MOUNT = {"Type": "volume", "Source": "data", "Target": "/v"}


def with_options(device: str) -> dict[str, Any]:
    options = {"type": "none", "o": "bind", "device": device}
    return {**MOUNT, "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": options}}}


class Row(NamedTuple):
    target: str
    body: Any
    effect: str
    detail: str = ""


ROWS = {
    "met": Row(CREATE, {"Image": "busybox"}, "allow"),
    "not-met": Row(
        CREATE, {"Image": "busybox", "HostConfig": {"Privileged": True}}, "deny", "HostConfig.Privileged is true"
    ),
    "any-spelling": Row(
        CREATE, b'{"image":"busybox","hostconfig":{"PRIVILEGED":true}}', "deny", "HostConfig.Privileged is"
    ),
    "flat": Row(CREATE, b'{"Image":"busybox","Privileged":true}', "deny", "HostConfig.Privileged is true"),
    "another-rule": Row(f"{CREATE}?name=trusted", {"Image": "x", "HostConfig": {"Privileged": True}}, "allow"),
    "closest-rule-is-told": Row(CREATE, {"Image": "alpine"}, "deny", "Image"),
    "a-rule-without-requirement": Row("/v1.41/containers/x/update", {"Memory": 1 << 30}, "allow"),
    "start-as-create": Row(
        "/v1.23/containers/x/start", {"Privileged": True}, "deny", "a start with a body is a ContainerCreate, too:"
    ),
    "start-without-a-body": Row("/v1.23/containers/x/start", None, "allow"),
    "start-today": Row("/v1.41/containers/x/start", None, "allow"),
    "mount-with-options": Row(
        CREATE, {"Image": "busybox", "HostConfig": {"Mounts": [with_options("/srv/a")]}}, "allow"
    ),
    "mount-that-binds-elsewhere": Row(
        CREATE, {"Image": "busybox", "HostConfig": {"Mounts": [with_options("/etc")]}}, "deny", "/etc"
    ),
    "no-body": Row(CREATE, None, "deny", "Image"),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_decisions(policy: Policy, row: Row) -> None:
    judgement = ask(policy, row.target, row.body)
    assert judgement.decision.effect == row.effect, judgement.decision.detail
    assert row.detail in judgement.decision.detail


def test_a_volume_made_by_a_mount_must_be_allowed_as_such(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        'version: 1\npolicies: {p: {allow: [{operations: [ContainerCreate], require: {images: ["**"]}}]}}\n',
        encoding="utf-8",
    )
    only_create = load_policy(str(file), CATALOGUE)
    body = {"Image": "busybox", "HostConfig": {"Mounts": [with_options("/")]}}
    decision = ask(only_create, CREATE, body).decision
    assert decision.effect is Effect.DENY
    assert decision.detail == "a mount with a volume driver is a VolumeCreate, too: no rule allows it"


def test_the_engine_gets_one_canonical_form(policy: Policy) -> None:
    judgement = ask(policy, CREATE, b' { "image" : "busybox", "cmd": "true", "Env": null } ')
    assert judgement.body == b'{"Image":"busybox","Cmd":["true"]}'


def test_who_is_not_asked_for_a_body_is_not_looked_into(policy: Policy) -> None:
    judgement = ask(policy, "/v1.41/containers/json", method="GET")
    assert (judgement.body, judgement.needs_body, judgement.is_of_head) == (None, False, True)


def test_a_body_of_which_nothing_is_required_is_not_looked_into(policy: Policy) -> None:
    """As long as the operation does nothing else by it: that of a create may have a mount that makes a volume."""
    looked = ask(policy, "/v1.41/commit?repo=ci/a", b"{not json")
    assert (looked.decision.effect, looked.needs_body, looked.body) == (Effect.ALLOW, False, None)
    assert not looked.is_of_head
    assert ask(policy, "/v1.41/commit?repo=other", b"{not json").decision.effect is Effect.DENY
    with pytest.raises(BadRequest):
        ask(policy, "/v1.41/networks/ci/connect", b"{not json")


def test_a_body_that_has_not_come_is_asked_for_and_nothing_passes_before(policy: Policy) -> None:
    for length in (10, None):
        judgement = judge(CATALOGUE, policy, SOMEBODY, "POST", CREATE, content_length=length, bodies=BODIES)
        assert judgement.needs_body
        assert not judgement.is_of_head
        assert (judgement.decision.effect, judgement.decision.reason) == (Effect.DENY, Reason.REQUIREMENT)


def test_without_a_reader_of_bodies_nothing_passes(policy: Policy) -> None:
    judgement = judge(CATALOGUE, policy, SOMEBODY, "POST", CREATE, content_length=2, body=b"{}")
    assert judgement.decision.effect is Effect.DENY


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"Image":"a","image":"b"}', b'{"Image":1}', b'{"Image":"busybox"} x'])
def test_a_body_that_can_be_read_in_two_ways_is_refused(policy: Policy, body: bytes) -> None:
    with pytest.raises(BadRequest) as raised:
        ask(policy, CREATE, body)
    assert raised.value.reason is BadRequestReason.BODY


def test_names_that_no_engine_knows(tmp_path: Path) -> None:
    body = {"Image": "busybox", "Zzz": 1}
    with pytest.raises(BadRequest) as raised:
        ask(make_policy(tmp_path), CREATE, body)
    assert raised.value.reason is BadRequestReason.UNKNOWN_FIELD
    assert ask(make_policy(tmp_path, "drop"), CREATE, body).body == b'{"Image":"busybox"}'
    assert ask(make_policy(tmp_path, "pass"), CREATE, body).body == b'{"Image":"busybox","Zzz":1}'


@pytest.mark.parametrize(
    ("target", "unknown"),
    [(CREATE, "TaskTemplate"), ("/v1.41/volumes/create", "HostConfig"), ("/v1.41/volumes/create", "TaskTemplate")],
)
def test_an_unknown_name_that_passes_is_not_read_as_what_another_operation_has(
    tmp_path: Path, target: str, unknown: str
) -> None:
    policy = make_policy(tmp_path, "pass", mode="shadow")
    for value in (1, {"Mounts": 1, "ContainerSpec": 1}):
        assert ask(policy, target, {"Image": "busybox", unknown: value}).decision.effect is Effect.ALLOW


def test_unknown_names_are_judged_alike_in_shadow(tmp_path: Path) -> None:
    for unknown, verdict in (("drop", Effect.ALLOW), ("deny", Effect.DENY)):
        shadow = in_shadow(make_policy(tmp_path, unknown), CATALOGUE)
        assert ask(shadow, CREATE, {"Image": "busybox", "Zzz": 1}).decision.verdict is verdict


def test_under_shadow_all_passes_as_it_came_and_is_told_as_it_would_be(tmp_path: Path) -> None:
    policy = make_policy(tmp_path, mode="shadow")
    judgement = ask(policy, CREATE, {"Image": "busybox", "HostConfig": {"Privileged": True}})
    assert (judgement.decision.effect, judgement.decision.shadow) == (Effect.ALLOW, Effect.DENY)
    unread = ask(policy, CREATE, b'{"Image":')
    assert (unread.decision.effect, unread.decision.shadow, unread.body) == (Effect.ALLOW, Effect.DENY, b'{"Image":')


def volume_by(driver: str, count: int = 1) -> list[dict[str, Any]]:
    config = {"Name": driver, "Options": {"type": "none", "o": "bind", "device": "/srv/a"}}
    return [{"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": config}}] * count


def test_a_body_cannot_make_so_many_volumes_that_others_wait(policy: Policy) -> None:
    body = {"Image": "busybox", "HostConfig": {"Mounts": volume_by("local", VOLUMES_MAX)}}
    assert ask(policy, CREATE, body).decision.effect is Effect.ALLOW
    body["HostConfig"] = {"Mounts": volume_by("local", VOLUMES_MAX + 2)}
    with pytest.raises(BadRequest, match=f"more than {VOLUMES_MAX} volumes"):
        ask(policy, CREATE, body)


SMALL = """
version: 1
policies:
  small:
    allow:
      - operations: [ContainerStart]
      - {operations: [ContainerCreate], require: {names: [ci-*]}}
      - {operations: [VolumeCreate], require: {volume_drivers: [local, rexray], names: [data]}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Policy:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return load_policy(str(file), CATALOGUE)


@pytest.mark.parametrize(
    ("host_config", "why"),
    [
        ({"VolumeDriver": "local", "Binds": ["other:/data"]}, ""),
        ({"VolumeDriver": "rexray", "Binds": ["data:/data:ro", "/srv:/srv"]}, ""),
        ({"VolumeDriver": "rexray", "Binds": ["other:/data"]}, 'Name is "other"; names allows data'),
        ({"VolumeDriver": "rexray", "Binds": ["data:/data", "/inside"]}, "Name is not set; names allows data"),
        ({"VolumeDriver": "nfs", "Binds": ["data:/data"]}, 'Driver is "nfs"; volume_drivers allows local, rexray'),
        ({"VolumeDriver": "rexray"}, "Name is not set; names allows data"),
    ],
)
def test_a_volume_driver_makes_volumes(small: Policy, host_config: dict[str, Any], why: str) -> None:
    """Those that the binds name, and others, of which at least the image may have some."""
    decision = ask(small, f"{CREATE}?name=ci-1", {"Image": "a", "HostConfig": host_config}).decision
    assert decision.detail == (
        f"a create with a volume driver is a VolumeCreate, too: {why}" if why else "a rule allows it"
    )


def test_what_a_request_does_as_well_has_no_query(small: Policy) -> None:
    """An engine does not read the name in the query of a start, so it cannot be what the create is called."""
    for query in ("", "?name=ci-1"):
        decision = ask(small, f"/v1.23/containers/prod/start{query}", {"HostConfig": {"Dns": []}}).decision
        assert decision.effect is Effect.DENY
        assert decision.detail == f"{CREATES_TOO}: query.name is not set; names allows ci-*"
