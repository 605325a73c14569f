"""What the integration tests stand on: a real engine, a proxy before it, and doors that lead to the engine.

A *door* is a way to the engine, directly or through a proxy with some policy: a test that takes `door` runs once for each
and expects the same of all. `direct` and `through` are for tests that compare two.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from .dialogue import Api
from .dockerd import IMAGE, Dockerd, EngineUnavailable
from .proxy_process import ProxyProcess
from .registry import Registry

DOCKER = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else shutil.which("docker") or "docker"
"""Debian's own, whatever else is installed: it is the one that brings BuildKit's client along."""

CLI_SECONDS = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engine)


class Door(NamedTuple):
    """A way to the engine."""

    name: str
    socket: Path
    api: Api
    home: Path
    settings: Mapping[str, str] = MappingProxyType({})
    """Of the client's environment, where they say more than the socket does."""

    def docker(self, *arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Runs docker's own command line client."""
        return subprocess.run(
            [DOCKER, *arguments],
            input=stdin,
            env=self.environment(**environment),
            cwd=self.home,
            capture_output=True,
            timeout=CLI_SECONDS,
            check=False,
        )

    @contextlib.contextmanager
    def docker_process(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The client while it runs; it is ended at the end."""
        process = subprocess.Popen(
            [DOCKER, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=self.environment(),
            cwd=self.home,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def program(self) -> str:
        return DOCKER

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        return (
            kept | {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.home)} | {**self.settings} | more
        )


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short, since the path of a unix socket has at most 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="sockproxy-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def session_engine(folder: Path) -> Iterator[Dockerd]:
    engine = started_or_skipped(Dockerd(folder / "engine"))
    engine.import_busybox()
    yield engine
    engine.stop()


def started_or_skipped(engine: Dockerd) -> Dockerd:
    """Where a real engine is promised (CI, or SOCKPROXY_REQUIRE_ENGINE=1) its absence is a failure."""
    try:
        engine.start()
    except EngineUnavailable as error:
        if os.environ.get("CI") or os.environ.get("SOCKPROXY_REQUIRE_ENGINE") == "1":
            pytest.fail(f"the integration tests need a real engine: {error}", pytrace=False)
        pytest.skip(f"no real engine: {error}")
    return engine


@pytest.fixture
def engine(session_engine: Dockerd) -> Iterator[Dockerd]:
    """The engine that all tests share; the containers of a test end with it."""
    yield session_engine
    session_engine.remove_containers()


@pytest.fixture(scope="module")
def standing(session_engine: Dockerd) -> Iterator[str]:
    """The name of a container that the tests of a file share."""
    with session_engine.standing() as name:
        yield name


@pytest.fixture
def own_engine(folder: Path) -> Iterator[Dockerd]:
    """An engine that the test may kill."""
    engine = started_or_skipped(Dockerd(Path(tempfile.mkdtemp(dir=folder, prefix="e"))))
    yield engine
    engine.stop()


@pytest.fixture
def registry(engine: Dockerd) -> Iterator[Registry]:
    registry = Registry(engine.init_pid)
    yield registry
    registry.close()


@pytest.fixture
def proxy(folder: Path) -> Iterator[Callable[..., ProxyProcess]]:
    """Starts a proxy of the test's own; each must end well on SIGTERM."""
    started: list[ProxyProcess] = []

    def start(engine: Path, policy: str = "allow-all", audit: str | None = None, config: str = "") -> ProxyProcess:
        proxy = ProxyProcess(Path(tempfile.mkdtemp(dir=folder, prefix="p")), engine, policy, audit, config)
        proxy.start()
        started.append(proxy)
        return proxy

    yield start
    stop_all(started)


@pytest.fixture(scope="session")
def session_proxies(folder: Path, session_engine: Dockerd) -> Iterator[Callable[[str], ProxyProcess]]:
    """One proxy a policy, started when it is first asked for."""
    started: dict[str, ProxyProcess] = {}

    def proxy_of(policy: str) -> ProxyProcess:
        if policy not in started:
            proxy = ProxyProcess(folder / policy, session_engine.socket, policy)
            proxy.start()
            started[policy] = proxy
        return started[policy]

    yield proxy_of
    stop_all(list(started.values()))


def start_mighty(api: Api) -> None:
    """A running container `mighty`, which has the power of the host: what joins it has it, too."""
    host = {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "Binds": ["/:/host"]}
    body = {"Image": IMAGE, "Cmd": ["sleep", "600"], "HostConfig": host}
    assert api.call("POST", "/containers/create?name=mighty", body).status == 201
    api.start("mighty")


BASELINE = """
version: 1
policies:
  baseline:
    allow:
      - operations: [ContainerCreate, ContainerStart, ContainerUpdate, ContainerExec]
        require: {pod_security: baseline}
      - operations: [VolumeCreate, NetworkConnect, ServiceCreate, ServiceUpdate, ImageBuild]
        require: {pod_security: baseline}
      - operations: [ContainerCreate]
        require: {pod_security: baseline, names: [ordinary], ports: ["*"], bind_sources: [/srv]}
      - operations: [ContainerInspect, ContainerList, SystemPing, SystemPingHead]
"""


@pytest.fixture(scope="session")
def baseline(folder: Path, session_engine: Dockerd) -> Iterator[ProxyProcess]:
    """A proxy that requires pod_security: baseline of whatever could give power over the host."""
    with baseline_before(session_engine, folder / "baseline") as proxy:
        yield proxy


@contextlib.contextmanager
def baseline_before(engine: Dockerd, folder: Path) -> Iterator[ProxyProcess]:
    """Such a proxy before an engine."""
    policy = engine.folder / "baseline.yaml"
    policy.write_text(BASELINE, encoding="utf-8")
    proxy = ProxyProcess(folder, engine.socket, str(policy))
    proxy.start()
    yield proxy
    stop_all([proxy])


def stop_all(proxies: list[ProxyProcess]) -> None:
    """Stops every one of them, then says what was wrong with any."""
    failures = []
    for proxy in proxies:
        try:
            proxy.stop()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def direct(folder: Path, engine: Dockerd) -> Door:
    return Door("direct", engine.socket, engine.api, folder)


@pytest.fixture
def through(folder: Path, engine: Dockerd, session_proxies: Callable[[str], ProxyProcess]) -> Callable[[str], Door]:
    """The door through a proxy with this policy."""

    def door(policy: str) -> Door:
        proxy = session_proxies(policy)
        return Door(policy, proxy.socket, proxy.api, folder)

    return door


@pytest.fixture(params=["direct", "allow-all"])
def door(request: pytest.FixtureRequest, direct: Door, through: Callable[[str], Door]) -> Door:
    return direct if request.param == "direct" else through(request.param)


@pytest.fixture(params=["direct", "allow-all", "kubernetes-1.4"])
def kubelet_door(request: pytest.FixtureRequest, direct: Door, through: Callable[[str], Door]) -> Door:
    """The doors that a kubelet of 1.4 may use. It asks without a version, and knows 22 operations only."""
    return direct if request.param == "direct" else through(request.param)
