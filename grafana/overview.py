"""The dashboard for everybody: what is asked, what becomes of it, how long it takes, and how much room is left."""

from grafana.shapes import UP_OR_DOWN, YES_OR_NO, Board, Panel, Query, Row

_REQUESTS = "sockproxy_requests_total{%here,%policy,%operation}"
_DENIED = 'sockproxy_decisions_total{%here,%policy,%operation,effect="deny"}'

_GLANCE = (
    Panel(
        "Engine",
        "Whether the engine answered when it was last asked, which is every 10 seconds. Of several proxies the worst.",
        "none",
        (Query("min(sockproxy_engine_up{%here})", "engine"),),
        "stat",
        3,
        4,
        words=UP_OR_DOWN,
    ),
    Panel(
        "Configuration",
        "Whether the configuration and the certificates were taken when they were last read. If not, the old ones "
        "are in force.",
        "none",
        (Query("min(sockproxy_config_last_reload_successful{%here})", "taken"),),
        "stat",
        3,
        4,
        words=((0, "refused", "red"), (1, "taken", "green")),
    ),
    Panel(
        "Requests",
        "Completed requests a second.",
        "reqps",
        (Query(f"sum(rate({_REQUESTS}[%rate]))", "requests"),),
        "stat",
        3,
        4,
    ),
    Panel(
        "Denied",
        "The share of decisions that deny. A client that is denied all day is a policy, or a client, to look at.",
        "percentunit",
        (
            Query(
                f"sum(rate({_DENIED}[%rate])) "
                "/ sum(rate(sockproxy_decisions_total{%here,%policy,%operation}[%rate]))",
                "denied",
            ),
        ),
        "stat",
        3,
        4,
        limits=((0.05, "orange"), (0.5, "red")),
    ),
    Panel(
        "Overhead, 99th percentile",
        "What the proxy adds to a request, in 99 of 100 cases at most. Usual: below a millisecond.",
        "s",
        (
            Query(
                "histogram_quantile(0.99, sum by (le) (rate(sockproxy_overhead_seconds_bucket{%here}[%rate])))",
                "overhead",
            ),
        ),
        "stat",
        3,
        4,
        limits=((0.01, "orange"), (0.05, "red")),
    ),
    Panel(
        "Streams and tunnels",
        "Logs, events, attach, exec and builds that are open now. They may live for days.",
        "short",
        (Query('sum(sockproxy_exchanges_in_flight{%here,kind=~"stream|tunnel"})', "open"),),
        "stat",
        3,
        4,
    ),
    Panel(
        "Fullest limit",
        "How much of the limit that is nearest to its end is in use. At 100 % clients are refused.",
        "percentunit",
        (Query("max(sockproxy_limit_used_ratio{%here})", "used"),),
        "stat",
        3,
        4,
        max=1,
        limits=((0.8, "orange"), (0.95, "red")),
    ),
    Panel(
        "First certificate to end",
        "How long the certificate of a TLS listener still holds, of several the first to end.",
        "s",
        (Query("min(sockproxy_tls_certificate_not_after_seconds{%here}) - time()", "left"),),
        "stat",
        3,
        4,
        min=None,
    ),
)

_RED = (
    Panel(
        "Requests by operation",
        "Completed requests a second by the Engine API operation that they are; `unknown` is none that Docker "
        "documents.",
        "reqps",
        (Query(f"sum by (operation) (rate({_REQUESTS}[%rate]))", "{{operation}}"),),
        is_stacked=True,
    ),
    Panel(
        "Answers that are errors",
        "Requests a second by status, from 400 on: the engine's own and the proxy's (403 denied, 429 above a limit, 502 to 504 "
        "no engine); `none` is a client that went without an answer.",
        "reqps",
        (
            Query(
                'sum by (code) (rate(sockproxy_requests_total{%here,%policy,%operation,code=~"[45]..|none"}[%rate]))',
                "{{code}}",
            ),
        ),
        is_stacked=True,
    ),
    Panel(
        "Duration by operation, 99th percentile",
        "From the head of a request to its end; for streams and tunnels to the head of the answer. Points are single requests; "
        "`request_id` is the id of their audit events.",
        "s",
        (
            Query(
                "histogram_quantile(0.99, sum by (le, operation) "
                "(rate(sockproxy_request_duration_seconds_bucket{%here,%operation}[%rate])))",
                "{{operation}}",
                has_exemplars=True,
            ),
        ),
    ),
    Panel(
        "Duration of all requests",
        "How many requests took how long: the darker, the more.",
        "s",
        (
            Query(
                "sum by (le) (increase(sockproxy_request_duration_seconds_bucket{%here,%operation}[%rate]))",
                "{{le}}",
            ),
        ),
        "heatmap",
        12,
    ),
    Panel(
        "Duration of all requests, percentiles",
        "The half, 95 and 99 of 100 requests take at most this long.",
        "s",
        tuple(
            Query(
                f"histogram_quantile({share}, sum by (le) "
                "(rate(sockproxy_request_duration_seconds_bucket{%here,%operation}[%rate])))",
                name,
            )
            for share, name in ((0.5, "50th"), (0.95, "95th"), (0.99, "99th"))
        ),
        width=12,
    ),
)

_DENIALS = (
    Panel(
        "Denials by policy and reason",
        "Denied requests a second. Points are single denials; `request_id` leads to their audit events and to "
        "`sockproxy explain --audit`.",
        "reqps",
        (Query(f"sum by (policy, reason) (rate({_DENIED}[%rate]))", "{{policy}}: {{reason}}", True),),
        width=12,
    ),
    Panel(
        "Denials by operation",
        "Denied requests a second, by what they were.",
        "reqps",
        (Query(f"sum by (operation) (rate({_DENIED}[%rate]))", "{{operation}}"),),
        width=12,
    ),
)

_ENGINE = (
    Panel(
        "Engine against proxy",
        "The mean time of a request that the engine had, and the mean time that the proxy added to it.",
        "s",
        (
            Query(
                "sum(rate(sockproxy_engine_duration_seconds_sum{%here,%operation}[%rate])) "
                "/ sum(rate(sockproxy_engine_duration_seconds_count{%here,%operation}[%rate]))",
                "engine",
            ),
            Query(
                "sum(rate(sockproxy_overhead_seconds_sum{%here}[%rate])) "
                "/ sum(rate(sockproxy_overhead_seconds_count{%here}[%rate]))",
                "proxy",
            ),
        ),
    ),
    Panel(
        "Engine by operation, 99th percentile",
        "From the head that went to the engine to the head of its answer.",
        "s",
        (
            Query(
                "histogram_quantile(0.99, sum by (le, operation) "
                "(rate(sockproxy_engine_duration_seconds_bucket{%here,%operation}[%rate])))",
                "{{operation}}",
                has_exemplars=True,
            ),
        ),
    ),
    Panel(
        "What the proxy adds",
        "Over all forwarded requests: the time until the head went to the engine, and for unary operations from "
        "its answer to the end.",
        "s",
        tuple(
            Query(
                f"histogram_quantile({share}, sum by (le) (rate(sockproxy_overhead_seconds_bucket{{%here}}[%rate])))",
                name,
                has_exemplars=share == 0.99,
            )
            for share, name in ((0.5, "50th"), (0.95, "95th"), (0.99, "99th"))
        ),
    ),
    Panel(
        "Engine errors",
        "Requests a second that failed because the engine was away, too slow, or answered what cannot be read.",
        "reqps",
        (Query("sum by (reason) (rate(sockproxy_engine_errors_total{%here}[%rate]))", "{{reason}}"),),
    ),
    Panel(
        "Connections to the engine",
        "Idle ones are kept for the next request, busy ones carry an exchange.",
        "short",
        (Query("sum by (state) (sockproxy_engine_connections{%here})", "{{state}}"),),
        is_stacked=True,
    ),
    Panel(
        "Engine, by proxy",
        "Whether it answers, and whether it accepts connections. Reachable and not up is an engine that is stuck.",
        "none",
        (
            Query("sockproxy_engine_up{%here}", "{{instance}} answers"),
            Query("sockproxy_engine_reachable{%here}", "{{instance}} accepts"),
        ),
        max=1,
        words=YES_OR_NO,
    ),
)

_STREAMS = (
    Panel(
        "Open exchanges",
        "Decided and not completed. Streams and tunnels are counted apart, since they may live for days.",
        "short",
        (Query("sum by (kind) (sockproxy_exchanges_in_flight{%here})", "{{kind}}"),),
        is_stacked=True,
    ),
    Panel(
        "How long streams live, median",
        "Of streams and tunnels that ended, from the head of the answer to their end.",
        "s",
        (
            Query(
                "histogram_quantile(0.5, sum by (le, operation) "
                "(rate(sockproxy_stream_duration_seconds_bucket{%here,%operation}[%rate])))",
                "{{operation}}",
            ),
        ),
    ),
    Panel(
        "Bytes by direction",
        "Bodies and tunnels of exchanges that were completed; `in` is from the client. A stream counts when it ends.",
        "Bps",
        (Query("sum by (direction) (rate(sockproxy_bytes_total{%here,%operation}[%rate]))", "{{direction}}"),),
    ),
    Panel(
        "Bytes by operation",
        "The ten operations that carry most, in both directions.",
        "Bps",
        (
            Query(
                "topk(10, sum by (operation) (rate(sockproxy_bytes_total{%here,%operation}[%rate])))",
                "{{operation}}",
            ),
        ),
        width=24,
    ),
)

_ROOM = (
    Panel(
        "Limits in use",
        "How much of each limit is in use: of a principal's that of whoever has most, of several workers' the fullest.",
        "percentunit",
        (Query("max by (limit) (sockproxy_limit_used_ratio{%here})", "{{limit}}"),),
        max=1,
        limits=((0.8, "orange"), (0.95, "red")),
    ),
    Panel(
        "Limits hit",
        "How often a second a limit ended or refused something, by its key in the configuration.",
        "cps",
        (Query("sum by (limit) (rate(sockproxy_limits_hit_total{%here}[%rate]))", "{{limit}}"),),
    ),
    Panel(
        "Connections of clients",
        "Open connections, idle ones and those of streams as well.",
        "short",
        (Query("sum by (instance) (sockproxy_client_connections{%here})", "{{instance}}"),),
    ),
    Panel(
        "Processor",
        "CPU seconds a second of the proxy's process; of several workers their sum.",
        "percentunit",
        (Query("sum by (instance) (rate(process_cpu_seconds_total{%here}[%rate]))", "{{instance}}"),),
    ),
    Panel(
        "Memory",
        "Resident memory; of several workers the sum, in which what they share is counted several times.",
        "bytes",
        (Query("sum by (instance) (process_resident_memory_bytes{%here})", "{{instance}}"),),
    ),
    Panel(
        "Open files",
        "Descriptors in use of those that the process may open.",
        "percentunit",
        (
            Query(
                "max by (instance) (process_open_fds{%here}) / max by (instance) (process_max_fds{%here})",
                "{{instance}}",
            ),
        ),
        max=1,
        limits=((0.8, "orange"), (0.95, "red")),
    ),
    Panel(
        "What runs",
        "The version of each proxy, and of its Python.",
        "none",
        (Query("max by (instance, version, python) (sockproxy_build_info{%here})", "is there"),),
        "table",
        12,
        6,
        hidden=("Value",),
    ),
    Panel(
        "Policies in force",
        "Each with its mode and its revision, which is the hash of what it means.",
        "none",
        (Query("max by (policy, mode, revision) (sockproxy_policy_info{%here,%policy})", "is there"),),
        "table",
        12,
        6,
        hidden=("Value",),
    ),
)

BOARD = Board(
    "sockproxy-overview",
    "sockproxy / Overview",
    "What is asked of the Docker Engine through sockproxy, what becomes of it, how long it takes, and how much "
    "room is left.",
    (
        Row("At a glance", _GLANCE),
        Row("Requests: rate, errors, duration", _RED),
        Row("Denials", _DENIALS),
        Row("Engine and proxy", _ENGINE),
        Row("Streams and bytes", _STREAMS),
        Row("Room: limits and the process", _ROOM),
    ),
)
