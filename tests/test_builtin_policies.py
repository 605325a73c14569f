"""The policies that come with sockproxy: what they allow, and that nothing slips in or out unseen."""

import csv
import re
import runpy
from pathlib import Path

import pytest
import yaml

from sockproxy import data
from sockproxy.judging.catalogue import UNKNOWN, Access, ApiVersion, Catalogue, Classified
from sockproxy.judging.comparison import Verdict, diff_policies, effects
from sockproxy.judging.compiling import select
from sockproxy.judging.identity import Principal
from sockproxy.judging.policy import (
    AccessRequest,
    Decision,
    Effect,
    Mode,
    Policy,
    Reason,
    decide,
)
from sockproxy.operating.config import check_config, load_policy

CATALOGUE = Catalogue(data.load_operations())
NAMES = data.builtin_policy_names()
CLIENTS = data.client_policy_names()
CASES = Path(__file__).parent / "cases"
DOCS = Path(__file__).parents[1] / "docs"
BUILT_IN = {name: load_policy(name, CATALOGUE) for name in NAMES}
SEED = list(csv.DictReader((CASES / "seed_endpoints.csv").open(encoding="utf-8")))
CALLS = list(csv.DictReader((CASES / "clients.csv").open(encoding="utf-8")))
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
    """What a policy allows, if only under requirements."""
    return {name for name, effect in effects(policy, CATALOGUE, version).items() if effect is not Verdict.DENY}


def ask(policy: str, method: str, path: str, version: ApiVersion | None = None) -> Decision:
    classified = CATALOGUE.classify(method, path, version)
    return decide(BUILT_IN[policy], AccessRequest(NOBODY, classified, version, method, path))


def test_these_come_with_sockproxy() -> None:
    general = {"allow-all", "ci", "kubernetes-1.3", "kubernetes-1.4", "readonly"}
    assert set(NAMES) == general | set(CLIENTS)
    assert set(CLIENTS) == {row["client"] for row in CALLS}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_one_enforced_policy_in_a_file_that_a_user_could_write(name: str, tmp_path: Path) -> None:
    _, text = data.load_builtin_policy(name)
    copy = tmp_path / f"{name}.yaml"
    copy.write_text(text, encoding="utf-8")
    check_config(str(copy), CATALOGUE)
    assert load_policy(str(copy), CATALOGUE).revision == BUILT_IN[name].revision
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


# Clients

EXTENDS = {
    "compose": "compose-up",
    "crowdsec-swarm": "crowdsec",
    "docker-gen-notify": "docker-gen",
    "dozzle-actions": "dozzle",
    "dozzle-shell": "dozzle",
    "github-actions-runner-build": "github-actions-runner",
    "homepage-swarm": "homepage",
    "portainer": "portainer-readonly",
    "telegraf-docker-disk": "telegraf-docker",
    "telegraf-docker-swarm": "telegraf-docker",
    "watchtower-hooks": "watchtower",
    "watchtower-nickfedor-hooks": "watchtower-nickfedor",
}
"""A client that can do more, and what it is without: the record has only what comes in addition."""

NAMES_NO_VERSION = {
    "autoheal", "beszel-agent", "docker-gen", "docker-gen-notify", "homepage", "homepage-swarm", "uptime-kuma",
}  # fmt: skip
NAMES_ALWAYS_A_VERSION = {"testcontainers-java", "watchtower", "watchtower-hooks"}
OLDEST_BUT_1_40 = {
    "kubelet-dockertools": (1, 21),
    "portainer": (1, 24),
    "portainer-readonly": (1, 24),
    "testcontainers-ryuk": (1, 24),
    "watchtower": (1, 25),
    "watchtower-hooks": (1, 25),
    "github-actions-runner": (1, 30),
    "github-actions-runner-build": (1, 30),
    "testcontainers-java": (1, 32),
    "cri-dockerd": (1, 42),
}
"""The oldest API version that a client settles for, where it is not that of Go's present client library."""

WRITE_AND_TUNNEL = {
    "act-runner", "buildx-container-driver", "buildx-docker-driver", "compose", "compose-up", "cri-dockerd", "ci",
    "dozzle-shell", "github-actions-runner", "github-actions-runner-build", "gitlab-runner", "kubelet-dockertools",
    "kubernetes-1.3", "kubernetes-1.4", "portainer", "testcontainers-go", "testcontainers-java", "watchtower-hooks",
    "watchtower-nickfedor-hooks", "allow-all",
}  # fmt: skip
WRITE = {
    "autoheal", "docker-gen-notify", "dozzle-actions", "testcontainers-ryuk", "watchtower", "watchtower-nickfedor",
}  # fmt: skip
"""What has neither access only looks."""

IS_THE_HOST = WRITE_AND_TUNNEL - {"buildx-docker-driver", "dozzle-shell"} | WRITE - {
    "autoheal", "docker-gen-notify", "testcontainers-ryuk",
}  # fmt: skip
"""What may create a container."""


def calls_of(client: str) -> set[str]:
    """What the client calls: what is recorded of it, and of what it extends."""
    more = calls_of(EXTENDS[client]) if client in EXTENDS else set()
    return {row["operation_id"] for row in CALLS if row["client"] == client} | more


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_is_allowed_what_its_source_calls_and_nothing_else(client: str) -> None:
    policy = BUILT_IN[client]
    assert allowed(policy, ApiVersion(1, 55)) == calls_of(client)
    assert allowed(policy) == (set() if client in NAMES_ALWAYS_A_VERSION else calls_of(client))
    assert policy.deny == ()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_may_name_the_api_versions_that_it_names(client: str) -> None:
    oldest, newest, unversioned = BUILT_IN[client].api_versions
    assert newest is None
    assert unversioned is (client not in NAMES_ALWAYS_A_VERSION)
    assert oldest == (None if client in NAMES_NO_VERSION else OLDEST_BUT_1_40.get(client, (1, 40)))


@pytest.mark.parametrize("client", CLIENTS)
def test_the_comment_tells_where_it_was_read(client: str) -> None:
    comment = data.load_builtin_policy(client)[1].partition("version:")[0]
    repositories = {
        repository
        for row in CALLS
        if row["client"] == client
        for repository in re.findall(r"([\w.-]+/[\w.-]+)@[0-9a-f]{7,}", row["source"])
    }
    assert repositories
    assert {each for each in repositories if each not in comment} == set()


def test_access_is_no_wider_than_told() -> None:
    told = {name: {Access.READ} for name in NAMES}
    told |= {name: {Access.READ, Access.WRITE} for name in WRITE}
    told |= {name: {Access.READ, Access.WRITE, Access.TUNNEL} for name in WRITE_AND_TUNNEL}
    newest = ApiVersion(1, 55)
    found = {
        name: {CATALOGUE.operations[one].access for one in allowed(policy, newest)} for name, policy in BUILT_IN.items()
    }
    assert found == told


@pytest.mark.parametrize("name", sorted(IS_THE_HOST - {"allow-all"}))
def test_what_may_create_a_container_says_what_that_means(name: str) -> None:
    """Itself, or what it extends or refers to."""
    names = {name, EXTENDS.get(name, name), "kubernetes-1.3" if name == "kubernetes-1.4" else name}
    comments = " ".join(data.load_builtin_policy(each)[1] for each in names).replace("\n# ", " ")
    assert re.search(r"the (whole )?host\b", comments)


def test_nothing_else_may_create_a_container() -> None:
    newest = ApiVersion(1, 55)
    assert {name for name in NAMES if "ContainerCreate" in allowed(BUILT_IN[name], newest)} == IS_THE_HOST


BASELINE = ("pod_security", "baseline")
NEVER_ASK_FOR_A_PRIVILEGED_EXEC = {
    "buildx-container-driver", "cri-dockerd", "dozzle-shell", "kubelet-dockertools", "watchtower-hooks",
}  # fmt: skip
REQUIRED = {
    "ci": {
        "ContainerCreate": [[BASELINE, ("ports", ("*",))]],
        "ContainerExec": [[BASELINE]],
        "ContainerStart": [[BASELINE]],
        "ImageBuild": [[BASELINE]],
        "ImageCreate": [[("query", {"fromSrc": ""})]],
    },
    **{name: {"ContainerExec": [[BASELINE]]} for name in NEVER_ASK_FOR_A_PRIVILEGED_EXEC},
}
"""Policy -> operation -> what is required of it. No other built-in policy requires anything."""


@pytest.mark.parametrize("name", NAMES)
def test_what_is_required(name: str) -> None:
    verdicts = effects(BUILT_IN[name], CATALOGUE, ApiVersion(1, 55))
    found = {one for one, verdict in verdicts.items() if verdict is Verdict.IF}
    assert {one: BUILT_IN[name].requires(one) for one in found} == REQUIRED.get(name, {})


def test_ci_is_what_its_comment_says() -> None:
    found = allowed(BUILT_IN["ci"])
    assert found >= calls_of("buildx-docker-driver") | {"ImageBuild", "BuildCancel", "ContainerCreate", "ExecStart"}
    for selected in ("@Swarm", "@Plugin", "@Volume", "@Network", "*Prune", "*Archive*", "*Export", "ImageGet*"):
        assert not found & select(selected, CATALOGUE)


def test_the_page_of_the_policies_is_as_the_files() -> None:
    """After a change: .venv/bin/python docs/make_policies.py"""
    page = runpy.run_path(str(DOCS / "make_policies.py"))["render"]()
    assert page == (DOCS / "policies.md").read_text(encoding="utf-8")


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
    assert ask(name, "GET", "/debug/vars", ApiVersion(1, 55)).reason is Reason.UNKNOWN_OPERATION
    gone = ask(name, "POST", "/containers/prune", ApiVersion(1, 23))
    assert gone.reason in (Reason.NOT_IN_API_VERSION, Reason.API_VERSION)
