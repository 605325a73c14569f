"""Which Engine API operation a request is.

Owns the grammar of a request target (version prefix, path, query, and the one canonical form of all three), the
operations with their versions, and the engine's way of choosing among them: of all routes that match method and path
the first one wins, and names may contain slashes. Must not know principals, policies or sockets.
Begin at `parse_target`, which makes the path, and `Catalogue.classify`, which names it. Sources: Docker's API documents
1.0 to 1.55 and the engine's routers from 1.2 to 29.7, as data in `sockproxy/data/operations.json`; for the target, what
Go's net/url and gorilla/mux make of it, as the engine uses them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sockproxy.errors import BadRequest, BadRequestReason

QUERY_PAIRS_MAX = 10_000
"""Pairs in a query: Go's own limit (urlmaxqueryparams). A head full of `&` would hold up everybody for a second."""

RESOURCE_KINDS = MappingProxyType(
    {
        "configs": "config",
        "containers": "container",
        "distribution": "image",
        "exec": "exec",
        "images": "image",
        "networks": "network",
        "nodes": "node",
        "plugins": "plugin",
        "secrets": "secret",
        "services": "service",
        "swarm": "swarm",
        "tasks": "task",
        "volumes": "volume",
    }
)
"""First segment of a path -> kind of the resource. Other paths (`/info`, `/build`, `/_ping`, ...) concern none."""

# Four digits are beyond every version there will be; Go's own reading of longer ones ends at the greatest integer.
_VERSION_TEXT = r"(?:0|[1-9][0-9]{0,3})\.(?:0|[1-9][0-9]{0,3})"
_VERSION = re.compile(_VERSION_TEXT)
_VERSION_PREFIX = re.compile(r"/v([0-9.]+)(/.*)")  # moby, server.go: "/v{version:[0-9.]+}"

_VISIBLE = re.compile(r"[!-~]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_CLEAN = re.compile(r"//|/\.\.?(?:/|\Z)")

# RFC 3986, 3.3: 'pchar = unreserved / pct-encoded / sub-delims / ":" / "@"'. Without ";", where some readers cut.
_PATH_SAFE = "/:@!$&'()*+,="

# A query is canonical as Go's url.QueryEscape writes it, which is how most clients send it: "+" for a space, unreserved
# characters as they are, an upper-case escape for everything else.
_QUERY_TEXT = (
    r"[A-Za-z0-9._~+-]*+"
    r"(?:%(?:[0189A-F][0-9A-F]|2[1-9A-CF]|3[A-F]|40|5[B-E]|60|7[BCDF])[A-Za-z0-9._~+-]*+)*"
)
_CANONICAL_QUERY_TEXT = re.compile(_QUERY_TEXT)

# No possessive groups, `(...)*+`, here or elsewhere: Python before 3.11.5, which is Debian 12's, matches them wrongly.
# Possessive character classes are right, and they are what keeps these patterns linear.
# What is canonical already; the path in the characters that names consist of, no segment beginning with a dot.
_CANONICAL_TARGET = re.compile(
    rf"(?:/v({_VERSION_TEXT})|(?!/v[0-9.]+/))"
    r"((?:/[A-Za-z0-9_:@-][A-Za-z0-9._:@-]*+)+)"
    rf"(?:\?({_QUERY_TEXT}={_QUERY_TEXT}(?:&{_QUERY_TEXT}={_QUERY_TEXT})*))?"
)

_PARAMETER = re.compile(r"\{\w+(?::([^{}]*))?\}")  # in a route: "{id}", "{name:.*}"


class Access(StrEnum):
    """What an operation does to the engine; what flows inside a tunnel cannot be judged."""

    READ = "read"
    WRITE = "write"
    TUNNEL = "tunnel"


class Traffic(StrEnum):
    """How the bytes of an operation flow."""

    UNARY = "unary"
    STREAM = "stream"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    HIJACK = "hijack"
    WEBSOCKET = "websocket"
    UPGRADE = "upgrade"


STREAMS = frozenset({Traffic.STREAM, Traffic.HIJACK, Traffic.WEBSOCKET, Traffic.UPGRADE})
"""What may live for days."""


class ApiVersion(NamedTuple):
    """A version of the Engine API, ordered by its numbers."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`1.24`; raises ValueError for every other form, such as signs, leading zeros, a third part, five digits."""
        if _VERSION.fullmatch(text) is None:
            raise ValueError("not an API version, which is of the form 1.24")
        major, _, minor = text.partition(".")
        return cls(int(major), int(minor))


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the Engine API, named by its operationId."""

    operation_id: str
    tag: str
    method: str
    path: str
    first_api: ApiVersion
    last_api: ApiVersion | None
    access: Access
    traffic: Traffic
    kubernetes: frozenset[str]
    note: str

    def in_version(self, version: ApiVersion | None) -> bool:
        """Whether that API version has the operation. Without a version (None) it has: the engine takes its own newest,
        which nobody but the engine knows."""
        if version is None:
            return True
        return self.first_api <= version and (self.last_api is None or version <= self.last_api)


class Target(NamedTuple):
    """A request target, read. `path` is decoded and without version prefix; `query` is canonical and still encoded;
    `canonical` is what the engine gets: ASCII, and read by it as exactly this version, path and query."""

    path: str
    query: str
    version: ApiVersion | None
    canonical: str


class Classified(NamedTuple):
    """What a request is. `in_version` False: a known operation, but not of that API version. `resource_name` is the
    name in the path, decoded, "" where there is none; whether it is a name, an id or part of one the engine decides."""

    operation: Operation | None
    in_version: bool
    resource_kind: str
    resource_name: str


UNKNOWN = Classified(None, False, "", "")
"""What the catalogue does not know."""

_USUAL_VERSIONS = MappingProxyType({f"1.{minor}": ApiVersion(1, minor) for minor in range(100)})


def parse_target(method: str, target: str) -> Target:
    """A request target as the engine reads it, in its one canonical form. Raises BadRequest for what the engine would
    refuse or redirect, and for what two readers could take for different things."""
    # hot: nearly all clients send the canonical form, which needs no second look: 0.4 to 1.0 us instead of the 1.7 to
    # 5.2 us of `parse_any_target` (timeit, CPython 3.11: `/_ping`, a versioned inspect, logs, events with filters).
    canonical = _CANONICAL_TARGET.fullmatch(target)
    if canonical is None:
        return parse_any_target(method, target)
    version, path, query = canonical.groups()
    if query is None:
        query = ""
    elif query.count("&") >= QUERY_PAIRS_MAX:
        raise _too_many_pairs()
    if version is None:
        return Target(path, query, None, target)
    return Target(path, query, _USUAL_VERSIONS.get(version) or ApiVersion.parse(version), target)


def parse_any_target(method: str, target: str) -> Target:
    """The same as `parse_target`, step by step."""
    if target == "*" and method == "OPTIONS":
        return Target("*", "", None, "*")
    if not target.startswith("/"):
        raise BadRequest(400, BadRequestReason.TARGET_FORM, "the request target does not begin with a slash")
    if _VISIBLE.fullmatch(target) is None:
        raise BadRequest(400, BadRequestReason.TARGET, "the request target has other characters than visible ASCII")
    raw_path, _, raw_query = target.partition("?")
    version, path = _split_version(_decode_path(raw_path))
    query = _canonical_query(raw_query)
    prefix = f"/v{version}" if version else ""
    canonical = prefix + quote_from_bytes(path.encode(), safe=_PATH_SAFE)
    return Target(path, query, version, f"{canonical}?{query}" if query else canonical)


def _decode_path(raw: str) -> str:
    if _BAD_ESCAPE.search(raw):
        raise BadRequest(400, BadRequestReason.PERCENT_ENCODING, "the path has a '%' without two hex digits behind it")
    # The engine decodes once, slashes included, and routes what comes out: `%2f` is a slash, `%252f` the text "%2f".
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(400, BadRequestReason.PERCENT_ENCODING, "the path is not UTF-8") from error
    if _CONTROL.search(path):
        raise BadRequest(400, BadRequestReason.TARGET, "the path has control characters")
    # gorilla/mux answers 301 where Go's path.Clean would change the path. Following a redirect is the client's part.
    if _NOT_CLEAN.search(path):
        raise BadRequest(400, BadRequestReason.PATH_NOT_CANONICAL, "the path has an empty, a '.' or a '..' segment")
    return path


def _split_version(path: str) -> tuple[ApiVersion | None, str]:
    prefixed = _VERSION_PREFIX.fullmatch(path)
    if prefixed is None:
        return None, path
    # The engine takes `/v1.24.0`, `/v01.24` and `/v1.24.` for 1.24 as well. No client writes them.
    try:
        return ApiVersion.parse(prefixed[1]), prefixed[2]
    except ValueError as error:
        detail = "the API version in the path is not of the form v1.24"
        raise BadRequest(400, BadRequestReason.API_VERSION, detail) from error


def _canonical_query(raw: str) -> str:
    # Go before 1.17 cut at ";" as at "&"; since then some handlers of the engine refuse it, others drop the pair.
    if ";" in raw:
        raise BadRequest(400, BadRequestReason.QUERY, "the query has a ';' that is not percent-encoded")
    if _BAD_ESCAPE.search(raw):
        raise BadRequest(400, BadRequestReason.QUERY, "the query has a '%' without two hex digits behind it")
    if raw.count("&") >= QUERY_PAIRS_MAX:
        raise _too_many_pairs()
    return "&".join([_canonical_pair(pair) for pair in raw.split("&") if pair])


def _canonical_pair(raw: str) -> str:
    key, _, value = raw.partition("=")
    return f"{_canonical_text(key)}={_canonical_text(value)}"


def _canonical_text(raw: str) -> str:
    if _CANONICAL_QUERY_TEXT.fullmatch(raw):
        return raw
    # Not decoded to text: a file name in a query may be of any bytes, and goes to the engine as they are.
    return quote_from_bytes(unquote_to_bytes(raw.replace("+", " ")), safe=" ").replace(" ", "+")


def _too_many_pairs() -> BadRequest:
    return BadRequest(400, BadRequestReason.QUERY, f"the query has more than {QUERY_PAIRS_MAX} pairs")


class _Route(NamedTuple):
    pattern: re.Pattern[str]
    operation: Operation
    kind: str
    has_name: bool
    first_segment: str
    last_segment: str | None  # None: a parameter, so that a path of this route may end in anything


class Catalogue:
    """All operations, prepared for look-up. `operations` is keyed by operationId, in the order of the data."""

    operations: Mapping[str, Operation]

    def __init__(self, rows: Mapping[str, Mapping[str, object]]) -> None:
        self.operations = MappingProxyType({name: _operation(name, row) for name, row in rows.items()})
        routes = [_route(text, self.operations[name]) for name, row in rows.items() for text in _texts(row["routes"])]
        self._index = _index(routes)

    def classify(self, method: str, path: str, api_version: ApiVersion | None) -> Classified:
        """The operation that the engine routes a request to, or UNKNOWN. Total: never raises."""
        # hot: only the routes that may match by their two ends are tried: 0.3 to 1.1 us for any request, where trying
        # all in order takes 0.5 (ContainerList) to 5.9 us (an unknown path; timeit, CPython 3.11).
        first_segment = path[1:].partition("/")[0]
        last_segment = path[path.rfind("/") + 1 :]
        index = self._index
        routes = index.get((method, first_segment, last_segment)) or index.get((method, first_segment, None), ())
        for pattern, operation, kind, has_name, _, _ in routes:
            match = pattern.fullmatch(path)
            if match is not None:
                return Classified(operation, operation.in_version(api_version), kind, match[1] if has_name else "")
        return UNKNOWN


_Index = dict[tuple[str, str, str | None], tuple[_Route, ...]]


def _index(routes: list[_Route]) -> _Index:
    """(method, first segment, last segment or None for any other) -> the routes that may match, in their order."""
    index: _Index = {}
    for route in routes:
        method, first, last = route.operation.method, route.first_segment, route.last_segment
        index[method, first, last] = tuple(
            candidate
            for candidate in routes
            if (candidate.operation.method, candidate.first_segment) == (method, first)
            and candidate.last_segment in (last, None)
        )
    return index


def _route(text: str, operation: Operation) -> _Route:
    """A route as the engine writes it, with gorilla/mux's meaning: `{id}` is one segment, `{id:.*}` any text."""
    literals = _PARAMETER.split(text)  # literal, pattern, literal, pattern, ..., literal
    pattern = "".join(f"({part or '[^/]+'})" if at % 2 else re.escape(part or "") for at, part in enumerate(literals))
    first, last = text.split("/")[1], text.rpartition("/")[2]
    return _Route(
        pattern=re.compile(pattern),
        operation=operation,
        kind=RESOURCE_KINDS.get(first, ""),
        has_name=len(literals) > 1,
        first_segment=first,
        last_segment=None if _PARAMETER.search(last) else last,
    )


def _operation(name: str, row: Mapping[str, object]) -> Operation:
    last_api = row["last_api"]
    return Operation(
        operation_id=name,
        tag=str(row["tag"]),
        method=str(row["method"]),
        path=str(row["path"]),
        first_api=ApiVersion.parse(str(row["first_api"])),
        last_api=None if last_api is None else ApiVersion.parse(str(last_api)),
        access=Access(str(row["access"])),
        traffic=Traffic(str(row["traffic"])),
        kubernetes=frozenset(_texts(row["kubernetes"])),
        note=str(row["note"]),
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list of texts is expected, not {type(value).__name__}")
    return tuple(map(str, value))
