"""`memory_max`, `cpus_max`, `pids_max`: how much of the host a container may take. Each has to be set, and be at most that.

Owns the fields and their units. Must not know how much the host has. Begin at `make_memory`. An update that does not name a
resource leaves it as it was judged when the container was made; one that lifts a limit fails.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.places import (
    CREATE,
    HOST,
    SERVICES,
    START,
    TASK,
    UPDATE,
    host_config,
    no_containers,
    task,
)
from sockproxy.judging.requirements.wording import shown

OPERATIONS = frozenset({CREATE, START, UPDATE, *SERVICES})

SIZE = r"[1-9][0-9]{0,14}(?:[bB]|[kKmMgGtT][iI]?[bB]?)?"
"""A size, as in 512MiB, or however else the docker command takes one."""

_SIZE = re.compile(SIZE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

_NANO = 10**9
_PERIOD = 100_000  # microseconds; what the kernel takes where a quota stands without a period


def parse_size(text: str) -> int:
    """Bytes of a size; raises ValueError for what is none."""
    if not _SIZE.fullmatch(text):
        raise ValueError(f"{shown(text)} is no size, as 512MiB is one")
    number = text.lower().rstrip("ib")
    unit = number.lstrip("0123456789")
    return int(number.removesuffix(unit)) * _UNITS[unit]


def make_memory(size: str, _others: Collection[str] = ()) -> Check:
    """That memory is limited. Swap may be as much again, which is what the engine takes where nothing is said of it."""
    bytes_max = parse_size(size)

    def check(facts: Facts) -> Unmet | None:
        for place, limits in _limits(facts):
            name = "MemoryBytes" if facts.operation_id in SERVICES else "Memory"
            if (unmet := _at_most(facts, place, limits, name, bytes_max, f"memory_max is {size}")) is not None:
                return unmet
            field, swap, swap_max = _swap(facts, place, limits, bytes_max)
            if not 0 <= swap <= swap_max:
                return Unmet(field, f"is {swap}; memory_max is {size}, and as much of swap")
        return no_containers(facts)

    return check


def _swap(facts: Facts, place: str, limits: Mapping[str, Any], bytes_max: int) -> tuple[str, int, int]:
    """The field of swap, its value and the greatest: a container's is that of memory and swap together."""
    if facts.operation_id in SERVICES:
        return f"{TASK}.Resources.SwapBytes", task(facts).get("Resources", {}).get("SwapBytes", 0), bytes_max
    return f"{place}MemorySwap", limits.get("MemorySwap", 0), 2 * bytes_max


def make_pids(pids_max: float, _others: Collection[str] = ()) -> Check:
    """That the number of processes is limited."""

    def check(facts: Facts) -> Unmet | None:
        for place, limits in _limits(facts):
            name = "Pids" if facts.operation_id in SERVICES else "PidsLimit"
            unmet = _at_most(facts, place, limits, name, pids_max, f"pids_max is {pids_max}", is_zero_a_change=True)
            if unmet is not None:
                return unmet
        return no_containers(facts)

    return check


def make_cpus(cpus_max: float, _others: Collection[str] = ()) -> Check:
    """That the time of CPUs is limited, in one of the two ways that there are."""
    nano_max = round(cpus_max * _NANO)
    allowed = f"cpus_max is {cpus_max:g}"

    def check(facts: Facts) -> Unmet | None:
        for place, limits in _limits(facts):
            if facts.operation_id in SERVICES:
                unmet = _at_most(facts, place, limits, "NanoCPUs", nano_max, allowed)
            elif limits.get("CpuQuota") or limits.get("CpuPeriod"):
                unmet = _quota(facts, place, limits, nano_max, allowed)
            else:
                unmet = _at_most(facts, place, limits, "NanoCpus", nano_max, allowed)
            if unmet is not None:
                return unmet
        return no_containers(facts)

    return check


def _limits(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The place of the limits and the limits, unless there is nothing to judge."""
    if facts.operation_id == UPDATE:
        yield "", facts.body
    elif facts.operation_id in SERVICES:
        yield f"{TASK}.Resources.Limits.", task(facts).get("Resources", {}).get("Limits", {})
    elif (config := host_config(facts)) is not None:
        yield f"{HOST}.", config


def _at_most(
    facts: Facts,
    place: str,
    limits: Mapping[str, Any],
    name: str,
    greatest: float,
    allowed: str,
    *,
    is_zero_a_change: bool = False,
) -> Unmet | None:
    value = limits.get(name, 0)
    is_named = name in limits if is_zero_a_change else value != 0
    if facts.operation_id == UPDATE and not is_named:
        return None
    if 0 < value <= greatest:
        return None
    return Unmet(place + name, f"is {value}; {allowed}" if is_named else f"is not set; {allowed}")


def _quota(facts: Facts, place: str, limits: Mapping[str, Any], nano_max: int, allowed: str) -> Unmet | None:
    """A quota of microseconds in each period. Beside it the other way is an error to the engine, so it may fail as well."""
    quota, period = limits.get("CpuQuota", 0), limits.get("CpuPeriod", 0)
    if limits.get("NanoCpus"):
        return Unmet(f"{place}NanoCpus", f"is set beside a CpuQuota or CpuPeriod; {allowed}")
    if facts.operation_id == UPDATE and not (quota and period):
        # The other one stays as it is, and what the two come to is not known.
        return Unmet(
            f"{place}CpuQuota", f"is {quota} and CpuPeriod {period}, of which an update has to name both; {allowed}"
        )
    if quota <= 0 or period < 0:
        return Unmet(f"{place}CpuQuota", f"is {quota}; {allowed}" if quota else f"is not set; {allowed}")
    if quota * _NANO > nano_max * (period or _PERIOD):
        return Unmet(f"{place}CpuQuota", f"is {quota} in {period or _PERIOD} us; {allowed}")
    return None


MEMORY_KIND = Kind(OPERATIONS, make_memory)
CPUS_KIND = Kind(OPERATIONS, make_cpus)
PIDS_KIND = Kind(OPERATIONS, make_pids)
