"""`python -m benchmarks`: measure, print the table, and keep it with all numbers in a directory.

With --growth, the picture of the README instead, and its numbers. The table goes to standard output, progress to standard
error. Exit codes: 0 done, 1 a proxy did not work, 2 usage, or
something is not installed.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import contest, growth, load, picture, processes, report, syscalls
from benchmarks.proxies import PROXIES, Missing, check_installed
from benchmarks.scenarios import FULL, QUICK, SCENARIOS, Effort

_USUAL = tuple(name for name in PROXIES if name != "sockproxy-everything")
_CONNECTIONS_SPARE = 200  # beside the idle streams
_NUMBERS = "cost.json"


def _some_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A type for argparse: names with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return parse


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare sockproxy with other proxies, side by side."
    )
    parser.add_argument(
        "--quick", action="store_true", help="less than a minute, for a first look; figures vary by a tenth"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often everything is measured")
    parser.add_argument(
        "--only",
        type=_some_of(tuple(SCENARIOS)),
        default=tuple(SCENARIOS),
        metavar="NAME,...",
        help=f"of {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--proxies", type=_some_of(tuple(PROXIES)), default=_USUAL, metavar="NAME,...", help=f"of {', '.join(PROXIES)}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("run/bench"), metavar="DIR", help="for table and numbers (run/bench)"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--syscalls", action="store_true", help="count system calls for each request by strace instead"
    )
    instead.add_argument(
        "--growth",
        action="store_true",
        help="measure how the cost grows with the work instead, and draw it: cost.json, cost.svg in DIR; five minutes",
    )
    instead.add_argument("--redraw", action="store_true", help="draw cost.svg of the cost.json in DIR anew instead")
    return parser.parse_args()


def _effort(options: argparse.Namespace) -> Effort:
    """How much to do, with no more idle streams than there can be descriptors."""
    effort = QUICK if options.quick else FULL
    streams_max = processes.connections_max() - _CONNECTIONS_SPARE
    streams = tuple(sorted({min(count, streams_max) for count in effort.idle_streams}))
    return replace(effort, idle_streams=streams, rounds=options.rounds or effort.rounds)


def _measure(options: argparse.Namespace) -> str:
    """Run, keep the results, and give the table."""
    check_installed(options.proxies)
    effort = _effort(options)
    results = contest.run(options.proxies, options.only, effort, _tell)
    table = report.markdown(results, options.proxies, effort)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(table)
    numbers = report.document(results, options.proxies, effort)
    (options.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
    return table


def _grow(options: argparse.Namespace) -> str:
    """Measure how the cost grows, keep it, and draw it."""
    picture.check_installed()
    effort = growth.QUICK if options.quick else growth.FULL
    numbers = growth.measure(replace(effort, rounds=options.rounds or effort.rounds), _tell)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / _NUMBERS).write_text(growth.as_text(numbers))
    return _redraw(options)


def _redraw(options: argparse.Namespace) -> str:
    """Draw what is kept; where it is."""
    picture.check_installed()
    place: Path = options.out / "cost.svg"
    place.write_text(picture.draw(json.loads((options.out / _NUMBERS).read_text())))
    return f"{place}\n"


def _count(options: argparse.Namespace) -> str:
    check_installed(options.proxies)
    return syscalls.count(options.proxies)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Do what the options say; gives the exit code."""
    # A stop ends this process like Ctrl-C does: with all that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _options()
    try:
        ways = {"growth": _grow, "redraw": _redraw, "syscalls": _count}
        work = next((work for name, work in ways.items() if getattr(options, name)), _measure)
        print(work(options), end="")
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except (RuntimeError, OSError, load.WrongAnswer) as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
