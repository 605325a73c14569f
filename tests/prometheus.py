"""A real Prometheus and its promtool, where they are installed (tests/install_engine.sh). Begin at `Prometheus.start`."""

import json
import math
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from .integration.dialogue import eventually
from .integration.proxy_process import DIES_WITH_US
from .ports import free_port

ROOT = Path(__file__).parent.parent
RULES = ROOT / "prometheus"
START_SECONDS = 20.0
JOB = "sockproxy"
SCRAPE_SECONDS = 0.5


def needs(program: str) -> str:
    """Where promtool or prometheus is; without it the test is skipped, or fails where all that is needed has to be there."""
    found = shutil.which(program)
    if found is not None:
        return found
    reason = f"{program} is not installed: it is in Debian's package prometheus"
    if os.environ.get("CI") or os.environ.get("SOCKPROXY_REQUIRE_ENGINE") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def promtool(*arguments: str, stdin: str = "") -> str:
    """What promtool found, "" if nothing: all that it said, where it ends with another code than 0."""
    told = subprocess.run(
        [needs("promtool"), *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    return told.stdout + told.stderr if told.returncode else ""


class Prometheus:
    """A server in `folder` that scrapes one admin listener every half second, with the project's rules."""

    def __init__(self, folder: Path, target: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._target = target
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it is ready to be asked."""
        scrape = {"job_name": JOB, "static_configs": [{"targets": [self._target]}]}
        seconds = f"{int(SCRAPE_SECONDS * 1000)}ms"
        config = {
            "global": {"scrape_interval": seconds, "scrape_timeout": seconds, "evaluation_interval": seconds},
            "rule_files": [str(RULES / "recording.yaml"), str(RULES / "alerts.yaml")],
            "scrape_configs": [scrape],
        }
        file = self._folder / "prometheus.json"
        file.write_text(json.dumps(config))  # which is YAML
        options = [
            f"--config.file={file}",
            f"--storage.tsdb.path={self._folder / 'prometheus'}",
            f"--web.listen-address={self.address}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, needs("prometheus"), *options], stdout=log, stderr=log, start_new_session=True
            )
        eventually(self._is_ready, START_SECONDS)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)

    def get(self, path: str, **parameters: str) -> Any:
        """What its API says."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def values(self, expression: str, begin: float, end: float) -> list[float]:
        """All values of an expression from `begin` to `end`, of all its series, without those that are no number."""
        found = self.get("query_range", query=expression, start=str(begin), end=str(end), step="1s")["result"]
        numbers = [float(value) for series in found for _, value in series["values"]]
        return [number for number in numbers if not math.isnan(number)]

    def now(self, expression: str) -> list[float]:
        """The same, now."""
        numbers = [float(series["value"][1]) for series in self.get("query", query=expression)["result"]]
        return [number for number in numbers if not math.isnan(number)]
