"""Readiness: one epoll tells of all bare sockets; whoever is called may end others, and nobody has to take all at once."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sockproxy.forwarding.moving.readiness import _EVENTS_A_TURN, Readiness
from sockproxy.operating.twins import Twins
from tests.forms import FORMS
from tests.streams import until


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Twins:
    return request.param


@asynccontextmanager
async def open_readiness(
    form: Twins, count: int
) -> AsyncIterator[tuple[Readiness, list[tuple[socket.socket, socket.socket]]]]:
    """With `count` pairs of sockets, the first of each ours."""
    readiness = form.make_readiness(asyncio.get_running_loop())
    pairs = [socket.socketpair() for _ in range(count)]
    for near, _ in pairs:
        near.setblocking(False)
    try:
        yield readiness, pairs
    finally:
        readiness.end()
        for near, far in pairs:
            near.close()
            far.close()


async def test_who_has_something_to_read_is_called_until_it_is_read(form: Twins) -> None:
    async with open_readiness(form, 2) as (readiness, [(near, far), (silent, _)]):
        got = b""

        def take() -> None:
            nonlocal got
            got += near.recv(2)

        readiness.watch(near, take)
        readiness.watch(silent, lambda: pieces.append("silent"))
        pieces: list[str] = []
        far.send(b"piece by piece")
        await until(lambda: got == b"piece by piece")
        assert not pieces


async def test_an_end_is_something_to_read(form: Twins) -> None:
    async with open_readiness(form, 1) as (readiness, [(near, far)]):
        ended = asyncio.Event()

        def take() -> None:
            assert near.recv(1) == b""
            readiness.forget(near)
            ended.set()

        readiness.watch(near, take)
        far.close()
        await ended.wait()


async def test_who_is_forgotten_is_not_called_and_stays_open(form: Twins) -> None:
    async with open_readiness(form, 2) as (readiness, [(near, far), (other, other_far)]):
        called: list[str] = []
        readiness.watch(near, lambda: called.append("near"))
        readiness.watch(other, lambda: called.append(other.recv(9).decode()))
        readiness.forget(near)
        readiness.forget(near)  # twice is no harm
        far.send(b"x")
        other_far.send(b"other")
        await until(lambda: called)
        assert called == ["other"]
        assert near.recv(1) == b"x"


async def test_one_may_end_another_of_the_same_turn(form: Twins) -> None:
    async with open_readiness(form, 2) as (readiness, [(near, far), (other, other_far)]):
        called: list[str] = []

        def end(name: str, victim: socket.socket) -> None:
            called.append(name)
            readiness.close(victim)

        readiness.watch(near, lambda: end("near", other))
        readiness.watch(other, lambda: end("other", near))
        far.send(b"x")
        other_far.send(b"x")
        await until(lambda: called)
        readiness.forget(near)
        readiness.forget(other)
        assert len(called) == 1


async def test_more_than_a_turn_takes_are_all_served(form: Twins) -> None:
    count = 2 * _EVENTS_A_TURN + 1
    async with open_readiness(form, count) as (readiness, pairs):
        served: set[int] = set()

        def take(sock: socket.socket) -> None:
            sock.recv(1)
            served.add(sock.fileno())

        for near, far in pairs:
            readiness.watch(near, lambda sock=near: take(sock))  # type: ignore[misc]
            far.send(b"x")
        await until(lambda: len(served) == count)


async def test_closing_leaves_no_descriptor(form: Twins) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with open_readiness(form, 3) as (readiness, pairs):
        for near, _ in pairs:
            readiness.watch(near, lambda: None)
            readiness.close(near)
    assert len(os.listdir("/proc/self/fd")) == before
