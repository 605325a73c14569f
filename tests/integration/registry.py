"""A registry with one image, on the loopback of the engine's own network namespace: so that pulls are real.

Begin at `Registry`. A repository called `slow` never gets its layer: its pull lasts until somebody gives it up, and
`slow_pulls` tells how many of them are still held open.
"""

import contextlib
import ctypes
import gzip
import hashlib
import json
import os
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .rootfs import busybox_rootfs

CLONE_NEWNET = 0x40000000


class Registry:
    """Serves while it is open, at `address` as the engine sees it."""

    def __init__(self, pid: int) -> None:
        self._server = serve_blobs(listen_in_namespace_of(pid))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def slow_pulls(self) -> int:
        return self._server.slow_pulls


def listen_in_namespace_of(pid: int) -> socket.socket:
    """A socket belongs to the namespace in which its maker was; a thread of its own goes there, and ends there."""
    made: list[socket.socket] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if libc.setns(namespace, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server(("127.0.0.1", 0)))
        finally:
            os.close(namespace)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class BlobServer(ThreadingHTTPServer):
    daemon_threads = True
    slow_pulls = 0
    blobs: dict[str, tuple[str, bytes]]
    layer: str


def serve_blobs(listener: socket.socket) -> BlobServer:
    server = BlobServer(listener.getsockname(), RegistryAnswers, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.blobs, server.layer = image_blobs()
    return server


def image_blobs() -> tuple[dict[str, tuple[str, bytes]], str]:
    """Name or digest -> media type and content; and the digest of the layer."""
    tar = busybox_rootfs()
    layer = gzip.compress(tar, 1, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
            "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "busybox"}],
        }
    ).encode()
    image = "application/vnd.docker.distribution.manifest.v2+json"
    types = {config: "application/vnd.docker.container.image.v1+json"}
    types[layer] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    described = {blob: {"mediaType": types[blob], "size": len(blob), "digest": digest(blob)} for blob in types}
    manifest = {"schemaVersion": 2, "mediaType": image, "config": described[config], "layers": [described[layer]]}
    raw = json.dumps(manifest).encode()
    named = {"latest": (image, raw), digest(raw): (image, raw)}
    return named | {digest(blob): (types[blob], blob) for blob in types}, digest(layer)


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class RegistryAnswers(BaseHTTPRequestHandler):
    """GET and HEAD of what `image_blobs` made, whatever the repository is called."""

    server: BlobServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        repository, wanted = self.path.split("/")[2], self.path.rpartition("/")[2]
        if self.path == "/v2/":
            self._answer("application/json", b"{}")
        elif repository == "slow" and wanted == self.server.layer:
            self._hold()
        elif wanted in self.server.blobs:
            self._answer(*self.server.blobs[wanted])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def _answer(self, media_type: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Content-Digest", digest(content))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _hold(self) -> None:
        """Promises much and sends a byte now and then, until the other side closes. (An engine that has given a pull up
        closes at the next byte only.)"""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.server.slow_pulls += 1
        closing = select.poll()
        closing.register(self.connection, select.POLLRDHUP)
        with contextlib.suppress(OSError):
            while not closing.poll(20):
                self.wfile.write(b"x")
        self.server.slow_pulls -= 1
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
