"""Listener: where clients come in, who they are, and how many there may be."""

import asyncio
import errno
import grp
import json
import os
import pwd
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sockproxy.forwarding.address import parse_address
from sockproxy.forwarding.downstream import listener as listener_module
from sockproxy.forwarding.downstream.listener import Census, Listener, bind
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


# --- unix sockets


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [None, 0o600, 0o660, 0o666])
def test_a_unix_socket_has_the_mode_that_was_asked_for(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "d.sock"
    before = os.umask(0o022)
    [sock] = bind(parse_address(f"unix://{path}"), mode=mode)
    assert mode_of(path) == (0o600 if mode is None else mode)
    assert os.umask(before) == 0o022
    sock.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize("form", ["name", "number"])
def test_owner_and_group_by_name_and_number(tmp_path: Path, form: str) -> None:
    user, group = pwd.getpwnam("nobody"), grp.getgrall()[-1]
    owner_text = user.pw_name if form == "name" else str(user.pw_uid)
    group_text = group.gr_name if form == "name" else str(group.gr_gid)
    path = tmp_path / "d.sock"
    [sock] = bind(parse_address(f"unix://{path}"), owner=owner_text, group=group_text)
    assert (path.stat().st_uid, path.stat().st_gid) == (user.pw_uid, group.gr_gid)
    sock.close()


@pytest.mark.parametrize("whose", ["owner", "group"])
def test_an_owner_who_is_not_on_this_machine_is_named(tmp_path: Path, whose: str) -> None:
    with pytest.raises(LookupError, match="nobody-of-that-name"):
        bind(parse_address(f"unix://{tmp_path}/d.sock"), **{whose: "nobody-of-that-name"})
    assert not (tmp_path / "d.sock").exists()


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    address = parse_address(f"unix://{tmp_path}/d.sock")
    [stale] = bind(address)
    stale.close()
    [sock] = bind(address)
    sock.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
    sock.close()


def test_a_live_socket_is_never_taken_away(tmp_path: Path) -> None:
    address = parse_address(f"unix://{tmp_path}/d.sock")
    [live] = bind(address)
    live.listen()
    with pytest.raises(OSError, match="in use"):
        bind(address)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
    live.close()


CROWDED = """
import socket, sys
from sockproxy.forwarding.address import parse_address
from sockproxy.forwarding.downstream.listener import bind
try:
    bind(parse_address("unix://" + sys.argv[1]))
except OSError as error:
    print(error)
"""


def test_a_live_socket_whose_queue_is_full_is_in_use_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "d.sock")
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as waiting:
        live.bind(path)
        live.listen(0)
        waiting.connect(path)
        said = subprocess.run([sys.executable, "-c", CROWDED, path], capture_output=True, text=True, timeout=30)
        assert "in use" in said.stdout
        assert os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "folder", "link-to-file"])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "d.sock"
    (tmp_path / "precious").write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="not a socket"):
        bind(parse_address(f"unix://{path}"))
    assert path.exists()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_is_not_there_is_made_and_no_more_than_one(tmp_path: Path) -> None:
    bind(parse_address(f"unix://{tmp_path}/new/d.sock"))[0].close()
    with pytest.raises(OSError, match=f"cannot listen on unix://{tmp_path}/none/at-all/d.sock: No such file"):
        bind(parse_address(f"unix://{tmp_path}/none/at-all/d.sock"))


# --- tcp


@pytest.mark.parametrize(
    ("url", "family", "place"),
    [
        ("tcp://127.0.0.1:0", socket.AF_INET, "127.0.0.1"),
        ("tcp://[::1]:0", socket.AF_INET6, "::1"),
    ],
)
def test_a_tcp_address_is_bound(url: str, family: socket.AddressFamily, place: str) -> None:
    [sock] = bind(parse_address(url))
    assert sock.family is family
    assert sock.getsockname()[0] == place
    sock.listen()
    with socket.create_connection(sock.getsockname()[:2], timeout=5):
        pass
    sock.close()


def test_no_host_is_every_address_of_both_families() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sockets = bind(parse_address(f"tcp://:{port}"))
    assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
    for sock in sockets:
        sock.close()


def test_a_port_that_is_taken_is_an_error() -> None:
    [sock] = bind(parse_address("tcp://127.0.0.1:0"))
    sock.listen()
    with pytest.raises(OSError):
        bind(parse_address(f"tcp://127.0.0.1:{sock.getsockname()[1]}"))
    sock.close()


# --- handed over by systemd

HANDED_OVER = """
import json, os, sys
from sockproxy.forwarding.address import parse_address
from sockproxy.forwarding.downstream.listener import bind
environ = {**os.environ, "LISTEN_PID": str(os.getpid()) if sys.argv[2] == "self" else sys.argv[2]}
try:
    sockets = bind(parse_address(sys.argv[1]), environ=environ)
    print(json.dumps([[sock.fileno(), sock.family.name, str(sock.getsockname())] for sock in sockets]))
except OSError as error:
    print(json.dumps(str(error)))
"""

# Moves the two sockets to descriptors 3 and 4, as systemd hands them over, and becomes the program.
HAND_OVER = """
import os, sys
first, second = int(sys.argv[1]), int(sys.argv[2])
os.dup2(first, 100); os.dup2(second, 101)
os.dup2(100, 3); os.dup2(101, 4)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[3:]])
"""


def handed_over(tmp_path: Path, url: str, pid: str = "self", **environ: str) -> object:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        unix.bind(str(tmp_path / "handed.sock"))
        unix.listen()
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        descriptors = (unix.fileno(), tcp.fileno())
        said = subprocess.run(
            [sys.executable, "-c", HAND_OVER, *map(str, descriptors), HANDED_OVER, url, pid],
            pass_fds=descriptors,
            env={**os.environ, **environ},
            capture_output=True,
            check=True,
            text=True,
            timeout=30,
        )
    return json.loads(said.stdout)


NAMES = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "docker:remote"}


@pytest.mark.parametrize(
    ("url", "families"),
    [
        ("systemd://", ["AF_UNIX", "AF_INET"]),
        ("systemd://docker", ["AF_UNIX"]),
        ("systemd://remote", ["AF_INET"]),
    ],
)
def test_sockets_are_handed_over_all_or_by_name(tmp_path: Path, url: str, families: list[str]) -> None:
    got = handed_over(tmp_path, url, **NAMES)
    assert [family for _, family, _ in got] == families  # type: ignore[attr-defined]
    assert str(tmp_path / "handed.sock") in str(got) or families == ["AF_INET"]


REFUSED = {
    "a-name-that-is-not-there": ("systemd://other", "self", NAMES, "no socket called other"),
    "for-another-process": ("systemd://", "1", NAMES, "LISTEN_PID is not this process"),
    "none": ("systemd://", "self", {"LISTEN_FDS": "0"}, "handed no socket"),
    "no-number": ("systemd://", "self", {"LISTEN_FDS": "many"}, "LISTEN_FDS"),
    "no-names": ("systemd://docker", "self", {"LISTEN_FDS": "2"}, "no socket called docker"),
}


@pytest.mark.parametrize(("url", "pid", "environ", "message"), REFUSED.values(), ids=REFUSED)
def test_what_was_not_handed_over_is_told(
    tmp_path: Path, url: str, pid: str, environ: dict[str, str], message: str
) -> None:
    assert message in str(handed_over(tmp_path, url, pid, **environ))


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

    def enter(
        sock: socket.socket, peer: PeerFacts, principal: Principal, on_closed: Callable[[Principal], None]
    ) -> None:
        came.append(principal)

        def echo() -> None:
            if data := sock.recv(1000):
                sock.send(data)
            else:
                readiness.close(sock)
                on_closed(principal)
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


A, B = "ab" * 32, "01" * 32
OF_US, OF_OTHERS = (f"/user.slice/user-{uid}.slice/user@{uid}.service" for uid in (os.getuid(), os.getuid() + 1))
CGROUPS = {
    "v1-cgroupfs": (f"12:pids:/docker/{A}\n11:memory:/docker/{A}\n0::/system.slice/containerd.service\n", A),
    "v2-systemd": (f"0::/system.slice/docker-{A}.scope\n", A),
    "v2-systemd-inner": (f"0::/system.slice/docker-{A}.scope/init.scope\n", A),
    "kubepods": (f"0::/kubepods/besteffort/pod8a2c1d7e-1f2a-4c55-9a4e-0c6f7d1b2a3c/{A}\n", A),
    "containerd": (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{A}.scope\n", A),
    "podman": (f"0::/machine.slice/libpod-{A}.scope/container\n", A),
    "docker-in-docker": (f"0::/docker/{A}/docker/{B}\n", A),
    "only-some-hierarchies": (f"2:cpu:/\n1:memory:/docker/{B}\n0::/\n", B),
    "rootless": (f"0::{OF_US}/user.slice/docker-{A}.scope\n", A),
    "as-a-user-names-it": (f"0::{OF_OTHERS}/app.slice/docker-{A}.scope\n", None),
    "as-a-user-names-it-in-one-hierarchy": (f"2:cpu:/\n1:name=systemd:{OF_OTHERS}/docker-{A}.scope\n0::/\n", None),
    "none": ("0::/user.slice/user-1000.slice/session-2.scope\n", None),
    "root": ("0::/\n", None),
    "too-short": (f"0::/docker/{A[:-1]}\n", None),
    "too-long": (f"0::/docker/{A}0\n", None),
    "upper-case": (f"0::/docker/{A.upper()}\n", None),
    "no-border-before-it": (f"0::/docker/x{A}\n", None),
    "not-at-the-end": (f"0::/docker/{A}.service\n", None),
    "empty": ("", None),
}


@pytest.mark.parametrize(("text", "container"), CGROUPS.values(), ids=CGROUPS)
def test_a_container_is_known_by_its_control_group(tmp_path: Path, text: str, container: str | None) -> None:
    path = tmp_path / "cgroup"
    path.write_text(text)
    assert listener_module._container_of_cgroup(str(path)) == container


def test_a_process_that_has_ended_is_nobody_in_particular(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert listener_module._executable(process.pid) is None
    assert listener_module._container(process.pid) is None
