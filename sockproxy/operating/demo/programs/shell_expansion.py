"""Expansions of the demo shell: the pieces of a word -> the text or the fields that a command gets.

POSIX's shell command language, 2.6: parameters with their defaults, arithmetic, field splitting, quote removal. No
patterns and no tilde. Command substitution is the caller's (`value`), who alone can run something. Pure otherwise.
"""

import ast
import operator
import re
from collections.abc import Awaitable, Callable, Mapping

from sockproxy.operating.demo.programs.shell_words import Part, ShellSyntaxError, Word

ARITHMETIC_CHARACTERS_MAX = 200
WORD_CHARACTERS_MAX = 128 << 10  # as Linux: execve(2), MAX_ARG_STRLEN

_PARAMETER = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|[0-9?#$@*!])(?:(:?)([-=+])(.*))?", re.ASCII | re.DOTALL)
_OPERATIONS: dict[type, Callable[[int, int], int | bool]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: int(left / right),
    ast.Mod: lambda left, right: left - right * int(left / right),
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


async def expand_text(word: Word, value: Callable[[Part], Awaitable[str]]) -> str:
    """A word as one text, as in assignments and redirections. Raises ShellSyntaxError where it is too long."""
    text = ""
    for part in word:
        text = _checked(text + (part.text if part.kind == "text" else await value(part)))
    return text


async def expand_fields(word: Word, value: Callable[[Part], Awaitable[str]], positional: tuple[str, ...]) -> list[str]:
    """A word as arguments: none, one, or as many as its unquoted expansions have."""
    if word == (Part("parameter", "@", True),) or word == (Part("text", "", True), Part("parameter", "@", True)):
        return list(positional)
    fields: list[str] = []
    current: str | None = None
    for part in word:
        text = part.text if part.kind == "text" else await value(part)
        if part.kind == "text" or part.is_quoted:
            current = _checked((current or "") + text)
            continue
        first, *others = ["", *text.split()] if text[:1].isspace() else text.split() or [""]
        current = current if not first else _checked((current or "") + first)
        for other in others:
            if current is not None:
                fields.append(current)
            current = other
        if text[-1:].isspace() and current is not None:
            fields.append(current)
            current = None
    return [*fields, current] if current is not None else fields


def _checked(text: str) -> str:
    if len(text) > WORD_CHARACTERS_MAX:
        raise ShellSyntaxError("word too long")
    return text


def expand_parameter(text: str, variables: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    """The value of what stands behind the dollar, and the assignment that `${name=word}` makes."""
    found = _PARAMETER.fullmatch(text)
    if not found:
        raise ShellSyntaxError("syntax error: bad substitution")
    name, colon, mark, word = found.groups()
    value = variables.get(name)
    has_value = bool(value) if colon else value is not None
    if mark == "+":
        return (word if has_value else ""), None
    if has_value or mark is None:
        return value or "", None
    return word, ((name, word) if mark == "=" else None)


def evaluate(text: str, variables: Mapping[str, str]) -> int:
    """The value of an expression of + - * / %, comparisons, parentheses and variables. Raises ShellSyntaxError."""
    plain = re.sub(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", r"\1", text).strip()
    if len(plain) > ARITHMETIC_CHARACTERS_MAX:
        raise ShellSyntaxError("arithmetic syntax error")
    try:
        return _value(ast.parse(plain or "0", mode="eval").body, variables)
    except (SyntaxError, ValueError, OverflowError):
        raise ShellSyntaxError("arithmetic syntax error") from None
    except ZeroDivisionError:
        raise ShellSyntaxError("divide by zero") from None


def _value(node: ast.expr, variables: Mapping[str, str]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            result = int(number)
        case ast.Name(id=name):
            found = variables.get(name, "")
            result = int(found) if re.fullmatch(r"-?[0-9]{1,18}", found, re.ASCII) else 0
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            result = -_value(operand, variables)
        case ast.BinOp(left=left, op=sign, right=right) | ast.Compare(left=left, ops=[sign], comparators=[right]):
            if type(sign) not in _OPERATIONS:
                raise ValueError("operator")
            result = int(_OPERATIONS[type(sign)](_value(left, variables), _value(right, variables)))
        case _:
            raise ValueError("expression")
    return (result + (1 << 63)) % (1 << 64) - (1 << 63)  # 64 bits with sign, as shells calculate
