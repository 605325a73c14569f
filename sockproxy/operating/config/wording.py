"""How a finding speaks: quoting what was written, naming the place, and the nearest right word.

Must not know what a configuration is. Begin at `did_you_mean`.
"""

from collections.abc import Iterable, Sequence

Path = tuple[str | int, ...]
"""Where something stands in a configuration: keys and, counted from 0, places in lists."""

_QUOTED_CHARACTERS_MAX = 60  # a line of a terminal; what is wrong shows at the beginning


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was meant, if one is near; upper and lower case count as one. Of equally near ones the first. Else one
    that it is a part of."""
    words = tuple(words)
    typed = word[:_QUOTED_CHARACTERS_MAX].lower()
    distance_max = max(1, len(typed) // 3)
    best: str | None = None
    for candidate in words:
        distance = _distance(typed, candidate.lower(), distance_max)
        if distance <= distance_max:
            best, distance_max = candidate, distance - 1
    return best or next((candidate for candidate in words if _is_part(typed, candidate.lower())), None)


def _is_part(typed: str, word: str) -> bool:
    """Whether it is one of the parts of a name, in the singular or plural: `spiffe` of `spiffe_id`."""
    return typed.removesuffix("s") in (part.removesuffix("s") for part in word.split("_"))


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


def _distance(one: str, other: str, distance_max: int) -> int:
    """How many letters to add, leave out, replace or swap with their neighbour lead from one word to the other (optimal
    string alignment); some number above `distance_max` if it takes more."""
    if abs(len(one) - len(other)) > distance_max:
        return distance_max + 1
    two_up: list[int] = []
    up: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        two_up, up, row = up, row, [i + 1]
        for j, opposite in enumerate(other):
            steps = min(up[j + 1] + 1, row[j] + 1, up[j] + (letter != opposite))
            if i and j and letter == other[j - 1] and opposite == one[i - 1]:
                steps = min(steps, two_up[j - 1] + 1)
            row.append(steps)
    return row[-1]


def shortened(names: Sequence[str], shown_max: int = 4) -> str:
    """Names in a row, of many only the first."""
    more = len(names) - shown_max
    return ", ".join(names[:shown_max]) + (f" and {more} more" if more > 0 else "")
