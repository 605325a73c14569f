from collections.abc import Iterable

from sockproxy.exchange import Served
from sockproxy.recording.metrics.telling import Row

def count_served(batch: Iterable[Served], overhead: Row) -> None: ...
