"""The configuration: what is wrong is told at once with its place, what is right becomes a Config, nothing else happens."""

import json
from dataclasses import asdict, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy.data import builtin_policy_names, load_builtin_policy, load_operations
from sockproxy.errors import ConfigError, Finding
from sockproxy.exchange import Level
from sockproxy.forwarding.address import Address, TlsFiles
from sockproxy.forwarding.limits import Limits
from sockproxy.judging.catalogue import ApiVersion, Catalogue
from sockproxy.judging.clients import Match
from sockproxy.judging.policy import Effect, Mode
from sockproxy.judging.versions import ApiVersions
from sockproxy.operating.config import (
    AuditConfig,
    Config,
    UnreadableFile,
    check_config,
    config_from_options,
    json_schema,
    load_config,
    load_policy,
)
from sockproxy.operating.config import policies as policies_module
from sockproxy.operating.config import source as source_module
from sockproxy.operating.config.model import CollectorConfig, RotateConfig, SignConfig
from sockproxy.operating.config.wording import key_of, nearest, quoted
from sockproxy.recording.levels import AuditRule

ROOT = Path(__file__).parent.parent
BUILT_IN = "built-in are allow-all, ci, kubernetes-1.3, kubernetes-1.4, readonly, and one a client"
SAMPLE = ROOT / "config" / "sockproxy.yaml"
TLS_OF_COLLECTOR = {"ca": "ca", "cert": "client", "key": "client-key"}
CATALOGUE = Catalogue(load_operations())
CASES = yaml.safe_load((Path(__file__).parent / "cases" / "config_findings.yaml").read_text(encoding="utf-8"))
SERVE = 'version: 1\nlisteners: [{address: "unix:///run/p.sock", policy: readonly}]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sockproxy.yaml"


def findings_of(file: Path) -> tuple[Finding, ...]:
    try:
        check_config(str(file), CATALOGUE)
    except ConfigError as error:
        return error.findings
    return ()


# What is wrong


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_findings(case: dict[str, Any], file: Path) -> None:
    file.write_text(case["text"], encoding="utf-8")
    found = findings_of(file)
    assert [f"{one.line}: {one.key}: {one.message}" for one in found] == case["findings"]
    assert {one.file for one in found} <= {str(file)}


def test_a_finding_is_one_line(file: Path) -> None:
    file.write_text('version: 1\n"a\\nb\\x1b[31m": 1\npolicies: {ci: {mode: "x\\ny"}}\n', encoding="utf-8")
    known = "version, engine, listeners, admin, admin_token_file, audit, audit_rules, audit_key, recordings, limits, policies"
    assert [str(one) for one in findings_of(file)] == [
        f"{file}:2: a\\nb\\x1b[31m: unknown key; known here: {known}",
        f'{file}:3: policies.ci.mode: expected "enforce" or "shadow", not "x\\ny"',
    ]


def test_not_utf_8(file: Path) -> None:
    file.write_bytes(b"version: 1\nengine: \xff\n")
    assert findings_of(file) == (Finding(str(file), 2, "", "not UTF-8 text"),)


@pytest.mark.parametrize("name", ["missing.yaml", "", "a\0b", "n" * 300])
def test_an_unreadable_file_is_told_apart(name: str, tmp_path: Path) -> None:
    for read in (load_config, check_config):
        with pytest.raises(UnreadableFile) as caught:
            read(f"{tmp_path}/{name}", CATALOGUE)
        assert caught.value.findings[0].message.startswith("cannot be read: ")


def test_a_file_that_is_read_and_wrong_is_not_unreadable(file: Path) -> None:
    file.write_text("version: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file), CATALOGUE)
    assert not isinstance(caught.value, UnreadableFile)


OWN_CI = "policies: {ci: {allow: [{operations: [ContainerList]}]}, more: {extends: [ci]}}\n"


def test_a_policy_of_the_file_comes_before_a_built_in_one_of_its_name(file: Path) -> None:
    text = f"version: 1\nlisteners: [{{address: /a, policy: ci}}, {{address: /b, policy: more}}]\n{OWN_CI}"
    file.write_text(text, encoding="utf-8")
    policies = [listener.clients[0].policy for listener in load_config(str(file), CATALOGUE).listeners]
    policies += [load_policy(f"{file}#{name}", CATALOGUE) for name in ("ci", "more")]
    assert [[rule.selectors for rule in policy.allow] for policy in policies] == [[("ContainerList",)]] * 4
    assert len(load_policy("ci", CATALOGUE).allow) > 1
    told = [str(one) for one in check_config(str(file), CATALOGUE)]
    assert told == [f"note: {file}:3: policies.ci: takes the place of the built-in policy of that name here"]


def test_a_copy_of_a_built_in_policy_is_no_surprise(file: Path) -> None:
    file.write_text(load_builtin_policy("readonly")[1], encoding="utf-8")
    assert check_config(str(file), CATALOGUE) == ()


def test_rules_of_the_same_name_are_all_kept(file: Path) -> None:
    """`ci`, which is built in, extends the built-in buildx-docker-driver; beside it stands the file's own."""
    own = "buildx-docker-driver: {deny: [{operations: [Session]}], allow: [{operations: [ContainerPause]}]}"
    file.write_text(
        f"version: 1\npolicies: {{{own}, both: {{extends: [ci, buildx-docker-driver]}}}}\n", encoding="utf-8"
    )
    both = load_policy(f"{file}#both", CATALOGUE)
    theirs = [*load_policy("ci", CATALOGUE).allow, *load_policy(f"{file}#buildx-docker-driver", CATALOGUE).allow]
    assert [(rule.name, rule.selectors) for rule in both.allow] == [(rule.name, rule.selectors) for rule in theirs]
    assert len(both.deny) == 1


AUDITED = "version: 1\nlisteners: [{address: /a, policy: readonly}]\naudit: [{file: a.jsonl, level: Request}]\n"
NOTE = "note: {}:4: audit_rules[0]: leaves no record of what may change the engine: "

# (a rule, the advice on it)
AUDIT_RULES = [
    ("{level: None, operations: [SystemPing, '@read']}", []),
    ("{level: Metadata}", []),
    ("{level: None, effect: deny}", []),
    ("{level: None, operations: [ContainerStart, SystemPing]}", [f"{NOTE}ContainerStart"]),
    ("{level: None, operations: ['@unknown']}", [f"{NOTE}@unknown"]),
]


@pytest.mark.parametrize(("rule", "advice"), AUDIT_RULES)
def test_a_rule_that_leaves_out_writes_is_noted(rule: str, advice: list[str], file: Path) -> None:
    file.write_text(f"{AUDITED}audit_rules: [{rule}]\n", encoding="utf-8")
    assert [str(one) for one in check_config(str(file), CATALOGUE)] == [one.format(file) for one in advice]


def test_audit_rules_come_to_this(file: Path) -> None:
    rule = "{level: None, operations: ['@Exec', SystemPing], principals: [{uid: 0}, {cidr: 10.0.0.0/8}], effect: allow}"
    file.write_text(f"{AUDITED}audit_rules: [{rule}, {{level: Request}}]\n", encoding="utf-8")
    config = load_config(str(file), CATALOGUE)
    first, second = config.audit_rules
    assert (first.level, first.effect, second) == (Level.NONE, Effect.ALLOW, AuditRule(Level.REQUEST))
    assert first.operations == {"ExecStart", "ExecInspect", "ExecResize", "ContainerExec", "SystemPing"}
    assert first.principals == (Match((("uid", 0),)), Match((("cidr", ip_network("10.0.0.0/8")),)))
    assert config.audit_key == (f"{file.parent}/a.key", f"{file.parent}/a.jsonl")


# (the keys of a configuration that say where records go, the file of the key)
AUDIT_KEYS = [
    ("", ""),
    ("audit: [{file: '-'}]", ""),
    ("audit: [{file: '-'}, {file: b.jsonl}, {file: c}]", "{}/b.key"),
    ("audit: [{file: b}]", "{}/b.key"),
    ("audit_key: k", "{}/k"),
    ("audit: [{file: b}]\naudit_key: /k", "/k"),
]


@pytest.mark.parametrize(("keys", "expected"), AUDIT_KEYS)
def test_the_key_stands_beside_the_first_trail(keys: str, expected: str, file: Path) -> None:
    file.write_text(f"version: 1\nlisteners: [{{address: /a, policy: readonly}}]\n{keys}\n", encoding="utf-8")
    assert load_config(str(file), CATALOGUE).audit_key.file == expected.format(file.parent)


@pytest.mark.parametrize(
    ("admin", "is_noted"),
    [("tcp://0.0.0.0:9323", True), ("tcp://127.0.0.1:9323", False), ("unix:///run/sockproxy/admin.sock", False)],
)
def test_an_admin_listener_that_others_reach_is_noted(admin: str, is_noted: bool, file: Path) -> None:
    file.write_text(f'version: 1\nlisteners: [{{address: "unix:///run/x.sock", policy: readonly}}]\nadmin: {admin}\n')
    told = [str(one) for one in check_config(str(file), CATALOGUE)]
    assert (
        told
        == [f"note: {file}:3: admin: who reaches it there sees who asks for what; only changes need the token"]
        * is_noted
    )


def test_files_of_tls_that_are_not_there_are_told(file: Path) -> None:
    file.with_name("cert.pem").write_text("")
    tls = "tls: {cert: cert.pem, key: key.pem}"
    file.write_text(f"version: 1\nlisteners:\n  - {{address: tcp://127.0.0.1:1, policy: readonly, {tls}}}\n")
    told = [str(one) for one in check_config(str(file), CATALOGUE)]
    missing = file.with_name("key.pem")
    assert told == [f"warning: {file}:3: listeners[0].tls.key: {missing} cannot be read here, and serve needs it"]


def test_advice_is_told_in_the_order_of_the_file_and_of_files_that_it_names(file: Path) -> None:
    risky = "[{operations: [ContainerCreate], require: {bind_sources: [/srv/**]}}]"
    other = file.with_name("other.yaml")
    other.write_text(f"version: 1\npolicies:\n  p:\n    allow: {risky}\n", encoding="utf-8")
    text = f"version: 1\nlisteners: [{{address: /a, policy: other.yaml}}]\npolicies:\n  q: {{allow: {risky}}}\n  ci: {{}}\n"
    file.write_text(text, encoding="utf-8")
    found = [(one.kind, one.finding.file, one.finding.line) for one in check_config(str(file), CATALOGUE)]
    assert found == [("warning", str(file), 4), ("note", str(file), 5), ("warning", str(other), 4)]


def test_policies_alone_can_be_checked_but_not_served(file: Path) -> None:
    file.write_text("version: 1\npolicies: {ci: {}}\n", encoding="utf-8")
    check_config(str(file), CATALOGUE)
    with pytest.raises(ConfigError, match="nowhere to listen"):
        load_config(str(file), CATALOGUE)


# Bounds


def chain(length: int, *, is_root_first: bool = True) -> str:
    lines = [f"  p{index}: {{extends: [p{index + 1}]}}\n" for index in range(length - 1)]
    lines.append(f"  p{length - 1}: {{}}\n")
    return "version: 1\npolicies:\n" + "".join(lines if is_root_first else reversed(lines))


def crowd(count: int) -> str:
    return "version: 1\npolicies:\n" + "".join(f"  p{index}: {{}}\n" for index in range(count))


BOUNDS = [
    ("file", lambda n: SERVE + "#" * (n - len(SERVE)), source_module.FILE_BYTES_MAX, "larger than 1 MiB"),
    ("depth", lambda n: f"version: {'[' * n}{']' * n}\n", source_module.DEPTH_MAX, "nested more than 16 deep"),
    ("policies", crowd, policies_module.POLICIES_MAX, "more than 1000 policies"),
    (
        "extends-backwards",
        lambda n: chain(n, is_root_first=False),
        policies_module.EXTENDS_DEPTH_MAX,
        "more than 16 policies in a row that extend one another",
    ),
    ("extends", chain, policies_module.EXTENDS_DEPTH_MAX, "more than 16 policies in a row that extend one another"),
]


@pytest.mark.parametrize("text, bound, message", [row[1:] for row in BOUNDS], ids=[row[0] for row in BOUNDS])
def test_bounds(text: Any, bound: int, message: str, file: Path) -> None:
    for size, is_over in ((bound, False), (bound + 1, True)):
        file.write_text(text(size), encoding="utf-8")
        assert (message in [one.message for one in findings_of(file)]) is is_over


def test_nesting_without_end_is_no_recursion_without_end(file: Path) -> None:
    for text in ("[" * 500_000, "{a: " * 200_000, "- " * 500_000):
        file.write_text(text, encoding="utf-8")
        assert findings_of(file)


def test_a_policy_of_ten_thousand_rules_fits(file: Path) -> None:
    rules = "".join("      - {operations: [ContainerList, '@Exec']}\n" for _ in range(10_000))
    file.write_text(f"version: 1\npolicies:\n  big:\n    allow:\n{rules}", encoding="utf-8")
    allow = load_policy(str(file), CATALOGUE).allow
    assert len(allow) == 10_000
    assert all(rule.operations is allow[0].operations for rule in allow)  # what is alike is looked up and kept once


# What is right


def test_the_sample_is_valid_and_comes_to_this() -> None:
    config = load_config(str(SAMPLE), CATALOGUE)
    builders, plain, network, local = config.listeners
    assert config.engine == Address("unix", path="/var/run/docker.sock")
    assert (builders.name, builders.address.path, builders.policy_names[0]) == (
        "builders",
        "/run/sockproxy/docker.sock",
        "ci",
    )
    assert (builders.mode, builders.owner, builders.group) == (0o660, "root", "root")
    assert (plain.name, plain.policy_names, plain.mode, plain.insecure) == (
        "tcp://10.0.0.5:2375",
        ("readonly",),
        None,
        True,
    )
    beside = SAMPLE.parent
    assert network.tls == TlsFiles(f"{beside}/server.pem", f"{beside}/server-key.pem", f"{beside}/ca.pem")
    assert network.clients[0].match == Match((("tls_subject", ("cn=ci-*",)), ("cidr", ip_network("10.0.0.0/8"))))
    assert [client.policy.name for client in network.clients] == ["ci", "ci", "readonly", "readonly"]
    assert local.clients[0].match == Match((("uid", 0),))
    assert config.admin == Address("tcp", host="127.0.0.1", port=9323)
    assert config.admin_token_file == f"{beside}/admin-token"
    sign = SignConfig("/etc/sockproxy/signing.key", every=1000, seconds=10)
    rotate = RotateConfig(bytes_max=104857600, seconds=86400, keep=30)
    file, syslog, journald, otlp, kafka = config.audit
    assert file == AuditConfig("/var/log/sockproxy/audit.jsonl", "Metadata", "deny-writes", sign, rotate)
    assert (syslog.file, syslog.on_failure) == ("tls://logs.example.com:6514", "continue")
    tls = {name: str(SAMPLE.parent / f"{file}.pem") for name, file in TLS_OF_COLLECTOR.items()}
    assert syslog.collector == CollectorConfig(
        "syslog", "tls", "logs.example.com", 6514, **tls, queue_bytes_max=8388608
    )
    assert journald.collector is not None
    assert (journald.collector.kind, journald.collector.path) == ("journald", "/run/systemd/journal/socket")
    assert otlp.collector is not None
    assert (otlp.collector.scheme, otlp.collector.path) == ("https", "/v1/logs")
    assert otlp.collector.headers == (("Authorization", "Bearer SECRET"),)
    assert kafka.collector is not None
    assert (kafka.collector.scheme, kafka.collector.path) == ("kafkas", "/sockproxy-audit")
    assert kafka.collector.servers == ("broker-1.example.com:9093", "broker-2.example.com:9093")
    assert set(config.policies) == {"ci", "readonly", "allow-all"}
    assert config.policies["ci"].api_versions == ApiVersions(ApiVersion(1, 24), ApiVersion(1, 55), True)


def test_the_sample_shows_every_limit_with_its_default() -> None:
    written = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["limits"]
    assert written == asdict(Limits())
    assert list(written) == [field.name for field in fields(Limits)]


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for one in value.values() for key in keys_of(one)}
    return {key for one in value for key in keys_of(one)} if isinstance(value, list) else set()


def known_keys(schema: dict[str, Any]) -> set[str]:
    definitions = (schema, *schema["$defs"].values())
    return {key for definition in definitions for key in definition["properties"]}


def test_the_sample_shows_every_key() -> None:
    shown = keys_of(yaml.safe_load(SAMPLE.read_text(encoding="utf-8")))
    assert shown - {"ci", "owner", "platform", "Authorization"} == known_keys(json_schema()) - {"owner"}


def test_what_is_left_out_has_its_default(file: Path) -> None:
    file.write_text(SERVE + 'audit: [{file: "-"}]\npolicies: {ci: {}}\n', encoding="utf-8")
    config = load_config(str(file), CATALOGUE)
    (listener,) = config.listeners
    assert (listener.name, listener.mode) == ("unix:///run/p.sock", 0o660)
    assert (listener.owner, listener.group) == (None, None)
    assert config.engine == Address("unix", path="/var/run/docker.sock")
    assert (config.admin, config.limits) == (None, Limits())
    assert config.audit == (AuditConfig("-", "Metadata", "deny-writes"),)
    assert config.policies["ci"].mode is Mode.ENFORCE


def test_limits_are_changed_one_by_one(file: Path) -> None:
    file.write_text(SERVE + "limits: {connect_seconds: 1, fields_max: 7}\n", encoding="utf-8")
    assert load_config(str(file), CATALOGUE).limits == Limits(connect_seconds=1.0, fields_max=7)


def test_owner_and_group_are_names_or_numbers(file: Path) -> None:
    file.write_text(SERVE.replace("readonly", "readonly, owner: 1000, group: docker"), encoding="utf-8")
    (listener,) = load_config(str(file), CATALOGUE).listeners
    assert (listener.owner, listener.group) == ("1000", "docker")


ADMITTED = [
    ("", ApiVersions(None, None, True)),
    ('{min: "1.24"}', ApiVersions(ApiVersion(1, 24), None, True)),
    ('{max: "1.24"}', ApiVersions(None, ApiVersion(1, 24), False)),
    ('{max: "1.24", unversioned: allow}', ApiVersions(None, ApiVersion(1, 24), True)),
    ('{min: "1.9", max: "1.24"}', ApiVersions(ApiVersion(1, 9), ApiVersion(1, 24), False)),
    ("{unversioned: deny}", ApiVersions(None, None, False)),
]


@pytest.mark.parametrize("written, expected", ADMITTED)
def test_api_versions(written: str, expected: ApiVersions, file: Path) -> None:
    text = f"version: 1\npolicies: {{ci: {{api_versions: {written or 'null'}}}}}\n"
    file.write_text(text, encoding="utf-8")
    assert load_policy(str(file), CATALOGUE).api_versions == expected


def test_own_api_versions_replace_those_that_are_extended_as_a_whole(file: Path) -> None:
    text = "version: 1\npolicies: {ci: {extends: [kubernetes-1.4], api_versions: {unversioned: deny}}}\n"
    file.write_text(text, encoding="utf-8")
    assert load_policy(str(file), CATALOGUE).api_versions == ApiVersions(None, None, False)


def test_a_reason_of_several_lines_is_one(file: Path) -> None:
    rule = "{operations: ['*'], reason: \"no\\n  swarm\\n\"}"
    file.write_text(f"version: 1\npolicies: {{ci: {{deny: [{rule}]}}}}\n", encoding="utf-8")
    assert load_policy(str(file), CATALOGUE).deny[0].reason == "no swarm"


SAME = [
    "version: 1\npolicies:\n  ci:\n    allow:\n      - operations: [ExecStart, ContainerExec]\n        reason: r\n",
    "version: 1\npolicies: {ci: {allow: [{reason: r, operations: [ContainerExec, ExecStart]}]}} # a comment\n",
    '{"policies": {"ci": {"mode": "enforce", "allow": [{"operations": ["ContainerExec", "ExecStart"], "reason": "r"}],'
    ' "deny": []}}, "version": 1}',
]


def test_the_revision_is_of_the_meaning_and_not_of_the_writing(file: Path) -> None:
    revisions = set()
    for text in SAME:
        file.write_text(text, encoding="utf-8")
        revisions.add(load_policy(str(file), CATALOGUE).revision)
    assert len(revisions) == 1


# Where a policy is


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.yaml").write_text("version: 1\npolicies: {one: {extends: [readonly]}}\n", encoding="utf-8")
    (tmp_path / "two.yml").write_text("version: 1\npolicies: {a: {}, b: {extends: [a]}}\n", encoding="utf-8")
    (tmp_path / "none.yaml").write_text("version: 1\npolicies: {}\n", encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text("version: 1\npolicies: {one: {mode: on}}\n", encoding="utf-8")
    (tmp_path / "other.yaml").write_text("version: 1\npolicies: {one: {mode: shadow}}\n", encoding="utf-8")
    (tmp_path / "full.yaml").write_text(SERVE + "policies: {mine: {}}\n", encoding="utf-8")
    return tmp_path


REFERENCES = [
    ("readonly", "readonly"),
    ("{}/one.yaml", "one"),
    ("{}/one.yaml#one", "one"),
    ("{}/two.yml#b", "b"),
    ("{}/full.yaml", "mine"),
]


@pytest.mark.parametrize("reference, name", REFERENCES)
def test_a_reference_leads_to_a_policy(reference: str, name: str, folder: Path) -> None:
    assert load_policy(reference.format(folder), CATALOGUE).name == name


ASTRAY = [
    ("readnly", "", 'no policy "readnly"; did you mean "readonly"?'),
    ("staging", "", f'no policy "staging"; {BUILT_IN}'),
    ("", "", f'no policy ""; {BUILT_IN}'),
    ("{}/two.yml", "{}/two.yml", "2 policies; choose one by {}/two.yml#NAME"),
    ("{}/two.yml#bb", "{}/two.yml", 'no "bb"; did you mean "b"?'),
    ("{}/none.yaml", "{}/none.yaml", "0 policies"),
    ("{}/wrong.yaml", "{}/wrong.yaml", 'expected "enforce" or "shadow", not "on"'),
    ("{}/nowhere.yaml", "{}/nowhere.yaml", "cannot be read: No such file or directory"),
]


@pytest.mark.parametrize("reference, file, message", ASTRAY)
def test_a_reference_that_leads_astray(reference: str, file: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_policy(reference.format(folder), CATALOGUE)
    (finding,) = caught.value.findings
    assert (finding.file, finding.message) == (file.format(folder), message.format(folder))


def test_listeners_refer_to_files_beside_their_own(folder: Path) -> None:
    listeners = "[{address: /a, policy: one.yaml}, {address: /b, policy: two.yml#b}, {address: /c, policy: ci}]"
    main = folder / "main.yaml"
    main.write_text(
        f"version: 1\nlisteners: {listeners}\npolicies: {{ci: {{}}}}\naudit: [{{file: a}}]\n", encoding="utf-8"
    )
    config = load_config(str(main), CATALOGUE)
    assert [listener.policy_names for listener in config.listeners] == [("one",), ("b",), ("ci",)]
    assert set(config.policies) == {"one", "b", "ci"}
    assert config.audit[0].file == str(folder / "a")


def test_all_that_is_wrong_in_all_files_is_told_at_once(folder: Path) -> None:
    listeners = "[{address: /a, policy: wrong.yaml}, {address: /b, policy: wrong.yaml}, {address: c, policy: no.yaml}]"
    main = folder / "main.yaml"
    main.write_text(f"version: 1\nlisteners: {listeners}\n", encoding="utf-8")
    assert [str(one) for one in findings_of(main)] == [
        f"{main}:2: listeners[2].address: c: expected unix:///path, tcp://host:port or systemd://name",
        f"{main}:2: listeners[2].policy: {folder}/no.yaml cannot be read: No such file or directory",
        f'{folder}/wrong.yaml:2: policies.one.mode: expected "enforce" or "shadow", not "on"',
    ]


def test_one_name_has_one_meaning(folder: Path) -> None:
    main = folder / "main.yaml"
    main.write_text(
        "version: 1\nlisteners: [{address: /a, policy: one.yaml}, {address: /b, policy: other.yaml}]\n",
        encoding="utf-8",
    )
    (finding,) = findings_of(main)
    assert (finding.key, finding.message) == ("listeners[1].policy", '"one" is the name of another policy in use, too')


# The options of the command line


def test_options_are_another_way_to_the_same() -> None:
    config = config_from_options(
        CATALOGUE,
        listen=["unix:///run/p.sock", "tcp://127.0.0.1:80"],
        engine="tcp://engine:2375",
        policy="kubernetes-1.4",
        admin="tcp://127.0.0.1:9323",
        audit=["-", "audit.jsonl"],
    )
    assert [str(listener.address) for listener in config.listeners] == ["unix:///run/p.sock", "tcp://127.0.0.1:80"]
    assert {listener.policy_names for listener in config.listeners} == {("kubernetes-1.4",)}
    assert (str(config.engine), str(config.admin)) == ("tcp://engine:2375", "tcp://127.0.0.1:9323")
    assert [(sink.file, sink.on_failure) for sink in config.audit] == [
        ("-", "deny-writes"),
        ("audit.jsonl", "deny-writes"),
    ]


def test_one_option_and_the_file_come_to_the_same(file: Path) -> None:
    file.write_text(SERVE + 'audit: [{file: "-"}]\n', encoding="utf-8")
    config = config_from_options(CATALOGUE, listen="unix:///run/p.sock", policy="readonly", audit="-")
    assert config == load_config(str(file), CATALOGUE)


def test_findings_name_the_options() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_options(
            CATALOGUE, listen=["x", "/a", "/a"], engine="", policy="builds", admin="http://a", audit=["", "-"]
        )
    assert [f"{one.file}: {one.key}: {one.message}" for one in caught.value.findings] == [
        'command line: --engine: expected text, not ""',
        'command line: --audit: expected text, not ""',
        "command line: --listen: x: expected unix:///path, tcp://host:port or systemd://name",
        f'command line: --policy: no policy "builds"; {BUILT_IN}',
        "command line: --listen: unix:///a is the address of listeners[1].address, too",
        "command line: --admin: http://a: expected unix:///path, tcp://host:port or systemd://name",
    ]


def test_plain_tcp_beyond_loopback_has_to_be_meant() -> None:
    listen = ["tcp://0.0.0.0:2375", "tcp://localhost:2375", "unix:///a"]
    with pytest.raises(ConfigError) as caught:
        config_from_options(CATALOGUE, listen=listen, policy="readonly")
    assert [one.key for one in caught.value.findings] == ["--listen"]
    config = config_from_options(CATALOGUE, listen=listen, policy="readonly", insecure=True)
    assert [listener.insecure for listener in config.listeners] == [True, True, False]


# The schema


def test_the_schema_knows_what_there_is() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    words, pattern = definitions["RuleDocument"]["properties"]["operations"]["items"]["anyOf"]
    assert {*CATALOGUE.operations, "@Container", "@read", "@write", "@tunnel", "@unknown"} <= set(words["enum"])
    assert pattern["type"] == "string"
    for model, place in (("ListenerDocument", "policy"), ("PolicyDocument", "extends")):
        assert json.dumps(list(builtin_policy_names())) in json.dumps(definitions[model]["properties"][place])
    assert set(definitions["Limits"]["properties"]) == {field.name for field in fields(Limits)}
    assert schema["required"] == ["version"]
    assert schema["properties"]["version"]["const"] == 1


def test_the_schema_refuses_unknown_keys_and_describes_known_ones() -> None:
    schema = json.loads(json.dumps(json_schema()))
    for definition in (schema, *schema["$defs"].values()):
        assert definition["additionalProperties"] is False
        assert definition["description"]
        undescribed = [key for key, one in definition["properties"].items() if not one.get("description")]
        assert undescribed == []


# The nearest right word

NEAREST = [
    ("ContainerStrat", ["ContainerStats", "ContainerStart"], "ContainerStart"),
    ("containerlist", ["ContainerList"], "ContainerList"),
    ("operation", ["reason", "operations"], "operations"),
    ("a", ["b", "c"], "b"),
    ("", ["a"], "a"),
    ("limit", ["policies", "engine"], None),
    ("x" * 1000, ["x" * 60], "x" * 60),
    ("anything", [], None),
]


@pytest.mark.parametrize("word, words, expected", NEAREST, ids=[row[0][:20] for row in NEAREST])
def test_nearest(word: str, words: list[str], expected: str | None) -> None:
    assert nearest(word, words) == expected


def test_quoting() -> None:
    assert quoted("a\nb\x1b\u202e") == '"a\\nb\\x1b\\u202e"'
    assert quoted("x" * 61) == '"' + "x" * 60 + '..."'
    assert key_of(("policies", "ci", "allow", 0, "operations", 2)) == "policies.ci.allow[0].operations[2]"
    assert key_of(("a\nb",)) == "a\\nb"


# Whatever is written, it is a Config or a ConfigError


def read(text: str, file: Path) -> Config | ConfigError:
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return load_config(str(file), CATALOGUE)
    except ConfigError as error:
        assert error.findings
        assert all("\n" not in str(one) and " " in one.message for one in error.findings)  # a line, of our words
        return error


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "any.yaml"


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text(text: str, scratch: Path) -> None:
    read(text, scratch)


TEXT = SAMPLE.read_text(encoding="utf-8")
bits = st.sampled_from(
    ["", " ", "\n", "-", ": ", "[", "]", "{", "}", '"', "'", "#", "*a", "&a ", "!a ", "|\n", "null", "0", "\t"]
)


@settings(max_examples=150, deadline=None)
@given(start=st.integers(0, len(TEXT)), length=st.integers(0, 40), bit=bits | st.text(max_size=3))
def test_any_change_of_the_sample(start: int, length: int, bit: str, scratch: Path) -> None:
    read(TEXT[:start] + bit + TEXT[start + length :], scratch)


keys = st.sampled_from(
    ["", "0", *sorted({*known_keys(json_schema()), "ci", "readonly", "polices", "alow", "operation"})]
)
words = st.sampled_from(
    [
        "",
        "*",
        "@read",
        "ContainerList",
        "readonly",
        "ci",
        "unix:///a",
        "tcp://:1",
        "1.24",
        "0660",
        "-",
        "shadow",
        "allow",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4),
    max_leaves=25,
)
shapes = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "listeners": values | st.lists(st.dictionaries(keys, scalars, max_size=4), max_size=3),
        "audit": values,
        "limits": values,
        "policies": values | st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4),
    },
)


@settings(max_examples=200, deadline=None)
@given(content=values | shapes)
def test_any_content(content: object, scratch: Path) -> None:
    read(yaml.safe_dump(content, allow_unicode=True), scratch)
