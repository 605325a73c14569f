"""Peers: what the kernel knows of the other end of a connection.

Owns how that is asked: whose process it is, and in which container. Must not know what it permits. Begin at `gather_peer`.
"""

import os
import re
import socket
from functools import cache
from typing import Any

from sockproxy.forwarding.moving.sockets import credentials
from sockproxy.judging.identity import Peer

_CONTAINER_ID = re.compile(rb"[/-]([0-9a-f]{64})(?:\.scope)?(?:/.*)?$", re.MULTILINE)
# systemd.exec(5), Delegate=: what is below, that user names as it likes (`systemd-run --user --scope --unit=docker-...`).
_OF_USER = re.compile(rb"/user@([0-9]+)\.service/")
_CGROUP_BYTES_MAX = 4096  # cgroup(7): a line a hierarchy, 13 at most


def gather_peer(listener: str, client: socket.socket, address: Any) -> Peer:
    """What the kernel knows of the other end. What it does not know (a process that has already ended) is None."""
    if client.family != socket.AF_UNIX:
        host, port, *_ = address or ("", 0)  # none: it was reset before it was accepted
        return Peer(listener, "tcp", address=f"{host}:{port}")
    pid, uid, gid = credentials(client)
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
