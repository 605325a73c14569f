"""How things look: containers, execs, networks and volumes as the JSON documents of the API.

Owns the shapes, which are those of dockerd 20.10 (API 1.41). Reads `state` and changes nothing. Must not know HTTP.
"""

from typing import Any

from sockproxy.operating.demo.objects.lifecycle import processes_of
from sockproxy.operating.demo.objects.state import Container, Endpoint, Exec, Json, Network, State, Volume
from sockproxy.operating.demo.objects.times import SECOND_NS, age, rfc3339
from sockproxy.operating.demo.programs.process import Process

ROOT = "/var/lib/docker"
_OF_THE_BRIDGE = (
    "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway",
    "MacAddress",
)  # fmt: skip
"""What of the default network's endpoint stands at the top, too."""
_UNBOUND: dict[str, str] = {}


def container_document(state: State, container: Container, *, with_size: bool = False) -> Json:
    """The answer of an inspect."""
    process, home = container.process, f"{ROOT}/containers/{container.id}"
    return {
        "Id": container.id,
        "Created": rfc3339(container.created_ns),
        "Path": process.arguments[0],
        "Args": list(process.arguments[1:]),
        "State": _state_document(container),
        "Image": container.image.id,
        "ResolvConfPath": f"{home}/resolv.conf",
        "HostnamePath": f"{home}/hostname",
        "HostsPath": f"{home}/hosts",
        "LogPath": f"{home}/{container.id}-json.log",
        "Name": f"/{container.name}",
        "RestartCount": container.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": [id for id, each in state.execs.items() if each.container is container and each.is_running] or None,
        "HostConfig": container.host_config,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        **(_sizes(container) if with_size else {}),
        "Mounts": mounts(container),
        "Config": {**container.config, "Image": container.image_name},
        "NetworkSettings": _network_settings(state, container),
    }


def _state_document(container: Container) -> Json:
    return {
        "Status": container.status,
        "Running": container.is_running or container.status == "restarting",
        "Paused": container.status == "paused",
        "Restarting": container.status == "restarting",
        "OOMKilled": False,
        "Dead": False,
        "Pid": container.process.host_pid if container.is_running else 0,
        "ExitCode": container.exit_code,
        "Error": container.fault,
        "StartedAt": rfc3339(container.started_ns),
        "FinishedAt": rfc3339(container.finished_ns),
    }


def _sizes(container: Container) -> Json:
    written = container.files.written_bytes
    return {"SizeRw": written, "SizeRootFs": container.image.kind.size_bytes + written}


def _network_settings(state: State, container: Container) -> Json:
    endpoints = {name: _endpoint(state, container, name, endpoint) for name, endpoint in container.endpoints.items()}
    empty = _endpoint(state, container, "", Endpoint("", ""))
    return {
        "Bridge": "",
        "SandboxID": container.id if container.is_running else "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": _port_map(container) if container.is_running else {},
        "SandboxKey": f"/var/run/docker/netns/{container.id[:12]}" if container.is_running else "",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: endpoints.get("bridge", empty)[name] for name in _OF_THE_BRIDGE},
        "Networks": endpoints,
    }


def _endpoint(state: State, container: Container, name: str, endpoint: Endpoint) -> Json:
    network = next((each for each in state.networks.values() if each.name == name), None)
    is_up = container.is_running and bool(endpoint.address)
    address = endpoint.address if is_up else ""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None if name in ("", "bridge", "host", "none") else list(endpoint.aliases),
        "NetworkID": network.id if network else "",
        "EndpointID": endpoint.id if container.is_running else "",
        "Gateway": _gateway(network) if network and is_up else "",
        "IPAddress": address,
        "IPPrefixLen": 16 if is_up else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "02:42:" + ":".join(f"{int(part):02x}" for part in address.split(".")) if address else "",
        "DriverOpts": None,
    }


def _gateway(network: Network) -> str:
    return f"{network.subnet.rpartition('.')[0]}.1" if network.subnet else ""


def _port_map(container: Container) -> dict[str, Any]:
    """Port -> the host's ports, as asked for; the demo opens none of them."""
    bound = container.host_config["PortBindings"]
    exposed = container.config.get("ExposedPorts", {})
    return {port: _bindings(bound.get(port)) for port in sorted({*exposed, *bound})}


def _bindings(asked: Any) -> list[dict[str, str]] | None:
    if not isinstance(asked, list) or not asked:
        return None
    given = [each for each in asked if isinstance(each, dict)]
    return [
        {"HostIp": str(each.get("HostIp") or "0.0.0.0"), "HostPort": str(each.get("HostPort") or "32768")}  # noqa: S104 - shown, not bound
        for each in given
    ]


def mounts(container: Container) -> list[Json]:
    """The volumes and binds of a container."""
    found = []
    for bind in container.host_config["Binds"] or []:
        source, target, mode = [*str(bind).split(":"), "", ""][:3]
        found.append(_mount(source, target, mode))
    for mount in container.host_config.get("Mounts") or []:
        if isinstance(mount, dict):
            found.append(
                _mount(
                    str(mount.get("Source", "")), str(mount.get("Target", "")), "ro" if mount.get("ReadOnly") else ""
                )
            )
    return found


def _mount(source: str, target: str, mode: str) -> Json:
    is_volume = not source.startswith("/")
    named: Json = {"Name": source, "Driver": "local"} if is_volume else {}
    return {
        "Type": "volume" if is_volume else "bind",
        **named,
        "Source": f"{ROOT}/volumes/{source}/_data" if is_volume else source,
        "Destination": target,
        "Mode": mode,
        "RW": "ro" not in mode.split(","),
        "Propagation": "" if is_volume else "rprivate",
    }


def container_summary(state: State, container: Container, *, with_size: bool = False) -> Json:
    """One entry of the list."""
    arguments = container.process.arguments
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.image_name,
        "ImageID": container.image.id,
        "Command": " ".join([arguments[0], *(f"'{word}'" if " " in word else word for word in arguments[1:])]),
        "Created": container.created_ns // SECOND_NS,
        "Ports": _ports(container),
        **(_sizes(container) if with_size else {}),
        "Labels": container.config["Labels"],
        "State": container.status,
        "Status": status_text(container, state.clock()),
        "HostConfig": {"NetworkMode": container.host_config["NetworkMode"]},
        "NetworkSettings": {"Networks": _network_settings(state, container)["Networks"]},
        "Mounts": mounts(container),
    }


def _ports(container: Container) -> list[Json]:
    found: list[Json] = []
    for port, bindings in (_port_map(container) if container.is_running else {}).items():
        number, _, protocol = port.partition("/")
        private = {"PrivatePort": int(number) if number.isdigit() else 0, "Type": protocol or "tcp"}
        for binding in bindings or [_UNBOUND]:
            public = (
                {"IP": binding["HostIp"], "PublicPort": int(binding["HostPort"])}
                if binding and binding["HostPort"].isdigit()
                else {}
            )
            found.append({**public, **private})
    return found


def status_text(container: Container, now_ns: int) -> str:
    """What `docker ps` shows as status."""
    up, down = age(now_ns - container.started_ns), age(now_ns - container.finished_ns)
    texts = {
        "created": "Created",
        "running": f"Up {up}",
        "paused": f"Up {up} (Paused)",
        "restarting": f"Restarting ({container.exit_code}) {down} ago",
        "exited": f"Exited ({container.exit_code}) {down} ago",
    }
    return texts[container.status]


def top_document(container: Container, now_ns: int, *, is_bsd: bool) -> Json:
    """The processes, in the columns of `ps -ef` or `ps aux`."""
    titles = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND" if is_bsd else "UID PID PPID C STIME TTY TIME CMD"
    return {
        "Processes": [_top_line(process, now_ns, is_bsd) for process in processes_of(container)],
        "Titles": titles.split(),
    }


def _top_line(process: Process, now_ns: int, is_bsd: bool) -> list[str]:
    tty, command = "pts/0" if process.terminal else "?", " ".join(process.arguments)
    started = rfc3339(process.started_ns or now_ns)[11:16]
    if is_bsd:
        return [process.user, str(process.host_pid), "0.0", "0.0", "4400", "640", tty, "Ss", started, "0:00", command]
    return [process.user, str(process.host_pid), "4000", "0", started, tty, "00:00:00", command]


def exec_document(instance: Exec) -> Json:
    """The answer of an exec's inspect."""
    config, process = instance.config, instance.process
    return {
        "ID": instance.id,
        "Running": instance.is_running,
        "ExitCode": instance.exit_code,
        "ProcessConfig": {
            "tty": config["Tty"],
            "entrypoint": config["Cmd"][0],
            "arguments": config["Cmd"][1:],
            "privileged": config["Privileged"],
            **({"user": config["User"]} if config["User"] else {}),
        },
        "OpenStdin": config["AttachStdin"],
        "OpenStderr": config["AttachStderr"],
        "OpenStdout": config["AttachStdout"],
        "CanRemove": False,
        "ContainerID": instance.container.id,
        "DetachKeys": config["DetachKeys"],
        "Pid": process.host_pid if process else 0,
    }


def network_document(state: State, network: Network) -> Json:
    """A network with the containers that run in it."""
    config = [{"Subnet": network.subnet, "Gateway": _gateway(network)}] if network.subnet else []
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": config},
        "Internal": network.is_internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container.id: _member(state, container, network)
            for container in state.containers_in(network)
            if container.is_running
        },
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _member(state: State, container: Container, network: Network) -> Json:
    endpoint = _endpoint(state, container, network.name, container.endpoints[network.name])
    return {
        "Name": container.name,
        "EndpointID": endpoint["EndpointID"],
        "MacAddress": endpoint["MacAddress"],
        "IPv4Address": f"{endpoint['IPAddress']}/16" if endpoint["IPAddress"] else "",
        "IPv6Address": "",
    }


def volume_document(volume: Volume) -> Json:
    """A volume."""
    return {
        "CreatedAt": rfc3339(volume.created_ns // SECOND_NS * SECOND_NS),
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": f"{ROOT}/volumes/{volume.name}/_data",
        "Name": volume.name,
        "Options": volume.options,
        "Scope": "local",
    }
