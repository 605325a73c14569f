"""Every metric of sockproxy, declared once and told to an injected registry.

families   names, types, labels, help texts, buckets
counting   what is counted when
exemplars  which exchange stands for a number
telling    from numbers to samples
exposition OpenMetrics' text format
summing    several processes as one
"""

from prometheus_client.registry import CollectorRegistry as Registry

from sockproxy.recording.metrics.counting import IN_FLIGHT_KIND, Account, CountServed, Metrics, States, count_served
from sockproxy.recording.metrics.families import FAMILIES, Kind
from sockproxy.recording.metrics.summing import Sum, Told, tell

__all__ = [
    "FAMILIES",
    "IN_FLIGHT_KIND",
    "Account",
    "CountServed",
    "Kind",
    "Metrics",
    "Registry",
    "States",
    "Sum",
    "Told",
    "count_served",
    "tell",
]
