"""One request to the engine, read: names from the path, the query and the body by the engine's own rules.

Owns how a value is read (booleans, numbers, filters, JSON). Must not know what an operation does with it.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from sockproxy.operating.demo.api.connection import connection_of
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Json, State

T = TypeVar("T")
EOF = Refused(500, "EOF")
GOT_EOF = Refused(400, "got EOF while reading request body")
_FALSE = frozenset({"", "0", "no", "false", "none"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """A request with what it asks of whom. `names` are what the path holds, in order; of a key that is repeated in the
    query the first value counts."""

    request: web.Request
    state: State
    version: tuple[int, ...]
    names: tuple[str, ...]
    query: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        return self.names[0]

    def text(self, key: str, default: str = "") -> str:
        values = self.query.get(key)
        return values[0] if values else default

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Everything is true but the empty text, 0, no, false and none (httputils.BoolValue)."""
        return self.text(key).strip().lower() not in _FALSE if key in self.query else default

    def number(self, key: str, *, status: int = 400) -> int:
        """Raises Refused with the words of Go's strconv."""
        text = self.text(key)
        if not _INTEGER.fullmatch(text):
            raise Refused(status, f'strconv.Atoi: parsing "{text}": invalid syntax')
        return int(text)

    def filters(self) -> dict[str, frozenset[str]]:
        """`{"key":["value"]}` or the older `{"key":{"value":true}}`. Raises Refused."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            found = json.loads(text)
        except ValueError:
            raise Refused(500, f"invalid character '{text[:1]}' looking for beginning of value") from None
        if not isinstance(found, dict) or not all(isinstance(values, list | dict) for values in found.values()):
            raise Refused(500, "json: cannot unmarshal the filters")
        return {key: frozenset(map(str, values)) for key, values in found.items() if values}

    async def raw_body(self) -> bytes:
        """The whole body. Raises ConnectionResetError if the client has stopped sending in the middle of it."""
        connection = connection_of(self.request)
        if connection.client_has_ended.is_set() and not self.request.content.is_eof():
            connection.force_close()
            raise ConnectionResetError
        return await self.request.read()

    async def body(self, on_empty: Refused = EOF) -> Json:
        """The JSON object of a body that says that it is one. Raises Refused."""
        content_type = self.request.headers.get("Content-Type", "")
        raw = await self.raw_body()
        if raw and content_type.partition(";")[0].strip().lower() != "application/json":
            raise Refused(400, f"Content-Type specified ({content_type}) must be 'application/json'")
        return await self.untyped_body(on_empty)

    async def untyped_body(self, on_empty: Refused = EOF) -> Json:
        """The JSON object of the body, whatever its type. Raises Refused; `on_empty` is an operation's own words."""
        raw = await self.raw_body()
        if len(raw) > self.state.bounds.document_bytes_max:
            raise Refused(413, "the demo engine takes no document as large as this")
        try:
            found = json.loads(raw)
        except ValueError:
            raise (Refused(500, "unexpected EOF") if raw.strip() else on_empty) from None
        except RecursionError:
            raise Refused(500, "exceeded max depth") from None
        if not isinstance(found, dict | None):
            raise Refused(500, "json: cannot unmarshal the body into a Go struct")
        return found or {}

    async def until_client_ends(self, work: Awaitable[T]) -> T | None:
        """The result of some waiting, or None once the client has closed its sending side: then the engine ends a stream."""
        job = asyncio.ensure_future(work)
        end = asyncio.create_task(connection_of(self.request).client_has_ended.wait())
        try:
            await asyncio.wait({job, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            if not job.done():
                job.cancel()
                await asyncio.wait({job})
        return job.result() if job.done() and not job.cancelled() else None
