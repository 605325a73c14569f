"""HTTP as odd as clients may lawfully be: the engine's answers come through as they are, in order, at once, and whole."""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Callable

from .conftest import Door
from .dialogue import READ_SECONDS, Connection, demultiplexed, eventually, exec_started, head, read_json_lines
from .dockerd import Dockerd
from .proxy_process import ProxyProcess
from .rootfs import IMAGE

CREATE = json.dumps({"Image": IMAGE, "Cmd": ["true"]}).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    with door.api.connect() as connection:
        connection.send(head("GET", "/_ping") + head("GET", "/containers/nope/json") + head("HEAD", "/_ping"))
        connection.send(head("POST", "/containers/create", CREATE) + CREATE + head("GET", "/version"))
        assert connection.read_answer().body == b"OK"
        assert connection.read_answer().status == 404
        assert connection.read_answer("HEAD").field("content-length") == "0"
        assert connection.read_answer().status == 201
        assert connection.read_answer().json()["ApiVersion"]


def test_a_request_that_comes_byte_by_byte(door: Door) -> None:
    with door.api.connect() as connection:
        for byte in head("POST", "/containers/create", CREATE) + CREATE:
            connection.send(bytes([byte]))
        assert connection.read_answer().status == 201
        assert connection.request("GET", "/_ping").body == b"OK"


def test_a_chunked_body_in_small_pieces(door: Door) -> None:
    fields = {"transfer_encoding": "chunked", "content_type": "application/json", "content_length": ""}
    with door.api.connect() as connection:
        connection.send(head("POST", "/containers/create", **fields))
        for at in range(0, len(CREATE), 7):
            connection.send(chunk(CREATE[at : at + 7]))
        connection.send(b"0\r\n\r\n" + head("GET", "/_ping"))
        assert connection.read_answer().status == 201
        assert connection.read_answer().body == b"OK"


def test_trailers_of_a_request_are_taken(door: Door) -> None:
    fields = {"transfer_encoding": "chunked", "content_type": "application/json", "content_length": ""}
    with door.api.connect() as connection:
        connection.send(head("POST", "/containers/create", trailer="X-Sum", **fields))
        connection.send(chunk(CREATE) + b"0\r\nX-Sum: 1\r\n\r\n")
        assert connection.read_answer().status == 201
        assert connection.request("GET", "/_ping").body == b"OK"


def test_the_engine_says_when_to_continue(door: Door) -> None:
    with door.api.connect() as connection:
        connection.send(head("POST", "/containers/create", CREATE, expect="100-continue"))
        assert connection.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(CREATE)
        assert connection.read_answer().status == 201


def test_the_engine_says_when_not_to_continue(door: Door) -> None:
    with door.api.connect() as connection:
        fields = {"expect": "100-continue", "content_type": "text/plain"}
        connection.send(head("POST", "/containers/create", CREATE, **fields))
        assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 400 ")


def test_http_1_0_closes(door: Door) -> None:
    with door.api.connect() as connection:
        connection.send(b"GET /version HTTP/1.0\r\n\r\n")
        answer = connection.read_answer()
        assert answer.status == 200 and answer.json()["ApiVersion"]
        assert connection.read_to_end() == b""


def test_http_1_0_stays_where_it_is_asked_to(door: Door) -> None:
    with door.api.connect() as connection:
        for _ in range(2):
            connection.send(b"GET /_ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = connection.read_answer()
            assert (answer.body, answer.field("connection")) == (b"OK", "keep-alive")


def test_http_1_0_gets_a_stream_without_chunks(door: Door) -> None:
    with door.api.connect() as connection:
        connection.send(b"GET /events?since=1&until=2 HTTP/1.0\r\n\r\n")
        answer = connection.read_head()
        assert (answer.status, answer.field("transfer-encoding")) == (200, None)
        assert connection.read_to_end() == b""


def test_a_connection_that_the_client_wants_closed(door: Door) -> None:
    with door.api.connect() as connection:
        answer = connection.request("GET", "/_ping", connection="close")
        assert (answer.body, answer.field("connection")) == (b"OK", "close")
        assert connection.read_to_end() == b""


def test_a_body_where_none_is_wanted(door: Door) -> None:
    with door.api.connect() as connection:
        assert connection.request("GET", "/_ping", b"{}").body == b"OK"
        assert connection.request("GET", "/_ping").body == b"OK"


def test_many_fields(door: Door) -> None:
    with door.api.connect() as connection:
        fields = {f"x_docker_expose_session_grpc_method_{number}": "x" * 50 for number in range(500)}
        assert connection.request("GET", "/_ping", **fields).body == b"OK"


def test_statuses_without_a_body(door: Door) -> None:
    with door.api.connect() as connection:
        container = door.api.create("sleep", "1000")
        assert connection.request("POST", f"/containers/{container}/start").status == 204
        assert connection.request("POST", f"/containers/{container}/start").status == 304
        assert connection.request("HEAD", f"/containers/{container}/archive?path=/etc").status == 200
        assert connection.request("POST", f"/containers/{container}/kill").status == 204
        assert connection.request("GET", "/_ping").body == b"OK"


def test_many_clients_at_once(door: Door) -> None:
    container = door.api.run("sleep", "1000")

    def work(number: int) -> bool:
        data = os.urandom(100_000) + b"%d" % number
        with exec_started(door.api, door.api.exec(container, "md5sum", AttachStdin=True)) as connection:
            connection.send(data)
            connection.half_close()
            output = demultiplexed(connection.read_to_end())
        return output.split()[0].decode() == hashlib.md5(data).hexdigest()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(32))) == [True] * 32


def test_an_event_reaches_all_that_listen(door: Door) -> None:
    streams = [door.api.connect() for _ in range(100)]
    try:
        for stream in streams:
            stream.send_request("GET", "/events")
        for stream in streams:
            assert stream.read_head().status == 200
        door.api.call("POST", "/volumes/create", {"Name": "heard"})
        assert {next(read_json_lines(stream))["Actor"]["ID"] for stream in streams} == {"heard"}
    finally:
        for stream in streams:
            stream.close()
        door.api.call("DELETE", "/volumes/heard")


def big_container(api_of: Door) -> str:
    script = "dd if=/dev/zero of=/big bs=1M count=96 2>/dev/null; echo ready; sleep 1000"
    container = api_of.api.run("sh", "-c", script)
    eventually(lambda: api_of.api.logs(container) == b"ready\n")
    return container


def test_a_slow_reader_does_not_fill_the_memory(
    engine: Dockerd, direct: Door, proxy: Callable[..., ProxyProcess]
) -> None:
    container = big_container(direct)
    between = proxy(engine.socket)
    assert between.api.call("GET", "/version").status == 200
    before = between.resident_kib()
    with between.api.connect() as connection:
        connection.send_request("GET", f"/containers/{container}/export")
        assert connection.read_head().status == 200
        total = 0
        for number, piece in enumerate(connection.read_chunks()):
            total += len(piece)
            if number % 100 == 0:  # time enough for the engine to send many times what is taken
                assert between.api.call("GET", "/version").status == 200
    assert total > 96 << 20
    assert between.resident_kib() - before < 16 << 10


def test_a_slow_engine_does_not_fill_the_memory(engine: Dockerd, proxy: Callable[..., ProxyProcess]) -> None:
    """What a client sends faster than the program reads waits at the client."""
    between = proxy(engine.socket)
    container = engine.api.run("sleep", "1000")
    script = "while [ ! -e /go ]; do sleep 0.02; done; wc -c"
    instance = between.api.exec(container, "sh", "-c", script, AttachStdin=True)
    before = between.resident_kib()
    with exec_started(between.api, instance) as connection:
        sent = send_until_full(connection)
        assert sent < 16 << 20
        assert between.resident_kib() - before < 16 << 10
        with exec_started(between.api, between.api.exec(container, "touch", "/go")) as other:
            other.read_to_end()
        connection.half_close()
        assert int(demultiplexed(connection.read_to_end())) == sent


def send_until_full(connection: Connection) -> int:
    connection.socket.settimeout(0.5)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += connection.socket.send(b"x" * 65536)
    except TimeoutError:
        pass  # nobody takes any more
    connection.socket.settimeout(READ_SECONDS)
    return sent


def test_bodies_of_many_sizes_come_back_whole(door: Door) -> None:
    container = door.api.run("sleep", "1000")
    broken = []
    for size in (0, 1, 2047, 2048, 2049, 65535, 65536, 65537, 1 << 20):
        data = os.urandom(size)
        with exec_started(door.api, door.api.exec(container, "cat", AttachStdin=True)) as connection:
            connection.send(data)
            connection.half_close()
            broken += [size] if demultiplexed(connection.read_to_end()) != data else []
    assert not broken
