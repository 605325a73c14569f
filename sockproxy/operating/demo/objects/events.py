"""What has happened on the engine, as `GET /events` tells it.

Owns the shape of an event, how many are kept, and the filters. Must not know who listens, nor HTTP.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sockproxy.operating.demo.programs.pipes import Bell

FILTERS = frozenset({"type", "event", "container", "image", "label", "network", "volume", "scope", "daemon", "exec"})
"""The keys of `filters` that the demo knows; any other matches nothing, as with the engine."""


class Event(NamedTuple):
    """One event. `number` counts from 1 for ever."""

    number: int
    time_ns: int
    kind: str
    action: str
    id: str
    attributes: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """The event as the engine writes it, with the keys of before API 1.22 for containers and images."""
        old = {"status": self.action, "id": self.id} if self.kind in ("container", "image") else {}
        if self.kind == "container" and "image" in self.attributes:
            old["from"] = self.attributes["image"]
        return {
            **old,
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": "local",
            "time": self.time_ns // 1_000_000_000,
            "timeNano": self.time_ns,
        }

    def matches(self, filters: Mapping[str, frozenset[str]]) -> bool:
        """Whether each filter has a value that fits."""
        return all(
            key in FILTERS and any(self._fits(key, value) for value in values) for key, values in filters.items()
        )

    def _fits(self, key: str, value: str) -> bool:
        if key == "type":
            return value == self.kind
        if key == "event":
            return value in (self.action, self.action.partition(":")[0])
        if key == "scope":
            return value == "local"
        if key == "label":
            name, has_value, wanted = value.partition("=")
            return name in self.attributes and (not has_value or self.attributes[name] == wanted)
        if key == "image" and self.kind == "container":
            return value in (self.attributes.get("image", ""), self.attributes.get("image", "").partition(":")[0])
        names = (self.id, self.attributes.get("name", ""))
        return key == self.kind and (value in names or (len(value) >= 4 and self.id.startswith(value)))


class EventLog:
    """The last events in order. `bell` rings for a new one; a listener that falls behind the bound misses some."""

    def __init__(self, events_max: int, clock: Callable[[], int]) -> None:
        self._events: deque[Event] = deque(maxlen=events_max)
        self._clock = clock
        self.last_number = 0
        self.bell = Bell()

    def add(self, kind: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        self.last_number += 1
        self._events.append(Event(self.last_number, self._clock(), kind, action, id, attributes))
        self.bell.ring()

    def after(self, number: int) -> list[Event]:
        return [event for event in self._events if event.number > number]
