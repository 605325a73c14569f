"""The keys of `require:`.

Owns which there are. Must not know how a file says them (`operating.config.requirements` does). Begin at `KINDS`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sockproxy.judging.requirements import (
    bind_sources,
    capabilities,
    devices,
    expression,
    images,
    labels,
    networks,
    pod_security,
    ports,
    query,
    resources,
    target,
    values,
)
from sockproxy.judging.requirements.facts import Kind

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "pod_security": pod_security.KIND,
        "bind_sources": bind_sources.KIND,
        "read_only_binds": bind_sources.READ_ONLY_KIND,
        "images": images.KIND,
        "image_digest": images.DIGEST_KIND,
        "names": values.NAMES_KIND,
        "labels": labels.KIND,
        "networks": networks.KIND,
        "runtimes": values.RUNTIMES_KIND,
        "users": values.USERS_KIND,
        "log_drivers": values.LOG_DRIVERS_KIND,
        "volume_drivers": values.VOLUME_DRIVERS_KIND,
        "capabilities": capabilities.KIND,
        "devices": devices.KIND,
        "sysctls": values.SYSCTLS_KIND,
        "ports": ports.KIND,
        "memory_max": resources.MEMORY_KIND,
        "cpus_max": resources.CPUS_KIND,
        "pids_max": resources.PIDS_KIND,
        "query": query.KIND,
        "expression": expression.KIND,
        "target": target.KIND,
    }
)
"""Key -> what it asks of which operations, in the order of the documentation."""
