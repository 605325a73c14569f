"""curl, as the plainest of clients, gets the same bytes directly and through `allow-all`: status line, fields and body."""

import re
import subprocess
from collections.abc import Callable

import pytest

from .conftest import Door
from .rootfs import tar_of
from .tidying import tidied

CURL = {
    "ping": ("/_ping",),
    "ping-head": ("-I", "/_ping"),
    "ping-1.0": ("--http1.0", "/_ping"),
    "info-1.0": ("--http1.0", "/v1.41/containers/json"),
    "version": ("/version",),
    "old-version": ("/v1.24/version",),
    "images": ("/images/json?filters=%7B%22reference%22%3A%5B%22busybox%22%5D%7D",),
    "no-container": ("/containers/nope/json",),
    "no-container-in-plain-text": ("/v1.23/containers/nope/json",),
    "too-new": ("/v1.99/info",),
    "too-old": ("/v1.11/info",),
    "unknown": ("/nope",),
    "bad-json": ("-H", "Content-Type: application/json", "-d", "{", "/containers/create"),
    "bad-type": ("-H", "Content-Type: text/plain", "-d", "{}", "/containers/create"),
    "bad-filter": ("/containers/json?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D",),
    "not-modified": ("-X", "POST", "-H", "Content-Length: 0", "/containers/{c}/start"),
    "stat": ("-I", "/containers/{c}/archive?path=/etc/passwd"),
    "archive": ("/containers/{c}/archive?path=/etc/passwd", "-o", "/dev/null"),
    "archive-gzip": ("--compressed", "/containers/{c}/archive?path=/etc/passwd", "-o", "/dev/null"),
    "logs": ("/containers/{c}/logs?stdout=1", "-o", "/dev/null"),
    "no-stream-chosen": ("/containers/{c}/logs",),
    "options": ("-X", "OPTIONS", "/info"),
    "head-of-what-has-none": ("-I", "/info"),
    "delete-nothing": ("-X", "DELETE", "/containers/nope"),
    "put-archive-chunked": ("-T", "-", "-H", "Content-Type: application/x-tar", "/containers/{c}/archive?path=/tmp"),
    "put-archive-expecting": (
        *("-T", "-", "-H", "Expect: 100-continue", "-H", "Content-Type: application/x-tar"),
        "/containers/{c}/archive?path=/tmp",
    ),
    "load-nothing": ("-X", "POST", "-H", "Content-Length: 0", "/images/load"),
}
UPLOAD = tar_of(file=b"x" * 300_000)


def curl(door: Door, container: str, arguments: tuple[str, ...]) -> tuple[int, str, list[str], str]:
    """Exit code, status line, header fields and body, without what the clock says."""
    filled = [argument.replace("{c}", container) for argument in arguments]
    urls = [
        f"http://docker{argument}" if argument.startswith("/") and argument != "/dev/null" else argument
        for argument in filled
    ]
    command = ["curl", "-sS", "-D", "-", "--unix-socket", str(door.socket), *urls]
    done = subprocess.run(command, input=UPLOAD, capture_output=True, timeout=30, check=False)
    text = done.stdout.decode(errors="replace").removeprefix("HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = text.partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return done.returncode, status, sorted(map(without_clock, fields)), tidied(body.encode(), container)


def without_clock(field: str) -> str:
    return re.sub(r"^Date: .*", "Date", field)


@pytest.mark.parametrize("arguments", CURL.values(), ids=CURL)
def test_curl_gets_the_same_bytes(
    direct: Door, through: Callable[[str], Door], standing: str, arguments: tuple[str, ...]
) -> None:
    assert curl(through("allow-all"), standing, arguments) == curl(direct, standing, arguments)
