"""What is on the disk at a moment is what is left when the power fails then, and `fsync` says what that is.

The audit file is on a file system of its own, in an image. A copy of that image is what the disk holds at that moment: what the
kernel has not written yet is not in there. The copy is mounted as after a reboot, and its trail is read.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from sockproxy.recording.trail import read_events

from .dialogue import eventually
from .null_engine import NullEngine
from .proxy_process import ProxyProcess

CONFIG = """
version: 1
engine: unix://$engine
listeners: [{address: "unix://$socket", policy: allow-all}]
audit:
  - {file: $audit, fsync: %s}
"""


class Disk:
    """A file system in an image, and what would be left of it."""

    def __init__(self, folder: Path) -> None:
        self.image, self.at, self.left = folder / "image", folder / "disk", folder / "left"
        self.at.mkdir()
        self.left.mkdir()
        with self.image.open("wb") as image:
            image.truncate(16 << 20)

    def mount(self) -> bool:
        commands = (["mkfs.ext4", "-q", "-F", str(self.image)], ["mount", "-o", "loop", str(self.image), str(self.at)])
        try:
            return all(subprocess.run(command, check=False).returncode == 0 for command in commands)
        except FileNotFoundError:
            return False

    def targets_after_power_loss(self, file: str) -> list[str]:
        """The targets of the decisions that are in a trail then."""
        copy = self.image.with_suffix(".copy")
        shutil.copyfile(self.image, copy)
        subprocess.run(["mount", "-o", "loop", str(copy), str(self.left)], check=True)
        try:
            trail = self.left / file
            events = list(read_events([str(trail)])) if trail.exists() else []
        finally:
            subprocess.run(["umount", str(self.left)], check=True)
        return [str(event["target"]) for event in events if event["stage"] == "decided"]


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    made = folder / uuid4().hex[:8]
    made.mkdir()
    disk = Disk(made)
    if not disk.mount():
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk.at)], check=True)


@pytest.mark.parametrize("fsync", ["always", "interval"])
def test_what_is_left_when_the_power_fails(disk: Disk, fsync: str, folder: Path) -> None:
    with NullEngine(folder / f"{fsync}.sock") as engine:
        place = folder / f"power-{fsync}"
        between = ProxyProcess(place, engine.path, "allow-all", str(disk.at / "audit.jsonl"), CONFIG % fsync)
        between.start()
        try:
            for number in range(10):
                target = f"/containers/k{number}/start"
                assert between.api.call("POST", target).status == 200
                if fsync == "always":
                    assert target in disk.targets_after_power_loss("audit.jsonl")
            if fsync == "interval":
                eventually(lambda: len(disk.targets_after_power_loss("audit.jsonl")) == 10)
        finally:
            between.stop()
