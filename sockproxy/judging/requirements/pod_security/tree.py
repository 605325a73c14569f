"""Trees: the tables of fields and controls as one tree, which is laid over a body.

Owns how a body is walked, and that what the tree has not is denied. Must not know what any rule is about. Begin at `judge`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from sockproxy.judging.requirements.facts import Unmet
from sockproxy.judging.requirements.pod_security.controls import CONTROLS, Control, Level
from sockproxy.judging.requirements.pod_security.fields import EMBEDDED, HELD, UNRESTRICTED
from sockproxy.judging.requirements.pod_security.rules import ANYTHING, Rule, any_of
from sockproxy.judging.requirements.wording import bare

_ZEROS: tuple[object, ...] = (None, False, 0, "", [], {})


class Tree(NamedTuple):
    """What is required of a value, and of what is within it."""

    requires: str
    """How a denial goes on after what the value is."""
    rule: Rule
    kind: Literal["value", "struct", "list", "map"]
    fields: Mapping[str, "Tree | None"]
    """Of a struct: name -> its tree; None for a field that may have any value."""
    element: "Tree | None"
    """Of a list, and of the values of a map."""
    demanded: tuple[str, ...]
    """The fields that are looked at even when they are absent."""
    passes_empty: bool
    """Whether a value that is empty meets everything."""


def judge(tree: Tree, value: Any, path: str = "") -> Unmet | None:
    """The first thing in a value that fails, None if it meets all. None as a value is what is absent."""
    if tree.kind == "struct" and value is None:
        value = {}
    found = tree.rule.find(value)
    if found is not None:
        return Unmet(f"{path}{found.where}".lstrip("."), f"{found.says}; {tree.requires}")
    if tree.kind == "struct":
        return _judge_fields(tree, value, f"{path}." if path else "")
    if tree.element is None or not value:
        return None
    steps = ((bare(key), inner) for key, inner in value.items()) if tree.kind == "map" else enumerate(value)
    return _judge_elements(tree.element, steps, path)


def _judge_fields(tree: Tree, value: Mapping[str, Any], path: str) -> Unmet | None:
    for name, inner in value.items():
        if name not in tree.fields:
            return Unmet(f"{path}{bare(name)}", "is no field that pod_security knows")
        field = tree.fields[name]
        if field is None or (field.passes_empty and not inner):
            continue
        if (unmet := judge(field, inner, path + name)) is not None:
            return unmet
    for name in tree.demanded:
        field = tree.fields[name]
        if field is not None and name not in value and (unmet := judge(field, None, path + name)) is not None:
            return unmet
    return None


def _judge_elements(element: Tree, steps: Iterable[tuple[Any, Any]], path: str) -> Unmet | None:
    for step, value in steps:
        if (unmet := judge(element, value, f"{path}[{step}]")) is not None:
            return unmet
    return None


def grow(struct: str, level: Level, siblings: Collection[str]) -> Tree:
    """The tree of a struct, at a level, without what the siblings take over."""
    controls = {field: control for control in CONTROLS for field in control.fields}
    return _Growth(level, siblings, controls).struct(struct)


class _Growth(NamedTuple):
    """What all parts of a tree have in common."""

    level: Level
    siblings: Collection[str]
    controls: Mapping[str, Control]

    def struct(self, struct: str) -> Tree:
        fields: dict[str, Tree | None] = {}
        for part in (struct, *EMBEDDED.get(struct, ())):
            fields |= {name: self.field(part, name) for name in sorted(names_of(part))}
        demanded = tuple(name for name, tree in fields.items() if tree is not None and judge(tree, None) is not None)
        rule = self.rule(struct)
        passes = not demanded and rule.find({}) is None
        return Tree(self.requires(rule), rule, "struct", fields, None, demanded, passes)

    def field(self, struct: str, name: str) -> Tree | None:
        field = f"{struct}.{name}"
        held, rule = HELD.get(field, ""), self.rule(field)
        if held and held[:2] not in ("[]", "{}"):
            return self.struct(held)
        element = self.struct(held[2:]) if held else None
        if element is None and rule is ANYTHING:
            return None
        kind: Literal["value", "list", "map"] = "value" if element is None else "list" if held[0] == "[" else "map"
        passes = all(rule.find(zero) is None for zero in _ZEROS)
        return Tree(self.requires(rule), rule, kind, {}, element, (), passes)

    def rule(self, field: str) -> Rule:
        control = self.controls.get(field)
        if control is None:
            return ANYTHING
        own = control.restricted if self.level == "restricted" and control.restricted is not None else control.baseline
        rules = (own, *(rule for key, rule in control.relaxed.items() if key in self.siblings))
        return ANYTHING if ANYTHING in rules else any_of(rules)

    def requires(self, rule: Rule) -> str:
        return f"pod_security {self.level} requires {rule.text}"


def names_of(struct: str) -> frozenset[str]:
    """The names of a struct's own fields in all tables."""
    tables = (HELD, (field for control in CONTROLS for field in control.fields))
    named = {field.partition(".")[2] for table in tables for field in table if field.startswith(f"{struct}.")}
    return UNRESTRICTED.get(struct, frozenset()) | named
