"""What trails tell, counted: who did what, how often, what was denied, when it was first and last seen.

Owns what is counted, and by what. Must not know files (`trail` and `operating.querying` read them). Begin at `TABLES`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from sockproxy.recording.event import BAD_REQUEST, Event
from sockproxy.recording.trail import operation_of, principal_of

Key = tuple[str, ...]


class Alike(NamedTuple):
    """Events that differ in nothing that is counted: one of them, how many they are, and what their bytes come to."""

    event: Event
    times: int
    first_time: str
    last_time: str
    bytes_in: int
    bytes_out: int


class Counting(NamedTuple):
    """A table of a summary: what it counts by, and which requests it counts."""

    columns: tuple[str, ...]
    key: Callable[[Event], Key]
    counts: Callable[[Event], bool]


def _text(event: Event, name: str, otherwise: str = "") -> str:
    value = event[name]
    return otherwise if value in (None, "") else str(value)


def _denial(event: Event) -> Key:
    return (operation_of(event), _text(event, "policy", "none"), _text(event, "reason"))


def _is_counted(event: Event) -> bool:
    return event["stage"] == "decided" or event["reason"] == BAD_REQUEST


TABLES: Mapping[str, Counting] = MappingProxyType(
    {
        "operations": Counting(
            ("operation", "effect"), lambda event: (operation_of(event), _text(event, "effect")), _is_counted
        ),
        "denials": Counting(
            ("operation", "policy", "reason"), _denial, lambda event: _is_counted(event) and event["effect"] == "deny"
        ),
        "shadow_denials": Counting(
            ("operation", "policy", "reason"), _denial, lambda event: _is_counted(event) and event["shadow"] == "deny"
        ),
        "principals": Counting(
            ("principal", "effect"), lambda event: (principal_of(event), _text(event, "effect")), _is_counted
        ),
        "actions": Counting(
            ("principal", "operation", "effect"),
            lambda event: (principal_of(event), operation_of(event), _text(event, "effect")),
            _is_counted,
        ),
        "listeners": Counting(("listener",), lambda event: (_text(event, "listener"),), _is_counted),
        "policies": Counting(("policy",), lambda event: (_text(event, "policy", "none"),), _is_counted),
        "statuses": Counting(
            ("status",), lambda event: (_text(event, "status", "none"),), lambda event: event["stage"] == "completed"
        ),
        "effects": Counting(("effect",), lambda event: (_text(event, "effect"),), _is_counted),
    }
)
"""What is counted. A request counts once: by its decision, or as one that could not be read. "none" is the policy of the
latter, and the status where the client got no answer."""


@dataclass(slots=True)
class Count:
    """How many requests, and when the first and the last of them came (RFC 3339)."""

    requests: int = 0
    first_time: str = ""
    last_time: str = ""

    def add(self, alike: Alike) -> None:
        """Some more."""
        self.requests += alike.times
        self.first_time = min(self.first_time or alike.first_time, alike.first_time)
        self.last_time = max(self.last_time, alike.last_time)


@dataclass(slots=True)
class Summary:
    """What was counted. `lines`: all events; `requests`: what the tables count."""

    lines: Count = field(default_factory=Count)
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    tables: dict[str, dict[Key, Count]] = field(default_factory=lambda: {name: {} for name in TABLES})

    def most_first(self, name: str) -> list[tuple[Key, Count]]:
        """The rows of a table, those with the most requests first."""
        return sorted(self.tables[name].items(), key=lambda row: (-row[1].requests, row[0]))


def alone(event: Event) -> Alike:
    """An event that is counted by itself."""
    time, bytes_in, bytes_out = str(event["time"]), event["bytes_in"], event["bytes_out"]
    return Alike(
        *(event, 1, time, time),
        bytes_in if isinstance(bytes_in, int) else 0,
        bytes_out if isinstance(bytes_out, int) else 0,
    )


def summarise(events: Iterable[Alike]) -> Summary:
    """Counts events."""
    summary = Summary()
    for alike in events:
        event = alike.event
        summary.lines.add(alike)
        summary.requests += alike.times if _is_counted(event) else 0
        summary.bytes_in += alike.bytes_in
        summary.bytes_out += alike.bytes_out
        for name, counting in TABLES.items():
            if counting.counts(event):
                summary.tables[name].setdefault(counting.key(event), Count()).add(alike)
    return summary
