"""docker's own command over TLS with `--tlsverify`: it prints what it prints when it speaks to the engine directly, and what
it may do follows from its certificate.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.certificates import Authority, Certificate
from tests.ports import free_port

from .conftest import Door
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import IMAGE
from .test_clients import WORK, outcome, remove_leftovers

CONFIG = """\
version: 1
engine: unix://$engine
admin: tcp://$admin
audit: [{{file: $audit}}]
listeners:
  - {{address: "unix://$socket", policy: allow-all}}
  - address: tcp://127.0.0.1:{port}
    tls: {{cert: {cert}, key: {key}, client_ca: {ca}}}
    clients:
      - {{match: {{tls_subject: "CN=ci-*", cidr: 127.0.0.0/8}}, policy: allow-all}}
      - {{match: {{spiffe_id: "spiffe://example.org/watch/*"}}, policy: readonly}}
"""


OVER_TLS = (
    *("version", "run-both-streams", "run-exit-code", "run-big-output", "run-piped", "create-start-attached", "exec"),
    *("exec-piped", "exec-output-after-input", "logs-follow", "cp-out", "cp-in", "classic-build", "events", "networks"),
)
"""Of the work in `test_clients` what moves much, both ways, or ends one direction first: TLS differs in its streams, not
in what is asked."""


class Front(NamedTuple):
    """A proxy with a TLS listener, and what is needed to come in there."""

    proxy: ProxyProcess
    authority: Authority
    port: int

    def door(self, certificate: Certificate, home: Path) -> Door:
        """The way in with that certificate."""
        folder = Path(f"{certificate.cert}.client")
        if not folder.exists():
            folder.mkdir()
            files = {"ca.pem": self.authority.cert, "cert.pem": certificate.cert, "key.pem": certificate.key}
            for name, file in files.items():
                shutil.copy(file, folder / name)
        host = f"tcp://localhost:{self.port}"
        settings = {"DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
        return Door("tls", self.proxy.socket, self.proxy.api, home, settings)


@pytest.fixture(scope="module")
def front(folder: Path, session_engine: Dockerd) -> Iterator[Front]:
    authority = Authority(folder / "authority")
    server = authority.sign("/CN=localhost", "DNS:localhost", "IP:127.0.0.1")
    port = free_port()
    config = CONFIG.format(cert=server.cert, key=server.key, ca=authority.cert, port=port)
    proxy = ProxyProcess(folder / "tls", session_engine.socket, "", config=config)
    proxy.start()
    yield Front(proxy, authority, port)
    proxy.stop()


@pytest.fixture(scope="module")
def builder(front: Front) -> Certificate:
    return front.authority.sign("/O=Example/CN=ci-7")


@pytest.fixture
def tls_door(front: Front, builder: Certificate, folder: Path, engine: Dockerd) -> Door:
    return front.door(builder, folder)


@pytest.mark.parametrize("work", OVER_TLS)
def test_docker_prints_the_same_over_tls(direct: Door, tls_door: Door, work: str) -> None:
    remove_leftovers(direct)
    assert outcome(tls_door, WORK[work]) == outcome(direct, WORK[work])


@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_what_is_piped_in_ends_and_what_comes_out_of_it_does_not(tls_door: Door, size: int) -> None:
    """The client finishes its direction of TLS only, and the sum is printed after that."""
    data = bytes(range(256)) * (size // 256 + 1)
    told = tls_door.docker("run", "-i", "--rm", IMAGE, "sh", "-c", "md5sum; sleep 0.2; echo late", stdin=data[:size])
    assert told.stdout == f"{hashlib.md5(data[:size]).hexdigest()}  -\nlate\n".encode()


def test_who_may_do_what_is_in_the_certificate(front: Front, folder: Path, engine: Dockerd, direct: Door) -> None:
    watcher = front.door(front.authority.sign("/O=Example", "URI:spiffe://example.org/watch/1"), folder)
    assert watcher.docker("ps").returncode == 0
    told = watcher.docker("run", IMAGE, "true")
    assert b"ContainerCreate denied by policy readonly" in told.stderr
    other = front.door(front.authority.sign("/CN=somebody"), folder)
    told = other.docker("ps")
    assert (told.returncode, b"denied by policy no-client: none of this listener's clients" in told.stderr) == (1, True)
    [event] = front.proxy.events(operation="ContainerList", effect="deny", stage="completed")
    assert event["principal"]["tls_subject"] == "CN=somebody"
    assert event["principal"]["address"].startswith("127.0.0.1:")


def test_strangers_do_not_get_in(front: Front, folder: Path, tmp_path: Path, engine: Dockerd) -> None:
    stranger = Authority(tmp_path / "stranger").sign("/CN=ci-7")
    mark = engine.mark()
    told = front.door(stranger, folder).docker("ps")
    assert told.returncode == 1
    assert b"certificate" in told.stderr
    plain = front.door(stranger, folder)
    told = plain.docker("ps", DOCKER_TLS_VERIFY="", DOCKER_CERT_PATH="")
    assert told.returncode == 1
    assert b"this is a TLS listener" in told.stderr
    assert engine.calls(mark) == []


def test_a_build_with_buildkit_over_tls(tls_door: Door) -> None:
    context = tls_door.home / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /there\n")
    told = tls_door.docker("build", "-t", "over-tls", str(context), DOCKER_BUILDKIT="1")
    assert told.returncode == 0, told.stderr
    assert tls_door.docker("rmi", "over-tls").returncode == 0
