"""Controls: the table of pod security. Which fields each control of the standards concerns, and what is allowed there.

Owns what is allowed, and which key beside `pod_security` takes a field over. Must not know how a body is walked. Begin at
`CONTROLS`. A field is named by its struct in `sockproxy/data/bodies.json`; a struct alone stands for the whole of it, where one
field decides about another. What the Standards do not know has the reason at its row.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from sockproxy.judging.requirements.pod_security.rules import (
    ABSENT,
    ANYTHING,
    DROPS_ALL,
    EMPTY,
    FALSE,
    NO_KEYS,
    NOT_SET,
    PROPAGATIONS,
    STAYS_UNPRIVILEGED,
    UNSET,
    ZERO,
    Found,
    Rule,
    both,
    capabilities,
    driver,
    each,
    is_any_bind,
    is_device_limit,
    is_network,
    is_network_or_host,
    is_not_root,
    is_volume_bind,
    keys,
    log_config,
    mount,
    one_of,
    required,
    satisfies,
    security_options,
)

Level = Literal["baseline", "restricted"]
LEVELS: tuple[Level, ...] = ("baseline", "restricted")


class Control(NamedTuple):
    """What is allowed in some fields."""

    name: str
    fields: tuple[str, ...]
    baseline: Rule
    restricted: Rule | None = None
    """None: as in baseline."""
    relaxed: Mapping[str, Rule] = MappingProxyType({})
    """Key of `require:` -> what is allowed besides when it stands there, too: it judges that itself."""
    spelt: str = ""
    """For people: the forms of a value that are one and the same."""
    why: str = ""
    """For people: where the Standards are silent, or are not followed to the letter."""


_DEFAULT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout"),
    *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"),
    *("net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem", "net.ipv4.tcp_slow_start_after_idle"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"),
)
_SELINUX_TYPES = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_SECURITY_OPTIONS = ("apparmor=docker-default", *(f"label=type:{each}" for each in _SELINUX_TYPES))
_SCHEDULING = frozenset({"RTPRIO", "NICE"})  # moby, daemon/oci_linux.go: names are read in upper case

_NETWORK = satisfies("a network other than host", is_network)
_NETWORK_OR_HOST = satisfies("a network", is_network_or_host)
# What the docker command says of a context that it sends itself: by BuildKit's session, or by another request.
_OWN_CONTEXT = Rule(
    'a context that the client sends: "", "client-session" or "upload-request"',
    lambda value: Found("", "names another") if value and value not in ("client-session", "upload-request") else None,
)
_NETWORKS = keys("networks other than host", is_network)
_NETWORKS_OR_HOST = keys("networks", is_network_or_host)
_NONE_NAMED = satisfies("no network but the default one", lambda _: False)
_ADDS_DEFAULTS = capabilities(*_DEFAULT_CAPABILITIES)
_ADDS_NET_BIND = capabilities("NET_BIND_SERVICE")
_PLAIN, _BINDING, _FOREIGN = driver("Name", "Options")
_PLAIN_VOLUME, _BINDING_VOLUME, _FOREIGN_VOLUME = driver("Driver", "DriverOpts")
_OWN_LOG, _FOREIGN_LOG = log_config("Type", "Config")
_OWN_TASK_LOG, _FOREIGN_TASK_LOG = log_config("Name", "Options")
_ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"
_ANY_SECURITY = security_options(*_SECURITY_OPTIONS)
_NOT_ROOT = satisfies("absent, or a number other than 0", is_not_root)
_MUST_NOT_BE_ROOT = required("a number other than 0", is_not_root)


def _under(key: str, rule: Rule = ANYTHING) -> Mapping[str, Rule]:
    return MappingProxyType({key: rule})


CONTROLS: tuple[Control, ...] = (
    Control(
        "Host namespaces",
        ("HostConfig.NetworkMode", "ImageBuildQuery.networkmode"),
        _NETWORK,
        relaxed=_under("networks", _NETWORK_OR_HOST),
        spelt="`host`, `container:x`, `ns:/path`, a network's name or id",
        why="An id of the host's network gives a namespace of its own. `container:x` counts as what `x` has itself, and the"
        " host's is denied there under every key; of a build it is denied, and `ns:` always.",
    ),
    Control(
        "Host namespaces",
        ("ImageBuildQuery.remote",),
        _OWN_CONTEXT,
        relaxed=_under("query.remote"),
        why="The engine fetches a context from elsewhere itself, in the host's network. So it does what a Dockerfile's `ADD`"
        " names, which is not seen.",
    ),
    Control(
        "Host namespaces",
        ("NetworkingConfig.EndpointsConfig",),
        _NETWORKS,
        relaxed=_under("networks", _NETWORKS_OR_HOST),
    ),
    Control(
        "Host namespaces",
        ("ServiceWithLegacy.Networks", "TaskSpec.Networks"),
        _NONE_NAMED,
        relaxed=_under("networks"),
        why="Docker's own clients name a service's networks by their ids, and the host's has one, too.",
    ),
    Control(
        "Host namespaces",
        ("HostConfig.PidMode", "HostConfig.UTSMode", "HostConfig.UsernsMode"),
        UNSET,
        why="PidMode `container:x` is allowed where `x` itself meets all of this table: whoever shares its processes has its"
        " files and powers.",
    ),
    Control("Host namespaces", ("HostConfig.IpcMode",), one_of("private", "shareable", "none")),
    Control("Host namespaces", ("HostConfig.CgroupnsMode",), one_of("private")),
    Control(
        "Privileged containers",
        ("HostConfig.Privileged", "ExecCreateRequest.Privileged"),
        FALSE,
    ),
    Control(
        "Capabilities",
        ("HostConfig.CapAdd", "HostConfig.Capabilities", "ContainerSpec.CapabilityAdd"),
        _ADDS_DEFAULTS,
        _ADDS_NET_BIND,
        _under("capabilities"),
        "in any case, with CAP_ or without; ALL; a string for a list of one",
        "`Capabilities` is of API 1.40 alone.",
    ),
    Control(
        "Capabilities",
        ("HostConfig.CapDrop", "ContainerSpec.CapabilityDrop"),
        ANYTHING,
        DROPS_ALL,
        spelt="in any case; a string for a list of one",
    ),
    Control(
        "Host path volumes",
        ("HostConfig.Binds",),
        each("volumes alone (`name:/path`, `/path`)", is_volume_bind),
        relaxed=_under("bind_sources", each("volumes, and host paths without shared propagation", is_any_bind)),
        spelt="`/host:/path`, `/host:/path:options`; what begins otherwise is a volume's name",
    ),
    Control(
        "Host path volumes, volume types",
        ("Mount",),
        mount("volume", "tmpfs", "image"),
        mount("volume", "tmpfs"),
        _under("bind_sources", mount("bind")),
        why="`npipe` and `cluster` are denied under every key.",
    ),
    Control("Host path volumes", ("BindOptions.Propagation",), one_of(*PROPAGATIONS)),
    Control(
        "Host path volumes",
        ("MountDriver",),
        _PLAIN,
        relaxed=MappingProxyType({"bind_sources": _BINDING, "volume_drivers": _FOREIGN}),
        why="The local driver's options mount whatever they name: host paths, devices, shares of other machines.",
    ),
    Control(
        "Host path volumes",
        ("VolumeCreateRequest",),
        _PLAIN_VOLUME,
        relaxed=MappingProxyType({"bind_sources": _BINDING_VOLUME, "volume_drivers": _FOREIGN_VOLUME}),
    ),
    Control(
        "Host path volumes",
        ("VolumeCreateRequest.ClusterVolumeSpec",),
        NOT_SET,
    ),
    Control(
        "Host path volumes",
        ("HostConfig.VolumesFrom",),
        EMPTY,
        why="Each mount of the other container counts as a mount of this one.",
    ),
    Control(
        "Host ports",
        ("HostConfig.PortBindings",),
        EMPTY,
        relaxed=_under("ports"),
        why="Newer engines choose a port for one without a binding.",
    ),
    Control("Host ports", ("HostConfig.PublishAllPorts",), FALSE, relaxed=_under("ports")),
    Control("Host ports", ("EndpointSpec.Ports",), EMPTY, relaxed=_under("ports")),
    Control(
        "AppArmor, SELinux, seccomp",
        ("HostConfig.SecurityOpt",),
        _ANY_SECURITY,
        both("the same, and no-new-privileges that no later one undoes", _ANY_SECURITY, STAYS_UNPRIVILEGED),
        spelt="`key=value`, `key:value`; `no-new-privileges` alone, `=true`, `=1`, `=t`, ...; `disable` alone",
        why="Exact strings. Without one the engine's own AppArmor, SELinux and seccomp settings hold, and `seccomp=` or another"
        " AppArmor profile could only weaken them; SELinux levels are denied, since they open other containers' files."
        " Restricted is the control of privilege escalation.",
    ),
    Control(
        "AppArmor, SELinux, seccomp",
        ("ImageBuildQuery.securityopt",),
        EMPTY,
        why="Engines on Linux take none.",
    ),
    Control("AppArmor", ("AppArmorOpts.Mode",), one_of("default")),
    Control("SELinux", ("SELinuxContext.Disable",), FALSE),
    Control("SELinux", ("SELinuxContext.Type",), one_of(*_SELINUX_TYPES)),
    Control("SELinux", ("SELinuxContext.Level", "SELinuxContext.Role", "SELinuxContext.User"), UNSET),
    Control("/proc mount type", ("HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths"), ABSENT),
    Control("Seccomp", ("SeccompOpts.Mode",), one_of("default")),
    Control("Seccomp", ("SeccompOpts.Profile",), UNSET),
    Control(
        "Sysctls",
        ("HostConfig.Sysctls", "ContainerSpec.Sysctls"),
        keys(", ".join(_SYSCTLS), frozenset(_SYSCTLS).__contains__),
        relaxed=_under("sysctls"),
    ),
    Control(
        "Privilege escalation",
        ("Privileges.NoNewPrivileges",),
        ANYTHING,
        required("true", bool),
    ),
    Control(
        "Running as non-root",
        ("Config.User", "ContainerSpec.User"),
        ANYTHING,
        _MUST_NOT_BE_ROOT,
        _under("users"),
        "`1000`, `1000:100`, `1000:users`",
        "A number, since a name is whatever the image's passwd file makes of it; a number stays, even where that file has a"
        " user of this name. The group may be any, as in the Standards.",
    ),
    Control(
        "Running as non-root, capabilities",
        ("ImageBuildQuery",),
        ANYTHING,
        Rule("a container that is hardened, which none of a build is", lambda _: Found("", "is that of a build")),
        why="What a build runs has the engine's own capabilities, and is root unless its Dockerfile says otherwise.",
    ),
    Control("Running as non-root", ("ExecCreateRequest.User",), ANYTHING, _NOT_ROOT, _under("users")),
    Control(
        "Devices",
        ("Resources.Devices", "Resources.DeviceCgroupRules", "Resources.DeviceRequests"),
        EMPTY,
        relaxed=_under("devices"),
    ),
    Control("Devices", ("Resources_.GenericResources", "Limit.GenericResources"), EMPTY),
    Control(
        "Devices",
        ("ThrottleDevice", "WeightDevice"),
        satisfies("a limit of a device in /dev", is_device_limit),
        why="They slow down the container alone.",
    ),
    Control(
        "Ulimits",
        ("Ulimit",),
        satisfies("any but rtprio and nice", lambda limit: limit.get("Name", "").upper() not in _SCHEDULING),
        EMPTY,
        why="Kubernetes denies all in baseline from 1.37 on. Docker has always had them, and databases need some; these two put"
        " a container before the host's own processes.",
    ),
    Control(
        "Control groups",
        ("Resources.CgroupParent", "ImageBuildQuery.cgroupparent"),
        UNSET,
        why="Docker's own: leaves the limits and the sight of its group.",
    ),
    Control("Control groups", ("HostConfig.Cgroup",), UNSET, why="Docker's own."),
    Control(
        "Runtime",
        ("HostConfig.Runtime",),
        UNSET,
        relaxed=_under("runtimes"),
        why="Docker's own. The engine's default may be a sandbox that any named runtime leaves, `runc` too.",
    ),
    Control(
        "Runtime", ("TaskSpec.Runtime",), one_of("container"), why="Docker's own: a plugin runs as root on the host."
    ),
    Control("Runtime", ("TaskSpec.PluginSpec", "TaskSpec.NetworkAttachmentSpec"), NOT_SET),
    Control("Runtime", ("HostConfig.Annotations",), NO_KEYS, why="Docker's own: runtimes and their plugins obey some."),
    Control(
        "Runtime",
        ("HostConfig.Isolation", "ContainerSpec.Isolation", "ImageBuildQuery.isolation"),
        one_of("default"),
    ),
    Control(
        "What is not in the request",
        ("ServiceUpdateQuery.rollback",),
        one_of("none"),
        why="Docker's own: the engine takes the service's earlier spec in the place of the one in the body.",
    ),
    Control(
        "What is not in the request",
        ("ContainerStartQuery.checkpoint", "ContainerStartQuery.checkpoint-dir"),
        UNSET,
        why="Docker's own: the process comes out of a directory, with whatever powers are recorded there. Either parameter can"
        " lead to any directory of the host.",
    ),
    Control(
        "Runtime", ("HostConfig.InitPath",), UNSET, why="Docker's own: a program of the host, in API 1.25 to 1.28."
    ),
    Control("Runtime", ("HostConfig.LxcConf",), EMPTY, why="Docker's own, of API 1.21 and older: raw settings of LXC."),
    Control("Runtime", ("Privileges.CredentialSpec",), NOT_SET, why="Docker's own, of Windows: a host's file."),
    Control(
        "Host's resources",
        ("HostConfig.OomScoreAdj", "ContainerSpec.OomScoreAdj"),
        satisfies("0 or more", lambda score: score > 0),
        why="Docker's own: below 0 others are killed first.",
    ),
    Control("Host's resources", ("Resources.OomKillDisable",), FALSE, why="Docker's own."),
    Control(
        "Host's resources",
        ("Resources.CpuRealtimePeriod", "Resources.CpuRealtimeRuntime"),
        ZERO,
        why="Docker's own: real-time processes go before the host's.",
    ),
    Control(
        "Host's resources",
        ("HostConfig.StorageOpt",),
        keys("size", frozenset({"size"}).__contains__),
        why="Docker's own: options of the storage driver.",
    ),
    Control(
        "Logging",
        ("LogConfig",),
        _OWN_LOG,
        relaxed=_under("log_drivers", _FOREIGN_LOG),
        why="Docker's own: the engine itself connects to where another driver sends, and reads files that options name.",
    ),
    Control("Logging", ("SwarmDriver",), _OWN_TASK_LOG, relaxed=_under("log_drivers", _FOREIGN_TASK_LOG)),
    Control(
        "Volume drivers",
        ("HostConfig.VolumeDriver",),
        one_of("local"),
        relaxed=_under("volume_drivers"),
        why="Docker's own: a driver is a program on the host, and can mount anything.",
    ),
    Control(
        "Networking",
        ("EndpointSettings.DriverOpts", "NetworkAttachmentConfig.DriverOpts"),
        NO_KEYS,
        relaxed=_under("sysctls", keys(_ENDPOINT_SYSCTLS, frozenset({_ENDPOINT_SYSCTLS}).__contains__)),
        why="Docker's own: options of a network's driver, sysctls among them from API 1.46 on. Addresses and aliases are free.",
    ),
    Control(
        "Networking",
        ("HostConfig.Links",),
        EMPTY,
        why="Docker's own: shows the environment of another container. Aliases of a network do not.",
    ),
    Control("Networking", ("Config.PublishService",), UNSET, why="Docker's own, of an experiment in API 1.21."),
)
