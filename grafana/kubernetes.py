"""The dashboard of a node: the operations of Kubernetes 1.4 under the names by which the kubelet counts them itself.

A kubelet tells `kubelet_docker_operations{operation_type="list_containers"}` and its latency; what is here is the same,
seen from the other side of the socket.
"""

from grafana.shapes import Board, Panel, Query, Row

NAMES = {
    "ContainerList": "list_containers",
    "ContainerInspect": "inspect_container",
    "ContainerChanges": "",
    "ContainerCreate": "create_container",
    "ContainerStart": "start_container",
    "ContainerStop": "stop_container",
    "ContainerKill": "kill",
    "ContainerDelete": "remove_container",
    "ContainerAttach": "attach",
    "ContainerLogs": "logs",
    "ContainerResize": "",
    "ImageList": "list_images",
    "ImageInspect": "inspect_image",
    "ImageHistory": "image_history",
    "ImageCreate": "pull_image",
    "ImageDelete": "remove_image",
    "SystemVersion": "version",
    "SystemInfo": "info",
    "ContainerExec": "create_exec",
    "ExecStart": "start_exec",
    "ExecResize": "",
    "ExecInspect": "inspect_exec",
}
"""What the policy kubernetes-1.4 allows -> `operation_type` in the kubelet's metrics; "": it does not count it."""

_THEIRS = "|".join(NAMES)
_REQUESTS = "sockproxy_requests_total{%here,%policy,%operation}"
_FAILED = 'sockproxy_requests_total{%here,%policy,%operation,code=~"[45]..|none"}'
_LIVE = 'operation=~"ContainerAttach|ContainerLogs|ExecStart"'


def _quantile(share: float, metric: str, matchers: str) -> str:
    return f"histogram_quantile({share}, sum by (le, operation) (rate({metric}_bucket{{%here,{matchers}}}[%rate])))"


_GLANCE = (
    Panel(
        "Operations in use",
        "How many of the 22 operations were asked for in the time shown.",
        "short",
        (Query(f"count(sum by (operation) (increase({_REQUESTS}[$__range])) > 0)", "in use"),),
        "stat",
        4,
        4,
        max=len(NAMES),
    ),
    Panel(
        "Operations a second",
        "How many of these 22 operations there are a second.",
        "reqps",
        (Query(f"sum(rate({_REQUESTS}[%rate]))", "operations"),),
        "stat",
        4,
        4,
    ),
    Panel(
        "Failed",
        "The share that was answered with 400 and above, or not at all. A 404 of an inspect is usual while pods go.",
        "percentunit",
        (Query(f"sum(rate({_FAILED}[%rate])) / sum(rate({_REQUESTS}[%rate]))", "failed"),),
        "stat",
        4,
        4,
        limits=((0.1, "orange"), (0.5, "red")),
    ),
    Panel(
        "Slower than a minute",
        "How many in the time shown, pulls included. The kubelet gives up after two minutes, and on a pull after "
        "one without progress.",
        "short",
        (
            Query(
                "sum(increase(sockproxy_request_duration_seconds_count{%here,%operation}[$__range])) "
                '- sum(increase(sockproxy_request_duration_seconds_bucket{%here,%operation,le="60.0"}[$__range]))',
                "slow",
            ),
        ),
        "stat",
        4,
        4,
        limits=((1, "orange"),),
    ),
    Panel(
        "Terminals and logs open",
        "Attach, exec and logs that are open now, and whatever else is a stream.",
        "short",
        (Query('sum(sockproxy_exchanges_in_flight{%here,kind=~"stream|tunnel"})', "open"),),
        "stat",
        4,
        4,
    ),
    Panel(
        "Asked for beyond these",
        "Requests a second for other operations. A kubelet of Kubernetes 1.4 makes none: it is not alone, or not "
        "of that version.",
        "reqps",
        (
            Query(
                f'sum(rate(sockproxy_requests_total{{%here,%policy,operation!~"{_THEIRS}"}}[%rate]))',
                "others",
            ),
        ),
        "stat",
        4,
        4,
        limits=((0.001, "orange"),),
    ),
)

_RED = (
    Panel(
        "Operations",
        "A second, as the kubelet's `kubelet_docker_operations`.",
        "reqps",
        (Query(f"sum by (operation) (rate({_REQUESTS}[%rate]))", "{{operation}}"),),
        is_stacked=True,
    ),
    Panel(
        "Errors",
        "A second: 400 and above, or no answer, as the kubelet's `kubelet_docker_operations_errors`.",
        "reqps",
        (Query(f"sum by (operation) (rate({_FAILED}[%rate]))", "{{operation}}"),),
        is_stacked=True,
    ),
    Panel(
        "Latency, 99th percentile",
        "As the kubelet's `kubelet_docker_operations_latency_microseconds`, to the head of the answer for attach, "
        "logs and exec.",
        "s",
        (Query(_quantile(0.99, "sockproxy_request_duration_seconds", "%operation"), "{{operation}}", True),),
        limits=((120, "red"),),
    ),
    Panel(
        "Latency, mean",
        "How long an operation takes on average.",
        "s",
        (
            Query(
                "sum by (operation) (rate(sockproxy_request_duration_seconds_sum{%here,%operation}[%rate])) "
                "/ (sum by (operation) (rate(sockproxy_request_duration_seconds_count{%here,%operation}[%rate])) > 0)",
                "{{operation}}",
            ),
        ),
    ),
    Panel(
        "The engine's share, 99th percentile",
        "Of the latency, the time that the engine took for the head of its answer.",
        "s",
        (Query(_quantile(0.99, "sockproxy_engine_duration_seconds", "%operation"), "{{operation}}"),),
    ),
    Panel(
        "Pulls",
        "How long pull_image takes, which is told when it has ended. The line is the minute without progress after "
        "which the kubelet cancels one.",
        "s",
        tuple(
            Query(_quantile(share, "sockproxy_request_duration_seconds", 'operation="ImageCreate"'), name)
            for share, name in ((0.5, "50th"), (0.99, "99th"))
        ),
        limits=((60, "orange"),),
    ),
)

_POLICY = (
    Panel(
        "Denied",
        "Of the 22 operations, a second: a policy that is stricter than kubernetes-1.4, or another client behind "
        "the same socket.",
        "reqps",
        (
            Query(
                "sum by (policy, operation) "
                '(rate(sockproxy_decisions_total{%here,%policy,%operation,effect="deny"}[%rate]))',
                "{{policy}}: {{operation}}",
                True,
            ),
        ),
        width=12,
    ),
    Panel(
        "Beyond these operations",
        "What else is asked for, a second, and what is decided. SystemPing is denied by a policy that is exactly "
        "the 22.",
        "reqps",
        (
            Query(
                "sum by (operation, effect) "
                f'(rate(sockproxy_decisions_total{{%here,%policy,operation!~"{_THEIRS}"}}[%rate]))',
                "{{operation}}: {{effect}}",
            ),
        ),
        width=12,
    ),
)

_TERMINALS = (
    Panel(
        "Attach, logs, exec: how long they lived",
        "The median, of those that ended.",
        "s",
        (Query(_quantile(0.5, "sockproxy_stream_duration_seconds", _LIVE), "{{operation}}"),),
    ),
    Panel(
        "Attach, logs, exec: bytes",
        "A second, both directions, counted when one ends.",
        "Bps",
        (Query(f"sum by (operation) (rate(sockproxy_bytes_total{{%here,{_LIVE}}}[%rate]))", "{{operation}}"),),
    ),
    Panel(
        "Resizes of terminals",
        "A second. New in Kubernetes 1.4: the size of a terminal is set on a second connection while the first one "
        "is taken over.",
        "reqps",
        (
            Query(
                'sum by (operation) (rate(sockproxy_requests_total{%here,%policy,operation=~"ContainerResize|ExecResize"}'
                "[%rate]))",
                "{{operation}}",
            ),
        ),
    ),
)

_ALL = (
    Panel(
        "All operations",
        "In the time shown: how often, how many of these failed, and how long they took on average.",
        "short",
        (
            Query(f"sum by (operation) (increase({_REQUESTS}[$__range]))", "asked"),
            Query(f"sum by (operation) (increase({_FAILED}[$__range]))", "failed"),
            Query(
                "sum by (operation) (increase(sockproxy_request_duration_seconds_sum{%here,%operation}[$__range])) "
                "/ sum by (operation) (increase(sockproxy_request_duration_seconds_count{%here,%operation}[$__range]))",
                "mean seconds",
            ),
        ),
        "table",
        24,
        14,
    ),
)

BOARD = Board(
    "sockproxy-kubernetes",
    "sockproxy / Kubernetes",
    "The 22 operations of Kubernetes 1.4 under the names by which the kubelet counts them.",
    (
        Row("At a glance", _GLANCE),
        Row("Operations: rate, errors, duration", _RED),
        Row("Policy", _POLICY),
        Row("Terminals and logs", _TERMINALS),
        Row("All of them", _ALL),
    ),
    operations=tuple(NAMES),
    names=tuple((operation, name) for operation, name in NAMES.items() if name),
)
