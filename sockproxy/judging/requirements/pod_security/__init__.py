"""Pod security: the Kubernetes Pod Security Standards, carried over to what the Engine API lets a client ask for.

Owns the requirement `pod_security: baseline | restricted`. Must not know policies, bytes or sockets, nor look at the engine:
what a container joins, or what an existing volume is, cannot be seen from a request. Begin at `make`; then `controls` (the
table: control -> fields -> what is allowed), `fields` (which fields there are; what is none of them is denied), `rules` (what
can be required of a value), `tree` (both tables as one tree that is laid over a body). docs/pod-security.md is the table for
people. Sources: kubernetes.io, Pod Security Standards, and k8s.io/pod-security-admission/policy as of Kubernetes 1.37.
"""

from collections.abc import Collection
from typing import Any

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.pod_security.controls import LEVELS, Level
from sockproxy.judging.requirements.pod_security.fields import OPERATIONS
from sockproxy.judging.requirements.pod_security.tree import Tree, grow, judge

__all__ = ["KIND", "make"]

# A start without a body changes nothing about the container; a HostConfig in one replaces the container's.
_EMPTY_IS_NOTHING = frozenset({"ContainerStart"})


def make(value: Any, siblings: Collection[str]) -> Check:
    """The check of a level; `siblings` take over the fields that the table leaves to them. Raises ValueError for no level."""
    level = _level(value)
    trees = {operation: grow(type_, level, frozenset(siblings)) for operation, type_ in OPERATIONS.items()}

    def check(facts: Facts) -> Unmet | None:
        tree: Tree = trees[facts.operation_id]
        if not facts.body and facts.operation_id in _EMPTY_IS_NOTHING:
            return None
        return judge(tree, facts.body)

    return check


def _level(value: Any) -> Level:
    if value not in LEVELS:
        raise ValueError(f"is {value!r}, not one of {', '.join(LEVELS)}")
    level: Level = value
    return level


KIND = Kind(operations=frozenset(OPERATIONS), make=make)
