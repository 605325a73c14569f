"""Exemplars: for what was slow or did not go well, the id of the last exchange of its kind, which leads to its audit events.

Owns what is remembered of them. Must not know when an exchange is worth it (`counting`), nor how it is told (`telling`).
Begin at `Exemplars`. There is one for each series, in a histogram for each bucket, so that they are as bounded as these.
"""

from bisect import bisect_left

from sockproxy.exchange import Exchange
from sockproxy.recording.metrics.families import Labels

SLOW_SECONDS = 0.01
"""An exchange of the plain way that takes as long is worth an exemplar, as is every stream. One of the express way never
is: to ask whether it was slow, and to make its id, would cost each of them."""

REQUEST_ID = "request_id"
"""The label, whose value is the audit event's `id` and the header `Sockproxy-Request-Id`."""


Remembered = tuple[str, float, float]
"""The id of an exchange, the value that it added, and when (seconds since the epoch)."""


class Exemplars:
    """The last one of each series."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, Labels, int], Remembered] = {}

    def count(self, family: str, labels: Labels, exchange: Exchange) -> None:
        """One that a counter has counted."""
        time = exchange.received_time + exchange.completed_at - exchange.received_at
        self._latest[family, labels, 0] = (exchange.id, 1.0, time)

    def time(self, family: str, labels: Labels, buckets: tuple[float, ...], seconds: float, exchange: Exchange) -> None:
        """One that fell into a bucket of a histogram."""
        time = exchange.received_time + exchange.completed_at - exchange.received_at
        self._latest[family, labels, bisect_left(buckets, seconds)] = (exchange.id, seconds, time)

    def of(self, family: str, labels: Labels, place: int = 0) -> Remembered | None:
        """That of a counter's series, or of a bucket."""
        return self._latest.get((family, labels, place))
