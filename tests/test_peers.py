"""Peers: a container is known by its process's control group, and what has ended is nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sockproxy.forwarding.downstream import peers

A, B = "ab" * 32, "01" * 32
OF_US, OF_OTHERS = (f"/user.slice/user-{uid}.slice/user@{uid}.service" for uid in (os.getuid(), os.getuid() + 1))
CGROUPS = {
    "v1-cgroupfs": (f"12:pids:/docker/{A}\n11:memory:/docker/{A}\n0::/system.slice/containerd.service\n", A),
    "v2-systemd": (f"0::/system.slice/docker-{A}.scope\n", A),
    "v2-systemd-inner": (f"0::/system.slice/docker-{A}.scope/init.scope\n", A),
    "kubepods": (f"0::/kubepods/besteffort/pod8a2c1d7e-1f2a-4c55-9a4e-0c6f7d1b2a3c/{A}\n", A),
    "containerd": (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{A}.scope\n", A),
    "podman": (f"0::/machine.slice/libpod-{A}.scope/container\n", A),
    "docker-in-docker": (f"0::/docker/{A}/docker/{B}\n", A),
    "only-some-hierarchies": (f"2:cpu:/\n1:memory:/docker/{B}\n0::/\n", B),
    "rootless": (f"0::{OF_US}/user.slice/docker-{A}.scope\n", A),
    "as-a-user-names-it": (f"0::{OF_OTHERS}/app.slice/docker-{A}.scope\n", None),
    "as-a-user-names-it-in-one-hierarchy": (f"2:cpu:/\n1:name=systemd:{OF_OTHERS}/docker-{A}.scope\n0::/\n", None),
    "none": ("0::/user.slice/user-1000.slice/session-2.scope\n", None),
    "root": ("0::/\n", None),
    "too-short": (f"0::/docker/{A[:-1]}\n", None),
    "too-long": (f"0::/docker/{A}0\n", None),
    "upper-case": (f"0::/docker/{A.upper()}\n", None),
    "no-border-before-it": (f"0::/docker/x{A}\n", None),
    "not-at-the-end": (f"0::/docker/{A}.service\n", None),
    "empty": ("", None),
}


@pytest.mark.parametrize(("text", "container"), CGROUPS.values(), ids=CGROUPS)
def test_a_container_is_known_by_its_control_group(tmp_path: Path, text: str, container: str | None) -> None:
    path = tmp_path / "cgroup"
    path.write_text(text)
    assert peers._container_of_cgroup(str(path)) == container


def test_a_process_that_has_ended_is_nobody_in_particular(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert peers._executable(process.pid) is None
    assert peers._container(process.pid) is None
