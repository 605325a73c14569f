"""The files of a container: an image's below, what the container wrote above.

Owns path arithmetic, the bound on what is written, and the difference that `docker diff` shows. Knows regular files and
directories only. Must not know tar (`api.archive`) nor who writes.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

Kind = Literal["file", "directory"]

STANDARD_DIRECTORIES = ("/bin", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/usr", "/var")  # noqa: S108 - names in an imagined file system
FILES_MAX = 2000  # written ones; every look goes through all of them


class Change(NamedTuple):
    """One line of `docker diff`: kind 0 is changed, 1 added, 2 removed."""

    path: str
    kind: int


class Files:
    """Paths are absolute and clean; `resolve` makes them so."""

    __slots__ = ("_bytes_max", "_directories", "_lower", "_removed", "_written")

    def __init__(self, lower: Mapping[str, bytes], bytes_max: int) -> None:
        self._lower = lower
        self._bytes_max = bytes_max
        self._written: dict[str, bytes] = {}
        self._directories: set[str] = set()
        self._removed: set[str] = set()

    def kind(self, path: str) -> Kind | None:
        if path in self._all():
            return "file"
        return "directory" if path in self._all_directories() else None

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError or IsADirectoryError."""
        content = self._all().get(path)
        if content is not None:
            return content
        if self.kind(path) == "directory":
            raise IsADirectoryError(path)
        raise FileNotFoundError(path)

    def write(self, path: str, content: bytes) -> None:
        """Raises FileNotFoundError without its directory, IsADirectoryError, or OSError where the container is full."""
        if self.kind(path) == "directory":
            raise IsADirectoryError(path)
        if self.kind(posixpath.dirname(path)) != "directory":
            raise FileNotFoundError(path)
        others = sum(len(other) + len(name) for name, other in self._written.items() if name != path)
        if others + len(content) + len(path) > self._bytes_max or len(self._written) >= FILES_MAX:
            raise OSError("No space left on device")
        self._written[path] = content
        self._removed.discard(path)

    def make_directory(self, path: str) -> None:
        """Makes the missing ones above it, too. Raises FileExistsError where a file is in the way, or OSError."""
        for parent in _parents(path, including_itself=True):
            if self.kind(parent) == "file":
                raise FileExistsError(path)
            if len(self._directories) >= FILES_MAX:
                raise OSError("No space left on device")
            if self.kind(parent) is None:
                self._directories.add(parent)
                self._removed.discard(parent)

    def remove(self, path: str) -> None:
        """Removes a file, or a directory with all below. Raises FileNotFoundError."""
        if self.kind(path) is None:
            raise FileNotFoundError(path)
        inside = {name for name in (*self._all(), *self._all_directories()) if f"{name}/".startswith(f"{path}/")}
        self._removed |= inside & {*self._lower, *_directories_of(self._lower)}
        self._directories -= inside
        for name in inside:
            self._written.pop(name, None)

    def names(self, directory: str) -> list[str]:
        """What a directory holds, sorted."""
        prefix = "/" if directory == "/" else f"{directory}/"
        found = {*self._all(), *self._all_directories()}
        return sorted(
            {name[len(prefix) :].split("/")[0] for name in found if name.startswith(prefix) and name != prefix}
        )

    def below(self, path: str) -> Iterator[str]:
        """All files at or below a path, sorted."""
        return iter(sorted(name for name in self._all() if path == "/" or f"{name}/".startswith(f"{path}/")))

    def changes(self) -> list[Change]:
        """What differs from the image, sorted, with the directories above marked as changed."""
        kinds = {path: 0 if path in self._lower else 1 for path in self._written}
        kinds.update(dict.fromkeys(self._directories, 1))
        kinds.update(dict.fromkeys(self._removed, 2))
        for path in tuple(kinds):
            for parent in _parents(path, including_itself=False):
                if parent != "/":
                    kinds.setdefault(parent, 0)
        return [Change(path, kinds[path]) for path in sorted(kinds)]

    @property
    def written_bytes(self) -> int:
        return sum(map(len, self._written.values()))

    @property
    def all_bytes(self) -> int:
        return sum(map(len, self._all().values()))

    def _all(self) -> dict[str, bytes]:
        below = {path: content for path, content in self._lower.items() if path not in self._removed}
        return {**below, **self._written}

    def _all_directories(self) -> set[str]:
        lower = {*STANDARD_DIRECTORIES, *_directories_of(self._lower)} - self._removed
        return {"/", *lower, *_directories_of(self._written), *self._directories}


def resolve(directory: str, path: str) -> str:
    """The clean absolute path that a name means, seen from a directory; it never leaves the root."""
    clean = posixpath.normpath(posixpath.join(directory, path))
    return "/" + clean.lstrip("/")


def _directories_of(paths: Iterable[str]) -> set[str]:
    return {parent for path in paths for parent in _parents(path, including_itself=False)}


def _parents(path: str, *, including_itself: bool) -> list[str]:
    parts = path.strip("/").split("/")
    last = len(parts) if including_itself else len(parts) - 1
    return ["/" + "/".join(parts[:count]) for count in range(1, last + 1)]
