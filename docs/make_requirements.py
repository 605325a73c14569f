"""The page of what an allow rule may require, as docs/requirements.md.

Owns how the page looks. What it says stands beside the keys (`sockproxy/operating/config/requirements.py`) and in the kinds
themselves, so it is made anew after every change there; a test holds it against them.

    .venv/bin/python docs/make_requirements.py
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from sockproxy.judging.requirements.kinds import KINDS
from sockproxy.operating.config.requirements import EXAMPLES, NOTES, RequireDocument
from sockproxy.operating.config.shapes import keys_of
from sockproxy.operating.known import load_catalogue

PAGE = Path(__file__).with_name("requirements.md")

HEAD = """\
# Requirements

An allow rule says which operations pass. Under `require:` it says what a request has to be like for that:

```yaml
allow:
  - operations: [ContainerCreate]
    require:
      images: ["busybox:*", "registry.example.com/**"]
      bind_sources: [/srv/**]
      memory_max: 512MiB
```

All that is required has to be met; a request that does not meet it is as if the rule were not there. What cannot be judged is
not met. A requirement stands in a rule only with operations that it can speak of, or the file is refused.

- In a pattern `*` stands for any characters, `?` for one and `**` for any at all; `*` and `?` do not cross the `/` of a path.
  A pattern is for the whole of a value, and case counts.
- What is absent is judged as what the engine makes of it. Where that is a choice of its own, the value is `""`, which has to
  be allowed as such.
- A start below API 1.24 may carry a HostConfig, which takes the place of the container's and is judged like that of a create.
  A start without one changes nothing, and meets what is required of it.
- An update leaves what it does not name, and is judged by what it names.
- A service must be one of containers; plugins and other tasks do not meet what is said of containers. Nor does an update that
  rolls back, since the engine then takes another spec than the one in the request.

A refusal names the field and its value: `HostConfig.Binds[0] has the source "/etc"; bind_sources allows /srv/**`.

This page is made by `docs/make_requirements.py`.
"""

MORE = {
    "expression": """\
[CEL](https://cel.dev) has the operators of C, `in`, `? :`, `has()`, the macros `all`, `exists`, `exists_one`, `map` and
`filter`, and functions: `size`, `startsWith`, `endsWith`, `contains`, `matches`, `int`, `uint`, `double`, `string`, `bytes`,
`bool`, `type` and `dyn`. There are no times in it. What it is asked about:

| variable | what it is |
| --- | --- |
| `request` | `method`; `path`, decoded and without version; `api_version`, as in `"1.41"` |
| `principal` | `kind` (`"unix"` or `"tcp"`), `uid`, `gid`, `pid`, `exe`, `container`, `tls_subject`, `address` |
| `operation` | `id` (`"ContainerCreate"`), `tag` (`"Container"`), `access` (`"read"`, `"write"` or `"tunnel"`) |
| `resource` | `kind` (`"container"`) and `name`, as they stand in the path |
| `query` | each parameter with the list of its values, as text: `query.force == ["1"]` |
| `body` | the JSON body by the names of the API documents, in one spelling; empty where there is none |

**What is absent is an error, and an error denies.** Absent are also the `api_version` of an unversioned request and what is not
known of a client. `body.HostConfig.Memory > 0` denies a create that names no memory; `!body.HostConfig.Privileged` denies one
that does not say that it is not privileged, for which it takes `!has(body.HostConfig.Privileged) ||
!body.HostConfig.Privileged`. `has()` asks for the last name; those before it have to be there. A `null` in a body is absent,
as it is to the engine.

As everywhere in CEL, `a || b` is true where one of them is, even if the other is an error, and `a && b` is false where one is.
What is neither true nor false denies, and what mentions the body where one has come that is no JSON object: an archive, a
plugin's settings, whatever a client sends where no body belongs.

Of most parameters the engine takes the first value, of some (`t`, `extrahosts`) all. Versions are text, and `"1.9" < "1.24"` is
false: bound them by the policy's `api_versions`.

An expression is refused when the file is read if its syntax or its types are wrong, if it names a variable or function that
there is not, or a field of the body that none of its rule's operations has, if `matches` has a pattern that is not written
out (patterns are RE2, which never goes back), or if it would take too long for ordinary lists. Before each evaluation it is
counted what it costs at most, by the size of the values that it mentions and at prices above those that were measured. What
comes to more than 20 ms denies, for each expression by itself; what was just below took up to 10. One macro so takes ten
thousand elements (eight hundred, if it matches patterns), two within each other lists of a hundred each, `map` and `filter`
three hundred. A NUL character denies, too.

Under `unknown_fields: pass` a name that sockproxy does not know stands as the client spelt it, and an engine that knows it
reads it in any case: `!has()` of such a name holds nobody back, and a misspelt one is not told.

A denial shows how the expression begins: write no secret into it. Values of the request are not shown.

An update of a service that is a rollback does not meet an expression that mentions the body, since the engine takes another.

A body of which no rule requires anything is not read, and goes to the engine as it came. Those of creates, starts and services
always are, since they can do what other operations do.

Google's own library evaluates it, and is imported where a policy has an expression and nowhere else. That takes some 9 MiB of
memory and a thirtieth of the time to start; an ordinary expression then takes a fifth to a half of the time in which the body
of a small create is read. There are builds of it for Linux with glibc and for macOS. Elsewhere a policy that has an expression
is refused.
"""
}
"""Key -> what would be too long beside the others."""


def main() -> int:
    """Makes the page anew; the exit code."""
    PAGE.write_text(render(), encoding="utf-8")
    return 0


def render() -> str:
    """The page."""
    return "\n".join([HEAD, *_overview(), *(_one(key) for key in KINDS)])


def _overview() -> Iterator[str]:
    yield "| key | example |\n| --- | --- |"
    for key in KINDS:
        yield f"| [{key}](#{key}) | `{EXAMPLES[key]}` |".replace("SIGTERM|", "SIGTERM\\|").replace("test|", "test\\|")
    yield ""


def _one(key: str) -> str:
    told = [f"## {key}", "", keys_of(RequireDocument)[key].description.replace("*", "\\*"), ""]
    told += [NOTES[key], ""] if key in NOTES else []
    told += [MORE[key]] if key in MORE else []
    told += ["```yaml", EXAMPLES[key], "```", "", f"For: {_operations(key)}.", ""]
    return "\n".join(told)


def _operations(key: str) -> str:
    """In the order of the catalogue; where it is nearly all of them, that."""
    operations = KINDS[key].operations
    known = load_catalogue().operations
    if operations is None:
        return "every operation"
    if len(operations) > len(known) / 2:
        return "every operation that has parameters"
    return ", ".join(f"`{name}`" for name in known if name in operations)


if __name__ == "__main__":
    sys.exit(main())
