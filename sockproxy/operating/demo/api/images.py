"""Operations on images: listing, inspecting, pulling from an imagined registry, tagging, deleting.

Owns what a pull writes and when an image is in use. Must not know what is in an image (`images`).
"""

import asyncio
from collections.abc import Iterator

from aiohttp import web

from sockproxy.operating.demo.api.answers import empty_answer, encode, json_answer, stream_answer
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.api.containers import check_filters
from sockproxy.operating.demo.objects import describe_images, images, refusals
from sockproxy.operating.demo.objects.images import Image, Reference
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Json, State

_FILTERS = frozenset({"dangling", "label", "before", "since", "reference"})
_BAR_CHARACTERS = 50


async def list_images(call: Call) -> web.StreamResponse:
    state, filters = call.state, call.filters()
    check_filters(filters, _FILTERS)
    references = filters.get("reference") or ({call.text("filter")} if call.text("filter") else frozenset())
    found = list(state.images.values())
    if references:
        found = [image for image in found if any(_is_called(state, image, wanted) for wanted in references)]
    if "true" in filters.get("dangling", ()) or "1" in filters.get("dangling", ()):
        found = [image for image in found if not describe_images.image_names(state, image)]
    if filters.get("label"):
        found = []  # no imagined image has a label
    return await json_answer(call.request, [describe_images.image_summary(state, image) for image in found])


def _is_called(state: State, image: Image, wanted: str) -> bool:
    names = describe_images.image_names(state, image)
    return any(wanted in (name, name.rpartition(":")[0]) for name in names)


async def inspect(call: Call) -> web.StreamResponse:
    try:
        image = call.state.image(call.name)
    except Refused as refused:
        raise Refused(refused.status, f"no such image: {call.name}: {refused.message}") from None
    return await json_answer(call.request, describe_images.image_document(call.state, image))


async def history(call: Call) -> web.StreamResponse:
    return await json_answer(call.request, describe_images.image_history(call.state, call.state.image(call.name)))


async def create(call: Call) -> web.StreamResponse:
    """A pull. The image is there when its last line is; whoever hangs up before gets none."""
    if not call.text("fromImage"):
        raise refusals.not_imitated("an import")
    reference = _wanted(call.text("fromImage"), call.text("tag"))
    image = images.imagine(reference)
    if image is None:
        raise Refused(
            404,
            f"pull access denied for {reference.repository}, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied",
        )
    if image.id not in call.state.images and len(call.state.images) >= call.state.bounds.named_max:
        raise refusals.too_many("images")
    answer = await stream_answer(call.request, "application/json")
    for line in _progress(reference, image, is_present=image.id in call.state.images):
        await answer.write(encode(line))
        if await call.until_client_ends(asyncio.sleep(call.state.bounds.pull_step_seconds, True)) is None:
            return answer
    call.state.add_image(reference, image)
    call.state.events.add("image", "pull", str(reference), {"name": reference.repository})
    return answer


def _wanted(name: str, tag: str) -> Reference:
    """The reference of `fromImage` and `tag`, where `tag` may also be a digest."""
    try:
        plain = images.parse_reference(name)
        if not tag:
            return plain
        return images.parse_reference(f"{plain.repository}{'@' if ':' in tag else ':'}{tag}")
    except ValueError as fault:
        raise Refused(400, str(fault)) from None


def _progress(reference: Reference, image: Image, *, is_present: bool) -> Iterator[Json]:
    """The lines of a pull as dockerd writes them."""
    yield {"status": f"Pulling from {reference.path}", "id": reference.digest or reference.tag}
    layers = [layer[7:19] for layer in image.layers]
    if is_present:
        yield from ({"status": "Already exists", "progressDetail": {}, "id": layer} for layer in layers)
    else:
        yield from ({"status": "Pulling fs layer", "progressDetail": {}, "id": layer} for layer in layers)
        for layer in layers:
            yield from _layer_progress(layer, image.kind.size_bytes // len(layers))
    yield {"status": f"Digest: {image.digest}"}
    word = "Image is up to date" if is_present else "Downloaded newer image"
    yield {"status": f"Status: {word} for {reference}"}


def _layer_progress(layer: str, size: int) -> Iterator[Json]:
    for step in ("Downloading", "Extracting"):
        for part in (1, 2, 4):
            detail = {"current": size * part // 4, "total": size}
            yield {"status": step, "progressDetail": detail, "progress": _bar(part, size), "id": layer}
        done = {"Downloading": "Download complete", "Extracting": "Pull complete"}[step]
        yield {"status": done, "progressDetail": {}, "id": layer}


def _bar(part: int, size: int) -> str:
    filled = "=" * (_BAR_CHARACTERS * part // 4 - 1) + ">"
    return f"[{filled:{_BAR_CHARACTERS}}]  {size * part / 4_000_000:.4g}MB/{size / 1_000_000:.4g}MB"


async def tag(call: Call) -> web.StreamResponse:
    image = call.state.image(call.name)
    try:
        reference = images.parse_reference(f"{call.text('repo')}:{call.text('tag') or 'latest'}")
    except ValueError as fault:
        raise Refused(500, str(fault)) from None
    if len(call.state.tags) >= call.state.bounds.named_max:
        raise refusals.too_many("tags")
    call.state.tags[reference] = image.id
    call.state.events.add("image", "tag", image.id, {"name": str(reference)})
    return empty_answer(201)


async def delete(call: Call) -> web.StreamResponse:
    """By a name only that name goes; the image goes with its last one, unless a container uses it."""
    state = call.state
    image = state.image(call.name)
    names = [reference for reference, id in state.tags.items() if id == image.id]
    chosen = [reference for reference in names if _is_meant(reference, call.name)] or names
    users = state.containers_of(image)
    is_last = len(chosen) == len(names)
    if is_last and users and (not call.flag("force") or any(user.is_running for user in users)):
        raise Refused(409, _conflict(call.name, image, users[0].id, is_name=chosen != names or len(names) == 1))
    done: list[Json] = [{"Untagged": str(reference)} for reference in chosen]
    for reference in chosen:
        del state.tags[reference]
        state.events.add("image", "untag", image.id, {"name": image.id})
    if is_last and not users:
        done += [{"Untagged": f"{chosen[0].repository}@{image.digest}"}] if chosen else []
        done += [{"Deleted": image.id}, *({"Deleted": layer} for layer in reversed(image.layers))]
        del state.images[image.id]
        state.events.add("image", "delete", image.id, {"name": image.id})
    return await json_answer(call.request, done)


def _is_meant(reference: Reference, name: str) -> bool:
    try:
        return images.parse_reference(name) == reference
    except ValueError:
        return False


def _conflict(name: str, image: Image, user: str, *, is_name: bool) -> str:
    used = f"container {user[:12]} is using its referenced image {image.id[7:19]}"
    if is_name:
        return f'conflict: unable to remove repository reference "{name}" (must force) - {used}'
    return (
        f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is being used by container {user[:12]}"
    )


async def search(call: Call) -> web.StreamResponse:
    """Of the imagined registry's names those that hold the term."""
    found = [
        {"name": name, "description": "An imagined image", "star_count": 0, "is_official": True, "is_automated": False}
        for name in images.KINDS
        if call.text("term") in name
    ]
    return await json_answer(call.request, found)


async def prune(call: Call) -> web.StreamResponse:
    """Images without a name, and with `dangling=false` all that no container uses."""
    state, filters = call.state, call.filters()
    check_filters(filters, frozenset({"dangling", "until", "label", "label!"}))
    is_for_all = bool({"false", "0"} & filters.get("dangling", frozenset()))
    unused = [image for image in state.images.values() if not state.containers_of(image)]
    chosen = [image for image in unused if is_for_all or not describe_images.image_names(state, image)]
    done: list[Json] = []
    for image in chosen:
        for reference in [reference for reference, id in state.tags.items() if id == image.id]:
            del state.tags[reference]
            done.append({"Untagged": str(reference)})
        del state.images[image.id]
        done.append({"Deleted": image.id})
    reclaimed = sum(image.kind.size_bytes for image in chosen)
    return await json_answer(call.request, {"ImagesDeleted": done or None, "SpaceReclaimed": reclaimed})
