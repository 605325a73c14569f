"""Settings of the socket proxies that people use today -> the policy that allows the same operations.

Owns what these settings mean, as tables, and where they let through more than their names say. Must not know how a policy
file looks (`config.writing`). Begin at `migrate`. Sources: HAProxy's rules in Tecnativa/docker-socket-proxy 0.4 and in
linuxserver/docker-socket-proxy 3.4, both compared with HAProxy itself by `tests/test_migration.py`.

Both are lists of patterns over paths, of which the environment switches each on or off. A section is the beginning of a
path. Methods but GET and HEAD need POST=1, which opens all of them, DELETE and PUT as well. In the second, actions on a
container pass without POST, and five reads need a setting of their own beside CONTAINERS.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sockproxy.errors import ConfigError, Finding
from sockproxy.judging.catalogue import Catalogue, Operation
from sockproxy.operating.config.wording import did_you_mean, quoted
from sockproxy.operating.config.writing import WrittenRule

SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "AUTH": "auth",
        "BUILD": "build",
        "COMMIT": "commit",
        "CONFIGS": "configs",
        "CONTAINERS": "containers",
        "DISTRIBUTION": "distribution",
        "EVENTS": "events",
        "EXEC": "exec",
        "GRPC": "grpc",
        "IMAGES": "images",
        "INFO": "info",
        "NETWORKS": "networks",
        "NODES": "nodes",
        "PING": "_ping",
        "PLUGINS": "plugins",
        "SECRETS": "secrets",
        "SERVICES": "services",
        "SESSION": "session",
        "SWARM": "swarm",
        "SYSTEM": "system",
        "TASKS": "tasks",
        "VERSION": "version",
        "VOLUMES": "volumes",
    }
)
"""Setting -> the first segment of the paths that it opens."""

_TECNATIVA_ACTIONS = {
    "ALLOW_RESTARTS": ("stop", "restart", "kill"),
    "ALLOW_START": ("start",),
    "ALLOW_STOP": ("stop",),
}


class Proxy(NamedTuple):
    """What the settings of one proxy mean. `actions`: setting -> what it lets be done to a container. `gates`: setting ->
    what of a container is closed without it. `defaults`: what is on if nobody says otherwise."""

    name: str
    actions: Mapping[str, tuple[str, ...]]
    actions_need_post: bool
    gates: Mapping[str, str]
    defaults: tuple[str, ...] = ("EVENTS", "PING", "VERSION")


PROXIES: Mapping[str, Proxy] = MappingProxyType(
    {
        "tecnativa": Proxy("tecnativa", _TECNATIVA_ACTIONS, actions_need_post=True, gates={}),
        "linuxserver": Proxy(
            "linuxserver",
            _TECNATIVA_ACTIONS | {"ALLOW_PAUSE": ("pause",), "ALLOW_UNPAUSE": ("unpause",)},
            actions_need_post=False,
            gates={
                "ALLOW_ARCHIVE": "archive",
                "ALLOW_CHANGES": "changes",
                "ALLOW_EXPORT": "export",
                "ALLOW_LOGS": "logs",
                "ALLOW_TOP": "top",
            },
        ),
    }
)

SURPRISES: tuple[tuple[str, str], ...] = (
    ("ContainerCreate", "Whoever may create a container is root on the host: nobody looks into the body."),
    ("ContainerExec", "Commands are made here (ContainerExec) and only started by what EXEC=1 opens."),
    ("ContainerArchive", "Files leave by it: ContainerArchive reads any file of a container and its volumes."),
    ("ContainerExport", "Files leave by it: ContainerExport is all of a container's file system."),
    ("ContainerInspect", "ContainerInspect tells environment variables, and the passwords in them."),
    ("ContainerAttachWebsocket", "ContainerAttachWebsocket is a GET, and all the same a tunnel to a standard input."),
    ("ContainerKill", "ContainerKill sends any signal."),
    ("ContainerAttach", "ContainerAttach is a tunnel: what flows in it is not judged."),
    ("ExecStart", "ExecStart is a tunnel: what flows in it is not judged."),
    ("Session", "Session is a tunnel: what flows in it is not judged."),
    ("Grpc", "Grpc is a tunnel: what flows in it is not judged."),
    ("ImageGet", "Files leave by it: ImageGet and ImageGetAll are whole images."),
    ("ImageBuild", "A build runs the commands of whoever asks for it."),
    ("ConfigInspect", "ConfigInspect tells what is in the files."),
    ("SwarmInspect", "SwarmInspect tells the join tokens: whoever has one becomes a node, or even a manager."),
    ("SwarmUnlockkey", "SwarmUnlockkey tells the key that a manager's own keys are encrypted with."),
    ("ServiceCreate", "Whoever may create a service is root on its nodes: nobody looks into the body."),
    ("ServiceUpdate", "Whoever may update a service is root on its nodes: nobody looks into the body."),
    ("PluginEnable", "Whoever may enable a plugin is root on the host, if the plugin asks for it."),
    ("VolumeCreate", "A volume may be any folder of the host."),
)
"""Operation -> what one should know where a setting opens it."""

_START_WITH_BODY = "A start with a body below API 1.24 is a creation as well: it passed there, and is denied here."

PODMAN = re.compile(r"LIBPOD_[A-Z_]+")
PODMAN_DEFAULTS = frozenset({"LIBPOD_PING", "LIBPOD_VERSION"})
"""Settings for Podman's own API, of which sockproxy knows no operation. Two are on in every image."""

ELSEWHERE = frozenset({"SOCKET_PATH", "LOG_LEVEL", "DISABLE_IPV6", "BIND_CONFIG"})
"""Settings that are no part of a policy."""

_OF_THE_IMAGE = re.compile(r"PATH|HOME|HOSTNAME|PWD|OLDPWD|SHLVL|TERM|_|container|HAPROXY_[A-Z0-9_]+")

_READING = ("GET", "HEAD")  # HAProxy's METH_GET is both
_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=(.*)", re.DOTALL)
_OF_COMPOSE = re.compile(
    r"""\s*(?:-\s+["']?([A-Za-z_][A-Za-z0-9_]*)=|([A-Za-z_][A-Za-z0-9_]*):\s+)["']?([^"'#]*?)["']?\s*(?:\s#.*)?"""
)
"""The same as it stands under `environment:` of a Compose file, as a list or as keys."""
_NUMBER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_SOCKET_PATH = "/var/run/docker.sock"


class Migration(NamedTuple):
    """What settings come to: rules, each setting that is on, and what has to be told. `is_whole`: nothing that they let pass
    is left out."""

    rules: tuple[WrittenRule, ...]
    settings: tuple[str, ...]
    notes: tuple[str, ...]
    is_whole: bool


def read_settings(text: str, file: str) -> dict[str, str]:
    """Lines of the form NAME=value, as `env` and `docker inspect` print them, or as they stand in a Compose file; the last one
    of a name counts. Raises ConfigError with all that are none."""
    settings: dict[str, str] = {}
    findings: list[Finding] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        setting = _SETTING.fullmatch(line)
        if setting is not None:
            settings[setting[1]] = setting[2]
        elif (setting := _OF_COMPOSE.fullmatch(line)) is not None:
            settings[setting[1] or setting[2]] = setting[3]
        elif line.strip() and not line.lstrip().startswith("#"):
            findings.append(Finding(file, number, "", f"{quoted(line)} is not of the form NAME=value"))
    if findings:
        raise ConfigError(tuple(findings))
    return settings


def migrate(proxy: Proxy, settings: Mapping[str, str], catalogue: Catalogue) -> Migration:
    """The rules that allow what the proxy let pass with these settings."""
    switches = dict.fromkeys(proxy.defaults, "1") | dict(settings)
    is_on = {name: means_on(value) for name, value in switches.items()}
    opened: dict[str, list[Operation]] = {
        name: [one for one in catalogue.operations.values() if _opens(proxy, name, one, is_on)]
        for name in (*proxy.actions, *SECTIONS)
        if is_on.get(name)
    }
    may_create = any(one.operation_id == "ContainerCreate" for ones in opened.values() for one in ones)
    podman = {name for name in settings if PODMAN.fullmatch(name) and is_on[name]} - PODMAN_DEFAULTS
    return Migration(
        rules=tuple(_rule(name, ones, may_create=may_create) for name, ones in opened.items() if ones),
        settings=tuple(name for name in known_settings(proxy) if is_on.get(name)),
        notes=(*_notes(proxy, settings, is_on), *_without_effect(proxy, is_on, opened)),
        is_whole=not podman or proxy.name != "linuxserver",
    )


def means_on(value: str) -> bool:
    """Whether HAProxy takes a value for true: the number that it begins with, if it does, is not 0. `true` is not."""
    number = _NUMBER.match(value)
    return number is not None and number[0].strip("+-0") != ""  # however long it is


def known_settings(proxy: Proxy) -> tuple[str, ...]:
    """The settings that open something, in the order of the documentation."""
    return ("POST", *proxy.actions, *proxy.gates, *SECTIONS)


def _opens(proxy: Proxy, name: str, operation: Operation, is_on: Mapping[str, bool]) -> bool:
    """Whether a setting that is on lets an operation pass, given the others."""
    has_method = operation.method in _READING or is_on.get("POST", False)
    first, _, behind = operation.path[1:].partition("/")
    action = behind.partition("/")[2] if first == "containers" else ""
    if name in proxy.actions:
        return action in proxy.actions[name] and (has_method or not proxy.actions_need_post)
    is_closed = any(action == part and not is_on.get(gate) for gate, part in proxy.gates.items())
    return first == SECTIONS[name] and has_method and not is_closed


def _rule(name: str, operations: Sequence[Operation], *, may_create: bool) -> WrittenRule:
    names = [one.operation_id for one in operations]
    needs_post = any(one.method not in _READING for one in operations)
    comments = [f"{name}=1{' and POST=1' if needs_post and name in SECTIONS else ''}"]
    comments += [text for operation_id, text in SURPRISES if operation_id in names]
    if "ContainerStart" in names and not may_create:
        comments.append(_START_WITH_BODY)
    return WrittenRule(names, comments)


def _notes(proxy: Proxy, settings: Mapping[str, str], is_on: Mapping[str, bool]) -> Iterator[str]:
    known = known_settings(proxy)
    for name, value in settings.items():
        if name in known and not is_on[name] and value not in ("0", ""):
            yield f"{name}={quoted(value)} was off: HAProxy takes numbers only, and 1 is on"
        elif name == "SOCKET_PATH" and value != _SOCKET_PATH:
            yield f"SOCKET_PATH is no part of a policy: serve --engine {quoted(f'unix://{value}')}"
        elif PODMAN.fullmatch(name) and proxy.name == "linuxserver":
            if is_on[name] and name not in PODMAN_DEFAULTS:
                yield f"{name} is left out: sockproxy knows no operations of Podman's own API"
        elif name not in known and name not in ELSEWHERE and not _OF_THE_IMAGE.fullmatch(name):
            yield f"{quoted(name)[1:-1]} is no setting of {proxy.name}, and had no effect{did_you_mean(name, known)}"


def _without_effect(
    proxy: Proxy, is_on: Mapping[str, bool], opened: Mapping[str, Sequence[Operation]]
) -> Iterator[str]:
    for name, operations in opened.items():
        if not operations:
            yield f"{name}=1 opens nothing without POST=1"
    for gate in proxy.gates:
        if is_on.get(gate) and not is_on.get("CONTAINERS"):
            yield f"{gate}=1 opens nothing without CONTAINERS=1"
