"""How images look, as the JSON documents of the API.

Owns the shapes, which are those of dockerd 20.10 (API 1.41). Reads `state` and changes nothing. Must not know HTTP.
"""

from sockproxy.operating.demo.objects.images import Image, environment_of
from sockproxy.operating.demo.objects.state import Json, State
from sockproxy.operating.demo.objects.times import SECOND_NS, rfc3339

IMAGES_CREATED_NS = 1_714_521_600 * SECOND_NS  # all imagined images are of 2024-05-01
_EMPTY_CONFIG: Json = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
}  # fmt: skip


def image_names(state: State, image: Image) -> list[str]:
    """The tags of an image."""
    return [str(reference) for reference, id in state.tags.items() if id == image.id]


def image_digests(state: State, image: Image) -> list[str]:
    repositories = dict.fromkeys(reference.repository for reference, id in state.tags.items() if id == image.id)
    return [f"{repository}@{image.digest}" for repository in repositories]


def image_summary(state: State, image: Image, *, counts_containers: bool = False) -> Json:
    """One entry of the list."""
    return {
        "Containers": len(state.containers_of(image)) if counts_containers else -1,
        "Created": IMAGES_CREATED_NS // SECOND_NS,
        "Id": image.id,
        "Labels": None,
        "ParentId": "",
        "RepoDigests": image_digests(state, image) or None,
        "RepoTags": image_names(state, image) or None,
        "SharedSize": 0 if counts_containers else -1,
        "Size": image.kind.size_bytes,
        "VirtualSize": image.kind.size_bytes,
    }


def image_document(state: State, image: Image) -> Json:
    """The answer of an image's inspect."""
    return {
        "Id": image.id,
        "RepoTags": image_names(state, image),
        "RepoDigests": image_digests(state, image),
        "Parent": "",
        "Comment": "",
        "Created": rfc3339(IMAGES_CREATED_NS),
        "Container": "",
        "ContainerConfig": _EMPTY_CONFIG,
        "DockerVersion": "",
        "Author": "",
        "Config": image_config(image),
        "Architecture": "amd64",
        "Os": "linux",
        "Size": image.kind.size_bytes,
        "VirtualSize": image.kind.size_bytes,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(image.layers)},
        "Metadata": {"LastTagTime": rfc3339(IMAGES_CREATED_NS)},
    }


def image_config(image: Image) -> Json:
    kind = image.kind
    found: Json = {
        **_EMPTY_CONFIG,
        "Env": environment_of(kind),
        "Cmd": list(kind.command) or None,
        "Entrypoint": list(kind.entrypoint) or None,
        "Volumes": {path: {} for path in kind.volumes} or None,
    }
    found |= {"ExposedPorts": {port: {} for port in kind.ports}} if kind.ports else {}
    return found | ({"StopSignal": kind.stop_signal} if kind.stop_signal else {})


def image_history(state: State, image: Image) -> list[Json]:
    """The layers, the newest first, with what is only written into the configuration at the top."""

    def entry(id: str, text: str, size: int, names: list[str] | None) -> Json:
        return {
            "Comment": "",
            "Created": IMAGES_CREATED_NS // SECOND_NS,
            "CreatedBy": text,
            "Id": id,
            "Size": size,
            "Tags": names,
        }

    command = " ".join(f'"{word}"' for word in image.kind.command or image.kind.entrypoint)
    top = entry(image.id, f"/bin/sh -c #(nop)  CMD [{command}]", 0, image_names(state, image) or None)
    share = image.kind.size_bytes // len(image.layers)
    rest = image.kind.size_bytes - share * (len(image.layers) - 1)
    sizes = [rest, *[share] * (len(image.layers) - 1)]
    layers = [
        entry("<missing>", f"/bin/sh -c #(nop) ADD file:{layer[7:19]} in / ", size, None)
        for layer, size in zip(reversed(image.layers), sizes, strict=True)
    ]
    return [top, *layers]
