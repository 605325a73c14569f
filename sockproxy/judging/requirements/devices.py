"""`devices`: which of the host's devices a container may use.

Owns the three ways to ask for one, and how each is named in a policy: a path (`/dev/fuse`), a rule of the device cgroup as
the API has it (`c 10:229 rwm`), a request to a driver by the driver's name (`request:nvidia`). Must not know the file
system: a path may be a link, or a directory, which gives all devices below it. Begin at `_asked`.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sockproxy.judging.requirements.bind_sources import clean, climbs
from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.joins import completing
from sockproxy.judging.requirements.places import CREATE, HOST, START, UPDATE, Found, host_config
from sockproxy.judging.requirements.wording import is_value, listed, shown

_REQUEST = "request:"
_PATH_AND_MORE = re.compile(r":(?:/.*|[rwm]{1,3})\Z")  # as the docker command takes a device; here it would fit nothing


def make_devices(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That every device fits one of the patterns. Raises ValueError for one that is none of the three forms."""
    globs = Globs(patterns, "/")
    for pattern in globs.patterns:
        if not _is_form(pattern):
            raise ValueError(f'{shown(pattern)} is no device: "/dev/fuse", "c 10:229 rwm" or "request:nvidia"')

    def check(facts: Facts) -> Unmet | None:
        place, config = ("", facts.body) if facts.operation_id == UPDATE else (f"{HOST}.", host_config(facts) or {})
        for field, device in _asked(place, config):
            if climbs(device) or not globs.fit(device):  # moby, oci/devices_linux.go: the path is not cleaned
                return Unmet(field, f"{is_value(device)}; devices allows {listed(globs.patterns)}")
        if config.get("Privileged", False):
            return Unmet(
                f"{place}Privileged", f"is true, which is every device; devices allows {listed(globs.patterns)}"
            )
        return None

    return check


def _is_form(pattern: str) -> bool:
    if pattern.startswith("/"):
        return clean(pattern) == pattern and not _PATH_AND_MORE.search(pattern)
    return pattern.startswith(_REQUEST) or pattern[:2] in ("a ", "b ", "c ")


def _asked(place: str, config: Mapping[str, Any]) -> Iterator[Found]:
    for at, device in enumerate(config.get("Devices", ())):
        path = device.get("PathOnHost", "")
        yield Found(
            f"{place}Devices[{at}].PathOnHost", path if climbs(path) or not path.startswith("/") else clean(path)
        )
    for at, rule in enumerate(config.get("DeviceCgroupRules", ())):
        yield Found(f"{place}DeviceCgroupRules[{at}]", rule)
    for at, request in enumerate(config.get("DeviceRequests", ())):
        yield Found(f"{place}DeviceRequests[{at}].Driver", _REQUEST + request.get("Driver", ""))


KIND = completing(Kind(frozenset({CREATE, START, UPDATE}), make_devices))
