"""Pod security: the Kubernetes Pod Security Standards, carried over to what the Engine API lets a client ask for.

Owns the requirement `pod_security: baseline | restricted`. Must not know policies, bytes or sockets, nor what is there on the
engine: `joins` completes a request by that. Begin at `make`; then `controls` (the
table: control -> fields -> what is allowed), `fields` (which fields there are; what is none of them is denied), `rules` (what
can be required of a value), `tree` (both tables as one tree that is laid over a body). docs/pod-security.md is the table for
people. Sources: kubernetes.io, Pod Security Standards, and k8s.io/pod-security-admission/policy as of Kubernetes 1.37.
"""

from collections.abc import Collection
from typing import Any

from sockproxy.errors import BadRequest
from sockproxy.judging.payload import Query
from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.joins import completing
from sockproxy.judging.requirements.pod_security.controls import LEVELS, Level
from sockproxy.judging.requirements.pod_security.fields import HELD, OPERATIONS, QUERIES, REPEATED
from sockproxy.judging.requirements.pod_security.tree import Tree, grow, judge
from sockproxy.judging.requirements.wording import bare

__all__ = ["KIND", "make"]

# A start without a body changes nothing about the container; a HostConfig in one replaces the container's.
_EMPTY_IS_NOTHING = frozenset({"ContainerStart"})
_HAS_NO_JSON = QUERIES.keys() - OPERATIONS.keys()


def make(value: Any, siblings: Collection[str]) -> Check:
    """The check of a level; `siblings` take over the fields that the table leaves to them. Raises ValueError for no level."""
    level = _level(value)
    trees = {operation: grow(type_, level, frozenset(siblings)) for operation, type_ in OPERATIONS.items()}
    queries = {operation: grow(type_, level, frozenset(siblings)) for operation, type_ in QUERIES.items()}

    def check(facts: Facts) -> Unmet | None:
        query = queries.get(facts.operation_id)
        unmet = None if query is None else _judge_query(query, facts)
        if unmet is not None or facts.operation_id in _HAS_NO_JSON:
            return unmet
        tree: Tree = trees[facts.operation_id]
        if not facts.body and facts.operation_id in _EMPTY_IS_NOTHING:
            return None
        return judge(tree, facts.body)

    return check


def _judge_query(tree: Tree, facts: Facts) -> Unmet | None:
    """The first parameter that fails. One that is there twice does, too, where the engine takes but one of them."""
    values = facts.query.values
    twice = next((name for name, several in values.items() if len(several) > 1 and name not in REPEATED), None)
    if twice is not None:
        return Unmet(f"query.{bare(twice)}", "is there twice; pod_security requires one value")
    try:
        fields = {name: _value(QUERIES[facts.operation_id], name, facts.query) for name in values}
    except BadRequest as error:  # lawful: what engines could read in two ways is not met, and this says what
        return Unmet("query", f"cannot be read: {error.detail}")
    return judge(tree, fields, "query")


def _value(struct: str, name: str, query: Query) -> Any:
    if name in REPEATED:
        return query.every(name)
    return query.json(name) if f"{struct}.{name}" in HELD else query.first(name)


def _level(value: Any) -> Level:
    if value not in LEVELS:
        raise ValueError(f"is {value!r}, not one of {', '.join(LEVELS)}")
    level: Level = value
    return level


KIND = completing(Kind(operations=frozenset(OPERATIONS) | frozenset(QUERIES), make=make), modes=True, mounted=True)
