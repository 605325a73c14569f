"""What rules need to know of the engine before they can decide, asked by requests of the proxy's own.

Owns how each kind of question is asked, and that this ends: in time, in bytes and in number. Must not know rules, nor what an
answer means; `judging` asks and reads. Begin at `Inquiry.find`. Nothing is kept from one request to the next: what was true of
a name then need not be true now.

The requests are GET, on a connection of their own, without a version: every engine has the API version that it takes then, and
shows all that it has. Nothing that the client sent goes with them but the name that it is about.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_from_bytes

import orjson

from sockproxy.errors import BadRequest, EngineError, EngineErrorReason, PeerGone
from sockproxy.forwarding.meter import Meter, Refusal
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.shared import Proxy
from sockproxy.forwarding.upstream.asking import ask
from sockproxy.forwarding.upstream.hostpaths import UnknownPath
from sockproxy.judging.catalogue import parse_target
from sockproxy.judging.requirements.facts import Finding, Question

NAME_CHARACTERS_MAX = 1024
"""Of a name that is asked for; the engine's own have a quarter of that."""

_ASKED: Mapping[str, tuple[str, str]] = {
    "container": ("ContainerInspect", "/containers/{}/json"),
    "image": ("ImageInspect", "/images/{}/json"),
    "volume": ("VolumeInspect", "/volumes/{}"),
    "network": ("NetworkInspect", "/networks/{}"),
    "exec": ("ExecInspect", "/exec/{}/json"),
    "engine": ("SystemInfo", "/info"),
}
"""Kind -> the operation that tells of it, and its path."""

_NO_VOLUME = "no such volume"
_TOO_LATE = Finding(failure="the engine did not answer in time")
_TOO_MANY = Finding(failure="the request needs too many answers (inquiry_questions_max)")


class Inquiry:
    """What is found out for one request. `refusal`: why nothing more may be asked for it now; `is_paid`: it had its token."""

    def __init__(self, proxy: Proxy, key: str) -> None:
        """`key`: of whose request it is."""
        self._proxy = proxy
        self._key = key
        self.is_paid = False
        self.refusal: Refusal | None = None
        self._bytes_left = proxy.limits.inquiry_bytes_max
        self._until: float | None = None
        self.found: dict[Question, Finding] = {}

    async def find(self, questions: Iterable[Question], meter: Meter | None = None) -> bool:
        """Adds a finding for each question; False where none of them is new, so that asking on would not end, or where the
        principal may not ask for so much. A request that is asked about counts as one, whatever is decided then."""
        missing = [one for one in questions if one not in self.found]
        if not missing:
            return False
        if meter is not None and not self.is_paid:
            self.refusal = meter.pay(self._key)
            self.is_paid = self.refusal is None
            if self.refusal is not None:
                return False
        limits = self._proxy.limits
        if self._until is None and limits.inquiry_seconds:
            self._until = self._proxy.loop.time() + limits.inquiry_seconds
        if len(self.found) + len(missing) > limits.inquiry_questions_max:
            self._proxy.observers.limit_hit("inquiry_questions_max")
            self.found |= dict.fromkeys(missing, _TOO_MANY)
            return True
        try:
            async with asyncio.timeout_at(self._until), self._proxy.inquiries.take(self._key):
                await self._ask_engine([one for one in missing if one.kind != "path"])
                await self._look_at_paths([one for one in missing if one.kind == "path"])
        except TimeoutError:
            self._proxy.observers.limit_hit("inquiry_seconds")
        # Lawful: what has no answer by now has none, and that denies.
        self.found = dict.fromkeys(missing, _TOO_LATE) | self.found
        return True

    async def _look_at_paths(self, questions: list[Question]) -> None:
        address = self._proxy.engine.address
        if questions and address.scheme != "unix":
            self.found |= dict.fromkeys(questions, Finding({}))  # the files of another machine, for all we know
        elif questions:
            real = await self._proxy.host_paths.find(address.path, [one.name for one in questions])
            self.found |= {one: _path_finding(path) for one, path in zip(questions, real, strict=True)}

    async def _ask_engine(self, questions: list[Question]) -> None:
        """One after the other, on one connection as long as the engine keeps it."""
        stream: Stream | None = None
        try:
            for question in questions:
                target = self._target(question)
                if target is None:
                    self.found[question] = Finding(failure="that is no name by which the engine could be asked")
                    continue
                stream = stream or await self._proxy.engine.connect()
                status, body, is_kept = await self._ask(stream, target)
                self.found[question] = read_answer(question, status, body)
                if not is_kept:
                    self._proxy.engine.release(stream, is_reusable=False)
                    stream = None
        except (EngineError, BadRequest, PeerGone, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            # Lawful: what could not be read denies. On this connection nothing else can be asked.
            why = error.detail if isinstance(error, EngineError) else "the engine's answer cannot be read to its end"
            self.found = dict.fromkeys(questions, Finding(failure=why)) | self.found
        finally:
            if stream is not None:
                self._proxy.engine.release(stream, is_reusable=False)

    def _target(self, question: Question) -> str | None:
        """What to ask for; None where the engine would take that for another question."""
        operation_id, path = _ASKED[question.kind]
        if len(question.name) > NAME_CHARACTERS_MAX:
            return None
        try:
            target = parse_target("GET", quote_from_bytes(path.format(question.name).encode(), safe="/:@"))
        except (BadRequest, UnicodeEncodeError):
            return None  # lawful: None says that
        operation, _, _, name = self._proxy.catalogue.classify("GET", target.path, None)
        is_right = operation is not None and operation.operation_id == operation_id and name == question.name
        return target.canonical if is_right else None

    async def _ask(self, stream: Stream, target: str) -> tuple[int, bytes, bool]:
        held = bytearray()
        try:
            status, is_kept = await ask(stream, target, self._proxy.limits, self._bytes_left, held)
        except BadRequest as error:
            raise (self._too_large() if error.status == 413 else error) from error
        finally:
            self._bytes_left -= len(held)
        return status, bytes(held), is_kept

    def _too_large(self) -> EngineError:
        self._proxy.observers.limit_hit("inquiry_bytes_max")
        detail = f"the engine's answers are above {self._proxy.limits.inquiry_bytes_max} bytes"
        return EngineError(502, EngineErrorReason.MALFORMED, detail, "inquiry_bytes_max")


def read_answer(question: Question, status: int, body: bytes) -> Finding:
    """What an answer of the engine says."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None  # lawful: what is no JSON says nothing, and that denies
    if status == 200 and isinstance(data, dict):
        return Finding(data)
    message = data.get("message") if isinstance(data, dict) else None
    if not isinstance(message, str):
        return Finding(failure=f"the engine answered {status} with what cannot be read")
    # A router that has no such path says that, and nothing of the object. Of a volume an absence lets pass, as what is made by
    # the request itself, and a driver that is not there now answers 404, too (moby, volume/drivers: `plugin "x" not found`).
    is_of_object = message not in ("", "page not found") and question.kind != "engine"
    if status == 404 and is_of_object and (question.kind != "volume" or _NO_VOLUME in message.lower()):
        return Finding(absent=message)
    return Finding(failure=f"the engine answered {status}: {message}")


def _path_finding(real: str | UnknownPath | None) -> Finding:
    if isinstance(real, UnknownPath):
        return Finding(failure=str(real))
    return Finding({} if real is None else {"real": real})
