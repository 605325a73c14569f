"""Inquiries: what rules need to know of the engine is asked of it, and whatever it does instead of an answer denies.

Told as dialogues between a client, the proxy and an engine that the test plays. What findings lead to is in `test_judge`.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sockproxy.exchange import Exchange, Stage
from sockproxy.forwarding.limits import ClientLimits
from sockproxy.forwarding.meter import Meter
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.forwarding.serving.inquiry import NAME_CHARACTERS_MAX, read_answer
from sockproxy.forwarding.serving.shared import INQUIRIES_OF_ONE_MAX
from sockproxy.forwarding.upstream.hostpaths import (
    LINKS_MAX,
    LOOKS_MAX,
    HostPaths,
    UnknownPath,
    real_path,
    shares_files,
)
from sockproxy.judging.policy import Effect, Reason
from sockproxy.judging.requirements.facts import Finding, Question
from sockproxy.recording.event import completed_event

from .findings import CONTAINER, EXEC, IMAGE_ID, NETWORK, container, volume
from .streams import Peer, World, open_world, until
from .test_proxy import HEAD_END, OK
from .test_proxy import read_answer as read_reply

POLICY = """
version: 1
policies:
  asking:
    mode: {mode}
    allow:
      - operations: [ContainerStop, ContainerInspect, ContainerDelete, "@Exec", NetworkConnect, ImageCommit]
        require: {{target: {{labels: {{owner: ci}}}}}}
      - operations: [ImageTag, ImageDelete, ImagePush, ImageGetAll]
        require: {{target: {{labels: {{owner: ci}}}}}}
      - operations: [ContainerCreate]
        require: {{pod_security: baseline, bind_sources: [{folder}/**]}}
"""

OURS = container(labels={"owner": "ci"})
STOP = b"POST /v1.41/containers/web/stop HTTP/1.1\r\nHost: d\r\n\r\n"
CREATE = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"


def reply(body: Any, status: int = 200) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(raw), raw)


def closing(body: Any) -> bytes:
    return reply(body).replace(b"X\r\n", b"X\r\nConnection: close\r\n", 1)


def chunked(body: Any) -> bytes:
    raw = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(raw), raw)


def create(**host: Any) -> bytes:
    raw = json.dumps({"Image": "i", "HostConfig": host}).encode()
    return CREATE + b"Content-Length: %d\r\n\r\n" % len(raw) + raw


@asynccontextmanager
async def asking(folder: Path, mode: str = "enforce", **limits: float) -> AsyncIterator[World]:
    file = folder / "asking.yaml"
    file.write_text(POLICY.format(mode=mode, folder=folder), encoding="utf-8")
    async with asyncio.timeout(10), open_world(str(file), **limits) as world:
        yield world


async def sent(world: World, request: bytes) -> Peer:
    client = await world.connect()
    await client.send(request)
    return client


async def asked(world: World, *answers: tuple[str, bytes]) -> Peer:
    """The engine's end of the connection on which this is asked, and answered so."""
    engine = await world.accept()
    for path, answer in answers:
        assert await engine.receive_until(HEAD_END) == f"GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n".encode()
        await engine.send(answer)
    return engine


async def forwarded(world: World, answer: bytes = OK) -> bytes:
    """The head that the engine gets in the end."""
    engine = await world.accept()
    head = await engine.receive_until(HEAD_END)
    await engine.send(answer)
    return head


async def denied(world: World, client: Peer, status: int = 403) -> tuple[str, Exchange]:
    """What the client is told, and what is recorded."""
    got, _, body = await read_reply(client)
    assert got == status
    await until(lambda: world.exchanges)
    (exchange,) = world.exchanges
    assert exchange.decision is not None
    assert (exchange.decision.effect, exchange.decision.reason) == (Effect.DENY, Reason.REQUIREMENT)
    assert (exchange.stage, exchange.status) == (Stage.DENIED, status)
    assert not world.engine_was_called()
    return json.loads(body)["message"], exchange


# --- what is asked, and what goes on


@pytest.mark.parametrize("answer", [reply(OURS), chunked(OURS), closing(OURS)], ids=["length", "chunked", "closing"])
async def test_what_was_looked_at_is_what_the_engine_gets(tmp_path: Path, answer: bytes) -> None:
    async with asking(tmp_path) as world:
        client = await sent(world, STOP)
        await asked(world, ("/containers/web/json", answer))
        assert (await forwarded(world)).startswith(b"POST /v1.41/containers/%b/stop HTTP/1.1\r\n" % CONTAINER.encode())
        assert (await read_reply(client))[0] == 200
        await until(lambda: world.exchanges)
        event = completed_event(world.exchanges[0])
        assert event["target"] == f"/v1.41/containers/{CONTAINER}/stop"
        assert event["resource"] == {"kind": "container", "name": "web"}


async def test_each_request_is_asked_for_anew_and_no_head_is_learnt(tmp_path: Path) -> None:
    inspect = b"GET /v1.41/containers/web/json HTTP/1.1\r\nHost: d\r\n\r\n"
    async with asking(tmp_path) as world:
        client = await sent(world, inspect)
        carrying: Peer | None = None
        for _ in range(4):
            await asked(world, ("/containers/web/json", reply(OURS)))
            carrying = carrying or await world.accept()
            assert f"/containers/{CONTAINER}/json".encode() in await carrying.receive_until(HEAD_END)
            await carrying.send(OK)
            await read_reply(client)
            await client.send(inspect)
        assert not world.gate.known and not world.gate.seen
        await asked(world, ("/containers/web/json", reply(container())))
        assert (await read_reply(client))[0] == 403


IMAGE = {"Id": IMAGE_ID, "RepoTags": ["ci/a:1"], "Config": {"Labels": {"owner": "ci"}}}
NET = {"Id": NETWORK, "Name": "net", "Labels": {"owner": "ci"}}
IN_EXEC = [("/exec/e1/json", reply({"ID": EXEC, "ContainerID": "web"})), ("/containers/web/json", reply(OURS))]

PINNED = {
    "link": (
        "GET /v1.41/containers/web/db/json",
        [("/containers/web/db/json", reply(OURS))],
        f"/containers/{CONTAINER}/json",
    ),
    "delete": (
        "DELETE /containers/web?force=1",
        [("/containers/web/json", reply(OURS))],
        f"/containers/{CONTAINER}?force=1",
    ),
    "exec": ("POST /v1.41/exec/e1/resize?h=1&w=2", IN_EXEC, f"/exec/{EXEC}/resize?h=1&w=2"),
    "tag": (
        "POST /images/ci/a:1/tag?repo=b",
        [("/images/ci/a:1/json", reply(IMAGE))],
        f"/images/{IMAGE_ID}/tag?repo=b",
    ),
    "untag": ("DELETE /images/ci/a:1", [("/images/ci/a:1/json", reply(IMAGE))], "/images/ci/a:1"),
    "delete-by-id": ("DELETE /images/aaaa", [("/images/aaaa/json", reply(IMAGE))], f"/images/{IMAGE_ID}"),
    "push": (
        "POST /images/ci/a/push?tag=1",
        [("/images/docker.io/ci/a:1/json", reply(IMAGE))],
        "/images/ci/a/push?tag=1",
    ),
    "save": (
        "GET /images/get?names=ci/a:1",
        [("/images/docker.io/ci/a:1/json", reply(IMAGE))],
        "/images/get?names=ci%2Fa%3A1",
    ),
    "commit": (
        "POST /commit?repo=b&container=web&container=db",
        [("/containers/web/json", reply(OURS))],
        f"/commit?container={CONTAINER}&repo=b",
    ),
}


@pytest.mark.parametrize("case", PINNED.values(), ids=PINNED)
async def test_names_become_ids_but_where_they_are_meant(tmp_path: Path, case: tuple[str, list[Any], str]) -> None:
    request, answers, target = case
    async with asking(tmp_path) as world:
        client = await sent(world, f"{request} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
        for answer in answers:  # what comes of one answer is asked on a connection of its own
            await asked(world, answer)
        assert (await forwarded(world)).split(b" ")[1].decode().removeprefix("/v1.41") == target
        assert (await read_reply(client))[0] == 200


async def test_a_container_in_a_body_becomes_an_id(tmp_path: Path) -> None:
    raw = b'{"Container": "web"}'
    head = b"POST /v1.41/networks/net/connect HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    async with asking(tmp_path) as world:
        await sent(world, head + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        await asked(world, ("/networks/net", reply(NET)))
        await asked(world, ("/containers/web/json", reply(OURS)))
        engine = await world.accept()
        assert f"/networks/{NETWORK}/connect ".encode() in await engine.receive_until(HEAD_END)
        body = b'{"Container":"%b"}' % CONTAINER.encode()
        assert await engine.receive(len(body)) == body


async def test_what_is_joined_becomes_an_id_and_all_is_asked_for_at_once(tmp_path: Path) -> None:
    host = {
        "NetworkMode": "container:web",
        "IpcMode": "container:web",
        "VolumesFrom": ["web:ro"],
        "Binds": ["aa:/a", "bb:/b"],
    }
    async with asking(tmp_path) as world:
        await sent(world, create(**host))
        absent = reply({"message": "get bb: no such volume"}, 404)
        of_volumes = ("/volumes/aa", reply(volume("aa"))), ("/volumes/bb", absent)
        await asked(world, ("/containers/web/json", reply(OURS)), *of_volumes)
        engine = await world.accept()
        head = await engine.receive_until(HEAD_END)
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0])
        sent_on = json.loads(await engine.receive(length))["HostConfig"]
        joined = f"container:{CONTAINER}"
        assert sent_on == {**host, "NetworkMode": joined, "IpcMode": joined, "VolumesFrom": [f"{CONTAINER}:ro"]}


async def test_another_policy_may_come_while_the_engine_is_asked(tmp_path: Path) -> None:
    async with asking(tmp_path) as world, open_world("readonly") as other:
        client = await sent(world, STOP)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        world.gate.policy = other.gate.policy
        await engine.send(reply(OURS))
        assert (await read_reply(client))[0] == 403


# --- what is not there, and what cannot be found out


async def test_what_is_not_there_is_said_as_the_engine_says_it(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        client = await sent(world, STOP)
        await asked(world, ("/containers/web/json", reply({"message": "No such container: web"}, 404)))
        message, exchange = await denied(world, client, 404)
        assert message == "No such container: web"
        assert exchange.decision is not None
        assert exchange.decision.detail == 'path.id is "web", which is not there'


async def test_in_mode_shadow_everything_passes_as_it_came(tmp_path: Path) -> None:
    async with asking(tmp_path, mode="shadow") as world:
        client = await sent(world, STOP)
        await asked(world, ("/containers/web/json", reply(container())))
        assert b"/containers/web/stop " in await forwarded(world)
        assert (await read_reply(client))[0] == 200
        await until(lambda: world.exchanges)
        assert world.exchanges[0].decision is not None and world.exchanges[0].decision.shadow is Effect.DENY


BAD = {
    "closed": b"",
    "garbage": b"\x00garbage\r\n\r\n",
    "half-a-head": b"HTTP/1.1 200 OK\r\nContent-",
    "half-a-body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "both-framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n0\r\n\r\n",
    "until-close": b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(OURS).encode(),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n",
    "switched": b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "no-json": reply(b"<html>"),
    "two-values": reply(json.dumps(OURS).encode() + b"{}"),
    "not-utf-8": reply(b'{"Id": "\xff"}'),
    "a-list": reply([OURS]),
    "null": reply(None),
    "empty": reply(b""),
    "500": reply({"message": "multiple IDs found"}, 500),
    "301": reply({"message": "moved"}, 301),
    "404-without-words": reply(b"", 404),
    "404-of-the-router": reply({"message": "page not found"}, 404),
    "404-no-text": reply({"message": 1}, 404),
    "200-with-other-status": reply(OURS, 201),
    "no-id": reply({**OURS, "Id": None}),
    "short-id": reply({**OURS, "Id": "abc"}),
    "path-as-id": reply({**OURS, "Id": "../" + "a" * 61}),
    "labels-no-map": reply({**OURS, "Config": {"Labels": [["owner", "ci"]]}}),
    "label-no-text": reply({**OURS, "Config": {"Labels": {"owner": 1}}}),
    "no-config": reply({"Id": CONTAINER}),
    "huge-and-lies": b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n",
    "huge-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n" + b"x" * (5 << 20),
    "huge-head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 << 20),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_what_is_no_answer_denies(tmp_path: Path, answer: bytes) -> None:
    async with asking(tmp_path) as world:
        client = await sent(world, STOP)
        engine = await world.accept()
        await engine.receive_until(HEAD_END)
        sending = asyncio.create_task(engine.send(answer))
        if len(answer) < 1 << 20:
            await sending
            engine.finish()
        message, _ = await denied(world, client)
        assert message.startswith("sockproxy: ContainerStop denied by policy asking: asking/allow[0]: ")
        sending.cancel()


async def test_an_engine_that_hangs_denies_in_time(tmp_path: Path) -> None:
    async with asking(tmp_path, inquiry_seconds=0.05) as world:
        client = await sent(world, STOP)
        await world.accept()
        message, _ = await denied(world, client)
        assert "the engine did not answer in time" in message
        assert world.limits_hit == ["inquiry_seconds"]


async def test_an_engine_that_is_away_denies(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        world.stop_engine()
        status, _, body = await read_reply(await sent(world, STOP))
        assert (status, b"cannot connect to the engine" in body) == (403, True)


async def test_the_time_is_for_all_questions_of_a_request(tmp_path: Path) -> None:
    async with asking(tmp_path, inquiry_seconds=0.3) as world:
        client = await sent(world, create(VolumesFrom=["web"]))
        there = container(mounts=[{"Type": "volume", "Name": "v", "RW": True, "Driver": "local"}])
        await asked(world, ("/containers/web/json", reply(there)))
        await world.accept()
        assert "in time" in (await denied(world, client))[0]


@pytest.mark.parametrize("name", ["../x", "a//b", "x" * (NAME_CHARACTERS_MAX + 1), "a\x00b"])
async def test_a_name_that_is_another_request_is_not_asked_for(tmp_path: Path, name: str) -> None:
    async with asking(tmp_path) as world:
        client = await sent(world, create(Mounts=[{"Type": "volume", "Source": name, "Target": "/x"}]))
        status, _, _ = await read_reply(client)
        assert status == 403
        assert not world.engine_was_called()


async def test_too_many_questions_are_not_asked(tmp_path: Path) -> None:
    async with asking(tmp_path, inquiry_questions_max=2) as world:
        client = await sent(world, create(Binds=[f"v{at}:/v{at}" for at in range(3)]))
        assert "inquiry_questions_max" in (await denied(world, client))[0]


@pytest.mark.parametrize("kind", ["container", "volume", "engine"])
def test_an_absence_is_said_by_404_and_words(kind: Any) -> None:
    finding = read_answer(Question(kind, "x"), 404, b'{"message": "no such thing"}')
    assert finding.absent == ("no such thing" if kind == "container" else "")
    finding = read_answer(Question(kind, "x"), 404, b'{"message": "get x: no such volume"}')
    assert bool(finding.absent) == (kind != "engine")
    assert read_answer(Question(kind, "x"), 400, b'{"message": "no"}') == Finding(failure="the engine answered 400: no")


# --- who asks much


async def test_one_principal_does_not_take_the_places_of_all(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        for _ in range(INQUIRIES_OF_ONE_MAX + 1):
            await sent(world, STOP)
        hanging = [await world.accept() for _ in range(INQUIRIES_OF_ONE_MAX)]
        await settle()
        assert not world.engine_was_called()
        async with world.proxy.inquiries.take("uid:another"):
            pass  # finds a place at once
        await hanging[0].send(reply(OURS))
        await world.accept()


async def test_who_asks_pays_once_whatever_is_decided(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        meter = Meter(ClientLimits(requests_per_second=0.001, burst=2), lambda: 0.0)
        world.gate = Gate("listener", world.gate.policy, meter)
        allowed = await sent(world, STOP)
        await asked(world, ("/containers/web/json", reply(OURS)))
        await forwarded(world)
        assert (await read_reply(allowed))[0] == 200
        await allowed.send(STOP)
        await asked(world, ("/containers/web/json", reply(container())))
        assert (await read_reply(allowed))[0] == 403
        await allowed.send(STOP)
        status, _, body = await read_reply(allowed)
        assert (status, b"requests_per_second" in body) == (429, True)
        assert not world.engine_was_called()
        assert world.limits_hit == ["requests_per_second"]


async def test_a_body_is_held_as_long_as_the_engine_is_asked(tmp_path: Path) -> None:
    request = create(VolumesFrom=["web"])
    length = len(request.partition(HEAD_END)[2])
    async with asking(tmp_path, judged_bodies_bytes_max=length) as world:
        first = await sent(world, request)
        engine = await world.accept()
        assert world.proxy.holding.bytes == length
        assert (await read_reply(await sent(world, request)))[0] == 503
        await engine.send(reply({"message": "No such container: web"}, 404))
        assert (await read_reply(first))[0] == 404
        assert world.proxy.holding.bytes == 0


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# --- paths of the host


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "file").touch()
    links = {
        *(("in/up", ".."), ("in/root", "/"), ("in/deep/far", "../../out"), ("in/broken", "nowhere/at/all")),
        *(("in/ring", "ring"), ("in/two", "up/in/root"), ("in/lost", "none/../x")),
    }
    for at, to in links:
        (tmp_path / at).symlink_to(to)
    return tmp_path


LEADS = [
    *(("in", "in"), ("in/deep", "in/deep"), ("in/new/dir", "in/new/dir"), ("in/up", ""), ("in/up/out", "out")),
    *(
        ("in/deep/far", "out"),
        ("in/deep/far/new", "out/new"),
        ("in/broken", "in/nowhere/at/all"),
        ("in/up/in/up/in", "in"),
    ),
]


@pytest.mark.parametrize(("path", "leads_to"), LEADS)
def test_where_a_path_leads(tree: Path, path: str, leads_to: str) -> None:
    real = os.path.realpath(tree)
    assert real_path(f"{real}/{path}") == (f"{real}/{leads_to}" if leads_to else real)


@pytest.mark.parametrize("path", ["in/root", "in/two"])
def test_where_a_path_leads_to_the_root(tree: Path, path: str) -> None:
    assert real_path(f"{tree}/{path}") == "/"
    assert real_path(f"{tree}/{path}/etc") == os.path.realpath("/etc")


@pytest.mark.parametrize("path", ["in/ring", "in/lost", "file/x", "in/" + "x" * 300, "in/a\0b"])
def test_what_cannot_be_followed(tree: Path, path: str) -> None:
    with pytest.raises(UnknownPath):
        real_path(f"{tree}/{path}")


@pytest.mark.parametrize("leads_to", ["self/root", "self/cwd", "self/fd/{}", "thread-self/cwd", "mounts", "{}/cwd"])
def test_a_link_of_a_process_is_not_followed(tmp_path: Path, leads_to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it leads for us says nothing of where it leads for the engine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/proc/" + leads_to.format(os.getpid()))
    with pytest.raises(UnknownPath, match="for each process"):
        real_path(f"{tmp_path}/link")


def test_as_many_links_as_the_kernel_follows(tmp_path: Path) -> None:
    for at in range(LINKS_MAX + 1):
        (tmp_path / f"l{at}").symlink_to(f"l{at + 1}")
    (tmp_path / f"l{LINKS_MAX + 1}").mkdir()
    assert real_path(f"{tmp_path}/l1") == os.path.realpath(tmp_path / f"l{LINKS_MAX + 1}")
    with pytest.raises(UnknownPath, match="too many links"):
        real_path(f"{tmp_path}/l0")


async def test_a_link_out_of_an_allowed_directory_is_denied_where_the_files_are_ours(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    async with asking(tmp_path) as world:
        message, _ = await denied(world, await sent_to_bind(world, f"{tmp_path}/link"))
        assert 'which leads to "/"' in message


async def sent_to_bind(world: World, path: str) -> Peer:
    client = await sent(world, create(Binds=[f"{path}:/host"]))
    (await world.accept()).close()  # by which it is found out who the engine is
    return client


async def test_whoever_listens_in_this_process_shares_its_files(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        assert shares_files(world.proxy.engine.address.path)


def test_who_is_not_there_now_may_share_files(tmp_path: Path) -> None:
    """And is not taken for somebody who does not: that would end the look at links."""
    with pytest.raises(UnknownPath):
        shares_files(str(tmp_path / "nobody"))


async def test_an_engine_that_is_away_denies_binds(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        os.unlink(world.proxy.engine.address.path)
        status, _, body = await read_reply(await sent(world, create(Binds=[f"{tmp_path}/x:/x"])))
        assert (status, b"cannot be told" in body) == (403, True)


async def test_looks_that_hang_do_not_pile_up(tmp_path: Path) -> None:
    host_paths = HostPaths()
    await host_paths.find(str(tmp_path / "nobody"), ["/x"])
    assert host_paths.looks == 0
    host_paths.looks = LOOKS_MAX
    (found,) = await host_paths.find(str(tmp_path / "nobody"), ["/x"])
    assert "too many" in str(found)
