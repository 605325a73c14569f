"""The body of a create: a container's Config, and a HostConfig that may stand at two places.

Owns how the two places are read as one, so that a policy finds every HostConfig under `HostConfig`, and every engine, too.
Must not know JSON text. Begin at `settle`. Source: the engine's runconfig, ContainerConfigWrapper and getHostConfig, from
1.9 to 26; from 27 on only `HostConfig` counts, so there what is written out below does what was asked for and judged.
"""

from collections.abc import Mapping
from typing import Any

BESIDE = ("Memory", "MemorySwap", "CpuShares", "CpusetCpus", "VolumeDriver")
"""What engines up to 26 take from the top level although there is a `HostConfig`, if it has them not, or zero."""

HOST_CONFIG = "HostConfig"
CPUSET = "Cpuset"
_CPUSET_CPUS = "CpusetCpus"


def settle(body: dict[str, Any], flat_fields: frozenset[str], has_flat: bool) -> dict[str, Any]:
    """The body with one HostConfig, or none. `flat_fields`: the fields of a HostConfig; `has_flat`: one of them stands at the
    top, if only as null. What stands beside a `HostConfig` and is read by no engine is dropped."""
    host_config: dict[str, Any] | None = body.get(HOST_CONFIG)
    if flat_fields.isdisjoint(body) and CPUSET not in body and (host_config is not None or not has_flat):
        return body  # hot: nearly all creates
    flat = {name: body.pop(name) for name in [name for name in body if name in flat_fields]}
    cpuset = body.pop(CPUSET, "")
    if host_config is None:
        if not has_flat:
            return body
        host_config = body[HOST_CONFIG] = flat
    else:
        _fill(host_config, {name: flat[name] for name in BESIDE if name in flat})
    _fill(host_config, {_CPUSET_CPUS: cpuset})
    return body


def _fill(host_config: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value and not host_config.get(name):
            host_config[name] = value
