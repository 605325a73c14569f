"""Ports for what tests start and connect to by number.

None is one that the kernel gives to whoever wants any: between asking here and listening there, an outgoing connection of
somebody else would take it.
"""

import contextlib
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 10_000
_CHANCE = random.SystemRandom()  # of several runs on one machine each has others


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of this machine on which nobody listens."""
    first_given = max(int(_RANGE.read_text().split()[0]), _FIRST + 1000)
    while True:
        port = _CHANCE.randrange(_FIRST, first_given)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
