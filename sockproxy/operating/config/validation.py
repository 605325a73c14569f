"""Source -> Document, with everything that is wrong with its shape.

Owns how pydantic's errors become findings, and that reading goes on with the rest: a misspelt key is read as the one that
was meant, and what is wrong is cut out of the tree, so that the checks that come after (addresses, selectors, extends)
see the rest, and all is told at once. Must not know what values mean. Begin at `validate`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sockproxy.errors import ConfigError, Finding
from sockproxy.operating.config.document import (
    FORMAT_VERSION,
    ApiVersionsDocument,
    AuditDocument,
    Document,
    LimitsDocument,
    ListenerDocument,
    PolicyDocument,
    RuleDocument,
)
from sockproxy.operating.config.source import Node, Source, from_plain, plain
from sockproxy.operating.config.wording import Path, did_you_mean, key_of, nearest, quoted

_MODELS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Document,
    ("limits",): LimitsDocument,
    ("listeners", "*"): ListenerDocument,
    ("audit", "*"): AuditDocument,
    ("policies", "*"): PolicyDocument,
    ("policies", "*", "api_versions"): ApiVersionsDocument,
    ("policies", "*", "allow", "*"): RuleDocument,
    ("policies", "*", "deny", "*"): RuleDocument,
}
"""Which keys are known where; `*` is a place in a list or a name that people choose."""

_FORMS: Mapping[str, str] = {
    "version": "expected 1",
    "min": 'expected an API version, as in "1.24"',
    "max": 'expected an API version, as in "1.24"',
    "mode": 'expected permissions, as in "0660"',
    "owner": "expected a name or a number",
    "group": "expected a name or a number",
}
"""What is expected under these keys; elsewhere what pydantic says is enough."""

_EXPECTED: Mapping[str, str] = {
    "string_type": "expected text",
    "string_too_long": "expected shorter text",
    "string_too_short": "expected text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a number",
    "list_type": "expected a list",
    "dict_type": "expected keys with values",
    "model_type": "expected keys with values",
    "literal_error": "expected {expected}",
    "greater_than_equal": "expected {ge:g} or more",
}
"""pydantic's type of an error -> what to say; a test makes each of them."""

_NUMBERS: Mapping[str, str] = {
    "min": "a number where an API version belongs (YAML turns 1.20 into 1.2)",
    "max": "a number where an API version belongs (YAML turns 1.20 into 1.2)",
    "mode": "a number where permissions belong (YAML turns 0660 into 432)",
}
"""What is said of a number under these keys."""

_QUOTE = '"'
_POLICY_NAME_FORM = "the name of a policy has up to 63 letters, digits, dots, dashes and underscores"


class Findings:
    """Collects what is wrong with one source. A place is given by its path; line and key follow from it."""

    def __init__(self, source: Source) -> None:
        self.file = source.file
        self.found: list[Finding] = list(source.findings)
        self.rebase(source.root)

    def rebase(self, root: Node) -> None:
        """From now on paths are those of this tree, from which something was cut out; keys stay those of the file."""
        self._places = _places(root)

    def add(self, path: Path, message: str) -> None:
        """Adds one finding; its line is that of the nearest thing above the path which is there."""
        here = path
        while here not in self._places:
            here = here[:-1]
        node = self._places[here]
        finding = Finding(self.file, node.line, key_of(node.path + path[len(here) :]), message)
        if finding not in self.found[-2:]:  # a union of types fails once for each of them
            self.found.append(finding)

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
    """The document of a source without all that is wrong with it; that is added to `findings`, which are rebased on
    what was left."""
    root = source.root
    if not isinstance(root.value, dict):
        findings.add((), "expected keys with values, as in `version: 1`")
        root = Node((), root.line, {})
    elif not any(nearest(key, Document.model_fields) == "version" for key in root.value):
        findings.add(("version",), "is missing; this is version 1 of the format")
    told: set[Path] = set()
    while True:
        root = _with_version(root)
        try:
            document = Document.model_validate(plain(root))
        except ValidationError as error:
            problems = _problems(root, error)
        else:
            findings.rebase(root)
            return document
        _tell(problems, told, findings)
        root = _mended({id(problem.node): problem.meant for problem in problems}, root)


class _Problem(NamedTuple):
    kind: str  # pydantic's type of error
    path: Path  # where it is: for a missing key, where that should be
    node: Node  # what is cut out
    known: tuple[str, ...]  # the keys there are, for an unknown one
    meant: str | None  # which of them was meant: the node is kept under it
    expected: str

    @property
    def meant_path(self) -> Path:
        return (*self.path[:-1], self.meant or "")


def _problems(root: Node, error: ValidationError) -> list[_Problem]:
    problems = [_problem(root, details) for details in error.errors(include_url=False)]
    misspelt = {problem.meant_path for problem in problems if problem.meant is not None}
    return [problem for problem in problems if problem.kind != "missing" or problem.path not in misspelt]


def _problem(root: Node, details: ErrorDetails) -> _Problem:
    # pydantic's place of an error may go on where the tree ends: a missing key, `[key]`, one type of a union.
    location = details["loc"]
    node = root
    for part in location:
        child = _child(node, part)
        if child is None:
            break
        node = child
    kind = "policy_name" if location[-1:] == ("[key]",) else details["type"]
    path = (*node.path, location[-1]) if kind == "missing" else node.path
    known = _known_keys(location) if kind == "extra_forbidden" else ()
    expected = _EXPECTED.get(kind, "").format(**details.get("ctx", {})).replace("'", '"')
    return _Problem(kind, path, node, known, nearest(str(location[-1]), known) if known else None, expected)


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(part))
    if isinstance(node.value, list) and isinstance(part, int):
        return node.value[part]
    return None


def _tell(problems: list[_Problem], told: set[Path], findings: Findings) -> None:
    """Adds what is wrong by itself, and not because something else was cut out or misspelt."""
    for problem in problems:
        if problem.path not in told:
            findings.add(problem.path, _message(problem))
    told.update(problem.meant_path for problem in problems if problem.meant is not None)
    told.update(problem.path[:length] for problem in problems for length in range(1, len(problem.path) + 1))


def _message(problem: _Problem) -> str:
    kind, path, node, known, meant, expected = problem
    if kind == "extra_forbidden":
        return "unknown key; " + (f'did you mean "{meant}"?' if meant else f"known here: {', '.join(known)}")
    if kind == "policy_name":
        return _POLICY_NAME_FORM
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "is empty: a rule without operations can never match"
    if kind == "literal_error":
        return f"{expected}, not {_shown(node)}{did_you_mean(node.text, expected.split(_QUOTE)[1::2])}"
    key = str(path[-1])
    if kind == "string_type" and type(node.value) in (int, float) and key not in ("owner", "group"):
        return f'{_NUMBERS.get(key, "a number where text belongs")}; write it in quotes: "{node.text}"'
    return f"{_FORMS.get(key, expected or kind)}, not {_shown(node)}"


def _known_keys(location: Path) -> tuple[str, ...]:
    shape = tuple("*" if isinstance(part, int) else part for part in location[:-1])
    if len(shape) > 1 and shape[0] == "policies":
        shape = ("policies", "*", *shape[2:])
    return tuple(_MODELS[shape].model_fields)


def _shown(node: Node) -> str:
    if isinstance(node.value, dict):
        return "keys with values"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "nothing"
    return quoted(node.text) if isinstance(node.value, str) else quoted(node.text)[1:-1]


def _with_version(root: Node) -> Node:
    entries = root.value if isinstance(root.value, dict) else {}
    version = from_plain(FORMAT_VERSION, ("version",))
    return Node(root.path, root.line, {"version": version, **entries})


def _mended(culprits: Mapping[int, str | None], node: Node) -> Node:
    """The tree without the nodes of these ids, or with them under the key that was meant."""
    if isinstance(node.value, dict):
        named = ((culprits.get(id(value), key), value) for key, value in node.value.items())
        kept: dict[str, Node] = {}
        for key, value in named:
            if key is not None and (key not in node.value or id(value) not in culprits):
                kept[key] = _mended(culprits, value)
        return Node(node.path, node.line, kept)
    if isinstance(node.value, list):
        return Node(node.path, node.line, [_mended(culprits, item) for item in node.value if id(item) not in culprits])
    return node


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
