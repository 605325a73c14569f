"""A create's body -> Config and HostConfig as the engine keeps and shows them.

Owns the fields with their defaults, the check of their types, and what an image adds. Values only. Begin at `config_of`
and `host_config_of`. Fields that the demo does not know are dropped.
"""

import copy
from collections.abc import Mapping
from typing import Any

from sockproxy.operating.demo.objects.images import Image, environment_of
from sockproxy.operating.demo.objects.refusals import Refused

Json = dict[str, Any]

_CONFIG: Json = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "ExposedPorts": {}, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": [], "Cmd": [], "Image": "",
    "Volumes": {}, "WorkingDir": "", "Entrypoint": [], "OnBuild": [], "Labels": {}, "StopSignal": "", "StopTimeout": 0,
}  # fmt: skip
_HOST_CONFIG: Json = {
    "Binds": [], "ContainerIDFile": "", "LogConfig": {}, "NetworkMode": "", "PortBindings": {}, "RestartPolicy": {},
    "AutoRemove": False, "VolumeDriver": "", "VolumesFrom": [], "CapAdd": [], "CapDrop": [], "CgroupnsMode": "",
    "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": [], "GroupAdd": [], "IpcMode": "", "Cgroup": "",
    "Links": [], "OomScoreAdj": 0, "PidMode": "", "Privileged": False, "PublishAllPorts": False,
    "ReadonlyRootfs": False, "SecurityOpt": [], "UTSMode": "", "UsernsMode": "", "ShmSize": 0, "Runtime": "",
    "ConsoleSize": [], "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
    "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": [],
    "DeviceRequests": [], "KernelMemory": 0, "KernelMemoryTCP": 0, "MemoryReservation": 0, "MemorySwap": 0,
    "MemorySwappiness": 0, "OomKillDisable": False, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0,
    "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": [], "ReadonlyPaths": [], "Mounts": [], "Tmpfs": {},
    "Sysctls": {}, "Init": False, "StorageOpt": {},
}  # fmt: skip
_EXEC_CONFIG: Json = {
    "Cmd": [], "Env": [], "User": "", "WorkingDir": "", "DetachKeys": "", "Tty": False, "Privileged": False,
    "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
}  # fmt: skip
_FILLED: Json = {
    "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "default", "PortBindings": {},
    "CgroupnsMode": "host", "IpcMode": "private", "ShmSize": 64 << 20, "Runtime": "runc", "ConsoleSize": [0, 0],
    "MaskedPaths": [
        "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    ],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
}  # fmt: skip
"""What the engine puts in for a missing or empty field; the other empty ones stay null, 0, false or ""."""
_LISTS_OF_TEXT = frozenset({"Env", "Cmd", "Entrypoint", "Binds", "CapAdd", "CapDrop", "Links", "SecurityOpt"})
_MAYBE_ONE = frozenset({"Cmd", "Entrypoint", "CapAdd", "CapDrop"})
"""Where the engine takes a text for a list of one."""
_ALWAYS_LISTS = frozenset({"Dns", "DnsOptions", "DnsSearch", "BlkioWeightDevice", "Devices"})
_NULL_FOR_NONE = ("MemorySwappiness", "PidsLimit")
_GO_TYPES = {bool: "bool", int: "int64", str: "string", list: "[]string", dict: "map[string]string"}
_JSON_TYPES = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}


def config_of(body: Mapping[str, Any], image: Image) -> Json:
    """The container's Config: what was asked for, over what the image brings. Raises Refused."""
    config = _typed(body, _CONFIG, "ContainerConfigWrapper")
    kind = image.kind
    if not config["Entrypoint"]:
        config["Entrypoint"] = list(kind.entrypoint) or None
        config["Cmd"] = config["Cmd"] or list(kind.command) or None
    given = {entry.partition("=")[0] for entry in config["Env"] or []}
    inherited = [entry for entry in environment_of(kind) if entry.partition("=")[0] not in given]
    config["Env"] = [*(config["Env"] or []), *inherited]
    ports = {**{port: {} for port in kind.ports}, **(config["ExposedPorts"] or {})}
    config["ExposedPorts"] = {port: {} for port in ports}
    volumes = {**{path: {} for path in kind.volumes}, **(config["Volumes"] or {})}
    config["Volumes"] = volumes or None
    config["Labels"] = config["Labels"] or {}
    config["StopSignal"] = config["StopSignal"] or kind.stop_signal
    if not (config["Entrypoint"] or config["Cmd"]):
        raise Refused(400, "No command specified")
    return _without(config, ("ExposedPorts", "StopSignal", "StopTimeout"))


def host_config_of(body: Mapping[str, Any]) -> Json:
    """The container's HostConfig; without one in the body its fields count at the top. Raises Refused."""
    inner = body.get("HostConfig")
    if inner is not None and not isinstance(inner, dict):
        raise _wrong_type("ContainerConfigWrapper.HostConfig", inner, "container.HostConfig")
    host = _typed(body if inner is None else inner, _HOST_CONFIG, "HostConfig.HostConfig")
    for name, value in _FILLED.items():
        if not host[name] or host[name] == {"Type": "", "Config": {}}:
            host[name] = copy.deepcopy(value)
    host["RestartPolicy"] = restart_policy_of(host)
    for name in _ALWAYS_LISTS:
        host[name] = host[name] or []
    for name in _NULL_FOR_NONE:
        host[name] = host[name] or None
    return _without(host, ("Mounts", "Tmpfs", "Sysctls", "Init", "StorageOpt"))


def restart_policy_of(body: Mapping[str, Any]) -> Json:
    """The RestartPolicy of a body, `no` where there is none. Raises Refused."""
    policy = _typed(body, {"RestartPolicy": {}}, "HostConfig")["RestartPolicy"] or {}
    typed = _typed(policy, {"Name": "", "MaximumRetryCount": 0}, "RestartPolicy")
    return {**typed, "Name": typed["Name"] or "no"}


def network_names_of(body: Mapping[str, Any]) -> list[str]:
    """The networks of a NetworkingConfig. Raises Refused."""
    networking = _typed(body, {"NetworkingConfig": {}}, "ContainerConfigWrapper")["NetworkingConfig"] or {}
    return list(_typed(networking, {"EndpointsConfig": {}}, "NetworkingConfig")["EndpointsConfig"] or {})


def text_of(body: Mapping[str, Any], name: str) -> str:
    """A text of a body, empty where it is missing. Raises Refused."""
    return str(_typed(body, {name: ""})[name])


def texts_of(body: Mapping[str, Any], name: str) -> dict[str, str] | None:
    """A map of texts. Raises Refused."""
    found = _typed(body, {name: {}})[name]
    return found and {str(key): str(value) for key, value in found.items()}


def flag_of(body: Mapping[str, Any], name: str) -> bool:
    """A yes or no of a body. Raises Refused."""
    return bool(_typed(body, {name: False})[name])


def exec_config_of(body: Mapping[str, Any]) -> Json:
    """The fields of an exec. Raises Refused."""
    try:
        config = _typed(body, _EXEC_CONFIG, "ExecConfig")
    except Refused as refused:
        raise Refused(400, refused.message) from None
    if not config["Cmd"]:
        raise Refused(400, "No exec command specified")
    return {**config, "Env": config["Env"] or []}


def _typed(body: Mapping[str, Any], fields: Mapping[str, Any], owner: str = "Request") -> Json:
    """The known fields of a body; lists and maps that are missing or empty are null, as Go keeps them."""
    typed: Json = {}
    for name, default in fields.items():
        value = body.get(name)
        if isinstance(value, str) and name in _MAYBE_ONE and owner != "ExecConfig":
            value = [value]
        if value is None:
            value = default
        elif type(value) is not type(default):
            raise _wrong_type(f"{owner}.{name}", value, _GO_TYPES[type(default)])
        if name in _LISTS_OF_TEXT and not all(isinstance(entry, str) for entry in value):
            raise _wrong_type(f"{owner}.{name}", next(entry for entry in value if not isinstance(entry, str)), "string")
        typed[name] = copy.deepcopy(value) if value or not isinstance(value, list | dict) else None
    return typed


def _without(fields: Json, names: tuple[str, ...]) -> Json:
    """Leaves out the named fields where they are empty, as the engine does (`omitempty`) or so that nobody misses them."""
    return {name: value for name, value in fields.items() if value or name not in names}


def _wrong_type(name: str, value: object, wanted: str) -> Refused:
    kind = _JSON_TYPES.get(type(value), "null")
    return Refused(500, f"json: cannot unmarshal {kind} into Go struct field {name} of type {wanted}")
