"""Images of the demo: which can be pulled, what is in them, and how a reference is read.

Owns the imagined registry (`KINDS`) and the grammar of references (distribution's `reference`, as far as clients use it).
Values only: what is present on the engine is `state`'s. Begin at `imagine`.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REPOSITORY = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*", re.ASCII
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_REPOSITORY_CHARACTERS_MAX = 255
_HOME_OF_OFFICIAL = "docker.io/library/"


class Reference(NamedTuple):
    """`busybox:latest`; `digest` is used instead of the tag where there is one."""

    repository: str
    tag: str
    digest: str

    @property
    def path(self) -> str:
        """The repository's name within its registry."""
        host, _, rest = self.repository.partition("/")
        if rest and (host == "localhost" or "." in host or ":" in host):
            return rest
        return self.repository if rest else f"library/{self.repository}"

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


class Kind(NamedTuple):
    """What all tags of a repository have in common. `programs` is a key of `servers.PROGRAMS`."""

    programs: str
    size_bytes: int
    command: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""


_SH = ("sh",)
_BASH = ("bash",)
KINDS: dict[str, Kind] = {
    "alpine": Kind("busybox", 7_800_000, ("/bin/sh",)),
    "busybox": Kind("busybox", 4_261_550, _SH),
    "debian": Kind("busybox", 116_600_000, _BASH),
    "hello-world": Kind("hello", 13_256, ("/hello",)),
    "httpd": Kind("server", 147_500_000, ("httpd-foreground",), ports=("80/tcp",), stop_signal="SIGWINCH"),
    "nginx": Kind(
        "nginx",
        43_200_000,
        ("nginx", "-g", "daemon off;"),
        ("/docker-entrypoint.sh",),
        ("NGINX_VERSION=1.27.0",),
        ("80/tcp",),
        stop_signal="SIGQUIT",
    ),
    "pause": Kind("pause", 745_000, (), ("/pause",)),
    "pause-amd64": Kind("pause", 745_000, (), ("/pause",)),
    "postgres": Kind(
        "server",
        247_000_000,
        ("postgres",),
        (),
        ("PGDATA=/var/lib/postgresql/data",),
        ("5432/tcp",),
        ("/var/lib/postgresql/data",),
        "SIGINT",
    ),
    "python": Kind("busybox", 131_000_000, _BASH, environment=("PYTHON_VERSION=3.11.7",)),
    "redis": Kind("redis", 41_700_000, ("redis-server",), (), ("REDIS_VERSION=7.2.4",), ("6379/tcp",), ("/data",)),
    "ubuntu": Kind("busybox", 77_900_000, _BASH),
}
"""The imagined registry: by the last part of the repository's name, so that any registry's busybox is found."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as pulled: the same reference gives the same id on every engine of the demo."""

    id: str
    kind: Kind
    digest: str
    layers: tuple[str, ...]
    files: Mapping[str, bytes]


def parse_reference(text: str) -> Reference:
    """Reads `name`, `name:tag` or `name@digest`; without a tag it is `latest`. Raises ValueError with the engine's words."""
    name, _, digest = text.removeprefix(_HOME_OF_OFFICIAL).partition("@")
    repository, tag = name, "latest"
    if ":" in name.rpartition("/")[2]:
        repository, _, tag = name.rpartition(":")
    if repository.lower() != repository and _REPOSITORY.fullmatch(repository.lower()):
        raise ValueError("invalid reference format: repository name must be lowercase")
    is_name = len(repository) <= _REPOSITORY_CHARACTERS_MAX and _REPOSITORY.fullmatch(repository)
    if not is_name or not _TAG.fullmatch(tag) or (digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)):
        raise ValueError("invalid reference format")
    return Reference(repository, tag, digest)


def imagine(reference: Reference) -> Image | None:
    """The image that the registry has under a reference, or None."""
    kind = KINDS.get(reference.repository.rpartition("/")[2])
    if kind is None:
        return None
    seed = f"{kind.programs} {reference}"
    layers = tuple(
        f"sha256:{_hash(f'{seed} layer {number}')}" for number in range(3 if kind.size_bytes > 10_000_000 else 1)
    )
    return Image(
        f"sha256:{_hash(f'{seed} id')}", kind, f"sha256:{_hash(f'{seed} digest')}", layers, _files(reference, kind)
    )


def _files(reference: Reference, kind: Kind) -> dict[str, bytes]:
    name = reference.repository.rpartition("/")[2]
    files = {
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "/etc/group": b"root:x:0:\n",
        "/etc/os-release": f'NAME="{name} (imagined)"\nID={name}\nVERSION_ID={reference.tag}\n'.encode(),
    }
    if kind.programs == "nginx":
        files["/etc/nginx/nginx.conf"] = b"events {}\nhttp { server { listen 80; root /usr/share/nginx/html; } }\n"
        files["/usr/share/nginx/html/index.html"] = b"<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n"
    return files


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def environment_of(kind: Kind) -> list[str]:
    """The image's Env."""
    return [_PATH, *kind.environment]
