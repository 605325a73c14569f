"""YAML text -> a tree that knows the line of everything in it.

Owns what YAML may be in a configuration: one document of mappings, lists, text, numbers, true, false and null, within
bounds. No tags, no aliases, no key twice. Must not know which keys there are (`document`).
Begin at `parse_source`. Source: YAML 1.2.2, 10.3.2 (the core schema, without its octal and hexadecimal numbers).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import yaml

from sockproxy.errors import ConfigError, Finding
from sockproxy.operating.config.files import FILE_BYTES_MAX, Files, read_file
from sockproxy.operating.config.wording import Path, key_of, quoted

DEPTH_MAX = 16
"""The deepest place in a configuration is the sixth level."""

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = "Scalar | Mapping[str, Plain] | Sequence[Plain]"

_INTEGER = re.compile(r"[-+]?[0-9]{1,15}", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,15}\.[0-9]{0,15}|\.[0-9]{1,15})(?:[eE][-+]?[0-9]{1,2})?", re.ASCII)
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass(slots=True)
class Node:
    """One value with its place. `text` is a scalar as it was written; entries can be taken out, `path` stays."""

    path: Path
    line: int
    value: "Scalar | dict[str, Node] | list[Node]"
    text: str = ""


class Source(NamedTuple):
    """A configuration that was read. `findings` is what was wrong with the YAML itself, where reading could go on."""

    file: str
    root: Node
    findings: tuple[Finding, ...]


class UnreadableFile(ConfigError):
    """The file could not be read at all; nothing is known of what is in it."""


def read_text(file: str, files: Files | None = None) -> str:
    """The text of a configuration file; raises UnreadableFile, or ConfigError for what is no text or too much of it. `files`
    is told what it was like."""
    try:
        raw = read_file(file, files)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableFile((Finding(file, 0, "", f"cannot be read: {reason}"),)) from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError((Finding(file, 0, "", f"larger than {FILE_BYTES_MAX >> 20} MiB"),))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError((Finding(file, line, "", "not UTF-8 text"),)) from error


def parse_source(file: str, text: str) -> Source:
    """The tree of a YAML text; raises ConfigError for what is no YAML or too much of it."""
    reader = _Reader(file, yaml.parse(text, Loader=yaml.CSafeLoader))
    try:
        root = reader.read_document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise reader.stop(mark.line + 1 if mark else 0, (), f"no YAML: {error.problem or error}") from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise reader.stop(0, (), f"no YAML: {getattr(error, 'reason', error)}") from error
    return Source(file, root, tuple(reader.findings))


def from_plain(content: Plain, path: Path = ()) -> Node:
    """A tree of values that never were text and have no lines."""
    if isinstance(content, Mapping):
        return Node(path, 0, {key: from_plain(value, (*path, key)) for key, value in content.items()})
    if isinstance(content, Sequence) and not isinstance(content, str):
        return Node(path, 0, [from_plain(value, (*path, index)) for index, value in enumerate(content)])
    return Node(path, 0, content, str(content))


def plain(node: Node) -> object:
    """The values of a tree without their places."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(value) for value in node.value]
    return node.value


class _Reader:
    """Follows the parser's events downwards. Events, and not PyYAML's nodes: in these an alias cannot be seen any more,
    and making them recurses in C."""

    def __init__(self, file: str, events: Iterator[yaml.Event]) -> None:
        self.file = file
        self.events = events
        self.findings: list[Finding] = []

    def stop(self, line: int, path: Path, message: str) -> ConfigError:
        """The error after which nothing more can be read, with all that was found before."""
        return ConfigError((*self.findings, Finding(self.file, line, key_of(path), message)))

    def read_document(self) -> Node:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self.stop(_line(event), (), "a second document (---); there is one in a file")
                root = self.read_node(next(self.events), ())
        if root is None:
            raise self.stop(0, (), "the file is empty")
        return root

    def read_node(self, event: yaml.Event, path: Path) -> Node:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            raise self.stop(line, path, "an alias (*name); say it again, or share rules by `extends`")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self.stop(line, path, f"a tag, {quoted(str(tag))}; values are plain")
        if len(path) > DEPTH_MAX:
            raise self.stop(line, (), f"nested more than {DEPTH_MAX} deep")
        if isinstance(event, yaml.ScalarEvent):
            return Node(path, line, _scalar(event), event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(path, line, self.read_items(path))
        return Node(path, line, self.read_entries(path))

    def read_items(self, path: Path) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.read_node(event, (*path, len(items))))
        return items

    def read_entries(self, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise self.stop(line, path, "a key that is no plain text")
            here = (*path, event.value)
            value = self.read_node(next(self.events), here)
            value.line = line  # of the key, where people look for it
            if event.value in entries:
                first = entries[event.value].line
                self.findings.append(
                    Finding(self.file, line, key_of(here), f"a second time; the first is in line {first}")
                )
            else:
                entries[event.value] = value
        return entries


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    text: str = event.value
    if event.style:  # quoted, or a block; a plain one has none
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
