"""`make run`: a proxy in front of the engine that answers here, or the demo where none does.

Owns that choice. Begin at `main`.
"""

import os
import socket
import sys
import tempfile
from pathlib import Path

from sockproxy.errors import EngineError
from sockproxy.forwarding.address import Address, parse_address
from sockproxy.operating import app, logs
from sockproxy.operating.config import Config, Files, config_from_options
from sockproxy.operating.demo import tour
from sockproxy.operating.greeting import greeting, metrics_url
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.ports import ADMIN, is_taken
from sockproxy.operating.service import Service
from sockproxy.wire import http1

_DEFAULT_ENGINE = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 2.0
_FIELDS_MAX = 100
_OLDEST_NAMED = b"1.24"  # engines that do not tell their version in a ping are older than that
_COMMAND = str(Path(sys.executable).with_name("sockproxy"))


def main() -> int:
    """Serves until Ctrl-C; the exit code."""
    logs.set_up("auto", "warning")
    engine = os.environ.get("DOCKER_HOST") or _DEFAULT_ENGINE
    api_version = answers(engine)
    try:
        if api_version:
            return _serve(engine, api_version)
        print(f"No engine answers at {engine}: this is the embedded demo engine.\n", flush=True)
        return tour.run_demo(command=_COMMAND)
    except OSError as error:
        print(f"sockproxy: {error}", file=sys.stderr)
        return 2


def answers(engine: str) -> str:
    """The API version of the engine that says OK to a ping there, "" if none does."""
    try:
        address = parse_address(engine)
        with _connect(address) as sock:
            sock.settimeout(_ANSWER_SECONDS)
            sock.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            raw = b""
            while b"\r\n\r\n" not in raw and (piece := sock.recv(4096)):
                raw += piece
        head = http1.parse_response_head(raw[: raw.find(b"\r\n\r\n") + 4], _FIELDS_MAX, "GET")
    except (OSError, ValueError, EngineError):
        return ""  # lawful: in whatever way it does not answer, the demo takes its place
    version = http1.field(head.fields, b"api-version") or _OLDEST_NAMED
    return version.decode("latin-1") if head.status == 200 else ""


def _connect(address: Address) -> socket.socket:
    if address.scheme == "tcp":
        return socket.create_connection((address.host, address.port), _ANSWER_SECONDS)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_ANSWER_SECONDS)
    sock.connect(address.path)
    return sock


def _serve(engine: str, api_version: str) -> int:
    admin = "tcp://127.0.0.1:0" if is_taken() else ADMIN
    with tempfile.TemporaryDirectory(prefix="sockproxy-") as folder:

        def load(files: Files) -> Config:
            return config_from_options(
                load_catalogue(),
                listen=[f"unix://{folder}/docker.sock"],
                engine=engine,
                policy="kubernetes-1.4",
                admin=admin,
                audit=[f"{folder}/audit.jsonl"],
                files=files,
            )

        def greet(service: Service) -> None:
            url = metrics_url(service.admin)
            print(greeting(service.config, url, api_version=api_version, command=_COMMAND), flush=True)

        return app.serve(load({}), load, on_started=greet)


if __name__ == "__main__":
    sys.exit(main())
