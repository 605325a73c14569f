"""An expression that is ready to be asked: compiled by the library, weighed by `cost`, and what it is asked about.

Owns the variables and what is said of an expression that is wrong, false or cannot be evaluated. Must not know policies or
files. Begin at `VARIABLES`, `compile_expression`. The library is Google's own implementation in C++ (see pyproject.toml). It
checks types, matches by RE2 and ends after 10,000 turns of macros, but has no limit beyond that; hence `cost`. It gets
what an expression mentions and no more, and nothing with a NUL character in it, where it would end a text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Protocol, cast

import orjson

from sockproxy.judging.requirements.expression.cost import COST_MAX, Polynomial, cost_of, evaluate
from sockproxy.judging.requirements.expression.tree import (
    Call,
    Field,
    Fold,
    Literal,
    Mentioned,
    Node,
    mentioned,
    nodes,
    read_tree,
)
from sockproxy.judging.requirements.facts import Facts, Unmet
from sockproxy.judging.requirements.places import rolled_back
from sockproxy.judging.requirements.wording import shown

VARIABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "request": ("method", "path", "api_version"),
        "principal": ("kind", "uid", "gid", "pid", "exe", "container", "tls_subject", "address"),
        "operation": ("id", "tag", "access"),
        "resource": ("kind", "name"),
        "query": (),
        "body": (),
    }
)
"""Variable -> its fields, where sockproxy names them. What a request does not have is absent: to ask it is an error, which
denies, and `has()` tells."""


class _Value(Protocol):
    def value(self) -> Any: ...
    def type(self) -> object: ...


class _Compiled(Protocol):
    def eval(self, *, data: Mapping[str, Any]) -> _Value: ...
    def return_type(self) -> object: ...
    def serialize(self) -> bytes: ...


class _Environment(Protocol):
    def compile(self, expression: str) -> _Compiled: ...


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression, compiled."""

    told: str
    compiled: _Compiled
    mentioned: Mentioned
    words: frozenset[str]
    """Names and texts that are written in it, and so may be shown."""
    cost: Polynomial

    def ask(self, facts: Facts) -> Unmet | None:
        """That it is true, and of what the engine takes."""
        if "body" in self.mentioned:
            if facts.has_other_body:
                why = f"{facts.operation_id} has no JSON object as its body"
                return Unmet("expression", f"{self.told} cannot be evaluated: {why}")
            if (unmet := rolled_back(facts)) is not None:
                return unmet
        told = _answer(self, facts)
        return None if told is None else Unmet("expression", f"{self.told} {told}")


@lru_cache(maxsize=256)  # it is asked for by `make` and `reads_body`, and again for each policy that extends another
def compile_expression(text: str) -> Expression:
    """Raises ValueError, with a text for people, for what is no expression, or one that could not be asked in time."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("has a character that no text has")
    try:
        compiled = _environment().compile(text)
    except RuntimeError as error:
        raise ValueError(_fault(str(error))) from error
    if str(compiled.return_type()) not in ("BOOL", "DYN"):
        raise ValueError(f"is not true or false, but {str(compiled.return_type()).lower()}")
    tree = read_tree(compiled.serialize())
    _check_macros(tree)
    cost = cost_of(tree)
    below = {name: of for name, of in mentioned(tree).items() if name in VARIABLES}  # the others are names of types
    _check_fields(below)
    _check_patterns(tree)
    return Expression(shown(" ".join(text.split())), compiled, below, frozenset(_words(tree)), cost)


@cache
def _environment() -> _Environment:
    try:
        from cel_expr_python import cel
    except ImportError as error:
        raise ValueError("needs the library cel-expr-python, which is not installed here") from error
    types = dict.fromkeys(VARIABLES, cel.Type.Map(cel.Type.STRING, cel.Type.DYN))
    types["query"] = cel.Type.Map(cel.Type.STRING, cel.Type.List(cel.Type.STRING))
    return cast(_Environment, cel.NewEnv(variables=types))


# What is wrong with it

_ERROR = re.compile(r"ERROR: <input>:(-?[0-9]+):(-?[0-9]+): (.*)")
_NOISE = re.compile(r"^[A-Z_]+: | \(in container ''\)| \[[A-Z_]+\]$|,? expecting .*$|\n.*", re.DOTALL)


_HINTS: Mapping[str, str] = {
    "undeclared reference": f"; the variables are {', '.join(sorted(VARIABLES))}",
    "list(string)": "; a parameter is the list of its values, as in query.force[0] == '1'",
    "map(string, dyn)": "; a variable is asked for its fields, as in operation.id == 'ContainerCreate'",
}
"""What is in an error -> what helps."""


def _fault(text: str) -> str:
    """The first of the library's errors, in one line."""
    found = _ERROR.search(text)
    line, column, told = found.groups() if found else ("", "", text)
    told = _NOISE.sub("", told)
    place = f"line {line}, column {column}: " if int(line or 0) > 0 else ""
    hint = next((hint for sign, hint in _HINTS.items() if sign in told), "")
    return f"is no CEL: {place}{told}{hint}"


def _check_macros(tree: Node) -> None:
    """That within a macro, too, a name says which variable it is: `.body` there is the request's, whatever `body` is."""
    for node in nodes(tree):
        if isinstance(node, Fold) and not VARIABLES.keys().isdisjoint((node.element, node.so_far)):
            raise ValueError(f"calls the element of a macro {node.element}, as the request's own is called")


def _check_fields(below: Mentioned) -> None:
    for variable, fields in VARIABLES.items():
        for name in below.get(variable, {}):
            if fields and name not in fields:
                raise ValueError(f"asks for {variable}.{name}; {variable} has {', '.join(fields)}")


def _check_patterns(tree: Node) -> None:
    """That RE2 takes all patterns: it is asked for a match of each."""
    probe = _environment().compile("query.text[0].matches(query.pattern[0])")
    for node in nodes(tree):
        if isinstance(node, Call) and node.function == "matches":
            pattern = node.parts[1].text if isinstance(node.parts[1], Literal) else None
            outcome = probe.eval(data={"query": {"text": [""], "pattern": [pattern or ""]}}).value()
            if not isinstance(outcome, bool) or "\0" in (pattern or ""):
                raise ValueError(f"matches a pattern that RE2 does not take: {shown(pattern or '')}")


def _words(tree: Node) -> set[str]:
    found = set()
    for node in nodes(tree):
        if isinstance(node, Field):
            found.add(node.name)
        elif isinstance(node, Literal) and node.text is not None:
            found.add(node.text)
    return found


# What it is asked about


def _of_request(facts: Facts) -> Mapping[str, Any]:
    version = facts.api_version and str(facts.api_version)
    return _known({"method": facts.method, "path": facts.path, "api_version": version})


def _of_principal(facts: Facts) -> Mapping[str, Any]:
    return _known({name: getattr(facts.principal, name) for name in VARIABLES["principal"]})


def _of_operation(facts: Facts) -> Mapping[str, Any]:
    operation = facts.operation
    of_it = {"tag": operation.tag, "access": str(operation.access)} if operation is not None else {}
    return {"id": facts.operation_id} | of_it


def _of_resource(facts: Facts) -> Mapping[str, Any]:
    return _known({"kind": facts.resource_kind or None, "name": facts.resource or None})


def _of_query(facts: Facts) -> Mapping[str, Any]:
    return {name: list(values) for name, values in facts.query.values.items()}


def _of_body(facts: Facts) -> Mapping[str, Any]:
    return facts.body


def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


FACTS: Mapping[str, Callable[[Facts], Mapping[str, Any]]] = MappingProxyType(
    {
        "request": _of_request,
        "principal": _of_principal,
        "operation": _of_operation,
        "resource": _of_resource,
        "query": _of_query,
        "body": _of_body,
    }
)


def _picked(value: Any, below: Mentioned) -> Any:
    """What is mentioned of a value; the whole of it where nothing below is, or nothing can be below."""
    if not below or not isinstance(value, Mapping):
        return value
    return {name: _picked(value[name], further) for name, further in below.items() if name in value}


# What comes out


def _answer(expression: Expression, facts: Facts) -> str | None:
    """None if it is true, else what is said of it."""
    data = {name: _picked(FACTS[name](facts), below) for name, below in expression.mentioned.items()}
    try:
        raw = orjson.dumps(data)
    except TypeError:  # lawful: it denies, and a query may have such a text
        return "cannot be evaluated: a text is not UTF-8"
    if b"\\u0000" in raw:
        return "cannot be evaluated: a value has a NUL character"
    # Each element has a comma before it, or the bracket of the list or map that it is the first of.
    elements = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if evaluate(expression.cost, {"n": elements, "b": len(raw)}) > COST_MAX:
        return "cannot be evaluated: it costs too much for values of this size"
    try:
        outcome = expression.compiled.eval(data=data)
    except RuntimeError as error:  # lawful: it denies; some of the library's errors are raised, most are a value
        return f"cannot be evaluated: {_error(str(error), expression.words)}"
    answer = outcome.value()
    if answer is True:
        return None
    if answer is False:
        return "is false"
    kind = str(outcome.type())
    if kind != "ERROR":
        return f"is neither true nor false, but {kind.partition('<')[0].lower()}"
    return f"cannot be evaluated: {_error(str(answer), expression.words)}"


_NO_KEY = re.compile(r'Key not found in map : "(.*)"', re.DOTALL)

ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "divide by zero": "division by zero",
        "modulus by zero": "division by zero",
        "overflow": "a number is out of range",
        "out of range": "a number is out of range",
        "out of uint": "a number is out of range",
        "Index error": "no such element",
        "No matching overload": "a value is of another type",
        "SELECT to non-message": "a value is of another type",
        "cannot convert": "a value is of another type",
        "budget exceeded": "it goes over too many elements",
    }
)
"""What stands in an error of the library -> what is said of it. Its own texts can repeat values, which may be secrets."""


def _error(text: str, words: frozenset[str]) -> str:
    if (missing := _NO_KEY.search(text)) is not None:
        # A key may come from the request, too.
        return f"no such key: {missing[1]}" if missing[1] in words else "no such key"
    return next((said for sign, said in ERRORS.items() if sign in text), "an error")
