"""Express: the fast twin does what the plain way does, seen from the engine, the client, the audit trail and the metrics.

A dialogue is driven through a proxy without the express way, through one with it, and through one with its compiled form
(`arms`); whatever it is made of, all must be the same.
"""

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sockproxy.forwarding.serving.known import KNOWN_ANSWERS_MAX
from sockproxy.operating.config import load_policy
from tests.arms import (
    CHUNKED,
    EXPRESS,
    EXPRESS_WAYS,
    HEAD_END,
    NOT_CANONICAL,
    OK,
    OTHER,
    PLAIN,
    READ,
    WAYS,
    WRITE,
    Arm,
    Dialogue,
    Run,
    Way,
    accept_request,
    exchange,
    is_readable,
    is_taken,
    open_arm,
    run,
    without_ids,
)
from tests.conversations import Answer, Request, conversation
from tests.exchanges import CATALOGUE
from tests.forms import COMPILED, IF_COMPILED
from tests.streams import Peer, until


def assert_twins(dialogue: Dialogue, **options: Any) -> Run:
    """Drives a dialogue all ways; the run on the express way, which is as the plain one."""
    plain = run(dialogue, PLAIN, **options)
    express = run(dialogue, EXPRESS, **options)
    runs = [express] if COMPILED is None else [express, run(dialogue, Way(True, COMPILED), **options)]
    for fast in runs:
        assert fast.seen == plain.seen
        assert fast.record.events == plain.record.events
        assert fast.record.samples == plain.record.samples
        assert fast.express_count == express.express_count
    assert plain.express_count == 0
    return express


# --- any dialogue

HEADS = (
    READ,
    OTHER,
    b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n",
    b"GET /v1.41/images/json?all=1 HTTP/1.1\r\nHost: d\r\nX-Kept: 1\r\nConnection: keep-alive, X-Gone\r\nX-Gone: 1\r\n\r\n",
    b"GET /v1.41/containers/%77eb/json HTTP/1.1\r\nHost: d\r\n\r\n",
    b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n",
    b"GET /version HTTP/1.0\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    b"GET /v1.23/nowhere HTTP/1.1\r\nHost: d\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n",
    WRITE,
    b"POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /a//b HTTP/1.1\r\nHost: d\r\n\r\n",
)


ANSWERS = (
    Answer(OK[:-2], b"[]"),
    Answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n", b'{"message":"no"}'),
    Answer(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1\r\n\r\n", b"x"),
    Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
    Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n"),
    Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n", ends=True),
    Answer(b"HTTP/1.1 204 No Content\r\n\r\n"),
    Answer(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    Answer(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"y"),
    Answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", b"z", ends=True),
    Answer(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", b"0"),
    Answer(b"HTTP/1.1 200  \r\nKeep-Alive: 5\r\nserver:  D \r\nContent-Length: 1\r\n\r\n", b"s"),
    Answer(b"HTTP/1.1 200 OK\r\n\r\n", b"until the end", ends=True),
    Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"half", ends=True),
    Answer(b"SSH-2.0-OpenSSH\r\n\r\n", ends=True),
    Answer(b"", ends=True),
)


# Most requests are of the usual kind and come again and again: otherwise nothing would be known.
requests = st.builds(
    Request,
    st.one_of(st.just(READ), st.just(READ), st.sampled_from(HEADS)),
    st.one_of(st.just(0), st.just(0), st.integers(0, 200)),
    st.sampled_from((False, False, True)),
)
answers = st.builds(
    lambda answer, cuts: replace(answer, cuts=tuple(cuts)),
    st.one_of(st.just(ANSWERS[0]), st.sampled_from(ANSWERS)),
    st.one_of(st.just([]), st.lists(st.integers(0, 120), max_size=2)),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(requests, min_size=3, max_size=8).map(lambda drawn: [Request(READ, 0, False)] * 2 + drawn),
    st.lists(answers, min_size=1, max_size=5),
    st.sampled_from(("allow-all", "kubernetes-1.4")),
)
def test_any_dialogue_is_the_same_on_both_ways(sent: list[Request], said: list[Answer], policy: str) -> None:
    assert_twins(conversation(sent, said), policy=policy)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.head[:24].decode() or "nothing")
@pytest.mark.parametrize("cuts", [(), (10,), (60, 75)], ids=["whole", "in-two", "in-three"])
def test_every_answer_to_a_known_head_is_the_same_on_both_ways(answer: Answer, cuts: tuple[int, ...]) -> None:
    said = [ANSWERS[0]] * 2 + [replace(answer, cuts=cuts)] * 3 + [ANSWERS[0]] * 3
    assert_twins(conversation([Request(READ, 0, False)] * 8, said))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.split(b"\r\n", maxsplit=1)[0].decode())
def test_every_head_that_comes_again_is_the_same_on_both_ways(head: bytes) -> None:
    sent = [Request(READ, 0, False), Request(head, 0, False)] * 4
    assert assert_twins(conversation(sent, [ANSWERS[0]])).express_count > 0


def test_pipelined_requests_are_the_same_on_both_ways() -> None:
    sent = [Request(READ, 0, False)] * 3 + [Request(READ, 0, True), Request(OTHER, 0, True), Request(READ, 7, False)]
    run = assert_twins(conversation(sent, [ANSWERS[0], ANSWERS[4], ANSWERS[1]]))
    assert len(run.seen[1]) == len(sent)  # type: ignore[index]


JUDGED = """
version: 1
policies:
  judged:
    mode: {mode}
    allow:
      - operations: [ContainerList, ImageCreate, ContainerAttach]
      - operations: [ContainerCreate, ContainerExec]
        require: {{pod_security: baseline}}
      - operations: [ImageLoad]
        require: {{query: {{quiet: "1"}}}}
"""
JSON = b"Content-Type: application/json\r\n"


def post(path: bytes, body: bytes, fields: bytes = JSON) -> bytes:
    return b"POST /v1.41%b HTTP/1.1\r\nHost: d\r\n%bContent-Length: %d\r\n\r\n%b" % (path, fields, len(body), body)


JUDGED_REQUESTS = (
    post(b"/containers/create?name=a", b'{"Image":"busybox","Cmd":["true"]}\n'),
    post(b"/containers/create", b'{"image": "busybox", "HostConfig": {"Binds": null, "Memory": 0}}'),
    post(b"/containers/create", b'{"Image":"busybox","HostConfig":{"Privileged":true}}'),
    post(b"/containers/create", b'{"Image":"a","HostConfig":{"Privileged":true},"HostConfig":{}}'),
    post(b"/containers/create", b'{"Image":"a","HostConfig":{"Privileged":true},"HostConfig":null}'),
    post(b"/containers/create", b'{"Image":"a","Image":"b"}'),
    post(b"/containers/create", b'{"Image":"a","Image\\u003a":"b"}'),
    post(b"/containers/create", b'{"Image":"a"}{"HostConfig":{"Privileged":true}}'),
    post(b"/containers/create", b'{"Image":"a","Nothing":1}'),
    post(b"/containers/create", b""),
    post(b"/containers/create", b"null"),
    post(b"/containers/create", b"{}", b"Content-Type: application/x-www-form-urlencoded\r\n"),
    post(b"/containers/create", b'{"Image":"a"}', JSON + b"Expect: 100-continue\r\n"),
    post(b"/containers/create", b'{"Image":"a"}', JSON + b"Connection: close\r\n"),
    post(b"/containers/x/exec", b'{"Cmd":["true"]}'),
    post(b"/containers/x/exec", b'{"Cmd":["true"],"Privileged":true}'),
    post(b"/images/load?quiet=1", b'{"Image":"no json to anybody"', b"Content-Type: application/x-tar\r\n"),
    post(b"/images/load?quiet=0", b"tar", b"Content-Type: application/x-tar\r\n"),
    post(b"/images/create?fromImage=a", b""),
    post(b"/containers/x/start", b""),
    READ,
)
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(st.builds(Request, st.sampled_from(JUDGED_REQUESTS), st.sampled_from((0, 0, 0, 60)), st.just(False)))
)
def test_what_is_judged_is_the_same_on_both_ways(mode: str, sent: list[Request], tmp_path: Path) -> None:
    file = tmp_path / "judged.yaml"
    file.write_text(JUDGED.format(mode=mode), encoding="utf-8")
    warm = [Request(READ, 0, False)] * 3
    assert_twins(conversation([*warm, *sent], [Answer(CREATED[:-2], b"{}")]), policy=str(file))


@pytest.mark.parametrize("way", EXPRESS_WAYS)
async def test_what_has_come_whole_needs_no_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: Way) -> None:
    file = tmp_path / "judged.yaml"
    file.write_text(JUDGED.format(mode="enforce"), encoding="utf-8")
    create, _, denied, *_ = JUDGED_REQUESTS
    async with open_arm(way, policy=str(file)) as arm:
        client, engine = await arm.warm()
        await exchange(client, engine)
        monkeypatch.setattr(arm.world.connections._express, "_hand_over", None)  # would fail
        await client.send(create)
        assert (await engine.receive_until(b"}")).endswith(b'{"Image":"busybox","Cmd":["true"]}')
        await engine.send(CREATED)
        assert await client.receive(len(CREATED)) == CREATED
        await client.send(denied)
        assert (await client.receive_until(b"}\n")).startswith(b"HTTP/1.1 403 ")
        assert await exchange(client, engine) == OK


def test_the_usual_goes_the_express_way() -> None:
    run = assert_twins(conversation([Request(READ, 0, False)] * 10, [ANSWERS[0]]))
    assert run.express_count == 8
    counted = Counter(event["stage"] for event in run.record.events)
    assert counted == {"decided": 10, "completed": 10}


@IF_COMPILED
async def test_the_compiled_form_serves_the_usual_itself() -> None:
    assert COMPILED is not None
    async with open_arm(Way(True, COMPILED)) as arm:
        client, engine = await arm.warm()
        for answer in (OK, OK, CHUNKED):
            await exchange(client, engine, answer=answer)
        before = arm.world.readiness.served_count
        for answer in (OK, CHUNKED, OK, NOT_CANONICAL):
            await client.send(READ)
            await engine.receive_until(HEAD_END)
            await engine.send(answer)
            await client.receive_until(answer[-4:])
        assert arm.world.readiness.served_count == before + 3  # the last has a head that was not known yet


@pytest.mark.parametrize("way", WAYS)
async def test_descriptors_are_given_back(way: Way) -> None:
    counts = []
    for _ in range(3):  # the loop opens some of its own at first
        async with open_arm(way) as arm:
            client, engine = await arm.warm()
            await exchange(client, engine)
        gc.collect()
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1] == counts[2]


# --- what may happen in the middle


async def half_close(arm: Arm, request: bytes) -> object:
    client, engine, head = await arm.ask(request)
    client.finish()
    end = await engine.receive_all()
    await engine.send(OK)
    return head, end, await client.receive_all()


async def half_close_with_the_request(arm: Arm, request: bytes) -> object:
    client, engine = await arm.warm()
    await client.send(request)
    client.finish()
    there = await engine.receive_all()
    await engine.send(OK)
    return there, await client.receive_all()


async def half_close_behind_a_second_request(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask()
    await client.send(request)
    client.finish()
    await until(lambda: is_taken(client))
    await engine.send(OK)
    second = await engine.receive_all()  # with an end: the client sends nothing more
    await engine.send(OK)
    return second, await client.receive_all()


async def client_gone(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    client.close()
    end = await engine.receive_all()
    await until(lambda: arm.told.count == 5)
    return end


async def client_gone_after_half_close(arm: Arm, request: bytes) -> object:
    client, engine = await arm.warm()
    await client.send(request)
    client.finish()
    await engine.receive_all()
    client.close()
    await until(lambda: arm.told.count == 4)
    with pytest.raises(BrokenPipeError):
        while True:
            await engine.send(b"x")


async def engine_gone_in_the_head(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    await engine.send(b"HTTP/1.1 200 OK\r\nContent-")
    engine.close()
    return await refusal(client)


async def engine_gone_in_the_body(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    await engine.send(OK[:-1])
    engine.close()
    return await client.receive_all()


async def engine_gone_without_an_answer(arm: Arm, request: bytes) -> object:
    client, engine, head = await arm.ask(request)
    engine.close()
    got = await refusal(client), arm.world.engine_was_called()
    await client.send(READ)  # the client's connection stays, the engine gets a new one
    engine, _ = await accept_request(arm.world)
    await engine.send(OK)
    return head, got, await client.receive(len(OK))


async def engine_gone_with_a_read_unread(arm: Arm, request: bytes) -> object:
    client, engine = await arm.warm()
    await exchange(client, engine)
    await client.send(request)
    await until(lambda: is_readable(engine))
    engine.close()  # a reset: the request may be repeated
    engine, head = await accept_request(arm.world)
    await engine.send(OK)
    return head, await client.receive(len(OK))


async def engine_gone_with_a_write_unread(arm: Arm, request: bytes) -> object:
    client, engine = await arm.warm()
    await exchange(client, engine)
    await client.send(request)
    await until(lambda: is_readable(engine))
    engine.close()  # a reset: but it may have been read, and is not repeated
    return await refusal(client), arm.world.engine_was_called()


async def unknown_while_busy(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    await client.send(OTHER[:9])
    await until(lambda: is_taken(client))
    await engine.send(OK)
    first = await client.receive(len(OK))
    await client.send(OTHER[9:] + READ)
    heads = [await engine.receive_until(HEAD_END)]
    await engine.send(OK)
    heads.append(await engine.receive_until(HEAD_END))
    await engine.send(OK)
    return first, heads, await client.receive(2 * len(OK))


async def an_answer_and_more(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    await engine.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")  # nobody asked for it
    got = [await client.receive(len(OK))]
    await client.send(READ)
    engine, _ = await accept_request(arm.world)  # nobody believes that connection any more
    await engine.send(OK)
    return [*got, await client.receive(len(OK))]


async def a_large_answer(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    body = bytes(range(256)) * (1 << 12)
    sending = asyncio.create_task(engine.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    await client.receive_until(HEAD_END)
    got = await client.receive(len(body))
    await sending
    return got == body, await exchange(client, engine)


async def draining(arm: Arm, request: bytes) -> object:
    client, engine, _ = await arm.ask(request)
    arm.world.connections.drain()
    await engine.send(OK)
    return await client.receive_all()  # tells the client that the connection ends: RFC 9112, 9.6


async def refusal(client: Peer) -> bytes:
    """An answer of the proxy's own."""
    return without_ids(await client.receive_until(HEAD_END) + await client.receive_until(b"}\n"))


REQUESTS = {"known": READ, "new": OTHER, "write": WRITE}
IN_THE_MIDDLE = {
    half_close: ("known", "new", "write"),
    half_close_with_the_request: ("known", "new", "write"),
    half_close_behind_a_second_request: ("known", "new", "write"),
    client_gone: ("known", "new", "write"),
    client_gone_after_half_close: ("known", "new", "write"),
    engine_gone_in_the_head: ("known", "new", "write"),
    engine_gone_in_the_body: ("known", "new", "write"),
    engine_gone_without_an_answer: ("known", "new", "write"),
    engine_gone_with_a_read_unread: ("known", "new"),
    engine_gone_with_a_write_unread: ("write",),
    unknown_while_busy: ("known", "new", "write"),
    an_answer_and_more: ("known", "new", "write"),
    a_large_answer: ("known", "new", "write"),
    draining: ("known", "new", "write"),
}
"""What happens -> while which requests are under way."""


@pytest.mark.parametrize(
    ("happens", "request_name"),
    [(happens, name) for happens, names in IN_THE_MIDDLE.items() for name in names],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_happens_in_the_middle_is_the_same_on_both_ways(
    happens: Callable[[Arm, bytes], Awaitable[object]], request_name: str
) -> None:
    assert assert_twins(lambda arm: happens(arm, REQUESTS[request_name])).express_count > 0


@pytest.mark.parametrize("way", EXPRESS_WAYS)
async def test_a_request_that_comes_with_the_drain_does_not_begin(way: Way) -> None:
    async with open_arm(way) as arm:
        client, _ = await arm.warm()
        await client.send(READ[:9])  # goes on by the plain way
        await until(lambda: is_taken(client))
        await client.send(READ[9:])
        engine, _ = await accept_request(arm.world)
        await engine.send(OK)
        await client.receive(len(OK))
        await until(lambda: arm.world.proxy.waiting)
        [waiting] = arm.world.proxy.waiting
        waiting.data_received(READ)  # in the turn of the loop in which the signal comes
        arm.world.connections.drain()
        assert (await client.receive_until(b"}\n")).startswith(b"HTTP/1.1 503 ")
        client.close()
        await until(lambda: arm.world.connections.count == 0)
        assert not is_readable(engine)


@pytest.mark.parametrize("way", EXPRESS_WAYS)
async def test_who_finds_no_kept_connection_opens_one_to_keep(way: Way) -> None:
    async with open_arm(way) as arm:
        client, engine = await arm.warm()
        second = await arm.world.connect()
        await client.send(READ)
        await engine.receive_until(HEAD_END)
        await second.send(READ)
        busy, _ = await accept_request(arm.world)
        await busy.send(OK)
        assert await second.receive(len(OK)) == OK
        await until(lambda: arm.world.proxy.engine.idle_count == 1)
        assert arm.world.connections.express_busy_count == 1
        assert await exchange(second, busy) == OK
        assert arm.told.express_count == 2  # by now both have one


def test_a_late_answer_is_504_and_the_connection_stays() -> None:
    async def dialogue(arm: Arm) -> object:
        client, engine = await arm.warm()
        await client.send(READ)
        await engine.receive_until(HEAD_END)
        late = without_ids(await client.receive_until(b"}\n"))
        end = await engine.receive_all()
        await client.send(READ)
        engine, _ = await accept_request(arm.world)
        await engine.send(OK)
        return late, end, await client.receive(len(OK))

    run = assert_twins(dialogue, engine_read_answer_seconds=0.2)
    assert run.express_count > 0
    late, end, _ = run.seen  # type: ignore[misc]
    assert late.startswith(b"HTTP/1.1 504 ")
    assert b"Connection: close" not in late
    assert end == b""


@pytest.mark.parametrize("way", EXPRESS_WAYS)
@pytest.mark.parametrize(("waited", "left"), [(0, 600), (149, 600), (151, 450), (449, 300), (590, 150)])
async def test_who_leaves_takes_along_how_long_the_answer_was_awaited(
    monkeypatch: pytest.MonkeyPatch, way: Way, waited: float, left: float
) -> None:
    started: list[float] = []
    async with open_arm(way, engine_read_answer_seconds=600, keep_alive_seconds=0) as arm:
        client, engine = await arm.warm()
        await client.send(READ)
        await engine.receive_until(HEAD_END)
        [caller] = arm.world.connections._express._callers
        caller.forwarded_at -= waited
        monkeypatch.setattr(arm.world.proxy.deadlines, "start", lambda seconds, *_: started.append(seconds))
        client.finish()
        await engine.receive_all()
        assert started == [left]


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_that_has_served_may_wait_for_its_next_request(way: Way) -> None:
    # `head_seconds` is for the first head, `keep_alive_seconds` for the pause behind an answer.
    async with open_arm(way, head_seconds=0.1, engine_read_answer_seconds=0) as arm:
        first, engine = await arm.warm()
        served = await arm.world.connect()
        await exchange(served, engine)
        for _ in range(3):  # their heads are late, one after the other, and so would be one of `served`
            silent = await arm.world.connect()
            assert await silent.receive_all() == b""
        assert await exchange(served, engine) == OK
        assert await exchange(first, engine) == OK


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_answer_leaves_the_connection_its_time(way: Way) -> None:
    async with open_arm(way, head_seconds=0.1, keep_alive_seconds=0.1, engine_read_answer_seconds=0) as arm:
        _, engine = await arm.warm()
        served = await arm.world.connect()
        await served.send(READ)
        await engine.receive_until(HEAD_END)
        for _ in range(3):  # while it waits for its answer, others come and go
            silent = await arm.world.connect()
            assert await silent.receive_all() == b""
        await engine.send(OK)
        assert await served.receive(len(OK)) == OK
        assert await served.receive_all() == b""  # and is closed when it has waited


@pytest.mark.parametrize("way", WAYS)
async def test_who_does_not_read_answers_is_not_served_on(way: Way) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\n\r\n" + b"x" * 65000
    count = 60
    async with open_arm(way) as arm:
        client, engine = await arm.warm()
        sent = 0
        for _ in range(count):
            await client.send(READ)
            sent += 1
            if not await comes_soon(engine):
                break
            await engine.receive_until(HEAD_END)
            await engine.send(answer)
        assert sent < count, "what nobody reads is kept in memory without a bound"


async def comes_soon(peer: Peer) -> bool:
    for _ in range(200):
        if is_readable(peer):
            return True
        await asyncio.sleep(0)
    return False


# --- the memory


@pytest.mark.parametrize("way", EXPRESS_WAYS)
async def test_the_memory_of_answers_is_bounded(way: Way) -> None:
    async with open_arm(way) as arm:
        client, engine = await arm.warm()
        for number in range(KNOWN_ANSWERS_MAX + 10):
            answer = b"HTTP/1.1 200 OK\r\nDate: %d\r\nContent-Length: 0\r\n\r\n" % number
            await client.send(READ)
            await until(lambda: is_readable(engine))
            engine.sock.recv(1000)
            await engine.send(answer)
            assert await client.receive(len(answer)) == answer
        assert len(arm.world.proxy.known_answers) <= KNOWN_ANSWERS_MAX
        assert arm.told.express_count > KNOWN_ANSWERS_MAX


@pytest.mark.parametrize("way", EXPRESS_WAYS)
async def test_a_new_policy_holds_at_once(tmp_path: Path, way: Way) -> None:
    (tmp_path / "p.yaml").write_text('version: 1\npolicies:\n  p:\n    allow: [{operations: ["@Image"]}]\n')
    async with open_arm(way) as arm:
        client, _ = await arm.warm()
        assert arm.world.gate.known
        arm.world.gate.policy = load_policy(str(tmp_path / "p.yaml"), CATALOGUE)
        assert not arm.world.gate.known
        assert not arm.world.gate.seen
        await client.send(READ)
        assert (await client.receive_until(b"}\n")).startswith(b"HTTP/1.1 403 ")
        assert arm.told.express_count == 1


async def test_without_the_express_way_nothing_is_learnt() -> None:
    async with open_arm(PLAIN) as arm:
        await arm.warm()
        assert not arm.world.gate.known
        assert not arm.world.gate.seen
