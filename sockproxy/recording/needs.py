"""What the requests of an operation would have to be allowed, beyond the operation itself: the requirements of a learnt rule.

Owns how much is remembered of them, and what cannot be required. Must not know events (`learning`) nor how a policy is
written. Begin at `Needs.add`. Bounded by the number of operations and of their values, not of requests.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sockproxy.judging.requirements import pod_security
from sockproxy.judging.requirements.facts import Check, Facts, Finding, Findings, Kind, NotAsked, Question, Unmet
from sockproxy.judging.requirements.seen import SEEN, least

VALUES_MAX = 500
"""Values of one requirement: more are no policy that anybody reads."""

POD_SECURITY, BASELINE = "pod_security", "baseline"


def can_require(operation_id: str) -> bool:
    """Whether anything that can be learnt can be required of an operation."""
    kinds = (pod_security.KIND, *(seen.kind for seen in SEEN.values()))
    return any(_is_for(kind, operation_id) for kind in kinds)


def _is_for(kind: Kind, operation_id: str) -> bool:
    return kind.operations is None or operation_id in kind.operations


ASSUMED: Mapping[str, Finding] = {"path": Finding({}), "volume": Finding(absent="not in the record")}
"""Kind of a question to the engine -> what is taken for the answer, which no record has: no path is a link, and no named volume
is anything but a volume. Where an engine says otherwise, it is judged by what that says."""


def assume(questions: Iterable[Question]) -> Findings | None:
    """What is assumed instead of the engine's answers; None where nothing can be."""
    asked = tuple(questions)
    return {one: ASSUMED[one.kind] for one in asked} if all(one.kind in ASSUMED for one in asked) else None


def ask(check: Check, facts: Facts) -> Unmet | None:
    """What a requirement says of a recorded request. Raises ValueError where only the engine could tell."""
    while True:
        try:
            return check(facts)
        except NotAsked as asking:
            found = assume(asking.questions)
            if not found:
                told = ", ".join(map(str, asking.questions))
                raise ValueError(f"it depends on what the engine says of {told}") from asking
            facts = facts._replace(found={**facts.found, **found})


@cache
def _baseline(beside: tuple[str, ...]) -> Check:
    """What baseline asks beside these keys; to prepare that takes longer than to ask."""
    return pod_security.make(BASELINE, beside)


@dataclass(slots=True)
class Needs:
    """What was seen of an operation's requests. `without_body`: so many could not be looked into. `left_out`: key -> why it
    cannot be required."""

    without_body: int = 0
    has_unknown_fields: bool = False
    values: dict[str, dict[str, None]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    _below_baseline: dict[bool, str] = field(default_factory=dict)  # whether other keys take over -> what fails
    _operation_id: str = ""
    _says_something: bool = False  # a start without a body leaves all as it is

    def add(self, facts: Facts) -> None:
        """One more request that was looked into."""
        self._operation_id = facts.operation_id
        self._says_something |= bool(facts.body or facts.query.values)
        for key, seen in SEEN.items():
            if _is_for(seen.kind, facts.operation_id) and key not in self.left_out:
                self._add_values(key, facts)
        if _is_for(pod_security.KIND, facts.operation_id):
            for takes_over in (True, False):
                try:
                    unmet = ask(_baseline(self._keys() if takes_over else ()), facts)
                    told = "" if unmet is None else str(unmet)
                except ValueError as error:
                    told = str(error)  # lawful: what cannot be told is not required
                if told:
                    self._below_baseline.setdefault(takes_over, told)

    def _add_values(self, key: str, facts: Facts) -> None:
        try:
            values = list(SEEN[key].values(facts))
            unmet = ask(SEEN[key].kind.make(values, ()), facts) if values or key != "images" else None
        except ValueError as error:  # lawful: as above
            self._leave_out(key, str(error))
            return
        if unmet is not None:
            self._leave_out(key, str(unmet))
            return
        known = self.values.setdefault(key, {})
        known.update(dict.fromkeys(values))
        if len(known) > VALUES_MAX:
            self._leave_out(key, f"there are more than {VALUES_MAX} of them")

    def _leave_out(self, key: str, why: str) -> None:
        self.left_out[key] = why
        self.values.pop(key, None)

    def _keys(self) -> tuple[str, ...]:
        """Those that may be required of the operation."""
        return tuple(key for key, seen in SEEN.items() if _is_for(seen.kind, self._operation_id))

    def requirements(self) -> Iterator[tuple[str, Any]]:
        """Keys and values of `require:`; nothing where some request could not be looked into."""
        if not self._says_something or self.without_body:
            return
        is_whole = not self.left_out
        if _is_for(pod_security.KIND, self._operation_id) and self._below_baseline.get(is_whole) is None:
            yield POD_SECURITY, BASELINE
        for key, values in self.values.items():
            yield key, least(key, values)

    @property
    def below_baseline(self) -> str:
        """What keeps `pod_security: baseline` from being required; "" if nothing does."""
        return self._below_baseline.get(not self.left_out, "")
