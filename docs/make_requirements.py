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
    told += ["```yaml", EXAMPLES[key], "```", "", f"For: {_operations(key)}.", ""]
    return "\n".join(told)


def _operations(key: str) -> str:
    """In the order of the catalogue; where it is nearly all of them, that."""
    operations = KINDS[key].operations
    known = load_catalogue().operations
    if len(operations) > len(known) / 2:
        return "every operation that has parameters"
    return ", ".join(f"`{name}`" for name in known if name in operations)


if __name__ == "__main__":
    sys.exit(main())
