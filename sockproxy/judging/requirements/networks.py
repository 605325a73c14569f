"""`networks`: which networks may be joined.

Owns every way to name one. Must not know what networks there are: an id is no name, and fits only a pattern that takes it.
Begin at `NETWORKS`. `host` and `container:...` are not networks but the place of somebody else, so no `*` stands for them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.places import (
    CREATE,
    HOST,
    SERVICES,
    START,
    TASK,
    Find,
    Found,
    host_config,
    no_containers,
    task,
)
from sockproxy.judging.requirements.wording import is_value, listed

_BRIDGE = "bridge"
_OF_OTHERS = ("host", "container:")


def _created(facts: Facts) -> Iterator[Found]:
    config = host_config(facts)
    if config is not None:
        yield Found(f"{HOST}.NetworkMode", config.get("NetworkMode", ""))
    for name, endpoint in facts.body.get("NetworkingConfig", {}).get("EndpointsConfig", {}).items():
        place = f"NetworkingConfig.EndpointsConfig.{name}"
        yield Found(place, name)
        yield from _by_id(place, endpoint or {})


def _by_id(place: str, endpoint: Mapping[str, str]) -> Iterator[Found]:
    # moby, getNetworkID: for a network that users made the id counts, and not the name that it stands under.
    if endpoint.get("NetworkID"):
        yield Found(f"{place}.NetworkID", endpoint["NetworkID"])


def _connected(facts: Facts) -> Iterator[Found]:
    yield Found("path.id", facts.resource)
    yield from _by_id("EndpointConfig", facts.body.get("EndpointConfig", {}))


def _service(facts: Facts) -> Iterator[Found]:
    for place, holder in (("", facts.body), (f"{TASK}.", task(facts))):
        for at, network in enumerate(holder.get("Networks", ())):
            yield Found(f"{place}Networks[{at}].Target", network.get("Target", ""))


def _built(facts: Facts) -> Iterator[Found]:
    for mode in facts.query.every("networkmode") or ("",):
        yield Found("query.networkmode", mode)


NETWORKS: Mapping[str, Find] = {
    CREATE: _created,
    START: _created,
    "NetworkConnect": _connected,
    "NetworkDisconnect": _connected,
    "ImageBuild": _built,
    **dict.fromkeys(SERVICES, _service),
}


def make_networks(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That every network fits one of the patterns."""
    globs = Globs(map(_by_name, patterns))
    of_others = {prefix: Globs(one for one in globs.patterns if one.startswith(prefix)) for prefix in _OF_OTHERS}

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        for field, value in NETWORKS[facts.operation_id](facts):
            name = _by_name(value)
            prefix = next((prefix for prefix in _OF_OTHERS if name.startswith(prefix)), None)
            allowed = globs if prefix is None or _is_plain(name) else of_others[prefix]
            if not allowed.fit(name):
                return Unmet(field, f"{is_value(value)}; networks allows {listed(globs.patterns)}")
        return None

    return check


def _is_plain(name: str) -> bool:
    """Whether that is a network after all, as `hostess` is."""
    return name.startswith("host") and name != "host"


def _by_name(network: str) -> str:
    """On Linux what is not named, and `default`, is the bridge."""
    return _BRIDGE if network in ("", "default") else network


KIND = Kind(frozenset(NETWORKS), make_networks)
