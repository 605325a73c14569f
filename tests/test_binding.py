"""Binding: sockets get the mode and owner that were asked for, and nobody's is taken away."""

import grp
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sockproxy.forwarding.address import parse_address
from sockproxy.forwarding.downstream.binding import bind

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
from sockproxy.forwarding.downstream.binding import bind
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
from sockproxy.forwarding.downstream.binding import bind
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
