"""What the engine says of an object, read strictly: its id, labels, names and image.

Owns where these stand in the answers of the engine's inspect requests. Must not know requests nor what is required. Begin at
`Object`. Whatever is not of its type raises, which denies.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sockproxy.judging.requirements.facts import Facts, Finding, QuestionKind

_IDS: Mapping[str, re.Pattern[str]] = {
    "container": re.compile(r"[a-f0-9]{64}"),
    "exec": re.compile(r"[a-f0-9]{64}"),
    "image": re.compile(r"sha256:[a-f0-9]{64}"),
    "network": re.compile(r"[a-z0-9]{25,64}"),  # swarm's have 25
}


class Object(NamedTuple):
    """One that is there."""

    kind: QuestionKind
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its whole id; "" for a volume, which has none but its name."""
        if self.kind == "volume":
            return ""
        given = self.data["ID" if self.kind == "exec" else "Id"]
        if _IDS[self.kind].fullmatch(given) is None:
            raise ValueError("no id")
        return str(given)

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels; an image's are those that its containers get."""
        holder = self.data["Config"] if self.kind in ("container", "image") else self.data
        return texts((holder or {}).get("Labels"))

    @property
    def name(self) -> str:
        """Its one name, of a container without the slash in front; "" for an image, which has several."""
        name = "" if self.kind == "image" else self.data["Name"]
        if not isinstance(name, str):
            raise TypeError("no name")
        return name.removeprefix("/")


def container_of(facts: Facts, exec_id: str) -> Finding:
    """What is known of the container that an exec instance belongs to."""
    finding = facts.ask("exec", exec_id)
    return finding if finding.data is None else facts.ask("container", text(finding.data, "ContainerID"))


def text(data: Mapping[str, Any], name: str) -> str:
    """A text that has to be there."""
    value = data[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def texts(value: Any) -> Mapping[str, str]:
    """A map of texts; null is an empty one, as Go has it."""
    given = {} if value is None else value
    if not isinstance(given, dict) or not all(isinstance(one, str) for one in given.values()):
        raise TypeError("no map of texts")
    return given


def objects(value: Any) -> list[Mapping[str, Any]]:
    """A list of objects; null is an empty one."""
    given = [] if value is None else value
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise TypeError("no list of objects")
    return given
