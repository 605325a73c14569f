"""`images` and `image_digest`: which images may be used, fetched, made and given away.

Owns where each operation names an image, and what the engine makes of the name there. Must not know the grammar of names
(`references`). Begin at `NAMED`. A build is judged by the names that it gives, not by what its Dockerfile takes from; the
archive of a load names what it likes, so no requirement can speak for it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.places import (
    CREATE,
    SERVICES,
    SPEC,
    container_spec,
    mount_type,
    mounts,
    no_containers,
)
from sockproxy.judging.requirements.references import (
    EVERY_TAG,
    Reference,
    image_id,
    is_digest,
    parse_reference,
    reference_globs,
)
from sockproxy.judging.requirements.wording import is_value, listed, shown


class Image(NamedTuple):
    """An image that is named: where, by what text, and what that is in full. `can_be_id`: the engine looks for ids, too."""

    field: str
    text: str
    reference: Reference | None
    can_be_id: bool = False


def _used(field: str, text: str) -> Image:
    return Image(field, text, parse_reference(text), can_be_id=True)


def _created(facts: Facts) -> Iterator[Image]:
    yield _used("Image", facts.body.get("Image", ""))
    yield from _mounted(facts)


def _service(facts: Facts) -> Iterator[Image]:
    yield _used(f"{SPEC}.Image", container_spec(facts).get("Image", ""))
    yield from _mounted(facts)


def _mounted(facts: Facts) -> Iterator[Image]:
    """From API 1.48 on an image may be mounted."""
    for place, mount in mounts(facts):
        if mount_type(mount) == "IMAGE":
            yield _used(f"{place}.Source", mount.get("Source", ""))


def _fetched(facts: Facts) -> Iterator[Image]:
    name, tag = facts.query.first("fromImage"), facts.query.first("tag")
    if not name and facts.query.first("fromSrc"):
        yield Image("query.fromSrc", "an import", None)  # and not the address, which may have a password
        return
    # moby, PullImage: "pull -a" may send a colon and no tag behind it. None at all means all tags.
    yield Image("query.fromImage", name, parse_reference(name.removesuffix(":"), tag, EVERY_TAG))


def _pushed(facts: Facts) -> Iterator[Image]:
    # By a digest nothing is pushed, but the engine would take one beside a tag for the image that the tag is to name.
    tag = facts.query.first("tag")
    has_digest = "@" in facts.resource or is_digest(tag)
    reference = None if has_digest else parse_reference(facts.resource, tag, EVERY_TAG)
    yield Image("path.name", facts.resource, reference)


def _given_name(facts: Facts) -> Iterator[Image]:
    """The name that a tag or a commit gives; a digest in it is dropped, or refused."""
    repo, tag = facts.query.first("repo"), facts.query.first("tag")
    reference = None if is_digest(tag) else parse_reference(repo.partition("@")[0], tag)
    yield Image("query.repo", repo, reference)


def _built(facts: Facts) -> Iterator[Image]:
    names = [name for name in facts.query.every("t") if name] or [""]
    for name in names:
        yield Image("query.t", name, parse_reference(name))
    for at, output in enumerate(facts.query.json("outputs") or ()):
        for name in output.get("Attrs", {}).get("name", "").split(","):
            if name:
                yield Image(f"query.outputs[{at}].Attrs.name", name, parse_reference(name))


NAMED: Mapping[str, Callable[[Facts], Iterator[Image]]] = {
    CREATE: _created,
    "ImageCreate": _fetched,
    "ImageTag": _given_name,
    "ImagePush": _pushed,
    "ImageBuild": _built,
    "ImageCommit": _given_name,
    **dict.fromkeys(SERVICES, _service),
}
"""The images of a request. Each operation names one at least, or there is nothing that could fit."""

CAN_HAVE_DIGEST = frozenset({CREATE, "ImageCreate", *SERVICES})


def make_images(patterns: Iterable[str], _others: Collection[str] = ()) -> Check:
    """That every image fits one of the patterns."""
    written = tuple(patterns)
    globs = reference_globs(written)

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        for image in NAMED[facts.operation_id](facts):
            name = in_full(image)
            if name is None:
                return Unmet(
                    image.field, f"{is_value(image.text)}, which names no image; images allows {listed(written)}"
                )
            if not globs.fit(name):
                return Unmet(image.field, f"is {shown(name)}; images allows {listed(written)}")
        return None

    return check


def seen_images(facts: Facts) -> Iterator[str]:
    """The images that a request names, as patterns for just them. Raises ValueError for what names none."""
    for image in NAMED[facts.operation_id](facts):
        name = in_full(image)
        if name is None:
            raise ValueError(f"{image.field} names no image")
        yield name


def in_full(image: Image) -> str | None:
    """What a name is in full, an id where it may be one; None where it is neither."""
    if image.can_be_id and (found := image_id(image.text)) is not None:
        return found
    return None if image.reference is None else str(image.reference)


def make_digest(is_required: bool, _others: Collection[str] = ()) -> Check:
    """That every image is named with a digest: what it is cannot change."""

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        for image in NAMED[facts.operation_id](facts):
            if image.reference is None or not image.reference.digest:
                return Unmet(image.field, f"{is_value(image.text)}; image_digest requires NAME@sha256:...")
        return None

    return check if is_required else lambda facts: None


KIND = Kind(frozenset(NAMED), make_images)
DIGEST_KIND = Kind(CAN_HAVE_DIGEST, make_digest)
