"""Trees: the tables of fields and controls as one tree, which is laid over a body.

Owns how a body is walked, and that what the tree has not is denied. Must not know what any rule is about. Begin at `judge`;
what is there to be found `find` says, and `meets` whether there is anything.
"""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import compress
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
    demanded: frozenset[str]
    """The fields that are looked at even when they are absent: none of them may be."""
    passes_empty: bool
    """Whether a value that is empty meets everything."""
    asked: frozenset[str] = frozenset()
    """The fields that may not have any value."""
    asked_empty: frozenset[str] = frozenset()
    """Those of them that are looked at even when they are empty."""


def judge(tree: Tree, value: Any, path: str = "") -> Unmet | None:
    """The first thing in a value that fails, None if it meets all. None as a value is what is absent."""
    return None if meets(tree, value) else find(tree, value, path)


def meets(tree: Tree, value: Any) -> bool:
    """Whether there is nothing to be found in a value.

    hot: a HostConfig has 60 fields, nearly all of them empty: only of what is neither that nor free a function is asked. 6 us
    for docker's own create body in place of 22 by `find` (timeit).
    """
    if tree.kind == "struct":
        return _meets_in_fields(tree, {} if value is None else value)
    if tree.rule is not ANYTHING and tree.rule.find(value) is not None:
        return False
    element = tree.element
    for inner in () if element is None or not value else value.values() if tree.kind == "map" else value:
        if element is not None and not meets(element, inner):
            return False
    return True


def _meets_in_fields(tree: Tree, value: Mapping[str, Any]) -> bool:
    fields, given = tree.fields, value.keys()
    if not (given <= fields.keys() and tree.demanded <= given):
        return False
    if tree.rule is not ANYTHING and tree.rule.find(value) is not None:
        return False
    if not tree.asked:
        return True
    asked: AbstractSet[str] = tree.asked.intersection(compress(value, value.values()))
    if tree.asked_empty:
        asked |= given & tree.asked_empty
    for name in asked:
        field = fields[name]
        if field is not None and not meets(field, value[name]):
            return False
    return True


def find(tree: Tree, value: Any, path: str = "") -> Unmet | None:
    """The first thing in a value that fails; the plain form, which looks at everything in turn."""
    if tree.kind == "struct" and value is None:
        value = {}
    found = tree.rule.find(value)
    if found is not None:
        return Unmet(f"{path}{found.where}".lstrip("."), f"{found.says}; {tree.requires}")
    if tree.kind == "struct":
        return _find_in_fields(tree, value, f"{path}." if path else "")
    if tree.element is None or not value:
        return None
    steps = ((bare(key), inner) for key, inner in value.items()) if tree.kind == "map" else enumerate(value)
    return _find_in_elements(tree.element, steps, path)


def _find_in_fields(tree: Tree, value: Mapping[str, Any], path: str) -> Unmet | None:
    for name, inner in value.items():
        if name not in tree.fields:
            return Unmet(f"{path}{bare(name)}", "is no field that pod_security knows")
        field = tree.fields[name]
        if field is None or (field.passes_empty and not inner):
            continue
        if (unmet := find(field, inner, path + name)) is not None:
            return unmet
    for name, field in tree.fields.items() if not tree.demanded <= value.keys() else ():
        if field is not None and name in tree.demanded and name not in value:
            return find(field, None, path + name)
    return None


def _find_in_elements(element: Tree, steps: Iterable[tuple[Any, Any]], path: str) -> Unmet | None:
    for step, value in steps:
        if (unmet := find(element, value, f"{path}[{step}]")) is not None:
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
        trees = {name: tree for name, tree in fields.items() if tree is not None}
        demanded = frozenset(name for name, tree in trees.items() if find(tree, None) is not None)
        asked_empty = frozenset(name for name, tree in trees.items() if not tree.passes_empty)
        rule = self.rule(struct)
        passes = not demanded and rule.find({}) is None
        tree = Tree(self.requires(rule), rule, "struct", fields, None, demanded, passes)
        return tree._replace(asked=frozenset(trees), asked_empty=asked_empty)

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
        return Tree(self.requires(rule), rule, kind, {}, element, frozenset(), passes)

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
