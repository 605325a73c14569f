"""What `require:` of an allow rule looks like in a file: its keys, their shapes, what each asks, and an example of each.

Owns how requirements are written and described; docs/requirements.md comes from here. Must not know what they lead to: what
a value means is said by `sockproxy.judging.requirements.kinds`, key by key. Begin at `RequireDocument`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sockproxy.judging.requirements.resources import SIZE
from sockproxy.operating.config.shapes import Choice, Flag, Keys, ListOf, Named, Number, Text, asked

_NOTHING_FITS = "is empty: nothing would fit; leave the key out to require nothing"

PATTERN = Text("expected a pattern", number="", is_empty_right=True)
PATTERNS = ListOf(PATTERN)
_EXPRESSION_CHARACTERS_MAX = 4096
"""Of an expression: two pages, more than anybody reads."""

_SOME = ListOf(Text("expected a pattern", number=""), when_empty=_NOTHING_FITS)
_IMAGES = _SOME._replace(form="expected a list of patterns (`image_digest: true` beside it asks for digests)")
_LABELS = Named(
    PATTERN, r"[!-~]{1,255}", "the name of a label has up to 255 visible characters", example='{owner: ci, stage: "*"}'
)
_PARAMETERS = Named(
    PATTERN,
    r"[A-Za-z][A-Za-z0-9_-]{0,63}",
    "the name of a parameter has letters, digits, - and _",
    example="{signal: SIGTERM}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDocument:
    """What an object that is there has to be like. One key at least; all have to hold."""

    labels: Mapping[str, str] | None = asked(
        _LABELS, "Labels that it carries, and what their values may be: A|B is either."
    )
    names: tuple[str, ...] | None = asked(_SOME, "What it may be called: a container, volume or network.")
    images: tuple[str, ...] | None = asked(
        _SOME, "What an image may be called, or the image that a container was made of."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequireDocument:
    """What a request has to be like for the rule to allow it. All that is required has to be met."""

    pod_security: Literal["baseline", "restricted"] | None = asked(
        Choice(("baseline", "restricted")),
        "The Kubernetes Pod Security Standards, carried over to what the engine can be asked for (docs/pod-security.md). Other "
        "keys that stand beside it say more of their fields than it does, and take those over.",
    )
    bind_sources: tuple[str, ...] | None = asked(
        PATTERNS,
        "The host's paths that may be mounted, by Binds, Mounts or the options of a local volume. In a pattern * takes one "
        "part of a path and ** any number; /srv/** is what is below /srv, and not /srv itself. An empty list allows none.",
    )
    read_only_binds: bool | None = asked(Flag(), "true: what is mounted of the host must be mounted for reading only.")
    images: tuple[str, ...] | None = asked(
        _IMAGES,
        "The images that may be used, pulled, pushed or made, by their full names: busybox is "
        "docker.io/library/busybox:latest, in patterns as well. * takes no /, : or @; ** takes all; the tag * takes digests, "
        "too.",
    )
    image_digest: bool | None = asked(Flag(), "true: images must be named with a digest, as NAME@sha256:...")
    names: tuple[str, ...] | None = asked(
        _SOME, "The names that a new container, volume, network, service, secret or config may have."
    )
    labels: Mapping[str, str] | None = asked(
        _LABELS, "Labels that a new object must carry, and what their values may be: A|B is either."
    )
    networks: tuple[str, ...] | None = asked(
        PATTERNS,
        "The networks that may be joined. What is not named is bridge. host and container:NAME have to be listed as such.",
    )
    runtimes: tuple[str, ...] | None = asked(PATTERNS, 'The runtimes; "" is the engine\'s own choice.')
    users: tuple[str, ...] | None = asked(
        PATTERNS,
        'Users, as USER or USER:GROUP; "" is the user that the image (for an exec, the container) has.',
    )
    log_drivers: tuple[str, ...] | None = asked(PATTERNS, 'Log drivers; "" is the engine\'s default.')
    volume_drivers: tuple[str, ...] | None = asked(PATTERNS, "Drivers of volumes; where none is named it is local.")
    capabilities: tuple[str, ...] | None = asked(
        PATTERNS,
        "Capabilities that may be added, with or without CAP_, in any case. Privileged is all of them. An empty list "
        "allows none.",
    )
    devices: tuple[str, ...] | None = asked(
        PATTERNS,
        'Devices: host paths, rules of the device cgroup ("c 10:229 rwm"), requests by driver ("request:nvidia"). '
        "Privileged is none of them. An empty list allows none.",
    )
    sysctls: tuple[str, ...] | None = asked(PATTERNS, "Names of sysctls that may be set. An empty list allows none.")
    ports: tuple[str, ...] | None = asked(
        PATTERNS,
        "Ports of the host, as [ADDRESS:]PORTS[/PROTOCOL]. Only * takes a port that the engine chooses. An empty list "
        "allows none.",
    )
    memory_max: str | None = asked(
        Text("expected a size, as in 512MiB", pattern=SIZE, number=""),
        "Memory has to be limited, to at most that: bytes, or with a unit: KiB, MiB, GiB, TiB. As to `docker run --memory`, "
        "k, m, g and t are the same, with b or without, in any case: 512m is 512MiB.",
    )
    cpus_max: float | None = asked(
        Number(is_whole=False),
        "CPU time has to be limited, to at most that many CPUs; 1.5 is one and a half.",
    )
    pids_max: int | None = asked(Number(is_whole=True), "The number of processes has to be limited, to at most that.")
    query: Mapping[str, str] | None = asked(
        _PARAMETERS,
        "What the values of parameters may be: A|B is either, and an empty alternative is an absent parameter.",
    )
    expression: str | None = asked(
        Text("expected an expression", length_max=_EXPRESSION_CHARACTERS_MAX),
        "A condition in CEL, as in Kubernetes' admission policies, over request, principal, operation, resource, query and "
        "body. It has to be true; what is false, an error or costs too much is denied.",
    )
    target: TargetDocument | None = asked(
        Keys(TargetDocument, "Target"),
        "What the container, image, volume or network that a request acts on has to be like, as the engine says when it is "
        "asked: its labels, its names, its images. An exec instance is judged by its container.",
    )


REQUIRE_TITLE = "Requirements"

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "pod_security": "pod_security: baseline",
        "bind_sources": "bind_sources: [/srv/**, /etc/localtime]",
        "read_only_binds": "read_only_binds: true",
        "images": 'images: ["busybox:*", "registry.example.com/**"]',
        "image_digest": "image_digest: true",
        "names": "names: [ci-*]",
        "labels": "labels: {owner: ci, stage: test|staging}",
        "networks": "networks: [ci-*, none]",
        "runtimes": 'runtimes: ["", runsc]',
        "users": 'users: ["1000:1000", nobody]',
        "log_drivers": 'log_drivers: ["", json-file, local]',
        "volume_drivers": "volume_drivers: [local]",
        "capabilities": "capabilities: [NET_BIND_SERVICE]",
        "devices": "devices: [/dev/fuse, request:nvidia]",
        "sysctls": "sysctls: [net.ipv4.ip_unprivileged_port_start]",
        "ports": 'ports: ["8000-8999", "127.0.0.1:*"]',
        "memory_max": "memory_max: 512MiB",
        "cpus_max": "cpus_max: 1.5",
        "pids_max": "pids_max: 200",
        "query": 'query: {signal: "SIGTERM|SIGHUP"}',
        "expression": 'expression: "body.HostConfig.Memory > 0 && !has(body.HostConfig.CapAdd)"',
        "target": "target: {labels: {owner: ci}}",
    }
)
"""Key -> a line of YAML that uses it."""

NOTES: Mapping[str, str] = MappingProxyType(
    {
        "pod_security": "The table, control by control, is in [pod-security.md](pod-security.md).",
        "bind_sources": "Paths are cleaned as text (`/srv/../etc` is `/etc`); the `device` of a volume may have no `..` at "
        "all, since it is the kernel that reads it, behind links. Where sockproxy sees the engine's files (that one listens on "
        "a unix socket, in the same mount namespace and with the same root, and sockproxy may see that: it has to run as root "
        "or as the engine's user), a path has to fit as it is written and as where its links lead. Elsewhere links are not "
        "followed: list only directories in which no client can make any, or a link to `/` is all it takes. A link that is "
        "made between the look and the engine's own is followed by the engine in either case, so whoever may bind a directory "
        "for writing can win that race: require `read_only_binds` beside this, or trust them with the host. VolumesFrom is "
        "judged by what the other container has mounted, a named volume by what it was made as: the engine is asked. A volume "
        "that is not there yet is made by the create; judge `VolumeCreate` by the same requirement, since a volume may be made "
        "in between, and of a service's volumes only those of this engine are known. A start out of a checkpoint in another "
        "directory is refused, and so are options of other volume drivers, and of local volumes that are neither binds nor "
        "tmpfs.",
        "read_only_binds": "For a local volume that binds, `o` has to have `ro`. ReadOnlyNonRecursive counts as writable. "
        "Below API 1.44, and in a volume with `rbind`, what is mounted beneath a bound directory stays writable.",
        "images": "Where the engine takes all tags (a pull or push without one) the pattern has to take all: `busybox:*`. "
        "Beside a digest the engine does not look at the tag, and neither does this. Ids are no names: `sha256:*` allows "
        "them, for whatever image they are of; a name of hexadecimal digits alone needs a tag, or it may be an id. An import "
        "is none of these. A build is judged by the names that it gives (`t`, and those in `outputs`), and has to give one; "
        "what its Dockerfile takes from is not known. `ImageLoad` names what it likes: do not allow it beside this.",
        "names": "A container's name is judged without the slash in front.",
        "labels": "A volume that is there already keeps its labels.",
        "networks": "`default` is `bridge`. An id is not the name of a network. All that are named count: the mode, the "
        "endpoints, and the id that an endpoint may have. A create that joins a container which is not listed as "
        "`container:NAME` is judged by the networks that this one has: the engine is asked. For a service `*` does not stand "
        "for what may be an id (lower-case letters and digits alone), since an id may be that of `host`: list such a name as "
        "it is. The docker command sends ids for a service's networks, so it is the id that has to be listed there.",
        "users": "The spelling counts: `0`, `00` and `root` are three values. Groups that are added (GroupAdd) are not "
        "asked for.",
        "log_drivers": "The options of a driver are not asked for.",
        "volume_drivers": "A volume that is there already keeps its driver: the engine is asked which one that is.",
        "devices": "Paths are cleaned as text, but may have no `..`, and a directory gives all devices below it.",
        "sysctls": "Those of an endpoint (API 1.46 on) count, too.",
        "ports": "Without an address a pattern is for all of them. A container in the network of the host, or of another "
        "container, is refused unless `*` is listed: its ports are not in the request. A service that names "
        "networks needs `networks` beside this.",
        "memory_max": "Swap may be as much again.",
        "cpus_max": "By NanoCpus, or CpuQuota in CpuPeriod; an update that changes one of the latter has to name both.",
        "query": "All values that are given have to fit, as text: a switch is on by `1`, `true` or any other text but `0`, "
        "`no`, `false`, `none` and nothing.",
        "expression": "What is absent is an error, so ask `has()` first where it may be. An expression judges a spelling: "
        "images, paths and networks have several names, which the other keys know. `&&` joins conditions.",
        "target": "The request goes on with the whole id of what was looked at, so that a name which moves on in between fools "
        "nobody; the record's `target` has that id, its `resource` the client's name. A volume has its name only, and an image "
        "keeps it where the name is what is meant: untagged by ImageDelete, sent out by ImagePush, ImageGet and ImageGetAll "
        "(without a tag the engine takes all, and that is refused). Whoever can make that name mean another object in "
        "between must be judged by the same requirement. What is not there is answered 404 in the engine's words, as "
        "clients expect, and so a client can find out which names are taken. All names of an image have to fit `images`, not "
        "only the one that was asked for. NetworkConnect and NetworkDisconnect act on two objects, and both have to be like "
        "this: the engine's own networks have no labels. ContainerDelete with `link` is refused.",
    }
)
"""Key -> what else has to be known to whoever uses it."""
