"""Fields: of what the bodies consist that pod security is asked about, and which of their fields nobody needs to restrict.

Owns that every field, and every parameter of a query, is known: what is neither here nor in `controls` is denied, so that
one of a newer engine passes only after somebody has looked at it. A test holds both against `sockproxy/data/bodies.json`.
Must not know what is allowed. Begin at `OPERATIONS`. Structs are named as in that file; `Resources` is what a HostConfig and
the body of an update have in common.
"""

from collections.abc import Mapping
from types import MappingProxyType

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "ContainerCreate": "ContainerCreateRequest",
        "ContainerStart": "ContainerStartRequest",
        "ContainerUpdate": "ContainerUpdateConfig",
        "ContainerExec": "ExecCreateRequest",
        "ServiceCreate": "ServiceWithLegacy",
        "ServiceUpdate": "ServiceWithLegacy",
        "VolumeCreate": "VolumeCreateRequest",
        "NetworkConnect": "ConnectRequest",
    }
)
"""What can be asked for power over the host: operationId -> its body. A commit is not among them: an image cannot hold any,
and what a container is made of is judged when it is made."""

QUERIES: Mapping[str, str] = MappingProxyType(
    {
        "ImageBuild": "ImageBuildQuery",
        "ContainerStart": "ContainerStartQuery",
        "ServiceUpdate": "ServiceUpdateQuery",
    }
)
"""The same with its query, whose parameters are fields like others. A build's body is an archive, which nobody looks into."""

REPEATED = frozenset({"t", "extrahosts", "securityopt"})
"""Parameters of which the engine takes every one; of others it takes the first."""

EMBEDDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ContainerCreateRequest": ("Config",),
        "HostConfig": ("Resources",),
        "ContainerUpdateConfig": ("Resources",),
    }
)
"""Structs whose fields are fields of another."""

HELD: Mapping[str, str] = MappingProxyType(
    {
        "ContainerCreateRequest.HostConfig": "HostConfig",
        "ContainerCreateRequest.NetworkingConfig": "NetworkingConfig",
        "ContainerStartRequest.HostConfig": "HostConfig",
        "ContainerUpdateConfig.RestartPolicy": "ContainerRestartPolicy",
        "Config.Healthcheck": "HealthcheckConfig",
        "HostConfig.LogConfig": "LogConfig",
        "HostConfig.Mounts": "[]Mount",
        "HostConfig.RestartPolicy": "ContainerRestartPolicy",
        "Resources.BlkioDeviceReadBps": "[]ThrottleDevice",
        "Resources.BlkioDeviceReadIOps": "[]ThrottleDevice",
        "Resources.BlkioDeviceWriteBps": "[]ThrottleDevice",
        "Resources.BlkioDeviceWriteIOps": "[]ThrottleDevice",
        "Resources.BlkioWeightDevice": "[]WeightDevice",
        "Resources.Ulimits": "[]Ulimit",
        "NetworkingConfig.EndpointsConfig": "{}EndpointSettings",
        "EndpointSettings.IPAMConfig": "EndpointIPAMConfig",
        "Mount.BindOptions": "BindOptions",
        "Mount.ImageOptions": "ImageOptions",
        "Mount.TmpfsOptions": "TmpfsOptions",
        "Mount.VolumeOptions": "VolumeOptions",
        "VolumeOptions.DriverConfig": "MountDriver",
        "ConnectRequest.EndpointConfig": "EndpointSettings",
        "ServiceWithLegacy.EndpointSpec": "EndpointSpec",
        "ServiceWithLegacy.Mode": "ServiceMode",
        "ServiceWithLegacy.Networks": "[]NetworkAttachmentConfig",
        "ServiceWithLegacy.RollbackConfig": "SwarmUpdateConfig",
        "ServiceWithLegacy.TaskTemplate": "TaskSpec",
        "ServiceWithLegacy.UpdateConfig": "SwarmUpdateConfig",
        "ServiceMode.Replicated": "ReplicatedService",
        "ServiceMode.ReplicatedJob": "ReplicatedJob",
        "TaskSpec.ContainerSpec": "ContainerSpec",
        "TaskSpec.LogDriver": "SwarmDriver",
        "TaskSpec.Networks": "[]NetworkAttachmentConfig",
        "TaskSpec.Placement": "Placement",
        "TaskSpec.Resources": "ResourceRequirements",
        "TaskSpec.RestartPolicy": "SwarmRestartPolicy",
        "ResourceRequirements.Limits": "Limit",
        "ResourceRequirements.Reservations": "Resources_",
        "Placement.Platforms": "[]Platform",
        "Placement.Preferences": "[]PlacementPreference",
        "PlacementPreference.Spread": "SpreadOver",
        "ContainerSpec.Configs": "[]SwarmConfigReference",
        "ContainerSpec.DNSConfig": "DNSConfig",
        "ContainerSpec.Healthcheck": "HealthcheckConfig",
        "ContainerSpec.Mounts": "[]Mount",
        "ContainerSpec.Privileges": "Privileges",
        "ContainerSpec.Secrets": "[]SecretReference",
        "ContainerSpec.Ulimits": "[]Ulimit",
        "Privileges.AppArmor": "AppArmorOpts",
        "Privileges.SELinuxContext": "SELinuxContext",
        "Privileges.Seccomp": "SeccompOpts",
        "SecretReference.File": "SecretReferenceFileTarget",
        "SwarmConfigReference.File": "ConfigReferenceFileTarget",
        "ImageBuildQuery.ulimits": "[]Ulimit",
    }
)
"""Fields that are structs, or lists (`[]`) or maps (`{}`) of them."""

_UNRESTRICTED = {
    "Config": "ArgsEscaped AttachStderr AttachStdin AttachStdout Cmd Domainname Entrypoint Env ExposedPorts"
    " Hostname Image Labels MacAddress NetworkDisabled OnBuild OpenStdin Shell StdinOnce StopSignal"
    " StopTimeout Tty Volumes WorkingDir",
    "HostConfig": "AutoRemove ConsoleSize ContainerIDFile Dns DnsOptions DnsSearch ExtraHosts GroupAdd Init"
    " ReadonlyRootfs ShmSize Tmpfs",
    "Resources": "BlkioBps BlkioIOps BlkioWeight CpuCount CpuPercent CpuPeriod CpuQuota CpuShares CpusetCpus"
    " CpusetMems DiskQuota IOMaximumBandwidth IOMaximumIOps KernelMemory KernelMemoryTCP Memory"
    " MemoryReservation MemorySwap MemorySwappiness NanoCpus PidsLimit SandboxSize",
    "ContainerRestartPolicy": "MaximumRetryCount Name",
    "HealthcheckConfig": "Interval Retries StartInterval StartPeriod Test Timeout",
    "ThrottleDevice": "Path Rate",
    "WeightDevice": "Path Weight",
    "Ulimit": "Hard Name Soft",
    "Mount": "ClusterOptions Consistency ReadOnly Source Target Type",
    "BindOptions": "CreateMountpoint NonRecursive ReadOnlyForceRecursive ReadOnlyNonRecursive",
    "ImageOptions": "Subpath",
    "TmpfsOptions": "Mode Options SizeBytes",
    "VolumeOptions": "Labels NoCopy Subpath",
    "MountDriver": "Name Options",
    "LogConfig": "Config Type",
    "EndpointSettings": "Aliases DNSNames EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen GwPriority IPAddress"
    " IPPrefixLen IPv6Gateway Links MacAddress NetworkID",
    "EndpointIPAMConfig": "IPv4Address IPv6Address LinkLocalIPs",
    "ConnectRequest": "Container",
    "ExecCreateRequest": "AttachStderr AttachStdin AttachStdout Cmd ConsoleSize Container Detach DetachKeys Env Tty WorkingDir",
    "VolumeCreateRequest": "Driver DriverOpts Labels Name",
    "ServiceWithLegacy": "Labels Name",
    "EndpointSpec": "Mode",
    "ServiceMode": "Global GlobalJob",
    "ReplicatedService": "Replicas",
    "ReplicatedJob": "MaxConcurrent TotalCompletions",
    "NetworkAttachmentConfig": "Aliases Target",
    "SwarmUpdateConfig": "Delay FailureAction MaxFailureRatio Monitor Order Parallelism",
    "TaskSpec": "ForceUpdate",
    "SwarmDriver": "Name Options",
    "SwarmRestartPolicy": "Condition Delay MaxAttempts Window",
    "ResourceRequirements": "MemorySwappiness SwapBytes",
    "Limit": "MemoryBytes NanoCPUs Pids",
    "Resources_": "MemoryBytes NanoCPUs",
    "Placement": "Constraints MaxReplicas",
    "Platform": "Architecture OS",
    "SpreadOver": "SpreadDescriptor",
    "ContainerSpec": "Args Command Dir Env Groups Hostname Hosts Image Init Labels OpenStdin ReadOnly StopGracePeriod"
    " StopSignal TTY",
    "DNSConfig": "Nameservers Options Search",
    "SwarmConfigReference": "ConfigID ConfigName Runtime",
    "ConfigReferenceFileTarget": "GID Mode Name UID",
    "SecretReference": "SecretID SecretName",
    "SecretReferenceFileTarget": "GID Mode Name UID",
    "ImageBuildQuery": "buildargs buildid cachefrom cpuperiod cpuquota cpusetcpus cpusetmems cpushares dockerfile extrahosts"
    " forcerm labels memory memswap nocache outputs platform pull q rm session shmsize squash t target version",
    "ContainerStartQuery": "detachKeys",
    "ServiceUpdateQuery": "registryAuthFrom version",
}
UNRESTRICTED: Mapping[str, frozenset[str]] = MappingProxyType(
    {struct: frozenset(names.split()) for struct, names in _UNRESTRICTED.items()}
)
"""Fields by which a container can do nothing to the host, or that a rule of the whole struct looks at."""

KNOWN_AS: Mapping[str, str] = MappingProxyType(
    {"Resources_": "Resources", "ContainerStartRequest": "ContainerCreateRequest"}
)
"""Structs that bodies.json knows by another name: of its two `Resources`, that is a service's."""
