"""`networks`: which networks may be joined.

Owns every way to name one. Must not know what networks there are: an id is no name, and fits only a pattern that takes it.
Begin at `NETWORKS`. `host` and `container:...` are not networks but the place of somebody else, so no `*` stands for them,
nor for what may be the id of a service's network. A container that is joined and not listed is judged by the networks that it
has.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.joins import JOINS_MAX, Fails, completing, container, joined
from sockproxy.judging.requirements.objects import text
from sockproxy.judging.requirements.places import (
    CREATE,
    HOST,
    SERVICES,
    START,
    Find,
    Found,
    host_config,
    may_be_id,
    no_containers,
    service_networks,
)
from sockproxy.judging.requirements.wording import is_value, keyed, listed, shown

_BRIDGE = "bridge"
_OF_OTHERS = ("host", "container:")
_SIGNS = re.compile(r"[*?]")


def _created(facts: Facts) -> Iterator[Found]:
    config = host_config(facts)
    if config is not None:
        yield Found(f"{HOST}.NetworkMode", config.get("NetworkMode", ""))
    for name, endpoint in facts.body.get("NetworkingConfig", {}).get("EndpointsConfig", {}).items():
        place = keyed("NetworkingConfig.EndpointsConfig", name)
        yield Found(place, name)
        yield from _by_id(place, endpoint or {})


def _by_id(place: str, endpoint: Mapping[str, str]) -> Iterator[Found]:
    # moby, getNetworkID: for a network that users made the id counts, and not the name that it stands under.
    if endpoint.get("NetworkID"):
        yield Found(f"{place}.NetworkID", endpoint["NetworkID"])


def _connected(facts: Facts) -> Iterator[Found]:
    yield Found("path.id", facts.resource)
    yield from _by_id("EndpointConfig", facts.body.get("EndpointConfig", {}))


def _built(facts: Facts) -> Iterator[Found]:
    for mode in facts.query.every("networkmode") or ("",):
        yield Found("query.networkmode", mode)


NETWORKS: Mapping[str, Find] = {
    CREATE: _created,
    START: _created,
    "NetworkConnect": _connected,
    "NetworkDisconnect": _connected,
    "ImageBuild": _built,
    **dict.fromkeys(SERVICES, service_networks),
}


def make_networks(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That every network fits one of the patterns."""
    globs = Globs(map(_by_name, patterns))
    literal = Globs(one for one in globs.patterns if not _SIGNS.search(one))
    of_others = Globs(one for one in globs.patterns if one.startswith(_OF_OTHERS))

    def allowed_for(operation_id: str, name: str) -> Globs:
        if name == "host" or name.startswith("container:"):
            return of_others
        return literal if operation_id in SERVICES and may_be_id(name) else globs

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        for field, value in NETWORKS[facts.operation_id](facts):
            name = _by_name(value)
            if allowed_for(facts.operation_id, name).fit(name):
                continue
            other = joined(name) if facts.operation_id in (CREATE, START) else None
            misfit = value if other is None else _misfit(facts, field, other, allowed_for)
            if misfit is not None:
                told = is_value(misfit) if other is None else f"joins {shown(other)}, which has {shown(misfit)}"
                return Unmet(field, f"{told}; networks allows {listed(globs.patterns)}")
        return None

    return check


def _misfit(facts: Facts, field: str, name: str, allowed_for: Callable[[str, str], Globs]) -> str | None:
    """The first network of a container that does not fit, and so on along what it joins itself."""
    for _ in range(JOINS_MAX):
        there = container(facts, field, name)
        mode = text(there["HostConfig"], "NetworkMode")
        names = list(map(_by_name, there["NetworkSettings"]["Networks"] or ()))
        other = joined(mode)
        misfit = next((one for one in names if not allowed_for(CREATE, one).fit(one)), None)
        if misfit is not None:
            return misfit
        if other is None:
            is_known = names and mode != "host"
            return None if is_known or allowed_for(CREATE, _by_name(mode)).fit(_by_name(mode)) else mode
        name = other
    raise Fails(Unmet(field, f"joins more than {JOINS_MAX} containers in a row"))


def seen_networks(facts: Facts) -> Iterator[str]:
    """The networks that a request joins."""
    for _, name in NETWORKS[facts.operation_id](facts):
        yield _by_name(name)


def _by_name(network: str) -> str:
    """On Linux what is not named, and `default`, is the bridge."""
    return _BRIDGE if network in ("", "default") else network


KIND = completing(Kind(frozenset(NETWORKS), make_networks))
