"""The JSON Schema of the configuration file, by which editors complete, explain and check it.

Owns how a shape is said there, and what shapes cannot say by themselves: which operations and built-in policies there
are, and why each limit is as it is. Begin at `json_schema`. Source: JSON Schema 2020-12.
"""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, assert_never

from sockproxy import data
from sockproxy.forwarding import limits
from sockproxy.judging.compiling import selector_words
from sockproxy.operating.config.document import DOCUMENT
from sockproxy.operating.config.shapes import (
    Choice,
    Constant,
    Either,
    Flag,
    Key,
    Keys,
    ListOf,
    Named,
    NameOrNumber,
    Number,
    Shape,
    Text,
    keys_of,
)
from sockproxy.operating.known import load_catalogue

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_POLICY_PLACES = (("PolicyDocument", "extends"), ("ListenerDocument", "policy"), ("ClientDocument", "policy"))


def json_schema() -> dict[str, Any]:
    """The schema, as a value that `json.dumps` takes."""
    definitions: dict[str, Any] = {}
    _define(DOCUMENT, definitions)
    root = definitions.pop(DOCUMENT.model.__name__)
    schema: dict[str, Any] = {"$schema": _DIALECT, "$defs": definitions} | root | {"required": ["version"]}
    words = list(selector_words(load_catalogue()))
    pattern = {"type": "string", "pattern": r"^[A-Za-z0-9*?]*[*?][A-Za-z0-9*?]*$"}
    definitions["RuleDocument"]["properties"]["operations"]["items"] = {"anyOf": [{"enum": words}, pattern]}
    built_in = {"enum": list(data.builtin_policy_names())}
    for model, key in _POLICY_PLACES:
        place = definitions[model]["properties"][key]
        place = place.get("items", place)
        kept = {keyword: place.pop(keyword) for keyword in list(place) if keyword not in ("title", "description")}
        place["anyOf"] = [built_in, kept]
    for model, name, reason in _limit_reasons():
        definitions[model]["properties"][name]["description"] = reason
    return schema


def _define(shape: Keys, definitions: dict[str, Any]) -> None:
    """Adds what a model is, and all that is in it."""
    keys = keys_of(shape.model)
    definitions[shape.model.__name__] = {
        "title": shape.title,
        "description": shape.model.__doc__,
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, key in keys.items() if key.is_required],
        "properties": {name: _property(key, definitions) for name, key in keys.items()},
    }


def _property(key: Key, definitions: dict[str, Any]) -> dict[str, Any]:
    described = {"description": key.description}
    if key.is_required:
        return described | _say(key.shape, definitions)
    if key.when_null:
        return described | _say(key.shape, definitions)
    if key.default is None:
        return described | {"default": None, "anyOf": [_say(key.shape, definitions), {"type": "null"}]}
    default = {ListOf: list, Named: dict}.get(type(key.shape), lambda value: value)(key.default)
    return described | {"default": default} | _say(key.shape, definitions)


def _say(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    match shape:
        case Text(pattern=pattern, length_max=length_max, number=number, is_empty_right=is_empty_right):
            said: dict[str, Any] = {"pattern": pattern} if pattern else {} if is_empty_right else {"minLength": 1}
            said |= {"maxLength": length_max} if length_max else {}
            return {"type": "string" if number else ["string", "number"]} | said
        case NameOrNumber():
            return {"type": ["string", "integer"]}
        case Choice(words=words):
            return {"type": "string", "enum": list(words)}
        case Flag():
            return {"type": "boolean"}
        case Number(is_whole=is_whole):
            return {"type": "integer" if is_whole else "number", "minimum": 0}
        case Constant(value=value):
            return {"type": "integer", "const": value}
        case ListOf(item=item, when_empty=when_empty):
            return {"type": "array", "items": _say(item, definitions)} | ({"minItems": 1} if when_empty else {})
        case Named(item=item, pattern=pattern):
            return {
                "type": "object",
                "propertyNames": {"pattern": pattern},
                "additionalProperties": _say(item, definitions),
            }
        case Either(single=single, keys=keys):
            return {"anyOf": [_say(single, definitions), _say(keys, definitions)]}
        case Keys(model=model):
            if model.__name__ not in definitions:
                _define(shape, definitions)
            return {"$ref": f"#/$defs/{model.__name__}"}
        case _:
            assert_never(shape)


def _limit_reasons() -> Iterator[tuple[str, str, str]]:
    """The line below each field of the limits, which is not there at run time but in the source."""
    for statement in ast.walk(ast.parse(inspect.getsource(limits))):
        if isinstance(statement, ast.ClassDef):
            for field, below in pairwise(statement.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(value=str(reason))):
                        yield statement.name, name, reason
