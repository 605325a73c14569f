"""The rows of `cases/judged_forms.yaml`, as the bytes that are sent, and sending them.

Owns how a row becomes bytes. Must not know proxies or policies. Begin at `load_forms` and `Form.sent`.
"""

import contextlib
import fcntl
import gzip
import re
import select
import struct
import termios
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .dialogue import READ_SECONDS, Connection

CASES = Path(__file__).parents[1] / "cases" / "judged_forms.yaml"
HARMLESS = '{"Image":"busybox:test","Cmd":["true"]}'
POWERFUL = '{"Image":"busybox:test","Cmd":["true"],"HostConfig":{"Privileged":true}}'
CREATE = "/v1.41/containers/create?name=new"
UNANSWERED_SECONDS = 0.2
"""How long an answer may take before the end is sent, at which an engine may give up what it does."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Form(NamedTuple):
    """A row. See the head of the file for what its keys mean."""

    about: str
    status: int = 0
    works: bool = False
    real: bool = False
    method: str = "POST"
    target: str = CREATE
    http: str = "HTTP/1.1"
    type: str | None = "application/json"
    head: tuple[str, ...] = ()
    framing: str = "length"
    pieces: int = 1 << 20
    slow: int = 0
    gzip: bool = False
    hexed: str = ""
    body: str = ""
    behind: str = ""
    raw: str = ""

    @property
    def name(self) -> str:
        return f"{self.about}: {self.raw or f'{self.method} {self.target} {self.head} {self.body}'}"[:120]

    def sent(self) -> bytes:
        """What is sent."""
        if self.raw:
            return filled(self.raw.replace("<len>", str(len(POWERFUL)))).encode()
        body = self._body()
        return self._head(len(body)) + self._framed(body) + filled(self.behind).encode()

    def _body(self) -> bytes:
        length = f"{len(POWERFUL):x}"
        body = _encoded(filled(self.body.replace("<hexlen>", length)), self.hexed)
        return gzip.compress(body) if self.gzip else body

    def _head(self, length: int) -> bytes:
        fields = ["Host: d"] + ([] if self.type is None else [f"Content-Type: {self.type}"])
        fields += [field.replace("<len>", str(length)) for field in self.head]
        fields += {"length": [f"Content-Length: {length}"], "chunked": ["Transfer-Encoding: chunked"]}.get(
            self.framing, []
        )
        line = " ".join([self.method, self.target, *([self.http] if self.http else [])])
        return "\r\n".join([line, *fields, "", ""]).encode()

    def _framed(self, body: bytes) -> bytes:
        if self.framing not in ("chunked", "raw-chunked"):
            return body
        pieces = [body[at : at + self.pieces] for at in range(0, len(body), self.pieces)]
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def load_forms() -> list[Form]:
    rows: list[dict[str, Any]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    return [Form(**row | {"head": tuple(row.get("head", ()))}) for row in rows]


def filled(text: str) -> str:
    """A text with what its marks stand for."""
    for mark, body in (("P", POWERFUL), ("H", HARMLESS)):
        request = f"POST {CREATE} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        text = text.replace(f"<request {mark}>", f"{request}\r\n\r\n{body}").replace(f"<{mark}>", body)
    text = re.sub(r"<deep (\d+)>", lambda found: "[" * int(found[1]) + "]" * int(found[1]), text)
    text = re.sub(r"<many (\d+)>", lambda found: "[" + ",".join(['"A=1"'] * int(found[1])) + "]", text)
    return re.sub(r"<blanks (\d+)>", lambda found: " " * int(found[1]), text)


def _encoded(text: str, hexed: str) -> bytes:
    if hexed == "overlong":  # of two bytes for one of ASCII, as no UTF-8 is
        return text.encode().replace(b"HostConfig", b"\xc1\x88ostConfig")
    return text.encode(hexed or "utf-8")


def send(form: Form, path: Path, seconds: float = READ_SECONDS) -> int:
    """Sends a form to its end; the status of the first answer, 0 if there is none. Returns when the other side has closed."""
    raw, step = form.sent(), form.slow or 1 << 30
    with Connection(path, seconds) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered and closed already
            for at in range(0, len(raw), step):
                connection.send(raw[at : at + step])
                if form.slow:
                    wait_until_taken(connection)
            select.select([connection.socket], [], [], UNANSWERED_SECONDS)
            connection.half_close()
        answers = _STATUS.findall(connection.read_to_end())
    return next((int(status) for status in answers if status != b"100"), 0)


def wait_until_taken(connection: Connection) -> None:
    """Returns when the other side has read all that was sent."""
    deadline = time.monotonic() + READ_SECONDS
    while struct.unpack("i", fcntl.ioctl(connection.socket, termios.TIOCOUTQ, b"    "))[0]:
        assert time.monotonic() < deadline
