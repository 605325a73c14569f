"""Clients in containers that connect by tcp: each meets the policy of its name and labels, as the engine knows them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Door
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import IMAGE

GATEWAY, PORT = "10.77.0.1", 2375

CONFIG = """
version: 1
engine: unix://$engine
listeners:
  - {address: "unix://$socket", policy: allow-all}
  - address: tcp://10.77.0.1:2375
    name: network
    insecure: true
    clients:
      - {match: {container: {labels: {team: "ci*"}}}, policy: readonly}
      - {match: {container: {name: "watcher-*"}}, policy: watching}
admin: tcp://$admin
audit: [{file: $audit}]
policies:
  watching: {allow: [{operations: [SystemInfo]}]}
"""

LISTS, INFO = "/v1.41/containers/json", "/v1.41/info"


@pytest.fixture
def network(engine: Dockerd, direct: Door) -> Iterator[str]:
    """A bridge network, on whose gateway's address a proxy can listen."""
    name = f"net-{Path(direct.home).name}"
    made = direct.docker("network", "create", "--subnet", "10.77.0.0/24", "--gateway", GATEWAY, name)
    if made.returncode:
        pytest.skip(f"no bridge network can be made here: {made.stderr.decode()}")
    yield name
    engine.remove_containers()
    direct.docker("network", "rm", name)


@pytest.fixture
def front(engine: Dockerd, folder: Path, network: str) -> Iterator[ProxyProcess]:
    """A proxy in the engine's network namespace."""
    proxy = ProxyProcess(folder / network, engine.socket, "", config=CONFIG, network_of=engine.init_pid)
    proxy.start()
    yield proxy
    proxy.stop()


def run(direct: Door, network: str, name: str, *options: str) -> str:
    done = direct.docker("run", "-d", "--network", network, "--name", name, *options, IMAGE, "sleep", "1000")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def ask(direct: Door, name: str, target: str) -> int:
    """The status that a program in a container gets from the proxy."""
    url = f"http://{GATEWAY}:{PORT}{target}"
    return status_of(direct.docker("exec", name, "wget", "-q", "-S", "-O", "/dev/null", url))


def status_of(done: subprocess.CompletedProcess[bytes]) -> int:
    line = next(line for line in done.stderr.decode().splitlines() if "HTTP/1.1 " in line)
    return int(line.partition("HTTP/1.1 ")[2][:3])


def test_each_container_meets_the_policy_of_its_name_and_labels(
    direct: Door, network: str, front: ProxyProcess
) -> None:
    labelled = run(direct, network, "anything", "--label", "team=ci-7", "--label", "other=1")
    watcher = run(direct, network, "watcher-1", "--label", "team=watch")
    nobody = run(direct, network, "nobody")
    assert [ask(direct, "anything", target) for target in (LISTS, INFO)] == [200, 200]
    assert [ask(direct, "watcher-1", target) for target in (LISTS, INFO)] == [403, 200]
    assert [ask(direct, "nobody", target) for target in (LISTS, INFO)] == [403, 403]
    events = front.events(stage="completed", listener="network")
    assert [(event["principal"]["container"], event["policy"]) for event in events] == [
        (labelled, "readonly"),
        (labelled, "readonly"),
        (watcher, "watching"),
        (watcher, "watching"),
        (nobody, "no-client"),
        (nobody, "no-client"),
    ]
    assert {event["principal"]["kind"] for event in events} == {"tcp"}


def test_a_container_is_known_as_soon_as_it_runs(direct: Door, network: str, front: ProxyProcess) -> None:
    url = f"http://{GATEWAY}:{PORT}{LISTS}"
    for _ in range(5):
        done = direct.docker(
            *("run", "--rm", "--network", network, "--label", "team=ci", IMAGE, "wget", "-S", "-q", "-O-", url)
        )
        assert status_of(done) == 200, (done.stdout, done.stderr, front.log.read_text())


def test_an_address_that_has_passed_on_does_not_pass_on_what_it_meant(
    direct: Door, network: str, front: ProxyProcess
) -> None:
    address = ("--ip", "10.77.0.9")
    run(direct, network, "first", "--label", "team=ci", *address)
    assert ask(direct, "first", LISTS) == 200
    assert direct.docker("rm", "-f", "first").returncode == 0
    run(direct, network, "second", *address)
    assert ask(direct, "second", LISTS) == 403


def test_who_is_no_container_is_none(engine: Dockerd, direct: Door, network: str, front: ProxyProcess) -> None:
    run(direct, network, "anything", "--label", "team=ci")
    command = ["nsenter", "--net", "--target", str(engine.init_pid), "busybox", "wget", "-q", "-S", "-O", "/dev/null"]
    done = subprocess.run([*command, f"http://{GATEWAY}:{PORT}{LISTS}"], capture_output=True, check=False, timeout=20)
    assert status_of(done) == 403
