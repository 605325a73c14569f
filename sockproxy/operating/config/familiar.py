"""Words that people bring along from elsewhere, and what says the same here.

Owns these words. They are only told, and never read as what they may mean: a guess has no place in what decides who may do
what. Must not know where they stand (`document`, `auditing`). Words are in lower case, with `_` for `-`.
"""

from collections.abc import Iterator, Mapping

Familiar = Mapping[str, str]
"""A word -> what to write in its place, as it follows on "here: "."""


def _each(*rows: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for words, meant in rows:
        yield from ((word, meant) for word in words.split())


IN_DOCUMENT: Familiar = dict(
    _each(
        ("rules", "`audit_rules`, or `allow` and `deny` of one of `policies`"),
        ("log logs trail trails sinks audit_log", "`audit`, a list"),
        ("audit_file audit_path", "`audit: [{file: ...}]`"),
        ("audit_hmac_key hmac_key redaction_key redaction", "`audit_key`, the file of the key"),
        ("admin_token token token_file bearer_token admin_token_path", "`admin_token_file`"),
        (
            "metrics metrics_addr metrics_address admin_address admin_listen",
            "`admin`, an address as tcp://127.0.0.1:9323",
        ),
        ("tracing traces spans otel", "a sink of `audit`: `otlp: http://host:4318/v1/traces`"),
        ("terminals sessions record", "`recordings: {directory: ...}`, and `record: true` in a rule"),
        ("listen address socket", "`listeners: [{address: ..., policy: ...}]`"),
        ("docker docker_host upstream backend", "`engine`"),
        ("workers processes", "an option, serve --workers N"),
        ("log_level log_format", "options of serve, --log-level and --log-format"),
    )
)

IN_SINK: Familiar = dict(
    _each(
        ("rules audit_rules", "`audit_rules` beside `audit`, of all sinks"),
        ("stdout standard_output console stream", '`file: "-"`'),
        ("path filename", "`file`"),
        (
            "url endpoint address type sink",
            "one of `file`, `syslog`, `journald`, `otlp`, `kafka`, with the address behind it",
        ),
        (
            "checkpoint checkpoints signing sign_key signing_key signature",
            "`sign: {key: ..., every: ..., seconds: ...}`",
        ),
        ("rotation rotate_bytes rotate_seconds max_size max_bytes", "`rotate: {bytes: ..., seconds: ..., keep: ...}`"),
        ("sync flush fsync_interval fsync_seconds", "`fsync`: always, interval (each second) or never"),
        ("hmac_key audit_key redaction_key", "`audit_key` beside `audit`, of all sinks"),
        ("failure on_error fail_mode", "`on_failure`"),
        ("queue queue_size queue_max queue_bytes queue_limit buffer", "`queue_bytes_max`"),
        ("brokers bootstrap_servers topic", "`kafka: kafka://broker-1:9092,broker-2:9092/topic`"),
        ("facility", "nothing; it is 13, log audit"),
        ("ca cert client_cert", "under `tls`"),
    )
)

IN_ROTATION: Familiar = dict(
    _each(
        ("size max_size max_bytes bytes_max size_bytes", "`bytes`, a number"),
        ("time interval period age max_age every daily", "`seconds`: 86400 is daily"),
        ("backups max_backups files max_files count", "`keep`"),
    )
)

IN_SIGNING: Familiar = dict(
    _each(
        ("private_key key_file file", "`key`"),
        ("interval every_seconds", "`seconds`"),
        ("lines events every_lines every_events", "`every`"),
    )
)

IN_RECORDINGS: Familiar = dict(
    _each(
        ("dir path folder", "`directory`"),
        ("max_bytes max_size size bytes size_max", "`bytes_max`"),
        ("input record_input", "`record_input: true` in a rule of a policy"),
    )
)

OF_FAILURE: Familiar = dict(
    _each(("ignore allow allow_all warn log fail_open", "continue"), ("deny fail_closed", "deny-writes"))
)
