"""Sizes of terminals go from worker to worker."""

import asyncio

from sockproxy.operating.sizes import Party, Round


def parties(count: int) -> list[Party]:
    """Those of several workers, in one process: the sockets that each of them would have closed stay open."""
    pairs = Round(count)._pairs
    return [Party(ears, tuple(mouth for other, mouth in pairs if other is not ears)) for ears, _ in pairs]


def close(of: list[Party]) -> None:
    for party in of:
        for one in (party.ears, *party.others):
            one.close()


async def test_each_of_the_others_is_told_and_who_tells_is_not() -> None:
    first, *others = all_of_them = parties(3)
    heard: asyncio.Queue[tuple[str, int, int]] = asyncio.Queue()
    for party in others:
        party.listen(lambda *told: heard.put_nowait(told))
    first.listen(lambda *told: heard.put_nowait(("itself", 0, 0)))
    first.tell("web", 132, 50)
    first.tell("böse/\n", 1, 2)
    async with asyncio.timeout(5):
        assert sorted([await heard.get() for _ in range(4)]) == [("böse/\n", 1, 2)] * 2 + [("web", 132, 50)] * 2
    assert heard.empty()
    close(all_of_them)


async def test_nobody_waits_for_who_does_not_listen() -> None:
    first, second = all_of_them = parties(2)
    for number in range(5000):
        first.tell("web", number, 1)
    first.tell("x" * 5000, 1, 1)
    heard = []
    second.listen(lambda *told: heard.append(told))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(heard) < 5000
    assert heard == [("web", number, 1) for number in range(len(heard))]
    second.ears.close()
    first.tell("web", 1, 1)
    close(all_of_them)


def test_a_worker_keeps_its_own_ends_only() -> None:
    all_of_them = Round(3)
    pairs = all_of_them._pairs
    party = all_of_them.party(2)
    open_now = [end for pair in pairs for end in pair if end.fileno() >= 0]
    assert open_now == [pairs[0][1], party.ears, pairs[2][1]]
    assert party.others == (pairs[0][1], pairs[2][1])
    all_of_them.close()
    assert all(end.fileno() < 0 for pair in pairs for end in pair)
