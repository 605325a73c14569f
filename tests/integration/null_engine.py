"""An engine that does nothing but watch: for what must be true at the moment when a request arrives.

It answers every request with 200 and an empty body, and keeps the bytes of each. `at_arrival` is called in the moment
when the first byte of a request is there, before anything is answered.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class NullEngine:
    """A listening socket at `path` with a thread for each connection."""

    def __init__(self, path: Path, at_arrival: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._heads: list[bytes] = []
        self._at_arrival = at_arrival
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def requests(self) -> list[bytes]:
        """What came, without the pings by which a proxy may look after the engine's health."""
        return [head for head in self._heads if b" /_ping HTTP" not in head]

    def __enter__(self) -> "NullEngine":
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._listener, *self._open):
            with contextlib.suppress(OSError):  # it may have ended by itself
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        held = b""
        try:
            while some := peer.recv(65536):
                if not held:
                    self._at_arrival()
                held += some
                if b"\r\n\r\n" in held:
                    self._heads.append(held)
                    held = b""
                    peer.sendall(OK)
        except OSError:
            return
