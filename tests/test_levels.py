"""How much of a request is recorded: levels of sinks, rules, and bodies without their secrets.

A whole proxy (configuration, policy, record, metrics, log) stands before an engine that the test plays.
"""

import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from sockproxy.data import load_secrets
from sockproxy.exchange import Exchange, Level
from sockproxy.judging.clients import Match
from sockproxy.judging.identity import Peer
from sockproxy.judging.policy import Effect
from sockproxy.operating.app import bind_all, running
from sockproxy.operating.config import load_config
from sockproxy.operating.known import load_catalogue, load_known_bodies
from sockproxy.operating.service import Service
from sockproxy.recording.levels import AuditRule, Levels
from sockproxy.recording.redaction import Redactor, hide_all
from tests.exchanges import DENIED, LIST, PROFILE, START, decided, rejected
from tests.secret_places import OPERATIONS, QUERIES, SHAPES, in_any_form
from tests.test_audit import is_chain

CONFIG = """
version: 1
engine: unix://{folder}/engine.sock
listeners: [{{address: "unix://{folder}/d.sock", policy: {policy}}}]
audit: [{{file: audit.jsonl, level: {level}}}]
{more}
"""
HEAD_END = b"\r\n\r\n"
CREATE = b"POST /v1.41/containers/create?name=a HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
LISTED = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
BODY = b'{"image": "busybox", "Env": ["TOKEN=t0ken"], "Labels": {"x": "y", "id": "z"}}'
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"Id": "ab"}'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX = 64 << 10


def sized(body: bytes, more: bytes = b"") -> bytes:
    return CREATE + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return CREATE + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


class Engine:
    """Answers every request as `answer` says; `heads` and `rest` are what it got, `audited` the trail as it was then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: Callable[[bytes], bytes] = lambda body: OK
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.audited: list[list[dict[str, Any]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(HEAD_END)
                if b"/_ping" not in head.split(b"\r\n")[0]:
                    self.heads.append(head)
                    self.audited.append(events(self.folder))
                body = await self._body(reader, head.lower())
                if body:
                    self.bodies.append(body)
                writer.write(self.answer(body))

    @staticmethod
    async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" in head:
            return await reader.readuntil(b"0\r\n\r\n")
        _, found, rest = head.partition(b"content-length: ")
        return await reader.readexactly(int(rest.split(b"\r\n")[0])) if found else b""


class Proxied:
    def __init__(self, folder: Path, service: Service, engine: Engine) -> None:
        self.folder = folder
        self.service = service
        self.engine = engine

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.folder / "d.sock"))

    async def ask(self, request: bytes, times: int = 1) -> bytes:
        """The last of the answers to a request that is sent so often on one connection."""
        reader, writer = await self.connect()
        answer = b""
        for _ in range(times):
            writer.write(request)
            answer = await read_answer(reader)
        writer.close()
        return answer

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The events of the trail, once there are so many."""
        while len(found := events(self.folder)) < count:
            await asyncio.sleep(0)
        return found

    def known_heads(self) -> list[bytes]:
        """What the express way remembers."""
        gates = [entrance.for_all for entrance in self.service.entrances.values()]
        return [head for gate in gates if gate is not None for head in gate.known]

    def metrics(self) -> str:
        return generate_latest(self.service.registry).decode()

    def omitted(self) -> float:
        labels = {"sink": str(self.folder / "audit.jsonl"), "result": "omitted"}
        return self.service.registry.get_sample_value("sockproxy_audit_events_total", labels) or 0.0


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(HEAD_END)
    if head == CONTINUE:
        return head
    return head + await Engine._body(reader, head.lower())


def events(folder: Path) -> list[dict[str, Any]]:
    file = folder / "audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@asynccontextmanager
async def open_proxied(level: str = "Request", more: str = "", policy: str = "allow-all") -> AsyncIterator[Proxied]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "sockproxy.yaml"
        file.write_text(CONFIG.format(folder=folder, policy=policy, level=level, more=more))
        config = load_config(str(file), load_catalogue())
        engine = Engine(folder)
        server = await asyncio.start_unix_server(engine.serve, str(folder / "engine.sock"), limit=1 << 20)
        async with asyncio.timeout(10):
            try:
                async with running(config, bind_all(config)) as service:
                    yield Proxied(folder, service, engine)
                assert is_chain((folder / "audit.jsonl").read_bytes())
            finally:
                server.close()


TOLD = {"Image": "busybox", "Labels": {"x": "y", "id": "z"}}


def is_told(body: Any) -> bool:
    """Whether that is what may be told of BODY."""
    rest = {name: value for name, value in body.items() if name != "Env"}
    return rest == TOLD and body["Env"][0].startswith("TOKEN=hmac:")


# Bodies of requests


async def test_a_body_is_recorded_before_the_engine_gets_it() -> None:
    async with open_proxied() as proxied:
        assert (await proxied.ask(sized(BODY))).endswith(b'{"Id": "ab"}')
        assert proxied.engine.bodies == [BODY]  # as it came
        (before,) = proxied.engine.audited
        assert [event["stage"] for event in before] == ["decided"]
        assert is_told(before[0]["body"])
        found = await proxied.events(2)
    assert is_told(found[1]["body"])
    assert "response_body" not in found[1]
    assert "t0ken" not in json.dumps(found)


async def test_a_chunked_body_is_recorded_and_keeps_its_framing() -> None:
    async with open_proxied() as proxied:
        reader, writer = await proxied.connect()
        for piece in (request := chunked(BODY[:10], BODY[10:]))[:-60], request[-60:-3], request[-3:]:
            writer.write(piece)
            await asyncio.sleep(0.01)  # they come in pieces; how many does not matter
        await read_answer(reader)
        writer.close()
        assert b"transfer-encoding: chunked" in proxied.engine.heads[0].lower()
        assert proxied.engine.bodies[0] == request.partition(HEAD_END)[2]
        assert is_told((await proxied.events(2))[0]["body"])


async def test_the_body_is_there_where_a_policy_asks_for_it_and_where_it_denies() -> None:
    more = "policies: {ci: {allow: [{operations: [ContainerCreate], require: {images: [busybox]}}]}}"
    async with open_proxied(more=more, policy="ci") as proxied:
        await proxied.ask(sized(BODY))
        assert b"403" in await proxied.ask(sized(BODY.replace(b"busybox", b"alpine")))
        assert b"403" in await proxied.ask(
            b"POST /v1.41/auth" + sized(b'{"password": "p"}')[len(CREATE.split(b" HTTP")[0]) :]
        )
        found = await proxied.events(6)
    decided = [event for event in found if event["stage"] == "decided"]
    assert [event["effect"] for event in decided] == ["allow", "deny", "deny"]
    assert is_told(decided[0]["body"])
    assert decided[1]["body"]["Image"] == "alpine"
    assert decided[2]["body"]["password"].startswith("hmac:")


@pytest.mark.parametrize(
    "request_of", [sized, lambda body: chunked(body[:10], body[10:])], ids=["of a length", "in chunks"]
)
async def test_what_is_too_large_passes_and_the_record_says_so(request_of: Callable[[bytes], bytes]) -> None:
    fits = b'{"Image": "busybox", "Hostname": "%b"}'
    fits %= b"x" * (MAX - len(fits) + 2)
    async with open_proxied() as proxied:
        for body in (fits, fits[:-2] + b'y"}'):
            await proxied.ask(request_of(body))
        found = await proxied.events(4)
        assert [len(body) > MAX for body in proxied.engine.bodies] == [True, True] or request_of is sized
        assert [body.count(b"x") for body in proxied.engine.bodies] == [fits.count(b"x")] * 2
    assert isinstance(found[0]["body"], dict)
    assert found[2]["body"] == f"omitted: it is above {MAX} bytes"


async def test_who_expects_to_be_asked_is_asked_once() -> None:
    async with open_proxied() as proxied:
        reader, writer = await proxied.connect()
        whole = sized(BODY, b"Expect: 100-continue\r\n")
        writer.write(whole.removesuffix(BODY))
        assert await read_answer(reader) == CONTINUE
        writer.write(BODY)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
        writer.close()
        assert b"expect" not in proxied.engine.heads[0].lower()
        assert is_told((await proxied.events(2))[0]["body"])


async def test_who_is_denied_is_not_asked() -> None:
    async with open_proxied(policy="readonly") as proxied:
        request = sized(BODY, b"Expect: 100-continue\r\n").removesuffix(BODY)
        assert (await proxied.ask(request)).startswith(b"HTTP/1.1 403")
        assert (await proxied.events(2))[0]["body"] == "omitted: it was not asked for"


async def test_half_a_body_is_not_recorded_and_reaches_nobody_as_a_whole_one() -> None:
    async with open_proxied() as proxied:
        reader, writer = await proxied.connect()
        writer.write(sized(BODY)[:-1])
        writer.write_eof()
        await reader.read()
        assert not proxied.engine.bodies
        assert (await proxied.events(2))[0]["body"] == "omitted: the connection ended within it"


# What cannot be read -> what is told of it
UNREADABLE = {
    b'{"Image": "x", "image": "y"}': "omitted: ContainerCreate: Image stands twice in one object, in two spellings",
    b'["x"]': "omitted: ContainerCreate: the body is a list, not an object",
    b'{"Image": S3cr3t}': "omitted: ContainerCreate: the body is not JSON: ",
}


@pytest.mark.parametrize("body", UNREADABLE)
async def test_what_cannot_be_read_passes_and_is_not_told(body: bytes) -> None:
    async with open_proxied() as proxied:
        await proxied.ask(sized(body))
        assert proxied.engine.bodies == [body]
        told = (await proxied.events(2))[0]["body"]
        assert told.startswith(UNREADABLE[body])
        assert "S3cr3t" not in told


async def test_uploads_and_other_operations_are_not_held() -> None:
    load = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n"
    async with open_proxied() as proxied:
        reader, writer = await proxied.connect()
        writer.write(load + b"half")
        while not proxied.engine.heads:
            await asyncio.sleep(0)
        writer.write(b" more")
        await read_answer(reader)
        writer.close()
        assert [event["body"] for event in await proxied.events(2)] == [None, None]


# Bodies of answers


async def test_an_answer_is_recorded_as_it_went_out() -> None:
    async with open_proxied("RequestResponse") as proxied:
        pieces = b'7\r\n{"Env":\r\n10\r\n["T=S3cr3t-T"],"\r\n8\r\nId":"a"}\r\n0\r\n\r\n'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        proxied.engine.answer = lambda body: head + pieces
        assert (await proxied.ask(LISTED, times=3)).endswith(pieces)
        found = await proxied.events(6)
        assert proxied.service.connections.express_idle_count == 0  # the plain way, each time
    assert [set(event) & {"response_body"} for event in found] == [set(), {"response_body"}] * 3
    assert found[1]["response_body"]["Id"] == "a"
    assert found[1]["response_body"]["Env"][0].startswith("T=hmac:")
    assert [event["body"] for event in found] == [None] * 6


async def test_the_error_of_an_engine_does_not_repeat_a_secret() -> None:
    async with open_proxied("RequestResponse") as proxied:
        error = b'{"message": "bad variable TOKEN=t0ken"}'
        head = b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(error)
        proxied.engine.answer = lambda body: head + error
        assert (await proxied.ask(sized(BODY))).endswith(error)
        assert (await proxied.events(2))[1]["response_body"]["message"].startswith("hmac:")


# What of a request is not known as a secret, so that it would not be found in an answer: a body that cannot be read, a name in
# the query that nobody knows
REPEATED = [
    sized(b'{"Env": ["A=t0ken"], "env": ["A=t0ken"]}'),
    sized(b'{"Env": ["A=t0ken"], "Labels": {"x": "%b"}}' % (b"x" * MAX)),
    b"GET /v1.41/containers/json?nobody=t0ken HTTP/1.1\r\nHost: d\r\n\r\n",
]


@pytest.mark.parametrize("request_", REPEATED, ids=["unreadable", "too large", "query"])
async def test_nor_one_that_is_not_known_as_such(request_: bytes) -> None:
    async with open_proxied("RequestResponse") as proxied:
        error = b'{"message": "bad variable A=t0ken"}'
        head = b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(error)
        proxied.engine.answer = lambda body: head + error
        assert (await proxied.ask(request_)).endswith(error)
        assert (await proxied.events(2))[1]["response_body"].startswith("omitted: it may repeat")


# (head of the answer, its body, what the record says)
ANSWERS = [
    (b"Content-Type: text/plain", b"OK", None),
    (
        b"Content-Type: application/json",
        b"{",
        "omitted: the body is not JSON: unexpected end of data: line 1 column 2 (char 1)",
    ),
    (b"Content-Type: application/json", b'"%b"' % (b"x" * MAX), f"omitted: it is above {MAX} bytes"),
]


@pytest.mark.parametrize(("field", "body", "said"), ANSWERS)
async def test_what_is_not_told_of_answers(field: bytes, body: bytes, said: str | None) -> None:
    async with open_proxied("RequestResponse") as proxied:
        proxied.engine.answer = lambda _: (
            b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (field, len(body), body)
        )
        assert (await proxied.ask(LISTED)).endswith(body)
        told = (await proxied.events(2))[1].get("response_body")
        assert told is said or told.startswith(said)


async def test_streams_are_not_copied() -> None:
    async with open_proxied("RequestResponse") as proxied:
        await proxied.ask(LISTED.replace(b"containers/json", b"events"))
        assert "response_body" not in (await proxied.events(2))[1]


# Levels and rules


async def test_reads_go_the_express_way_where_no_answers_are_recorded() -> None:
    async with open_proxied("Request") as proxied:
        await proxied.ask(LISTED, times=4)
        await proxied.events(8)
        assert proxied.known_heads() == [LISTED]


async def test_what_is_left_out_is_counted_whichever_way_it_goes() -> None:
    more = "audit_rules: [{level: None, operations: [ContainerList]}, {level: Metadata}]"
    async with open_proxied(more=more) as proxied:
        await proxied.ask(LISTED, times=4)
        await proxied.ask(sized(BODY))
        found = await proxied.events(2)
        assert proxied.known_heads() == [LISTED]
        assert (proxied.omitted(), len(found)) == (8.0, 2)
    assert [event["body"] for event in found] == [None, None]


async def test_where_a_rule_asks_who_it_is_no_head_is_remembered() -> None:
    more = "audit_rules: [{level: None, operations: [ContainerList], principals: [{uid: 4711}]}]"
    async with open_proxied(more=more) as proxied:
        await proxied.ask(LISTED, times=3)
        await proxied.events(6)
        assert not proxied.known_heads()


ROOT, OTHER = Match((("uid", 0),)), Match((("uid", 1000),))
BOTH = {"a": Level.REQUEST_RESPONSE, "b": Level.METADATA}

# (rules, exchange, levels at the sinks a and b)
RULED: list[tuple[list[AuditRule], Exchange, tuple[Level, Level]]] = [
    ([], decided(LIST), (Level.REQUEST_RESPONSE, Level.METADATA)),
    ([AuditRule(Level.REQUEST)], decided(LIST), (Level.REQUEST, Level.METADATA)),
    ([AuditRule(Level.NONE), AuditRule(Level.REQUEST)], decided(LIST), (Level.NONE, Level.NONE)),
    ([AuditRule(Level.NONE, frozenset({"ContainerStart"}))], decided(LIST), (Level.REQUEST_RESPONSE, Level.METADATA)),
    ([AuditRule(Level.NONE, frozenset({"ContainerStart"}))], decided(START), (Level.NONE, Level.NONE)),
    ([AuditRule(Level.NONE, frozenset({"@unknown"}))], decided(PROFILE), (Level.NONE, Level.NONE)),
    ([AuditRule(Level.NONE, frozenset({"@unknown"}))], rejected(), (Level.NONE, Level.NONE)),
    ([AuditRule(Level.NONE, effect=Effect.DENY)], rejected(), (Level.NONE, Level.NONE)),
    ([AuditRule(Level.NONE, effect=Effect.DENY)], decided(LIST), (Level.REQUEST_RESPONSE, Level.METADATA)),
    ([AuditRule(Level.NONE, effect=Effect.DENY)], decided(LIST, DENIED), (Level.NONE, Level.NONE)),
    ([AuditRule(Level.NONE, principals=(ROOT,))], decided(LIST), (Level.REQUEST_RESPONSE, Level.METADATA)),
    ([AuditRule(Level.NONE, principals=(ROOT, OTHER))], decided(LIST), (Level.NONE, Level.NONE)),
]


@pytest.mark.parametrize(("rules", "exchange", "expected"), RULED)
def test_the_first_rule_that_fits_counts(
    rules: list[AuditRule], exchange: Exchange, expected: tuple[Level, Level]
) -> None:
    levels = Levels(rules, BOTH, REDACTOR, load_known_bodies)
    exchange.extent = None
    told = [levels.fit({"stage": "decided"}, sink, exchange) for sink in BOTH]
    assert told == [level is not Level.NONE for level in expected]
    assert exchange.extent is not None
    assert tuple(min(exchange.extent.level, most) for most in BOTH.values()) == expected


RULES = st.builds(
    AuditRule,
    st.sampled_from(Level),
    st.sampled_from([None, frozenset({"ContainerList"}), frozenset({"ContainerStart", "@unknown"})]),
    st.sampled_from([(), (ROOT,), (OTHER,)]),
    st.sampled_from([None, *Effect]),
)
ASKED = [
    lambda: decided(LIST),
    lambda: decided(LIST, DENIED),
    lambda: decided(START),
    lambda: decided(PROFILE),
    rejected,
]


@given(st.lists(RULES, max_size=4), st.sampled_from([BOTH, {"a": Level.METADATA}]), st.permutations(ASKED))
def test_what_is_known_of_an_operation_changes_nothing(
    rules: list[AuditRule], sinks: dict[str, Level], asked: list[Callable[[], Exchange]]
) -> None:
    levels = Levels(rules, sinks, REDACTOR, load_known_bodies)  # the same for all of them
    for exchange in (one() for one in asked):
        peer = Peer("l", exchange.principal.kind, exchange.principal.uid)
        extent = levels.extent_of(exchange, peer)
        assert extent.level == level_by_the_words(rules, exchange, peer, max(sinks.values()))
        assert exchange.classified is None or extent.wants_answer <= levels.may_tell_answer(exchange.classified)
        assert (extent.body, extent.answer, extent.told) == (b"", b"", None)


def level_by_the_words(rules: list[AuditRule], exchange: Exchange, peer: Peer, most: Level) -> Level:
    """The first rule that fits says the level; what none fits has that of the sink, which is the most that it gets."""
    is_known = exchange.classified is not None and exchange.classified.operation is not None
    operation = (
        exchange.classified.operation.operation_id if is_known and exchange.classified.in_version else "@unknown"
    )
    effect = Effect.DENY if exchange.decision is None else exchange.decision.effect
    return min(next((rule.level for rule in rules if rule.fits(operation, effect, peer)), most), most)


def test_what_a_certificate_says_is_asked_for_as_well() -> None:
    rule = AuditRule(Level.NONE, principals=(Match((("tls_san", "DNS:ci"),)),))
    levels = Levels([rule], BOTH, REDACTOR, load_known_bodies)
    peer = Peer("l", "tcp", tls_sans=("DNS:ci",))
    assert levels.extent_of(decided(LIST), peer).level is Level.NONE
    assert levels.extent_of(decided(LIST), None).level is Level.REQUEST_RESPONSE


# Secrets

REDACTOR = Redactor(load_secrets(), hide_all)
STRICT = """
policies:
  strict:
    unknown_fields: pass
    allow:
      - operations: [ContainerCreate, ServiceCreate, ServiceUpdate]
        require: {pod_security: restricted, bind_sources: [/x], images: [y], networks: [z], labels: {a: b}}
      - operations: [ContainerExec]
        require: {pod_security: restricted}
      - operations: [VolumeCreate]
        require: {bind_sources: [/x], volume_drivers: [x], labels: {a: b}}
      - operations: [ImageBuild]
        require: {query: {buildargs: "x", remote: "x", t: "x"}}
      - operations: [ImageCreate, ImageCommit]
        require: {query: {changes: "x", fromSrc: "x"}}
      - operations: ["@Swarm", SecretCreate, ConfigCreate, SystemAuth]
"""
PATHS = {
    "ContainerExec": "/containers/c/exec",
    "ImageCommit": "/commit",
    "ImagePush": "/images/a/push",
    "SystemAuth": "/auth",
    "PluginSet": "/plugins/p/set",
    "SwarmUnlock": "/swarm/unlock",
}


def path_of(operation_id: str) -> str:
    operation = load_catalogue().operations[operation_id]
    return operation.path.replace("{id}", "x").replace("{name}", "x")


def request_to(path: str, body: bytes = b"") -> bytes:
    head = f"POST /v1.44{path} HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: S3cr3t\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("policy", ["allow-all", "strict"])
async def test_no_secret_is_told_by_record_log_metric_or_denial(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    secret = 'S3cr3t "\\/<%+=ü/0123'
    requests = [
        *(request_to(path_of(one), orjson.dumps(body)) for one in OPERATIONS for body in SHAPES[one](secret)),
        *(
            request_to(f"{path}?{query(secret)}")
            for query in QUERIES
            for path in ("/build", "/images/create", "/commit")
        ),
    ]
    denials = b""
    with caplog.at_level(logging.DEBUG):
        async with open_proxied("RequestResponse", STRICT, policy) as proxied:
            proxied.engine.answer = lambda body: (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            for request in requests:
                answer = await proxied.ask(request)
                denials += answer if b" 403 " in answer or b" 400 " in answer else b""
            found = await proxied.events(2 * len(requests))
            told = {
                "record": (proxied.folder / "audit.jsonl").read_text(),
                "metrics": proxied.metrics(),
                "denials": denials.decode(),
                "log": "\n".join(str(record.__dict__) for record in caplog.records),
            }
    assert [event for event in found if event["body"] and event["stage"] == "decided"]
    assert bool(denials) == (policy == "strict")
    for place, text in told.items():
        assert not [form for form in (*in_any_form(secret), "S3cr3t") if form in text], place
