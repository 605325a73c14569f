from collections.abc import Sequence

from sockproxy.exchange import Served
from sockproxy.recording.prepared import Place

def lines(batch: Sequence[Served], id_prefix: str, epoch: float, place: Place) -> tuple[bytes, Place]: ...
