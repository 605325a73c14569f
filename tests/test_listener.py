"""Listener: where clients come in, who they are, and how many there may be."""

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sockproxy.forwarding.address import parse_address
from sockproxy.forwarding.downstream.binding import bind
from sockproxy.forwarding.downstream.listener import Arrival, Census, Listener
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import Principal, identify
from tests.streams import Peer, open_world, until

ANSWER_END = b"}\n"


def of_uid(uid: int) -> Principal:
    return identify(PeerFacts("listener", "unix", uid=uid, gid=uid, pid=1))


def of_address(address: str) -> Principal:
    return identify(PeerFacts("listener", "tcp", address=address))


# --- how many

ABOVE = {
    "all": ({"connections_max": 2}, [1, 2], 3, "connections_max"),
    "one-principal": ({"connections_per_principal_max": 2}, [1, 1], 1, "connections_per_principal_max"),
}


@pytest.mark.parametrize(("limits", "inside", "next_uid", "limit"), ABOVE.values(), ids=ABOVE)
def test_the_census_takes_as_many_as_the_limit(
    limits: dict[str, int], inside: list[int], next_uid: int, limit: str
) -> None:
    census = Census(replace(Limits(), **limits))
    assert [census.enter(of_uid(uid)) for uid in inside] == [None, None]
    assert census.enter(of_uid(next_uid)) == limit
    assert census.total == 2  # who was refused does not count
    census.leave(of_uid(inside[0]))
    assert census.enter(of_uid(next_uid)) is None


def test_how_many_places_are_taken() -> None:
    census = Census(replace(Limits(), connections_max=10, connections_per_principal_max=4))
    assert census.held() == {"connections_max": (0, 10), "connections_per_principal_max": (0, 4)}
    for uid in (1, 1, 2):
        census.enter(of_uid(uid))
    assert census.held() == {"connections_max": (3, 10), "connections_per_principal_max": (2, 4)}


def test_who_has_all_his_places_leaves_others_theirs() -> None:
    census = Census(replace(Limits(), connections_per_principal_max=1))
    crowd = [of_uid(1), of_uid(2), of_address("10.0.0.1:1000"), of_address("10.0.0.2:1000"), of_address("[::1]:1")]
    assert [census.enter(principal) for principal in crowd] == [None] * 5
    assert (
        census.enter(of_address("10.0.0.1:2000")) == "connections_per_principal_max"
    )  # another port is the same client


@asynccontextmanager
async def open_listener(
    folder: Path, url: str = "", **limits: int
) -> AsyncIterator[tuple[Listener, str, list[Principal], list[Principal], list[str]]]:
    """A listener that serves an echo: itself, where it is, who came and who left, and the limits that were hit."""
    came: list[Principal] = []
    left: list[Principal] = []
    hit: list[str] = []

    def enter(arrival: Arrival) -> None:
        sock, _, principal, _ = arrival
        came.append(principal)

        def echo() -> None:
            if data := sock.recv(1000):
                sock.send(data)
            else:
                readiness.close(sock)
                arrival.leave()
                left.append(principal)

        readiness.watch(sock, echo)

    sockets = bind(parse_address(url or f"unix://{folder}/d.sock"), mode=0o666)
    place = sockets[0].getsockname()
    readiness = Readiness(asyncio.get_running_loop())
    async with asyncio.timeout(10), open_world() as world:
        census = Census(replace(Limits(), **limits))
        listener = Listener("front", sockets, census, enter, world.connections.send_away, hit.append)
        listener.start(readiness)
        try:
            yield listener, place, came, left, hit
        finally:
            listener.stop_accepting()
            readiness.end()


async def connect(place: object) -> Peer:
    sock = socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, place)
    return Peer(sock)


async def is_served(peer: Peer) -> bool:
    await peer.send(b"x")
    return await peer.receive(1) == b"x"


@pytest.mark.parametrize("url", ["", "tcp://127.0.0.1:0"], ids=["unix", "tcp"])
@pytest.mark.parametrize("limit", ["connections_max", "connections_per_principal_max"])
async def test_one_above_the_limit_is_503_and_harms_nobody(tmp_path: Path, url: str, limit: str) -> None:
    async with open_listener(tmp_path, url, **{limit: 2}) as (_, place, came, left, hit):
        inside = [await connect(place), await connect(place)]
        assert [await is_served(peer) for peer in inside] == [True, True]
        assert hit == []
        above = await connect(place)
        answer = await above.receive_all()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b'{"message":"sockproxy: too many connections (%b)"}\n' % limit.encode())
        assert hit == [limit]
        assert [await is_served(peer) for peer in inside] == [True, True]
        inside[0].close()
        await until(lambda: len(left) == 1)
        after = await connect(place)
        assert await is_served(after)
        assert len(came) == 3
        for peer in (inside[1], above, after):
            peer.close()


@pytest.mark.parametrize("url", ["", "tcp://127.0.0.1:0"], ids=["unix", "tcp"])
async def test_who_has_sent_a_request_already_gets_the_503_as_well(tmp_path: Path, url: str) -> None:
    async with open_listener(tmp_path, url, connections_max=0) as (_, place, _, _, _):
        above = await connect(place)
        await above.send(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert (await above.receive_all()).startswith(b"HTTP/1.1 503 ")  # and an end, not a reset
        above.close()


async def test_no_more_are_accepted_and_those_inside_stay(tmp_path: Path) -> None:
    async with open_listener(tmp_path) as (listener, place, _, _, _):
        inside = await connect(place)
        assert await is_served(inside)
        listener.stop_accepting()
        with pytest.raises(OSError):
            await connect(place)
        assert await is_served(inside)
        inside.close()


async def test_a_socket_that_others_hold_open_is_not_watched_any_more() -> None:
    # systemd, and other workers, have the same socket: its queue stays ready as long as nobody accepts.
    with bind(parse_address("tcp://127.0.0.1:0"))[0] as sock, sock.dup(), socket.socket() as waiting:
        readiness = Watched(asyncio.get_running_loop())
        listener = Listener("front", [sock], Census(Limits()), never_called, never_called, never_called)
        listener.start(readiness)
        place = sock.getsockname()
        listener.stop_accepting()
        waiting.connect(place)
        assert not readiness.has_events()
        readiness.end()


class Watched(Readiness):
    """Whose epoll can be asked."""

    def has_events(self) -> bool:
        return bool(self._epoll.poll(0.05))


def never_called(*_: object) -> None:
    raise AssertionError


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Whoever opens something gets EMFILE, unless something is closed before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hogs: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
    try:
        with suppress(OSError):
            while True:
                hogs.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hog in hogs:
            os.close(hog)


async def test_without_descriptors_who_waits_is_cut_off(tmp_path: Path) -> None:
    async with open_listener(tmp_path) as (_, place, came, _, _):
        peers = [unconnected() for _ in range(3)]
        with no_descriptor_left():
            for peer in peers:
                peer.sock.connect(place)
                assert await peer.receive_all() == b""
        assert came == []
        after = await connect(place)
        assert await is_served(after)
        for peer in [*peers, after]:
            peer.close()


async def test_a_spare_descriptor_that_is_lost_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.ENFILE, "another process was faster")

    async with open_listener(tmp_path) as (_, place, came, _, _):
        cut_off, inside, waiting = (unconnected() for _ in range(3))
        with no_descriptor_left():
            with monkeypatch.context() as patch:
                patch.setattr(os, "open", none_left)
                cut_off.sock.connect(place)
                assert await cut_off.receive_all() == b""
            inside.sock.connect(place)  # gets the number that the spare one had
            await until(lambda: len(came) == 1)
            waiting.sock.connect(place)
            assert await is_served(inside)
            assert await is_served(inside)
            inside.close()
            assert await is_served(waiting)  # or, later on, cut off
        for peer in (cut_off, waiting):
            peer.close()


def unconnected() -> Peer:
    return Peer(socket.socket(socket.AF_UNIX))


# --- who is there


async def test_a_unix_peer_is_known_by_the_kernel(tmp_path: Path) -> None:
    async with open_listener(tmp_path) as (_, place, came, _, _):
        assert await is_served(await connect(place))
        [principal] = came
        assert principal[:5] == ("unix", os.getuid(), os.getgid(), os.getpid(), os.readlink("/proc/self/exe"))
        assert principal.key == f"uid:{os.getuid()}"
        assert (principal.tls_subject, principal.address) == (None, None)


CALL = """
import os, socket, sys
os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    print(os.getpid())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
async def test_another_user_is_told_apart(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    async with open_listener(tmp_path) as (_, place, came, _, _):
        command = [sys.executable, "-c", CALL, place, "65534", "65533"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        [principal] = came
        assert principal[1:4] == (65534, 65533, int(out))
        assert principal.key == "uid:65534"


async def test_a_tcp_peer_is_known_by_its_address(tmp_path: Path) -> None:
    async with open_listener(tmp_path, "tcp://127.0.0.1:0") as (_, place, came, _, _):
        peer = await connect(place)
        assert await is_served(peer)
        [principal] = came
        assert principal.kind == "tcp"
        assert principal.address == f"127.0.0.1:{peer.sock.getsockname()[1]}"
        assert principal.key == "address:127.0.0.1"
        assert (principal.uid, principal.pid, principal.exe, principal.container) == (None,) * 4
        peer.close()
