"""`target`: what an existing object has to be like for a request to act on it, as the engine says itself.

Owns which objects each operation acts on, and what of them is asked. Must not know how the engine is asked, nor what becomes
of the names in the request (`judging.pinning`, which reads `SUBJECTS` as well). Begin at `SUBJECTS`. A request that names
several objects acts on all of them, and each has to be like that.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sockproxy.judging.requirements.facts import Check, Facts, Kind, QuestionKind, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.images import Image, in_full
from sockproxy.judging.requirements.objects import Object, container_of
from sockproxy.judging.requirements.query import alternatives
from sockproxy.judging.requirements.references import (
    EVERY_TAG,
    Reference,
    image_id,
    is_digest,
    parse_reference,
    reference_globs,
)
from sockproxy.judging.requirements.wording import is_value, listed, shown


class Subject(NamedTuple):
    """An object that a request names. `problem`: why it cannot be told which one that is."""

    field: str
    kind: QuestionKind
    name: str
    problem: str = ""


def _in_path(kind: QuestionKind) -> Callable[[Facts], Iterator[Subject]]:
    def find(facts: Facts) -> Iterator[Subject]:
        yield Subject("path.name" if kind in ("image", "volume") else "path.id", kind, facts.resource)

    return find


def _deleted(facts: Facts) -> Iterator[Subject]:
    # moby, rmLink: with `link` it is the name that is removed, and not what it leads to.
    problem = "is set; it removes a name, and not the container" if facts.query.flag("link") else ""
    yield Subject("query.link" if problem else "path.id", "container", facts.resource, problem)


def _committed(facts: Facts) -> Iterator[Subject]:
    yield Subject("query.container", "container", facts.query.first("container"))


def _connected(facts: Facts) -> Iterator[Subject]:
    yield Subject("path.id", "network", facts.resource)
    yield Subject("Container", "container", facts.body.get("Container", ""))


def _pushed(facts: Facts) -> Iterator[Subject]:
    name, tag = facts.resource, facts.query.first("tag")
    if "@" in name or is_digest(tag):
        yield Subject("path.name", "image", name, "has a digest, by which nothing is pushed")
    else:
        yield _one_tag("path.name", name, tag)


def _saved(facts: Facts) -> Iterator[Subject]:
    yield _one_tag("path.name", facts.resource)


def _all_saved(facts: Facts) -> Iterator[Subject]:
    for name in facts.query.every("names") or ("",):
        yield _one_tag("query.names", name)


def _one_tag(field: str, name: str, tag: str = "") -> Subject:
    """An image of which the engine would take all tags, each of them another image, if none were named."""
    if not tag and is_digest(image_id(name) or ""):
        return Subject(field, "image", name)
    reference = parse_reference(name, tag, EVERY_TAG)
    if reference is None:
        return Subject(field, "image", name, f"{is_value(name)}, which is no name of an image")
    problem = "has no tag: the engine takes all tags, and they are not looked at" * (reference.tag == EVERY_TAG)
    return Subject(field, "image", str(reference), problem)


SUBJECTS: Mapping[str, Callable[[Facts], Iterator[Subject]]] = {
    **dict.fromkeys(
        (
            *("ContainerInspect", "ContainerTop", "ContainerLogs", "ContainerChanges", "ContainerExport"),
            *("ContainerStats", "ContainerResize", "ContainerStart", "ContainerStop", "ContainerRestart"),
            *("ContainerKill", "ContainerUpdate", "ContainerRename", "ContainerPause", "ContainerUnpause"),
            *("ContainerAttach", "ContainerAttachWebsocket", "ContainerWait", "ContainerArchiveInfo"),
            *("ContainerArchive", "PutContainerArchive", "ContainerCopy", "ContainerExec"),
            *("CheckpointList", "CheckpointCreate", "CheckpointDelete"),
        ),
        _in_path("container"),
    ),
    "ContainerDelete": _deleted,
    **dict.fromkeys(("ExecStart", "ExecResize", "ExecInspect"), _in_path("exec")),
    **dict.fromkeys(("ImageInspect", "ImageHistory", "ImageTag", "ImageDelete"), _in_path("image")),
    "ImagePush": _pushed,
    "ImageGet": _saved,
    "ImageGetAll": _all_saved,
    "ImageCommit": _committed,
    **dict.fromkeys(("NetworkInspect", "NetworkDelete"), _in_path("network")),
    **dict.fromkeys(("NetworkConnect", "NetworkDisconnect"), _connected),
    **dict.fromkeys(("VolumeInspect", "VolumeDelete", "VolumeUpdate"), _in_path("volume")),
}
"""operationId -> the objects that it acts on."""

Wanted = Callable[[str, Object], Unmet | None]


def make_target(required: Mapping[str, Any], _others: Collection[str] = ()) -> Check:
    """That each object is as required. Raises ValueError where nothing is."""
    wanted = [make(required[key]) for key, make in _WANTED.items() if key in required]
    if not wanted:
        raise ValueError("is empty: it would require nothing")

    def check(facts: Facts) -> Unmet | None:
        for field, kind, name, problem in SUBJECTS[facts.operation_id](facts):
            if problem or not name:
                return Unmet(field, f"{problem or 'is not set'}; target needs to know what it is")
            finding = container_of(facts, name) if kind == "exec" else facts.ask(kind, name)
            if finding.data is None:
                return Unmet(field, f"is {shown(name)}, which is not there", absent=finding.absent)
            one = Object("container" if kind == "exec" else kind, finding.data)
            _ = one.id  # raises where there is none: it would not be known what is acted on
            for fits in wanted:
                if (unmet := fits(f"{field}: the {one.kind}", one)) is not None:
                    return unmet
        return None

    return check


def _labels(required: Mapping[str, str]) -> Wanted:
    fitting = {name: alternatives(pattern) for name, pattern in required.items()}

    def fits(place: str, one: Object) -> Unmet | None:
        for name, globs in fitting.items():
            value = one.labels.get(name)
            if value is None:
                return Unmet(place, f"has no label {name}; target requires {shown(required[name])}")
            if not globs.fit(value):
                return Unmet(place, f"has the label {name} {shown(value)}; target requires {shown(required[name])}")
        return None

    return fits


def _names(patterns: Iterable[str]) -> Wanted:
    globs = Globs(patterns)

    def fits(place: str, one: Object) -> Unmet | None:
        if one.kind != "image" and globs.fit(one.name):
            return None
        told = "has tags and no name" if one.kind == "image" else f"has the name {shown(one.name)}"
        return Unmet(place, f"{told}; target allows {listed(globs.patterns)}")

    return fits


def _images(patterns: Iterable[str]) -> Wanted:
    written = tuple(patterns)
    globs = reference_globs(written)

    def fits(place: str, one: Object) -> Unmet | None:
        if one.kind not in ("container", "image"):
            return Unmet(place, f"has no image; target allows {listed(written)}")
        names = list(names_of(one))
        misfit = next((text for text, full in names if full is None or not globs.fit(full)), None)
        if names and misfit is None:
            return None
        told = "is of an image that" if one.kind == "container" else "has a name that"
        return Unmet(place, f"{told} {is_value(misfit or '')}; target allows {listed(written)}")

    return fits


_WANTED: Mapping[str, Callable[[Any], Wanted]] = {"labels": _labels, "names": _names, "images": _images}


def names_of(one: Object) -> Iterator[tuple[str, str | None]]:
    """As given and in full: what a container's image was called when it was made; all that an image is called."""
    if one.kind == "container":
        name = one.data["Config"]["Image"]
        yield name, in_full(Image("", name, parse_reference(name), can_be_id=True))
        return
    tagged = {text: parse_reference(text) for text in one.data.get("RepoTags") or ()}
    for text, reference in tagged.items():
        yield text, None if reference is None else str(reference)
    repositories = {reference.name for reference in tagged.values() if reference is not None}
    for text in one.data.get("RepoDigests") or ():
        digested: Reference | None = parse_reference(text)
        # By its repository it is known already, but for one of which there is no tag.
        if digested is None or digested.name not in repositories:
            yield text, None if digested is None else str(digested)


KIND = Kind(frozenset(SUBJECTS), make_target)
