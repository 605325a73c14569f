"""Which operation a request is: the engine's path rules and its route table, in the order in which it registers them.

Owns the table, the API versions that are taken, and the rules of gorilla's mux that clients notice (a path that is not
clean is redirected; names are greedy and may hold slashes). Must not know what an operation does. Begin at `find`.
"""

import posixpath
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web

from sockproxy.operating.demo.api import archive, attach, containers, images, logs, networks, streams, system
from sockproxy.operating.demo.api.answers import API_VERSION, API_VERSION_MIN
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.objects.refusals import Refused, not_imitated

Operation = Callable[[Call], Awaitable[web.StreamResponse]]
Version = tuple[int, ...]

_VERSIONED = re.compile(r"/v([0-9.]+)(/.*)", re.ASCII)


async def _refuse(name: str, _call: Call) -> web.StreamResponse:
    raise not_imitated(name)


def _not_imitated(name: str) -> Operation:
    return partial(_refuse, name)


TABLE: tuple[tuple[str, str, Operation], ...] = (
    ("HEAD", "/containers/{}/archive", archive.facts),
    ("GET", "/containers/json", containers.list_containers),
    ("GET", "/containers/{}/export", _not_imitated("ContainerExport")),
    ("GET", "/containers/{}/changes", containers.changes),
    ("GET", "/containers/{}/json", containers.inspect),
    ("GET", "/containers/{}/top", containers.top),
    ("GET", "/containers/{}/logs", logs.logs),
    ("GET", "/containers/{}/stats", streams.stats),
    ("GET", "/containers/{}/attach/ws", attach.attach_websocket),
    ("GET", "/exec/{}/json", attach.inspect_exec),
    ("GET", "/containers/{}/archive", archive.get),
    ("POST", "/containers/create", containers.create),
    ("POST", "/containers/{}/kill", containers.kill),
    ("POST", "/containers/{}/pause", containers.pause),
    ("POST", "/containers/{}/unpause", containers.unpause),
    ("POST", "/containers/{}/restart", containers.restart),
    ("POST", "/containers/{}/start", containers.start),
    ("POST", "/containers/{}/stop", containers.stop),
    ("POST", "/containers/{}/wait", streams.wait),
    ("POST", "/containers/{}/resize", containers.resize),
    ("POST", "/containers/{}/attach", attach.attach),
    ("POST", "/containers/{}/copy", _not_imitated("ContainerCopy")),
    ("POST", "/containers/{}/exec", attach.create_exec),
    ("POST", "/exec/{}/start", attach.start_exec),
    ("POST", "/exec/{}/resize", attach.resize_exec),
    ("POST", "/containers/{}/rename", containers.rename),
    ("POST", "/containers/{}/update", containers.update),
    ("POST", "/containers/prune", containers.prune),
    ("POST", "/commit", _not_imitated("ImageCommit")),
    ("PUT", "/containers/{}/archive", archive.put),
    ("DELETE", "/containers/{}", containers.delete),
    ("GET", "/containers/{}/checkpoints", system.experimental),
    ("POST", "/containers/{}/checkpoints", system.experimental),
    ("GET", "/images/json", images.list_images),
    ("GET", "/images/search", images.search),
    ("GET", "/images/get", _not_imitated("ImageGetAll")),
    ("GET", "/images/{}/get", _not_imitated("ImageGet")),
    ("GET", "/images/{}/history", images.history),
    ("GET", "/images/{}/json", images.inspect),
    ("POST", "/images/load", _not_imitated("ImageLoad")),
    ("POST", "/images/create", images.create),
    ("POST", "/images/{}/push", _not_imitated("ImagePush")),
    ("POST", "/images/{}/tag", images.tag),
    ("POST", "/images/prune", images.prune),
    ("DELETE", "/images/{}", images.delete),
    ("GET", "/_ping", system.ping),
    ("HEAD", "/_ping", system.ping),
    ("GET", "/events", streams.events),
    ("GET", "/info", system.info),
    ("GET", "/version", system.version),
    ("GET", "/system/df", system.disk_usage),
    ("POST", "/auth", _not_imitated("SystemAuth")),
    ("GET", "/volumes", networks.list_volumes),
    ("GET", "/volumes/{}", networks.inspect_volume),
    ("POST", "/volumes/create", networks.create_volume),
    ("POST", "/volumes/prune", networks.prune_volumes),
    ("DELETE", "/volumes/{}", networks.delete_volume),
    ("POST", "/build", _not_imitated("ImageBuild")),
    ("POST", "/build/prune", system.prune_no_builds),
    ("POST", "/build/cancel", _not_imitated("BuildCancel")),
    ("POST", "/session", _not_imitated("Session")),
    ("POST", "/grpc", _not_imitated("Grpc")),
    ("GET", "/swarm", system.not_a_manager),
    ("GET", "/swarm/unlockkey", system.not_a_manager),
    ("POST", "/swarm/leave", system.not_in_a_swarm),
    ("POST", "/swarm/{}", system.not_a_manager),
    *((method, f"/{kind}{tail}", system.not_a_manager)
      for kind in ("services", "nodes", "tasks", "secrets", "configs")
      for method, tail in (("GET", ""), ("GET", "/{}"), ("POST", "/{}"), ("DELETE", "/{}"))),
    ("GET", "/plugins", system.no_plugins),
    ("GET", "/plugins/{}", system.no_such_plugin),
    ("POST", "/plugins/{}", _not_imitated("PluginPull")),
    ("DELETE", "/plugins/{}", _not_imitated("PluginDelete")),
    ("GET", "/distribution/{}/json", _not_imitated("DistributionInspect")),
    ("GET", "/networks", networks.list_networks),
    ("GET", "/networks/", networks.list_networks),
    ("GET", "/networks/{}", networks.inspect_network),
    ("POST", "/networks/create", networks.create_network),
    ("POST", "/networks/{}/connect", networks.connect),
    ("POST", "/networks/{}/disconnect", networks.disconnect),
    ("POST", "/networks/prune", networks.prune_networks),
    ("DELETE", "/networks/{}", networks.delete_network),
)  # fmt: skip
_ROUTES = tuple(
    (method, re.compile(re.escape(path).replace(r"\{\}", "(.*)")), operation) for method, path, operation in TABLE
)


class Found(NamedTuple):
    """An operation with the names that its path holds and the API version that was asked for."""

    operation: Operation
    names: tuple[str, ...]
    version: Version


class Redirect(Exception):
    """The path is not clean: where to ask instead."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


def split_target(target: str) -> tuple[str, str]:
    """Path, decoded once, and query, as sent. Raises Redirect for a path that is not clean."""
    plain = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*", "", target)
    raw_path, _, query = plain.partition("?")
    path = unquote(raw_path, errors="surrogateescape") or "/"
    clean = posixpath.normpath(f"/{path}")
    clean = clean.removeprefix("/") if clean.startswith("//") else clean
    clean += "/" if path.endswith("/") and clean != "/" else ""
    if clean != path:
        raise Redirect(f"{clean}?{query}" if query else clean)
    return path, query


def asked_version(path: str) -> Version:
    """The API version of a path, which the shape of an error depends on even where nothing is found."""
    found = _VERSIONED.fullmatch(path)
    return tuple(int(part[:18] or "0") for part in found[1].split(".")) if found else API_VERSION


def find(method: str, path: str) -> Found | None:
    """The operation of a request; None where the engine's mux has none. The version is not judged yet."""
    versioned = _VERSIONED.fullmatch(path)
    plain = versioned[2] if versioned else path
    for known, pattern, operation in _ROUTES:
        if known == method and (match := pattern.fullmatch(plain)):
            return Found(operation, match.groups(), asked_version(path))
    return None


def check_version(path: str) -> None:
    """Raises Refused for an API version that the engine does not serve; an unversioned request is of the newest."""
    versioned = _VERSIONED.fullmatch(path)
    if not versioned:
        return
    version, text = asked_version(path), versioned[1]
    newest, oldest = (".".join(map(str, each)) for each in (API_VERSION, API_VERSION_MIN))
    if _padded(version) > _padded(API_VERSION):
        raise Refused(400, f"client version {text} is too new. Maximum supported API version is {newest}")
    if _padded(version) < _padded(API_VERSION_MIN):
        raise Refused(
            400,
            f"client version {text} is too old. Minimum supported API version is {oldest}, "
            "please upgrade your client to a newer version",
        )


def _padded(version: Version) -> Version:
    return (*version, *[0] * (16 - len(version)))
