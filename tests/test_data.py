"""What the package carries: every row has what it must have, and says what its sources say."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from sockproxy.data import builtin_policy_names, load_builtin_policy, load_docker_releases, load_operations

CASES = Path(__file__).parent / "cases"
OPERATIONS = load_operations()
RELEASES = load_docker_releases()

FIELDS = {
    "tag",
    "method",
    "path",
    "routes",
    "first_api",
    "last_api",
    "access",
    "traffic",
    "published",
    "kubernetes",
    "earlier_ids",
    "note",
}


def rows(name: str) -> list[dict[str, str]]:
    with (CASES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_operation(operation_id: str) -> None:
    row = OPERATIONS[operation_id]
    assert set(row) == FIELDS
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]+", operation_id)
    assert re.fullmatch(r"[A-Z][a-z]+", str(row["tag"]))
    assert row["method"] in {"GET", "HEAD", "POST", "PUT", "DELETE"}
    assert re.fullmatch(r"1\.[0-9]{1,2}", str(row["first_api"]))
    assert row["last_api"] is None or re.fullmatch(r"1\.[0-9]{1,2}", str(row["last_api"]))


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_access_fits_method_and_traffic(operation_id: str) -> None:
    row = OPERATIONS[operation_id]
    is_tunnel = row["traffic"] in {"hijack", "websocket", "upgrade"}
    assert (row["access"] == "tunnel") == is_tunnel
    if not is_tunnel:
        assert row["access"] == ("read" if row["method"] in {"GET", "HEAD"} else "write")


def test_routes_are_the_paths_with_the_engine_s_patterns() -> None:
    for operation_id, row in OPERATIONS.items():
        routes = texts(row["routes"])
        assert re.sub(r":\.[*+]", "", routes[0]) == row["path"]
        assert routes[1:] == (["/networks/"] if operation_id == "NetworkList" else [])


def test_routes_are_the_engine_s() -> None:
    ours = {
        (row["method"], re.sub(r"\w+(?=[:}])", "", route)): operation_id
        for operation_id, row in OPERATIONS.items()
        for route in texts(row["routes"])
    }
    engines = {
        (row["method"], re.sub(r"\w+(?=[:}])", "", row["route"])): row["operation_id"]
        for row in rows("engine_routes.csv")
        if row["operation_id"]
    }
    assert ours == engines


def test_releases_of_the_seed_table() -> None:
    assert [row for row in RELEASES if row["kubernetes_1_4"]] == rows("seed_versions.csv")


def test_releases_go_down_and_leave_no_api_version_out() -> None:
    minors = [int(row["api_version"].removeprefix("1.")) for row in RELEASES]
    assert minors == sorted(minors, reverse=True)
    assert set(minors) == set(range(14, 56))
    assert len({row["docker_release"] for row in RELEASES}) == len(RELEASES)


def test_builtin_policies_are_yaml_with_a_name_for_errors() -> None:
    for name in builtin_policy_names():
        file, text = load_builtin_policy(name)
        assert name in file
        assert yaml.safe_load(text)


def test_a_policy_that_is_not_built_in() -> None:
    for name in ("nope", "../operations", "", "kubernetes-1.4.yaml"):
        with pytest.raises(KeyError):
            load_builtin_policy(name)
