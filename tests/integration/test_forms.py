"""No form of a request gets past a judged body: the engine's state afterwards decides, not what was answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import start_mighty
from .dialogue import Api
from .dockerd import Dockerd
from .forms import Form, load_forms, send
from .proxy_process import ProxyProcess
from .rootfs import IMAGE

FORMS = load_forms()
HARMLESS: dict[str, tuple[Any, ...]] = {
    "Privileged": (False,),
    "IpcMode": ("", "private", "shareable"),
    "NetworkMode": ("", "default", "bridge", "none"),
    "OomScoreAdj": (0,),
    **dict.fromkeys(("PidMode", "UTSMode", "UsernsMode", "CgroupParent"), ("",)),
    **dict.fromkeys(("Binds", "Mounts", "CapAdd", "Devices", "SecurityOpt", "VolumesFrom"), (None, [])),
}
"""Field of a HostConfig, as inspect shows it -> the values that give no power."""


@pytest.fixture(scope="module")
def api(session_engine: Dockerd) -> Iterator[Api]:
    """An engine with a running container `web`, and one that has the host's processes and files."""
    session_engine.remove_containers()
    create(session_engine.api, "web")
    session_engine.api.start("web")
    start_mighty(session_engine.api)
    yield session_engine.api
    session_engine.remove_containers()


def create(api: Api, name: str) -> None:
    answer = api.call("POST", f"/containers/create?name={name}", {"Image": IMAGE, "Cmd": ["sleep", "600"]})
    assert answer.status == 201, answer


def found_and_removed(api: Api) -> tuple[list[str], set[str]]:
    """What has power, and the names of all containers, but of `mighty`; all but that and `web` are removed."""
    powers, names = [], set()
    with api.connect() as connection:
        for each in connection.request("GET", "/containers/json?all=1").json():
            seen = connection.request("GET", f"/containers/{each['Id']}/json").json()
            if seen["Name"] == "/mighty":
                continue
            powers += powers_of(seen)
            powers += [name for name in seen["ExecIDs"] or () if is_privileged(api, name)]
            names.add(seen["Name"])
            if seen["Name"] != "/web":
                connection.request("DELETE", f"/containers/{each['Id']}?force=1&v=1")
        for volume in connection.request("GET", "/volumes").json()["Volumes"] or ():
            powers += [f"{volume['Name']} {volume['Options']}"] if volume["Options"] else []
            connection.request("DELETE", f"/volumes/{volume['Name']}")
    return powers, names


def powers_of(seen: dict[str, Any]) -> list[str]:
    host = seen["HostConfig"]
    fields = [field for field, values in HARMLESS.items() if host.get(field, values[0]) not in values]
    fields += ["MaskedPaths"] if host["MaskedPaths"] == [] else []
    return [f"{seen['Name']} {field} {host[field]}" for field in fields]


def is_privileged(api: Api, exec_id: str) -> bool:
    return bool(api.call("GET", f"/exec/{exec_id}/json").json()["ProcessConfig"].get("privileged"))


def outcome(form: Form, api: Api, path: Path) -> tuple[int, list[str], set[str]]:
    """The status, what has power afterwards, and which containers there are."""
    if "idle" in form.target or "%69dle" in form.target:
        create(api, "idle")
    status = send(form, path)
    return status, *found_and_removed(api)


@pytest.fixture
def clean(api: Api) -> Iterator[None]:
    """The execs of `web` are forgotten with it."""
    yield
    if api.call("GET", "/containers/web/json").json()["ExecIDs"]:
        api.call("DELETE", "/containers/web?force=1")
        create(api, "web")
        api.start("web")


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_no_form_gets_power(api: Api, baseline: ProxyProcess, form: Form) -> None:
    status, powers, names = outcome(form, api, baseline.socket)
    assert powers == []
    assert ("/new" in names) is form.works
    assert status == form.status


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("form", [form for form in FORMS if form.real], ids=lambda form: form.name)
def test_the_form_is_real(api: Api, form: Form) -> None:
    """Sent to the engine itself, it gives power."""
    _, powers, _ = outcome(form, api, Path(api.path))
    assert powers


def test_there_are_enough_of_either() -> None:
    assert sum(form.real for form in FORMS) > 100
    assert sum(form.works for form in FORMS) > 20
