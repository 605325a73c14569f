"""Requirements that are a list of allowed values and no more: names, runtimes, users, log and volume drivers, sysctls.

Owns where these values stand. Must not know patterns. Begin at the tables. What is absent is read as the engine reads it;
where that is a default of its own, the value is "", and has to be allowed as such.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.joins import completing
from sockproxy.judging.requirements.places import (
    CREATE,
    EXEC,
    HOST,
    SERVICES,
    SPEC,
    START,
    TASK,
    Find,
    Found,
    allow_list,
    body_value,
    container_spec,
    host_config,
    host_value,
    mount_type,
    mounts,
    query_value,
    task,
)
from sockproxy.judging.requirements.wording import keyed, listed, shown


def _container_name(facts: Facts) -> Iterator[Found]:
    # moby, reserveName: a slash in front is no part of it.
    yield Found("query.name", facts.query.first("name").removeprefix("/"))


NAMES: Mapping[str, Find] = {
    CREATE: _container_name,
    "ContainerRename": _container_name,
    "PluginCreate": query_value("name"),
    **{
        operation: body_value("Name")
        for operation in (
            "VolumeCreate",
            "NetworkCreate",
            "SecretCreate",
            "SecretUpdate",
            "ConfigCreate",
            "ConfigUpdate",
        )
    },
    **dict.fromkeys(SERVICES, body_value("Name")),
}
"""What the request names itself. Without a name the engine makes one up, which fits only what fits anything."""


def _service_user(facts: Facts) -> Iterator[Found]:
    yield Found(f"{SPEC}.User", container_spec(facts).get("User", ""))


USERS: Mapping[str, Find] = {
    CREATE: body_value("User"),
    EXEC: body_value("User"),
    **dict.fromkeys(SERVICES, _service_user),
}
""" "" is the image's own user, or for an exec the container's. Spellings of one user are different values."""


def _log_driver(facts: Facts) -> Iterator[Found]:
    config = host_config(facts)
    if config is not None:
        yield Found(f"{HOST}.LogConfig.Type", config.get("LogConfig", {}).get("Type", ""))


def _service_log_driver(facts: Facts) -> Iterator[Found]:
    yield Found(f"{TASK}.LogDriver.Name", task(facts).get("LogDriver", {}).get("Name", ""))


LOG_DRIVERS: Mapping[str, Find] = {
    CREATE: _log_driver,
    START: _log_driver,
    **dict.fromkeys(SERVICES, _service_log_driver),
}

LOCAL = "local"


def _volume_drivers(facts: Facts) -> Iterator[Found]:
    """Those of the mounts, and of a create's Binds and Volumes, which share one."""
    if facts.operation_id not in SERVICES:
        config = host_config(facts) or {}
        driver = config.get("VolumeDriver", "")
        binds = config.get("Binds", ())
        has_volumes = facts.body.get("Volumes") or any(not text.startswith("/") or ":" not in text for text in binds)
        if driver or has_volumes:
            yield Found(f"{HOST}.VolumeDriver", driver or LOCAL)
    for place, mount in mounts(facts):
        config = mount.get("VolumeOptions", {}).get("DriverConfig", {})
        if mount_type(mount) == "VOLUME" or config:
            yield Found(f"{place}.VolumeOptions.DriverConfig.Name", config.get("Name", "") or LOCAL)


def _created_volume_driver(facts: Facts) -> Iterator[Found]:
    yield Found("Driver", facts.body.get("Driver", "") or LOCAL)


VOLUME_DRIVERS: Mapping[str, Find] = {
    CREATE: _volume_drivers,
    START: _volume_drivers,
    "VolumeCreate": _created_volume_driver,
    **dict.fromkeys(SERVICES, _volume_drivers),
}
"""None is `local`. What a volume that is there was made with, `joins` adds."""


_ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"


def _host_sysctls(facts: Facts) -> Iterator[Found]:
    for name in (host_config(facts) or {}).get("Sysctls", {}):
        yield Found(f"{HOST}.Sysctls", name)
    for network, endpoint in facts.body.get("NetworkingConfig", {}).get("EndpointsConfig", {}).items():
        yield from _endpoint_sysctls(keyed("NetworkingConfig.EndpointsConfig", network), endpoint or {})


def _connected_sysctls(facts: Facts) -> Iterator[Found]:
    yield from _endpoint_sysctls("EndpointConfig", facts.body.get("EndpointConfig", {}))


def _service_sysctls(facts: Facts) -> Iterator[Found]:
    for name in container_spec(facts).get("Sysctls", {}):
        yield Found(f"{SPEC}.Sysctls", name)
    for place, holder in (("", facts.body), (f"{TASK}.", task(facts))):
        for at, network in enumerate(holder.get("Networks", ())):
            yield from _endpoint_sysctls(f"{place}Networks[{at}]", network)


def _endpoint_sysctls(place: str, endpoint: Mapping[str, Any]) -> Iterator[Found]:
    """From API 1.46 on an endpoint may bring some: `net.ipv4.conf.IFNAME.log_martians=1,...`."""
    for setting in endpoint.get("DriverOpts", {}).get(_ENDPOINT_SYSCTLS, "").split(","):
        if setting:
            yield Found(f"{place}.DriverOpts", setting.partition("=")[0])


SYSCTLS: Mapping[str, Find] = {
    CREATE: _host_sysctls,
    START: _host_sysctls,
    "NetworkConnect": _connected_sysctls,
    **dict.fromkeys(SERVICES, _service_sysctls),
}

# With slashes, or two dots in a row, a name could lead out of the directory that its beginning promises.
_SYSCTL = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")


def _make(key: str, finds: Mapping[str, Find], patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    return allow_list(key, finds, Globs(patterns))


def _make_sysctls(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    globs = Globs(patterns)
    is_allowed = allow_list("sysctls", SYSCTLS, globs)

    def check(facts: Facts) -> Unmet | None:
        for field, name in SYSCTLS[facts.operation_id](facts):
            if not _SYSCTL.fullmatch(name):
                return Unmet(
                    field, f"has {shown(name)}, which is no name with dots; sysctls allows {listed(globs.patterns)}"
                )
        return is_allowed(facts)

    return check


NAMES_KIND = Kind(frozenset(NAMES), partial(_make, "names", NAMES))
USERS_KIND = Kind(frozenset(USERS), partial(_make, "users", USERS))
LOG_DRIVERS_KIND = Kind(frozenset(LOG_DRIVERS), partial(_make, "log_drivers", LOG_DRIVERS))
VOLUME_DRIVERS_KIND = completing(
    Kind(frozenset(VOLUME_DRIVERS), partial(_make, "volume_drivers", VOLUME_DRIVERS)), mounted=True
)
RUNTIMES_KIND = completing(Kind(frozenset({CREATE, START}), partial(_make, "runtimes", host_value("Runtime"))))
SYSCTLS_KIND = completing(Kind(frozenset(SYSCTLS), _make_sysctls))
