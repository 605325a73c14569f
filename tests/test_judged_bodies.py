"""Judged bodies on the wire: read before the decision, forwarded in one canonical form, and refused where that cannot be.

Told as dialogues between a client, the proxy and an engine that the test plays. What a decision says is in `test_judge`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sockproxy.errors import BadRequestReason
from sockproxy.exchange import Exchange, Stage
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import identify
from sockproxy.judging.policy import Effect, Reason
from sockproxy.operating.config import load_policy
from sockproxy.recording.event import completed_event
from sockproxy.wire import http1
from tests.streams import Peer, World, open_world, until
from tests.test_metrics import Scraped
from tests.test_proxy import GET, HEAD_END, OK, read_answer, serve_one

POLICY = """
version: 1
policies:
  judged:
    mode: {mode}
    unknown_fields: drop
    allow:
      - operations: [ContainerList, ContainerStart, ExecInspect]
      - operations: [ContainerCreate, ContainerExec, ContainerUpdate]
        require: {{pod_security: baseline}}
"""

CREATE = b"POST /v1.41/containers/create?name=a HTTP/1.1\r\nHost: d\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b' {"image": "busybox", "Cmd": "true", "Env": null}\n'
CANONICAL = b'{"Image":"busybox","Cmd":["true"]}'
PRIVILEGED = b'{"Image":"busybox","HostConfig":{"Privileged":true}}'
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
FORWARDED = (
    b"POST /v1.41/containers/create?name=a HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(CANONICAL) + CANONICAL
)
OTHER = identify(PeerFacts("listener", "unix", uid=2))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def sized(body: bytes, more: bytes = b"", head: bytes = CREATE) -> bytes:
    return head + JSON + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*pieces: bytes, more: bytes = b"", trailer: bytes = b"") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return CREATE + JSON + more + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


@asynccontextmanager
async def open_judging(folder: Path, mode: str = "enforce", **limits: float) -> AsyncIterator[World]:
    file = folder / "judged.yaml"
    file.write_text(POLICY.format(mode=mode), encoding="utf-8")
    async with asyncio.timeout(10), open_world(str(file), **limits) as world:
        yield world


async def refused(world: World, request: bytes) -> tuple[int, str, bytes]:
    """The answer of the proxy itself, which the engine has not seen anything of."""
    client = await world.connect()
    await client.send(request)
    answer = await read_answer(client)
    assert not world.engine_was_called()
    return answer


async def last(world: World) -> Exchange:
    await until(lambda: world.exchanges)
    return world.exchanges[-1]


# --- what the engine gets

FRAMINGS = {
    "content-length": sized(BODY),
    "chunked": chunked(BODY),
    "chunked-byte-by-byte": chunked(*(BODY[at : at + 1] for at in range(len(BODY)))),
    "chunked-with-a-trailer": chunked(BODY, more=b"Trailer: X-Sum\r\n", trailer=b"X-Sum: 1\r\n"),
    "content-encoding-that-is-none": sized(BODY, b"Content-Encoding: gzip\r\n"),
    "chunk-sizes-with-zeros": chunked(BODY).replace(b"%x\r\n" % len(BODY), b"000%X\r\n" % len(BODY)),
}


@pytest.mark.parametrize("request_", FRAMINGS.values(), ids=FRAMINGS)
async def test_the_engine_gets_the_canonical_form_whatever_the_framing(tmp_path: Path, request_: bytes) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(request_)
        engine = await world.accept()
        assert await engine.receive(len(FORWARDED)) == FORWARDED
        await engine.send(CREATED)
        assert (await read_answer(client))[0] == 201


@pytest.mark.parametrize("request_", [sized(BODY), chunked(BODY[:9], BODY[9:])], ids=["content-length", "chunked"])
async def test_it_may_come_in_two_pieces_cut_anywhere(tmp_path: Path, request_: bytes) -> None:
    async with open_judging(tmp_path) as world:
        client, engine = await world.connect(), None
        for cut in range(1, len(request_)):
            await client.send(request_[:cut])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await client.send(request_[cut:])
            engine = engine or await world.accept()
            assert await engine.receive(len(FORWARDED)) == FORWARDED
            await engine.send(CREATED)
            assert (await read_answer(client))[0] == 201


async def test_nothing_goes_to_the_engine_before_all_has_come(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client, request = await world.connect(), sized(BODY)
        await client.send(request[:-1])
        other = await world.connect()
        await other.send(GET)  # is served meanwhile, so there was time
        engine, head = await serve_one(world)
        assert head.startswith(b"GET ")
        assert (await read_answer(other))[0] == 200
        await client.send(request[-1:])
        assert await engine.receive(len(FORWARDED)) == FORWARDED


async def test_a_body_of_no_bytes_is_judged_as_none(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(b"", head=CREATE) + chunked())
        engine = await world.accept()
        for _ in range(2):
            assert (await engine.receive_until(HEAD_END)).endswith(b"Content-Length: 0\r\n\r\n")
            await engine.send(CREATED)
            assert (await read_answer(client))[0] == 201


async def test_the_next_request_behind_the_body_is_served(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(PRIVILEGED) + sized(BODY) + chunked(PRIVILEGED) + chunked(BODY) + GET)
        assert (await read_answer(client))[0] == 403
        engine = await world.accept()
        for expected in (201, 403, 201):
            if expected == 201:
                assert await engine.receive(len(FORWARDED)) == FORWARDED
                await engine.send(CREATED)
            assert (await read_answer(client))[0] == expected
        assert (await engine.receive_until(HEAD_END)).startswith(b"GET ")
        await engine.send(OK)
        assert (await read_answer(client))[2] == b"[]"


async def test_an_upgrade_that_is_none_takes_no_body_past_the_judge(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(BODY, b"Connection: Upgrade\r\nUpgrade: h2c\r\n"))
        engine = await world.accept()
        assert await engine.receive(len(FORWARDED)) == FORWARDED
        await engine.send(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (await read_answer(client))[0] == 502


# --- Expect


@pytest.mark.parametrize("framing", [sized, chunked])
async def test_who_expects_to_be_told_is_told_by_the_proxy(tmp_path: Path, framing: type) -> None:
    request = framing(BODY, more=b"Expect: 100-continue\r\n")
    at = request.index(HEAD_END) + len(HEAD_END)
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(request[:at])
        assert await client.receive(len(CONTINUE)) == CONTINUE
        assert not world.engine_was_called()
        await client.send(request[at:])
        engine = await world.accept()
        assert await engine.receive(len(FORWARDED)) == FORWARDED  # without Expect
        await engine.send(CREATED)
        assert (await read_answer(client))[0] == 201


async def test_who_expects_to_be_told_may_be_denied_then_and_goes_on(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(PRIVILEGED, b"Expect: 100-continue\r\n"))
        assert await client.receive(len(CONTINUE)) == CONTINUE
        status, head, _ = await read_answer(client)
        assert (status, "Connection" in head) == (403, False)


async def test_nobody_is_told_to_send_what_is_too_large(tmp_path: Path) -> None:
    async with open_judging(tmp_path, judged_body_bytes_max=8) as world:
        status, _, _ = await refused(world, CREATE + JSON + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert status == 413


# --- refusals


async def test_a_denial_names_the_field_and_keeps_the_connection(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        for request in (sized(PRIVILEGED), chunked(PRIVILEGED)):
            await client.send(request)
            status, head, text = await read_answer(client)
            assert status == 403
            assert "Connection" not in head
            assert json.loads(text)["message"].startswith(
                "sockproxy: ContainerCreate denied by policy judged: judged/allow[1]: HostConfig.Privileged is true"
            )
        assert not world.engine_was_called()
        assert [exchange.stage for exchange in world.exchanges] == [Stage.DENIED] * 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"Image":"a","Image":"b"}', id="a-name-twice"),
        pytest.param(b'{"Image":"a"} {}', id="text-behind-it"),
        pytest.param(b'\xef\xbb\xbf{"Image":"a"}', id="byte-order-mark"),
        pytest.param(b'{"Image":1}', id="another-type"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"Image=a", id="no-json"),
    ],
)
async def test_what_can_be_read_in_two_ways_is_a_bad_request(tmp_path: Path, body: bytes) -> None:
    async with open_judging(tmp_path) as world:
        status, head, _ = await refused(world, sized(body))
        assert (status, "Connection: close" in head) == (400, True)
        exchange = await last(world)
        assert (exchange.stage, exchange.bad_request_reason) == (Stage.REJECTED, BadRequestReason.BODY)
        event = completed_event(exchange)
        assert (event["reason"], event["operation"], event["bytes_in"]) == ("bad-request", "ContainerCreate", len(body))
        assert event["target"] == "/v1.41/containers/create?name=a"


async def test_below_api_1_24_a_bad_body_is_told_in_plain_text(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        status, head, _ = await refused(world, sized(b"[]", head=CREATE.replace(b"1.41", b"1.23")))
        assert (status, "text/plain" in head) == (400, True)


TOO_LARGE = {
    "announced": CREATE + JSON + b"Content-Length: 51\r\n\r\n",
    "announced-and-sent": sized(b"x" * 51),
    "announced-as-huge": CREATE + JSON + b"Content-Length: 99999999999999\r\n\r\n{",
    "one-chunk": chunked(b"x" * 51),
    "many-chunks": chunked(*[b"x" * 10] * 6),
}


@pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_body_above_the_limit_is_413(tmp_path: Path, request_: bytes) -> None:
    assert len(BODY) == 50
    async with open_judging(tmp_path, judged_body_bytes_max=50) as world:
        status, head, text = await refused(world, request_)
        assert (status, "Connection: close" in head) == (413, True)
        assert b"the body is above 50 bytes" in text
        assert world.limits_hit == ["judged_body_bytes_max"]
        assert (await last(world)).bad_request_reason is BadRequestReason.BODY_TOO_LARGE


async def test_all_bodies_that_are_held_have_a_bound_which_frees_itself(tmp_path: Path) -> None:
    async with open_judging(tmp_path, judged_bodies_bytes_max=2 * len(BODY)) as world:
        holding = [await world.connect() for _ in range(2)]
        for client in holding:
            await client.send(sized(BODY)[:-1])
        await until(lambda: world.proxy.holding.bytes == 2 * len(BODY))
        assert (await refused(world, sized(BODY)))[0] == 503
        assert (await last(world)).bad_request_reason is BadRequestReason.TOO_MANY_BODIES
        holding[0].close()
        await until(lambda: world.proxy.holding.bytes == len(BODY))
        client = await world.connect()
        await client.send(sized(BODY))
        await serve_created(world)
        assert (await read_answer(client))[0] == 201


async def test_one_who_sends_bodies_slowly_leaves_room_for_others(tmp_path: Path) -> None:
    length = len(BODY)
    async with open_judging(tmp_path, judged_body_bytes_max=length, judged_bodies_bytes_max=8 * length) as world:
        slow = [await world.connect() for _ in range(2)]
        for client in slow:
            await client.send(sized(BODY)[:-1])
        await until(lambda: world.proxy.holding.bytes == 2 * length)
        assert (await refused(world, chunked(BODY)))[0] == 503
        other = await world.connect(OTHER)
        await other.send(sized(BODY)[:-1])
        await until(lambda: world.proxy.holding.bytes == 3 * length)
        await other.send(sized(BODY)[-1:])
        await serve_created(world)
        assert (await read_answer(other))[0] == 201
        for client in slow:
            client.close()
        await until(lambda: (world.proxy.holding.bytes, world.proxy.holding.principal_count) == (0, 0))


@pytest.mark.parametrize("request_", [sized(BODY), chunked(BODY)], ids=["content-length", "chunked"])
async def test_a_body_that_stops_coming_is_408(tmp_path: Path, request_: bytes) -> None:
    async with open_judging(tmp_path, body_idle_seconds=0.1) as world:
        status, head, _ = await refused(world, request_[:-7])
        assert (status, "Connection: close" in head) == (408, True)
        assert world.limits_hit == ["body_idle_seconds"]
        assert (await last(world)).stage is Stage.REJECTED


@pytest.mark.parametrize("request_", [sized(BODY), chunked(BODY)], ids=["content-length", "chunked"])
async def test_a_body_that_ends_early_is_400(tmp_path: Path, request_: bytes) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(request_[:-7])
        client.finish()
        assert (await read_answer(client))[0] == 400
        assert not world.engine_was_called()
        assert (await last(world)).bad_request_reason is BadRequestReason.INCOMPLETE


async def test_a_client_that_is_gone_within_its_body_is_recorded_as_such(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(BODY)[:-7])
        client.close()
        await world.endings[-1].wait()
        assert not world.engine_was_called()
        assert (await last(world)).bad_request_reason is BadRequestReason.INCOMPLETE


@pytest.mark.parametrize("size", [b"-1", b"0x9", b"+9", b" 9", b"9" * 40, b"9;a=b"])
async def test_broken_chunks_are_400(tmp_path: Path, size: bytes) -> None:
    async with open_judging(tmp_path) as world:
        head = CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
        assert (await refused(world, head + size + b"\r\n" + BODY))[0] == 400


async def test_a_form_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\n\r\n"
        assert (await refused(world, CREATE + form))[0] == 400


async def test_an_audit_that_refuses_lets_nothing_through(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        world.refuses_records = True
        assert (await refused(world, sized(BODY)))[0] == 503


# --- the engine


async def test_an_engine_that_cannot_be_reached_is_502_and_the_connection_stays(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        world.stop_engine()
        client = await world.connect()
        for _ in range(2):
            await client.send(sized(BODY))
            status, head, _ = await read_answer(client)
            assert (status, "Connection" in head) == (502, False)


async def test_an_engine_that_closes_without_an_answer_is_502_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(GET)
        kept, _ = await serve_one(world)
        await read_answer(client)
        await client.send(sized(BODY))
        assert await kept.receive(len(FORWARDED)) == FORWARDED
        kept.close()
        assert (await read_answer(client))[0] == 502
        assert not world.engine_was_called()


async def test_a_client_that_half_closes_behind_its_body_gets_its_answer(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(BODY))
        client.finish()
        engine = await world.accept()
        assert await engine.receive_all() == FORWARDED  # and sees the end, as it would from the client
        await engine.send(CREATED)
        assert (await client.receive_all()).startswith(b"HTTP/1.1 201 ")


# --- what is recorded


async def test_events_tell_what_the_client_sent(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(chunked(BODY))
        await serve_created(world)
        await read_answer(client)
        await client.send(sized(PRIVILEGED))
        await read_answer(client)
        await until(lambda: len(world.exchanges) == 2)
        allowed, denied = map(completed_event, world.exchanges)
        assert (allowed["effect"], allowed["rule"], allowed["bytes_in"]) == ("allow", "judged/allow[1]", len(BODY))
        assert (denied["effect"], denied["rule"], denied["bytes_in"]) == ("deny", "judged/allow[1]", len(PRIVILEGED))
        assert denied["reason"] == "HostConfig.Privileged is true; pod_security baseline requires false"
        assert world.decided == [exchange.id for exchange in world.exchanges]  # once each


async def test_what_is_not_met_is_counted_by_that_reason(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        await refused(world, sized(PRIVILEGED))
        counted = Scraped().observe(await last(world)).families()["sockproxy_decisions"].samples
        labels = [sample.labels for sample in counted if sample.name.endswith("_total")]
        assert [one["reason"] for one in labels] == [Reason.REQUIREMENT]


async def serve_created(world: World) -> Peer:
    engine = await world.accept()
    assert await engine.receive(len(FORWARDED)) == FORWARDED
    await engine.send(CREATED)
    return engine


# --- mode shadow

SHADOWED = {
    "met": (BODY, Effect.ALLOW),
    "not-met": (PRIVILEGED, Effect.DENY),
    "unreadable": (b'{"Image":"a","Image":"b"}', Effect.DENY),
    "not-even-json": (b"\x00\xff", Effect.DENY),
}


@pytest.mark.parametrize(("body", "would_be"), SHADOWED.values(), ids=SHADOWED)
async def test_in_mode_shadow_the_clients_bytes_pass_as_they_came(
    tmp_path: Path, body: bytes, would_be: Effect
) -> None:
    async with open_judging(tmp_path, mode="shadow") as world:
        client = await world.connect()
        await client.send(sized(body))
        engine = await world.accept()
        assert (await engine.receive_until(HEAD_END)).endswith(b"Content-Length: %d\r\n\r\n" % len(body))
        assert await engine.receive(len(body)) == body
        await engine.send(CREATED)
        assert (await read_answer(client))[0] == 201
        decision = (await last(world)).decision
        assert decision is not None
        assert (decision.effect, decision.shadow) == (Effect.ALLOW, would_be)


LARGE = b'{"Image":"busybox","Cmd":["' + b"x" * 1000 + b'"]}'
PLAIN = b"Content-Type: text/plain\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
KILL = b"POST /v1.41/containers/web/kill HTTP/1.1\r\nHost: d\r\n"
UNREFUSED = {
    # request, what the engine gets behind its head, limits; what is told, and which limit was hit
    "too-large": (sized(LARGE), LARGE, {"judged_body_bytes_max": 900}, "the body is above 900 bytes"),
    "too-large-in-chunks": (
        chunked(LARGE[:600], LARGE[600:]),
        chunked(LARGE[:600], LARGE[600:]).partition(HEAD_END)[2],
        {"judged_body_bytes_max": 900},
        "the body is above 900 bytes",
    ),
    "chunks-byte-by-byte": (
        chunked(*(LARGE[at : at + 1] for at in range(500))),
        chunked(*(LARGE[at : at + 1] for at in range(500))).partition(HEAD_END)[2],
        {"judged_body_bytes_max": 90},
        "the body is above 90 bytes",
    ),
    "too-large-with-a-trailer": (
        chunked(LARGE, trailer=b"X-Sum: 1\r\n"),
        chunked(LARGE, trailer=b"X-Sum: 1\r\n").partition(HEAD_END)[2],
        {"judged_body_bytes_max": 900},
        "the body is above 900 bytes",
    ),
    "too-many": (
        sized(BODY),
        BODY,
        {"judged_bodies_bytes_max": 10},
        "too many bodies are held to be judged; try again",
    ),
    "a-form": (
        KILL + FORM + b"Content-Length: 8\r\n\r\nsignal=9",
        b"signal=9",
        {},
        "a form as body is not forwarded: its fields would override the query",
    ),
    "a-form-where-a-body-is-judged": (
        CREATE + FORM + b"Content-Length: 3\r\n\r\na=b",
        b"a=b",
        {},
        "a form as body is not forwarded: its fields would override the query",
    ),
    "no-media-type": (
        KILL + b"Content-Type: json\r\nContent-Length: 2\r\n\r\n{}",
        b"{}",
        {},
        "Content-Type is no media type",
    ),
}


@pytest.mark.parametrize(("request_", "body", "limits", "told"), UNREFUSED.values(), ids=UNREFUSED)
async def test_in_mode_shadow_what_would_be_refused_passes_and_is_told(
    tmp_path: Path, request_: bytes, body: bytes, limits: dict[str, float], told: str
) -> None:
    async with open_judging(tmp_path, mode="shadow", **limits) as world:
        client = await world.connect()
        await client.send(request_ + GET)  # and the connection goes on behind it
        engine = await world.accept()
        head = await engine.receive_until(HEAD_END)
        assert head.startswith(request_.partition(b"\r\n")[0])
        assert await engine.receive(len(body)) == body
        await engine.send(CREATED)
        assert (await read_answer(client))[0] == 201
        assert (await engine.receive_until(HEAD_END)).startswith(b"GET /v1.41/containers/json ")
        exchange = world.exchanges[0]
        event = completed_event(exchange)
        assert (event["effect"], event["shadow"], event["reason"]) == (Effect.ALLOW, Effect.DENY, told)
        assert exchange.decision is not None
        assert exchange.decision.reason is Reason.BAD_REQUEST
        assert world.limits_hit == list(limits)
        payload = http1.ChunkedBody().feed(body) if b"chunked" in head else [body]
        assert exchange.bytes_in == sum(map(len, payload))


@pytest.mark.parametrize(("request_", "body", "limits", "told"), UNREFUSED.values(), ids=UNREFUSED)
async def test_else_it_is_refused(
    tmp_path: Path, request_: bytes, body: bytes, limits: dict[str, float], told: str
) -> None:
    async with open_judging(tmp_path, **limits) as world:
        assert told.encode() in (await refused(world, request_))[2]


@pytest.mark.parametrize("cut", [1, 5, 300, 605, 899, 901, 910, 911, 912, 913, 920, 1020])
async def test_in_mode_shadow_no_byte_is_lost_wherever_a_body_is_cut(tmp_path: Path, cut: int) -> None:
    sent = chunked(LARGE[:600], LARGE[600:])
    head, _, body = sent.partition(HEAD_END)
    async with open_judging(tmp_path, mode="shadow", judged_body_bytes_max=900) as world:
        client = await world.connect()
        await client.send(head + HEAD_END + body[:cut])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await client.send(body[cut:])
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        assert await engine.receive(len(body)) == body


async def test_in_mode_shadow_who_was_told_to_go_on_is_not_told_again(tmp_path: Path) -> None:
    head, _, body = chunked(LARGE, more=b"Expect: 100-continue\r\n").partition(HEAD_END)
    async with open_judging(tmp_path, mode="shadow", judged_body_bytes_max=900) as world:
        client = await world.connect()
        await client.send(head + HEAD_END)
        assert await client.receive(len(CONTINUE)) == CONTINUE
        await client.send(body)
        engine = await world.accept()
        assert b"xpect" not in await engine.receive_until(HEAD_END)
        assert await engine.receive(len(body)) == body
        await engine.send(CREATED)
        assert (await read_answer(client))[0] == 201


STILL_REFUSED = {
    # What the engine could read as something else than what is told, or as the next request.
    "a-bad-chunk": CREATE + JSON + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "two-lengths": CREATE + JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a-path-that-is-redirected": b"POST /v1.41//containers/create HTTP/1.1\r\nHost: d\r\n\r\n",
    "a-semicolon": b"POST /v1.41/containers/create?name=a;name=b HTTP/1.1\r\nHost: d\r\n\r\n",
}


@pytest.mark.parametrize("request_", STILL_REFUSED.values(), ids=STILL_REFUSED)
async def test_in_mode_shadow_what_has_two_readings_is_refused(tmp_path: Path, request_: bytes) -> None:
    async with open_judging(tmp_path, mode="shadow") as world:
        assert (await refused(world, request_))[0] == 400


async def test_a_body_that_was_held_is_forwarded_if_nobody_asks_for_it_any_more(tmp_path: Path) -> None:
    async with open_judging(tmp_path) as world:
        client = await world.connect()
        await client.send(sized(BODY)[:-5])
        await until(lambda: world.proxy.holding.bytes)
        world.connections.lead(lambda peer: world.gate)
        world.gate.policy = load_policy("allow-all", world.proxy.catalogue)
        await client.send(BODY[-5:])
        engine = await world.accept()
        assert (await engine.receive_until(HEAD_END)).endswith(b"Content-Length: %d\r\n\r\n" % len(BODY))
        assert await engine.receive(len(BODY)) == BODY


@pytest.mark.parametrize("record", ["redact_target", "observers"])
async def test_what_cannot_be_told_does_not_pass_and_ends_its_connection(tmp_path: Path, record: str) -> None:
    async with open_judging(tmp_path) as world:
        setattr(world.proxy, record, None)  # whatever is wrong with it
        client = await world.connect()
        await client.send(sized(BODY))
        assert await client.receive_all() == b""
        assert await world.endings[0].wait()
        assert not world.engine_was_called()
