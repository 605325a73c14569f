"""`bind_sources` and `read_only_binds`: which of the host's directories a container may see, and whether it may write there.

Owns every way to name a host path as something to mount: Binds, Mounts, and local volumes whose options bind. Must not know
the file system. Begin at `sources`. Paths are judged after lexical cleaning, as the engine cleans them; one that it hands to
the kernel as it is may have no `..`, which the kernel takes from where a link has led. Where a symbolic link leads is asked
for, and what comes of it has to fit as well; where nobody can tell, an allowed directory must be one in which no client can
make links. What volumes and other containers bring along, `joins` adds to the request.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sockproxy.judging.payload import Query
from sockproxy.judging.requirements.facts import Check, Facts, Kind, Question, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.joins import completing
from sockproxy.judging.requirements.objects import text
from sockproxy.judging.requirements.places import (
    CREATE,
    HOST,
    SERVICES,
    START,
    host_config,
    mount_type,
    mounts,
    no_containers,
)
from sockproxy.judging.requirements.wording import keyed, listed, shown

OPERATIONS = frozenset({CREATE, START, "VolumeCreate", *SERVICES})

_BIND_WORDS = frozenset({"bind", "rbind"})
# What a tmpfs may be told (tmpfs(5), mount(8)); none of it names a path, and none moves another mount.
_TMPFS_WORDS = frozenset(
    {
        *("size", "mode", "uid", "gid", "nr_blocks", "nr_inodes", "huge", "defaults", "sync", "async", "dirsync"),
        *("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "atime", "noatime", "diratime", "nodiratime"),
        *("relatime", "norelatime", "strictatime", "nostrictatime"),
    }
)
_LOCAL_OPTIONS = frozenset({"type", "o", "device", "size"})
_NO_PATH = frozenset({"VOLUME", "TMPFS", "IMAGE", "CLUSTER"})


class Source(NamedTuple):
    """A part of the host that is asked for. `problem` says why its path cannot be told; then there is none."""

    field: str
    path: str
    is_read_only: bool
    problem: str = ""


def make_bind_sources(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That every path fits one of the patterns."""
    globs = path_globs(patterns)

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        found = list(sources(facts))
        for field, path, _, problem in found:
            if problem:
                return Unmet(field, f"{problem}; bind_sources allows {listed(globs.patterns)}")
            if not globs.fit(clean(path)):
                return Unmet(field, f"has the source {shown(path)}; bind_sources allows {listed(globs.patterns)}")
        for field, path, real in _led_to(facts, found):
            if not globs.fit(real):
                told = f"has the source {shown(path)}, which leads to {shown(real)}"
                return Unmet(field, f"{told}; bind_sources allows {listed(globs.patterns)}")
        return None

    return check


def make_read_only(is_required: bool, _others: Collection[str] = ()) -> Check:
    """That nothing of the host can be written."""

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        for field, path, is_read_only, _ in sources(facts):
            if not is_read_only:
                return Unmet(field, f"binds {shown(path)} for writing; read_only_binds requires ro")
        return None

    return check if is_required else lambda facts: None


def _led_to(facts: Facts, found: Iterable[Source]) -> Iterator[tuple[str, str, str]]:
    """Where links lead, as far as somebody can tell: the field, the path, and the real one."""
    asked = [(field, path) for field, path, _, _ in found]
    findings = facts.ask_all(Question("path", clean(path)) for _, path in asked)
    for (field, path), finding in zip(asked, findings, strict=True):
        if finding.data is None:
            raise LookupError("a path is no object that could be absent")
        if "real" in finding.data:
            yield field, path, text(finding.data, "real")


KIND = completing(Kind(OPERATIONS, make_bind_sources), mounted=True)
READ_ONLY_KIND = completing(Kind(OPERATIONS, make_read_only), mounted=True)


def seen_paths(facts: Facts) -> Iterator[str]:
    """The host's paths that a request would mount. Raises ValueError where that cannot be told."""
    for field, path, _, problem in sources(facts):
        if problem:
            raise ValueError(f"{field} {problem}")
        yield clean(path)


def path_globs(patterns: Iterable[str]) -> Globs:
    """Patterns of absolute paths, of which `*` takes one part and `**` any number. Raises ValueError for one that no clean
    path can fit."""
    globs = Globs(patterns, "/")
    for pattern in globs.patterns:
        if not pattern.startswith("/") or clean(pattern) != pattern:
            raise ValueError(
                f"{shown(pattern)} fits no path: it begins with / and has no //, no . or .. and no / at the end"
            )
    return globs


_ENGINES_OWN = ("/run/docker.sock", "/var/run/docker.sock", "/run", "/var/run", "/var/lib/docker", "/")


def gives_away(patterns: Iterable[str], is_read_only: bool) -> str:
    """What such paths give beside themselves, for whoever writes a rule; "" if nothing is seen."""
    globs = path_globs(patterns)
    if own := [path for path in _ENGINES_OWN if globs.fit(path)]:
        return f"allows {shown(own[0])}: who can open the engine's socket has the host, whether it is bound for writing or not"
    if not is_read_only and (pattern := _holding_another(globs.patterns)):
        return (
            f"allows directories within what {shown(pattern)} allows, for writing: a link to / that a container makes there can"
            " be bound next; require read_only_binds, or list none within another"
        )
    return ""


def _holding_another(patterns: Iterable[str]) -> str:
    """The first pattern that fits a path below which there is another that fits."""
    split = [(pattern, pattern.split("/")) for pattern in patterns]
    for pattern, parts in split:
        if "**" in pattern or any(len(parts) < len(more) and all(map(_may_be_one, parts, more)) for _, more in split):
            return pattern
    return ""


def _may_be_one(part: str, other: str) -> bool:
    """Whether two parts of patterns may stand for the same name; of two with signs it is taken for granted."""
    if _has_sign(part) and _has_sign(other):
        return True
    return Globs([part]).fit(other) if _has_sign(part) else Globs([other]).fit(part)


def _has_sign(part: str) -> bool:
    return "*" in part or "?" in part


def clean(path: str) -> str:
    """An absolute path as the engine cleans it (Go's path.Clean), by its text alone."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def climbs(path: str) -> bool:
    """Whether a path has a `..`: cleaned as text it is another than the one that the kernel finds if there is a link in it."""
    return ".." in path.split("/")


def sources(facts: Facts) -> Iterator[Source]:
    """All that a request would mount of the host."""
    if facts.operation_id == "VolumeCreate":
        yield from _volume("", facts.body.get("Driver", ""), "DriverOpts", facts.body.get("DriverOpts", {}))
        return
    if facts.operation_id == START:
        yield from _checkpoint(facts.query)
    if facts.operation_id not in SERVICES:
        config = host_config(facts) or {}
        for at, bind in enumerate(config.get("Binds", ())):
            yield from _bind(f"{HOST}.Binds[{at}]", bind)
        for at, other in enumerate(config.get("VolumesFrom", ())):
            problem = f"takes the mounts of {shown(other)}, which are not told here"
            yield Source(f"{HOST}.VolumesFrom[{at}]", other, _is_read_only(other.partition(":")[2]), problem)
    for place, mount in mounts(facts):
        yield from _mount(place, mount)


def _checkpoint(query: Query) -> Iterator[Source]:
    """The directory that a start takes a process from, if that is not the container's own."""
    for name in ("checkpoint-dir", "checkpoint"):
        for path in query.every(name):
            if path and (
                name == "checkpoint-dir" or "/" in path or path == ".."
            ):  # moby, getCheckpointDir: the two are joined
                yield Source(f"query.{name}", path, False, f"is {shown(path)}, a directory that a process comes out of")


def _bind(field: str, bind: str) -> Iterator[Source]:
    """`SOURCE:TARGET[:MODE]`. One that does not begin with a slash is the name of a volume; a target alone makes one."""
    source, *more = bind.split(":")
    if len(more) > 2 or "\0" in bind:
        yield Source(field, bind, False, f"is {shown(bind)}, which is no bind")
    elif more and source.startswith("/"):
        yield Source(field, source, _is_read_only(more[1] if len(more) == 2 else ""))


def _is_read_only(mode: str) -> bool:
    return "ro" in mode.split(",")


def _mount(place: str, mount: Mapping[str, Any]) -> Iterator[Source]:
    kind, path = mount_type(mount), mount.get("Source", "")
    if kind == "BIND" or path.startswith("/"):  # no volume or image has such a name
        is_path = path.startswith("/") and "\0" not in path
        problem = "" if is_path else f"is {shown(path)}, which is no absolute path"
        leaves_submounts = mount.get("BindOptions", {}).get("ReadOnlyNonRecursive", False)
        is_read_only = mount.get("ReadOnly", False) and not leaves_submounts
        yield Source(f"{place}.Source", path, is_read_only, problem)
    elif kind not in _NO_PATH:
        yield Source(
            f"{place}.Type", path, False, f"is {shown(mount['Type'])}, of which it is not known what it mounts"
        )
    driver = mount.get("VolumeOptions", {}).get("DriverConfig", {})
    yield from _volume(
        f"{place}.VolumeOptions.DriverConfig.", driver.get("Name", ""), "Options", driver.get("Options", {})
    )


def _volume(place: str, driver: str, name: str, options: Mapping[str, str]) -> Iterator[Source]:
    """What a volume of these options mounts (moby, volume/local/local_unix.go: `device`, `type` and `o` go to mount(2))."""
    if not any(options.values()):
        return
    words = options.get("o", "").split(",")
    is_read_only = [word for word in words if word in ("ro", "rw")][-1:] == ["ro"]
    device, kind = options.get("device", ""), options.get("type", "")
    if driver not in ("", "local"):
        problem = f"are set; what the driver {shown(driver)} mounts by them is not known"
        yield Source(place + name, device, False, problem)
    elif not options.keys() <= _LOCAL_OPTIONS:
        yield Source(place + name, device, False, f"has other options than {listed(sorted(_LOCAL_OPTIONS))}")
    elif not _BIND_WORDS.isdisjoint(words):
        is_path = device.startswith("/") and "\0" not in device
        problem = "" if is_path else f"is {shown(device)}, which is no absolute path"
        if is_path and climbs(device):  # moby, volume/local: not cleaned, as Binds and Mounts are
            problem = f"is {shown(device)}, whose .. may lead elsewhere"
        yield Source(keyed(place + name, "device"), device, is_read_only, problem)
    elif kind == "tmpfs":
        if not {word.partition("=")[0] for word in words if word} <= _TMPFS_WORDS:
            yield Source(keyed(place + name, "o"), device, is_read_only, "has options that no tmpfs needs")
    elif kind or device or options.get("o"):
        problem = f"is {shown(kind)}, which is neither a bind nor a tmpfs"
        yield Source(keyed(place + name, "type"), device, is_read_only, problem)
