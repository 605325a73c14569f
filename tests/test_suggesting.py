"""What would let a denied request pass: whatever lines are suggested do, and where none would help, it is said why."""

from pathlib import Path
from typing import NamedTuple

import pytest

from sockproxy.exchange import Exchange, Stage
from sockproxy.judging.compiling import policy_of_nobody
from sockproxy.judging.judge import judge
from sockproxy.judging.policy import Effect, Policy
from sockproxy.operating.admin.suggesting import suggest, unsuggested
from sockproxy.operating.config import check_config, load_policy
from tests.exchanges import CATALOGUE, decided, refused

POLICIES = """\
version: 1
policies:
  own:
    api_versions: {min: "1.30", max: "1.41", unversioned: deny}
    allow:
      - operations: [ContainerList, "@Exec"]
      - operations: [ContainerCreate]
        require: {images: ["busybox:*"]}
    deny:
      - {operations: ["@Swarm"], reason: no swarm here}
  trial:
    allow:
      - {operations: [ContainerList], shadow: true}
  open:
    mode: shadow
"""


class Asked(NamedTuple):
    policy: str
    method: str
    target: str
    says: str
    has_lines: bool = False


ASKED = {
    "no-rule": Asked("own", "POST", "/v1.41/containers/web/pause", "To be added to own, where", True),
    "no-rule-of-a-built-in-policy": Asked(
        "readonly", "POST", "/v1.41/containers/web/pause", "can extend readonly", True
    ),
    "a-tunnel": Asked("readonly", "POST", "/v1.41/containers/web/attach", "can extend readonly", True),
    "a-deny-rule": Asked("own", "POST", "/v1.41/swarm/init", "The deny rule own/deny[0] holds. No allow rule helps"),
    "a-requirement": Asked(
        "own", "POST", "/v1.41/containers/create", "own/allow[1] allows it where all that it requires"
    ),
    "too-old": Asked("own", "GET", "/v1.24/containers/json", "To be added to own", True),
    "too-new": Asked("own", "GET", "/v1.44/containers/json", "To be added to own", True),
    "unversioned": Asked("own", "GET", "/containers/json", "To be added to own", True),
    "too-old-and-no-rule": Asked("own", "GET", "/v1.24/info", "To be added to own", True),
    "too-old-and-a-deny-rule": Asked("own", "GET", "/v1.24/swarm", "The deny rule own/deny[0] holds"),
    "old-kubernetes": Asked("kubernetes-1.4", "GET", "/v1.20/containers/json", "can extend kubernetes-1.4", True),
    "under-shadow": Asked("open", "GET", "/v1.41/info", "To be added to open", True),
    "a-rule-in-shadow": Asked("trial", "GET", "/v1.41/containers/json", "To be added to trial", True),
}
UNKNOWN = {
    "unknown": Asked("own", "GET", "/v1.41/debug/pprof/heap", "only @unknown allows it", True),
    "not-in-that-version": Asked("own", "POST", "/v1.30/session", "only @unknown allows it", True),
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("policies") / "own.yaml"
    file.write_text(POLICIES)
    return file


def find(policies: Path, name: str) -> Policy:
    return load_policy(f"{policies}#{name}" if f"  {name}:" in POLICIES else name, CATALOGUE)


def ask(policy: Policy, asked: Asked) -> Exchange:
    exchange = decided()
    exchange.method = asked.method
    target, exchange.classified, exchange.decision, *_ = judge(
        CATALOGUE, policy, exchange.principal, asked.method, asked.target, content_length=None
    )
    exchange.target, exchange.api_version = target.canonical, target.version
    return refused(exchange, Stage.DENIED, 403)


@pytest.mark.parametrize("asked", (ASKED | UNKNOWN).values(), ids=ASKED | UNKNOWN)
def test_what_it_says(policies: Path, asked: Asked) -> None:
    policy = find(policies, asked.policy)
    exchange = ask(policy, asked)
    assert exchange.decision is not None and exchange.decision.verdict is Effect.DENY
    told = suggest(exchange, policy)
    assert asked.says in told["say"]
    assert bool(told["yaml"]) == asked.has_lines


@pytest.mark.parametrize("asked", [one for one in ASKED.values() if one.has_lines], ids=lambda one: one.target)
def test_its_lines_do_let_the_request_pass(policies: Path, tmp_path: Path, asked: Asked) -> None:
    policy = find(policies, asked.policy)
    lines = suggest(ask(policy, asked), policy)["yaml"]
    file = tmp_path / "new.yaml"
    if lines.startswith("version:"):
        file.write_text(lines)  # whole as it is
        new = load_policy(str(file), CATALOGUE)
    else:
        # To be added: here to a policy that extends the old one, which is the same.
        added = lines.replace(f"  {asked.policy}:\n", "  new:\n    extends: [old]\n")
        file.write_text(POLICIES.replace(f"  {asked.policy}:\n", "  old:\n") + added.removeprefix("policies:\n"))
        new = load_policy(f"{file}#new", CATALOGUE)
    assert check_config(str(file), CATALOGUE) is not None
    decision = ask(new, asked).decision
    assert decision is not None and decision.verdict is Effect.ALLOW


@pytest.mark.parametrize("asked", UNKNOWN.values(), ids=UNKNOWN)
def test_what_nobody_knows_is_not_allowed_by_pasting(policies: Path, asked: Asked) -> None:
    policy = find(policies, asked.policy)
    lines = suggest(ask(policy, asked), policy)["yaml"]
    assert "# - operations:" in lines and "\n      - operations:" not in lines


def test_a_failed_requirement_is_named_with_its_field(policies: Path) -> None:
    policy = find(policies, "own")
    exchange = ask(policy, ASKED["a-requirement"])
    assert exchange.decision is not None
    exchange.decision = exchange.decision._replace(detail="Image is root:latest; images requires busybox:*")
    assert "What is not: Image is root:latest; images requires busybox:*." in suggest(exchange, policy)["say"]


def test_who_is_no_client_is_named() -> None:
    nobody = policy_of_nobody(CATALOGUE)
    told = suggest(ask(nobody, ASKED["no-rule"]), None)
    assert told["say"].startswith("uid:1000 is none of the clients of the listener unix:///run/docker.sock")
    assert not told["yaml"]


def test_a_policy_that_has_changed_is_not_added_to(policies: Path) -> None:
    exchange = ask(find(policies, "own"), ASKED["no-rule"])
    for policy in (None, find(policies, "trial")):
        assert suggest(exchange, policy) == {"say": "The policy is another one by now.", "yaml": ""}


def test_names_from_outside_stay_in_their_comment(policies: Path) -> None:
    policy = find(policies, "own")
    exchange = ask(policy, ASKED["no-rule"])
    exchange.principal = exchange.principal._replace(exe="/x\n      - operations: ['*']")
    assert suggest(exchange, policy)["yaml"].count("- operations:") == 2  # one of them within the comment's line
    assert all(
        line.lstrip().startswith("#") for line in suggest(exchange, policy)["yaml"].splitlines() if "'*'" in line
    )


def test_what_was_not_kept_leads_to_explain() -> None:
    assert "explain --audit" in unsuggested()["say"]
