"""The one run: every scenario on every proxy in turn, round after round.

Owns the order: in each round a scenario goes over all proxies before the next one begins, and each round begins with
another proxy, so that whatever the machine does meanwhile meets all of them alike. Must not know what the numbers
mean. Begin at `run`.
"""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import load, processes
from benchmarks.proxies import Subject, end, start, wait_for_answer
from benchmarks.scenarios import SCENARIOS, Effort, Numbers

# scenario -> proxy -> the numbers of each round
Results = dict[str, dict[str, list[Numbers]]]
Tell = Callable[[str], None]


@contextmanager
def arena(names: tuple[str, ...]) -> Iterator[list[Subject]]:
    """The null engine and a running proxy of each name before it, in a directory that is removed at the end."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sockproxy-bench-")))
        own = processes.cpu_places()[1]
        engine = directory / "engine.sock"
        command = [sys.executable, "-m", "benchmarks.engine", str(engine)]
        process = start(command, directory / "engine.output", own)
        stack.callback(end, process)
        wait_for_answer(process, str(engine), directory / "engine.output")
        yield [stack.enter_context(Subject(name, directory / name, engine)) for name in names]


def run(names: tuple[str, ...], scenarios: tuple[str, ...], effort: Effort, tell: Tell) -> Results:
    """Measure; `tell` gets a line of progress now and then."""
    results: Results = {scenario: {name: [] for name in names} for scenario in scenarios}
    begun = time.perf_counter()
    with arena(names) as subjects, undisturbed():
        for number in range(effort.rounds):
            first = number % len(subjects)
            order = subjects[first:] + subjects[:first]
            for scenario in _due(scenarios, number, effort):
                tell(f"{time.perf_counter() - begun:5.0f} s  round {number + 1} of {effort.rounds}  {scenario}")
                for subject in order:
                    if subject.name not in SCENARIOS[scenario].lacking:
                        results[scenario][subject.name].append(_measure(scenario, subject, effort))
    return results


def _measure(scenario: str, subject: Subject, effort: Effort) -> Numbers:
    """One scenario on one proxy. Raises RuntimeError, with who failed at what, if a request got no right answer."""
    subject.empty_records()
    held = subject.descriptors()
    try:
        return SCENARIOS[scenario].run(subject, effort) | {"descriptors": held}
    except (OSError, load.WrongAnswer) as failure:
        raise RuntimeError(f"{subject.name} failed at {scenario}: {failure}") from failure


def _due(scenarios: tuple[str, ...], number: int, effort: Effort) -> list[str]:
    return [name for name in scenarios if number < effort.rare_rounds or not SCENARIOS[name].is_rare]


@contextmanager
def undisturbed() -> Iterator[None]:
    """This process, the load: off the proxies' CPU, and without a garbage collector that makes pauses."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processes.cpu_places()[1])
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        os.sched_setaffinity(0, before)
