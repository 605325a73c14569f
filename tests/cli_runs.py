"""Command lines run in this process, in one of their own, and on a terminal."""

import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from click.testing import CliRunner, Result

from sockproxy.operating.cli.root import root


def run(*args: str, columns: int | None = None, **options: Any) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns), **options.pop("env", {})}
    return CliRunner(env=env).invoke(root, args, **options)


def run_process(*args: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "sockproxy", *args]
    return subprocess.run(
        command, env=environment | (env or {}), text=True, timeout=60, **{"capture_output": True, **options}
    )


def run_on_terminal(*args: str, columns: int, env: dict[str, str] | None = None) -> str:
    ours, theirs = pty.openpty()
    sizes = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | sizes | (env or {})
    with subprocess.Popen([sys.executable, "-m", "sockproxy", *args], stdout=theirs, env=environment):
        os.close(theirs)
        with open(ours, "rb", buffering=0) as screen:
            return b"".join(_read_to_end(screen)).decode()


def _read_to_end(screen: io.RawIOBase) -> Iterator[bytes]:
    while True:
        try:
            yield screen.read(65536) or b""
        except OSError:  # EIO: the other side of a terminal is closed
            return
