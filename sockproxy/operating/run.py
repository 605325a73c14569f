"""`make run`: a proxy in front of the engine that answers here, or the demo where none does.

Owns that choice. Begin at `main`.
"""

import os
import socket
import sys
import tempfile
from pathlib import Path

from sockproxy.data import load_operations
from sockproxy.forwarding.address import Address, parse_address
from sockproxy.judging.catalogue import Catalogue
from sockproxy.operating import app, logs
from sockproxy.operating.config import Config, config_from_options
from sockproxy.operating.demo import tour
from sockproxy.operating.greeting import greeting, metrics_url

_DEFAULT_ENGINE = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 2.0
_COMMAND = str(Path(sys.executable).with_name("sockproxy"))


def main() -> int:
    """Serves until Ctrl-C; the exit code."""
    logs.set_up("auto", "warning")
    engine = os.environ.get("DOCKER_HOST", _DEFAULT_ENGINE)
    if answers(engine):
        return _serve(engine)
    print(f"No engine answers at {engine}: this is the embedded demo engine.\n", flush=True)
    return tour.run_demo(command=_COMMAND)


def answers(engine: str) -> bool:
    """Whether an engine says OK to a ping there."""
    try:
        address = parse_address(engine)
        with _connect(address) as sock:
            sock.settimeout(_ANSWER_SECONDS)
            sock.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in sock.recv(64)
    except (OSError, ValueError):
        return False  # lawful: in whatever way it does not answer, the demo takes its place


def _connect(address: Address) -> socket.socket:
    if address.scheme == "tcp":
        return socket.create_connection((address.host, address.port), _ANSWER_SECONDS)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_ANSWER_SECONDS)
    sock.connect(address.path)
    return sock


def _serve(engine: str) -> int:
    with tempfile.TemporaryDirectory(prefix="sockproxy-") as folder:

        def load() -> Config:
            return config_from_options(
                Catalogue(load_operations()),
                listen=[f"unix://{folder}/docker.sock"],
                engine=engine,
                policy="kubernetes-1.4",
                admin="tcp://127.0.0.1:9323",
                audit=[f"{folder}/audit.jsonl"],
            )

        config = load()
        print(greeting(config, metrics_url(config.admin), command=_COMMAND), flush=True)
        return app.serve(config, load)


if __name__ == "__main__":
    sys.exit(main())
