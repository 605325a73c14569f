"""The rows of `cases/pod_security.yaml`, and asking pod_security of a body as it comes from the wire."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from sockproxy.data import load_bodies
from sockproxy.judging.catalogue import ApiVersion, parse_target
from sockproxy.judging.identity import Principal
from sockproxy.judging.payload import Bodies, read_query
from sockproxy.judging.requirements.facts import Facts, Unmet
from sockproxy.judging.requirements.pod_security import make

from .findings import NOTHING_THERE

IMAGE = "busybox:test"
CASES = Path(__file__).parent / "cases"
BODIES = Bodies(*load_bodies())
NOBODY = Principal("unix", 0, 0, 1, None, None, None, None, "uid:0")
OPERATIONS = {
    "create": "ContainerCreate",
    "start": "ContainerStart",
    "update": "ContainerUpdate",
    "exec": "ContainerExec",
    "service": "ServiceCreate",
    "volume": "VolumeCreate",
    "connect": "NetworkConnect",
    "build": "ImageBuild",
    "service_update": "ServiceUpdate",
}
_KEYS = {
    "host",
    "query",
    "shows",
    *OPERATIONS,
    "denied",
    "met",
    "level",
    "beside",
    "seen",
    "refused",
    "ignored",
    "depends",
    "unsent",
}


class Row(NamedTuple):
    """A body and a query, what is asked of them, and the field that fails ("" if they meet all)."""

    operation_id: str
    body: dict[str, Any]
    level: str
    beside: tuple[str, ...]
    denied: str
    seen: dict[str, Any]
    refused: str
    ignored: str
    depends: str
    unsent: str
    query: str
    shows: str


def load_rows() -> list[Row]:
    return [_row(each) for each in yaml.safe_load((CASES / "pod_security.yaml").read_text(encoding="utf-8"))]


def _row(row: dict[str, Any]) -> Row:
    assert row.keys() <= _KEYS, row
    assert (row.get("met") is True) != ("denied" in row), row
    if "host" in row:
        row["create"] = {"HostConfig": row.pop("host")}
    (kind,) = OPERATIONS.keys() & row.keys()
    if kind == "create":
        row[kind] = {"Image": IMAGE, "Cmd": ["true"], **row[kind]}
    told = (
        row.get("seen", {}),
        *(row.get(key, "") for key in ("refused", "ignored", "depends", "unsent", "query", "shows")),
    )
    beside = tuple(row.get("beside", ()))
    return Row(OPERATIONS[kind], row[kind], row.get("level", "baseline"), beside, row.get("denied", ""), *told)


def as_sent(query: str) -> str:
    """A query as a client writes it: the rows have JSON in the clear."""
    return quote(query, safe="=&%:/?#@,")


def facts(operation_id: str, body: Any, query: str = "") -> Facts:
    """What a policy knows of this body, and of this query as it comes from the wire."""
    data: Any = {}
    if operation_id in BODIES.operations:
        data = BODIES.read_payload(operation_id, ApiVersion(1, 23), json.dumps(body).encode()).data
    canonical = parse_target("POST", f"/x?{as_sent(query)}").query
    return Facts(operation_id, ApiVersion(1, 23), NOBODY, "", read_query(canonical), data, found=NOTHING_THERE)


def ask(operation_id: str, body: Any, level: str, beside: Collection[str] = (), query: str = "") -> Unmet | None:
    return make(level, beside)(facts(operation_id, body, query))


class Ordinary(NamedTuple):
    """A create that nobody needs to fear."""

    name: str
    body: dict[str, Any]
    level: str = "baseline"
    beside: tuple[str, ...] = ()


def load_ordinary() -> list[Ordinary]:
    """Creates as docker's own command line client was seen to write them, one a flag, and as others do."""
    recorded = json.loads((CASES / "pod_security_clients.json").read_text(encoding="utf-8"))
    written = yaml.safe_load((CASES / "pod_security_ordinary.yaml").read_text(encoding="utf-8"))
    flags = (
        Ordinary(f"{client} {row['flags']}", _changed(recorded["plain"][client], row["body"]), beside=("ports",))
        for row in recorded["rows"]
        for client in row["clients"]
    )
    others = (
        Ordinary(row["id"], row["create"], row.get("level", "baseline"), tuple(row.get("beside", ())))
        for row in written
    )
    return [*flags, *others]


def _changed(plain: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """What a client sends without a flag, with what a flag changes."""
    return plain | changes | {"HostConfig": plain["HostConfig"] | changes.get("HostConfig", {})}
