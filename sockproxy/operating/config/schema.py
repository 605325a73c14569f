"""The JSON Schema of the configuration file, by which editors complete, explain and check it.

Owns what the models cannot say by themselves: which operations and built-in policies there are, and why each limit is as
it is. Begin at `json_schema`. Source: JSON Schema 2020-12.
"""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sockproxy import data
from sockproxy.forwarding import limits
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.policy import selector_words
from sockproxy.operating.config.document import Document

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema, as a value that `json.dumps` takes."""
    schema: dict[str, Any] = {"$schema": _DIALECT} | Document.model_json_schema()
    definitions = schema["$defs"]
    words = list(selector_words(Catalogue(data.load_operations())))
    pattern = {"type": "string", "pattern": r"^[A-Za-z0-9*?]*[*?][A-Za-z0-9*?]*$"}
    definitions["RuleDocument"]["properties"]["operations"]["items"] = {"anyOf": [{"enum": words}, pattern]}
    built_in = {"enum": list(data.builtin_policy_names())}
    for model, key in (("PolicyDocument", "extends"), ("ListenerDocument", "policy")):
        place = definitions[model]["properties"][key]
        place = place.get("items", place)
        kept = {keyword: place.pop(keyword) for keyword in list(place) if keyword not in ("title", "description")}
        place["anyOf"] = [built_in, kept]
    for name, reason in _limit_reasons():
        definitions["LimitsDocument"]["properties"][name]["description"] = reason
    return schema


def _limit_reasons() -> Iterator[tuple[str, str]]:
    """The line below each field of `Limits`, which is not there at run time but in the source."""
    for statement in ast.walk(ast.parse(inspect.getsource(limits))):
        if isinstance(statement, ast.ClassDef):
            for field, below in pairwise(statement.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(value=str(reason))):
                        yield name, reason
