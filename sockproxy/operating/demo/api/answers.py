"""Answers in the engine's shape: its headers, its JSON, its errors.

Owns what is the same in all answers. Must not know operations. Sizes, types and headers as dockerd 20.10 answered.
"""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

API_VERSION = (1, 41)
API_VERSION_MIN = (1, 12)
ENGINE_VERSION = "20.10.24"
JSON_ERRORS_SINCE = (1, 24)
GO_BUFFER_BYTES = 2048  # Go's server knows the length of an answer that fits into its buffer, and chunks longer ones
HEADERS = {
    "Api-Version": "1.41",
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Docker/{ENGINE_VERSION} (linux)",
}
RAW_STREAM = "application/vnd.docker.raw-stream"
NO_TYPE = "application/octet-stream"


async def drop_invented_fields(_request: web.BaseRequest, answer: web.StreamResponse) -> None:
    """A signal handler: takes out what aiohttp puts in where the engine names no type or server."""
    if answer.headers.get("Content-Type") == NO_TYPE:
        del answer.headers["Content-Type"]
    if answer.headers.get("Server") != HEADERS["Server"]:
        del answer.headers["Server"]


def encode(document: Any) -> bytes:
    """JSON as Go's encoder writes it: compact, with a line feed."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") + b"\n"


async def json_answer(request: web.Request, document: Any, status: int = 200) -> web.StreamResponse:
    """A document; chunked if it is longer than Go's buffer."""
    body = encode(document)
    if len(body) <= GO_BUFFER_BYTES:
        return web.Response(body=body, status=status, headers={**HEADERS, "Content-Type": "application/json"})
    answer = await stream_answer(request, "application/json", status)
    await answer.write(body)
    return answer


def empty_answer(status: int = 204) -> web.Response:
    """No body: 200 and 201 with a length of 0, 204 and 304 without."""
    return web.Response(status=status, headers=HEADERS)


async def stream_answer(request: web.Request, content_type: str = "", status: int = 200) -> web.StreamResponse:
    """An answer whose head is sent at once and whose length nobody knows."""
    answer = web.StreamResponse(status=status, headers={**HEADERS, "Content-Type": content_type or NO_TYPE})
    await answer.prepare(request)
    return answer


def refusal(status: int, message: str, version: tuple[int, ...], headers: Mapping[str, str] = HEADERS) -> web.Response:
    """An error: JSON, and plain text below API 1.24."""
    if version >= JSON_ERRORS_SINCE:
        return web.Response(
            status=status, body=encode({"message": message}), headers={**headers, "Content-Type": "application/json"}
        )
    plain = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=f"{message}\n".encode(errors="replace"), headers={**headers, **plain})
