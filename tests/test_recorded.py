"""A recorded request is judged again by the body that the record has, and what is a mark there is told as such."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from sockproxy.data import load_secrets
from sockproxy.exchange import Exchange, Extent, Level
from sockproxy.operating.known import load_known_bodies
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.levels import Levels
from sockproxy.recording.redaction import Redactor, mark_by
from tests.cli_runs import run
from tests.exchanges import MemorySink, answered, decided

POLICY = """
version: 1
policies:
  p:
    unknown_fields: pass
    allow:
      - operations: [ContainerCreate]
        require: {images: [busybox]}
      - operations: [VolumeCreate]
        require: {bind_sources: [/srv/**]}
      - operations: [ImageBuild]
        require: {query: {buildargs: "x", t: "*"}}
      - operations: [SecretCreate]
        require: {labels: {owner: ci}}
"""
REDACTOR = Redactor(load_secrets(), mark_by(b"k" * 32))


def recorded(target: str, body: Any, note: str = "") -> bytes:
    """The trail of one request at level Request."""
    levels = Levels((), {"memory": Level.REQUEST}, REDACTOR, load_known_bodies)
    trail = AuditTrail([(sink := MemorySink(), "deny-writes")], lambda flush: None, lambda *_: None, levels=levels)
    exchange: Exchange = decided(("POST", target))
    exchange.target = REDACTOR.target(exchange.target)
    exchange.classified = decided(("POST", target.partition("?")[0])).classified
    exchange.extent = Extent(Level.REQUEST, wants_body=True, wants_answer=False, is_alike=False)
    exchange.extent.body = note or (orjson.dumps(body) if body is not None else b"")
    exchange.bytes_in = len(exchange.extent.body)
    trail.decided(exchange)
    trail.completed(answered(exchange, 201))
    trail.close()
    return sink.lines


def volume(o: str) -> dict[str, Any]:
    return {"Name": "v", "DriverOpts": {"type": "none", "device": "/srv/x", "o": o}}


# (target, body, why there is none, exit code, what the answer says, what it says of marks)
ASKED: list[tuple[str, Any, str, int, str, str]] = [
    ("/containers/create", {"Image": "busybox"}, "", 0, "allow", ""),
    ("/containers/create", {"Image": "alpine"}, "", 1, "images allows busybox", ""),
    ("/containers/create", {"Image": "busybox", "Env": ["A=b"], "New": 1}, "", 0, "allow", ""),
    ("/containers/create", None, "it is above 9 bytes", 1, "requires something of it", ""),
    ("/volumes/create", volume("bind"), "", 0, "allow", ""),
    ("/volumes/create", volume("password=p"), "", 1, "deny", "DriverOpts"),
    ("/build?buildargs=%7B%22A%22%3A%22b%22%7D&t=a", None, "", 1, "has another value", "query.buildargs"),
    ("/secrets/create", {"Name": "s", "Data": "c2VjcmV0", "Labels": {"owner": "ci"}}, "", 0, "allow", ""),
]


@pytest.mark.parametrize(("target", "body", "note", "code", "says", "marked"), ASKED)
def test_explain(tmp_path: Path, target: str, body: Any, note: str, code: int, says: str, marked: str) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    (tmp_path / "audit.jsonl").write_bytes(recorded(target, body, note))
    result = run("explain", "--policy", f"{tmp_path}/p.yaml", "--audit", "a-1", f"{tmp_path}/audit.jsonl")
    assert (result.exit_code, says in result.output) == (code, True), result.output
    told = [line for line in result.output.splitlines() if "is a mark in the record" in line]
    assert bool(told) == bool(marked)
    assert all(marked in line for line in told)


def test_explain_finds_the_record_where_the_configuration_says_that_it_is(tmp_path: Path) -> None:
    where = "listeners: [{address: unix:///run/p.sock, policy: p}]\naudit: [{file: audit.jsonl}, {file: '-'}]\n"
    (tmp_path / "c.yaml").write_text(POLICY + where)
    (tmp_path / "audit.jsonl").write_bytes(b"")
    (tmp_path / "audit.jsonl.2").write_bytes(recorded("/containers/create", {"Image": "busybox"}))  # a second worker's
    result = run("explain", "--config", f"{tmp_path}/c.yaml", "--policy", f"{tmp_path}/c.yaml#p", "--audit", "a-1")
    assert (result.exit_code, "allow  ContainerCreate" in result.output) == (0, True), result.output


def test_explain_prints_no_secret_of_a_target_that_was_typed() -> None:
    result = run("explain", "--policy", "allow-all", "POST", "/build?buildargs=%7B%22A%22%3A%22S3cr3t%22%7D&t=a")
    assert "forwarded" in result.output
    assert "S3cr3t" not in result.output
