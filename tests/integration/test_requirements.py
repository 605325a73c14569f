"""What requirements say of a request is what the real engine makes of it: paths, names of images, ports, networks."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sockproxy.judging.requirements.bind_sources import clean
from sockproxy.judging.requirements.ports import parse_address, parse_ports
from sockproxy.judging.requirements.references import parse_reference

from .dialogue import Api
from .dockerd import Dockerd
from .rootfs import IMAGE

PATHS = ["/srv/a/../b", "//srv//b/", "/srv/./b/.", "/../srv", "/", "//", "/srv/...", "/srv/b/../../..", "/a b", "/ "]

DIGEST = "sha256:" + "a" * 64
REFERENCES = [
    *(
        "busybox",
        "busybox:1.36",
        "team/app",
        "docker.io/busybox",
        "index.docker.io/busybox",
        "index.docker.io/team/a:1",
    ),
    *(
        "localhost/x",
        "localhost",
        "localhost:5000/x",
        "localhost:5000",
        "host:5000/a/b:c",
        "Host.example.com/a",
        "a.b/c",
    ),
    *("a__b/c-d--e.f", "library/busybox", "docker.io/library/busybox:latest", "a-.b/c", "a/b/c/d", "a:" + "x" * 128),
    *("a" * 64, "a" * 64 + ":1", "a" * 63, "beef"),
    *("A", "A/b", "a/B", "a b", "-a", "a-", "a..b", "a___b", "a.-b", "a:", "a:b:c", "a:b/c:", "a@", "a@sha256:xyz"),
    *("a:" + "x" * 129, "a:-b", "http://a/b", "a.b:x/c", "a\n", "ä", "a:ä", "docker.io/A", "a//b", "/a", "a/", ""),
]


def call(api: Api, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    with api.connect() as connection:
        raw = b"" if body is None else json.dumps(body).encode()
        answer = connection.request(method, f"/v1.41{target}", raw)
        return answer.status, answer.json() if answer.body else None


@pytest.fixture
def created(engine: Dockerd) -> Iterator[Any]:
    """Makes a container of a HostConfig and says what the engine makes of it, or what it says."""

    def create(host_config: dict[str, Any], **more: Any) -> Any:
        status, answer = call(
            engine.api,
            "POST",
            "/containers/create",
            {"Image": IMAGE, "Cmd": ["true"], "HostConfig": host_config, **more},
        )
        return call(engine.api, "GET", f"/containers/{answer['Id']}/json")[1] if status == 201 else answer["message"]

    yield create


@pytest.mark.parametrize("path", PATHS)
def test_binds_are_cleaned_as_by_the_engine(created: Any, path: str) -> None:
    (mount,) = created({"Binds": [f"{path}:/h"]})["Mounts"]
    assert mount["Source"] == clean(path)


def test_a_volumes_device_is_read_by_the_kernel(engine: Dockerd, folder: Path) -> None:
    """It is not cleaned, unlike the source of a bind: `..` behind a link leads out of where the path seems to be."""
    for name in ("within/seeming", "without/there"):
        (folder / name).mkdir(parents=True)
    (folder / "without" / "found").touch()
    (folder / "within" / "link").symlink_to(folder / "without" / "there")
    device = f"{folder}/within/link/.."
    options = {"DriverConfig": {"Options": {"type": "none", "o": "bind", "device": device}}}
    kinds = [("bind", {"Source": device}), ("volume", {"VolumeOptions": options})]
    mounts = [{"Type": kind, "Target": f"/{kind}", **more} for kind, more in kinds]
    container = engine.api.run("ls", "/bind", "/volume", HostConfig={"NetworkMode": "none", "Mounts": mounts}, Tty=True)
    call(engine.api, "POST", f"/containers/{container}/wait")
    seen = engine.api.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1").body.decode().split()
    assert seen == ["/bind:", "link", "seeming", "/volume:", "found", "there"]


@pytest.mark.parametrize("text", ["etc", "../etc", "a/b", ".v", "~/x", " /", "%2fetc"])
def test_what_begins_with_no_slash_is_never_a_path(created: Any, text: str) -> None:
    seen = created({"Binds": [f"{text}:/h"]})
    assert isinstance(seen, str) or seen["Mounts"][0]["Type"] == "volume"


@pytest.mark.parametrize("text", ["/srv/a:/a:ro:/etc", "/etc:ro", "/srv/a\0:/a:b"])
def test_what_is_no_bind_is_none_to_the_engine(created: Any, text: str) -> None:
    assert isinstance(created({"Binds": [text]}), str)


def tagged(api: Api, repo: str, tag: str = "") -> str | None:
    """The name that the engine gives an image, in full; None if it refuses."""
    before = names(api)
    status, _ = call(api, "POST", f"/images/{IMAGE}/tag?repo={quote(repo, safe='')}&tag={quote(tag, safe='')}")
    if status != 201:
        return None
    (name,) = names(api) - before or {None}
    if name is None:
        return None
    assert call(api, "DELETE", f"/images/{quote(name, safe='')}")[0] == 200
    return name


def names(api: Api) -> set[str]:
    (image,) = [call(api, "GET", f"/images/{IMAGE}/json")[1]]
    return set(image["RepoTags"])


@pytest.mark.parametrize("text", REFERENCES)
def test_names_are_completed_as_by_the_engine(engine: Dockerd, text: str) -> None:
    name = tagged(engine.api, text)
    ours = parse_reference(text)
    if name is None:
        # It refuses, or the image had that name already.
        assert ours is None or str(ours) == str(parse_reference(IMAGE))
    else:
        # It shows the short form, which has to be the short form of ours.
        assert str(parse_reference(name)) == str(ours)


@pytest.mark.parametrize(
    ("repo", "tag"), [("x:1", "2"), ("x", "2"), ("x:1", ""), (f"x@{DIGEST}", "2"), ("x", "*"), ("x:", "2")]
)
def test_a_tag_beside_counts(engine: Dockerd, repo: str, tag: str) -> None:
    name = tagged(engine.api, repo, tag)
    ours = parse_reference(repo.partition("@")[0], tag)
    assert (name and str(parse_reference(name))) == (ours and str(ours))


@pytest.mark.parametrize(
    "text",
    [
        "8080",
        "08080",
        "8000-8010",
        "8010-8000",
        "+8080",
        "65536",
        "70000",
        "8080-",
        "-1",
        "x",
        " 80",
        "0",
        "0-5",
        "1-2-3",
    ],
)
def test_ports_that_we_read_the_engine_reads(created: Any, text: str) -> None:
    """Of `1-2-3` it forgets the end; we refuse it."""
    is_taken = isinstance(created({"PortBindings": {"80/tcp": [{"HostPort": text}]}}), dict)
    assert is_taken or parse_ports(text) is None
    assert is_taken == (parse_ports(text) is not None) or text == "1-2-3"


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "::1", "0:0::1", "::ffff:127.0.0.1", "127.0.0.01", "127.1", "localhost", "2130706433", "fe80::1%lo"],
)
def test_addresses_are_no_wider_than_the_engines(created: Any, text: str) -> None:
    """What we read as an address the engine reads, too, and as the same."""
    is_taken = isinstance(created({"PortBindings": {"80/tcp": [{"HostIp": text, "HostPort": "80"}]}}), dict)
    assert parse_address(text) is None or is_taken
    assert parse_address(text) is None or text in ("127.0.0.1", "::1", "0:0::1", "::ffff:127.0.0.1")


def test_the_id_of_an_endpoint_counts_and_not_its_name(engine: Dockerd) -> None:
    """Why `networks` judges both: the container is in the network of the id."""
    api = engine.api
    ids = {}
    for name in ("told", "meant"):
        status, answer = call(
            api, "POST", "/networks/create", {"Name": name, "Driver": "null" if name == "x" else "bridge"}
        )
        if status != 201:
            pytest.skip(f"this engine makes no networks: {answer}")
        ids[name] = answer["Id"]
    try:
        body = {
            "Image": IMAGE,
            "Cmd": ["sleep", "5"],
            "HostConfig": {"NetworkMode": "told"},
            "NetworkingConfig": {"EndpointsConfig": {"told": {"NetworkID": ids["meant"]}}},
        }
        status, answer = call(api, "POST", "/containers/create", body)
        assert status == 201
        call(api, "POST", f"/containers/{answer['Id']}/start")
        seen = call(api, "GET", f"/containers/{answer['Id']}/json")[1]
        assert {one["NetworkID"] for one in seen["NetworkSettings"]["Networks"].values()} & {ids["meant"]}
    finally:
        engine.remove_containers()
        for name in ids:
            call(api, "DELETE", f"/networks/{name}")


def test_a_volume_that_binds_shows_the_directory(engine: Dockerd, tmp_path: Path) -> None:
    """Whatever its type says: `bind` among the options is what counts."""
    (tmp_path / "seen").touch()
    for kind in ("none", "ext4", "tmpfs"):
        options = {"type": kind, "o": "ro,bind", "device": f"{tmp_path}/x/.."}
        (tmp_path / "x").mkdir(exist_ok=True)
        mount = {"Type": "volume", "Target": "/h", "VolumeOptions": {"DriverConfig": {"Options": options}}}
        listed = finished(engine.api, "ls", "/h", HostConfig={"Mounts": [mount], "NetworkMode": "none"})
        assert b"seen" in engine.api.logs(listed)


def namespace(api: Api, mode: str) -> bytes:
    """The network namespace that a container of this mode is in."""
    return api.logs(finished(api, "readlink", "/proc/self/ns/net", HostConfig={"NetworkMode": mode}))


def finished(api: Api, *command: str, **config: Any) -> str:
    container = api.run(*command, **config)
    assert api.call("POST", f"/containers/{container}/wait").json()["StatusCode"] == 0
    return container


def test_the_id_of_the_host_network_is_not_the_host_to_a_container(engine: Dockerd) -> None:
    """Why `networks` need not tell ids from names there; to a service it is the host."""
    (host,) = [one for one in call(engine.api, "GET", "/networks")[1] if one["Name"] == "host"]
    assert namespace(engine.api, "host").strip().decode() == os.readlink(f"/proc/{engine.init_pid}/ns/net")
    assert namespace(engine.api, host["Id"]) != namespace(engine.api, "host")
