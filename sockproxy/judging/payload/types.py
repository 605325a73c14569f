"""Values as Go's encoding/json takes them into the engine's types: names, types, ranges, null.

Owns the meaning of the type expressions in `sockproxy/data/bodies.json` and makes a reader of each. Must not know
operations or bytes. Begin at `Types.reader`. Source: Go's encoding/json (version 1), which all engines use.

    bool string int int64 uint16 ... float32    a value of that type; numbers in range, whole ones without "." and "e"
    bytes                                       a string in base64
    strings                                     a list of strings, or one string for a list of that one
    []T  [2]T  map[string]T  *T  struct{}       as in Go; `map[string]*T` keeps null as the value of a key
    Name                                        a struct of `types`: name of the field -> [type, first API, last API]

Names of fields are matched exactly first, then without case, in which ſ is an s and the Kelvin sign a k. `null` leaves a
field as it is in Go, that is empty: it is dropped. As an element of a list it is refused, since no client writes it.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from sockproxy.judging.payload.text import Misread, UnknownField

Reader = Callable[[Any], Any]
"""JSON value -> value in its canonical form. Any: both are whatever the client sent, and each reader looks for itself."""

Fields = Mapping[str, tuple[str, str, str | None]]
"""Name of a field -> its type, and the first and last API version whose engines have it (None: the newest has)."""


class UnknownFields(StrEnum):
    """What happens to a field that no engine's API has; `pass` keeps it as it is, under the name that it has."""

    DROP = "drop"
    DENY = "deny"
    PASS = "pass"  # noqa: S105 - a way, not a word


_INTEGERS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    "int": (-(2**63), 2**63 - 1),  # engines run on 64 bits
    "uint": (0, 2**64 - 1),
}
_TEXTS = frozenset({str})
_FLOAT32_MAX = 3.4028234663852886e38

_ZEROS: Mapping[str, Callable[[], object]] = {"bool": bool, "string": str, "float32": int} | dict.fromkeys(
    _INTEGERS, int
)
_NULLABLE = re.compile(r"\*|\[\]|map\[|bytes|strings")
_SEQUENCE = re.compile(r"\[([0-9]*)\](.+)")

MAP = "map[string]"


class Types:
    """The structs, and readers of the types made of them: one for each way with unknown fields."""

    def __init__(self, structs: Mapping[str, Fields], unknown_fields: UnknownFields) -> None:
        self._structs = structs
        self._unknown_fields = unknown_fields
        self._readers: dict[str, Reader] = {}

    def reader(self, type_: str) -> Reader:
        """The reader of a type; raises LookupError for a type that there is not."""
        made = self._readers.get(type_)
        if made is None:
            made = self._readers[type_] = self._make(type_)
        return made

    def _make(self, type_: str) -> Reader:
        if type_.startswith("*"):
            return self.reader(type_[1:])
        if type_ in _LEAVES:
            return _LEAVES[type_]
        if type_.startswith(MAP):
            inner = type_.removeprefix(MAP)
            return _map_reader(self.reader(inner), None if _NULLABLE.match(inner) else _ZEROS.get(inner, dict))
        if (sequence := _SEQUENCE.fullmatch(type_)) is not None:
            size, inner = sequence.groups()
            read = _strings if inner == "string" else _list_reader(self.reader(inner))
            return _array_reader(read, int(size)) if size else read
        fields = {} if type_ == "struct{}" else self._structs[type_]
        return self.struct_reader({name: type_ for name, (type_, _, _) in fields.items()})

    def struct_reader(self, fields: Mapping[str, str]) -> Reader:
        """The reader of a struct with these fields: name -> type."""
        prepared = {name: _EXACT.get(type_) or self.reader(type_) for name, type_ in fields.items()}
        zeros = {name: _zero(type_) for name, type_ in fields.items()}
        folded = {fold(name): name for name in fields}
        mode = self._unknown_fields

        # hot: a HostConfig has 80 fields, most of them null, zero, or of a type that is seen at a glance. For these no function
        # is called: 8 us for docker's own create body in place of 11 if for zeros one is, and 15 if for all (timeit).
        def read(given: Any) -> Any:
            if type(given) is not dict:
                raise Misread(f"is {_kind(given)}, not an object")
            if not given.keys() <= prepared.keys():
                return _read_otherwise_named(given, prepared, folded, mode, read)
            kept = {}
            for name, value in given.items():
                if value is not None:
                    expected, kind = prepared[name], type(value)
                    if kind is expected or (not value and kind is zeros[name]):
                        kept[name] = value
                    else:
                        kept[name] = _read_at(name, expected, value)
            return kept

        return read


def _zero(type_: str) -> type:
    """The type of a value that is canonical if it is empty or 0; of type object is none."""
    type_ = type_.removeprefix("*")
    if type_ in _LEAVES:
        return list if type_ == "strings" else int if type_ in _INTEGERS else object
    return list if type_.startswith("[") else dict


def fold(name: str) -> str:
    """A name as Go compares it without case. Of all characters only two beyond ASCII fold into it: ſ into s, and the Kelvin
    sign, which lower() folds already."""
    return name.lower() if name.isascii() else name.replace("ſ", "s").lower()


def _read_at(step: str | int, expected: Any, value: Any) -> Any:
    reader = _SLOW.get(expected, expected)
    try:
        return reader(value)
    except Misread as error:  # lawful: goes on its way, with the place where it came about
        error.steps.append(step)
        raise


def _read_otherwise_named(
    given: Mapping[str, Any], prepared: Mapping[str, Any], folded: Mapping[str, str], mode: UnknownFields, read: Reader
) -> dict[str, Any]:
    """The slow way: some names are unknown, or not spelt as the engine's documents spell them."""
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in given.items():
        field = name if name in prepared else folded.get(fold(name))
        if field is None:
            unknown[name] = value
        elif field in known:
            raise Misread("stands twice in one object, in two spellings", field)
        else:
            known[field] = value
    if mode is UnknownFields.DENY and unknown:
        raise UnknownField("is no field that the engine's API knows", next(iter(unknown)))
    kept: dict[str, Any] = read(known)
    if mode is UnknownFields.PASS and unknown:
        _check_spelt_once(unknown)
        everything = kept | unknown
        order = [name if name in unknown or name in prepared else folded[fold(name)] for name in given]
        return {name: everything[name] for name in order if name in everything}
    return kept


def _check_spelt_once(unknown: Mapping[str, Any]) -> None:
    # To an engine that is newer than our table two spellings may be one field.
    spelt = {fold(name): name for name in unknown}
    for name in unknown:
        if spelt[fold(name)] != name:
            raise Misread("stands twice in one object, in two spellings", name)


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Misread(f"is {_kind(value)}, not a boolean")
    return value


def _string(value: Any) -> str:
    if type(value) is not str:
        raise Misread(f"is {_kind(value)}, not a string")
    return value


def _integer_reader(least: int, greatest: int) -> Reader:
    def read(value: Any) -> int:
        # Go refuses 1.0 and 1e3 for an integer, and so do we: to orjson they are floats, like integers beyond 64 bits.
        if type(value) is not int:
            raise Misread(
                "is not written as a whole number" if type(value) is float else f"is {_kind(value)}, not a number"
            )
        if not least <= value <= greatest:
            raise Misread(f"is not between {least} and {greatest}")
        return value

    return read


def _float32(value: Any) -> float:
    if type(value) not in (int, float):
        raise Misread(f"is {_kind(value)}, not a number")
    if not -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
        raise Misread("is out of range")
    number: float = value
    return number


def _base64(value: Any) -> str:
    try:
        content = binascii.a2b_base64(_string(value), strict_mode=True)
    except ValueError as error:
        # Go takes line ends within; other readers do not. No client writes them.
        raise Misread("is not base64") from error
    # Written again, since the last character may have bits that no reader looks at.
    return binascii.b2a_base64(content, newline=False).decode()


def _strings(value: Any) -> list[str]:
    if type(value) is not list:
        raise Misread(f"is {_kind(value)}, not a list")
    if not _TEXTS.issuperset(map(type, value)):
        at, other = next((at, one) for at, one in enumerate(value) if type(one) is not str)
        raise Misread(f"is {_kind(other)}, not a string", at)
    return value


def _string_or_strings(value: Any) -> list[str]:
    return [value] if type(value) is str else _strings(value)


def _list_reader(reader: Reader) -> Reader:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Misread(f"is {_kind(value)}, not a list")
        return [_read_at(at, reader, element) for at, element in enumerate(value)]

    return read


def _array_reader(reader: Reader, size: int) -> Reader:
    def read(value: Any) -> Any:
        # Go ignores what is too much and fills up what is missing with zeros.
        elements = reader(value)
        if len(elements) > size:
            raise Misread(f"has more than {size} elements")
        return elements

    return read


def _map_reader(reader: Reader, zero: Callable[[], object] | None) -> Reader:
    """`zero`: what Go makes of null as a value; None where it stays null."""

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Misread(f"is {_kind(value)}, not an object")
        if reader is _string and _TEXTS.issuperset(map(type, value.values())):
            return value
        return {
            key: (zero() if zero else None) if element is None else _read_at(key, reader, element)
            for key, element in value.items()
        }

    return read


_LEAVES: Mapping[str, Reader] = {
    "bool": _boolean,
    "string": _string,
    "float32": _float32,
    "bytes": _base64,
    "strings": _string_or_strings,
    **{name: _integer_reader(*bounds) for name, bounds in _INTEGERS.items()},
}

# A value of exactly this Python type needs no second look.
_EXACT: Mapping[str, type] = {"bool": bool, "string": str, "*bool": bool, "*string": str}
_SLOW: Mapping[Any, Reader] = {bool: _boolean, str: _string}
