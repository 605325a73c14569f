"""Words of the demo shell: text -> operators and words, each word in pieces that are still to be expanded.

POSIX's shell command language, 2.2 (quoting), 2.3 (token recognition) and the forms of 2.6 (expansions) that the demo
knows. Pure; begin at `tokens`. Must not know the grammar (`shell_syntax`) nor how a piece is expanded (`shell`).
"""

import re
from typing import Literal, NamedTuple

_OPERATOR = re.compile(r"[0-2]?(?:>>|>&|>|<&|<)|&&|\|\||;;|[;&|()\n]", re.ASCII)
_BLANK = re.compile(r"(?:[ \t\r]|\\\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_PLAIN = re.compile(r"""[^\s;&|()<>"'$`\\]+""")
_IN_QUOTES = re.compile(r"""[^"$`\\]+""")
_PARAMETER = re.compile(
    r"\$(?:([A-Za-z_][A-Za-z0-9_]*|[0-9?#$@*!])|\{([A-Za-z_][A-Za-z0-9_]*(?::?[-=+][^{}]*)?|[0-9?#$@*!])\})", re.ASCII
)


class ShellSyntaxError(Exception):
    """The text is no script. `is_unfinished`: more lines could make it one."""

    def __init__(self, message: str, *, is_unfinished: bool = False) -> None:
        super().__init__(message)
        self.is_unfinished = is_unfinished


class Part(NamedTuple):
    """A piece of a word. A quoted one is not split at blanks."""

    kind: Literal["text", "parameter", "command", "arithmetic"]
    text: str
    is_quoted: bool


Word = tuple[Part, ...]


class Token(NamedTuple):
    """An operator (then `word` is empty), or a word, whose `text` is its source if nothing in it is quoted."""

    operator: str
    text: str
    word: Word


def tokens(text: str) -> list[Token]:
    """All tokens of a script. Raises ShellSyntaxError."""
    found_tokens: list[Token] = []
    at = 0
    while at < len(text):
        if found := _BLANK.match(text, at) or _COMMENT.match(text, at):
            at = found.end()
        elif found := _OPERATOR.match(text, at):
            found_tokens.append(Token(found[0], found[0], ()))
            at = found.end()
        else:
            token, at = _word(text, at)
            found_tokens.append(token)
    return found_tokens


def _word(text: str, start: int) -> tuple[Token, int]:
    parts: list[Part] = []
    at = start
    while at < len(text) and not _BLANK.match(text, at) and text[at] not in ";&|()<>\n":
        part, at = _piece(text, at)
        parts.extend(part)
    is_plain = all(part.kind == "text" and not part.is_quoted for part in parts)
    return Token("", text[start:at] if is_plain else "", tuple(parts)), at


def _piece(text: str, at: int) -> tuple[list[Part], int]:
    """One quoted or plain piece of a word, and where it ends."""
    if found := _PLAIN.match(text, at):
        return [Part("text", found[0], False)], found.end()
    if text[at] == "'":
        end = _find(text, "'", at + 1)
        return [Part("text", text[at + 1 : end], True)], end + 1
    if text[at] == '"':
        return _double_quoted(text, at + 1)
    if text[at] == "\\":
        return [Part("text", text[at + 1 : at + 2], True)], at + 2
    part, at = _expansion(text, at, is_quoted=False)
    return [part], at


def _double_quoted(text: str, at: int) -> tuple[list[Part], int]:
    parts = [Part("text", "", True)]
    while at < len(text) and text[at] != '"':
        if found := _IN_QUOTES.match(text, at):
            parts.append(Part("text", found[0], True))
            at = found.end()
        elif text[at] == "\\":
            escaped = text[at + 1 : at + 2]
            parts.append(Part("text", escaped if escaped in '"$`\\' else f"\\{escaped}".replace("\\\n", ""), True))
            at += 2
        else:
            part, at = _expansion(text, at, is_quoted=True)
            parts.append(part)
    if at >= len(text):
        raise ShellSyntaxError("syntax error: unterminated quoted string", is_unfinished=True)
    return parts, at + 1


def _expansion(text: str, at: int, *, is_quoted: bool) -> tuple[Part, int]:
    """What begins with a dollar or a backquote; a lone character is itself."""
    if text.startswith("$((", at):
        end = _find(text, "))", at + 3)
        return Part("arithmetic", text[at + 3 : end], is_quoted), end + 2
    if text.startswith("$(", at):
        end = _closing(text, at + 2)
        return Part("command", text[at + 2 : end], is_quoted), end + 1
    if text[at] == "`":
        end = _find(text, "`", at + 1)
        return Part("command", text[at + 1 : end], is_quoted), end + 1
    if found := _PARAMETER.match(text, at):
        return Part("parameter", found[1] or found[2], is_quoted), found.end()
    if text.startswith("${", at):
        raise ShellSyntaxError("syntax error: bad substitution")
    return Part("text", text[at], is_quoted), at + 1


def _find(text: str, end: str, start: int) -> int:
    found = text.find(end, start)
    if found < 0:
        raise ShellSyntaxError("syntax error: unterminated quoted string", is_unfinished=True)
    return found


def _closing(text: str, at: int) -> int:
    """Where the parenthesis closes that opened before `at`; quotes inside are skipped."""
    depth = 1
    while at < len(text):
        if text[at] in "'\"":
            at = _find(text, text[at], at + 1)
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if not depth:
            return at
        at += 1
    raise ShellSyntaxError('syntax error: unexpected end of file (expecting ")")', is_unfinished=True)
