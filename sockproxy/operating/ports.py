"""Where the admin listener is when nobody said where.

Owns that a port which is somebody else's is no reason to be without a proxy, if it was not asked for. Must not know what
listens there. Begin at `is_taken`.
"""

import errno
import socket

ADMIN_PORT = 9323
ADMIN = f"tcp://127.0.0.1:{ADMIN_PORT}"


def is_taken(port: int = ADMIN_PORT) -> bool:
    """Whether somebody listens at this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As our own listener does: one that has ended is no one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # lawful: whatever else is wrong, who listens there tells better
    return False
