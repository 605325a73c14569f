"""Bodies: from the bytes of a request's body to what the engine makes of them, and to the bytes that it gets.

Owns which operation has a body of which type, and the few bodies that are more than their type. Must not know policies or
framing. Begin at `Bodies.read_payload`. A body that can be read in one way only has one canonical form: exact names, each
once, nothing unknown unless asked for, null dropped, no blanks, UTF-8. Reading that form again gives the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import orjson

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.catalogue import ApiVersion
from sockproxy.judging.payload.create import CPUSET, HOST_CONFIG, settle
from sockproxy.judging.payload.text import Misread, UnknownField, parse_json
from sockproxy.judging.payload.types import Fields, Reader, Types, UnknownFields, fold

_CREATE = "ContainerCreate"
_START = "ContainerStart"
_COMMIT = "ImageCommit"

_CONFIG = "Config"
_CREATE_TYPE = "ContainerCreateRequest"
_OLDEST = "1.21"

START_BODY_UNTIL = ApiVersion(1, 23)
"""The newest API version in which a start has a body."""

START_BODY_IGNORED_BYTES = 7
"""What engines ignore as the body of a start, in any version."""


class Payload(NamedTuple):
    """A body as it was read. `data`: an object (or, for the few operations that take one, a list) in the names of the API's
    documents, without what is absent or null; null stands only as the value of a map's key, where it means something.
    `canonical`: the bytes for the engine; empty for no body."""

    data: Any
    canonical: bytes


class Field(NamedTuple):
    """What the table knows of a field. `first_api` 1.21 means that one or an older; engines take a field in every version."""

    type: str
    first_api: ApiVersion
    last_api: ApiVersion | None


class Missing(NamedTuple):
    """A name that stands for no field, and those that do."""

    name: str
    fields: tuple[str, ...]


class Bodies:
    """All operations that have a JSON body, prepared for reading. Made of the data in `sockproxy/data/bodies.json`."""

    def __init__(
        self, operations: Mapping[str, str], ignored: Mapping[str, Sequence[str]], structs: Mapping[str, Fields]
    ) -> None:
        self.operations = frozenset(operations)
        self._types = dict(operations)
        self._structs = {**structs, _CREATE_TYPE: {**structs[_CONFIG], **structs[_CREATE_TYPE]}}
        self._ignored = {name: frozenset(ignored.get(name, ())) for name in operations}
        self._flat_fields = frozenset(structs[HOST_CONFIG])
        self._embedded = {name: _Embedded.of(structs[name]) for name in (_CONFIG, HOST_CONFIG)}
        self._readers: dict[
            UnknownFields, dict[str, Reader]
        ] = {}  # made when they are asked for: most policies ask none
        self._given = structs
        self._more: Mapping[str, Callable[[Any, Any], Any]] = {
            _CREATE: self._settle_create,
            _START: self._settle_start,
            _COMMIT: self._check_commit,
        }

    @staticmethod
    def _readers_of(
        operations: Mapping[str, str], structs: Mapping[str, Fields], mode: UnknownFields
    ) -> dict[str, Reader]:
        # Config and HostConfig are embedded in the body of a create: their fields stand at its top, too.
        fields = {**structs[_CONFIG], **structs[HOST_CONFIG], **structs[_CREATE_TYPE]}
        types = Types({**structs, _CREATE_TYPE: fields}, mode)
        return {name: types.reader(type_) for name, type_ in operations.items()}

    def read_payload(
        self,
        operation_id: str,
        api_version: ApiVersion | None,
        body: bytes,
        unknown_fields: UnknownFields = UnknownFields.DENY,
    ) -> Payload:
        """The body of an operation as every engine reads it. Raises BadRequest where it is no JSON, of another type than the
        engine's, or could be read in two ways; LookupError for an operation without a JSON body."""
        if unknown_fields not in self._readers:
            self._readers[unknown_fields] = self._readers_of(self._types, self._given, unknown_fields)
        read = self._readers[unknown_fields][operation_id]
        if operation_id == _START and api_version is not None and api_version > START_BODY_UNTIL:
            return self._no_start_body(body)
        try:
            return self._payload(operation_id, read, body)
        except UnknownField as error:
            raise BadRequest(400, BadRequestReason.UNKNOWN_FIELD, f"{operation_id}: {error}") from error
        except Misread as error:
            subject = "" if error.steps else "the body "
            raise BadRequest(400, BadRequestReason.BODY, f"{operation_id}: {subject}{error}") from error

    def field(self, operation_id: str, path: Sequence[str]) -> Field | None:
        """The field at a path of names as in `Payload.data`, through lists to what they are lists of; None if there is none.
        For whoever checks what a policy asks for."""
        type_ = self._types[operation_id]
        found = None
        for name in path:
            row = self._structs.get(type_.replace("[]", "").lstrip("*"), {}).get(name)
            if row is None:
                return None
            type_, first, last = row
            found = Field(type_, ApiVersion.parse(first), None if last is None else ApiVersion.parse(last))
        return found

    def missing(self, operation_id: str, path: Sequence[str]) -> Missing | None:
        """The first name of a path that stands for no field; None if all do, or what is below a field that is no struct. For an
        operation without a JSON object as its body, that is the first."""
        type_ = self._types.get(operation_id, "struct{}")
        if type_.startswith("[]"):
            return Missing(path[0], ())
        for name in path:
            fields = self._structs.get(type_.lstrip("*"), {} if type_ == "struct{}" else None)
            if fields is None:
                break
            if name not in fields:
                return Missing(name, tuple(fields))
            type_, _, _ = fields[name]
        return None

    def _payload(self, operation_id: str, read: Reader, body: bytes) -> Payload:
        nothing: Any = [] if self._types[operation_id].startswith("[]") else {}
        if not body.strip(b" \t\r\n"):
            return Payload(nothing, b"")
        value = parse_json(body)
        if value is None:
            # Go's decoder does nothing for null: the engine goes on with what is empty, or refuses it.
            return Payload(nothing, b"null")
        if type(value) is dict and not self._ignored[operation_id].isdisjoint(value):
            value = {name: inner for name, inner in value.items() if name not in self._ignored[operation_id]}
        data = read(value)
        if (more := self._more.get(operation_id)) is not None:
            data = more(data, value)
        return Payload(data, orjson.dumps(data))

    @staticmethod
    def _no_start_body(body: bytes) -> Payload:
        if len(body) > START_BODY_IGNORED_BYTES:
            raise BadRequest(400, BadRequestReason.BODY, f"{_START}: has no body after API {START_BODY_UNTIL}")
        return Payload({}, b"")

    def _settle_create(self, data: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        self._embedded[_CONFIG].check(_CONFIG, data, given)
        return settle(data, self._flat_fields, self._has_flat(data, given, is_decisive=CPUSET in data))

    def _settle_start(self, data: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        # Of the same type as a create's, but only the HostConfig is taken. One that is empty counts: it resets the container's.
        settled = settle(data, self._flat_fields, self._has_flat(data, given, is_decisive=True))
        return {HOST_CONFIG: settled[HOST_CONFIG]} if HOST_CONFIG in settled else {}

    def _has_flat(self, data: Mapping[str, Any], given: Mapping[str, Any], *, is_decisive: bool) -> bool:
        """Whether a HostConfig stands at the top. Refuses one of which some engines would not know, where that is decisive."""
        if HOST_CONFIG in data:
            return False
        embedded = self._embedded[HOST_CONFIG]
        if is_decisive:
            embedded.check(HOST_CONFIG, map(embedded.exact, given), given)
        return embedded.is_in(given)

    def _check_commit(self, data: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        self._embedded[_CONFIG].check(_CONFIG, data, given)
        return data


class _Embedded(NamedTuple):
    """The fields of a struct that stands embedded in a body. To the engine such a struct is there if one of its fields is, if
    only as null; and a Config or HostConfig that is there and empty overrides another, while one that is absent does not."""

    folded: Mapping[str, str]
    everywhere: frozenset[str]
    """Those that all engines have."""

    @classmethod
    def of(cls, fields: Fields) -> Self:
        everywhere = frozenset(name for name, (_, first, last) in fields.items() if first == _OLDEST and last is None)
        return cls({fold(name): name for name in fields}, everywhere)

    def is_in(self, given: Iterable[str]) -> bool:
        return any(fold(name) in self.folded for name in given)

    def exact(self, name: str) -> str:
        return self.folded.get(fold(name), name)

    def check(self, name: str, kept: Iterable[str], given: Mapping[str, Any]) -> None:
        """Refuses a body that has fields of the struct, but in what is kept of them none by which every engine would know."""
        if self.everywhere.isdisjoint(kept) and self.is_in(given):
            raise Misread(f"has no field of {name} that every engine knows and that is not null")
