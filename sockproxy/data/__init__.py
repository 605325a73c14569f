"""What sockproxy knows by heart: the engine's operations, Docker's releases, the built-in policies.

Owns the files beside it and how they are read; each function reads its file anew. Must not know what the facts are used
for: `judging.catalogue` gives operations their meaning, `operating.config` reads policies.
Begin at `load_operations`. Sources: Docker's API documents 1.0 to 1.55, and the engine's own routers and release tags.

`operations.json`: operationId -> `tag`, `method`, `path` (as documented), `routes` (the engine's own patterns:
`{name}` is one segment, `{name:.*}` takes slashes and may be empty, `{name:.+}` takes slashes), `first_api`, `last_api`
(null: still there), `access`, `traffic`, `published` (false: never in Docker's documents, named in their manner),
`kubernetes` (which of 1.3 and 1.4 call it), `earlier_ids`, `note`. Where two routes match one path, the first in the
file wins, as in the engine.

`policies/*.yaml` and `policies/clients/*.yaml`, one built-in policy each, under its name: the second folder has one for
each client that people put before an engine, with what that client's own source calls.

`bodies.json`: `operations`: operationId -> the Go type of its JSON body; `ignored`: what no engine reads there, but dockerode
sends, which writes the options of a call into query and body alike; `types`: name of a struct -> name of a field as in
JSON -> its Go type, and the first and last API version whose engine has the field (null: the newest has it; "1.21": that one
or an older; engines take a field in every API version that they serve). All engines from 1.9 to 29.7 together: where they
differ the narrower type stands. Types are read as `judging.payload.types` says. A create's body has the fields of `Config`
and `HostConfig` at its top as well.

`secrets.json`: what must not be told of requests and answers, by the names of the API. `fields` and `parameters` (of a
query): name, or name of what it stands in and name -> what is done with the value, as `recording.redaction` says;
`operations`: the same of whole bodies; `options` of drivers, and `mount_words` among them, that are no secrets; `known` and
`known_parameters`: all other names that there are. What is none of these is taken for a secret.

`docker_releases.json`, newest first: `docker_release`, `api_version` (its newest), `kubernetes_1_4`: whether Kubernetes
1.4 supported it, "yes" or "no"; "" for the releases that came after it, which it never was tested with.
"""

from pathlib import Path
from typing import Any, NamedTuple

import orjson

_HERE = Path(__file__).parent  # and not importlib.resources, which brings zipfile along: 0.5 MiB
_POLICIES = _HERE / "policies"
_CLIENTS = _POLICIES / "clients"


def load_operations() -> dict[str, dict[str, object]]:
    """The engine's operations: operationId -> its row, in routing order."""
    rows: dict[str, dict[str, object]] = _load_json("operations.json")
    return rows


class BodyRows(NamedTuple):
    """The JSON bodies of the engine's operations."""

    operations: dict[str, str]
    ignored: dict[str, list[str]]
    types: dict[str, dict[str, tuple[str, str, str | None]]]


def load_bodies() -> BodyRows:
    """The bodies: operationId -> type, operationId -> what is ignored in it, and the structs that the types name."""
    rows = _load_json("bodies.json")
    structs = {name: {field: tuple(row) for field, row in fields.items()} for name, fields in rows["types"].items()}
    return BodyRows(rows["operations"], rows["ignored"], structs)


class SecretRows(NamedTuple):
    """What is secret, and which names are known not to be."""

    fields: dict[str, str]
    parameters: dict[str, str]
    operations: dict[str, str]
    options: list[str]
    mount_words: list[str]
    known: list[str]
    known_parameters: list[str]


def load_secrets() -> SecretRows:
    """What must not be told, by names."""
    return SecretRows(**_load_json("secrets.json"))


def load_docker_releases() -> list[dict[str, str]]:
    """Docker's releases with their API versions, newest first."""
    rows: list[dict[str, str]] = _load_json("docker_releases.json")
    return rows


def builtin_policy_names() -> tuple[str, ...]:
    """The names of the policies that come with sockproxy, sorted."""
    return tuple(sorted(_policy_files()))


def client_policy_names() -> tuple[str, ...]:
    """Those of them that are made for one client, sorted."""
    return tuple(sorted(file.stem for file in _CLIENTS.glob("*.yaml")))


def load_builtin_policy(name: str) -> tuple[str, str]:
    """The file name to show in errors, and the YAML text; raises KeyError for a name that is not built in."""
    file = _policy_files()[name]
    return f"built-in:{file.name}", file.read_text(encoding="utf-8")


def _policy_files() -> dict[str, Path]:
    return {file.stem: file for folder in (_POLICIES, _CLIENTS) for file in folder.glob("*.yaml")}


def _load_json(file: str) -> Any:
    return orjson.loads((_HERE / file).read_bytes())
