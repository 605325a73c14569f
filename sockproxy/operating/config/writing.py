"""A policy -> the text of a commented policy file: the way back from `source`.

Owns how such a file looks, and that nothing which comes from outside can end its comment. Must not know why a rule is
there. Begin at `policy_file`.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sockproxy.judging.versions import ApiVersions
from sockproxy.operating.config.document import FORMAT_VERSION

_WIDTH = 118
_NOT_ASCII = re.compile(r"[^ -~]")

_ALLOW = {  # (no rule is in force, rules are written down)
    (False, True): "    allow:",
    (True, True): "    allow: []  # without the brackets, if a rule below is to be in force",
    (True, False): "    allow: []",
}


_UNKNOWN_SEEN = "Bodies had names that no engine knows; the engine gets what was judged, without them."


class WrittenRule(NamedTuple):
    """A rule with what is said of it, a paragraph an entry. `is_off`: written down as a comment."""

    operations: Sequence[str]
    comments: Sequence[str] = ()
    reason: str = ""
    is_off: bool = False
    require: Mapping[str, Any] = MappingProxyType({})


def policy_file(
    name: str,
    *,
    head: Sequence[str],
    allow: Sequence[WrittenRule],
    api_versions: ApiVersions | None = None,
    version_comments: Sequence[str] = (),
    extends: Sequence[str] = (),
    unknown_fields: str = "",
) -> str:
    """The text of a file with one policy. `api_versions` None, `unknown_fields` "": the file says nothing of them."""
    lines = [*_comment(head, ""), f"version: {FORMAT_VERSION}", "", "policies:", f"  {name}:"]
    if extends:
        lines.append(f"    extends: [{', '.join(extends)}]")
    if api_versions is not None:
        lines += [*_comment(version_comments, "    "), f"    api_versions: {{{_versions(api_versions)}}}"]
    if unknown_fields:
        lines += [*_comment([_UNKNOWN_SEEN], "    "), f"    unknown_fields: {unknown_fields}"]
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
        yield f"  reason: {_text(rule.reason)}"
    if rule.require:
        yield "  require:"
    for key, value in rule.require.items():
        yield from (f"    {line}" for line in _required(key, value))


def _required(key: str, value: Any) -> Iterator[str]:
    """A key of `require:`."""
    line = f"{key}: {_text(value) if isinstance(value, list) else value}"
    if len(line) <= _WIDTH - 10 or not isinstance(value, list):
        yield line
    else:
        yield f"{key}:"
        yield from (f"  - {_text(one)}" for one in value)


def _text(value: Any) -> str:
    """Texts as in JSON, which YAML reads as well, but for half a character, as which JSON escapes those beyond U+FFFF."""
    return _NOT_ASCII.sub(_escaped, json.dumps(value, ensure_ascii=False))


def _escaped(character: re.Match[str]) -> str:
    code = ord(character[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
