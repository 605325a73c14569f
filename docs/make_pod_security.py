"""The page of pod security: each control, the fields that it concerns and what is allowed in them, as docs/pod-security.md.

Owns how the page looks. What it says is the table by which sockproxy judges; a test holds the page against it.

    .venv/bin/python docs/make_pod_security.py
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from sockproxy.judging.requirements.pod_security.controls import CONTROLS, Control
from sockproxy.judging.requirements.pod_security.fields import HELD, OPERATIONS, QUERIES, UNRESTRICTED

PAGE = Path(__file__).with_name("pod-security.md")

HEAD = """\
# Pod security for Docker

`pod_security: baseline` and `pod_security: restricted`, under `require:` of an allow rule, ask of a request what the
Kubernetes [Pod Security Standards](https://kubernetes.io/docs/concepts/security/pod-security-standards/) ask of a pod,
control by control, as of Kubernetes 1.37. *baseline* denies what gives power over the host; *restricted* also wants a
container that is hardened.

```yaml
allow:
  - operations: [ContainerCreate]
    require:
      pod_security: baseline
      ports: ["127.0.0.1:8000-8999"]
  - operations: [ContainerUpdate, ContainerExec, VolumeCreate]
    require: {pod_security: baseline}
  - operations: [ImageBuild]
    require: {pod_security: baseline, query: {remote: "|https://github.com/**"}}
```

A key in the last column that stands in the same `require:` takes the field over: it judges by what it names, and pod_security
no longer does, except for what the table says; `query.remote` is `remote` under `query`. A field that is empty (`null`, `""`,
`0`, `false`, `[]`, `{}`) is the engine's default and always allowed, since clients send every field they know; but the two
lists of paths in /proc mean something when empty. **A field that is in no table here is denied**, whatever it holds.

All spellings of a request are one: names in any case, `ſ` for s and `K` for k, a HostConfig at the top of a create's body, or
in a start's below API 1.24, a string for a list of one. The canonical form is what is judged, and what the engine gets.

What a request cannot show, the engine is asked: what the volumes that it names were made as, and what a container has that it
joins (`container:x`, VolumesFrom). The engine then gets that container's whole id. Three things this leaves. A volume that is
not there yet is made by the create, or in between by somebody else, so require pod_security of `VolumeCreate`, too. Of a
service's volumes only those of this engine are known. And a container whose processes are shared may be joined by a more
powerful one as well. Links are denied. An image cannot hold power over the host, so `ImageCommit` is not judged. Kubernetes'
control of probes has nothing to hold on to: Docker's health checks run inside of the container. That of Windows' host
processes neither.

A build runs containers, too. Of an `ImageBuild` the query is judged, for the classic builder and BuildKit alike, and neither
its context nor its Dockerfile: what these ask for, the engine gives them in a container without power over the host, unless
the query says more. What a client serves in a session (`/session`) is its own. But a build that is asked for by `/grpc`, as
buildx does it, is not an `ImageBuild` and cannot be judged: it may use the host's network.

This page is made by `docs/make_pod_security.py`.
"""

SHOWN_AS = {
    "HostConfig": "HostConfig",
    "Resources": "HostConfig",
    "Config": "",
    "Resources_": "Reservations",
    "Limit": "Limits",
}
"""How a struct is called where it stands, if not by its name."""


def main() -> int:
    """Makes the page anew; the exit code."""
    PAGE.write_text(render(), encoding="utf-8")
    return 0


def render() -> str:
    """The page."""
    operations = "\n".join(f"- `{operation}`" for operation in dict.fromkeys((*OPERATIONS, *QUERIES)))
    return "\n".join(
        [
            HEAD,
            "## For which operations\n",
            f"{operations}\n",
            "Resources of a HostConfig stand at the top of an update's body, and are judged there in the same way. A start"
            " without a body, and what is absent from an update, is not judged: it changes nothing. Of a build, a start and a"
            " service's update the parameters are judged like fields, of other operations they give no power.\n",
            "## What is allowed\n",
            _table(
                [
                    (
                        "control",
                        "fields (and how values are spelt)",
                        "baseline allows",
                        "restricted allows",
                        "more with",
                    ),
                    *map(_row, CONTROLS),
                ]
            ),
            "## Why it is so\n",
            *_reasons(),
            "\n## Fields that are not restricted\n",
            "By these a container can do nothing to the host, or a control above looks at the whole that they are part of.\n",
            _table([("in", "fields"), *_free()]),
        ]
    )


def _row(control: Control) -> tuple[str, ...]:
    restricted = "the same" if control.restricted is None else control.restricted.text
    more = (f"`{key}`: {rule.text}" for key, rule in control.relaxed.items())
    fields = ", ".join(_shown(field) for field in control.fields)
    if control.spelt:
        fields += f"<br>({control.spelt})"
    return control.name, fields, control.baseline.text, restricted, "<br>".join(more)


def _reasons() -> Iterator[str]:
    for control in CONTROLS:
        if control.why:
            yield f"- {', '.join(_shown(field) for field in control.fields)}: {control.why}"


def _free() -> Iterator[tuple[str, str]]:
    for struct, names in UNRESTRICTED.items():
        if names:
            yield _shown(struct), ", ".join(f"`{name}`" for name in sorted(names))


def _shown(field: str) -> str:
    """A field as people write it: `Privileges.Seccomp.Mode` rather than by the name of the struct."""
    struct, _, name = field.partition(".")
    if struct in QUERIES.values():
        return f"`query.{name}`" if name else f"`query` of {struct.removesuffix('Query')}"
    where = SHOWN_AS.get(struct, struct)
    if struct not in SHOWN_AS:  # by the fields that hold it
        holders = sorted({holder.rpartition(".")[2] for holder, held in HELD.items() if held.lstrip("[]{}") == struct})
        where = "/".join(holders) or struct
    return f"`{'.'.join(filter(None, (where, name))).replace(':.', ': ') or 'the top'}`"


def _table(lines: Iterable[tuple[str, ...]]) -> str:
    header, *rows = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ("---",) * len(header), *rows))


if __name__ == "__main__":
    sys.exit(main())
