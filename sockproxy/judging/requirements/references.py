"""The names of images as the engine completes them: `busybox` is `docker.io/library/busybox:latest`.

Owns the grammar of references, and of patterns over them. Must not know requests. Begin at `parse_reference`. Source:
distribution/reference, as the engines from 20.10 to 29 use it; where these differ (a first part in upper case is a host to
the newer ones) nothing is read.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.wording import shown

LATEST = "latest"
EVERY_TAG = "*"
"""Stands for the tag where the engine takes every tag of a repository, as a pull without one does."""

_HUB = "docker.io"
_NAME_CHARACTERS_MAX = 255  # distribution/reference, NameTotalLengthMax

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")
_ID = re.compile(r"(?:sha256:)?([a-f0-9]{1,64})")
_WHOLE_ID = re.compile(r"[a-f0-9]{64}")  # never a name, wherever one is expected
_SIGNS = re.compile(r"[*?]+")


class Reference(NamedTuple):
    """An image by name. The engine does not look at the tag where there is a digest, so then there is none here."""

    name: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse_reference(text: str, tag: str = "", without_tag: str = LATEST) -> Reference | None:
    """A reference in full; None for what no engine, or not every one, takes for a reference. `tag`, which may be a digest,
    is what stands beside the text and counts before the tag in it; `without_tag` what none means."""
    if _WHOLE_ID.fullmatch(text):
        return None
    head, at, digest = text.partition("@")
    short_name, colon, own_tag = _without_tag(head)
    name = _full_name(short_name)
    tags = [own_tag] * bool(colon) + [tag] * bool(tag)
    if tags and is_digest(tags[-1]):
        at, digest = "@", tags.pop()
    if name is None or not all(map(_TAG.fullmatch, tags)) or (at and not is_digest(digest)):
        return None
    return Reference(name, "" if digest else [without_tag, *tags][-1], digest)


def is_digest(text: str) -> bool:
    """Whether that is a digest in full."""
    return _DIGEST.fullmatch(text) is not None


def image_id(text: str) -> str | None:
    """The id that the engine may take a text for, as `sha256:...`: an id, or the beginning of one. A short one is also the
    name of an image; which of them is meant depends on what images there are."""
    found = _ID.fullmatch(text)
    return None if found is None else f"sha256:{found[1]}"


def _full_name(name: str) -> str | None:
    first, slash, rest = name.partition("/")
    if first != first.lower() and not _is_host(first):
        return None
    host, path = (first, rest) if slash and _is_host(first) else (_HUB, name)
    host = _HUB if host == "index.docker.io" else host
    path = f"library/{path}" if host == _HUB and "/" not in path else path
    full = f"{host}/{path}"
    is_name = _HOST.fullmatch(host) and _PATH.fullmatch(path) and len(full) <= _NAME_CHARACTERS_MAX
    return full if is_name else None


def _is_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost"


def reference_globs(patterns: Iterable[str]) -> Globs:
    """Patterns of references, completed as references are: `*` crosses none of `/`, `:` and `@`. A tag that is `*` stands
    for any digest, too. Raises ValueError for one that no reference can fit."""
    patterns = tuple(patterns)
    for pattern in patterns:
        if parse_reference(_SIGNS.sub("a", pattern.partition("@")[0])) is None:
            raise ValueError(f"{shown(pattern)} fits no image: names have lower-case letters, and no scheme in front")
    completed = [full for pattern in patterns for full in complete_pattern(pattern)]
    return Globs(completed, "/:@")


def complete_pattern(pattern: str) -> Iterable[str]:
    """What a pattern is in full. One that begins with `**` or `sha256:` is in full already; one that ends with `**` goes on
    over tags and digests."""
    head, at, digest = pattern.partition("@")
    if not head.startswith(("**", "sha256:")):
        first, slash, rest = head.partition("/")
        host, path = (first, rest) if slash and _is_host(first) else (_HUB, head)
        host = _HUB if host == "index.docker.io" else host
        # `**` crosses slashes, so what begins with something and goes on with it is no official image alone.
        is_official = host == _HUB and "/" not in path and "**" not in path
        head = f"{host}/library/{path}" if is_official else f"{host}/{path}"
    name, colon, tag = _without_tag(head)
    if at:
        return [f"{name}@{digest}"]
    if not colon and not head.endswith("**"):
        return [f"{head}:{LATEST}"]
    return [head, f"{name}@**"] if tag == EVERY_TAG else [head]


def _without_tag(head: str) -> tuple[str, str, str]:
    """The name, a colon if there is a tag, and the tag."""
    name, colon, tag = head.rpartition(":")
    return (name, colon, tag) if colon and "/" not in tag else (head, "", "")
