"""Datagrams as a sink: syslog on a unix socket or by udp, and journald. A line is a datagram.

Owns sending without waiting for long, and connecting anew. A daemon on this machine has taken a line when its socket has: a
full one is waited for like a slow stream, `STREAM_PATIENCE_MS`, and one that is gone is a failure. Of udp nobody knows what
arrives. Must not know what is in a message (`syslog`, `journal`). Begin at `DatagramSink.write`.

A line that is too large for the socket would be in the way for ever: it is passed over and counted as lost, which the
receiver sees by the gap in the chain, unless there is another way for it (`send_large`).
"""

import errno
import select
import socket
from collections.abc import Callable
from typing import Any

from sockproxy.recording.sinks.stream import STREAM_PATIENCE_MS

Connect = Callable[[], socket.socket]
SendLarge = Callable[[socket.socket, bytes], None]
"""Sends what does not fit into a datagram. Raises OSError."""


class DatagramSink:
    """A socket to a daemon."""

    file = None

    def __init__(
        self,
        name: str,
        connect: Connect,
        encode: Callable[[bytes], bytes],
        count_lost: Callable[[int], None],
        send_large: SendLarge | None = None,
    ) -> None:
        """`connect` gives a connected socket that does not block, or raises OSError; `encode` makes a message of a line."""
        self.name = name
        self._connect = connect
        self._encode = encode
        self._count_lost = count_lost
        self._send_large = send_large
        self._socket: socket.socket | None = None
        self._was_waited_for_in_vain = False

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        """Sends one line after the other, as long as they are taken."""
        kept = 0
        for line in lines.split(b"\n")[:-1]:
            if not self._send(self._encode(line), may_wait=may_wait):
                break
            kept += len(line) + 1
        return kept

    def close(self) -> None:
        """Closes the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: bytes, *, may_wait: bool) -> bool:
        # Twice: a daemon that was started anew is found by connecting anew, and that is no failure.
        for _ in range(2):
            try:
                if self._socket is None:
                    self._socket = self._connect()
                self._send_once(self._socket, message, may_wait=may_wait)
            except BlockingIOError:
                return False
            except OSError:
                self.close()  # lawful: connected anew, or a failure that the caller counts
                continue
            return True
        return False

    def _send_once(self, connected: socket.socket, message: bytes, *, may_wait: bool) -> None:
        try:
            connected.send(message)
        except BlockingIOError:
            if not may_wait or self._was_waited_for_in_vain:
                raise
            self._was_waited_for_in_vain = not _is_writable_soon(connected)
            connected.send(message)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            if self._send_large is None:
                self._count_lost(1)
            else:
                self._send_large(connected, message)
        self._was_waited_for_in_vain = False


def _is_writable_soon(connected: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connected, select.POLLOUT)
    return bool(poll.poll(STREAM_PATIENCE_MS))


def unix_socket(path: str) -> Connect:
    """Connects to a datagram socket of this machine."""

    return lambda: _connected(socket.AF_UNIX, 0, path)


def udp_socket(host: str, port: int) -> Connect:
    """Connects to a udp port. Its name is looked up each time, which may take as long as it likes: give an address."""

    def connect() -> socket.socket:
        family, _, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        return _connected(family, protocol, address)

    return connect


def _connected(family: int, protocol: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made
