"""What an expression consists of, read from the form in which CEL libraries exchange what they have parsed and checked.

Owns that form (the protobuf messages of `cel.expr`) and what of it may stand in an expression. Must not know the library that
writes it, what a node costs, or requests. Begin at `read_tree`. Sources: cel/expr/checked.proto and syntax.proto of the
CEL specification; protobuf's encoding. Macros are in it as what they stand for: a `Fold`.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

DEPTH_MAX = 100
"""Levels of nodes. The library takes 32 levels of text, of which a macro makes six each; a chain of them stays below this."""


class Literal(NamedTuple):
    """A text, where it is one, else None: of a number or a truth nobody asks the value here."""

    text: str | None


class Name(NamedTuple):
    """A variable, of the request or of a macro."""

    name: str


class Field(NamedTuple):
    """`of.name`; `is_test`: has(of.name)."""

    of: "Node"
    name: str
    is_test: bool


class Call(NamedTuple):
    """A function or operator; what stands before the point of a method is the first of `parts`."""

    function: str
    parts: tuple["Node", ...]


class Made(NamedTuple):
    """A list or map that is written out: its elements, or keys and values in turn."""

    parts: tuple["Node", ...]


class Fold(NamedTuple):
    """A macro: `step` is taken for each `element` of `over`, with what came out so far under the name `so_far`."""

    element: str
    over: "Node"
    so_far: str
    start: "Node"
    condition: "Node"
    step: "Node"
    result: "Node"


Node: TypeAlias = Literal | Name | Field | Call | Made | Fold

Mentioned: TypeAlias = "dict[str, Mentioned]"
"""Names -> what is mentioned below each; empty where it is the whole."""

_Value: TypeAlias = int | bytes
_Message: TypeAlias = Mapping[int, list[_Value]]

# The numbers of fields in the messages Any, CheckedExpr and Expr, and in those within.
_ANY_VALUE, _CHECKED_EXPR = 2, 4
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = range(3, 10)
_STRING_VALUE = 6


def read_tree(serialized: bytes) -> Node:
    """The root. Raises ValueError, with a text for people, for what may not stand in an expression."""
    checked = _read(_one(_read(serialized), _ANY_VALUE))
    return _node(_one(checked, _CHECKED_EXPR), 0)


def nodes(root: Node) -> Iterator[Node]:
    """All nodes, the outer ones first."""
    yield root
    for part in _parts(root):
        yield from nodes(part)


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case Field(of=of):
            return (of,)
        case Call(parts=parts) | Made(parts=parts):
            return parts
        case Fold():
            return node.over, node.start, node.condition, node.step, node.result
        case _:
            return ()


def mentioned(root: Node) -> Mentioned:
    """What is mentioned of the variables that no macro has made: `body.a.b > 0 && has(query.t)` gives {body: {a: {b: {}}},
    query: {t: {}}}."""
    found: Mentioned = {}
    _mention(root, frozenset(), found)
    return found


def paths(below: Mentioned) -> Iterator[tuple[str, ...]]:
    """The ways from the top to what has nothing below it: {a: {b: {}}, c: {}} gives (a, b) and (c,)."""
    for name, further in below.items():
        for rest in paths(further) if further else ((),):
            yield (name, *rest)


def _mention(node: Node, own: frozenset[str], found: Mentioned) -> None:
    path = _path(node)
    if path is not None:
        if path[0] not in own:
            _insert(found, path)
        return
    if isinstance(node, Fold):
        # What it goes over stands outside; to read it as if within would hide a variable of the same name.
        _mention(node.over, own, found)
        _mention(node.start, own, found)
        inner = own | {node.element, node.so_far}
        for part in (node.condition, node.step, node.result):
            _mention(part, inner, found)
        return
    for part in _parts(node):
        _mention(part, own, found)


def _path(node: Node) -> tuple[str, ...] | None:
    """`a.b["c"]` as its names; None for what is no such chain."""
    match node:
        case Name(name=name):
            return (name,)
        case Field(of=of, name=name) | Call(function="_[_]", parts=(of, Literal(text=str(name)))):
            above = _path(of)
            return None if above is None else (*above, name)
        case _:
            return None


def _insert(found: Mentioned, path: tuple[str, ...]) -> None:
    for at, name in enumerate(path):
        is_last = at == len(path) - 1
        if name in found and not found[name]:
            return  # the whole of it is there already
        if is_last:
            found[name] = {}
        found = found.setdefault(name, {})


def _node(raw: bytes, depth: int) -> Node:
    if depth > DEPTH_MAX:
        raise ValueError(f"is nested deeper than {DEPTH_MAX} levels")
    message = _read(raw)
    kind = next((kind for kind in _READERS if kind in message), None)
    if kind is None:
        raise ValueError("has something in it that is not known here")
    return _READERS[kind](_read(_one(message, kind)), depth + 1)


def _literal(message: _Message, _depth: int) -> Node:
    return Literal(_text(message, _STRING_VALUE) if _STRING_VALUE in message else None)


def _name(message: _Message, _depth: int) -> Node:
    return Name(_text(message, 1))


def _select(message: _Message, depth: int) -> Node:
    return Field(_node(_one(message, 1), depth), _text(message, 2), is_test=3 in message)


def _call(message: _Message, depth: int) -> Node:
    parts = [*message.get(1, ()), *message.get(3, ())]
    return Call(_text(message, 2), tuple(_node(_bytes(part), depth) for part in parts))


def _list(message: _Message, depth: int) -> Node:
    if 2 in message:
        raise ValueError("has an optional element, which is not known here")
    return Made(tuple(_node(_bytes(part), depth) for part in message.get(1, ())))


def _struct(message: _Message, depth: int) -> Node:
    if 1 in message:
        raise ValueError(f"makes a {_text(message, 1)}; expressions make lists and maps")
    return Made(tuple(_entries(message, depth)))


def _entries(message: _Message, depth: int) -> Iterator[Node]:
    for entry in map(_read, map(_bytes, message.get(2, ()))):
        yield _node(_one(entry, 3), depth)
        yield _node(_one(entry, 4), depth)


def _comprehension(message: _Message, depth: int) -> Node:
    if 8 in message:
        raise ValueError("has a macro of two variables, which is not known here")
    over, start, condition, step, result = (_node(_one(message, field), depth) for field in (2, 4, 5, 6, 7))
    return Fold(_text(message, 1), over, _text(message, 3), start, condition, step, result)


_READERS = {
    _CONST: _literal,
    _IDENT: _name,
    _SELECT: _select,
    _CALL: _call,
    _LIST: _list,
    _STRUCT: _struct,
    _COMPREHENSION: _comprehension,
}


# protobuf


def _read(raw: bytes) -> _Message:
    """The fields of a message: number -> its values."""
    message: dict[int, list[_Value]] = {}
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        value: _Value
        match key & 7:
            case 0:
                value, at = _varint(raw, at)
            case 1 | 5 as form:
                length = 8 if form == 1 else 4
                value, at = raw[at : at + length], at + length
            case 2:
                length, at = _varint(raw, at)
                value, at = raw[at : at + length], at + length
            case _:
                raise ValueError("has a form that is not known here")
        message.setdefault(key >> 3, []).append(value)
    if at != len(raw):
        raise ValueError("has a form that is cut off")
    return message


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(raw):
        number |= (raw[at] & 0x7F) << shift
        shift += 7
        at += 1
        if raw[at - 1] < 0x80:
            return number, at
    raise ValueError("has a form that is cut off")


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("has a form that is not known here")
    return value


def _one(message: _Message, field: int) -> bytes:
    return _bytes(message[field][-1]) if field in message else b""


def _text(message: _Message, field: int) -> str:
    return _one(message, field).decode()
