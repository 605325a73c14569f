"""Turns: so many at a time, in all and of one; nobody waits for others than the places are taken by."""

import asyncio
from contextlib import AsyncExitStack

from sockproxy.forwarding.turns import Turns


class Takers:
    """Takes turns, and tells who has one."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.may_leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, *names: str) -> None:
        """Each by the principal that its name begins with."""
        for name in names:
            self.may_leave[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._take(name))
        await self._settle()

    async def leave(self, name: str) -> None:
        self.may_leave[name].set()
        await self._settle()

    async def give_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await self._settle()

    async def _take(self, name: str) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.turns.take(name[0]))
            self.inside.append(name)
            try:
                await self.may_leave[name].wait()
            finally:
                self.inside.remove(name)

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def test_so_many_in_all_and_in_the_order_in_which_they_came() -> None:
    takers = Takers(Turns(2, 2))
    await takers.begin("a1", "b1", "c1", "d1")
    assert takers.inside == ["a1", "b1"]
    await takers.leave("a1")
    assert takers.inside == ["b1", "c1"]
    await takers.leave("b1")
    assert takers.inside == ["c1", "d1"]


async def test_one_has_a_share_and_waits_in_nobodys_way() -> None:
    takers = Takers(Turns(3, 2))
    await takers.begin("a1", "a2", "a3", "a4", "b1")
    assert takers.inside == ["a1", "a2", "b1"]
    await takers.leave("a1")
    assert takers.inside == ["a2", "b1", "a3"]


async def test_who_gives_up_leaves_nothing() -> None:
    takers = Takers(Turns(2, 1))
    await takers.begin("a1", "a2", "a3")
    await takers.give_up("a2")
    await takers.give_up("a1")
    assert takers.inside == ["a3"]
    await takers.leave("a3")
    assert (takers.inside, takers.turns.principal_count) == ([], 0)
    await takers.begin("a4")
    assert takers.inside == ["a4"]
