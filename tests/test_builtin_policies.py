"""The policies that come with sockproxy: what they allow, and that nothing slips in or out unseen."""

import csv
from pathlib import Path

import pytest
import yaml

from sockproxy import data
from sockproxy.judging.catalogue import UNKNOWN, Access, ApiVersion, Catalogue, Classified
from sockproxy.judging.comparison import diff_policies, effects
from sockproxy.judging.identity import Principal
from sockproxy.judging.policy import AccessRequest, Decision, Effect, Mode, Policy, Reason, decide
from sockproxy.operating.config import check_config, load_policy

CATALOGUE = Catalogue(data.load_operations())
NAMES = data.builtin_policy_names()
BUILT_IN = {name: load_policy(name, CATALOGUE) for name in NAMES}
SEED = list(csv.DictReader((Path(__file__).parent / "cases" / "seed_endpoints.csv").open(encoding="utf-8")))
NOBODY = Principal("unix", 0, 0, 1, None, None, None, None, "uid:0")

KUBELET_OF_1_3 = {
    "ContainerList", "ContainerInspect", "ContainerChanges", "ContainerCreate", "ContainerStart", "ContainerStop",
    "ContainerKill", "ContainerDelete", "ContainerAttach", "ContainerLogs", "ContainerExec", "ExecStart", "ExecInspect",
    "ImageList", "ImageInspect", "ImageHistory", "ImageCreate", "ImageDelete", "SystemVersion", "SystemInfo",
}  # fmt: skip
NEW_IN_1_4 = {"ContainerResize", "ExecResize"}
READS_THAT_CARRY_CONTENTS_OUT = {
    "ContainerExport", "ContainerArchive", "ImageGet", "ImageGetAll", "ConfigList", "ConfigInspect", "SwarmInspect",
    "SwarmUnlockkey",
}  # fmt: skip


def allowed(policy: Policy, version: ApiVersion | None = None) -> set[str]:
    return {name for name, effect in effects(policy, CATALOGUE, version).items() if effect is Effect.ALLOW}


def ask(policy: str, method: str, path: str, version: ApiVersion | None = None) -> Decision:
    classified = CATALOGUE.classify(method, path, version)
    return decide(BUILT_IN[policy], AccessRequest(NOBODY, classified, version, method, path))


def test_these_come_with_sockproxy() -> None:
    assert NAMES == ("allow-all", "kubernetes-1.3", "kubernetes-1.4", "readonly")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_one_enforced_policy_in_a_file_that_a_user_could_write(name: str, tmp_path: Path) -> None:
    _, text = data.load_builtin_policy(name)
    copy = tmp_path / f"{name}.yaml"
    copy.write_text(text, encoding="utf-8")
    check_config(str(copy), CATALOGUE)
    assert load_policy(str(copy), CATALOGUE) == BUILT_IN[name]
    assert list(yaml.safe_load(text)["policies"]) == [name]
    assert text.startswith("# ")
    assert BUILT_IN[name].mode is Mode.ENFORCE


# Kubernetes


@pytest.mark.parametrize("version", [None, ApiVersion(1, 21), ApiVersion(1, 24), ApiVersion(1, 55)])
def test_kubernetes_policies_are_exactly_their_lists(version: ApiVersion | None) -> None:
    assert allowed(BUILT_IN["kubernetes-1.3"], version) == KUBELET_OF_1_3
    assert allowed(BUILT_IN["kubernetes-1.4"], version) == KUBELET_OF_1_3 | NEW_IN_1_4


@pytest.mark.parametrize("release, count", [("1.3", 20), ("1.4", 22)])
def test_kubernetes_policies_agree_with_catalogue_and_seed(release: str, count: int) -> None:
    found = allowed(BUILT_IN[f"kubernetes-{release}"])
    column = f"kubernetes_{release.replace('.', '_')}"
    assert len(found) == count
    assert found == {name for name, one in CATALOGUE.operations.items() if release in one.kubernetes}
    assert found == {row["operation_id"] for row in SEED if row[column] == "yes"}


def test_kubernetes_1_4_adds_the_two_resizes() -> None:
    added = diff_policies(BUILT_IN["kubernetes-1.3"], BUILT_IN["kubernetes-1.4"], CATALOGUE)
    assert added == [("+", "ContainerResize"), ("+", "ExecResize")]


@pytest.mark.parametrize("name", ["kubernetes-1.3", "kubernetes-1.4"])
def test_kubernetes_needs_docker_1_9(name: str) -> None:
    assert ask(name, "GET", "/containers/json", ApiVersion(1, 20)).reason is Reason.API_VERSION
    assert ask(name, "GET", "/containers/json", ApiVersion(1, 21)).effect is Effect.ALLOW
    assert ask(name, "GET", "/containers/json").effect is Effect.ALLOW


def test_a_rule_of_1_3_keeps_its_name_in_1_4() -> None:
    assert ask("kubernetes-1.4", "GET", "/info").rule == "kubernetes-1.3/allow[3]"
    assert ask("kubernetes-1.4", "POST", "/exec/x/resize").rule == "kubernetes-1.4/allow[0]"


# readonly


def test_readonly_is_every_read_but_those_that_carry_contents_out() -> None:
    reads = {name for name, one in CATALOGUE.operations.items() if one.access is Access.READ}
    assert reads >= READS_THAT_CARRY_CONTENTS_OUT
    assert allowed(BUILT_IN["readonly"]) == reads - READS_THAT_CARRY_CONTENTS_OUT


def test_readonly_denies_nothing_so_that_what_extends_it_can_add() -> None:
    assert BUILT_IN["readonly"].deny == ()


LOOKED_AT = [  # as the docker command line asks
    ("docker ps", "GET", "/containers/json"),
    ("docker inspect", "GET", "/containers/x/json"),
    ("docker logs -f", "GET", "/containers/x/logs"),
    ("docker stats", "GET", "/containers/x/stats"),
    ("docker top", "GET", "/containers/x/top"),
    ("docker diff", "GET", "/containers/x/changes"),
    ("docker images", "GET", "/images/json"),
    ("docker history", "GET", "/images/x/history"),
    ("docker events", "GET", "/events"),
    ("docker info", "GET", "/info"),
    ("docker version", "GET", "/version"),
    ("docker system df", "GET", "/system/df"),
    ("docker network ls", "GET", "/networks"),
    ("docker volume ls", "GET", "/volumes"),
    ("the first ping", "HEAD", "/_ping"),
    ("the second ping", "GET", "/_ping"),
]


@pytest.mark.parametrize("method, path", [row[1:] for row in LOOKED_AT], ids=[row[0] for row in LOOKED_AT])
def test_readonly_serves_who_looks(method: str, path: str) -> None:
    assert ask("readonly", method, path, ApiVersion(1, 41)).effect is Effect.ALLOW


TOUCHED = [
    ("docker wait", "POST", "/containers/x/wait"),
    ("docker attach", "POST", "/containers/x/attach"),
    ("docker attach by websocket", "GET", "/containers/x/attach/ws"),
    ("docker exec", "POST", "/containers/x/exec"),
    ("docker cp", "GET", "/containers/x/archive"),
    ("docker export", "GET", "/containers/x/export"),
    ("docker save", "GET", "/images/get"),
    ("docker pull", "POST", "/images/create"),
    ("docker swarm join-token", "GET", "/swarm"),
    ("debug pages", "GET", "/debug/pprof/heap"),
]


@pytest.mark.parametrize("method, path", [row[1:] for row in TOUCHED], ids=[row[0] for row in TOUCHED])
def test_readonly_denies_who_touches_or_takes_away(method: str, path: str) -> None:
    assert ask("readonly", method, path, ApiVersion(1, 41)).effect is Effect.DENY


# allow-all


@pytest.mark.parametrize("version", [None, ApiVersion(1, 12), ApiVersion(1, 55), ApiVersion(9, 9)])
def test_allow_all_allows_all(version: ApiVersion | None) -> None:
    asked = [Classified(one, one.in_version(version), "", "") for one in CATALOGUE.operations.values()]
    decisions = [
        decide(BUILT_IN["allow-all"], AccessRequest(NOBODY, one, version, "GET", "/")) for one in (*asked, UNKNOWN)
    ]
    assert {decision.effect for decision in decisions} == {Effect.ALLOW}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "allow-all"])
def test_no_other_policy_allows_what_is_unknown(name: str) -> None:
    assert ask(name, "GET", "/debug/vars").reason is Reason.UNKNOWN_OPERATION
    assert ask(name, "POST", "/containers/prune", ApiVersion(1, 23)).reason is Reason.NOT_IN_API_VERSION
