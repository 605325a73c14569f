"""Deadlines: limits expire, stopped ones do not, and progress renews."""

import asyncio

from sockproxy.forwarding.deadlines import Deadlines

SHORT = 0.02


async def test_a_limit_expires() -> None:
    expired = asyncio.Event()
    Deadlines(asyncio.get_running_loop()).start(SHORT, expired.set)
    await asyncio.wait_for(expired.wait(), 5)


async def test_a_stopped_limit_does_not_expire() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    expired: list[str] = []
    later = asyncio.Event()
    stopped = deadlines.start(SHORT, lambda: expired.append("stopped"))
    deadlines.start(SHORT, later.set)
    deadlines.stop(stopped)
    await asyncio.wait_for(later.wait(), 5)
    assert expired == []


async def test_progress_begins_the_limit_anew() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    looks = iter([0, 1, 2, 2])  # at the start, then it moves twice, then no more
    seen: list[int] = []
    expired = asyncio.Event()

    def progress() -> int:
        seen.append(next(looks))
        return seen[-1]

    deadlines.start(SHORT, expired.set, progress)
    await asyncio.wait_for(expired.wait(), 5)
    assert seen == [0, 1, 2, 2]


async def test_zero_seconds_are_no_limit() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    assert deadlines.start(0, lambda: None) is None
    deadlines.stop(None)


async def test_stopping_an_expired_limit_is_fine() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    expired = asyncio.Event()
    deadline = deadlines.start(SHORT, expired.set)
    await asyncio.wait_for(expired.wait(), 5)
    deadlines.stop(deadline)


async def test_limits_of_different_length_expire_in_their_order() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    order: list[str] = []
    done = asyncio.Event()
    deadlines.start(10 * SHORT, lambda: (order.append("long"), done.set()))
    deadlines.start(SHORT, lambda: order.append("short"))
    await asyncio.wait_for(done.wait(), 5)
    assert order == ["short", "long"]


async def test_stopping_behind_the_end_of_all_is_fine() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    deadline = deadlines.start(SHORT, lambda: None)
    deadlines.close()
    deadlines.stop(deadline)


async def test_an_expiry_may_start_and_stop_others() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    expired = asyncio.Event()
    other = deadlines.start(SHORT, lambda: None)

    def expire() -> None:
        deadlines.stop(other)
        deadlines.start(SHORT / 2, expired.set)

    deadlines.start(SHORT, expire)
    await asyncio.wait_for(expired.wait(), 5)
