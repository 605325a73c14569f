"""Listener: where clients come in.

Owns binding (unix, tcp, handed over by systemd), accepting, the limits of connections, and gathering what is known of a
peer. Must not know what is served: it hands each connection to `serve`. Begin at `bind` and `Listener`.
"""

import grp
import logging
import os
import pwd
import re
import socket
import stat
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from sockproxy.forwarding.address import Address, is_loopback
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.readiness import Readiness
from sockproxy.forwarding.moving.sockets import keep_alive
from sockproxy.judging.identity import Peer, Principal, identify

log = logging.getLogger(__name__)

_BACKLOG = 4096  # a burst of clients waits in the kernel; it takes what net.core.somaxconn allows
_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_SYSTEMD_FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
_CONTAINER_ID = re.compile(rb"[/-]([0-9a-f]{64})(?:\.scope)?(?:/.*)?$", re.MULTILINE)
# systemd.exec(5), Delegate=: what is below, that user names as it likes (`systemd-run --user --scope --unit=docker-...`).
_OF_USER = re.compile(rb"/user@([0-9]+)\.service/")
_CGROUP_BYTES_MAX = 4096  # cgroup(7): a line a hierarchy, 13 at most

Enter = Callable[[socket.socket, Peer, Principal, Callable[[Principal], None]], None]
SendAway = Callable[[socket.socket, str], None]


class Census:
    """How many connections are open, in all and by principal, over all listeners."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_principal: Counter[str] = Counter()
        self.total = 0

    def enter(self, principal: Principal) -> str | None:
        """Counts a connection; or names the limit that forbids it, and counts nothing."""
        if self.total >= self._limits.connections_max:
            return "connections_max"
        if self._by_principal[principal.key] >= self._limits.connections_per_principal_max:
            return "connections_per_principal_max"
        self.total += 1
        self._by_principal[principal.key] += 1
        return None

    def leave(self, principal: Principal) -> None:
        """Counts a connection that has ended."""
        self.total -= 1
        self._by_principal[principal.key] -= 1
        if not self._by_principal[principal.key]:
            del self._by_principal[principal.key]

    def held(self) -> dict[str, tuple[int, int]]:
        """Limit -> how many places are taken, and how many there are; of a principal's those of who has most."""
        limits, most = self._limits, max(self._by_principal.values(), default=0)
        return {
            "connections_max": (self.total, limits.connections_max),
            "connections_per_principal_max": (most, limits.connections_per_principal_max),
        }


class Listener:
    """Accepts connections on bound sockets, as long as there is room for them."""

    def __init__(
        self,
        name: str,
        sockets: list[socket.socket],
        census: Census,
        enter: Enter,
        send_away: SendAway,
        limit_hit: Callable[[str], None],
    ) -> None:
        """`enter` serves a connection; `send_away` answers one that is above a limit, whose name it is told."""
        self.name = name
        self._sockets = sockets
        self._census = census
        self._enter = enter
        self._send_away = send_away
        self._limit_hit = limit_hit
        self._readiness: Readiness | None = None
        self._spare = -1

    def start(self, readiness: Readiness) -> None:
        """Begins to accept."""
        self._readiness = readiness
        self._take_spare()
        for sock in self._sockets:
            sock.setblocking(False)
            sock.listen(_BACKLOG)
            readiness.watch(sock, partial(self._accept, sock))

    def stop_accepting(self) -> None:
        """Accepts nothing more, and closes the sockets."""
        if self._readiness is not None:
            for sock in self._sockets:
                self._readiness.forget(sock)  # closing is not enough: systemd, or another worker, holds it open, too
                sock.close()
            self._give_up_spare()
            self._readiness = None

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, address = listening.accept()
        except BlockingIOError:
            return  # lawful: another worker was faster, or the client has gone again
        except OSError as error:
            self._accept_no_more(listening, error)
            return
        try:
            client.setblocking(False)
            if client.family != socket.AF_UNIX:
                keep_alive(client)
            peer = gather_peer(self.name, client, address)
        except OSError as error:
            log.warning("peer-unknown", extra={"listener": self.name, "reason": str(error)})
            client.close()  # lawful: who is gone before it is known, is not served
            return
        principal = identify(peer)
        limit = self._census.enter(principal)
        if limit is None:
            self._enter(client, peer, principal, self._census.leave)
        else:
            self._limit_hit(limit)
            self._send_away(client, limit)

    def _accept_no_more(self, listening: socket.socket, error: OSError) -> None:
        """Without descriptors, whoever waits is cut off: otherwise the socket would be ready for ever, and the loop busy."""
        log.warning("accept-failed", extra={"listener": self.name, "reason": str(error)})
        self._give_up_spare()
        try:
            listening.accept()[0].close()
        except OSError:
            pass  # lawful: nobody waits any more
        finally:
            self._take_spare()

    def _take_spare(self) -> None:
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = -1  # lawful: another process was faster; it is tried again with the next who waits

    def _give_up_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1


# --- who is there


def gather_peer(listener: str, client: socket.socket, address: Any) -> Peer:
    """What the kernel knows of the other end. What it does not know (a process that has already ended) is None."""
    if client.family != socket.AF_UNIX:
        host, port, *_ = address or ("", 0)  # none: it was reset before it was accepted
        return Peer(listener, "tcp", address=f"{host}:{port}")
    pid, uid, gid = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(listener, "unix", uid=uid, gid=gid, pid=pid, exe=_executable(pid), container=_container(pid))


def _executable(pid: int) -> str | None:
    return _link(f"/proc/{pid}/exe")


def _container(pid: int) -> str | None:
    """The container that a process runs in. A process that sees the same mounts as we do is where we are: this is the
    usual case and costs a fifth of reading its control group (5 us instead of 23, 10 % of a short connection)."""
    mounts = _link(f"/proc/{pid}/ns/mnt")
    if mounts is not None and mounts == _own_mounts():
        return _own_container()
    return _container_of_cgroup(f"/proc/{pid}/cgroup")


@cache
def _own_mounts() -> str | None:
    return _link("/proc/self/ns/mnt")


@cache
def _own_container() -> str | None:
    return _container_of_cgroup("/proc/self/cgroup")


def _container_of_cgroup(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            told = os.read(descriptor, _CGROUP_BYTES_MAX)
        finally:
            os.close(descriptor)
    except OSError:
        return None  # lawful: it has ended, or is hidden; the record says so by null
    found = _CONTAINER_ID.search(told)
    if found is None:
        return None
    line = told[told.rfind(b"\n", 0, found.start()) + 1 : found.end()]
    user = _OF_USER.search(line)
    # A rootless engine's containers are there, too, and so is the proxy before it.
    return found[1].decode() if user is None or int(user[1]) == os.getuid() else None


def _link(path: str) -> str | None:
    try:
        # A path is any bytes, and a record is UTF-8: what is not is written as escapes.
        return os.readlink(os.fsencode(path)).decode("utf-8", "backslashreplace")
    except OSError:
        return None  # lawful: as above


# --- where to listen


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
