"""pod_security: every knob in every spelling as a row, that no field is forgotten, and laws.

What the rows say is also held against a real engine: integration/test_pod_security.py.
"""

import copy
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.data import load_bodies
from sockproxy.judging.requirements.facts import Unmet
from sockproxy.judging.requirements.pod_security import KIND, make
from sockproxy.judging.requirements.pod_security.controls import CONTROLS, LEVELS, Level
from sockproxy.judging.requirements.pod_security.fields import (
    EMBEDDED,
    HELD,
    KNOWN_AS,
    OPERATIONS,
    QUERIES,
    UNRESTRICTED,
)
from sockproxy.judging.requirements.pod_security.tree import Tree, find, grow, judge, meets, names_of
from sockproxy.judging.requirements.wording import SHOWN_CHARACTERS_MAX

from .pod_security import Ordinary, Row, ask, facts, load_ordinary, load_rows

ROWS = load_rows()
TYPES = load_bodies().types
SIBLINGS = sorted({key for control in CONTROLS for key in control.relaxed})
DOCS = Path(__file__).parents[1] / "docs"


def name_of(row: Row) -> str:
    asked = f"{json.dumps(row.body, ensure_ascii=True)}?{row.query}"
    return f"{row.operation_id}-{row.level}-{asked}-{'-'.join(row.beside)}"


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_is_answered_as_it_says(row: Row) -> None:
    unmet = ask(row.operation_id, row.body, row.level, row.beside, row.query)
    assert (unmet.field if unmet else "") == row.denied


@pytest.mark.parametrize("ordinary", load_ordinary(), ids=lambda each: each.name)
def test_an_ordinary_create_is_met(ordinary: Ordinary) -> None:
    assert ask("ContainerCreate", ordinary.body, ordinary.level, ordinary.beside) is None
    assert ask("ContainerCreate", ordinary.body, "baseline", ordinary.beside) is None


@pytest.mark.parametrize("ordinary", load_ordinary(), ids=lambda each: each.name)
def test_only_what_is_published_or_bound_needs_a_key_beside_it(ordinary: Ordinary) -> None:
    unmet = ask("ContainerCreate", ordinary.body, "baseline")
    assert unmet is None or unmet.field.startswith(("HostConfig.P", "HostConfig.Binds"))


def names_in_denials(field: str) -> set[str]:
    """How a denial of a control's field may end; of a whole struct it names a field, or what holds the struct."""
    if "." in field:
        return {field.partition(".")[2]}
    return set(names_of(field)) | {
        held.partition(".")[2] for held, inner in HELD.items() if inner.lstrip("[]{}") == field
    }


def test_every_field_of_a_control_has_a_row_that_it_denies() -> None:
    denied = {re.sub(r"\[.*?\]", "", row.denied).rpartition(".")[2] for row in ROWS}
    for control in CONTROLS:
        for field in control.fields:
            assert denied & names_in_denials(field), field


def test_a_denial_says_what_is_and_what_is_required() -> None:
    assert str(ask("ContainerCreate", {"Privileged": True}, "baseline")) == (
        "HostConfig.Privileged is true; pod_security baseline requires false"
    )
    assert str(ask("ContainerCreate", {"Image": "i", "User": "7"}, "restricted")) == (
        "HostConfig.CapDrop is absent; pod_security restricted requires ALL among them"
    )


@pytest.mark.parametrize(
    "body",
    [
        {"HostConfig": {"SecurityOpt": ["seccomp=" + "x" * 5000]}},
        {"HostConfig": {"Sysctls": {"k" * 5000: "1"}}},
        {"HostConfig": {"Mounts": [{"Type": "x" * 5000}]}},
        {"HostConfig": {"LogConfig": {"Config": {"c" * 5000: "1"}}}},
        {"User": "u" * 5000, "HostConfig": {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}},
    ],
)
def test_a_denial_is_short(body: dict[str, Any]) -> None:
    unmet = ask("ContainerCreate", body, "restricted") if "User" in body else ask("ContainerCreate", body, "baseline")
    assert unmet is not None
    assert len(unmet.field) < SHOWN_CHARACTERS_MAX + 40
    assert len(unmet.detail.partition(";")[0]) < SHOWN_CHARACTERS_MAX + 10


@pytest.mark.parametrize(
    "host",
    [
        {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": "SECRET"}}},
        {"LogConfig": {"Config": {"splunk-token": "SECRET"}}},
        {"Mounts": [{"Type": "volume", "VolumeOptions": {"DriverConfig": {"Options": {"o": "password=SECRET"}}}}]},
        {"Sysctls": {"a": "SECRET"}},
        {"Annotations": {"a": "SECRET"}},
    ],
)
def test_values_that_may_be_secrets_are_not_shown(host: dict[str, Any]) -> None:
    unmet = ask("ContainerCreate", {"Env": ["A=SECRET"], "HostConfig": host}, "baseline")
    assert unmet is not None and "SECRET" not in str(unmet)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("ServiceCreate", {"TaskTemplate": {"PluginSpec": {"env": ["A=SECRET"]}}}),
        ("VolumeCreate", {"ClusterVolumeSpec": {"Secrets": [{"Key": "k", "Secret": "SECRET"}]}}),
        (
            "ServiceCreate",
            {"TaskTemplate": {"ContainerSpec": {"Privileges": {"CredentialSpec": {"Config": "SECRET"}}}}},
        ),
    ],
)
def test_nor_are_those_of_other_operations(operation: str, body: dict[str, Any]) -> None:
    unmet = ask(operation, body, "baseline")
    assert unmet is not None and "SECRET" not in str(unmet)


def test_a_denial_has_no_characters_that_a_terminal_obeys() -> None:
    for host in ({"PidMode": "\u202e\x1b[2J"}, {"Sysctls": {"\u202e\x1b[2J": ""}}, {"Binds": ["\x9b"]}):
        assert str(ask("ContainerCreate", {"HostConfig": host}, "baseline")).isprintable()


def test_there_are_two_levels() -> None:
    assert LEVELS == ("baseline", "restricted")
    for wrong in ("privileged", "Baseline", "", None, ["baseline"], True):
        with pytest.raises(ValueError, match="not one of baseline, restricted"):
            make(wrong, ())


def test_it_makes_sense_for_what_can_be_asked_for_power() -> None:
    assert KIND.reads_body("baseline") and KIND.operations == {*OPERATIONS, *QUERIES}


# No field is forgotten


def parts(struct: str) -> tuple[str, ...]:
    return (struct, *EMBEDDED.get(struct, ()))


def structs() -> Iterator[str]:
    """All that can be reached from the bodies."""
    seen: set[str] = set()
    ahead = list(OPERATIONS.values())
    while ahead:
        struct = ahead.pop()
        if struct not in seen:
            seen.add(struct)
            yield struct
            fields = (f"{part}.{name}" for part in parts(struct) for name in names_of(part))
            ahead += [HELD[field].lstrip("[]{}") for field in fields if field in HELD]


def engine_fields(struct: str) -> dict[str, tuple[str, str, str | None]]:
    fields = dict(TYPES[KNOWN_AS.get(struct, struct)])
    if struct == "ContainerStartRequest":  # of a start's body the engine takes nothing else
        return {"HostConfig": fields["HostConfig"]}
    if struct == "ContainerCreateRequest":
        fields |= TYPES["Config"]
        del fields["Cpuset"]  # the payload has made it HostConfig.CpusetCpus
    return fields


@pytest.mark.parametrize("struct", sorted(structs()))
def test_every_field_of_the_engine_is_known_and_no_other(struct: str) -> None:
    assert {name for part in parts(struct) for name in names_of(part)} == set(engine_fields(struct))


@pytest.mark.parametrize("struct", sorted(structs()))
def test_every_struct_is_looked_into_or_denied_whole(struct: str) -> None:
    tree = grow(struct, "baseline", ())
    for name, (type_, _, _) in engine_fields(struct).items():
        inner = type_.replace("map[string]", "").replace("[]", "").lstrip("*")
        field = tree.fields[name]
        if inner in TYPES and (field is None or field.kind == "value"):
            value = {"80/tcp": []} if type_.startswith("map") else [{}] if "[]" in type_ else {"x": 1}
            assert field is not None and field.rule.find(value) is not None, name


PARAMETERS = {
    # moby, api/server/router/build, of 1.9 to 29.7
    "ImageBuild": {
        *("buildargs", "buildid", "cachefrom", "cgroupparent", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems"),
        *(
            "cpushares",
            "dockerfile",
            "extrahosts",
            "forcerm",
            "isolation",
            "labels",
            "memory",
            "memswap",
            "networkmode",
        ),
        *("nocache", "outputs", "platform", "pull", "q", "remote", "rm", "securityopt", "session", "shmsize", "squash"),
        *("t", "target", "ulimits", "version"),
    },
    # router/container and router/swarm; the first is of the API documents alone
    "ContainerStart": {"detachKeys", "checkpoint", "checkpoint-dir"},
    "ServiceUpdate": {"version", "registryAuthFrom", "rollback"},
}


@pytest.mark.parametrize("operation_id", QUERIES)
def test_every_parameter_of_the_engine_is_known_and_no_other(operation_id: str) -> None:
    assert names_of(QUERIES[operation_id]) == PARAMETERS[operation_id]


@given(st.sampled_from(sorted(QUERIES)), st.text(st.characters(codec="utf-8"), min_size=1), st.sampled_from(LEVELS))
def test_an_unknown_parameter_is_denied(operation_id: str, name: str, level: str) -> None:
    if name not in PARAMETERS[operation_id]:
        unmet = ask(operation_id, {}, level, SIBLINGS, urlencode({name: ""}))
        assert unmet is not None and unmet.field.isprintable()


def test_an_address_of_a_context_is_not_shown() -> None:
    assert "SECRET" not in str(ask("ImageBuild", {}, "baseline", (), "remote=https://me:SECRET@example.com/x.git"))


def test_no_field_is_both_free_and_controlled() -> None:
    controlled = {field for control in CONTROLS for field in control.fields}
    assert len(controlled) == sum(len(control.fields) for control in CONTROLS), "a field has two controls"
    free = {f"{struct}.{name}" for struct, names in UNRESTRICTED.items() for name in names}
    assert not free & (controlled | HELD.keys())


def test_a_service_of_the_engine_knows_its_resources_by_another_name() -> None:
    service = TYPES["ResourceRequirements"]["Reservations"][0].lstrip("*")
    assert set(TYPES[service]) == names_of("Resources_")


# Laws


def zeros(struct: str) -> dict[str, Any]:
    """A body that has every field, each empty: as docker's command line client sends it."""
    made: dict[str, Any] = {}
    for name, (type_, _, _) in engine_fields(struct).items():
        if name in ("MaskedPaths", "ReadonlyPaths"):
            continue  # these mean something even when they are empty
        plain = type_.lstrip("*")
        simple = {"bool": False, "string": "", "strings": [], "bytes": "", "struct{}": {}}
        is_number = re.fullmatch(r"u?int\d*|float32", plain)
        is_map = plain.startswith("map") or plain in TYPES
        made[name] = 0 if is_number else simple.get(plain, {} if is_map else [])
    return made


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS))
def test_the_presence_of_a_key_means_nothing(operation_id: str) -> None:
    body = zeros(OPERATIONS[operation_id])
    for field in ("HostConfig", "NetworkingConfig"):
        if field in body:
            body[field] = zeros(field)
    assert judge(grow(OPERATIONS[operation_id], "baseline", ()), body) is None


def places(value: Any, tree: Tree | None) -> Iterator[dict[str, Any]]:
    """All objects in a body that are structs to the engine."""
    if tree is None:
        return
    if tree.kind == "struct" and isinstance(value, dict):
        yield value
        for name, inner in value.items():
            yield from places(inner, tree.fields[name])
    elif tree.element is not None and value:
        for inner in value.values() if tree.kind == "map" else value:
            yield from places(inner, tree.element)


MET = [row for row in ROWS if not row.denied]


@given(st.data())
def test_an_unknown_field_is_denied_wherever_it_stands(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from([row for row in MET if row.operation_id not in QUERIES]))
    body = copy.deepcopy(dict(facts(row.operation_id, row.body).body))
    tree = grow(OPERATIONS[row.operation_id], "baseline", ())
    place = data.draw(st.sampled_from(list(places(body, tree))))
    name = data.draw(st.text(min_size=1).filter(lambda each: not any(each in names for names in TYPES.values())))
    place[name] = data.draw(st.sampled_from([None, False, "", [], {}, 1, "x"]))
    unmet = make(row.level, row.beside)(facts(row.operation_id, {})._replace(body=body))
    assert unmet is not None
    assert "is no field that pod_security knows" in unmet.detail or row.beside == ()


@st.composite
def create_bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Creates that are put together of what the rows have."""
    creates = [row.body for row in ROWS if row.operation_id == "ContainerCreate"]
    body: dict[str, Any] = {}
    host: dict[str, Any] = {}
    for part in draw(st.lists(st.sampled_from(creates), max_size=4)):
        read = facts("ContainerCreate", part).body
        body |= {name: value for name, value in read.items() if name != "HostConfig"}
        host |= read.get("HostConfig", {})
    if draw(st.booleans()):
        body["User"] = "1000"
        host |= {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}
    return body | {"HostConfig": host}


def answer(body: dict[str, Any], level: str, beside: set[str]) -> Unmet | None:
    return make(level, beside)(facts("ContainerCreate", {})._replace(body=body))


@given(create_bodies(), st.sets(st.sampled_from(SIBLINGS)))
def test_what_restricted_allows_baseline_allows(body: dict[str, Any], beside: set[str]) -> None:
    if answer(body, "restricted", beside) is None:
        assert answer(body, "baseline", beside) is None


@given(create_bodies(), st.sets(st.sampled_from(SIBLINGS)), st.sampled_from(SIBLINGS), st.sampled_from(LEVELS))
def test_a_key_beside_it_never_takes_away(body: dict[str, Any], beside: set[str], more: str, level: str) -> None:
    if answer(body, level, beside) is None:
        assert answer(body, level, beside | {more}) is None


@given(create_bodies(), st.sampled_from(["Privileged", "PublishAllPorts", "OomKillDisable"]))
def test_a_switch_that_is_turned_on_never_allows_more(body: dict[str, Any], switch: str) -> None:
    more = body | {"HostConfig": body["HostConfig"] | {switch: True}}
    assert answer(more, "baseline", set()) is not None


def test_the_page_is_made_of_the_table() -> None:
    script = runpy.run_path(str(DOCS / "make_pod_security.py"))
    assert script["render"]() == (DOCS / "pod-security.md").read_text(encoding="utf-8")


@given(create_bodies(), st.sampled_from(LEVELS), st.sets(st.sampled_from(SIBLINGS)), st.data())
def test_whether_there_is_something_to_be_found_is_known_without_finding_it(
    body: dict[str, Any], level: Level, beside: set[str], data: st.DataObject
) -> None:
    tree = grow(OPERATIONS["ContainerCreate"], level, frozenset(beside))
    host, empty = body["HostConfig"], zeros("HostConfig") | {"MaskedPaths": [], "ReadonlyPaths": []}
    host |= {name: empty[name] for name in data.draw(st.sets(st.sampled_from(sorted(empty))))}
    for name in data.draw(st.sets(st.sampled_from(sorted(host)))) if host else ():
        del host[name]
    if data.draw(st.booleans()):
        host[data.draw(st.text(max_size=5))] = data.draw(st.sampled_from([None, False, 0, "", [], {}]))
    assert meets(tree, body) == (find(tree, body) is None)
