"""The older files of a trail: `FILE.20261124T120455.123456Z`, by the time when each was moved away.

Owns their names, that of one which is being made, and which of them stay. Must not know what is in them. Begin at `name`.
"""

import os
import re
from datetime import UTC, datetime

_STAMP = r"\.\d{8}T\d{6}\.\d{6}Z"


def name(file: str, now: float) -> str:
    """What the file is to be called that is moved away now; no file is called so yet."""
    microseconds = int(now * 1e6)
    while True:
        moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y%m%dT%H%M%S")
        found = f"{file}.{moment}.{microseconds % 1_000_000:06d}Z"
        if not os.path.lexists(found):
            return found
        microseconds += 1


def unfinished(file: str) -> str:
    """What a file is called that is to take the place of this one: hidden, so that no pattern over a trail's files has it."""
    folder, base = os.path.split(file)
    return os.path.join(folder, f".{base}.new")


def newest(file: str) -> str | None:
    """The newest one that is not packed, if there is one."""
    names = _find(file, packed=False)
    return names[-1] if names else None


def keep_newest(file: str, count: int | None) -> None:
    """Removes all but so many of the newest; None removes none."""
    if count is None:
        return
    names = _find(file, packed=True)
    for one in names[: max(0, len(names) - count)]:
        try:
            os.unlink(one)
        except OSError:
            continue  # lawful: it is tried again when the next file is moved away


def _find(file: str, *, packed: bool) -> list[str]:
    folder, base = os.path.split(file)
    pattern = re.compile(re.escape(base) + _STAMP + (r"(\.gz)?" if packed else ""), re.ASCII)
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []  # lawful: without them the chain begins anew, which the trail shows
    return sorted(os.path.join(folder, one) for one in names if pattern.fullmatch(one))
