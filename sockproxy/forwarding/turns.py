"""Turns: how many may do something at a time, in all and of one principal.

Owns the waiting. Must not know what is done. Begin at `Turns.take`. Whoever does it most often, or slowest, waits for itself:
it has its share of the places and no more, so the others find one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Own:
    """The places of one principal. `count`: those who have one of them, or wait for it."""

    __slots__ = ("count", "places")

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self.count = 0


class Turns:
    """The places of all."""

    def __init__(self, at_once_max: int, of_one_max: int) -> None:
        """`of_one_max`: of the places, those that one principal may have."""
        self._places = asyncio.Semaphore(at_once_max)
        self._of_one_max = of_one_max
        self._own: dict[str, _Own] = {}

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Waits for a place of a principal's own, and only then for one of all: who waits for itself is in nobody's way."""
        own = self._own.setdefault(key, _Own(self._of_one_max))
        own.count += 1
        try:
            async with own.places, self._places:
                yield
        finally:
            own.count -= 1
            if not own.count:
                del self._own[key]

    @property
    def principal_count(self) -> int:
        """Principals that have a place, or wait for one."""
        return len(self._own)
