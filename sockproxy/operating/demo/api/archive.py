"""Files in and out of a container as tar archives: what `docker cp` uses.

Owns the tar and the header with a path's facts. Must not know how files are kept (`files`).
"""

import base64
import io
import json
import posixpath
import tarfile

from aiohttp import web

from sockproxy.operating.demo.api.answers import HEADERS, empty_answer
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.times import rfc3339
from sockproxy.operating.demo.programs.files import Files, resolve

GO_DIRECTORY = 1 << 31  # os.ModeDir


async def facts(call: Call) -> web.StreamResponse:
    """HEAD: the facts alone."""
    return web.Response(headers={**HEADERS, **_fact_header(call)})


async def get(call: Call) -> web.StreamResponse:
    """GET: the facts, and the path with all below as a tar."""
    header, path = _fact_header(call), _path(call)
    body = pack(_files(call), path)
    answer = web.StreamResponse(headers={**HEADERS, **header, "Content-Type": "application/x-tar"})
    await answer.prepare(call.request)
    await answer.write(body)
    return answer


async def put(call: Call) -> web.StreamResponse:
    """PUT: unpacks a tar into a directory. What is neither file nor directory is left out."""
    files, path = _files(call), _path(call)
    kind = files.kind(path)
    if kind is None:
        raise Refused(404, f"Could not find the file {path} in container {call.name}")
    if kind == "file":
        raise Refused(500, "extraction point is not a directory")
    try:
        unpack(files, path, await call.raw_body())
    except (tarfile.TarError, OSError, EOFError) as fault:
        raise Refused(500, f"Error processing tar file: {fault}") from None
    return empty_answer(200)


def pack(files: Files, path: str) -> bytes:
    """A tar of a file, or of a directory under its own name."""
    packed = io.BytesIO()
    above = posixpath.dirname(path.rstrip("/"))
    with tarfile.open(fileobj=packed, mode="w") as tar:
        if files.kind(path) == "directory":
            tar.addfile(_directory(posixpath.relpath(path, above) if path != "/" else "."))
        for name in files.below(path):
            content = files.read(name)
            member = tarfile.TarInfo(posixpath.relpath(name, above))
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _directory(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member


def unpack(files: Files, path: str, body: bytes) -> None:
    """Raises tarfile.TarError or OSError. `resolve` keeps every name inside the container's root."""
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        for member in tar:
            target = resolve(path, member.name)
            if member.isdir():
                files.make_directory(target)
            elif member.isreg() and (content := tar.extractfile(member)):
                files.make_directory(posixpath.dirname(target))
                files.write(target, content.read())


def _files(call: Call) -> Files:
    return call.state.container(call.name).files


def _path(call: Call) -> str:
    if not call.text("path"):
        raise Refused(400, "bad parameter: pathcannot be empty")
    return resolve("/", call.text("path"))


def _fact_header(call: Call) -> dict[str, str]:
    files, path = _files(call), _path(call)
    kind = files.kind(path)
    if kind is None:
        raise Refused(404, f"Could not find the file {call.text('path')} in container {call.name}")
    known = {
        "name": posixpath.basename(path) or "/",
        "size": len(files.read(path)) if kind == "file" else 4096,
        "mode": 0o644 if kind == "file" else GO_DIRECTORY | 0o755,
        "mtime": rfc3339(call.state.container(call.name).created_ns),
        "linkTarget": "",
    }
    return {
        "X-Docker-Container-Path-Stat": base64.b64encode(json.dumps(known, separators=(",", ":")).encode()).decode()
    }
