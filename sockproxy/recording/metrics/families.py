"""Every metric of sockproxy: name, type, labels, help text, buckets. Data only; `counting` fills it.

Must not know where numbers come from. Begin at `FAMILIES`.
"""

from enum import StrEnum
from typing import NamedTuple

Labels = tuple[str, ...]


class Kind(StrEnum):
    """The type of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"  # a gauge that is always 1, in Prometheus' own text format


class Family(NamedTuple):
    """One metric. `buckets` (upper bounds in seconds) are for histograms only."""

    name: str
    kind: Kind
    labels: Labels
    help: str
    buckets: tuple[float, ...] = ()


REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# From an inspect (a millisecond or two) to a stop, a pull or a commit (minutes).
OVERHEAD_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
# Expected: 0.1 ms; a slow disk under the audit trail: tens of milliseconds.
STREAM_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0, 604800.0)
# From an exec's second to the seven days of the idle limit.

FAMILIES = (
    Family(
        "sockproxy_requests_total",
        Kind.COUNTER,
        ("listener", "policy", "operation", "method", "code"),
        "Completed requests by the status that the client got; code none: no answer, policy none: not readable.",
    ),
    Family(
        "sockproxy_decisions_total",
        Kind.COUNTER,
        ("policy", "operation", "effect", "reason"),
        "Decisions by what happened and why. Under shadow the effect is allow and the reason tells what would be.",
    ),
    Family(
        "sockproxy_denials_total",
        Kind.COUNTER,
        ("listener", "policy", "rule"),
        "Requests that were denied, or would be under shadow, by who asked (the listener, and the policy that its clients of "
        "that kind meet) and by the rule; rule none: nothing allows it.",
    ),
    Family(
        "sockproxy_request_duration_seconds",
        Kind.HISTOGRAM,
        ("operation",),
        "From a request's head to its end; for streams and tunnels to the head of the answer.",
        REQUEST_BUCKETS,
    ),
    Family(
        "sockproxy_engine_duration_seconds",
        Kind.HISTOGRAM,
        ("operation",),
        "From the head that went to the engine to the head of the engine's answer.",
        REQUEST_BUCKETS,
    ),
    Family(
        "sockproxy_overhead_seconds",
        Kind.HISTOGRAM,
        (),
        "What the proxy added to forwarded requests: until the head went to the engine, and for unary operations "
        "from the engine's answer to the end.",
        OVERHEAD_BUCKETS,
    ),
    Family(
        "sockproxy_exchanges_in_flight",
        Kind.GAUGE,
        ("kind",),
        "Exchanges that are decided and not completed: unary (uploads and downloads, too), stream, tunnel.",
    ),
    Family(
        "sockproxy_stream_duration_seconds",
        Kind.HISTOGRAM,
        ("operation",),
        "How long streams and tunnels lived, from the head of the answer to their end.",
        STREAM_BUCKETS,
    ),
    Family(
        "sockproxy_bytes_total",
        Kind.COUNTER,
        ("operation", "direction"),
        "Bytes of bodies and tunnels of completed exchanges; direction in: from the client, out: to the client.",
    ),
    Family(
        "sockproxy_engine_up",
        Kind.GAUGE,
        (),
        "Whether the engine answered when it was last asked: 1 or 0.",
    ),
    Family(
        "sockproxy_engine_reachable",
        Kind.GAUGE,
        (),
        "Whether the engine accepted a connection when it was last asked: 1 or 0. With 1 and engine_up 0 it is stuck.",
    ),
    Family(
        "sockproxy_engine_connections",
        Kind.GAUGE,
        ("state",),
        "Connections to the engine: idle ones are kept for the next request, busy ones carry an exchange.",
    ),
    Family(
        "sockproxy_engine_errors_total",
        Kind.COUNTER,
        ("reason",),
        "Exchanges that failed because the engine was away, too slow, or answered what cannot be read.",
    ),
    Family(
        "sockproxy_bad_requests_total",
        Kind.COUNTER,
        ("reason",),
        "Requests that could not be read, or exceeded a limit, and were never judged.",
    ),
    Family(
        "sockproxy_limits_hit_total",
        Kind.COUNTER,
        ("limit",),
        "How often a limit ended or refused something; the label is the limit's key in the configuration.",
    ),
    Family(
        "sockproxy_limit_used_ratio",
        Kind.GAUGE,
        ("limit",),
        "How much of a limit is in use, from 0 to 1: of a principal's that of whoever has most, of several workers' the "
        "fullest. Client limits are told where they are set.",
    ),
    Family(
        "sockproxy_client_connections",
        Kind.GAUGE,
        (),
        "Open connections of clients.",
    ),
    Family(
        "sockproxy_policy_operations",
        Kind.GAUGE,
        ("policy",),
        "How many operations the rules of a policy in force can allow.",
    ),
    Family(
        "sockproxy_policy_info",
        Kind.INFO,
        ("policy", "mode", "revision"),
        "Always 1; the labels tell which policies are in force.",
    ),
    Family(
        "sockproxy_audit_events_total",
        Kind.COUNTER,
        ("sink", "result"),
        "Audit events written and lost (never in the trail), and attempts to write that failed (offered again).",
    ),
    Family(
        "sockproxy_audit_rejected_requests_total",
        Kind.COUNTER,
        (),
        "Requests that were allowed and refused, because an audit sink did not take their record.",
    ),
    Family(
        "sockproxy_tls_certificate_not_after_seconds",
        Kind.GAUGE,
        ("listener",),
        "When a TLS listener's certificate ends, in seconds since the epoch.",
    ),
    Family(
        "sockproxy_config_last_reload_successful",
        Kind.GAUGE,
        (),
        "Whether the configuration was taken when it was last read: 1 or 0.",
    ),
    Family(
        "sockproxy_config_last_reload_success_timestamp_seconds",
        Kind.GAUGE,
        (),
        "When a configuration was last taken, in seconds since the epoch.",
    ),
    Family(
        "sockproxy_build_info",
        Kind.INFO,
        ("version", "python"),
        "Always 1; the labels tell what runs.",
    ),
)
"""All but `process_*`, which `prometheus_client.ProcessCollector` tells."""
