"""Rule sets of any size, the same for each proxy: only the last of so many rules is the one that lets the request pass.

Owns what such a policy and such a configuration are made of. Must not know how much a rule costs (`growth` measures it).
Begin at `policy` and `in_haproxy`.
"""

from sockproxy.data import load_operations

_ASKED_FOR = ("ContainerList", "ContainerInspect")
_LAST = "http-request allow if { path -m reg ^(/v[0-9.]+)?/containers } { env(CONTAINERS) -m bool }"


def policy(count: int) -> str:
    """A policy of sockproxy with so many allow rules, in the order of the catalogue, again and again."""
    others = [name for name in load_operations() if name not in _ASKED_FOR]
    rules = [others[index % len(others)] for index in range(count - 1)] + [", ".join(_ASKED_FOR)]
    lines = "".join(f"      - operations: [{names}]\n" for names in rules)
    return f"version: 1\npolicies:\n  of-{count}-rules:\n    allow:\n{lines}"


def in_haproxy(config: str, count: int) -> str:
    """A configuration of HAProxy with so many rules for paths in the place of those that are there."""
    other = "    http-request allow if {{ path -m reg ^(/v[0-9.]+)?/volumes/v{} }} {{ env(CONTAINERS) -m bool }}\n"
    before = [line for line in config.splitlines(keepends=True) if "http-request allow" not in line]
    end = before.index("    http-request deny\n")
    rules = [other.format(index) for index in range(count - 1)] + [f"    {_LAST}\n"]
    return "".join([*before[:end], *rules, *before[end:]])
