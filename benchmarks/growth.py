"""How the cost of a request grows with the work: rules in a policy, open connections, bytes of a body.

Owns what grows (`PANELS`), by which steps, and the order of measuring: in each round each step goes over all proxies
before the next one begins. A step has a fresh proxy each time, so that none carries what the last one left. Must not know
how it is drawn (`picture`). Begin at `measure`.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks import load, processes, report
from benchmarks.contest import Tell, arena, undisturbed
from benchmarks.proxies import BASELINE, Subject, check_installed, version
from benchmarks.scenarios import cost

KIB, MIB = 1 << 10, 1 << 20
PROXIES = ("sockproxy", BASELINE)
_IN_TURN = 16  # requests under way at a time: enough that a proxy is busy, few enough that none is made to wait
_CONNECTIONS_SPARE = 200  # beside the clients
_WARM_SHARE = 0.25
_DIGITS = 4  # of a number that is kept


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: one for a first look, one for the picture that is published."""

    rounds: int
    seconds: float  # of one step of one curve on one proxy


QUICK = Effort(1, 0.15)
FULL = Effort(5, 0.4)

Curves = dict[str, float]
"""A curve's name without its proxy ("" for a proxy's only one) -> what it is at this step, in microseconds of CPU."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What grows. `steps` may be cut off by what the machine has; `measure` gives the curves of a running proxy."""

    title: str
    unit: str  # of a step: what stands at the axis
    steps: tuple[int, ...]
    measure: Callable[[Subject, int, float], Curves]
    has_rules: bool = False  # a step is the number of a proxy's rules


# The numbers of names that no proxy has seen; one for all, so that none is made twice.
_numbers = itertools.count()


def _unseen() -> Iterator[bytes]:
    while True:
        yield load.request("GET", f"/containers/shop-cart-{next(_numbers):09}/json")


def _of_rules(subject: Subject, step: int, seconds: float) -> Curves:
    """A small GET that was seen before; for sockproxy, which remembers such, one that was not as well."""
    known = _keep_alive(subject, _IN_TURN, seconds, iter([load.LIST]))
    if subject.name != "sockproxy":
        return {"": known}
    return {"seen before": known, "never seen": _keep_alive(subject, _IN_TURN, seconds, _unseen())}


def _of_connections(subject: Subject, step: int, seconds: float) -> Curves:
    """A small GET, on each of so many connections in turn."""
    return {"": _keep_alive(subject, step, seconds, iter([load.LIST]))}


def _keep_alive(subject: Subject, connections: int, seconds: float, heads: Iterator[bytes]) -> float:
    with load.KeepAlive(subject.path, connections, heads, _IN_TURN) as clients:
        clients.run(seconds * _WARM_SHARE)
        return cost(subject, partial(clients.run, seconds))["cpu"]


def _of_bytes(subject: Subject, step: int, seconds: float) -> Curves:
    """A download, one after the other on one connection."""
    curves = {}
    for framing in ("length", "chunked"):
        load.download_again(framing, subject.path, step, seconds * _WARM_SHARE)
        curves[framing] = cost(subject, partial(load.download_again, framing, subject.path, step, seconds))["cpu"]
    return curves


PANELS: dict[str, Panel] = {
    "rules": Panel("Rules", "rules in the policy", (1, 10, 100, 1000, 10_000), _of_rules, has_rules=True),
    "connections": Panel("Connections", "open connections", (1, 10, 100, 1000, 10_000), _of_connections),
    "bytes": Panel(
        "Bodies", "bytes downloaded", tuple(KIB << shift for shift in (0, 3, 6, 8, 10, 12, 14, 16, 18)), _of_bytes
    ),
}


def measure(effort: Effort, tell: Tell) -> dict[str, object]:
    """All curves, with what they were measured on; `tell` gets a line of progress for each step. Raises Missing, and
    RuntimeError with who failed at what."""
    check_installed(PROXIES)
    steps = [(key, step) for key in PANELS for step in _steps(key)]
    rounds: dict[str, dict[str, dict[int, list[float]]]] = {key: {} for key in PANELS}
    begun = time.perf_counter()
    with arena(PROXIES) as subjects, undisturbed():
        for number in range(effort.rounds):
            order = subjects if number % 2 == 0 else subjects[::-1]
            for key, step in steps:
                taken = time.perf_counter() - begun
                tell(f"{taken:5.0f} s  round {number + 1} of {effort.rounds}  {step:,} {PANELS[key].unit}")
                for subject in order:
                    for name, value in _measure(PANELS[key], subject, step, effort.seconds).items():
                        rounds[key].setdefault(name, {}).setdefault(step, []).append(value)
    return _document(effort, rounds)


def _steps(key: str) -> tuple[int, ...]:
    """The steps of a panel, with no more connections than there can be descriptors."""
    steps = PANELS[key].steps
    if key != "connections":
        return steps
    most = processes.connections_max() - _CONNECTIONS_SPARE
    return tuple(sorted({min(step, most) for step in steps}))


def _measure(panel: Panel, running: Subject, step: int, seconds: float) -> Curves:
    """The curves of a fresh proxy of that kind at one step, by their whole names."""
    try:
        with running.another(step if panel.has_rules else None) as fresh:
            curves = panel.measure(fresh, step, seconds)
    except (OSError, load.WrongAnswer) as failure:
        raise RuntimeError(f"{running.name} failed at {step} {panel.unit}: {failure}") from failure
    return {f"{running.name} {name}".strip(): value for name, value in curves.items()}


def _document(effort: Effort, rounds: Mapping[str, Mapping[str, Mapping[int, list[float]]]]) -> dict[str, object]:
    """What is kept: for each curve its steps, and at each of them the median and all rounds."""
    return {
        "machine": report.machine(),
        "versions": {name: version(name) for name in PROXIES},
        "rounds": effort.rounds,
        "unit": "microseconds of CPU a request",
        "panels": {
            key: {
                name: [
                    [step, _short(median(values)), [_short(value) for value in values]] for step, values in at.items()
                ]
                for name, at in curves.items()
            }
            for key, curves in rounds.items()
        },
    }


def as_text(numbers: Mapping[str, object]) -> str:
    """As JSON, a line a step."""
    text = json.dumps(numbers, indent=1)
    return re.sub(r"\[[^][]*(?:\[[^][]*\][^][]*)?\]", lambda found: " ".join(found[0].split()), text) + "\n"


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
