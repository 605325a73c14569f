"""Binding: the sockets that a listener accepts on, of its own making or handed over by systemd, and their files.

Owns who may reach them by the file system, and that nobody else's socket is taken away. Must not know who connects. Begin at
`bind`.
"""

import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sockproxy.forwarding.address import Address, is_loopback

_SYSTEMD_FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)


def bind(
    address: Address,
    *,
    mode: int | None = None,
    owner: str | None = None,
    group: str | None = None,
    loopback_only: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[socket.socket]:
    """The bound sockets for an address. `loopback_only`: a tcp socket, also one that was handed over, must not be reached from
    beyond it. Raises OSError or LookupError (owner, group) with a text for people."""
    try:
        if address.scheme == "systemd":
            return _checked(_handed_over(address.path, environ), loopback_only=loopback_only)
        if address.scheme == "tcp":
            return _checked(_bind_tcp(address), loopback_only=loopback_only)
        return [_bind_unix(address.path, mode, owner, group)]
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from error


def _bind_tcp(address: Address) -> list[socket.socket]:
    # A text is encoded by IDNA, with half a MiB of tables, bytes are not.
    host = address.host.encode() if address.host.isascii() else address.host
    found = socket.getaddrinfo(host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets = []
    for family, kind, protocol, _, place in found:
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sockets.append(sock)
    return sockets


def _bind_unix(path: str, mode: int | None, owner: str | None, group: str | None) -> socket.socket:
    uid = -1 if owner is None else int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
    gid = -1 if group is None else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    _remove_stale(path)
    Path(path).parent.mkdir(mode=0o755, exist_ok=True)  # /run/sockproxy is gone after each boot
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else may connect before owner and mode are set
    try:
        sock.bind(path)
        os.chown(path, uid, gid)
        os.chmod(path, 0o600 if mode is None else mode)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: str) -> None:
    """Removes a socket file that nobody listens on. Raises OSError if somebody does, or if it is no socket."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is an answer, too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # lawful: somebody listens, and has much to do
    raise OSError(f"{path} is in use: somebody listens on it")


def _handed_over(name: str, environ: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd passed to this process, those called `name` (FileDescriptorName=) or all."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        raise OSError("systemd handed no socket over: LISTEN_PID is not this process")
    told = environ.get("LISTEN_FDS", "")
    if not told.isdecimal():
        raise OSError("systemd handed no socket over: LISTEN_FDS is not a number")
    count = int(told)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    descriptors = [
        _SYSTEMD_FIRST_DESCRIPTOR + index
        for index in range(count)
        if not name or (index < len(names) and names[index] == name)
    ]
    if not descriptors:
        raise OSError(f"systemd handed no socket called {name} over")
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _checked(sockets: list[socket.socket], *, loopback_only: bool) -> list[socket.socket]:
    for sock in sockets:
        if loopback_only and sock.family != socket.AF_UNIX and not is_loopback(sock.getsockname()[0]):
            raise OSError(f"{sock.getsockname()[0]} is plain tcp beyond loopback: give it `tls`, or `insecure: true`")
    return sockets


# --- their files


class SocketFile(NamedTuple):
    """The file of a unix socket that we bound. `descriptor` is open on it, so that no other file gets its inode number."""

    path: str
    descriptor: int


def socket_files(sockets: Iterable[socket.socket]) -> tuple[SocketFile, ...]:
    """The files of those that are bound to one. To be asked before the loop gets them, since it closes them."""
    paths = [str(sock.getsockname()) for sock in sockets if sock.family == socket.AF_UNIX]
    return tuple(SocketFile(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths if path)


def remove_socket_files(files: Iterable[SocketFile]) -> None:
    """Removes them, but for those in whose place somebody else listens by now."""
    for path, descriptor in files:
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                Path(path).unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # lawful: somebody has removed it already
        finally:
            os.close(descriptor)
