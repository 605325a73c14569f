"""Resize while a terminal is open: what Kubernetes 1.4 added over 1.3.

Attach and exec start keep their connection for as long as the terminal lives. The resize comes on another one, must be
answered at once with the engine's own status, and the program in the terminal must see the new size.
"""

import json
import threading
from collections.abc import Callable

import pytest

from .conftest import Door
from .dialogue import READ_SECONDS, Answer, Connection, attached, exec_started

WATCH_SIZE = 'trap "stty size" WINCH; echo ready; while :; do sleep 1 & wait $!; done'
"""Prints the size whenever the terminal tells of a new one (SIGWINCH)."""

SIZES = [(40, 100), (25, 80), (50, 300)]


def resize(door: Door, target: str, rows: int, columns: int) -> Answer:
    """A proxy that keeps an order among requests would never answer, since the terminal goes on."""
    return door.api.call("POST", f"{target}/resize?h={rows}&w={columns}")


def check_sizes_arrive(door: Door, terminal: Connection, target: str) -> None:
    terminal.read_until(b"ready\r\n")
    for rows, columns in SIZES:
        answer = resize(door, target, rows, columns)
        assert (answer.status, answer.body) == (200, b"")
        assert terminal.read_until(b"\r\n") == b"%d %d\r\n" % (rows, columns)


def test_a_program_sees_the_new_size_while_it_is_attached_to(kubelet_door: Door) -> None:
    api = kubelet_door.api
    container = api.create("sh", "-c", WATCH_SIZE, Tty=True, OpenStdin=True)
    with attached(api, container) as terminal:
        api.start(container)
        check_sizes_arrive(kubelet_door, terminal, f"/containers/{container}")


def test_a_program_sees_the_new_size_while_its_exec_runs(kubelet_door: Door) -> None:
    api = kubelet_door.api
    container = api.run("sleep", "1000")
    instance = api.exec(container, "sh", "-c", WATCH_SIZE, Tty=True, AttachStdin=True)
    with exec_started(api, instance, tty=True) as terminal:
        check_sizes_arrive(kubelet_door, terminal, f"/exec/{instance}")


def test_a_shell_that_is_typed_into_tells_the_new_size(kubelet_door: Door) -> None:
    api = kubelet_door.api
    container = api.create("sh", Tty=True, OpenStdin=True, AttachStdin=True, Env=["PS1=$ "])
    with attached(api, container) as terminal:
        api.start(container)
        terminal.read_until(b"$ ")
        assert resize(kubelet_door, f"/containers/{container}", 33, 77).status == 200
        terminal.send(b"stty size\n")
        terminal.read_until(b"33 77\r\n")


def test_a_resize_may_come_before_the_exec_that_it_is_for(kubelet_door: Door) -> None:
    """The kubelet starts to resize before it enters the call that blocks: the engine holds the first until the second is
    there (and gives it up after ten seconds)."""
    api = kubelet_door.api
    container = api.run("sleep", "1000")
    instance = api.exec(container, "sh", "-c", "stty size; read wait; stty size", Tty=True, AttachStdin=True)
    answers: list[Answer] = []
    with api.connect() as early:
        early.send_request("POST", f"/exec/{instance}/resize?h=50&w=120")
        waiting = threading.Thread(target=lambda: answers.append(early.read_answer()))
        waiting.start()
        with exec_started(api, instance, tty=True) as terminal:
            waiting.join(READ_SECONDS)
            assert [(answer.status, answer.body) for answer in answers] == [(200, b"")]
            terminal.read_until(b"\r\n")
            terminal.send(b"\n")
            terminal.read_until(b"50 120\r\n")


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/containers/nope/resize?h=1&w=1", 404, "No such container: nope"),
        ("/exec/nope/resize?h=1&w=1", 404, "No such exec instance: nope"),
        ("/containers/{}/resize?h=1&w=1", 409, "Container {} is not running"),
        ("/containers/{}/resize?h=x&w=1", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
    ],
    ids=["no-container", "no-exec", "not-running", "no-number"],
)
def test_a_refusal_is_the_engines_own(kubelet_door: Door, target: str, status: int, message: str) -> None:
    container = kubelet_door.api.create("true")
    answer = kubelet_door.api.call("POST", target.format(container))
    assert (answer.status, answer.message) == (status, message.format(container))


def test_kubernetes_1_3_may_not_resize_and_its_terminals_go_on(direct: Door, through: Callable[[str], Door]) -> None:
    door = through("kubernetes-1.3")
    container = door.api.create("sh", "-c", 'echo ready; read line; stty size; echo "$line"', Tty=True, OpenStdin=True)
    with attached(door.api, container) as terminal:
        door.api.start(container)
        terminal.read_until(b"ready\r\n")
        assert direct.api.call("POST", f"/containers/{container}/resize?h=40&w=100").status == 200
        instance = door.api.exec(container, "cat", Tty=True, AttachStdin=True)
        with exec_started(door.api, instance, tty=True) as inner:
            for operation, target in (
                ("ContainerResize", f"/containers/{container}"),
                ("ExecResize", f"/exec/{instance}"),
            ):
                answer = resize(door, target, 20, 20)
                assert answer.status == 403
                assert answer.message.startswith(f"sockproxy: {operation} denied by policy kubernetes-1.3: ")
            inner.send(json.dumps("alive").encode() + b"\n")
            inner.read_until(b'"alive"\r\n')
        terminal.send(b"still here\n")
        assert b"40 100\r\nstill here\r\n" in terminal.read_to_end()
