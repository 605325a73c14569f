"""A real dockerd of one's own, in namespaces of its own.

Owns the life of one dockerd: start, kill, start again, and taking away all that it leaves. `unshare` gives it own process,
network and mount namespaces, so that its containers, shims, bridges, ports and mounts end with it, whatever happened.
Begin at `Dockerd.start`. Facts of what the engine saw are read from its debug log (`calls`) and from the kernel
(`connections`), never from the proxy.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .dialogue import Api, connections_to, eventually
from .proxy_process import DIES_WITH_US
from .rootfs import IMAGE, busybox_rootfs

START_SECONDS = 60.0
"""A start takes 0.1 to 0.3 s; the rest is for a machine that is busy."""

STANDING = {"Labels": {"stands": "for more than one test"}}

PREPARE = """
mount -t tmpfs tmpfs /run || exit 1
busybox ip link set lo up
exec dockerd "$@"
"""
"""Run as the first process of the namespaces. /run is covered since shims leave their sockets there."""


class EngineUnavailable(Exception):
    """No dockerd can run here; the text says why."""


class Dockerd:
    """One dockerd in `folder`, reachable at `socket` while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.log = folder / "dockerd.log"
        self.api = Api(self.socket)
        self._cgroup = f"sockproxy-test-{os.getpid()}-{folder.name}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "daemon.json").write_text("{}")

    def start(self) -> None:
        """Returns when the engine answers; raises EngineUnavailable if it cannot run here."""
        check_can_run()
        self._forget_dead()
        command = [
            *DIES_WITH_US,
            *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", PREPARE, "dockerd", *self._options()),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"TMPDIR": str(self.folder)},  # where containerd leaves its stacks
            )
        try:
            eventually(self._answers, START_SECONDS)
        except AssertionError:
            self.kill()
            tail = self.log.read_text(errors="replace")[-2000:]
            raise EngineUnavailable(f"dockerd does not come up here; the end of its log:\n{tail}") from None

    def _forget_dead(self) -> None:
        """Takes away what tells of processes of an earlier run: their numbers are soon those of others."""
        for name in ("docker.sock", "dockerd.pid"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "exec", ignore_errors=True)

    def _options(self) -> list[str]:
        return [
            *("--debug", "--config-file", f"{self.folder}/daemon.json", "--host", f"unix://{self.socket}"),
            *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
            *("--pidfile", f"{self.folder}/dockerd.pid", "--bridge=none", "--iptables=false", "--ip6tables=false"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self._cgroup}"),
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError("dockerd ended")
        try:
            return self.api.call("GET", "/_ping").status == 200
        except OSError:
            return False

    def import_busybox(self) -> None:
        """Makes the one image that the tests use, from this machine's static busybox."""
        target = f"/images/create?fromSrc=-&repo={IMAGE.partition(':')[0]}&tag={IMAGE.partition(':')[2]}"
        answer = self.api.call("POST", target, busybox_rootfs(), content_type="application/x-tar")
        assert answer.status == 200 and b"error" not in answer.body, answer

    def kill(self) -> None:
        """Ends the engine and all that runs in it at once, as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ends the engine and takes away all that it left."""
        self.kill()
        for pattern in (self._cgroup, f"*/{self._cgroup}"):  # the one hierarchy of version 2, the many of version 1
            for top in Path("/sys/fs/cgroup").glob(pattern):
                eventually(partial(remove_cgroup, top))
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def init_pid(self) -> int:
        """The pid, seen from here, of a process in the engine's namespaces."""
        assert self._process is not None
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def connections(self) -> int:
        """How many connections to its socket are open."""
        return connections_to(self.socket)

    def mark(self) -> int:
        """A place in the debug log, for `calls`."""
        return self.log.stat().st_size

    def calls(self, since: int = 0) -> list[str]:
        """What reached the engine's handlers since `mark`: "GET /v1.41/info". It is logged before it is done. Without
        the unversioned ping, by which a proxy may look after the engine's health at any time."""
        with self.log.open("rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace")
        parts = [line.partition('msg="Calling ')[2] for line in text.splitlines()]
        return [part.rpartition('"')[0] for part in parts if part and not part.endswith(' /_ping"')]

    def remove_containers(self) -> None:
        """All but those that stand for longer than a test."""
        with self.api.connect() as connection:
            for container in connection.request("GET", "/containers/json?all=1").json():
                if STANDING["Labels"].items() - container["Labels"].items():
                    connection.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    @contextlib.contextmanager
    def standing(self) -> Iterator[str]:
        """The name of a running container that tests share and leave as it is; it has said hello and made a file."""
        command = ["sh", "-c", "echo > /made; echo hello; exec sleep 1000"]
        answer = self.api.call("POST", "/containers/create?name=standing", {"Image": IMAGE, "Cmd": command, **STANDING})
        assert answer.status == 201, answer
        self.api.start("standing")
        eventually(lambda: self.api.logs("standing") == b"hello\n")
        yield "standing"
        self.api.call("DELETE", "/containers/standing?force=1&v=1")


def check_can_run() -> None:
    """Raises EngineUnavailable where something is missing."""
    if os.geteuid() != 0:
        raise EngineUnavailable("dockerd needs root")
    for program, package in (("dockerd", "docker.io"), ("busybox", "busybox-static"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            raise EngineUnavailable(f"{program} is not installed (Debian: {package})")


def remove_cgroup(top: Path) -> bool:
    """Whether the tree of empty control groups is gone; the kernel refuses while one of them still has a process."""
    folders = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
    try:
        for folder in (*folders, top):
            folder.rmdir()
    except OSError:
        return not top.exists()
    return True
