"""An audit line as an entry of journald.

Owns the form, and the way for what does not fit into a datagram. Source: systemd's "Native Journal Protocol". The line is the
MESSAGE, so that `journalctl -t sockproxy-audit -o cat` gives the trail back. Begin at `entry`.
"""

import fcntl
import os
import socket
import struct

import orjson

_FIELDS = ("stage", "id", "seq", "listener", "operation", "effect", "policy", "rule", "status")
"""What of an event becomes SOCKPROXY_... of an entry, to be found by."""

_WARNING, _INFORMATIONAL = "4", "6"


def entry(line: bytes) -> bytes:
    """The entry of a line; what is denied is a warning."""
    event = orjson.loads(line)
    fields = [
        (b"MESSAGE", line),
        (b"PRIORITY", (_WARNING if event.get("effect") == "deny" else _INFORMATIONAL).encode()),
        (b"SYSLOG_IDENTIFIER", b"sockproxy-audit"),
    ]
    for name in _FIELDS:
        value = event.get(name)
        if value not in (None, ""):
            fields.append((b"SOCKPROXY_" + name.upper().encode(), str(value).encode()))
    return b"".join(_field(name, value) for name, value in fields)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%b=%b\n" % (name, value)
    return b"%b\n%b%b\n" % (name, struct.pack("<Q", len(value)), value)


def send_large(connected: socket.socket, message: bytes) -> None:
    """Sends an entry in a sealed file in memory, of which the datagram has only the descriptor. Raises OSError."""
    fd = os.memfd_create("sockproxy-audit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(message)
        while view:
            view = view[os.write(fd, view) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        connected.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))])
    finally:
        os.close(fd)
