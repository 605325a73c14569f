"""What a new container takes from what is there already: volumes, mounts and namespaces of other containers.

Owns how a body is completed by what the engine says of them, so that a subject judges it as if all were made now. Must not
know what is required. Begin at `completed`. What is not there yet, the create makes as the request says.

    Binds ["data:/data"]        the volume `data`, with the driver and options that it was made with, as a mount
    VolumesFrom ["web"]         the mounts of `web`, each as a mount of this container
    NetworkMode container:web   the network mode of `web`, or of what that one joins
    PidMode container:web       besides, `web` itself has to meet all: whoever shares its processes has its files and powers
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Question, Unmet
from sockproxy.judging.requirements.objects import objects, text
from sockproxy.judging.requirements.places import CREATE, HOST, SERVICES, SPEC, START, host_config, mount_type, mounts
from sockproxy.judging.requirements.wording import shown

JOINS_MAX = 8
"""Containers that join one another in a row; nobody needs more than two."""

_TAKES_ALONG = frozenset({CREATE, START, *SERVICES})
MODES = ("NetworkMode", "IpcMode", "PidMode")
_JOINED = "container:"

# What engines hide of /proc and /sys by themselves; newer ones hide more (moby, oci/defaults.go).
MASKED = frozenset(
    {
        *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"),
        *("/proc/scsi", "/sys/firmware"),
    }
)
READ_ONLY = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
_NOTHING_SAID: Mapping[str, Any] = MappingProxyType({})


class Completed(NamedTuple):
    """The request with what it takes along; `told`: for each mount that was added, by its number, the field that brings it and
    how a sentence about it begins."""

    facts: Facts
    told: Mapping[int, tuple[str, str]]


class Fails(Exception):
    """Something that is taken along is not there, or leads too far."""

    def __init__(self, unmet: Unmet) -> None:
        super().__init__()
        self.unmet = unmet


def completing(kind: Kind, *, modes: bool = False, mounted: bool = False) -> Kind:
    """A kind whose checks see what a container takes along: its `modes`, or what is `mounted`. Of what shares processes with
    another container, the other has to meet the check, too."""

    def make(value: Any, others: Any) -> Check:
        return _completing(kind.make(value, others), modes=modes, mounted=mounted)

    return kind._replace(make=make)


def joined(mode: str) -> str | None:
    """The container that a mode joins, or None."""
    return mode.removeprefix(_JOINED) if mode.startswith(_JOINED) else None


def origin(text_of_volumes_from: str) -> tuple[str, str]:
    """The container whose mounts are taken, and the mode."""
    name, _, mode = text_of_volumes_from.partition(":")
    return name, mode


def takes_nothing(facts: Facts) -> bool:
    """Whether it is seen at a glance that nothing is taken along. hot: so it is with nearly all creates; 0.6 us in place of the
    3.5 for which that is found out by completing them (timeit)."""
    if facts.operation_id in SERVICES:
        return False
    config = host_config(facts) or _NOTHING_SAID
    if config.get("Binds") or config.get("VolumesFrom"):
        return False
    for mode in MODES:
        if config.get(mode, "").startswith(_JOINED):
            return False
    return not any(mount.get("Source") for mount in config.get("Mounts", ()))


def _completing(check: Check, *, modes: bool, mounted: bool) -> Check:
    def seen(facts: Facts) -> Unmet | None:
        if facts.operation_id not in _TAKES_ALONG or takes_nothing(facts):
            return check(facts)
        try:
            return judged(facts, JOINS_MAX)
        except Fails as failing:
            return failing.unmet

    def judged(facts: Facts, joins_max: int) -> Unmet | None:
        with_modes = _with_modes(facts) if modes else facts
        completed = _with_mounts(with_modes) if mounted else Completed(with_modes, _NOTHING)
        if (unmet := check(completed.facts)) is not None:
            return _told(unmet, completed)
        field = f"{HOST}.PidMode"
        name = joined((host_config(facts) or {}).get("PidMode", ""))
        if name is None or facts.operation_id in SERVICES:
            return None
        if not joins_max:
            raise Fails(Unmet(field, f"joins more than {JOINS_MAX} containers in a row"))
        unmet = judged(_as_created(facts, container(facts, field, name)), joins_max - 1)
        return unmet and unmet._replace(
            field=field, detail=f"joins the container {shown(name)}, of which {unmet.field} {unmet.detail}"
        )

    return seen


def container(facts: Facts, field: str, name: str) -> Mapping[str, Any]:
    """What the engine says of a container that is joined."""
    if not name:
        raise Fails(Unmet(field, "names no container"))
    finding = facts.ask("container", name)
    if finding.data is None:
        raise Fails(Unmet(field, f"names the container {shown(name)}, which is not there", absent=finding.absent))
    return finding.data


# --- namespaces


def _with_modes(facts: Facts) -> Facts:
    config = host_config(facts)
    if config is None or facts.operation_id in SERVICES:
        return facts
    modes = {name: _mode(facts, name, config[name]) for name in MODES if config.get(name, "").startswith(_JOINED)}
    return facts._replace(body={**facts.body, HOST: {**config, **modes}}) if modes else facts


def _mode(facts: Facts, name: str, mode: str) -> str:
    """What a mode comes to in the end."""
    field = f"{HOST}.{name}"
    for _ in range(JOINS_MAX):
        other = joined(mode)
        if other is None:
            return mode
        mode = text(container(facts, field, other)["HostConfig"], name)
        if mode == "host":
            # Told here, since beside `networks` a host's network passes as such, and that means the request's own.
            raise Fails(Unmet(field, f"joins the container {shown(other)}, whose {name} is {shown(mode)}"))
    raise Fails(Unmet(field, f"joins more than {JOINS_MAX} containers in a row"))


# --- mounts


def _with_mounts(facts: Facts) -> Completed:
    is_service = facts.operation_id in SERVICES
    config = facts.body.get("TaskTemplate", {}).get("ContainerSpec", {}) if is_service else host_config(facts)
    named = list(_named_volumes(facts))
    if config is None or not (named or config.get("VolumesFrom")):
        return Completed(facts, _NOTHING)  # hot: nearly all creates
    own = list(config.get("Mounts", ()))
    taken = [*_volumes(facts, named), *([] if is_service else _taken(facts, config))]
    told = {at: (field, says) for at, (field, says, _) in enumerate(taken, len(own))}
    more = {"Mounts": own + [mount for _, _, mount in taken]} if taken else {}
    if is_service:
        template = facts.body.get("TaskTemplate", {})
        body = (
            {**facts.body, "TaskTemplate": {**template, "ContainerSpec": {**config, **more}}} if taken else facts.body
        )
    else:
        body = {**facts.body, HOST: {**config, **more, "VolumesFrom": []}}
    return Completed(facts._replace(body=body), told)


_NOTHING: Mapping[int, tuple[str, str]] = MappingProxyType({})
_NO_PARTS = frozenset({"", ".", ".."})
_Taken = tuple[str, str, Mapping[str, Any]]


def _volumes(facts: Facts, named: Sequence[tuple[str, str, bool]]) -> Iterator[_Taken]:
    """The volumes that are there, as what they were made as."""
    for field, name, _ in named:
        if not _NO_PARTS.isdisjoint(name.split("/")):  # such a name cannot be asked for: a path is cleaned
            raise Fails(Unmet(field, f"is {shown(name)}, which is no name of a volume"))
    findings = facts.ask_all(Question("volume", name) for _, name, _ in named)
    for (field, name, is_read_only), finding in zip(named, findings, strict=True):
        if finding.data is not None:
            yield field, f"names the volume {shown(name)}, of which", _volume_mount(name, finding.data, is_read_only)


def _named_volumes(facts: Facts) -> Iterator[tuple[str, str, bool]]:
    config = {} if facts.operation_id in SERVICES else host_config(facts) or {}
    for at, bind in enumerate(config.get("Binds", ())):
        source, *more = bind.split(":")
        if more and source and not source.startswith("/"):
            yield f"{HOST}.Binds[{at}]", source, len(more) == 2 and "ro" in more[1].split(",")
    for place, mount in mounts(facts):
        source = mount.get("Source", "")
        if mount_type(mount) == "VOLUME" and source and not source.startswith("/"):
            yield f"{place}.Source", source, mount.get("ReadOnly", False)


def _volume_mount(name: str, data: Mapping[str, Any], is_read_only: bool) -> Mapping[str, Any]:
    driver = {"Name": text(data, "Driver"), "Options": dict(data.get("Options") or {})}
    return {
        "Type": "volume",
        "Source": name,
        "ReadOnly": is_read_only,
        "VolumeOptions": {"DriverConfig": {key: value for key, value in driver.items() if value}},
    }


def _taken(facts: Facts, config: Mapping[str, Any]) -> Iterator[_Taken]:
    """The mounts of other containers."""
    for at, given in enumerate(config.get("VolumesFrom", ())):
        name, mode = origin(given)
        field = f"{HOST}.VolumesFrom[{at}]"
        for mount in _mounts_of(facts, container(facts, field, name), is_read_only="ro" in mode.split(",")):
            yield field, f"takes a mount of the container {shown(name)}, of which", mount


def _mounts_of(facts: Facts, there: Mapping[str, Any], *, is_read_only: bool = False) -> Iterator[Mapping[str, Any]]:
    points = objects(there.get("Mounts"))
    names = [text(point, "Name") for point in points if point["Type"] == "volume"]
    findings = dict(zip(names, facts.ask_all(Question("volume", name) for name in names), strict=True))
    for point in points:
        if not isinstance(point["RW"], bool):
            raise TypeError("it is not told whether a mount can be written")
        read_only = is_read_only or not point["RW"]
        kind = text(point, "Type")
        if kind == "volume":
            name = point["Name"]
            data = findings[name].data
            if data is None:
                raise LookupError("a volume that is in use is not shown")
            yield _volume_mount(name, data, read_only)
        else:
            mount = {"Type": kind, "Source": text(point, "Source"), "ReadOnly": read_only}
            spread = point.get("Propagation")
            yield {**mount, "BindOptions": {"Propagation": spread}} if kind == "bind" and spread else mount


def _told(unmet: Unmet, completed: Completed) -> Unmet:
    """What fails of a mount that was added, as something that fails where it was brought in."""
    for at, (field, says) in completed.told.items():
        for place in (f"{HOST}.Mounts[{at}]", f"{SPEC}.Mounts[{at}]"):
            if unmet.field.startswith(place):
                rest = unmet.field.removeprefix(place).lstrip(".")
                return unmet._replace(field=field, detail=f"{says} {rest} {unmet.detail}")
    return unmet


# --- a container as a whole


def _as_created(facts: Facts, there: Mapping[str, Any]) -> Facts:
    """The request that would make a container that is there: without what the engine has filled in by itself."""
    config = {name: value for name, value in there["Config"].items() if value is not None}
    host = {name: value for name, value in there["HostConfig"].items() if value is not None}
    for name, usual in (("MaskedPaths", MASKED), ("ReadonlyPaths", READ_ONLY)):
        # Without a list nothing is hidden, though in a request that would mean the engine's own.
        if usual <= frozenset(host.pop(name, ())):
            continue
        host[name] = []
    engine = facts.ask("engine", "").data or {}
    if host.get("Runtime") == engine["DefaultRuntime"]:
        del host["Runtime"]
    if host.get("CgroupnsMode") == "host" and engine.get("CgroupVersion") == "1":
        del host["CgroupnsMode"]  # what is usual there
    host["Binds"], host["VolumesFrom"] = [], []
    host["Mounts"] = list(_mounts_of(facts, there))
    return facts._replace(operation_id=CREATE, resource="", body={**config, HOST: host})
