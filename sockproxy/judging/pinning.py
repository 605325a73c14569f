"""Pinning: a request names what was looked at by its whole id, so that a name which has moved on since fools nobody.

Owns which names are replaced, and the form of the request without them. Must not know rules: whatever was found out is
pinned, whichever rule wanted to know it. Begin at `pin`. What keeps its name, and why that is right:

    volumes                  they have nothing else
    images deleted by name   a name is taken away; by its id an image would go with all its names
    images pushed, saved     the name is a part of what is sent out; it was looked up with its tag, so it means one image
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, quote_plus

from sockproxy.judging.catalogue import Catalogue, Classified, Target, parse_target
from sockproxy.judging.requirements.facts import Facts, Question, QuestionKind
from sockproxy.judging.requirements.joins import MODES, joined, origin
from sockproxy.judging.requirements.objects import Object
from sockproxy.judging.requirements.places import CREATE, HOST, START
from sockproxy.judging.requirements.references import image_id, parse_reference
from sockproxy.judging.requirements.target import SUBJECTS, Subject

_KEEPS_NAME = frozenset({"ImagePush", "ImageGet", "ImageGetAll"})
_NETWORK_MEMBERS = ("NetworkConnect", "NetworkDisconnect")
_PATH_SAFE = "/:@"


class Pinned(NamedTuple):
    """What goes to the engine; `body` is the same object where nothing in it was replaced."""

    target: Target
    body: Mapping[str, Any]


def pin(catalogue: Catalogue, target: Target, classified: Classified, method: str, facts: Facts) -> Pinned:
    """The request with whole ids. Raises ValueError where that would be another request."""
    replace = _BODIES.get(facts.operation_id)
    body = facts.body if replace is None else replace(facts)
    for field, kind, name, _ in _subjects(facts):
        whole = _whole_id(facts, kind, name)
        if not whole or whole == name or facts.operation_id in _KEEPS_NAME:
            continue
        if field.startswith("path."):
            if facts.operation_id != "ImageDelete" or _is_id(facts, name):
                target = _with_name(catalogue, target, classified, method, whole)
        elif field == "query.container":
            target = _with_container(target, facts, whole)
    return Pinned(target, body)


def _subjects(facts: Facts) -> Iterable[Subject]:
    find = SUBJECTS.get(facts.operation_id)
    return () if find is None else find(facts)


def _whole_id(facts: Facts, kind: QuestionKind, name: str) -> str:
    """Its id; "" where it was not looked at, is not there, or has none."""
    finding = facts.found.get(Question(kind, name))
    return "" if finding is None or finding.data is None else Object(kind, finding.data).id


def _is_id(facts: Facts, name: str) -> bool:
    """Whether an image is named by its id: the engine takes a text for a name first."""
    data = facts.found[Question("image", name)].data or {}
    named = parse_reference(name)
    is_name = named is not None and any(parse_reference(tag) == named for tag in data.get("RepoTags") or ())
    begun = image_id(name)
    return not is_name and begun is not None and str(data["Id"]).startswith(begun)


def _with_name(catalogue: Catalogue, target: Target, classified: Classified, method: str, name: str) -> Target:
    """The target with another name in its path."""
    first, _, rest = target.path[1:].partition("/")
    path = f"/{first}/{name}{rest.removeprefix(classified.resource_name)}"
    pinned = catalogue.classify(method, path, target.version)
    if not rest.startswith(classified.resource_name) or pinned != classified._replace(resource_name=name):
        raise ValueError("the path is another request with an id in it")
    prefix = f"/v{target.version}" if target.version else ""
    canonical = prefix + quote_from_bytes(path.encode(), safe=_PATH_SAFE)
    return parse_target(method, f"{canonical}?{target.query}" if target.query else canonical)


def _with_container(target: Target, facts: Facts, whole: str) -> Target:
    pairs = [pair for pair in target.query.split("&") if not pair.startswith("container=")]
    query = "&".join([f"container={quote_plus(whole)}", *pairs])
    return target._replace(query=query, canonical=f"{target.canonical.partition('?')[0]}?{query}")


# --- bodies


def _member(facts: Facts) -> Mapping[str, Any]:
    whole = _whole_id(facts, "container", facts.body.get("Container", ""))
    return {**facts.body, "Container": whole} if whole else facts.body


def _joining(facts: Facts) -> Mapping[str, Any]:
    config = facts.body.get(HOST, {})
    changed = dict(_joins(facts, config))
    return {**facts.body, HOST: {**config, **changed}} if changed else facts.body


def _joins(facts: Facts, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in MODES:
        other = joined(config.get(name, ""))
        if other and (whole := _whole_id(facts, "container", other)):
            yield name, f"container:{whole}"
    given = config.get("VolumesFrom", [])
    pinned = [_volumes_from(facts, one) for one in given]
    if pinned != given:
        yield "VolumesFrom", pinned


def _volumes_from(facts: Facts, given: str) -> str:
    name, mode = origin(given)
    whole = _whole_id(facts, "container", name)
    return given if not whole else f"{whole}:{mode}" if mode else whole


_BODIES: Mapping[str, Callable[[Facts], Mapping[str, Any]]] = {
    **dict.fromkeys(_NETWORK_MEMBERS, _member),
    **dict.fromkeys((CREATE, START), _joining),
}
