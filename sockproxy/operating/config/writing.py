"""A policy -> the text of a commented policy file: the way back from `source`.

Owns how such a file looks, and that nothing which comes from outside can end its comment. Must not know why a rule is
there. Begin at `policy_file`.
"""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sockproxy.judging.policy import ApiVersions
from sockproxy.operating.config.document import FORMAT_VERSION

_WIDTH = 118

_ALLOW = {  # (no rule is in force, rules are written down)
    (False, True): "    allow:",
    (True, True): "    allow: []  # without the brackets, if a rule below is to be in force",
    (True, False): "    allow: []",
}


class WrittenRule(NamedTuple):
    """A rule with what is said of it, a paragraph an entry. `is_off`: written down as a comment."""

    operations: Sequence[str]
    comments: Sequence[str] = ()
    reason: str = ""
    is_off: bool = False


def policy_file(
    name: str,
    *,
    head: Sequence[str],
    allow: Sequence[WrittenRule],
    api_versions: ApiVersions | None = None,
    version_comments: Sequence[str] = (),
    extends: Sequence[str] = (),
) -> str:
    """The text of a file with one policy. `api_versions` None: the file says nothing of them."""
    lines = [*_comment(head, ""), f"version: {FORMAT_VERSION}", "", "policies:", f"  {name}:"]
    if extends:
        lines.append(f"    extends: [{', '.join(extends)}]")
    if api_versions is not None:
        lines += [*_comment(version_comments, "    "), f"    api_versions: {{{_versions(api_versions)}}}"]
    lines.append(_ALLOW[all(rule.is_off for rule in allow), bool(allow)])
    for rule in allow:
        lines += _comment(rule.comments, "      ")
        lines += [f"      # {line}" if rule.is_off else f"      {line}" for line in _rule(rule)]
    return "\n".join(lines) + "\n"


def in_comment(text: str) -> str:
    """A text from outside, such as the name of a program, in a form that stays in its line of a comment."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _comment(paragraphs: Iterable[str], indent: str) -> Iterator[str]:
    mark = f"{indent}# "
    for paragraph in paragraphs:
        yield from textwrap.wrap(
            in_comment(paragraph),
            _WIDTH,
            initial_indent=mark,
            subsequent_indent=mark,
            break_on_hyphens=False,
            break_long_words=False,
        )


def _versions(versions: ApiVersions) -> str:
    bounds = (("min", versions.oldest), ("max", versions.newest))
    words = [f'{key}: "{bound}"' for key, bound in bounds if bound is not None]
    return ", ".join([*words, f"unversioned: {'allow' if versions.unversioned else 'deny'}"])


def _rule(rule: WrittenRule) -> Iterator[str]:
    words = [json.dumps(name) if name.startswith("@") else name for name in rule.operations]
    line = f"- operations: [{', '.join(words)}]"
    if len(line) <= _WIDTH - 6:
        yield line
    else:
        yield "- operations:"
        yield from (f"    - {word}" for word in words)
    if rule.reason:
        yield f"  reason: {json.dumps(rule.reason)}"
