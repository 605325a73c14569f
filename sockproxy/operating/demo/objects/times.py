"""Times as the engine writes and reads them.

Go's RFC 3339 with nanoseconds, the "3 minutes" of `docker ps`, and the seconds of `since` and `until`. Pure.
"""

import re
import time

SECOND_NS = 1_000_000_000
NEVER = "0001-01-01T00:00:00Z"

_AGES = (  # (below so many seconds, what is said, the unit in seconds)
    (1, "Less than a second", 0),
    (2, "1 second", 0),
    (60, "{} seconds", 1),
    (120, "About a minute", 0),
    (3600, "{} minutes", 60),
    (5400, "About an hour", 0),
    (48 * 3600, "{} hours", 3600),
    (14 * 86400, "{} days", 86400),
    (60 * 86400, "{} weeks", 7 * 86400),
    (730 * 86400, "{} months", 30 * 86400),
)
_YEAR = 365 * 86400
_UNIX_TIME = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?", re.ASCII)


def rfc3339(time_ns: int) -> str:
    """As Go's RFC3339Nano: without the zeros at the end. 0 is the zero time."""
    if not time_ns:
        return NEVER
    fraction = f".{time_ns % SECOND_NS:09}".rstrip("0").rstrip(".")
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time_ns // SECOND_NS))}{fraction}Z"


def rfc3339_padded(time_ns: int) -> str:
    """With all nine digits, as in the lines of a log."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time_ns // SECOND_NS))}.{time_ns % SECOND_NS:09}Z"


def age(duration_ns: int) -> str:
    """A duration as `docker ps` says it."""
    seconds = max(0, duration_ns) // SECOND_NS
    for limit, text, unit in _AGES:
        if seconds < limit:
            return text.format(seconds // unit) if unit else text
    return f"{seconds // _YEAR} years"


def parse_unix_time(text: str) -> int:
    """`1700000000` or `1700000000.000000001` in nanoseconds. Raises ValueError."""
    found = _UNIX_TIME.fullmatch(text)
    if not found:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(found[1]) * SECOND_NS + int((found[2] or "").ljust(9, "0"))
