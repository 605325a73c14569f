"""Tunnels: attach, exec start, session and grpc take their connection over, and give nothing of it back.

What the engine itself does with each case is shown by the door `direct`.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from uuid import uuid4

import pytest

from .conftest import Door
from .dialogue import UPGRADE, Connection, attached, connections_to, demultiplexed, eventually, exec_started, head
from .dockerd import Dockerd
from .proxy_process import ProxyProcess

BIG = os.urandom(1 << 20) * 3 + b"the end"
"""More than all buffers on the way together."""


def stdin_container(door: Door, *command: str) -> str:
    """A container that reads its standard input to the end, once."""
    return door.api.create(*command, OpenStdin=True, StdinOnce=True, AttachStdin=True)


def checksum_of(output: bytes) -> str:
    return demultiplexed(output).decode().split()[0]


# Early bytes


def attach_with_early_bytes(door: Door, *, together: bool) -> Connection:
    """Attaches to a running `cat` and sends a line without waiting for the answer."""
    container = stdin_container(door, "cat")
    door.api.start(container)
    return send_early(door, f"/containers/{container}/attach?stream=1&stdin=1&stdout=1", b"", together=together)


def exec_with_early_bytes(door: Door, *, together: bool) -> Connection:
    container = door.api.run("sleep", "1000")
    instance = door.api.exec(container, "cat", AttachStdin=True)
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    return send_early(door, f"/exec/{instance}/start", body, together=together)


def send_early(door: Door, target: str, body: bytes, *, together: bool) -> Connection:
    connection = door.api.connect()
    request = head("POST", target, body, **UPGRADE) + body
    for piece in (request + b"early\n",) if together else (request, b"early\n"):
        connection.send(piece)
    assert connection.read_head().status == 101
    return connection


EARLY = [attach_with_early_bytes, exec_with_early_bytes]


@pytest.mark.parametrize("together", [True, False], ids=["one-write", "two-writes"])
@pytest.mark.parametrize("begin", EARLY, ids=["attach", "exec"])
def test_early_bytes_are_not_lost_through_the_proxy(
    through: Callable[[str], Door], begin: Callable[..., Connection], together: bool
) -> None:
    with begin(through("allow-all"), together=together) as connection:
        connection.send(b"late\n")
        connection.half_close()
        assert demultiplexed(connection.read_to_end()) == b"early\nlate\n"


@pytest.mark.parametrize("begin", EARLY, ids=["attach", "exec"])
def test_the_engine_itself_loses_them(direct: Door, begin: Callable[..., Connection]) -> None:
    """Why the proxy holds them back. Should an engine of another day keep them, that would be no fault."""
    with begin(direct, together=True) as connection:
        connection.send(b"late\n")
        connection.half_close()
        assert demultiplexed(connection.read_to_end()) == b"late\n"


# Half-close


def test_a_big_input_arrives_whole_through_attach(door: Door) -> None:
    container = stdin_container(door, "md5sum")
    with attached(door.api, container) as connection:
        door.api.start(container)
        connection.send(BIG)
        connection.half_close()
        assert checksum_of(connection.read_to_end()) == hashlib.md5(BIG).hexdigest()


def test_a_big_input_arrives_whole_through_exec(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    with exec_started(door.api, door.api.exec(container, "md5sum", AttachStdin=True)) as connection:
        connection.send(BIG)
        connection.half_close()
        assert checksum_of(connection.read_to_end()) == hashlib.md5(BIG).hexdigest()


def test_output_goes_on_after_the_input_has_ended(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    script = "cat > /tmp/in; for i in 1 2 3; do sleep 0.1; echo $i; done; wc -c < /tmp/in"
    with exec_started(door.api, door.api.exec(container, "sh", "-c", script, AttachStdin=True)) as connection:
        connection.send(b"12345")
        connection.half_close()
        assert demultiplexed(connection.read_to_end()) == b"1\n2\n3\n5\n"


def test_a_big_output_arrives_whole(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    with exec_started(door.api, door.api.exec(container, "seq", "400000")) as connection:
        output = demultiplexed(connection.read_to_end())
    assert output == b"".join(b"%d\n" % number for number in range(1, 400001))


def test_the_end_of_the_program_ends_the_connection_while_the_input_is_open(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    with exec_started(door.api, door.api.exec(container, "echo", "bye", AttachStdin=True)) as connection:
        assert demultiplexed(connection.read_to_end()) == b"bye\n"


def test_what_is_typed_comes_back_while_it_is_typed(door: Door) -> None:
    container = stdin_container(door, "cat")
    with attached(door.api, container) as connection:
        door.api.start(container)
        for line in (b"a\n", b"b\n", b"c\n"):
            connection.send(line)
            assert connection.read_exactly(8 + len(line))[8:] == line


def test_without_upgrade_the_answer_is_200_and_a_raw_stream(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    instance = door.api.exec(container, "cat", AttachStdin=True)
    body = b'{"Detach": false}'
    with door.api.connect() as connection:
        connection.send_request("POST", f"/exec/{instance}/start", body)
        answer = connection.read_head()
        assert (answer.status, answer.field("content-type")) == (200, "application/vnd.docker.raw-stream")
        assert answer.field("content-length") is None and answer.field("transfer-encoding") is None
        connection.send(b"hello\n")
        connection.half_close()
        assert demultiplexed(connection.read_to_end()) == b"hello\n"


HEADS = {
    "attach": ("POST", "/containers/{}/attach?stream=1&stdout=1", UPGRADE),
    "attach-plain": ("POST", "/containers/{}/attach?stream=1&stdout=1", {}),
    "attach-odd-upgrade": ("POST", "/containers/{}/attach?stream=1&stdout=1", {"upgrade": "anything"}),
    "exec": ("POST", "/exec/{}/start", UPGRADE),
    "exec-plain": ("POST", "/exec/{}/start", {}),
    "grpc": ("POST", "/grpc", {"connection": "Upgrade", "upgrade": "h2c"}),
    "websocket": (
        "GET",
        "/containers/{}/attach/ws?stream=1&stdout=1",
        {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "origin": "http://docker",
            "sec_websocket_version": "13",
            "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    ),
}


@pytest.mark.parametrize(("method", "target", "fields"), HEADS.values(), ids=HEADS)
def test_the_engines_head_comes_through_as_it_is(
    direct: Door, through: Callable[[str], Door], method: str, target: str, fields: dict[str, str]
) -> None:
    heads = []
    for door in (direct, through("allow-all")):
        container = direct.api.run("sleep", "1000")
        is_exec = target.startswith("/exec")
        subject = direct.api.exec(container, "sleep", "1000") if is_exec else container
        with door.api.connect() as connection:
            connection.send_request(method, target.format(subject), b'{"Detach": false}' if is_exec else b"", **fields)
            answer = connection.read_head()
        heads.append((answer.status, answer.reason, sorted(answer.fields)))
    assert heads[0] == heads[1]
    assert heads[0][0] == (101 if "upgrade" in fields else 200)


# What comes after


def test_a_detached_start_leaves_the_connection_to_the_next_request(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    instance = door.api.exec(container, "true")
    with door.api.connect() as connection:
        answer = connection.request("POST", f"/exec/{instance}/start", b'{"Detach": true, "Tty": false}', **UPGRADE)
        assert (answer.status, answer.body) == (200, b"")
        assert connection.request("GET", f"/exec/{instance}/json").json()["ID"] == instance


def test_an_error_before_the_tunnel_is_an_ordinary_answer(door: Door) -> None:
    with door.api.connect() as connection:
        answer = connection.request("POST", "/exec/nope/start", b'{"Detach": false}', **UPGRADE)
        assert (answer.status, answer.message) == (404, "No such exec instance: nope")
        assert connection.request("GET", "/_ping").body == b"OK"


def test_an_unknown_container_cannot_be_attached_to(door: Door) -> None:
    """The engine has taken the connection over before it looks, and answers without a length."""
    with door.api.connect() as connection:
        connection.send_request("POST", "/containers/nope/attach?stream=1&stdout=1", **UPGRADE)
        answer = connection.read_head()
        assert (answer.status, answer.field("content-type")) == (404, "application/vnd.docker.raw-stream")
        assert connection.read_to_end().strip() == b"No such container: nope"


def test_a_connection_that_was_a_tunnel_is_never_used_again(door: Door, engine: Dockerd) -> None:
    container = door.api.run("sleep", "1000")
    instance = door.api.exec(container, "true")
    mark = engine.mark()
    with exec_started(door.api, instance) as connection:
        assert connection.read_to_end() == b""
        with contextlib.suppress(BrokenPipeError):  # it may be closed altogether
            connection.send(head("GET", "/info") + head("GET", "/version"))
        assert connection.read_to_end() == b""
    assert [call for call in engine.calls(mark) if "start" not in call] == []


def test_a_request_inside_of_a_tunnel_is_not_a_request(door: Door, engine: Dockerd) -> None:
    container = door.api.run("sleep", "1000")
    instance = door.api.exec(container, "cat", AttachStdin=True)
    inner = head("GET", "/info")
    mark = engine.mark()
    with exec_started(door.api, instance) as connection:
        connection.send(inner)
        connection.half_close()
        assert demultiplexed(connection.read_to_end()) == inner
    assert not [call for call in engine.calls(mark) if call.endswith("/info")]


@pytest.mark.parametrize("command", [("cat",), ("yes",)], ids=["silent", "talking"])
def test_a_client_that_goes_away_leaves_nothing_open(
    engine: Dockerd, proxy: Callable[..., ProxyProcess], command: tuple[str, ...]
) -> None:
    container = engine.api.run("sleep", "1000")
    between = proxy(engine.socket)
    instance = between.api.exec(container, *command, AttachStdin=True)
    eventually(lambda: connections_to(between.socket) == 0)
    before, connections = between.open_sockets(), engine.connections()
    with exec_started(between.api, instance) as connection:
        connection.send(b"x")
        connection.read_exactly(1)
        assert connections_to(between.socket) == 1
    eventually(lambda: connections_to(between.socket) == 0)
    eventually(lambda: between.open_sockets() <= before, 1.0)
    engine.api.call("POST", f"/containers/{container}/kill")
    eventually(lambda: engine.connections() <= connections)


def test_the_container_outlives_its_abandoned_attach(door: Door) -> None:
    container = door.api.run("sh", "-c", "while :; do echo tick; sleep 0.05; done")
    with attached(door.api, container) as connection:
        connection.read_until(b"tick\n")
    assert door.api.is_running(container)
    with attached(door.api, container) as connection:
        connection.read_until(b"tick\n")


# HTTP/2 inside


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PING = b"\0\0\x08\6\0\0\0\0\0sockprox"
PONG = b"\0\0\x08\6\1\0\0\0\0sockprox"


def test_grpc_is_a_tunnel_to_an_http2_server(door: Door) -> None:
    with door.api.connect() as connection:
        connection.send_request("POST", "/grpc", connection="Upgrade", upgrade="h2c")
        answer = connection.read_head()
        assert (answer.status, answer.field("upgrade")) == (101, "h2c")
        connection.send(PREFACE + SETTINGS + PING)
        connection.read_until(PONG)


def test_session_is_a_tunnel_to_an_http2_client(door: Door) -> None:
    with door.api.connect() as connection:
        fields = {"x_docker_expose_session_uuid": uuid4().hex}  # one at a time may have a name
        connection.send_request("POST", "/session", connection="Upgrade", upgrade="h2c", **fields)
        answer = connection.read_head()
        assert (answer.status, answer.field("upgrade")) == (101, "h2c")
        assert connection.read_exactly(len(PREFACE)) == PREFACE


@pytest.mark.parametrize("target", ["/session", "/grpc"])
def test_without_upgrade_they_answer_with_the_engines_error(
    direct: Door, through: Callable[[str], Door], target: str
) -> None:
    answers = [door.api.call("POST", target) for door in (direct, through("allow-all"))]
    assert [answer.status for answer in answers] == [answers[0].status] * 2
    assert answers[0].status in (400, 500)
    assert answers[1].body == answers[0].body
