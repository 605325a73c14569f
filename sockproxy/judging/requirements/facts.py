"""What a requirement is asked about, and what it answers.

Owns these shapes and nothing that is required. Must not know policies, bytes or sockets. Begin at `Facts`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from sockproxy.judging.catalogue import ApiVersion, Operation
from sockproxy.judging.identity import Principal
from sockproxy.judging.payload import Query


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


class Unmet(NamedTuple):
    """What fails: the field as the API documents name it (`HostConfig.Binds[0]`, `query.fromImage`; a map's value
    by its key, `Labels[owner]`), and one line for people that says its value and what is required: `is true; pod_security
    baseline requires false`."""

    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.field} {self.detail}"


Check = Callable[[Facts], Unmet | None]
"""Whether a request meets a requirement: None, or the first thing that fails. Pure; what it raises denies."""


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
