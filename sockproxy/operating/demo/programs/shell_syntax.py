"""The language of the demo shell: text -> a tree of what to run.

A part of POSIX's shell command language (section 2.9): simple commands with redirections to files and streams,
pipelines, lists, `if`, `while`, `until`, `for`, groups and subshells. No functions, `case`, patterns, here-documents or
background jobs: those are a ShellSyntaxError. Pure; begin at `parse`. Must not know how anything is run (`shell`).
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sockproxy.operating.demo.programs.shell_words import Part, ShellSyntaxError, Token, Word, tokens

SCRIPT_CHARACTERS_MAX = 64 << 10
DEPTH_MAX = 40

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RESERVED = frozenset({"then", "elif", "else", "fi", "do", "done", "}", "case", "function"})


class Redirection(NamedTuple):
    """`stream` 0 reads from the file, 1 and 2 write to it; `mode` "&" means a copy of the other stream."""

    stream: int
    mode: Literal["<", ">", ">>", "&"]
    target: Word


@dataclass(frozen=True, slots=True)
class Simple:
    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirections: tuple[Redirection, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    commands: tuple["Node", ...]
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """Commands joined by && and ||: `links` are pairs of the operator and what stands behind it."""

    first: "Node"
    links: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    commands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Condition:
    branches: tuple[tuple["Node", "Node"], ...]
    otherwise: "Node | None"


@dataclass(frozen=True, slots=True)
class Loop:
    condition: "Node"
    body: "Node"
    goes_on_while: bool


@dataclass(frozen=True, slots=True)
class ForEach:
    name: str
    words: tuple[Word, ...]
    body: "Node"


@dataclass(frozen=True, slots=True)
class Group:
    body: "Node"
    redirections: tuple[Redirection, ...]
    is_subshell: bool


Node = Simple | Pipeline | Chain | Sequence | Condition | Loop | ForEach | Group


def parse(text: str, depth: int = 0) -> Node:
    """The tree of a script. Raises ShellSyntaxError."""
    if len(text) > SCRIPT_CHARACTERS_MAX or depth > DEPTH_MAX:
        raise ShellSyntaxError("syntax error: the demo shell takes no script as large as this")
    parser = _Parser(tokens(text))
    tree = parser.sequence(frozenset())
    parser.expect_end()
    return tree


class _Parser:
    """Recursive descent; each method reads one rule of the grammar (POSIX, 2.10.2)."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def expect_end(self) -> None:
        if self._at < len(self._tokens):
            raise self._unexpected()

    def sequence(self, ends: frozenset[str]) -> Node:
        """list: and_or { (";" | newline) and_or }, up to one of the words that end it."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ShellSyntaxError("syntax error: nested too deeply for the demo shell")
        commands: list[Node] = []
        self._skip_newlines()
        while self._at < len(self._tokens) and self._peek().text not in ends:
            commands.append(self._chain())
            if not (self._take(";") or self._peek().operator == "\n"):
                break
            self._skip_newlines()
        self._depth -= 1
        if ends and not commands:
            raise self._unexpected()
        return Sequence(tuple(commands))

    def _chain(self) -> Node:
        first = self._pipeline()
        links: list[tuple[str, Node]] = []
        while (operator := self._peek().operator) in ("&&", "||"):
            self._at += 1
            self._skip_newlines()
            links.append((operator, self._pipeline()))
        return Chain(first, tuple(links)) if links else first

    def _pipeline(self) -> Node:
        is_negated = self._take("!")
        commands = [self._command()]
        while self._peek().operator == "|":
            self._at += 1
            self._skip_newlines()
            commands.append(self._command())
        return Pipeline(tuple(commands), is_negated) if is_negated or len(commands) > 1 else commands[0]

    def _command(self) -> Node:
        token = self._peek()
        if compound := _COMPOUND.get(token.operator or token.text):
            self._at += 1
            return self._redirected(compound(self))
        if token.text in _RESERVED:
            raise self._unexpected()
        return self._simple()

    def _simple(self) -> Node:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirections: list[Redirection] = []
        while self._at < len(self._tokens):
            token = self._peek()
            if redirection := self._redirection():
                redirections.append(redirection)
                continue
            if token.operator:
                break
            self._at += 1
            assignment = None if words else _assignment(token.word)
            if assignment:
                assignments.append(assignment)
            else:
                words.append(token.word)
        if not (assignments or words or redirections):
            raise self._unexpected()
        return Simple(tuple(assignments), tuple(words), tuple(redirections))

    def _redirected(self, body: Node) -> Node:
        redirections: list[Redirection] = []
        while redirection := self._redirection():
            redirections.append(redirection)
        return Group(body, tuple(redirections), False) if redirections else body

    def _redirection(self) -> Redirection | None:
        operator = self._peek().operator
        if not operator or operator.lstrip("012") not in (">", ">>", "<", ">&", "<&"):
            return None
        self._at += 1
        target = self._peek()
        if target.operator or self._at >= len(self._tokens):
            raise self._unexpected()
        self._at += 1
        sign = operator.lstrip("012")
        stream = int(operator[0]) if operator[0] in "012" else int(">" in sign)
        modes: dict[str, Literal["<", ">", ">>", "&"]] = {">": ">", ">>": ">>", "<": "<", ">&": "&", "<&": "&"}
        return Redirection(stream, modes[sign], target.word)

    def condition(self) -> Node:
        branches: list[tuple[Node, Node]] = []
        otherwise: Node | None = None
        while True:
            test = self.sequence(frozenset({"then"}))
            self._expect("then")
            branches.append((test, self.sequence(frozenset({"elif", "else", "fi"}))))
            if not self._take("elif"):
                break
        if self._take("else"):
            otherwise = self.sequence(frozenset({"fi"}))
        self._expect("fi")
        return Condition(tuple(branches), otherwise)

    def loop_while(self) -> Node:
        test = self.sequence(frozenset({"do"}))
        return Loop(test, self._body(), True)

    def loop_until(self) -> Node:
        test = self.sequence(frozenset({"do"}))
        return Loop(test, self._body(), False)

    def for_each(self) -> Node:
        name = self._peek().text
        if not _NAME.fullmatch(name):
            raise self._unexpected()
        self._at += 1
        words: list[Word] = [(Part("parameter", "@", True),)]
        if self._take("in"):
            words.clear()
            while self._at < len(self._tokens) and not self._peek().operator:
                words.append(self._peek().word)
                self._at += 1
        while self._peek().operator in (";", "\n"):
            self._at += 1
        return ForEach(name, tuple(words), self._body())

    def group(self) -> Node:
        body = self.sequence(frozenset({"}"}))
        self._expect("}")
        return Group(body, (), False)

    def subshell(self) -> Node:
        body = self.sequence(frozenset({")"}))
        self._expect(")")
        return Group(body, (), True)

    def _body(self) -> Node:
        self._expect("do")
        body = self.sequence(frozenset({"done"}))
        self._expect("done")
        return body

    def _peek(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("", "", ())

    def _take(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._peek().text == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._unexpected()

    def _skip_newlines(self) -> None:
        while self._peek().operator == "\n":
            self._at += 1

    def _unexpected(self) -> ShellSyntaxError:
        if self._at >= len(self._tokens):
            return ShellSyntaxError("syntax error: unexpected end of file", is_unfinished=True)
        token = self._peek()
        shown = {"\n": "newline", "": "word"}.get(token.text, token.text)
        return ShellSyntaxError(f'syntax error: unexpected "{shown}"')


_COMPOUND = {
    "if": _Parser.condition,
    "while": _Parser.loop_while,
    "until": _Parser.loop_until,
    "for": _Parser.for_each,
    "{": _Parser.group,
    "(": _Parser.subshell,
}


def _assignment(word: Word) -> tuple[str, Word] | None:
    """A word of the form name=value, split; only an unquoted beginning counts."""
    if not word or word[0].kind != "text" or word[0].is_quoted:
        return None
    found = _ASSIGNMENT.fullmatch(word[0].text)
    if not found:
        return None
    return found[1], (Part("text", found[2], True), *word[1:])
