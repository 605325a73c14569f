"""The catalogue and the bodies' types that come with sockproxy, made once in a process.

Policies are compiled by it when a configuration is read, requests are named by it, and each reload reads a configuration
again. Must not know any of them. Begin at `load_catalogue`.
"""

from functools import cache

from sockproxy.data import load_bodies, load_docker_releases, load_operations
from sockproxy.judging.catalogue import ApiVersion, Catalogue
from sockproxy.judging.payload import Bodies


@cache
def load_catalogue() -> Catalogue:
    """The catalogue of all known operations: it does not change, and making it takes 6 ms."""
    return Catalogue(load_operations())


@cache
def load_known_bodies() -> Bodies:
    """The types of all requests' bodies: they do not change either."""
    return Bodies(*load_bodies())


def newest_api() -> ApiVersion:
    """The newest API version of a known Docker release."""
    return max(ApiVersion.parse(release["api_version"]) for release in load_docker_releases())
