"""Meter: how much each principal may ask for, behind one gate.

Owns the counting: a token bucket for requests a second, and how many are under way. Must not know what a request is, nor
how one is refused. Begin at `Meter.begin`.

The express way sees nothing of this where nothing is limited: it looks a head up in what its caller was given for that,
which is the gate's memory itself, or `MeteredHeads`, which takes a token first.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Generic, NamedTuple, TypeVar

from sockproxy.forwarding.limits import ClientLimits

Known = TypeVar("Known")

PRINCIPALS_MAX = 1024
"""So many are remembered before those that use nothing are looked for and forgotten; then twice as many as were left."""


class Refusal(NamedTuple):
    """Why a request is refused: the limit's key in the configuration, a line for people, and when to ask again."""

    limit: str
    detail: str
    retry_seconds: int


class Use:
    """What a principal has in use. `tokens`: requests that it may still make at once, as of `counted_at`."""

    __slots__ = ("concurrent", "counted_at", "streams", "tokens")

    def __init__(self, tokens: float, counted_at: float) -> None:
        self.tokens = tokens
        self.counted_at = counted_at
        self.concurrent = 0
        self.streams = 0


class Meter:
    """What each principal has in use, within these limits."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._burst = float(limits.burst or max(1, ceil(limits.requests_per_second)))
        self._uses: dict[str, Use] = {}
        self._forget_at = PRINCIPALS_MAX

    def begin(self, key: str, *, is_stream: bool, is_paid: bool) -> Refusal | None:
        """Counts one more request of a principal; or says why it is refused, and counts nothing. `is_paid`: it has its token
        already. Whatever was counted has to `end`."""
        use = self._use(key)
        limits = self.limits
        if is_stream and limits.streams and use.streams >= limits.streams:
            return Refusal("streams", f"more than {limits.streams} streams at once", 1)
        if not is_stream and limits.concurrent and use.concurrent >= limits.concurrent:
            return Refusal("concurrent", f"more than {limits.concurrent} requests at once", 1)
        if not is_paid and (refusal := self._pay(use)) is not None:
            return refusal
        if is_stream:
            use.streams += 1
        else:
            use.concurrent += 1
        return None

    def end(self, key: str, *, is_stream: bool) -> None:
        """One request less."""
        use = self._use(key)
        if is_stream:
            use.streams -= 1
        else:
            use.concurrent -= 1

    def pay(self, key: str) -> Refusal | None:
        """Takes the token of one more request, which then `is_paid`; or says why it is refused."""
        return self._pay(self._use(key))

    def take_token(self, key: str) -> bool:
        """Whether a principal may make one more request now; then it is counted as made."""
        return self._take_token(self._use(key))

    @property
    def principal_count(self) -> int:
        """Principals that are remembered."""
        return len(self._uses)

    def held(self) -> dict[str, tuple[int, int]]:
        """Limit that is set -> how many the principal that has most has under way, and how many it may have."""
        limits, uses = self.limits, self._uses.values()
        most = {
            "concurrent": (max((use.concurrent for use in uses), default=0), limits.concurrent),
            "streams": (max((use.streams for use in uses), default=0), limits.streams),
        }
        return {limit: held for limit, held in most.items() if held[1]}

    def _pay(self, use: Use) -> Refusal | None:
        if self._take_token(use):
            return None
        rate = self.limits.requests_per_second
        seconds = ceil((1 - use.tokens) / rate)
        return Refusal("requests_per_second", f"more than {rate:g} requests a second", seconds)

    def _take_token(self, use: Use) -> bool:
        if not self.limits.requests_per_second:
            return True
        self._fill(use)
        if use.tokens < 1:
            return False
        use.tokens -= 1
        return True

    def _fill(self, use: Use) -> None:
        now = self._clock()
        use.tokens = min(self._burst, use.tokens + (now - use.counted_at) * self.limits.requests_per_second)
        use.counted_at = now

    def _use(self, key: str) -> Use:
        use = self._uses.get(key)
        if use is None:
            if len(self._uses) >= self._forget_at:
                self._forget()
            use = self._uses[key] = Use(self._burst, self._clock())
        return use

    def _forget(self) -> None:
        """Forgets those who are as if they had never been here."""
        for key, use in list(self._uses.items()):
            self._fill(use)
            if not (use.concurrent or use.streams) and use.tokens >= self._burst:
                del self._uses[key]
        self._forget_at = max(PRINCIPALS_MAX, 2 * len(self._uses))


class MeteredHeads(Generic[Known]):
    """The memory of a gate, as one who is metered may use it: a token for each head that is known."""

    __slots__ = ("_key", "_known", "_meter", "is_paid")

    def __init__(self, known: Mapping[bytes, Known], meter: Meter, key: str) -> None:
        self._known = known
        self._meter = meter
        self._key = key
        self.is_paid = False  # the last head got its token, so that it needs none where it goes on another way

    def get(self, head: bytes) -> Known | None:
        """What is known of a head, if its request may be made now."""
        known = self._known.get(head)
        self.is_paid = known is not None and self._meter.take_token(self._key)
        return known if self.is_paid else None

    def take_paid(self) -> bool:
        """Whether the last head got its token; once."""
        is_paid, self.is_paid = self.is_paid, False
        return is_paid
