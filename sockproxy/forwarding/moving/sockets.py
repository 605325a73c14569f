"""Sockets: how those of the data path are set up, and how a bare one becomes a `Stream`, and a stream a bare socket.

Owns what is asked of the kernel for them. Must not know who is at the other end. Begin at `open_stream` and `detach`.
"""

import asyncio
import os
import socket
import struct
import sys

from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.stream import Stream

SEND_BUFFER_BYTES = 256 << 10
"""Of a unix socket that takes a large body; the kernel doubles it, and gives at most twice net.core.wmem_max, which is 208
KiB. With its usual 208, a piece that comes while the one before is not yet read goes out in two, at half as much again."""

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


async def open_stream(
    loop: asyncio.AbstractEventLoop, hangups: HangupWatch, sock: socket.socket, received: bytes = b""
) -> Stream:
    """The stream of a bare socket, which it closes at its end; `received` came before what will be read."""
    _, stream = await loop.connect_accepted_socket(lambda: Stream(loop, hangups), sock)
    if received:
        stream.put_back(received)
    return stream


def detach(stream: Stream) -> socket.socket | None:
    """Takes a connection out of the loop, as a bare socket that does not block, and ends its stream, in which the peer's
    bytes that it has buffered stay. There must be nothing left to send. None if the connection has ended, is one with TLS, or
    no descriptor is left: then all is as before."""
    own = None if stream.transport is None else stream.transport.get_extra_info("socket")
    if own is None or stream.is_closing or not stream.is_raw:
        return None
    try:
        bare = socket.socket(own.family, own.type, own.proto, os.dup(own.fileno()))
    except OSError:
        return None  # lawful: as said
    bare.setblocking(False)
    stream.on_eof = stream.on_lost = None
    stream.unwatch_hangup()
    stream.abort()
    return bare


def credentials(sock: socket.socket) -> tuple[int, int, int]:
    """The pid, uid and gid of the process at the other end of a unix socket, as the kernel knows them."""
    return _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))


def keep_alive(sock: socket.socket) -> None:
    """Sets up a tcp connection: what is written goes out at once, and the kernel finds out that the other host is gone (a
    stream may be silent for days, a dead host is silent for ever)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def make_room(stream: Stream) -> None:
    """Lets the kernel hold more of what is sent there, so that large pieces go out at once; TCP sees to that by itself."""
    if stream.transport is None or stream.is_closing:
        return
    sock = stream.transport.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
