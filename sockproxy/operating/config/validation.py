"""Source -> Document, with everything that is wrong with its shape.

Owns that reading goes on with the rest: a misspelt key is read as the one that was meant, and what is wrong is cut out of
the tree, so that the checks that come after (addresses, selectors, extends) see the rest, and all is told at once. Must
not know what values mean. Begin at `validate`.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, assert_never

from sockproxy.errors import ConfigError, Finding
from sockproxy.operating.config.document import DOCUMENT, FORMAT_VERSION, Document
from sockproxy.operating.config.familiar import Familiar
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
    Single,
    Text,
    keys_of,
)
from sockproxy.operating.config.source import Node, Source, plain
from sockproxy.operating.config.wording import Path, did_you_mean, key_of, nearest, quoted

_QUOTED_NUMBERS = (r"[0-9]{1,15}(?:\.[0-9]{1,15})?", r"[0-9]{1,15}")
"""Of any number, and of a whole one."""
_WITH_UNIT = re.compile(r"([0-9]{1,9}) ?([A-Za-z]{1,3})")
_BINARY = {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
_DECIMAL = {f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)}
_UNITS = {**_BINARY, **_DECIMAL, "s": 1, "min": 60, "h": 3600, "d": 86400}
"""What is one thing only: "m" is a minute to one and a mebibyte to another."""


class Advice(NamedTuple):
    """What is right, and may still not be what was meant."""

    kind: Literal["note", "warning"]
    finding: Finding

    def __str__(self) -> str:
        return f"{self.kind}: {self.finding}"


class Findings:
    """Collects what is wrong with one source. A place is given by its path; line and key follow from it."""

    def __init__(self, source: Source) -> None:
        self.file = source.file
        self.found: list[Finding] = list(source.findings)
        self.advice: list[Advice] = []
        self.rebase(source.root)

    def rebase(self, root: Node) -> None:
        """From now on paths are those of this tree, from which something was cut out; keys stay those of the file."""
        self._places = _places(root)

    def place_of(self, path: Path) -> Path:
        """Where in the file something stands that is in the tree."""
        return self._places[path].path

    def add(self, path: Path, message: str) -> None:
        """Adds one finding; its line is that of the nearest thing above the path which is there."""
        finding = self._finding(path, message)
        if finding not in self.found[-2:]:  # a union of types fails once for each of them
            self.found.append(finding)

    def is_told_below(self, path: Path) -> bool:
        """Whether something in there is wrong: what is empty now may be so because that was cut out."""
        place = f"{key_of(self.place_of(path))}."
        return any(one.file == self.file and one.key.startswith(place) for one in self.found)

    def advise(self, kind: Literal["note", "warning"], path: Path, message: str) -> None:
        """Adds what makes nothing wrong."""
        self.advice.append(Advice(kind, self._finding(path, message)))

    def _finding(self, path: Path, message: str) -> Finding:
        here = path
        while here not in self._places:
            here = here[:-1]
        node = self._places[here]
        return Finding(self.file, node.line, key_of(node.path + path[len(here) :]), message)

    def line_of(self, path: Path) -> int:
        """The line of something that is there."""
        return self._places[path].line

    def add_of_other_file(self, path: Path, error: ConfigError) -> None:
        """Adds what is wrong in a file that is referred to; what names no file is wrong in this one, at `path`."""
        for finding in error.findings:
            if not finding.file:
                self.add(path, finding.message)
            elif finding not in self.found:
                self.found.append(finding)

    def add_unless_printable(self, path: Path, text: str) -> bool:
        """Adds a finding for text that would not stay in its line of a log or a terminal; says whether it would."""
        if not text.isprintable():
            self.add(path, "has characters that cannot be shown")
        return text.isprintable()

    def check(self) -> None:
        """Raises ConfigError if there is anything, in the order of the file."""
        if self.found:
            raise ConfigError(tuple(sorted(self.found, key=lambda one: (one.file != self.file, one.file, one.line))))


def validate(source: Source, findings: Findings) -> Document:
    """The configuration of a source without all that is wrong with it; that is added to `findings`, which are rebased on
    what was left."""
    read = validate_as(DOCUMENT, source, findings)
    if not isinstance(read, Document):
        raise TypeError("a document has no key that has to be there, and is one whatever is cut out of it")
    return read


def validate_as(shape: Keys, source: Source, findings: Findings) -> object | None:
    """The same of any kind of file; None where a key is missing without which there is no going on."""
    root = source.root
    if not isinstance(root.value, dict):
        findings.add((), "expected keys with values, as in `version: 1`")
        root = Node((), root.line, {})
    elif not any(nearest(key, keys_of(shape.model)) == "version" for key in root.value):
        findings.add(("version",), f"is missing; this is version {FORMAT_VERSION} of the format")
    read = _Reader(findings).read_keys(shape, root)
    if read is None:
        return None
    findings.rebase(read.node)
    return read.value


class _Read(NamedTuple):
    """What a node comes to, and the node without what was wrong in it."""

    value: object
    node: Node


class _Reader:
    """Reads a tree by its shapes, downwards. What cannot be used is told and read as None: it is cut out."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def read(self, shape: Shape, node: Node) -> _Read | None:
        match shape:
            case Keys():
                return self.read_keys(shape, node)
            case Named():
                return self.read_named(shape, node)
            case ListOf():
                return self.read_items(shape, node)
            case Text(is_json=True) if isinstance(node.value, dict):
                return _Read(json.dumps(plain(node), ensure_ascii=False), node)
            case Either():
                return self.read(shape.keys if isinstance(node.value, dict) else shape.single, node)
            case _:
                message = _what_is_wrong(shape, node)
                return self.cut(node, message) if message else _Read(_value(shape, node), node)

    def cut(self, node: Node, message: str) -> _Read | None:
        self.findings.add(node.path, message)
        return None

    def read_items(self, shape: ListOf, node: Node) -> _Read | None:
        if not isinstance(node.value, list):
            is_one = isinstance(shape.item, Text) and isinstance(node.value, str | int | float)
            hint = f"; write [{_shown(node)}]" if is_one else ""
            return self.cut(node, f"{shape.form}, not {_shown(node)}{hint}")
        if not node.value and shape.when_empty:
            return self.cut(node, shape.when_empty)
        read = [one for one in (self.read(shape.item, item) for item in node.value) if one is not None]
        if not read and shape.when_empty:
            return None
        return _Read(tuple(one.value for one in read), Node(node.path, node.line, [one.node for one in read]))

    def read_named(self, shape: Named, node: Node) -> _Read | None:
        if not isinstance(node.value, dict):
            example = f", as in {shape.example}" if shape.example else ""
            return self.cut(node, f"expected keys with values{example}, not {_shown(node)}")
        values: dict[str, object] = {}
        kept: dict[str, Node] = {}
        for name, child in node.value.items():
            is_name = re.fullmatch(shape.pattern, name) is not None
            if not is_name:
                self.findings.add(child.path, shape.form)
            read = self.read(shape.item, child)
            if is_name and read is not None:
                values[name], kept[name] = read
        return _Read(values, Node(node.path, node.line, kept))

    def read_keys(self, shape: Keys, node: Node) -> _Read | None:
        if not isinstance(node.value, dict):
            return self.cut(node, f"expected keys with values, not {_shown(node)}")
        known = keys_of(shape.model)
        entries = dict(self.known_entries(tuple(known), shape.familiar, node.value))
        values: dict[str, object] = {}
        kept: dict[str, Node] = {}
        is_whole = True
        for name, key in known.items():
            if name in entries:
                entry = entries[name]
                read = self.read_entry(key, entry)
                if read is not None:
                    values[key.attribute], kept[name] = read
            elif key.is_required:
                self.findings.add((*node.path, name), "is missing")
            is_whole = is_whole and (key.attribute in values or not key.is_required)
        return _Read(shape.model(**values), Node(node.path, node.line, kept)) if is_whole else None

    def read_entry(self, key: Key, entry: Node) -> _Read | None:
        if entry.value is not None or key.default is not None:
            return self.read(key.shape, entry)
        return self.cut(entry, key.when_null) if key.when_null else _Read(None, entry)

    def known_entries(
        self, known: tuple[str, ...], familiar: Familiar, entries: Mapping[str, Node]
    ) -> Iterator[tuple[str, Node]]:
        """The entries under the keys that are meant; what is unknown is told."""
        for name, entry in entries.items():
            if name in known:
                yield name, entry
                continue
            if here := familiar.get(_plain_word(name)):
                self.findings.add(entry.path, f"unknown key; here: {here}")
                continue
            meant = nearest(name, known)
            hint = f'did you mean "{meant}"?' if meant else f"known here: {', '.join(known)}"
            self.findings.add(entry.path, f"unknown key; {hint}")
            if meant is not None and meant not in entries:
                yield meant, entry


def _what_is_wrong(shape: Single, node: Node) -> str:
    """What is wrong with a single value, in the words of a finding; "" if nothing is."""
    value = node.value
    match shape:
        case Text():
            return _what_is_wrong_with_text(shape, node)
        case NameOrNumber():
            return "" if type(value) in (str, int) else f"{shape.form}, not {_shown(node)}"
        case Choice():
            if value in shape.words:
                return ""
            *others, last = map(quoted, shape.words)
            words = f"{', '.join(others)} or {last}" if others else last
            meant = shape.familiar.get(_plain_word(node.text))
            hint = f"; did you mean {quoted(meant)}?" if meant else did_you_mean(node.text, shape.words)
            return f"expected {words}, not {_shown(node)}{hint}"
        case Flag():
            return "" if isinstance(value, bool) else f"expected true or false, not {_shown(node)}"
        case Number():
            kind = "a whole number" if shape.is_whole else "a number"
            if type(value) is not int and (shape.is_whole or type(value) is not float or not math.isfinite(value)):
                is_quoted = isinstance(value, str) and re.fullmatch(_QUOTED_NUMBERS[shape.is_whole], value)
                hint = f"; write it without quotes: {value}" if is_quoted else ""
                return f"expected {kind}, not {_shown(node)}{hint or _in_units(node.text)}"
            return f"expected 0 or more, not {_shown(node)}" if value < 0 else ""
        case Constant():
            # Neither true nor 1.0, which are equal to 1.
            is_it = type(value) is int and value == shape.value
            return "" if is_it else f"expected {shape.value}, not {_shown(node)}"
        case _:
            assert_never(shape)


def _plain_word(word: str) -> str:
    return word.lower().replace("-", "_")


def _in_units(text: str) -> str:
    """What a number with a unit is in bytes or seconds; "" for what is none."""
    found = _WITH_UNIT.fullmatch(text)
    return f"; that is {int(found[1]) * _UNITS[found[2]]}" if found and found[2] in _UNITS else ""


def _what_is_wrong_with_text(shape: Text, node: Node) -> str:
    value = node.value
    if type(value) in (int, float):
        if shape.number:
            return f'{shape.number}; write it in quotes: "{node.text}"'
        value = node.text
    if value == "" and shape.is_empty_right:
        return ""
    if isinstance(value, bool) and not shape.number:
        return f'{shape.form}, not {_shown(node)}; write it in quotes: "{node.text}"'
    if not isinstance(value, str) or not value or not re.fullmatch(shape.pattern or ".*", value, re.DOTALL):
        return f"{shape.form}, not {_shown(node)}"
    if shape.length_max is not None and len(value) > shape.length_max:
        return f"expected shorter text, not {_shown(node)}"
    return ""


def _value(shape: Single, node: Node) -> object:
    if isinstance(shape, Text):
        return node.text
    is_time = isinstance(shape, Number) and not shape.is_whole
    return float(node.value) if is_time and isinstance(node.value, int) else node.value


def _shown(node: Node) -> str:
    if isinstance(node.value, dict):
        return "keys with values"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "nothing"
    return quoted(node.text) if isinstance(node.value, str) else quoted(node.text)[1:-1]


def _places(root: Node) -> dict[Path, Node]:
    places: dict[Path, Node] = {(): root}
    waiting: list[tuple[Path, Node]] = [((), root)]
    for path, node in waiting:  # grows while it is read
        if isinstance(node.value, dict):
            waiting.extend(((*path, key), child) for key, child in node.value.items())
        elif isinstance(node.value, list):
            waiting.extend(((*path, index), child) for index, child in enumerate(node.value))
        places[path] = node
    return places
