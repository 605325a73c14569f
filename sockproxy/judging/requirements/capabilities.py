"""`capabilities`: which capabilities may be added to those that the engine gives every container.

Owns their spellings. Must not know what they permit. Begin at `make_capabilities`. Source: moby, oci/caps/utils.go.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.joins import completing
from sockproxy.judging.requirements.places import (
    CREATE,
    EXEC,
    HOST,
    SERVICES,
    SPEC,
    START,
    Found,
    container_spec,
    host_config,
    no_containers,
)
from sockproxy.judging.requirements.wording import listed, shown

ALL = "ALL"
_NAME = re.compile(r"CAP_[A-Z_]{2,40}")


def make_capabilities(names: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That nothing else is added. Raises ValueError for what is no name of a capability."""
    written = tuple(names)
    allowed = frozenset(map(normalise, written))
    for name in written:
        if normalise(name) != ALL and not _NAME.fullmatch(normalise(name)):
            raise ValueError(f"{shown(name)} is no capability, as NET_ADMIN is one")

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None or ALL in allowed:
            return unmet
        for field, name in _added(facts):
            if normalise(name) not in allowed:
                return Unmet(field, f"is {shown(name)}; capabilities allows {listed(written)}")
        place, is_privileged = _privileged(facts)
        if is_privileged:
            return Unmet(f"{place}Privileged", f"is true, which is all of them; capabilities allows {listed(written)}")
        return None

    return check


def seen_capabilities(facts: Facts) -> Iterator[str]:
    """The capabilities that a request adds, without CAP_ in front."""
    for _, name in _added(facts):
        yield normalise(name).removeprefix("CAP_")
    if _privileged(facts)[1]:
        yield ALL


def _privileged(facts: Facts) -> tuple[str, bool]:
    """Where it is said, and whether a container or exec is to have all of them."""
    place, config = ("", facts.body) if facts.operation_id == EXEC else (f"{HOST}.", host_config(facts) or {})
    return place, config.get("Privileged", False)


def normalise(name: str) -> str:
    """The engine's own name: without regard to case, with or without CAP_ in front. There is no CAP_ALL."""
    upper = name.upper()
    return upper if upper == ALL or upper.startswith("CAP_") else f"CAP_{upper}"


def _added(facts: Facts) -> Iterator[Found]:
    if facts.operation_id in SERVICES:
        holder, place, fields = container_spec(facts), SPEC, ["CapabilityAdd"]
    else:
        # Capabilities were a list of all there are to be, in an engine that was never released.
        holder, place, fields = host_config(facts) or {}, HOST, ["CapAdd", "Capabilities"]
    for field in fields:
        for at, name in enumerate(holder.get(field, ())):
            yield Found(f"{place}.{field}[{at}]", name)


KIND = completing(Kind(frozenset({CREATE, START, EXEC, *SERVICES}), make_capabilities))
