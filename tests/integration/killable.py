"""A proxy that can be killed hundreds of times: a process that has imported and read everything forks one at a word.

Started as `python -m tests.integration.killable CONFIG`. For each line on its standard input it forks a proxy, prints its pid,
and is ready for the next line when that proxy has ended. Begin at `Nursery`, which is the test's end of it.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

from .proxy_process import DIES_WITH_US, PROJECT


class Nursery:
    """The process that forks, and the proxy that it has forked last."""

    def __init__(self, config: Path, log: Path) -> None:
        command = [*DIES_WITH_US, sys.executable, "-m", "tests.integration.killable", str(config)]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_CORE_"))
        }
        with log.open("ab") as told:
            self._process = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told
            )

    def fork(self) -> int:
        """The pid of a new proxy, as soon as the one before has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """Waits for the last proxy."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()


def main(file: str) -> None:
    from sockproxy.operating.app import serve
    from sockproxy.operating.config import load_config
    from sockproxy.operating.known import load_catalogue

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    config = load_config(file, load_catalogue())
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(serve(config, lambda: config))
        print(pid, flush=True)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(sys.argv[1])
