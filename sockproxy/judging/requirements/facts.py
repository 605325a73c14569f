"""What a requirement is asked about, and what it answers.

Owns these shapes and nothing that is required. Must not know policies, bytes or sockets. Begin at `Facts`.

A request does not tell all: which container is meant by `web`, what a volume was made as. Where a check needs to know, it
asks `Facts.ask`. What was not found out yet is a `NotAsked`, with the questions; whoever judges hands them out, and somebody
who may speak to the engine finds answers and has the request judged again with these. What cannot be found out denies.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sockproxy.judging.catalogue import ApiVersion, Operation
from sockproxy.judging.identity import Principal
from sockproxy.judging.payload import Query
from sockproxy.judging.requirements.wording import shown

QuestionKind = Literal["container", "image", "volume", "network", "exec", "engine", "path"]
"""An object of the engine by its name or id; `engine` is what it says of itself, `path` one of the host's."""


class Question(NamedTuple):
    """What has to be found out."""

    kind: QuestionKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {shown(self.name)}" if self.name else self.kind


class Finding(NamedTuple):
    """What was found out, one of three: the object as the engine's newest API shows it (`data`; of a path `{"real": PATH}`,
    or `{}` where nobody can tell), that there is none (`absent`: the engine's own words), or nothing (`failure`: why)."""

    data: Mapping[str, Any] | None = None
    absent: str = ""
    failure: str = ""


Findings = Mapping[Question, Finding]
NOTHING_FOUND: Findings = MappingProxyType({})


class NotAsked(Exception):
    """Answers are missing."""

    def __init__(self, questions: Iterable[Question]) -> None:
        super().__init__()
        self.questions = tuple(dict.fromkeys(questions))


class NotFoundOut(Exception):
    """There is no answer to be had."""

    def __init__(self, question: Question, failure: str) -> None:
        super().__init__()
        self.question = question
        self.failure = failure


class Facts(NamedTuple):
    """One request as the engine reads it. `body` is the canonical data of its JSON body, by the names of the API documents
    (`body["HostConfig"]["Privileged"]`), and empty where there is none; what is absent has the engine's default."""

    operation_id: str
    api_version: ApiVersion | None
    principal: Principal
    resource: str  # the name or id in the path, "" if there is none
    query: Query
    body: Mapping[str, Any]
    operation: Operation | None = None
    method: str = ""
    path: str = ""
    resource_kind: str = ""
    found: Findings = NOTHING_FOUND

    def ask(self, kind: QuestionKind, name: str) -> Finding:
        """What was found out of that; `data` is None if there is no such thing. Raises NotAsked, and NotFoundOut."""
        return self.ask_all([Question(kind, name)])[0]

    def ask_all(self, questions: Iterable[Question]) -> list[Finding]:
        """The same for several, so that they can be found out at once."""
        asked = list(questions)
        if missing := [one for one in asked if one not in self.found]:
            raise NotAsked(missing)
        findings = [self.found[one] for one in asked]
        for question, finding in zip(asked, findings, strict=True):
            if finding.failure:
                raise NotFoundOut(question, finding.failure)
        return findings


class Unmet(NamedTuple):
    """What fails: the field as the API documents name it (`HostConfig.Binds[0]`, `query.fromImage`; a map's value
    by its key, `Labels[owner]`), and one line for people that says its value and what is required: `is true; pod_security
    baseline requires false`. `absent`: what the request names is not there, in the engine's words. `questions`: what has to be
    found out to say more."""

    field: str
    detail: str
    absent: str = ""
    questions: tuple[Question, ...] = ()

    def __str__(self) -> str:
        return f"{self.field} {self.detail}"


Check = Callable[[Facts], Unmet | None]
"""Whether a request meets a requirement: None, or the first thing that fails. Pure; what it raises denies, and NotAsked is
said by the `questions` of what it is told as."""


def always(_value: Any) -> bool:
    """True, for most kinds read a body whatever their value is."""
    return True


class Kind(NamedTuple):
    """A key of `require:`. `make` turns its value, whose shape was checked, into a check; the keys that stand beside it are
    given (of `query` also each parameter, as `query.remote`), since one may leave to another what that names values for. It
    raises ValueError with a text for people."""

    operations: frozenset[str] | None
    """The operationIds that it makes sense for; None: all that there are."""
    make: Callable[[Any, Collection[str]], Check]
    reads_body: Callable[[Any], bool] = always
    """Whether it looks into the body, for that value; what does not leaves the body unread, and as it came."""
