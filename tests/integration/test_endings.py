"""How exchanges end when somebody leaves: the client's half, the whole client, the engine.

What matters is seen at the engine: how many connections it has (the kernel's count), what it still does.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Door
from .dialogue import Api, Connection, eventually, head, read_json_lines
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .registry import Registry
from .rootfs import IMAGE, tar_of

PATIENT = """
version: 1
engine: unix://$engine
admin: tcp://$admin
listeners: [{address: "unix://$socket", policy: allow-all}]
audit: [{file: $audit}]
limits: {linger_seconds: 600}
"""
"""Of the proxy's limits none is so short that an ending which comes within a test's patience could be by it."""


@pytest.fixture(params=["direct", "allow-all"])
def private_door(
    request: pytest.FixtureRequest, own_engine: Dockerd, proxy: Callable[..., ProxyProcess], folder: Path
) -> Door:
    """A door to an engine that nobody else uses, so that its connections can be counted, and it can be killed."""
    socket = own_engine.socket if request.param == "direct" else proxy(own_engine.socket, config=PATIENT).socket
    return Door(request.param, socket, Api(socket), folder)


@pytest.fixture
def between(own_engine: Dockerd, proxy: Callable[..., ProxyProcess]) -> ProxyProcess:
    return proxy(own_engine.socket)


# The client's half


def test_half_close_ends_an_event_stream(private_door: Door, own_engine: Dockerd) -> None:
    with private_door.api.connect() as connection:
        connection.send_request("GET", "/events")
        assert connection.read_head().status == 200
        before = own_engine.connections()
        connection.half_close()
        assert connection.read_to_end() == b"0\r\n\r\n"
    eventually(lambda: own_engine.connections() < before)


def test_an_ordinary_request_is_answered_after_half_close(door: Door) -> None:
    for target in ("/info", "/containers/json", "/_ping"):
        with door.api.connect() as connection:
            connection.send_request("GET", target)
            connection.half_close()
            assert connection.read_answer().status == 200
            assert connection.read_to_end() == b""


def test_a_write_is_answered_after_half_close(door: Door) -> None:
    with door.api.connect() as connection:
        connection.send_request("POST", "/containers/create", json.dumps({"Image": IMAGE, "Cmd": ["true"]}).encode())
        connection.half_close()
        created = connection.read_answer()
    assert created.status == 201
    assert door.api.call("GET", f"/containers/{created.json()['Id']}/json").status == 200


# The whole client


STREAMS = {
    "events": ("GET", "/events"),
    "logs": ("GET", "/containers/{}/logs?follow=1&stdout=1"),
    "stats": ("GET", "/containers/{}/stats"),
    "wait": ("POST", "/containers/{}/wait"),
}


@pytest.mark.parametrize("method, target", STREAMS.values(), ids=STREAMS)
def test_a_client_that_goes_away_closes_the_stream(
    private_door: Door, own_engine: Dockerd, method: str, target: str
) -> None:
    own_engine.import_busybox()
    container = own_engine.api.run("sh", "-c", "echo up; sleep 1000")
    before = own_engine.connections()
    with private_door.api.connect() as connection:
        connection.send_request(method, target.format(container))
        assert connection.read_head().status == 200
        assert own_engine.connections() >= before
    eventually(lambda: own_engine.connections() <= before)


def test_a_client_that_goes_away_before_the_head_closes_the_call(private_door: Door, own_engine: Dockerd) -> None:
    """Below API 1.30 wait says nothing until the container has ended."""
    own_engine.import_busybox()
    container = own_engine.api.run("sleep", "1000")
    mark = own_engine.mark()
    before = own_engine.connections()
    with private_door.api.connect() as connection:
        connection.send_request("POST", f"/v1.24/containers/{container}/wait")
        eventually(lambda: any("wait" in call for call in own_engine.calls(mark)))
    eventually(lambda: own_engine.connections() <= before)


def test_a_client_that_goes_away_cancels_its_pull(door: Door, registry: Registry) -> None:
    with door.api.connect() as connection:
        connection.send_request("POST", f"/images/create?fromImage={registry.address}/slow&tag=latest")
        assert connection.read_head().status == 200
        eventually(lambda: registry.slow_pulls() == 1)
    eventually(lambda: registry.slow_pulls() == 0)  # the engine takes its time to stop what ran
    assert not door.api.has_image(f"{registry.address}/slow:latest")


def test_a_client_that_goes_away_cancels_its_build(door: Door, direct: Door) -> None:
    context = tar_of(Dockerfile=f"FROM {IMAGE}\nRUN echo started && sleep 1000\n")
    before = containers_of(direct)
    with door.api.connect() as connection:
        connection.send_request(
            "POST", "/build?t=abandoned&forcerm=1&nocache=1", context, content_type="application/x-tar"
        )
        assert connection.read_head().status == 200
        connection.read_until(b'{"stream":"started')
        assert len(containers_of(direct)) == len(before) + 1
    eventually(lambda: containers_of(direct) == before)  # the engine takes its time to stop what ran
    assert not direct.api.has_image("abandoned")


def containers_of(door: Door) -> list[str]:
    return sorted(container["Id"] for container in door.api.call("GET", "/containers/json?all=1").json())


def test_an_upload_that_breaks_off_leaves_no_image(private_door: Door, own_engine: Dockerd) -> None:
    assert private_door.api.call("GET", "/_ping").status == 200
    before, mark = own_engine.connections(), own_engine.mark()
    fields = {"content_length": "1000000", "content_type": "application/x-tar"}
    with private_door.api.connect() as connection:
        connection.send(head("POST", "/images/create?fromSrc=-&repo=half", **fields) + tar_of(file=b"x" * 4096))
        eventually(lambda: own_engine.calls(mark))
    eventually(lambda: own_engine.connections() <= before)
    assert not own_engine.api.has_image("half")


# The engine


def test_an_engine_that_dies_in_the_middle_leaves_no_proper_end(private_door: Door, own_engine: Dockerd) -> None:
    with private_door.api.connect() as connection:
        connection.send_request("GET", "/events")
        assert connection.read_head().field("transfer-encoding") == "chunked"
        own_engine.kill()
        assert b"0\r\n\r\n" not in connection.read_to_end()


def test_an_engine_that_dies_in_a_long_answer_leaves_no_proper_end(private_door: Door, own_engine: Dockerd) -> None:
    own_engine.import_busybox()
    container = own_engine.api.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sleep 1000")
    eventually(lambda: own_engine.api.call("HEAD", f"/containers/{container}/archive?path=/big").status == 200)
    with private_door.api.connect() as connection:
        connection.send_request("GET", f"/containers/{container}/export")
        assert connection.read_head().status == 200
        chunks = connection.read_chunks()
        next(chunks)
        own_engine.kill()
        with pytest.raises(EOFError):
            list(chunks)


def test_an_engine_that_dies_ends_a_tunnel(private_door: Door, own_engine: Dockerd) -> None:
    own_engine.import_busybox()
    container = own_engine.api.create("cat", OpenStdin=True)
    with private_door.api.connect() as connection:
        target = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1"
        connection.send_request("POST", target, connection="Upgrade", upgrade="tcp")
        assert connection.read_head().status == 101
        own_engine.kill()
        assert connection.read_to_end() == b""


def test_an_absent_engine_is_502_and_its_return_is_noticed(between: ProxyProcess, own_engine: Dockerd) -> None:
    with between.api.connect() as connection:
        assert connection.request("GET", "/_ping").body == b"OK"
        own_engine.kill()
        for method, target in (("GET", "/_ping"), ("GET", "/info"), ("POST", "/containers/create")):
            before = time.monotonic()
            answer = connection.request(method, target, b"{}" if method == "POST" else b"")
            assert answer.status == 502
            assert answer.message.startswith("sockproxy: ")
            assert answer.field("content-type") == "application/json"
            assert time.monotonic() - before < 5
        own_engine.start()
        assert connection.request("GET", "/_ping").body == b"OK"


def test_an_absent_engine_is_told_in_plain_text_below_1_24(between: ProxyProcess, own_engine: Dockerd) -> None:
    own_engine.kill()
    answer = between.api.call("GET", "/v1.23/info")
    assert answer.status == 502
    assert (answer.field("content-type") or "").startswith("text/plain")
    assert answer.body.startswith(b"sockproxy: ")


@pytest.mark.parametrize("method, target, status", [("GET", "/info", 200), ("POST", "/containers/nope/start", 404)])
def test_connections_of_an_engine_that_was_restarted_are_not_used(
    between: ProxyProcess, own_engine: Dockerd, method: str, target: str, status: int
) -> None:
    """Also for writes, which must never be sent twice: what the pool held has ended, and that is seen."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(between.api.connect()) for _ in range(4)]
        for client in clients:
            client.send_request("GET", "/info")
        assert [client.read_answer().status for client in clients] == [200] * 4
        own_engine.kill()
        own_engine.start()
        assert [client.request(method, target).status for client in clients] == [status] * 4


def test_requests_that_were_often_made_survive_a_restart(between: ProxyProcess, own_engine: Dockerd) -> None:
    with between.api.connect() as connection:
        for _ in range(3):
            for _ in range(20):
                assert connection.request("GET", "/_ping").body == b"OK"
                assert connection.request("GET", "/containers/json").json() == []
            own_engine.kill()
            assert connection.request("GET", "/_ping").status == 502
            own_engine.start()


def test_events_flow_again_after_a_restart(between: ProxyProcess, own_engine: Dockerd) -> None:
    for _ in range(2):
        with subscribed(between.api) as events:
            own_engine.api.call("POST", "/volumes/create", {"Name": "v1"})
            assert next(events)["Type"] == "volume"
            own_engine.api.call("DELETE", "/volumes/v1")
        own_engine.kill()
        own_engine.start()


@contextlib.contextmanager
def subscribed(api: Api) -> Iterator[Iterator[dict[str, object]]]:
    with api.connect() as connection:
        connection.send_request("GET", "/events")
        assert connection.read_head().status == 200
        yield read_json_lines(connection)


def test_each_event_comes_when_it_happens(door: Door) -> None:
    """Small pieces of a stream are never held back."""
    with subscribed(door.api) as events:
        for name in ("v1", "v2", "v3"):
            door.api.call("POST", "/volumes/create", {"Name": name})
            assert next(events)["Actor"]["ID"] == name  # type: ignore[index]
            door.api.call("DELETE", f"/volumes/{name}")
            assert next(events)["Action"] == "destroy"


# Drain


def test_sigterm_lets_an_open_call_finish(own_engine: Dockerd, proxy: Callable[..., ProxyProcess]) -> None:
    own_engine.import_busybox()
    between = proxy(own_engine.socket)
    container = own_engine.api.run("sleep", "1000")
    with Connection(between.socket) as connection:
        connection.send_request("POST", f"/v1.24/containers/{container}/wait")
        eventually(lambda: any("wait" in call for call in own_engine.calls()))
        between.terminate()
        eventually(lambda: not between.api.accepts())
        own_engine.api.call("POST", f"/containers/{container}/kill")
        answer = connection.read_answer()
        assert (answer.status, answer.json()["StatusCode"]) == (200, 137)
    between.stop()
