"""The difference of two policies, and a policy's effects on all operations."""

import pytest

from sockproxy.data import load_operations
from sockproxy.judging.catalogue import ApiVersion, Catalogue
from sockproxy.judging.comparison import Verdict, diff_policies, effects
from sockproxy.judging.compiling import compile_policy, select_all
from sockproxy.judging.policy import Mode, Policy, Rule
from sockproxy.judging.versions import ApiVersions

CATALOGUE = Catalogue(load_operations())


def policy(
    *selectors: str,
    deny: tuple[str, ...] = (),
    api_versions: tuple[int | None, int | None, bool] = (None, None, True),
    mode: Mode = Mode.ENFORCE,
    shadow: bool = False,
) -> Policy:
    oldest, newest = (None if minor is None else ApiVersion(1, minor) for minor in api_versions[:2])
    return compile_policy(
        "p",
        CATALOGUE,
        mode=mode,
        api_versions=ApiVersions(oldest, newest, api_versions[2]),
        allow=[Rule("p/allow[0]", selectors, None, select_all(selectors, CATALOGUE))],
        deny=[Rule("p/deny[0]", deny, None, select_all(deny, CATALOGUE), shadow=shadow)],
    )


DIFFERENCES = [
    ("same", policy("ExecStart"), policy("ExecStart"), []),
    ("more", policy("ExecStart"), policy("ExecStart", "ExecResize"), [("+", "ExecResize")]),
    ("less", policy("ExecStart", "ExecResize"), policy("ExecStart"), [("-", "ExecResize")]),
    ("denied", policy("Exec*"), policy("Exec*", deny=("ExecStart",)), [("-", "ExecStart")]),
    ("unknown", policy("Exec*"), policy("Exec*", "@unknown"), [("+", "@unknown")]),
    ("shadow", policy("ExecStart"), policy("ExecStart", mode=Mode.SHADOW), []),
    ("rule-in-shadow", policy("Exec*"), policy("Exec*", deny=("ExecStart",), shadow=True), [("-", "ExecStart")]),
    ("versions", policy("ExecStart"), policy("ExecStart", api_versions=(24, None, True)), [("~", "ExecStart")]),
    ("unversioned", policy("ExecStart"), policy("ExecStart", api_versions=(None, None, False)), [("~", "ExecStart")]),
    (
        "a-version-that-makes-no-difference",
        policy("TaskLogs"),
        policy("TaskLogs", api_versions=(29, None, True)),
        [],
    ),
    (
        "a-version-that-makes-all-the-difference",
        policy("TaskLogs", api_versions=(None, 28, False)),
        policy("TaskLogs", api_versions=(None, 29, False)),
        [("+", "TaskLogs")],
    ),
]


@pytest.mark.parametrize("p, q, expected", [row[1:] for row in DIFFERENCES], ids=[row[0] for row in DIFFERENCES])
def test_differences(p: Policy, q: Policy, expected: list[tuple[str, str]]) -> None:
    mirrored = {"+": "-", "-": "+", "~": "~"}
    assert diff_policies(p, q, CATALOGUE) == expected
    assert diff_policies(q, p, CATALOGUE) == [(mirrored[sign], name) for sign, name in expected]


@pytest.mark.parametrize("version, known", [(None, True), (ApiVersion(1, 24), False), (ApiVersion(1, 25), True)])
def test_effects_are_of_the_operations_of_a_version(version: ApiVersion | None, known: bool) -> None:
    found = effects(policy("@read", mode=Mode.SHADOW), CATALOGUE, version)
    assert ("ContainerPrune" in found) is known
    assert found["ContainerList"] is Verdict.ALLOW
    assert found["ContainerKill"] is Verdict.DENY
