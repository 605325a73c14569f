"""How an unmet requirement speaks: the value that was asked for and what is allowed, in one line that a terminal can show.

Owns how values, and the keys of maps in the names of fields, are shown. Must not know what is required. Begin at `shown`.
"""

import re
from collections.abc import Callable, Iterable

SHOWN_CHARACTERS_MAX = 80  # a line of a terminal; what is wrong shows at the beginning


_WORD = re.compile(r"[^\s\"'<>]+")
"""What a URL is at most. One search for `//...@` would begin anew at each of many slashes: a second for a target of 25 KB."""


def without_userinfo(text: str, hide: Callable[[str], str]) -> str:
    """A text with what stands for the userinfo of each URL in it: all between the first // and the last @ of a word."""

    def hidden(word: re.Match[str]) -> str:
        head, at, host = word[0].rpartition("@")
        scheme, slashes, userinfo = head.partition("//")
        return f"{scheme}//{hide(userinfo)}{at}{host}" if slashes and userinfo else word[0]

    return _WORD.sub(hidden, text) if "//" in text and "@" in text else text


def shown(value: str) -> str:
    """A value in quotation marks, cut, without characters that a terminal obeys."""
    return f'"{_cut(value)}"'


def bare(value: str) -> str:
    """The same without quotation marks."""
    return _cut(value)


def keyed(field: str, key: str) -> str:
    """The field of a map's value: `HostConfig.Sysctls[net.ipv4.ip_forward]`. A name behind a dot is a struct's."""
    return f"{field}[{bare(key)}]"


def is_value(value: str) -> str:
    """What a field is: `is "host"`, `is not set`."""
    return f"is {shown(value)}" if value else "is not set"


def listed(values: Iterable[str]) -> str:
    """What is allowed, as it was written; the empty one is shown as such."""
    return _cut(", ".join(value or '""' for value in values)) or "none"


def _cut(text: str) -> str:
    # hot: fields are named before it is known whether they fail.
    if "//" in text:
        text = without_userinfo(text, lambda _: "...")  # who mistakes a URL for a name has its password in no log
    if len(text) <= SHOWN_CHARACTERS_MAX and text.isprintable():
        return text
    kept = text[:SHOWN_CHARACTERS_MAX] + ("..." if len(text) > SHOWN_CHARACTERS_MAX else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in kept)
