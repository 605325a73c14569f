"""Which form of the hot parts is used: Python, or the compiled twins where they were built.

Owns the choice. A twin does what the Python beside it does, and the tests hold both to that; it is built on request only
(setup.py), so that an installation needs no compiler. Begin at `find_twins`.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.recording.metrics import CountServed, count_served
from sockproxy.recording.prepared import Lines, lines

PURE = "SOCKPROXY_PURE"
"""Set to anything but nothing, the compiled twins are not used: the variable that tells apart whether a fault is theirs."""


class Twins(NamedTuple):
    """The parts that there are two forms of."""

    name: str
    lines: Lines
    count_served: CountServed
    make_readiness: Callable[[asyncio.AbstractEventLoop], Readiness]


PYTHON = Twins("python", lines, count_served, Readiness)


def find_twins(environ: Mapping[str, str] = os.environ) -> Twins:
    """The compiled ones if they were built and nobody forbids them, else those in Python."""
    return PYTHON if environ.get(PURE) else compiled_twins() or PYTHON


def compiled_twins() -> Twins | None:
    """The compiled ones, or None where they were not built."""
    try:
        # Imported here and not above: mostly they are not there.
        from sockproxy.forwarding.serving import express_c
        from sockproxy.recording import prepared_c
        from sockproxy.recording.metrics import counting_c
    except ImportError:
        return None  # lawful: without them everything works, only slower
    if not all(_is_current(Path(str(module.__file__))) for module in (express_c, prepared_c, counting_c)):
        return None
    return Twins("compiled", prepared_c.lines, counting_c.count_served, express_c.Readiness)


def _is_current(built: Path) -> bool:
    """Whether a module is as new as its source. Where it was installed, its source is not beside it."""
    source = built.with_name(built.name.partition(".")[0] + ".pyx")
    return not source.exists() or source.stat().st_mtime <= built.stat().st_mtime
