"""Which requests the demo engine takes, and with which words it refuses the others.

What is expected of an error is what dockerd 20.10 answered to the same request.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sockproxy.operating.demo.api import routes
from tests.demo import Bench, ask, connect, create, demo_engine, request, without_ids


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with demo_engine(tmp_path) as bench:
        yield bench


# --- refusals

REFUSED = (  # (method, target, body, status, message)
    ("GET", "/nope", None, 404, "page not found"),
    ("GET", "/containers/json/", None, 404, "page not found"),
    ("GET", "/v1.24/", None, 404, "page not found"),
    ("GET", "/v1.99/nope", None, 404, "page not found"),
    ("PATCH", "/_ping", None, 404, "page not found"),
    ("GET", "/v1.42/_ping", None, 400, "client version 1.42 is too new. Maximum supported API version is 1.41"),
    ("GET", "/containers/nope/json", None, 404, "No such container: nope"),
    ("GET", "/containers/a/b/json", None, 404, "No such container: a/b"),
    ("POST", "/containers/create", {}, 400, "Config cannot be empty in order to create a container"),
    ("POST", "/containers/create", b"", 500, "EOF"),
    ("POST", "/containers/create", b'{"Image":', 500, "unexpected EOF"),
    ("POST", "/containers/create", {"Image": ""}, 400, "No command specified"),
    ("POST", "/containers/create", {"Image": "nope"}, 404, "No such image: nope:latest"),
    ("POST", "/containers/create?name=-x", {"Image": "busybox"}, 400,
     "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ("POST", "/containers/create?name=qa", {"Image": "busybox"}, 409,
     'Conflict. The container name "/qa" is already in use by container "ID". '
     "You have to remove (or rename) that container to be able to reuse that name."),
    ("POST", "/containers/create", {"Image": "busybox", "Tty": "true"}, 500,
     "json: cannot unmarshal string into Go struct field ContainerConfigWrapper.Tty of type bool"),
    ("POST", "/containers/create", {"Image": "busybox", "HostConfig": 5}, 500,
     "json: cannot unmarshal number into Go struct field ContainerConfigWrapper.HostConfig of type container.HostConfig"),
    ("POST", "/containers/qa/rename", None, 400, "Neither old nor new names may be empty"),
    ("POST", "/containers/qa/rename?name=qa", None, 400,
     "Renaming a container with the same name as its current name"),
    ("POST", "/containers/qa/rename?name=-", None, 400,
     "Error when allocating new name: Invalid container name (/-), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ("POST", "/containers/qa/kill?signal=BOGUS", None, 400, "Invalid signal: BOGUS"),
    ("POST", "/containers/qa/kill?signal=99", None, 500,
     "Cannot kill container: qa: The linux daemon does not support signal 99"),
    ("POST", "/containers/qb/kill", None, 409, "Cannot kill container: qb: Container ID is not running"),
    ("POST", "/containers/qb/pause", None, 409, "Container ID is not running"),
    ("POST", "/containers/qa/unpause", None, 500, "Container ID is not paused"),
    ("POST", "/containers/qa/resize", None, 400, 'strconv.Atoi: parsing "": invalid syntax'),
    ("POST", "/containers/qa/resize?h=1&w=x", None, 400, 'strconv.Atoi: parsing "x": invalid syntax'),
    ("POST", "/containers/qb/resize?h=1&w=1", None, 409, "Container ID is not running"),
    ("POST", "/containers/qa/stop?t=x", None, 500, 'strconv.Atoi: parsing "x": invalid syntax'),
    ("GET", "/containers/qa/logs", None, 400, "Bad parameters: you must choose at least one stream"),
    ("GET", "/containers/qb/top", None, 409, "Container ID is not running"),
    ("GET", "/exec/nope/json", None, 404, "No such exec instance: nope"),
    ("POST", "/exec/nope/start", {}, 404, "No such exec instance: nope"),
    ("POST", "/exec/nope/start", b"", 400, "got EOF while reading request body"),
    ("POST", "/exec/nope/resize?h=1&w=1", None, 404, "No such exec instance: nope"),
    ("POST", "/containers/qb/exec", {"Cmd": ["ls"]}, 409, "Container ID is not running"),
    ("POST", "/containers/qa/exec", {"Cmd": []}, 400, "No exec command specified"),
    ("POST", "/containers/qa/exec", {"Cmd": "ls"}, 400,
     "json: cannot unmarshal string into Go struct field ExecConfig.Cmd of type []string"),
    ("DELETE", "/containers/qa", None, 409,
     "You cannot remove a running container ID. Stop the container before attempting removal or force remove"),
    ("GET", "/images/nope/json", None, 404, "no such image: nope: No such image: nope:latest"),
    ("GET", "/images/NOPE/json", None, 400,
     "no such image: NOPE: invalid reference format: repository name must be lowercase"),
    ("POST", "/images/busybox/tag?repo=X", None, 500, "invalid reference format: repository name must be lowercase"),
    ("POST", "/images/create?fromImage=nosuch", None, 404,
     "pull access denied for nosuch, repository does not exist or may require 'docker login': denied: requested access "
     "to the resource is denied"),
    ("GET", "/networks/nope", None, 404, "network nope not found"),
    ("DELETE", "/networks/host", None, 403, "host is a pre-defined network and cannot be removed"),
    ("POST", "/networks/create", {"Name": "none"}, 403, "operation is not permitted on predefined none network "),
    ("GET", "/volumes/nope", None, 404, "get nope: no such volume"),
    ("GET", "/swarm", None, 503,
     'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
     "and try again."),
    ("GET", '/containers/json?filters={"x":["y"]}', None, 400, "Invalid filter 'x'"),
    ("GET", '/containers/json?filters={"status":["y"]}', None, 400, "Invalid filter 'status=y'"),
    ("GET", "/events?since=x", None, 500, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("GET", "/containers/qa/archive", None, 400, "bad parameter: pathcannot be empty"),
    ("GET", "/containers/qa/archive?path=/nope", None, 404, "Could not find the file /nope in container qa"),
    ("POST", "/build", None, 501, "ImageBuild is not imitated by the demo engine"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "target", "body", "status", "message"), REFUSED)
async def test_refusals(bench: Bench, method: str, target: str, body: object, status: int, message: str) -> None:
    await create(bench, "qa", "sleep", "100")
    await create(bench, "qb", "true", is_started=False)
    answer = await ask(bench, method, target, body)
    assert (answer.status, without_ids(answer.document["message"])) == (status, message)
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_body_that_does_not_say_that_it_is_json_is_refused(bench: Bench) -> None:
    answer = await ask(bench, "POST", "/containers/create", b"{}", "Content-Type: text/plain\r\n")
    assert answer.document["message"] == "Content-Type specified (text/plain) must be 'application/json'"


async def test_below_1_24_errors_are_text(bench: Bench) -> None:
    answer = await ask(bench, "GET", "/v1.23/containers/nope/json")
    assert (answer.status, answer.body) == (404, b"No such container: nope\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


OLD = ("1.11", "1", "0", "1.", ".", "1..24", ".1.24")


@pytest.mark.parametrize("version", OLD)
async def test_a_version_below_1_12_is_too_old(bench: Bench, version: str) -> None:
    answer = await ask(bench, "GET", f"/v{version}/_ping")
    expected = f"client version {version} is too old. Minimum supported API version is 1.12, please upgrade your client"
    assert (answer.status, answer.body.decode().startswith(expected)) == (400, True)


@pytest.mark.parametrize("version", ["9.9", "99999999999999999999.1", "1.41.1", "9" * 5000])
async def test_a_version_above_1_41_is_too_new(bench: Bench, version: str) -> None:
    answer = await ask(bench, "GET", f"/v{version}/_ping")
    assert (answer.status, "is too new" in answer.document["message"]) == (400, True)


UNCLEAN = (
    ("//_ping", "/_ping"),
    ("/./_ping", "/_ping"),
    ("/v1.24//_ping?x=1", "/v1.24/_ping?x=1"),
    ("/containers/x%2f..%2fjson", "/containers/json"),
    ("/containers/%2e%2e/_ping", "/_ping"),
)


@pytest.mark.parametrize(("target", "location"), UNCLEAN)
async def test_a_path_that_is_not_clean_is_redirected(bench: Bench, target: str, location: str) -> None:
    answer = await ask(bench, "GET", target)
    assert (answer.status, answer.headers["Location"]) == (301, location)
    assert "Api-Version" not in answer.headers


FOUND = (
    ("GET", "/_pin%67"),
    ("GET", "/%76%31.24/%63ontainers%2fjson"),
    ("GET", "http://x:99/v1.24/_ping"),
    ("GET", "/networks/"),
    ("OPTIONS", "/info"),
)


@pytest.mark.parametrize(("method", "target"), FOUND)
async def test_other_spellings_that_the_engine_takes(bench: Bench, method: str, target: str) -> None:
    assert (await ask(bench, method, target)).status == 200


async def test_each_operation_is_in_the_table_once() -> None:
    rows = [(method, path) for method, path, _ in routes.TABLE]
    assert len(rows) == len(set(rows))


WRONG_VALUES = (None, True, 7, 1.5, "text", "", [], ["x"], [7], {}, {"x": "y"}, {"x": 7}, [{"x": []}])
NAMES = (
    "Image", "Cmd", "Entrypoint", "Env", "User", "Tty", "Labels", "Volumes", "ExposedPorts", "Hostname", "StopSignal",
    "HostConfig", "NetworkingConfig", "Name", "Driver", "DriverOpts", "Options", "Container", "Detach", "RestartPolicy",
    "Memory", "AttachStdin", "DetachKeys", "WorkingDir",
)  # fmt: skip
INNER_NAMES = (
    "Binds", "Mounts", "PortBindings", "RestartPolicy", "NetworkMode", "AutoRemove", "LogConfig", "Memory", "x",
)  # fmt: skip
FAULT = b"a fault of the demo engine"
ENDLESS = ("/events", "/stats", "/attach", "/wait", "/logs", "/ws")


POSTED = sorted({path for method, path, _ in routes.TABLE if method == "POST" and not path.endswith("/wait")})


@pytest.mark.parametrize("path", POSTED)
async def test_wrong_bodies_are_refused_or_taken_but_no_fault(bench: Bench, path: str) -> None:
    target = path.replace(
        "{}", "nginx:alpine" if path.startswith("/images/{") else "none" if "networks" in path else "db"
    )
    good = {"Image": "busybox", "Cmd": ["true"]}
    bodies = [{**good, name: value} for name in NAMES for value in WRONG_VALUES]
    if path in ("/containers/create", "/containers/{}/start", "/containers/{}/update"):  # the others do not look there
        bodies += [{**good, "HostConfig": {name: value}} for name in INNER_NAMES for value in WRONG_VALUES]
        bodies += [{**good, "NetworkingConfig": {"EndpointsConfig": value}} for value in WRONG_VALUES]
        bodies += [{**good, "HostConfig": {"RestartPolicy": {"Name": value}}} for value in WRONG_VALUES]
    for body in (*bodies, [], 7, None, b"\xff", b"[" * 100_000):
        answer = await ask(bench, "POST", target, body)
        assert FAULT not in answer.body, body
        if answer.status == 201 and path == "/containers/create":
            await use_and_remove(bench, answer.document["Id"])


async def use_and_remove(bench: Bench, id: str) -> None:
    uses = (f"POST /containers/{id}/start", "GET /containers/json?all=1", f"GET /containers/{id}/json", "GET /system/df",
            f"POST /containers/{id}/wait", f"DELETE /containers/{id}?force=1")  # fmt: skip
    for use in uses:
        method, target = use.split(" ")
        assert FAULT not in (await ask(bench, method, target)).body, use


QUERIES = ("", "?filters={", "?filters=[]", '?filters={"name":7}', '?filters={"name":[7]}', "?limit=x&t=-5&h=9&w=-9",
           '?filters={"label":["a=b"],"until":["x"]}', "?since=1&until=0&tail=-1&stdout=x", "?path=../../..&a&=&=x&a=%ff",
           "?name=%00&signal=%ff&condition=x&detachKeys=,&stream=0&ps_args=aux", "?" + "a=b&" * 5000)  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
async def test_wrong_queries_are_refused_or_taken_but_no_fault(bench: Bench, query: str) -> None:
    for method, path, _ in routes.TABLE:
        for name in ("db", "%ff", "a%2fb"):
            target = path.replace("{}", name) + query
            client = await connect(bench)
            await client.say(request(method, target))
            if path.endswith(ENDLESS):
                client.finish()
            answer = await client.hear_until(b"\r\n\r\n")
            assert b" 500 " not in answer[:13] or FAULT not in await client.reader.read(200), target
            client.close()


async def test_ping_has_the_headers_of_the_engine(bench: Bench) -> None:
    for method, body in (("GET", b"OK"), ("HEAD", b"")):
        answer = await ask(bench, method, "/_ping")
        assert answer.headers.pop("Date")
        assert (answer.status, answer.body, answer.headers) == (
            200,
            body,
            {
                "Api-Version": "1.41",
                "Cache-Control": "no-cache, no-store, must-revalidate",
                "Content-Length": str(len(body)),
                "Content-Type": "text/plain; charset=utf-8",
                "Docker-Experimental": "false",
                "Ostype": "linux",
                "Pragma": "no-cache",
                "Server": "Docker/20.10.24 (linux)",
            },
        )
