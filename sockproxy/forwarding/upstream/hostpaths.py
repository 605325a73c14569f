"""Where a path of the engine's host really leads, if its files are ours as well.

Owns the look at the file system, in threads of its own, since a network's may hang for ever. Must not know who asks, nor which
paths are allowed. Begin at `HostPaths.find`. Whoever can change a directory on the way can change it right after the look.
"""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from sockproxy.forwarding.moving.sockets import credentials

LINKS_MAX = 40  # as the kernel follows them (MAXSYMLINKS)
LOOKS_MAX = 16
"""Looks under way; those that hang keep their place, so that hanging ones cannot pile up."""

_CONNECT_SECONDS = 1.0


class UnknownPath(Exception):
    """Where a path leads cannot be told; the text says why."""


Found: TypeAlias = list[str | UnknownPath | None]
"""For each path where it leads; None where the engine's files are not known to be ours."""


class HostPaths:
    """The looks that are under way."""

    def __init__(self) -> None:
        self.looks = 0

    async def find(self, engine_socket: str, paths: Sequence[str]) -> Found:
        """Where each path leads. Whoever waits limits the time."""
        if self.looks >= LOOKS_MAX:
            return [UnknownPath("too many paths are being looked at; the file system may hang")] * len(paths)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Found] = loop.create_future()

        def look() -> None:
            found = _look(engine_socket, paths)
            with suppress(RuntimeError):  # lawful: the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(self._finish, done, found)

        # A daemon, since the process must be able to end while it hangs.
        thread = threading.Thread(target=look, name="host path", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # lawful: no thread is to be had, and what is not looked at is not known
            return [UnknownPath("nothing can be looked at now")] * len(paths)
        self.looks += 1
        return await done

    def _finish(self, done: asyncio.Future[Found], found: Found) -> None:
        self.looks -= 1
        if not done.done():
            done.set_result(found)


def _look(engine_socket: str, paths: Sequence[str]) -> Found:
    try:
        is_shared = shares_files(engine_socket)
    except UnknownPath as error:
        return [error] * len(paths)
    return [_real_or_unknown(path) if is_shared else None for path in paths]


def shares_files(engine_socket: str) -> bool:
    """Whether whoever listens there is seen to have the same files: to be in our mount namespace, with our root. What cannot
    be seen for good, as another user's process, has not. Raises UnknownPath where it can be seen at other times."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_CONNECT_SECONDS)
            sock.connect(engine_socket)
            # unix(7): of the process that called listen(2); 0 where it is in no pid namespace that we see.
            pid, _, _ = credentials(sock)
        places = (f"/proc/{pid}/ns/mnt", "/proc/self/ns/mnt"), (f"/proc/{pid}/root/.", "/.")
        return pid > 0 and all(os.path.samestat(os.stat(one), os.stat(other)) for one, other in places)
    except PermissionError:
        return False  # lawful: the documentation says what it takes to see it
    except OSError as error:
        # Not False: whoever could keep us from connecting for a moment would be rid of the look at links.
        raise UnknownPath(f"whose files these are cannot be told: {error.strerror or error}") from error


def _is_of_processes(link: str, found: os.stat_result) -> bool:
    """Whether a link is one of a /proc: such lead where their process is, whatever they say, and `self` is another for each."""
    # proc(5): no other file system has links of size 0, but for sysfs and some that nobody binds from. Those of descriptors
    # have another size, but the kernel does not go where their text says.
    if found.st_size == 0 or found.st_dev == os.stat("/proc").st_dev:
        return True
    place = os.path.join(os.path.dirname(link), os.readlink(link))
    return os.path.exists(link) and not (os.path.exists(place) and os.path.samefile(link, place))


def _real_or_unknown(path: str) -> str | UnknownPath:
    try:
        return real_path(path)
    except UnknownPath as error:
        return error


def real_path(path: str) -> str:
    """An absolute path without links, as far as it is there: what comes behind that, the engine makes of directories. Raises
    UnknownPath where it cannot be followed, since what is not seen might be a link."""
    left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    real, links = "", 0
    while left:
        part = left.pop()
        if part == "..":
            real = real.rpartition("/")[0]
            continue
        here = f"{real}/{part}"
        try:
            found = os.lstat(here)
            is_link = stat.S_ISLNK(found.st_mode)
            leads_to = os.readlink(here) if is_link else ""
            if is_link and _is_of_processes(here, found):
                raise UnknownPath(f"it goes through {here}, which leads elsewhere for each process")
        except FileNotFoundError:
            if ".." in left:
                raise UnknownPath("it climbs out of what is not there") from None
            return "/".join([here, *reversed(left)])
        except (OSError, ValueError) as error:
            raise UnknownPath(f"it cannot be followed: {getattr(error, 'strerror', None) or error}") from error
        if not is_link:
            real = here
            continue
        links += 1
        if links > LINKS_MAX:
            raise UnknownPath("it has too many links")
        real = "" if leads_to.startswith("/") else real
        left += [part for part in reversed(leads_to.split("/")) if part not in ("", ".")]
    return real or "/"
