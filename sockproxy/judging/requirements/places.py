"""Where things stand in the bodies of the operations that make or change containers.

Owns the few shapes of these bodies, so that a subject names its fields once. Must not know what is required of them. Begin
at `Find`. A start below API 1.24 may carry a HostConfig, which then replaces the container's; without one it changes
nothing, and there is nothing to judge. An update changes only what it names.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sockproxy.judging.requirements.facts import Check, Facts, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.wording import is_value, listed, shown

CREATE = "ContainerCreate"
START = "ContainerStart"
UPDATE = "ContainerUpdate"
EXEC = "ContainerExec"

SERVICES = ("ServiceCreate", "ServiceUpdate")

HOST = "HostConfig"
TASK = "TaskTemplate"
SPEC = "TaskTemplate.ContainerSpec"


_NETWORK_ID = re.compile(r"[a-z0-9]{1,64}")


class Found(NamedTuple):
    """A value and the field that it stands in."""

    field: str
    value: str


Find = Callable[[Facts], Iterable[Found]]
"""All values of a request that a requirement is about; where the engine takes an absent one for something, that too."""


def allow_list(key: str, finds: Mapping[str, Find], globs: Globs) -> Check:
    """That every value which is found fits one of the patterns. An operation without a row raises KeyError, which denies."""

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        for field, value in finds[facts.operation_id](facts):
            if not globs.fit(value):
                return Unmet(field, f"{is_value(value)}; {key} allows {listed(globs.patterns)}")
        return None

    return check


def host_config(facts: Facts) -> Mapping[str, Any] | None:
    """The HostConfig that a create or start asks for; None for a start that carries none."""
    given: Mapping[str, Any] | None = facts.body.get(HOST)
    return {} if given is None and facts.operation_id != START else given


def container_spec(facts: Facts) -> Mapping[str, Any]:
    """What a service says of its containers."""
    spec: Mapping[str, Any] = task(facts).get("ContainerSpec", {})
    return spec


def task(facts: Facts) -> Mapping[str, Any]:
    """The template of a service's tasks."""
    template: Mapping[str, Any] = facts.body.get(TASK, {})
    return template


def service_networks(facts: Facts) -> Iterator[Found]:
    """The networks of a service, which stand at two places."""
    for place, holder in (("", facts.body), (f"{TASK}.", task(facts))):
        for at, network in enumerate(holder.get("Networks", ())):
            yield Found(f"{place}Networks[{at}].Target", network.get("Target", ""))


def may_be_id(network: str) -> bool:
    """Whether swarm may take that for the id of a network, or its beginning. The id of the predefined network `host` puts the
    containers into the host's own (moby, populateNetworkID); for a container's own networks no id does."""
    return _NETWORK_ID.fullmatch(network) is not None


def no_containers(facts: Facts) -> Unmet | None:
    """What fails if a service is not one of containers, or not what its body says: nothing that is said of containers holds
    for it."""
    if facts.operation_id not in SERVICES:
        return None
    if (runtime := task(facts).get("Runtime", "")) not in ("", "container"):
        return Unmet(f"{TASK}.Runtime", f"is {shown(runtime)}; only containers can be judged")
    if "PluginSpec" in task(facts):
        return Unmet(f"{TASK}.PluginSpec", "is set; only containers can be judged")
    return rolled_back(facts)


def rolled_back(facts: Facts) -> Unmet | None:
    """What fails if a service's body is not what the engine takes, but what the service was before."""
    for rollback in facts.query.every("rollback"):
        if rollback not in ("", "none"):
            return Unmet(
                "query.rollback",
                f"is {shown(rollback)}, for which the engine takes another spec; only the body can be judged",
            )
    return None


def host_value(name: str) -> Mapping[str, Find]:
    """A text of the HostConfig, "" where it is absent."""

    def find(facts: Facts) -> Iterator[Found]:
        config = host_config(facts)
        if config is not None:
            yield Found(f"{HOST}.{name}", config.get(name, ""))

    return {CREATE: find, START: find}


def body_value(name: str) -> Find:
    """A text at the top of the body, "" where it is absent."""
    return lambda facts: [Found(name, facts.body.get(name, ""))]


def query_value(name: str) -> Find:
    """The value of a parameter that counts, "" where it is absent."""
    return lambda facts: [Found(f"query.{name}", facts.query.first(name))]


def mounts(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The Mounts of a create, start or service, each with its place."""
    config = container_spec(facts) if facts.operation_id in SERVICES else host_config(facts)
    place = SPEC if facts.operation_id in SERVICES else HOST
    for at, mount in enumerate((config or {}).get("Mounts", ())):
        yield f"{place}.Mounts[{at}]", mount


def mount_type(mount: Mapping[str, Any]) -> str:
    """The type of a mount, in upper case. Of a service's mounts the engine reads it without case, and none as a bind
    (moby, daemon/cluster/convert/container.go); of a container's it takes lower case only."""
    given: str = mount.get("Type", "")
    return given.upper() or "BIND"
