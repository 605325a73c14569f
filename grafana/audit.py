"""The dashboard of whoever answers for the policies: what was denied and why, what is on trial, and whether the record holds.

No metric names a principal, since nobody could say how many there are. Who it was stands in the audit trail: the points on
the panels of denials carry the ids of its events.
"""

from grafana.shapes import Board, Panel, Query, Row

_DENIED = 'sockproxy_decisions_total{%here,%policy,%operation,effect="deny"}'
_ON_TRIAL = 'sockproxy_decisions_total{%here,%policy,%operation,effect="allow",reason!="allowed-by-rule"}'
_UNWRITTEN = 'sockproxy_audit_events_total{%here,result=~"failed|lost"}'

_GLANCE = (
    Panel(
        "Denied",
        "Denied requests a second.",
        "reqps",
        (Query(f"sum(rate({_DENIED}[%rate]))", "denied"),),
        "stat",
        4,
        4,
    ),
    Panel(
        "Would be denied",
        "Requests a second that pass only because a policy or a rule is in shadow.",
        "reqps",
        (Query(f"sum(rate({_ON_TRIAL}[%rate]))", "would be"),),
        "stat",
        4,
        4,
        limits=((0.001, "orange"),),
    ),
    Panel(
        "Not readable",
        "Requests a second that were refused before they could be judged.",
        "reqps",
        (Query("sum(rate(sockproxy_bad_requests_total{%here}[%rate]))", "bad"),),
        "stat",
        4,
        4,
        limits=((1, "orange"),),
    ),
    Panel(
        "Events recorded",
        "Audit events a second that a sink has taken; each request has two.",
        "cps",
        (Query('sum(rate(sockproxy_audit_events_total{%here,result="written"}[%rate]))', "written"),),
        "stat",
        4,
        4,
    ),
    Panel(
        "Events not recorded",
        "In the time shown: events that are lost for ever, and attempts to write that failed and were repeated.",
        "short",
        (Query(f"sum(increase({_UNWRITTEN}[$__range]))", "not recorded"),),
        "stat",
        4,
        4,
        limits=((1, "red"),),
    ),
    Panel(
        "Refused without a record",
        "In the time shown: requests that a policy allowed, and that were refused since no record of them could be "
        "written.",
        "short",
        (Query("sum(increase(sockproxy_audit_rejected_requests_total{%here}[$__range]))", "refused"),),
        "stat",
        4,
        4,
        limits=((1, "red"),),
    ),
)

_DENIALS = (
    Panel(
        "Denials by policy and operation",
        "Denied requests a second. Points are single denials; their `request_id` is what `sockproxy explain "
        "--audit` asks for.",
        "reqps",
        (Query(f"sum by (policy, operation) (rate({_DENIED}[%rate]))", "{{policy}}: {{operation}}", True),),
        width=12,
    ),
    Panel(
        "Denials by reason",
        "`no-rule`: nothing allows it; `denied-by-rule`: a rule forbids it; `requirement`: the request is not as a rule asks; "
        "`api-version`, `not-in-api-version`, `unknown-operation`, `no-client`: what it is, or who asks, is not "
        "admitted.",
        "reqps",
        (Query(f"sum by (reason) (rate({_DENIED}[%rate]))", "{{reason}}"),),
        width=12,
        is_stacked=True,
    ),
    Panel(
        "Denials by rule",
        "A second, also what would be denied under shadow. `none`: no rule allows it. A rule that allows, but requires more "
        "than there was, is named, too.",
        "reqps",
        (Query("sum by (rule) (rate(sockproxy_denials_total{%here,%policy}[%rate]))", "{{rule}}"),),
        width=12,
        is_stacked=True,
    ),
    Panel(
        "Denials by who asked",
        "A second, also what would be denied under shadow, by listener and by the policy that clients of that kind meet "
        "there. Which of them it was stands in the audit trail.",
        "reqps",
        (
            Query(
                "sum by (listener, policy) (rate(sockproxy_denials_total{%here,%policy}[%rate]))",
                "{{listener}}: {{policy}}",
            ),
        ),
        width=12,
        is_stacked=True,
    ),
    Panel(
        "What is denied most",
        "How often in the time shown. Who asked is in the audit trail: `sockproxy audit summary`.",
        "short",
        (Query(f"topk(50, sum by (policy, operation, reason) (increase({_DENIED}[$__range])) > 0)", "denied"),),
        "table",
        24,
    ),
    Panel(
        "Denied, share of each policy",
        "How much of what a policy decides it denies.",
        "percentunit",
        (
            Query(
                f"sum by (policy) (rate({_DENIED}[%rate])) "
                "/ sum by (policy) (rate(sockproxy_decisions_total{%here,%policy,%operation}[%rate]))",
                "{{policy}}",
            ),
        ),
        max=1,
    ),
    Panel(
        "Above the limits of a client",
        "Requests a second that their policy allows, and that were answered 429.",
        "reqps",
        (
            Query(
                'sum by (policy, operation) (rate(sockproxy_requests_total{%here,%policy,%operation,code="429"}[%rate]))',
                "{{policy}}: {{operation}}",
            ),
        ),
    ),
    Panel(
        "Requests that cannot be read",
        "A second, by what is wrong with them. A burst of many reasons is somebody who tries.",
        "reqps",
        (Query("sum by (reason) (rate(sockproxy_bad_requests_total{%here}[%rate])) > 0", "{{reason}}", True),),
    ),
)

_TRIAL = (
    Panel(
        "Would be denied, by policy and operation",
        "What a policy or a rule in shadow lets pass and would deny. None over a week of usual work: it can be "
        "enforced.",
        "reqps",
        (Query(f"sum by (policy, operation) (rate({_ON_TRIAL}[%rate]))", "{{policy}}: {{operation}}", True),),
        width=12,
    ),
    Panel(
        "What would be denied most",
        "How often in the time shown.",
        "short",
        (Query(f"topk(50, sum by (policy, operation, reason) (increase({_ON_TRIAL}[$__range])) > 0)", "would be"),),
        "table",
        12,
    ),
)

_RECORD = (
    Panel(
        "Audit events",
        "A second, by sink and result: `written` to it, `failed` attempts that are repeated, `lost` for ever.",
        "cps",
        (
            Query(
                "sum by (sink, result) (rate(sockproxy_audit_events_total{%here}[%rate]))",
                "{{sink}}: {{result}}",
            ),
        ),
        width=12,
    ),
    Panel(
        "Events for each request",
        "Two where all is recorded in one sink, four with two sinks. Less is a record with holes.",
        "short",
        (
            Query(
                'sum by (instance) (rate(sockproxy_audit_events_total{%here,result="written"}[%rate])) '
                "/ sum by (instance) (rate(sockproxy_requests_total{%here}[%rate]))",
                "{{instance}}",
            ),
        ),
        width=12,
    ),
)

_POLICIES = (
    Panel(
        "Operations allowed and used",
        "How many operations a policy can allow, and how many of them were asked for in the time shown. "
        "The runbook of SockproxyPolicyAllowsUnused says how to name the others.",
        "short",
        (
            Query("max by (policy) (sockproxy_policy_operations{%here,%policy})", "allowed"),
            Query(
                "count by (policy) (sum by (policy, operation) (increase(sockproxy_decisions_total"
                '{%here,%policy,operation!="unknown",reason="allowed-by-rule"}[$__range])) > 0)',
                "used",
            ),
        ),
        "table",
        12,
    ),
    Panel(
        "Policies in force",
        "Each with its mode and its revision, which is the hash of what it means. Two revisions of one policy: a "
        "reload is missing.",
        "none",
        (Query("count by (policy, mode, revision) (sockproxy_policy_info{%here,%policy})", "proxies"),),
        "table",
        12,
    ),
    Panel(
        "Time since a configuration was taken",
        "Since start, or since the last reload that was taken.",
        "s",
        (
            Query(
                "time() - max by (instance) (sockproxy_config_last_reload_success_timestamp_seconds{%here})",
                "{{instance}}",
            ),
        ),
        width=12,
        height=6,
    ),
    Panel(
        "Time until certificates end",
        "Of each TLS listener. A new one is taken by itself when its files change.",
        "s",
        (
            Query(
                "min by (instance, listener) (sockproxy_tls_certificate_not_after_seconds{%here}) - time()",
                "{{instance}} {{listener}}",
            ),
        ),
        width=12,
        height=6,
        min=None,
    ),
)

BOARD = Board(
    "sockproxy-audit",
    "sockproxy / Audit and denials",
    "What was denied and why, what would be, and whether the record is whole.",
    (
        Row("At a glance", _GLANCE),
        Row("Denials", _DENIALS),
        Row("On trial: policies and rules in shadow", _TRIAL),
        Row("The record", _RECORD),
        Row("Policies, configuration, certificates", _POLICIES),
    ),
)
