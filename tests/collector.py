"""A collector as a process of its own, which can be killed: what it has got stands in a file, a message a line.

Started as `python -m tests.collector KIND ADDRESS FILE [CERT KEY]`; prints a line when it listens. Kinds: `unix` and `udp`
(datagrams), `tcp` and `tls` (syslog with lengths), `http` (OpenTelemetry), and `deaf`, a unix socket that nobody reads from.
Begin at `Collector`, the test's end of it.
"""

import array
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tests.integration.proxy_process import DIES_WITH_US, PROJECT

Told = Callable[[bytes], None]


class Collector:
    """A collector at an address; starts anew at the same one."""

    def __init__(self, kind: str, address: str, file: Path, *tls: str) -> None:
        self.file = file
        self._arguments = (kind, address, str(file), *tls)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Collector":
        command = [*DIES_WITH_US, sys.executable, "-m", "tests.collector", *self._arguments]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_CORE_"))
        }
        self._process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listens\n"
        return self

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process = None

    def __enter__(self) -> "Collector":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    @property
    def got(self) -> list[bytes]:
        """The messages that came, in their order."""
        return self.file.read_bytes().splitlines() if self.file.exists() else []

    @property
    def lines(self) -> list[bytes]:
        """The audit lines in them."""
        return [message[message.index(b'{"') :] for message in self.got]


def unix(address: str, told: Told) -> None:
    """Datagrams, or the files whose descriptors they have; of journald's fields, the MESSAGE."""
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        print("listens", flush=True)
        while True:
            data, ancillary, _, _ = sock.recvmsg(1 << 20, 64)
            for _, _, passed in ancillary:
                descriptors = array.array("i", passed)
                with open(descriptors[0], "rb") as file:
                    file.seek(0)
                    data = file.read()
            told(next((field[8:] for field in data.split(b"\n") if field.startswith(b"MESSAGE=")), data))


def deaf(address: str, _: Told) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        print("listens", flush=True)
        signal.pause()


def udp(address: str, told: Told) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", int(address)))
        print("listens", flush=True)
        while True:
            told(sock.recv(1 << 16))


def stream(address: str, told: Told, context: ssl.SSLContext | None = None) -> None:
    """One connection at a time."""
    with socket.create_server(("127.0.0.1", int(address))) as listener:
        print("listens", flush=True)
        while True:
            peer, _ = listener.accept()
            try:
                connection = peer if context is None else context.wrap_socket(peer, server_side=True)
                with connection.makefile("rb") as file:
                    while message := read_message(file):
                        told(message)
            except OSError:
                continue  # a handshake that failed, a connection that was cut off


def read_message(file: BinaryIO) -> bytes:
    length = b""
    while (digit := file.read(1)) not in (b" ", b""):
        length += digit
    return file.read(int(length)) if length else b""


def serve_http(address: str, told: Told) -> None:
    """Of each request, a line for each record; the answers that are due stand in FILE.answers, `STATUS BODY`, each for once."""
    import json

    answers = Path(sys.argv[3] + ".answers")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            due = answers.read_text().splitlines() if answers.exists() else []
            status, _, text = (due or ["200 {}"])[0].partition(" ")
            if due:
                answers.write_text("".join(f"{one}\n" for one in due[1:]))
            if status == "200":
                for record in json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
                    told(record["body"]["stringValue"].encode())
            self.send_response(int(status))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", int(address)), Handler) as server:
        print("listens", flush=True)
        server.serve_forever()


def main(kind: str, address: str, file: str, *tls: str) -> None:
    with open(file, "ab", buffering=0) as out:

        def told(message: bytes) -> None:
            out.write(message + b"\n")

        if kind == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            stream(address, told, context)
        else:
            {"unix": unix, "deaf": deaf, "udp": udp, "tcp": stream, "http": serve_http}[kind](address, told)


if __name__ == "__main__":
    main(*sys.argv[1:])
