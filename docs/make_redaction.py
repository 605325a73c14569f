"""The page of what is secret in requests and answers, as docs/redaction.md.

Owns how the page looks. What it says stands in `sockproxy/data/secrets.json`, so it is made anew after every change there; a
test holds it against that.

    .venv/bin/python docs/make_redaction.py
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sockproxy.data import load_secrets

PAGE = Path(__file__).with_name("redaction.md")

HEAD = """\
# What is secret

Before a request or its answer is told to anybody (record, log, metric, denial) its secrets become marks: `hmac:` and the
HMAC-SHA256 of the value, in hexadecimal, by the key of the installation (`audit_key`). Equal secrets have equal marks; without
the key nobody can try out which value a mark stands for. To hold a value against a mark:

```sh
printf %s "$value" | openssl dgst -sha256 -hmac "$(cat audit.key)"
```

Of a head only the target and `User-Agent` are recorded; `X-Registry-Auth`, `X-Registry-Config` and `Authorization` never are.
What is secret in targets, bodies and answers is said by names. A name of none of these tables has its value replaced.

This page is made by `docs/make_redaction.py`.
"""

MEANINGS: Mapping[str, str] = {
    "secret": "the value is replaced as a whole",
    "environment": "of `NAME=value` the value; of a plugin's variable its `Value`",
    "values": "names are kept, each value is replaced",
    "options": "names are kept, each value is replaced, but for harmless ones (below)",
    "outputs": "the attributes are treated as options",
    "address": "what stands before `@` in a URL, and behind `?`",
    "instructions": "all behind the first word; `CMD`, `ENTRYPOINT`, `EXPOSE`, `LABEL`, `USER`, `VOLUME`, `WORKDIR` and "
    "`STOPSIGNAL` are kept",
    "step": "of how a build made a layer: the arguments of the build, and what `ENV` and `ARG` set",
    "names": "nothing; any name is allowed in it",
    "plain": "nothing",
}
"""Treatment -> what is replaced."""


def main() -> int:
    """Makes the page anew; the exit code."""
    PAGE.write_text(render(), encoding="utf-8")
    return 0


def render() -> str:
    """The page."""
    rows = load_secrets()
    operations = {f"the body of {name}": treatment for name, treatment in rows.operations.items()}
    return "\n".join(
        [
            HEAD,
            "## Fields of bodies and answers\n",
            "`A.B` is the field B of an A.\n",
            *_table({**rows.fields, **operations}),
            "In all other text what stands between `//` and `@` is replaced. An answer that repeats a secret of its request,",
            "as the message of an error may, has the whole of that text replaced. Where a secret stood in the target, or the",
            "body could not be read for the record, the message of an error is not told at all.\n",
            "## Parameters of queries\n",
            *_table(rows.parameters),
            "## Options that are kept\n",
            f"{_listed(rows.options)}\n",
            "`o` has the options of a mount, of which these are kept, with their values:\n",
            f"{_listed(rows.mount_words)}\n",
            "## Names that are known\n",
            "Fields:\n",
            f"{_listed(rows.known)}\n",
            "Parameters:\n",
            f"{_listed(rows.known_parameters)}\n",
        ]
    )


def _table(treatments: Mapping[str, str]) -> Iterator[str]:
    yield "| what | what is replaced |\n| --- | --- |"
    for treatment, meaning in MEANINGS.items():
        names = [name for name, one in treatments.items() if one == treatment]
        if names:
            yield f"| {_listed(names, width=0)} | {meaning} |"
    yield ""


def _listed(names: Iterable[str], width: int = 118) -> str:
    text = ", ".join(name if " " in name else f"`{name}`" for name in names)
    return "\n".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)) if width else text


if __name__ == "__main__":
    sys.exit(main())
