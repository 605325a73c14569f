"""Operations on the engine itself: ping, version, info, the disk's usage, and those that it always refuses.

Owns what the demo engine says of itself: that it is a demo stands in the platform's name and the labels.
"""

from collections import Counter

from aiohttp import web

from sockproxy.operating.demo.api.answers import API_VERSION, API_VERSION_MIN, ENGINE_VERSION, HEADERS, json_answer
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.objects import describe, describe_images
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Json
from sockproxy.operating.demo.objects.times import rfc3339

PLATFORM = "sockproxy demo engine"
KERNEL = "6.1.0-demo"
MEMORY_BYTES = 8 << 30


_FIXED_INFO: Json = {
    "Driver": "overlay2", "DriverStatus": None,
    "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": None, "Log": ["json-file"]},
    "MemoryLimit": True, "SwapLimit": True, "KernelMemory": False, "KernelMemoryTCP": False, "CpuCfsPeriod": True,
    "CpuCfsQuota": True, "CPUShares": True, "CPUSet": True, "PidsLimit": True, "IPv4Forwarding": True,
    "BridgeNfIptables": True, "BridgeNfIp6tables": True, "Debug": False, "NFd": 0, "OomKillDisable": True,
    "NGoroutines": 0, "LoggingDriver": "json-file", "CgroupDriver": "none", "CgroupVersion": "2", "NEventsListener": 0,
    "KernelVersion": KERNEL, "OperatingSystem": PLATFORM, "OSVersion": "", "OSType": "linux", "Architecture": "x86_64",
    "IndexServerAddress": "https://index.docker.io/v1/",
    "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
    "NCPU": 2, "MemTotal": MEMORY_BYTES, "GenericResources": None, "DockerRootDir": describe.ROOT, "HttpProxy": "",
    "HttpsProxy": "", "NoProxy": "", "Name": "demo", "Labels": ["demo=true"], "ExperimentalBuild": False,
    "ServerVersion": ENGINE_VERSION, "Runtimes": {"runc": {"path": "runc"}}, "DefaultRuntime": "runc",
    "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
              "RemoteManagers": None},
    "LiveRestoreEnabled": False, "Isolation": "", "InitBinary": "docker-init", "ContainerdCommit": {"ID": "", "Expected": ""},
    "RuncCommit": {"ID": "", "Expected": ""}, "InitCommit": {"ID": "", "Expected": ""}, "SecurityOptions": [],
    "Warnings": None,
}  # fmt: skip
"""What an info holds besides what changes."""


async def ping(call: Call) -> web.StreamResponse:
    headers = {
        **HEADERS,
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
    }
    if call.request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": "0"})
    return web.Response(body=b"OK", headers=headers)


async def version(call: Call) -> web.StreamResponse:
    api, minimum = (".".join(map(str, each)) for each in (API_VERSION, API_VERSION_MIN))
    details = {
        "ApiVersion": api,
        "Arch": "amd64",
        "BuildTime": "2023-05-27T00:00:00.000000000+00:00",
        "Experimental": "false",
        "GitCommit": "demo",
        "GoVersion": "none",
        "KernelVersion": KERNEL,
        "MinAPIVersion": minimum,
        "Os": "linux",
    }
    document = {
        "Platform": {"Name": PLATFORM},
        "Components": [{"Name": "Engine", "Version": ENGINE_VERSION, "Details": details}],
        "Version": ENGINE_VERSION,
        **{name: value for name, value in details.items() if name != "Experimental"},
    }
    return await json_answer(call.request, document)


async def info(call: Call) -> web.StreamResponse:
    state = call.state
    statuses = Counter(container.status for container in state.containers.values())
    moving: Json = {
        "ID": ":".join(state.engine_id[at : at + 4].upper() for at in range(0, 32, 4)),
        "Containers": len(state.containers),
        "ContainersRunning": statuses["running"],
        "ContainersPaused": statuses["paused"],
        "ContainersStopped": len(state.containers) - statuses["running"] - statuses["paused"],
        "Images": len(state.images),
        "SystemTime": rfc3339(state.clock()),
    }
    return await json_answer(call.request, moving | _FIXED_INFO)


async def disk_usage(call: Call) -> web.StreamResponse:
    state = call.state
    containers = [describe.container_summary(state, each, with_size=True) for each in state.containers.values()]
    volumes = [
        {**describe.volume_document(each), "UsageData": {"RefCount": len(state.containers_with(each)), "Size": 0}}
        for each in state.volumes.values()
    ]
    document = {
        "LayersSize": sum(image.kind.size_bytes for image in state.images.values()),
        "Images": [
            describe_images.image_summary(state, each, counts_containers=True) for each in state.images.values()
        ],
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": None,
        "BuilderSize": 0,
    }
    return await json_answer(call.request, document)


async def prune_no_builds(call: Call) -> web.StreamResponse:
    return await json_answer(call.request, {"CachesDeleted": None, "SpaceReclaimed": 0})


async def no_plugins(call: Call) -> web.StreamResponse:
    return await json_answer(call.request, [])


async def no_such_plugin(call: Call) -> web.StreamResponse:
    raise Refused(404, f'plugin "{call.name.removesuffix("/json")}" not found')


async def not_a_manager(_call: Call) -> web.StreamResponse:
    """What every operation of a swarm is answered by an engine that is in none."""
    raise Refused(
        503,
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
        "and try again.",
    )


async def not_in_a_swarm(_call: Call) -> web.StreamResponse:
    raise Refused(503, "This node is not part of a swarm")


async def experimental(call: Call) -> web.StreamResponse:
    raise Refused(
        501,
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.",
    )
