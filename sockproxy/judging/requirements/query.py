"""`query`: what the parameters of a request may be.

Owns which operations have parameters. Must not know what a parameter means: a switch is text here (`1`, `true`, `True`, and
whatever else the engine takes for a yes). Begin at `make_query`. An absent parameter is read as the engine reads it, as
"": a pattern that takes nothing but values requires the parameter.
"""

from collections.abc import Collection, Mapping

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.globs import Globs
from sockproxy.judging.requirements.wording import is_value, shown

OPERATIONS = frozenset(
    {
        *("ContainerList", "ContainerCreate", "ContainerInspect", "ContainerTop", "ContainerLogs"),
        *("ContainerStats", "ContainerResize", "ContainerStart", "ContainerStop", "ContainerRestart"),
        *("ContainerKill", "ContainerRename", "ContainerAttach", "ContainerAttachWebsocket", "ContainerWait"),
        *("ContainerDelete", "ContainerArchiveInfo", "ContainerArchive", "PutContainerArchive", "ContainerPrune"),
        *("CheckpointList", "CheckpointDelete", "ExecResize", "ImageList", "ImageBuild", "ImageCreate"),
        *("ImageInspect", "ImageHistory", "ImagePush", "ImageTag", "ImageDelete", "ImageSearch", "ImagePrune"),
        *("ImageCommit", "ImageGet", "ImageGetAll", "ImageLoad", "ImageAttestations", "BuildPrune", "BuildCancel"),
        *("NetworkList", "NetworkInspect", "NetworkPrune", "VolumeList", "VolumeDelete", "VolumePrune"),
        *("VolumeUpdate", "SystemEvents", "SystemDataUsage", "PluginList", "GetPluginPrivileges", "PluginPull"),
        *("PluginDelete", "PluginEnable", "PluginDisable", "PluginCreate", "PluginUpgrade", "SwarmLeave"),
        *("SwarmUpdate", "NodeList", "NodeDelete", "NodeUpdate", "ServiceList", "ServiceInspect", "ServiceUpdate"),
        *("ServiceLogs", "TaskList", "TaskLogs", "SecretList", "SecretUpdate", "ConfigList", "ConfigUpdate"),
    }
)

CAN_BE_SECRET = frozenset({"buildargs", "changes", "fromSrc", "outputs", "remote"})
"""What is in them goes to no log: variables of a build, and addresses, which may have a password. As in `secrets.json`."""


def alternatives(pattern: str) -> Globs:
    """The patterns that are parted by `|`, one of which has to fit. An empty one fits what is absent."""
    return Globs(pattern.split("|"))


def make_query(required: Mapping[str, str], _others: Collection[str] = ()) -> Check:
    """That every value of each parameter fits."""
    fitting = {name: alternatives(pattern) for name, pattern in required.items()}

    def check(facts: Facts) -> Unmet | None:
        for name, globs in fitting.items():
            for value in facts.query.every(name) or ("",):
                if not globs.fit(value):
                    told = "has another value" if name in CAN_BE_SECRET and value else is_value(value)
                    return Unmet(f"query.{name}", f"{told}; query requires {shown(required[name])}")
        return None

    return check


KIND = Kind(OPERATIONS, make_query, reads_body=lambda _required: False)
