"""How a finding speaks: quoting what was written, naming the place, and the nearest right word.

Must not know what a configuration is. Begin at `did_you_mean`.
"""

from collections.abc import Iterable
from difflib import get_close_matches

Path = tuple[str | int, ...]
"""Where something stands in a configuration: keys and, counted from 0, places in lists."""

_QUOTED_CHARACTERS_MAX = 60  # a line of a terminal; what is wrong shows at the beginning


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was meant, if one is near; upper and lower case count as one."""
    lowered = {candidate.lower(): candidate for candidate in words}
    found = get_close_matches(word.lower()[:_QUOTED_CHARACTERS_MAX], lowered, n=1)
    return lowered[found[0]] if found else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean "X"?` with the nearest of these words, or nothing where none is near."""
    meant = nearest(word, words)
    return "" if meant is None else f"; did you mean {quoted(meant)}?"


def quoted(text: str) -> str:
    """The text in quotation marks, in one line that a terminal can show."""
    shown = text[:_QUOTED_CHARACTERS_MAX] + ("..." if len(text) > _QUOTED_CHARACTERS_MAX else "")
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return f'"{visible}"'


def key_of(path: Path) -> str:
    """A place as people write it: `policies.ci.allow[0].operations[2]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return quoted(text)[1:-1] if not text.isprintable() else text
