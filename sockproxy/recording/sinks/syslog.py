"""An audit line as a syslog message.

Owns the form. Must not know sockets. Source: RFC 5424; RFC 6587, 3.4.1 (octet counting). Begin at `message`.
"""

import os

import orjson

_FACILITY = 13  # RFC 5424, table 1: "log audit"
_WARNING, _INFORMATIONAL = 4, 6


def message(line: bytes) -> bytes:
    """The message of a line: MSGID is its stage, MSG the line itself; what is denied is a warning."""
    event = orjson.loads(line)
    severity = _WARNING if event.get("effect") == "deny" else _INFORMATIONAL
    # HEADER = PRI VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID, then SP STRUCTURED-DATA; NILVALUE is "-".
    header = f"<{8 * _FACILITY + severity}>1 {event['time']} {_HOST} sockproxy {os.getpid()} {event['stage']} - "
    return header.encode("ascii", "replace") + line


def frame(text: bytes) -> bytes:
    """The same in a stream, where it needs a length."""
    # RFC 6587, 3.4.1: "SYSLOG-FRAME = MSG-LEN SP SYSLOG-MSG"
    return b"%d %b" % (len(text), text)


_HOST = os.uname().nodename[:255] or "-"
