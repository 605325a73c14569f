"""What there is on the demo engine, what happens to it, what it keeps at most, and what is left after its stop."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from sockproxy.operating.demo.engine import start_demo_engine
from sockproxy.operating.demo.objects.bounds import Bounds
from tests.demo import (
    FAST,
    Bench,
    ask,
    attach,
    connect,
    create,
    demo_engine,
    frame,
    request,
    run,
    start_exec,
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with demo_engine(tmp_path) as bench:
        yield bench


# --- containers


async def test_what_is_there_at_the_start(bench: Bench) -> None:
    containers = (await ask(bench, "GET", "/containers/json")).document
    assert {each["Names"][0]: each["State"] for each in containers} == dict.fromkeys(
        ["/console", "/db", "/web"], "running"
    )
    images = (await ask(bench, "GET", "/images/json")).document
    assert [each["RepoTags"] for each in images] == [["busybox:latest"], ["nginx:alpine"], ["redis:7-alpine"]]


async def test_the_life_of_a_container(bench: Bench) -> None:
    id = await create(bench, "job", "sleep", "1000")
    assert [(await ask(bench, "POST", f"/containers/job/{act}")).status for act in ("start", "pause")] == [304, 204]
    assert (await ask(bench, "GET", "/containers/job/json")).document["State"]["Status"] == "paused"
    refused = await ask(bench, "POST", "/containers/job/exec", {"Cmd": ["ls"]})
    assert refused.document["message"] == "Container job is paused, unpause the container before exec"
    acts = ("unpause", "rename?name=other", "stop", "stop", "start", "restart?t=0", "kill")
    names = ("job", "job", *["other"] * 5)
    done = [
        (await ask(bench, "POST", f"/containers/{name}/{act}")).status for name, act in zip(names, acts, strict=True)
    ]
    assert done == [204, 204, 204, 304, 204, 204, 204]
    state = (await ask(bench, "GET", f"/containers/{id[:9]}/json")).document["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 137, False)
    assert (await ask(bench, "DELETE", f"/containers/{id}")).status == 204
    assert (await ask(bench, "DELETE", f"/containers/{id}")).status == 404


async def test_a_program_that_listens_to_its_stop_signal_ends_by_itself(bench: Bench) -> None:
    await ask(bench, "POST", "/containers/web/stop")
    assert (await ask(bench, "GET", "/containers/web/json")).document["State"]["ExitCode"] == 0


async def test_a_program_that_is_not_there_cannot_be_started(bench: Bench) -> None:
    await create(bench, "bad", "nope", is_started=False)
    answer = await ask(bench, "POST", "/containers/bad/start")
    assert (answer.status, 'exec: "nope": executable file not found in $PATH' in answer.document["message"]) == (
        400,
        True,
    )
    assert (await ask(bench, "GET", "/containers/bad/json")).document["State"]["ExitCode"] == 127


async def test_a_container_that_removes_itself_tells_who_waits_its_code(bench: Bench) -> None:
    await create(bench, "once", "sh", "-c", "exit 5", is_started=False, HostConfig={"AutoRemove": True})
    waiter = await connect(bench)
    await waiter.say(request("POST", "/containers/once/wait?condition=removed"))
    assert (await waiter.hear_head())[0] == "HTTP/1.1 200 OK"
    await ask(bench, "POST", "/containers/once/start")
    assert [json.loads(chunk) async for chunk in waiter.chunks()] == [{"Error": None, "StatusCode": 5}]
    assert (await ask(bench, "GET", "/containers/once/json")).status == 404


async def test_a_restart_policy_is_kept(bench: Bench) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    await create(bench, "again", "sh", "-c", "echo try; exit 1", is_started=False, HostConfig=policy)
    follower = await connect(bench)
    await follower.say(request("GET", '/events?filters={"event":["die"]}'))
    await follower.hear_head()
    await ask(bench, "POST", "/containers/again/start")
    chunks = follower.chunks()
    for _ in range(3):
        await anext(chunks)
    found = (await ask(bench, "GET", "/containers/again/json")).document
    assert (found["RestartCount"], found["State"]["Status"]) == (2, "exited")


async def test_wait_below_1_30_answers_at_the_end(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "exit 4")
    answer = await ask(bench, "POST", "/v1.29/containers/job/wait")
    assert (answer.headers["Content-Length"], answer.document) == ("30", {"Error": None, "StatusCode": 4})


FILTERS = (  # (filters, names found)
    ({"name": ["we"]}, ["/web"]),
    ({"label": ["com.example.tier"]}, ["/db", "/web"]),
    ({"label": {"com.example.tier=back": True}}, ["/db"]),
    ({"ancestor": ["nginx:alpine"]}, ["/web"]),
    ({"network": ["bridge"], "status": ["running"]}, ["/console", "/db", "/web"]),
    ({"volume": ["db-data"]}, ["/db"]),
    ({"status": ["exited"]}, []),
    ({"before": ["console"]}, ["/db", "/web"]),
    ({"since": ["web"]}, ["/console", "/db"]),
)


@pytest.mark.parametrize(("filters", "names"), FILTERS)
async def test_filters_of_the_list(bench: Bench, filters: object, names: list[str]) -> None:
    found = await ask(bench, "GET", f"/containers/json?filters={json.dumps(filters)}".replace(" ", ""))
    assert sorted(name for each in found.document for name in each["Names"]) == names


async def test_list_limit_takes_the_newest_also_if_ended(bench: Bench) -> None:
    await create(bench, "old", "true", is_started=False)
    assert [each["Names"] for each in (await ask(bench, "GET", "/containers/json?limit=1")).document] == [["/old"]]


async def test_update_and_prune(bench: Bench) -> None:
    await create(bench, "old", "sh", "-c", "echo x > /tmp/x")
    await ask(bench, "POST", "/containers/old/wait")
    changed = {"Memory": 4096, "RestartPolicy": {"Name": "always"}, "Privileged": True}
    assert (await ask(bench, "POST", "/containers/web/update", changed)).document == {"Warnings": None}
    host_config = (await ask(bench, "GET", "/containers/web/json")).document["HostConfig"]
    assert (host_config["Memory"], host_config["RestartPolicy"]["Name"], host_config["Privileged"]) == (
        4096,
        "always",
        False,
    )
    assert (await ask(bench, "POST", '/containers/prune?filters={"label":["none"]}')).document[
        "ContainersDeleted"
    ] is None
    pruned = (await ask(bench, "POST", "/containers/prune")).document
    assert (len(pruned["ContainersDeleted"]), pruned["SpaceReclaimed"]) == (1, 2)


async def test_removing_with_v_takes_only_volumes_without_a_name(bench: Bench) -> None:
    nameless = (await ask(bench, "POST", "/volumes/create", {})).document["Name"]
    await create(
        bench, "job", "true", is_started=False, HostConfig={"Binds": [f"{nameless}:/a", "named:/b:ro", "/srv:/c"]}
    )
    mounts = (await ask(bench, "GET", "/containers/job/json")).document["Mounts"]
    assert [(mount["Type"], mount["Destination"], mount["RW"]) for mount in mounts] == [
        ("volume", "/a", True), ("volume", "/b", False), ("bind", "/c", True),
    ]  # fmt: skip
    await ask(bench, "DELETE", "/containers/job?v=1")
    left = (await ask(bench, "GET", '/volumes?filters={"dangling":["true"]}')).document["Volumes"]
    assert [volume["Name"] for volume in left] == ["named"]


async def test_top_in_both_forms(bench: Bench) -> None:
    for arguments, title in (("", "CMD"), ("-ef", "CMD"), ("aux", "COMMAND")):
        found = (await ask(bench, "GET", f"/containers/db/top?ps_args={arguments}")).document
        assert (found["Titles"][-1], found["Processes"][0][-1]) == (title, "redis-server")


# --- logs, events, stats


async def test_logs_are_framed_by_stream(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "echo out; echo err >&2; printf rest")
    await ask(bench, "POST", "/containers/job/wait")
    answer = await ask(bench, "GET", "/containers/job/logs?stdout=1&stderr=1")
    assert answer.body == frame(1, b"out\n") + frame(2, b"err\n") + frame(1, b"rest")
    assert "Content-Type" not in answer.headers
    assert (await ask(bench, "GET", "/containers/job/logs?stdout=1&tail=1")).body == frame(1, b"rest")
    assert (await ask(bench, "GET", "/containers/job/logs?stderr=1&tail=x")).body == frame(2, b"err\n")
    assert (await ask(bench, "GET", "/containers/job/logs?stdout=1&tail=0")).body == b""
    assert (await ask(bench, "GET", "/containers/job/logs?stdout=1&since=9999999999")).body == b""
    stamped = (await ask(bench, "GET", "/containers/job/logs?stderr=1&timestamps=1")).body[8:]
    assert re.fullmatch(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{9}Z err\n", stamped)


async def test_logs_of_a_terminal_are_raw(bench: Bench) -> None:
    await create(bench, "job", "echo", "hi", Tty=True)
    await ask(bench, "POST", "/containers/job/wait")
    assert (await ask(bench, "GET", "/containers/job/logs?stdout=1")).body == b"hi\r\n"


async def test_following_a_log_ends_with_the_program(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "echo first; read x; echo $x", OpenStdin=True, StdinOnce=True)
    follower = await connect(bench)
    await follower.say(request("GET", "/containers/job/logs?stdout=1&follow=1"))
    await follower.hear_head()
    chunks = follower.chunks()
    assert await anext(chunks) == frame(1, b"first\n")
    client = await attach(bench, "job")
    await client.say(b"second\n")
    assert [chunk async for chunk in chunks] == [frame(1, b"second\n")]


async def test_events_since_until_and_filters(bench: Bench) -> None:
    id = await create(bench, "job", "true", Labels={"a": "b"})
    await ask(bench, "POST", "/containers/job/wait")
    found = await ask(bench, "GET", '/events?since=1&until=1999&filters={"container":["job"]}')
    assert found.body == b""
    stream = await connect(bench)
    await stream.say(request("GET", '/events?since=1&filters={"container":["job"],"type":["container"]}'))
    await stream.hear_head()
    chunks = stream.chunks()
    documents = [json.loads(await anext(chunks)) for _ in range(3)]
    assert [(each["Action"], each["status"], each["id"], each["from"]) for each in documents] == [
        (action, action, id, "busybox") for action in ("create", "start", "die")
    ]
    assert documents[2]["Actor"]["Attributes"] == {"a": "b", "exitCode": "0", "image": "busybox", "name": "job"}
    stream.finish()
    assert [chunk async for chunk in chunks] == []


async def test_stats_once_and_streaming(bench: Bench) -> None:
    once = (await ask(bench, "GET", "/containers/web/stats?stream=0")).document
    assert (once["name"], once["pids_stats"]) == ("/web", {"current": 1})
    stream = await connect(bench)
    await stream.say(request("GET", "/containers/web/stats"))
    await stream.hear_head()
    assert json.loads(await anext(aiter(stream.chunks())))["name"] == "/web"
    stream.close()


# --- images, networks, volumes, files


async def test_a_pull_tells_its_progress_and_brings_the_image(bench: Bench) -> None:
    answer = await ask(bench, "POST", "/images/create?fromImage=registry.example.com/team/alpine&tag=3.19")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines[0] == {"status": "Pulling from team/alpine", "id": "3.19"}
    assert lines[-1]["status"] == "Status: Downloaded newer image for registry.example.com/team/alpine:3.19"
    assert (await ask(bench, "GET", "/images/registry.example.com/team/alpine:3.19/json")).status == 200


async def test_whoever_hangs_up_during_a_pull_gets_no_image(tmp_path: Path) -> None:
    async with demo_engine(tmp_path, Bounds(pull_step_seconds=60.0)) as bench:
        client = await connect(bench)
        await client.say(request("POST", "/images/create?fromImage=alpine&tag=latest"))
        await client.hear_until(b"Pulling from")
        client.finish()
        await client.hear_end()
        assert (await ask(bench, "GET", "/images/alpine/json")).status == 404


async def test_tag_and_delete_of_images(bench: Bench) -> None:
    assert (await ask(bench, "POST", "/images/busybox/tag?repo=mine&tag=1")).status == 201
    assert (await ask(bench, "DELETE", "/images/mine:1")).document == [{"Untagged": "mine:1"}]
    refused = (await ask(bench, "DELETE", "/images/nginx:alpine")).document["message"]
    assert refused.startswith('conflict: unable to remove repository reference "nginx:alpine" (must force)')
    await ask(bench, "DELETE", "/containers/console?force=1")
    done = (await ask(bench, "DELETE", "/images/busybox")).document
    assert [next(iter(each)) for each in done] == ["Untagged", "Untagged", "Deleted", "Deleted"]
    assert (await ask(bench, "GET", "/images/busybox/json")).status == 404


async def test_lists_searches_and_prunes_of_images(bench: Bench) -> None:
    async def names(query: str) -> list[str]:
        return [
            name for each in (await ask(bench, "GET", f"/images/json?{query}")).document for name in each["RepoTags"]
        ]

    assert await names('filters={"reference":["nginx"]}') == await names("filter=nginx:alpine") == ["nginx:alpine"]
    assert await names('filters={"dangling":["true"]}') == await names('filters={"label":["x"]}') == []
    assert [each["name"] for each in (await ask(bench, "GET", "/images/search?term=ngin")).document] == ["nginx"]
    await ask(bench, "POST", "/images/create?fromImage=alpine")
    assert (await ask(bench, "POST", "/images/prune")).document == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    pruned = (await ask(bench, "POST", '/images/prune?filters={"dangling":["false"]}')).document
    assert (pruned["ImagesDeleted"][0], pruned["SpaceReclaimed"]) == ({"Untagged": "alpine:latest"}, 7_800_000)


async def test_networks_and_volumes(bench: Bench) -> None:
    made = await ask(bench, "POST", "/networks/create", {"Name": "back", "Labels": {"a": "b"}})
    assert made.status == 201
    assert (await ask(bench, "POST", "/networks/back/connect", {"Container": "web"})).status == 200
    members = (await ask(bench, "GET", f"/networks/{made.document['Id'][:12]}")).document["Containers"]
    assert [member["Name"] for member in members.values()] == ["web"]
    assert (await ask(bench, "DELETE", "/networks/back")).status == 403
    assert (await ask(bench, "POST", "/networks/back/disconnect", {"Container": "web"})).status == 200
    assert (await ask(bench, "POST", "/networks/prune")).document == {"NetworksDeleted": ["back"]}
    volume = (await ask(bench, "POST", "/volumes/create", {"Name": "v1", "Labels": {"x": "y"}})).document
    assert (volume["Name"], volume["Labels"], volume["Mountpoint"]) == (
        "v1",
        {"x": "y"},
        "/var/lib/docker/volumes/v1/_data",
    )
    in_use = await ask(bench, "DELETE", "/volumes/db-data")
    assert (in_use.status, "volume is in use" in in_use.document["message"]) == (409, True)
    assert (await ask(bench, "POST", "/volumes/prune")).document == {"VolumesDeleted": ["v1"], "SpaceReclaimed": 0}


async def test_files_go_in_and_out_as_tar(bench: Bench) -> None:
    tar = (await ask(bench, "GET", "/containers/web/archive?path=/etc/nginx")).body
    assert (await ask(bench, "PUT", "/containers/console/archive?path=/tmp", tar)).status == 200
    _, client = await start_exec(bench, "console", "cat", "/tmp/nginx/nginx.conf")
    assert b"listen 80" in await client.hear_end()
    changes = (await ask(bench, "GET", "/containers/console/changes")).document
    assert changes == [
        {"Path": "/tmp", "Kind": 0},
        {"Path": "/tmp/nginx", "Kind": 1},
        {"Path": "/tmp/nginx/nginx.conf", "Kind": 1},
    ]
    facts = await ask(bench, "HEAD", "/containers/web/archive?path=/etc/nginx/nginx.conf")
    assert (facts.status, "X-Docker-Container-Path-Stat" in facts.headers) == (200, True)


# --- bounds, record, start and stop


async def test_there_is_room_for_so_many_things(tmp_path: Path) -> None:
    async with demo_engine(tmp_path, Bounds(containers_max=4, named_max=3, execs_max=1)) as bench:
        await create(bench, "last", is_started=False)
        full = await ask(bench, "POST", "/containers/create", {"Image": "busybox"})
        assert (full.status, full.document["message"]) == (507, "the demo engine holds no more containers")
        assert (await ask(bench, "POST", "/networks/create", {"Name": "x"})).status == 507
        assert (await ask(bench, "POST", "/images/create?fromImage=alpine")).status == 507
        created = [await ask(bench, "POST", "/containers/web/exec", {"Cmd": ["sleep", "9"]}) for _ in range(2)]
        assert [each.status for each in created] == [201, 507]


async def test_an_ended_exec_makes_room(tmp_path: Path) -> None:
    async with demo_engine(tmp_path, Bounds(execs_max=1)) as bench:
        for _ in range(3):
            _, client = await start_exec(bench, "web", "true")
            assert await client.hear_end() == b""


@pytest.mark.parametrize(
    "bounds", [Bounds(body_bytes_max=1000), Bounds(document_bytes_max=1000)], ids=["body", "document"]
)
async def test_bodies_are_limited(tmp_path: Path, bounds: Bounds) -> None:
    async with demo_engine(tmp_path, bounds) as bench:
        fits, too_large = ({"Image": "busybox", "x": "x" * size} for size in (900, 1001))
        assert (await ask(bench, "POST", "/containers/create", fits)).status == 201
        assert (await ask(bench, "POST", "/containers/create", too_large)).status == 413


async def test_a_log_keeps_the_newest(tmp_path: Path) -> None:
    async with demo_engine(tmp_path, Bounds(log_bytes_max=60)) as bench:
        await create(bench, "job", "seq", "1", "100")
        await ask(bench, "POST", "/containers/job/wait")
        kept = (await ask(bench, "GET", "/containers/job/logs?stdout=1")).body
        assert kept.endswith(frame(1, b"100\n"))
        assert 50 <= len(kept.replace(b"\x01\0\0\0\0\0\0", b"")) <= 80


async def test_requests_are_remembered_up_to_a_bound(tmp_path: Path) -> None:
    async with demo_engine(tmp_path, Bounds(requests_max=4)) as bench:
        await ask(bench, "GET", "/containers/json?all=1")
        await ask(bench, "POST", "/v1.41/containers/web/start")
        assert bench.engine.requests == [("GET", "/containers/json"), ("POST", "/v1.41/containers/web/start")]
        for _ in range(3):
            await ask(bench, "GET", "/_ping")
        assert bench.engine.requests == [("GET", "/_ping")] * 3


async def _whole_story(path: str) -> set[str]:
    """Everything that could leave something behind, then the stop; what is left then."""
    before = asyncio.all_tasks()
    bench = Bench(await start_demo_engine(path, FAST))
    follower, waiter, watcher = [await connect(bench) for _ in range(3)]
    await follower.say(request("GET", "/containers/web/logs?stdout=1&follow=1"))
    await waiter.say(request("POST", "/containers/web/wait"))
    await watcher.say(request("GET", "/events"))
    for each in (follower, waiter, watcher):
        await each.hear_head()
    attached = await attach(bench, "console")
    await attached.say(b"sleep 100\r")
    await attached.hear_until(b"sleep 100\r\n")
    _, piped = await start_exec(bench, "web", "sh", "-c", "yes | cat | cat")
    await piped.hear_until(b"y\n")
    await create(bench, "again", "false", HostConfig={"RestartPolicy": {"Name": "always"}})
    outcome = await run(bench, "cat", stdin=b"x" * 300_000)
    assert (outcome.code, len(outcome.stdout)) == (0, 300_000)
    await bench.engine.stop()
    await bench.engine.stop()
    assert await attached.hear_end() is not None
    bench.close()
    return {repr(task) for task in asyncio.all_tasks() - before}


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_nothing_is_left_after_stop(tmp_path: Path, loop_factory: object) -> None:
    path = tmp_path / "engine.sock"
    with asyncio.Runner(loop_factory=loop_factory) as runner:  # type: ignore[arg-type]
        assert runner.run(_whole_story(str(path))) == set()
    assert not path.exists()


async def test_a_place_that_cannot_be_bound_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await start_demo_engine(str(tmp_path / "nowhere" / "engine.sock"))
