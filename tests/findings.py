"""Findings of tests: what an engine would say that has these objects and no others."""

from collections.abc import Iterator, Mapping
from typing import Any

from sockproxy.judging.requirements.facts import Finding, Question

CONTAINER, OTHER, IMAGE_ID, NETWORK, EXEC = "c" * 64, "d" * 64, f"sha256:{'a' * 64}", "b" * 64, "e" * 64


class Engine(Mapping[Question, Finding]):
    """Findings for every question: what is not among the objects is not there, and of paths nobody can tell."""

    def __init__(self, objects: Mapping[tuple[str, str], Mapping[str, Any]] | None = None) -> None:
        self._objects = objects or {}

    def __contains__(self, question: object) -> bool:
        return isinstance(question, Question)

    def __getitem__(self, question: Question) -> Finding:
        data = self._objects.get((question.kind, question.name))
        if data is not None:
            return Finding(data)
        return Finding({}) if question.kind == "path" else Finding(absent=f"no such {question.kind}: {question.name}")

    def __iter__(self) -> Iterator[Question]:
        return (Question(kind, name) for kind, name in self._objects)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return max(len(self._objects), 1)


NOTHING_THERE = Engine()


def engine_with(there: Mapping[str, Mapping[str, Any]]) -> Engine:
    """One that has these: kind -> name -> what it says; of containers only what is not as usual."""
    objects = {(kind, name): data for kind, named in there.items() for name, data in named.items()}
    return Engine({key: container(**data) if key[0] == "container" else data for key, data in objects.items()})


def container(id: str = CONTAINER, **more: Any) -> dict[str, Any]:
    """What the engine says of a container, as far as anybody asks."""
    labels, image = more.pop("labels", {}), more.pop("image", "busybox")
    host = {"NetworkMode": "bridge", "IpcMode": "private", "PidMode": "", **more.pop("host", {})}
    networks = {name: {} for name in more.pop("networks", ["bridge"])}
    return {
        "Id": id,
        "Name": f"/{more.pop('name', 'web')}",
        "Config": {"Image": image, "Labels": labels, **more.pop("config", {})},
        "HostConfig": host,
        "Mounts": more.pop("mounts", []),
        "NetworkSettings": {"Networks": networks},
        **more,
    }


def volume(name: str, driver: str = "local", **options: str) -> dict[str, Any]:
    """What the engine says of a volume."""
    return {"Name": name, "Driver": driver, "Options": options or None, "Labels": None}
