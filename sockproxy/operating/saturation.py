"""How much of each limit is in use: the numbers of `sockproxy_limit_used_ratio`.

Owns which limits can be told of: those of something that is held, not those of a size or a time. Must not know what happens
at the limit (`forwarding`). Begin at `limits_used`.
"""

from collections.abc import Iterable

from sockproxy.forwarding.downstream.handshakes import Handshakes
from sockproxy.forwarding.downstream.listener import Census
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.serving.gates import Entrance
from sockproxy.forwarding.serving.shared import Proxy


def limits_used(
    limits: Limits, census: Census, handshakes: Handshakes, proxy: Proxy, entrances: Iterable[Entrance]
) -> dict[str, float]:
    """Limit -> how much of it, from 0 to 1; a principal's limit by whoever has most of it, where it is set."""
    held = [
        *census.held().items(),
        ("handshakes_max", (handshakes.count, limits.handshakes_max)),
        ("judged_bodies_bytes_max", (proxy.holding.bytes, limits.judged_bodies_bytes_max)),
        *(one for entrance in entrances for meter in entrance.meters for one in meter.held().items()),
    ]
    used: dict[str, float] = {}
    for limit, (count, count_max) in held:
        share = count / count_max if count_max else 1.0  # of nothing, all is used
        used[limit] = max(share, used.get(limit, 0.0))
    return used
