"""What requests have asked for, as the least that a rule would have to allow.

Owns which requirements can be learnt of requests, and when one of their values says what another says already. Must not know
records, nor how a policy is written. Begin at `SEEN`. What a request names is read by the subjects themselves, so that what
is learnt is what is asked.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from sockproxy.judging.requirements import bind_sources, capabilities, images, networks
from sockproxy.judging.requirements.facts import Facts, Kind
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.references import reference_globs


class Seen(NamedTuple):
    """A requirement that can be learnt. `values`: of one request, patterns that allow just that; raises ValueError where there
    are none. `fit`: whether patterns allow a value."""

    kind: Kind
    values: Callable[[Facts], Iterable[str]]
    fit: Callable[[Collection[str], str], bool]


SEEN: Mapping[str, Seen] = {
    "images": Seen(
        images.KIND,
        images.seen_images,
        lambda patterns, value: reference_globs(patterns).fit(value),
    ),
    "bind_sources": Seen(
        bind_sources.KIND,
        lambda facts: map(_literal, bind_sources.seen_paths(facts)),
        lambda patterns, value: bind_sources.path_globs(patterns).fit(value),
    ),
    "networks": Seen(
        networks.KIND,
        lambda facts: map(_literal, networks.seen_networks(facts)),
        lambda patterns, value: Globs(patterns).fit(value),
    ),
    "capabilities": Seen(
        capabilities.KIND,
        capabilities.seen_capabilities,
        lambda patterns, value: value in patterns or capabilities.ALL in patterns,
    ),
}
"""Key of `require:` -> how it is learnt."""


def _literal(value: str) -> str:
    """A pattern that allows a value and little else: there is no way to write a sign of patterns as itself."""
    return value.replace("*", "?")


def least(key: str, values: Iterable[str]) -> list[str]:
    """These values without those that the others allow already."""
    kept = sorted(set(values))
    for value in tuple(kept):
        others = [one for one in kept if one != value]
        if others and SEEN[key].fit(others, value):
            kept = others
    return kept
