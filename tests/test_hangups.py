"""Hang-ups: who has closed is told from who has only finished sending, once, and never after the watch has ended."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from sockproxy.forwarding.moving.hangups import HangupWatch
from tests.streams import until


@pytest.fixture
async def hangups() -> AsyncIterator[HangupWatch]:
    watch = HangupWatch(asyncio.get_running_loop())
    yield watch
    watch.close()


async def test_who_has_finished_sending_is_there_and_who_has_closed_is_not(hangups: HangupWatch) -> None:
    near, far = socket.socketpair()
    gone: list[str] = []

    def hung_up() -> None:
        gone.append("far")
        hangups.forget(watched_as)

    with near, far:
        watched_as = hangups.watch(near.fileno(), hung_up)
        far.shutdown(socket.SHUT_WR)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not gone
        far.close()
        await until(lambda: gone)
        for _ in range(10):
            await asyncio.sleep(0)
        assert gone == ["far"]


@contextmanager
def two_pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(2)]
    yield pairs
    for near, far in pairs:
        near.close()
        far.close()


async def test_a_watch_that_has_ended_tells_nothing(hangups: HangupWatch) -> None:
    gone: list[str] = []
    with two_pairs() as [(one, far_one), (other, far_other)]:
        watched_as = hangups.watch(one.fileno(), lambda: gone.append("one"))
        hangups.watch(other.fileno(), lambda: gone.append("other"))
        hangups.forget(watched_as)
        hangups.forget(watched_as)  # twice is no harm
        far_one.close()
        far_other.close()
        await until(lambda: gone)
        assert set(gone) == {"other"}


async def test_whose_watch_is_ended_in_the_same_turn_is_not_told(hangups: HangupWatch) -> None:
    gone: list[str] = []
    watches: list[int] = []

    def hung_up(name: str) -> None:
        gone.append(name)
        for watch in watches:
            hangups.forget(watch)

    with two_pairs() as [(one, far_one), (other, far_other)]:
        watches += [
            hangups.watch(one.fileno(), lambda: hung_up("one")),
            hangups.watch(other.fileno(), lambda: hung_up("other")),
        ]
        far_one.close()
        far_other.close()
        await until(lambda: gone)
        assert len(gone) == 1


async def test_what_is_closed_already_is_not_watched(hangups: HangupWatch) -> None:
    assert hangups.watch(-1, lambda: None) == -1
    hangups.forget(-1)
