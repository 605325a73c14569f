"""The policies of documents: selectors looked up, `extends` followed, names found.

Owns what the name of a policy refers to (one of the same file, a built-in one, another file) and the checks that need
the catalogue. Must not know listeners. Begin at `Policies.find`; what a policy means is in `judging.policy`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any

from sockproxy import data
from sockproxy.errors import ConfigError, Finding
from sockproxy.judging.catalogue import ApiVersion, Catalogue, Operation
from sockproxy.judging.compiling import compile_policy, intersect, select, select_all, selector_words
from sockproxy.judging.payload import UnknownFields
from sockproxy.judging.policy import NOBODY, SESSIONS, Mode, Policy, Record, Requirement, Rule
from sockproxy.judging.versions import ApiVersions
from sockproxy.operating.config.document import ApiVersionsDocument, Document, PolicyDocument, RuleDocument
from sockproxy.operating.config.files import Files
from sockproxy.operating.config.requirements import RequireDocument
from sockproxy.operating.config.source import Source, parse_source, read_text
from sockproxy.operating.config.validation import Advice, Findings, validate
from sockproxy.operating.config.wording import Path, did_you_mean, quoted, shortened

POLICIES_MAX = 1000
"""Policies of one file; nobody keeps more apart."""
EXTENDS_DEPTH_MAX = 16
"""Policies that extend one another in a row; nobody follows more."""


class Policies:
    """Finds policies by their names; every file is read once."""

    def __init__(self, catalogue: Catalogue, read: Files | None = None) -> None:
        """`read` is told of every file."""
        self.catalogue = catalogue
        self._read = read
        self._builtin: dict[str, Policy] = {}
        self._files: dict[str, Mapping[str, Policy]] = {}
        self.advice: list[Advice] = []
        """On other files than the one that is read."""

    def find(self, reference: str, own: Mapping[str, Policy], folder: str) -> Policy:
        """The policy that a name or `FILE` or `FILE#name` refers to, `own` being those of the same file. Raises
        ConfigError, with findings that name the other file, or no file where there is no such name."""
        if reference in own:  # before a built-in one of that name: what is said nearest counts
            return own[reference]
        if reference in data.builtin_policy_names():
            return self.builtin(reference)
        file, _, name = reference.partition("#")
        if os.sep not in reference and not file.endswith((".yaml", ".yml")):
            raise ConfigError((Finding("", 0, "", _no_policy(reference, own)),))
        return self._of_file(os.path.join(folder, file), name)

    def builtin(self, name: str) -> Policy:
        """The built-in policy of that name, which is read like any other."""
        if name not in self._builtin:
            source = parse_source(*data.load_builtin_policy(name))
            findings = Findings(source)
            policies = self.compile(source, validate(source, findings), findings)
            findings.check()
            self._builtin[name] = policies[name]
        return self._builtin[name]

    def compile(self, source: Source, document: Document, findings: Findings) -> dict[str, Policy]:
        """All policies of a document; what is wrong with them is added to `findings`."""
        return _Compilation(self, source, document, findings).compile_all()

    def check_selector(self, path: Path, selector: str, findings: Findings) -> None:
        """Adds a finding for a selector that means nothing."""
        if not select(selector, self.catalogue):
            near = did_you_mean(selector, selector_words(self.catalogue))
            findings.add(path, f"no operation is meant by {quoted(selector)}{near}")

    def _of_file(self, file: str, name: str) -> Policy:
        policies = self._files.get(file)
        if policies is None:
            source = parse_source(file, read_text(file, self._read))
            findings = Findings(source)
            policies = self.compile(source, validate(source, findings), findings)
            self.check_names(policies, findings)
            findings.check()
            self.advice += findings.advice
            self._files[file] = policies
        if name in policies:
            return policies[name]
        if name:
            raise ConfigError((Finding(file, 0, "policies", f"no {quoted(name)}{did_you_mean(name, policies)}"),))
        if len(policies) != 1:
            choice = f"; choose one by {file}#NAME" if policies else ""
            raise ConfigError((Finding(file, 0, "policies", f"{len(policies)} policies{choice}"),))
        return next(iter(policies.values()))

    def check_names(self, own: Mapping[str, Policy], findings: Findings) -> None:
        """Adds what there is to say of names: of the one that no policy may have, and of those that built-in ones have. In
        this file they are its own, and metrics and record call both by the one name."""
        if NOBODY in own:
            message = "what sockproxy calls the policy of those who are none of a listener's clients; choose another"
            findings.add(("policies", NOBODY), message)
        for name in own.keys() & set(data.builtin_policy_names()):
            if own[name].revision != self.builtin(name).revision:
                findings.advise("note", ("policies", name), "takes the place of the built-in policy of that name here")


class _Compilation:
    """The policies of one document."""

    def __init__(self, policies: Policies, source: Source, document: Document, findings: Findings) -> None:
        self.policies = policies
        self.catalogue = policies.catalogue
        self.documents = document.policies
        self.findings = findings
        self.names = policy_names(source)
        self.compiled: dict[str, Policy] = {}
        # Of many rules most select what others do: 10,000 of patterns take 0.4 s and 2 MiB so, else 0.9 s and 28 MiB.
        self.select = cache(partial(select, catalogue=self.catalogue))
        self.select_all = cache(partial(select_all, catalogue=self.catalogue))

    def compile_all(self) -> dict[str, Policy]:
        if len(self.documents) > POLICIES_MAX:
            self.findings.add(("policies",), f"more than {POLICIES_MAX} policies")
            return {}
        for name in self.order():
            self.compiled[name] = self.compile(name, self.documents[name])
        return self.compiled

    def order(self) -> list[str]:
        """The policies, each behind those that it extends. Adds a finding for what extends itself or too many in a row;
        it comes last, so that what else is wrong with it is seen."""
        waiting = {name: set(document.extends) for name, document in self.documents.items()}
        ordered: list[str] = []
        for _ in range(EXTENDS_DEPTH_MAX):
            ordered += _ready(waiting)
            waiting = {name: extended for name, extended in waiting.items() if name not in ordered}
        for name in _ready(waiting):
            message = f"more than {EXTENDS_DEPTH_MAX} policies in a row that extend one another"
            self.findings.add(("policies", name, "extends"), message)
        for name in waiting:
            if way := _way_back(name, waiting):
                own = name in data.builtin_policy_names() and "; here that is not the built-in one of that name"
                self.findings.add(("policies", name, "extends"), f"extends itself: {' extends '.join(way)}{own or ''}")
        return [*ordered, *waiting]

    def compile(self, name: str, document: PolicyDocument) -> Policy:
        path = ("policies", name)
        parents = self.parents((*path, "extends"), document)
        versions = self.api_versions(path, document, parents)
        return compile_policy(
            name,
            self.catalogue,
            mode=Mode(document.mode),
            api_versions=versions,
            allow=self.rules(path, "allow", document.allow, versions),
            deny=self.rules(path, "deny", document.deny, None),
            extends=parents,
            unknown_fields=UnknownFields(document.unknown_fields),
        )

    def parents(self, path: Path, document: PolicyDocument) -> list[Policy]:
        parents: list[Policy] = []
        for index, name in enumerate(document.extends):
            if name in self.compiled:
                parents.append(self.compiled[name])
            elif name in data.builtin_policy_names():
                parents.append(self.policies.builtin(name))
            elif name not in self.names:  # one that is wrong inside has been told
                self.findings.add((*path, index), _no_policy(name, self.names))
        return parents

    def api_versions(self, path: Path, document: PolicyDocument, parents: Sequence[Policy]) -> ApiVersions:
        own = document.api_versions
        versions = _own_versions(own) if own else intersect(parent.api_versions for parent in parents)
        if versions.oldest and versions.newest and versions.oldest > versions.newest:
            key = "api_versions" if own else "extends"
            message = f"no API version is between {versions.oldest} and {versions.newest}"
            self.findings.add((*path, key), message)
        return versions

    def rules(
        self, path: Path, effect: str, documents: Sequence[RuleDocument], versions: ApiVersions | None
    ) -> list[Rule]:
        rules = []
        for index, document in enumerate(documents):
            rule_path = (*path, effect, index)
            name = f"{path[-1]}/{effect}[{index}]"
            for place, selector in enumerate(document.operations):
                self.check_selector((*rule_path, "operations", place), selector, versions)
            reason = " ".join((document.reason or "").split())  # a block of several lines is one line to who reads it
            self.findings.add_unless_printable((*rule_path, "reason"), reason)
            selectors = tuple(document.operations)
            operations = self.select_all(selectors)
            required = self.requirements((*rule_path, "require"), effect, document.require, operations)
            self.check_fields((*rule_path, "require"), required, operations)
            record = self.record(rule_path, effect, document, operations)
            rules.append(Rule(name, selectors, reason or None, operations, required, document.shadow, record))
        return rules

    def record(self, path: Path, effect: str, document: RuleDocument, operations: frozenset[str]) -> Record | None:
        """What of sessions is recorded; adds a finding where there are none."""
        if not document.record:
            if document.record_input:
                self.findings.add((*path, "record_input"), "needs `record: true`")
            return None
        if effect == "deny" or not operations & SESSIONS:
            self.findings.add((*path, "record"), f"makes sense for an allow rule with {shortened(sorted(SESSIONS))}")
        return Record.WITH_INPUT if document.record_input else Record.OUTPUT

    def requirements(
        self, path: Path, effect: str, document: RequireDocument | None, operations: frozenset[str]
    ) -> tuple[Requirement, ...]:
        """What a rule requires; adds a finding for what makes no sense there."""
        if document is None:
            return ()
        # Imported here and not above: most policies require nothing, and a serving process is smaller without.
        from sockproxy.judging.requirements.kinds import KINDS

        values = {name: getattr(document, name) for name in KINDS}
        values = {name: _plain(value) for name, value in values.items() if value is not None}
        if effect == "deny":
            self.findings.add(path, "only an allow rule can require something: require the opposite there")
        elif not values and not self.findings.is_told_below(path):
            self.findings.add(path, "is empty: it would require nothing")
        beside = values.keys() | {f"query.{name}" for name in values.get("query", ())}
        required = []
        for name, value in values.items():
            kind = KINDS[name]
            meant = self.catalogue.operations.keys() if kind.operations is None else kind.operations
            if senseless := sorted(operations - meant):
                message = f"makes no sense for {shortened(senseless)}; it is for {shortened(sorted(meant))}"
                self.findings.add((*path, name), message)
                continue
            if not value and self.findings.is_told_below((*path, name)):
                continue
            try:
                check = kind.make(value, beside - {name})
            except ValueError as error:
                self.findings.add((*path, name), str(error))
                continue
            required.append(Requirement(name, value, check, kind.reads_body(value)))
        self.advise(path, {one.key: one.value for one in required})
        return tuple(required)

    def check_fields(self, path: Path, required: Sequence[Requirement], operations: frozenset[str]) -> None:
        """Adds a finding for a field of the body that none of these operations has: `!has(body.privilegd)` is true of all."""
        if not required or self.documents[str(path[1])].unknown_fields == "pass":
            return
        from sockproxy.judging.requirements.kinds import KINDS
        from sockproxy.operating.known import load_known_bodies

        for one in required:
            for field in KINDS[one.key].fields(one.value):
                missing = [load_known_bodies().missing(name, field) for name in sorted(operations)]
                told = [found for found in missing if found is not None]
                if len(told) == len(missing) > 0:
                    near = next(filter(None, (did_you_mean(found.name, found.fields) for found in told)), "")
                    asked = quoted(".".join(("body", *field)))
                    self.findings.add((*path, one.key), f"asks for {asked}, which no operation here has{near}")

    def advise(self, path: Path, values: Mapping[str, Any]) -> None:
        """Warns of what a rule gives beside what it seems to give."""
        from sockproxy.judging.requirements.bind_sources import gives_away

        if "bind_sources" in values and (
            told := gives_away(values["bind_sources"], values.get("read_only_binds", False))
        ):
            self.findings.advise("warning", (*path, "bind_sources"), told)

    def check_selector(self, path: Path, selector: str, versions: ApiVersions | None) -> None:
        """Adds a finding for a selector that means nothing, or (`versions` given) nothing that these versions have."""
        selected = self.select(selector)
        if not selected:
            self.policies.check_selector(path, selector, self.findings)
            return
        operations = self.catalogue.operations
        if versions is None or versions.unversioned:
            return
        if not any(name not in operations or _is_in(operations[name], versions) for name in selected):
            self.findings.add(path, f"can never match: {quoted(selector)} is in none of this policy's API versions")


def _plain(value: Any) -> Any:
    """The value of a requirement; of one that has keys, those that are given."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return {one.name: given for one in fields(value) if (given := getattr(value, one.name)) is not None}


def _ready(waiting: Mapping[str, set[str]]) -> list[str]:
    """The policies that extend none of those that wait."""
    return [name for name, extended in waiting.items() if not extended & waiting.keys()]


def _way_back(name: str, extends: Mapping[str, set[str]]) -> tuple[str, ...]:
    """The shortest way from a policy over those that it extends to itself; empty if there is none."""
    ways: list[tuple[str, ...]] = [(name,)]
    seen: set[str] = set()
    for way in ways:  # grows while it is read
        parents = sorted(extends.get(way[-1], set()) - seen)
        if name in parents:
            return (*way, name)
        seen.update(parents)
        ways.extend((*way, parent) for parent in parents)
    return ()


def _no_policy(name: str, own: Iterable[str]) -> str:
    builtin, clients = data.builtin_policy_names(), data.client_policy_names()
    near = did_you_mean(name, (*own, *builtin))
    others = ", ".join(each for each in builtin if each not in clients)
    return f"no policy {quoted(name)}{near or f'; built-in are {others}, and one a client'}"


def policy_names(source: Source) -> tuple[str, ...]:
    """The names of all policies of a source, those that are wrong inside as well."""
    root = source.root.value
    policies = root.get("policies") if isinstance(root, dict) else None
    return tuple(policies.value) if policies is not None and isinstance(policies.value, dict) else ()


def _own_versions(document: ApiVersionsDocument) -> ApiVersions:
    oldest = ApiVersion.parse(document.min) if document.min else None
    newest = ApiVersion.parse(document.max) if document.max else None
    # The engine reads an unversioned request by its newest version: within any `min`, beyond what a `max` is meant for.
    unversioned = newest is None if document.unversioned is None else document.unversioned == "allow"
    return ApiVersions(oldest, newest, unversioned)


def _is_in(operation: Operation, versions: ApiVersions) -> bool:
    oldest, newest, _ = versions
    is_there_in_time = newest is None or operation.first_api <= newest
    return is_there_in_time and (oldest is None or operation.last_api is None or oldest <= operation.last_api)
