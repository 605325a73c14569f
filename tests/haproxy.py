"""HAProxy as the oracle of what the settings of proxies made of it mean: one process, a frontend a set of settings.

The rules are written here in the order and with the meaning of those proxies, over the tables of `operating.migration`,
so that HAProxy itself says what a path, a method and a value come to. Begin at `judged_by_haproxy`.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sockproxy.operating.migration import SECTIONS, Proxy

START_SECONDS = 20.0
NAME = "[a-zA-Z0-9_.-]+"
OF_CONTAINER = {"tecnativa": "/containers", "linuxserver": "(/libpod)?/(containers|pods)"}

POST_FIRST = ("tecnativa",)

Settings = dict[str, str]
Request = tuple[str, str]  # method, target


def need_haproxy() -> str:
    """The program; skips the test where there is none, and fails it where it has to be there."""
    program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if program is None and (os.environ.get("CI") or os.environ.get("SOCKPROXY_REQUIRE_ENGINE") == "1"):
        pytest.fail("haproxy is not installed, and has to be")
    if program is None:
        pytest.skip("haproxy is not installed: nobody says what the settings mean")
    return program


@contextmanager
def judged_by_haproxy(folder: Path, proxy: Proxy, settings: Sequence[Settings]) -> Iterator["list[Path]"]:
    """The sockets on which HAProxy answers 200 for what each of these settings lets pass, else 403."""
    program = need_haproxy()
    sockets = [folder / f"{number}.sock" for number in range(len(settings))]
    frontends = [frontend(proxy, number, path) for number, path in enumerate(sockets)]
    (folder / "haproxy.cfg").write_text("\n".join([HEAD, *frontends]))
    defaults = dict.fromkeys(proxy.defaults, "1")
    environment = {
        f"S{number}_{name}": value for number, one in enumerate(settings) for name, value in (defaults | one).items()
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-db", "-f", folder / "haproxy.cfg"], env=environment, stdout=log, stderr=log
        )
        try:
            wait_for(process, sockets, folder / "log")
            yield sockets
        finally:
            process.terminate()
            process.wait()


HEAD = """\
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 10s
"""


def frontend(proxy: Proxy, number: int, path: Path) -> str:
    """The rules of a proxy, in its order."""
    lines = [f"frontend f{number}", f"    bind unix@{path}"]
    of_container = f"{OF_CONTAINER[proxy.name]}/{NAME}"
    post = f"    http-request return status 403 unless METH_GET || {is_on(number, 'POST')}"
    for name, part in proxy.gates.items():
        lines.append(
            f"    http-request return status 403 if {path_is(f'{of_container}/{part}')} !{is_on(number, name)}"
        )
    lines += [post] if proxy.name in POST_FIRST else []
    for name, words in proxy.actions.items():
        passing = path_is(f"{of_container}/({'|'.join(words)})")
        lines.append(f"    http-request return status 200 if {passing} {is_on(number, name)}")
    lines += [] if proxy.name in POST_FIRST else [post]
    for name, part in SECTIONS.items():
        lines.append(f"    http-request return status 200 if {path_is(f'/{part}')} {is_on(number, name)}")
    return "\n".join([*lines, "    http-request return status 403", ""])


def path_is(pattern: str) -> str:
    return rf"{{ path,url_dec -m reg -i ^(/v[\d\.]+)?{pattern} }}"


def is_on(number: int, name: str) -> str:
    return f"{{ env(S{number}_{name}) -m bool }}"


def wait_for(process: "subprocess.Popen[bytes]", sockets: Sequence[Path], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not all(map(is_listened_on, sockets)):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)


def is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def passing(path: Path, requests: Sequence[Request]) -> list[bool]:
    """What HAProxy lets pass of these requests."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(START_SECONDS)
        client.connect(str(path))
        answers = client.makefile("rb")
        found = []
        for method, target in requests:
            client.sendall(f"{method} {target} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
            found.append(read_status(answers, method) == 200)
        return found


def read_status(answers, method: str) -> int:
    head = b"".join(iter(answers.readline, b"\r\n"))
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert head, "HAProxy closed the connection"
    if method != "HEAD" and length:
        answers.read(int(length[1]))
    return int(head.split()[1])
