"""Exchanges as the proxy would hand them to its observers, for the tests of what is told of them."""

from sockproxy.data import load_operations
from sockproxy.errors import BadRequestReason
from sockproxy.exchange import Exchange, Stage
from sockproxy.judging.catalogue import ApiVersion, Catalogue
from sockproxy.judging.identity import Peer, identify
from sockproxy.judging.policy import Decision, Effect, Reason

CATALOGUE = Catalogue(load_operations())
DOCKER_CLI = identify(Peer("unix:///run/docker.sock", "unix", uid=1000, gid=998, pid=4242, exe="/usr/bin/docker"))

ALLOWED = Decision(Effect.ALLOW, Reason.ALLOWED_BY_RULE, "allowed by rule", "ci/allow[0]", "ci", "5f0c", None)
DENIED = Decision(Effect.DENY, Reason.NO_RULE, "no rule allows it", "", "ci", "5f0c", None)
SHADOWED = DENIED._replace(effect=Effect.ALLOW, shadow=Effect.DENY)

LIST = ("GET", "/containers/json")
START = ("POST", "/containers/web/start")
ATTACH = ("POST", "/containers/web/attach")
EVENTS = ("GET", "/events")
PROFILE = ("GET", "/debug/pprof/heap")  # the engine's own, no operation of its API

API_1_41 = ApiVersion(1, 41)
_RECEIVED_TIME = 1735689600.25  # 2025-01-01T00:00:00.25Z


def decided(
    request: tuple[str, str] = LIST,
    decision: Decision = ALLOWED,
    *,
    id: str = "a-1",
    version: ApiVersion | None = API_1_41,
) -> Exchange:
    """An exchange half a millisecond after its head came: it is decided, nothing was forwarded."""
    method, path = request
    exchange = Exchange(id, "unix:///run/docker.sock", DOCKER_CLI, 100.0, _RECEIVED_TIME)
    exchange.method = method
    exchange.target = path if version is None else f"/v{version}{path}"
    exchange.api_version = version
    exchange.user_agent = "Docker-Client/20.10.24 (linux)"
    exchange.classified = CATALOGUE.classify(method, path, version)
    exchange.decision = decision
    exchange.decided_at = 100.0005
    exchange.advance(Stage.DECIDED)
    return exchange


def answered(exchange: Exchange, status: int = 200, *, bytes_out: int = 0) -> Exchange:
    """The same two milliseconds later: the engine answered, and all of it was passed on."""
    exchange.forwarded_at = 100.001
    exchange.answered_at = 100.002
    exchange.completed_at = 100.0025
    exchange.status = status
    exchange.bytes_out = bytes_out
    exchange.advance(Stage.FORWARDED)
    exchange.advance(Stage.ANSWERED)
    return exchange


def refused(exchange: Exchange, stage: Stage = Stage.REFUSED, status: int = 503) -> Exchange:
    """The same, answered by the proxy itself."""
    exchange.status = status
    exchange.completed_at = 100.001
    exchange.advance(stage)
    return exchange


def rejected(reason: BadRequestReason = BadRequestReason.BOTH_LENGTHS, *, id: str = "a-1") -> Exchange:
    """An exchange whose head could not be read."""
    exchange = Exchange(id, "unix:///run/docker.sock", DOCKER_CLI, 100.0, _RECEIVED_TIME)
    exchange.bad_request_reason = reason
    exchange.status = 400
    exchange.completed_at = 100.001
    exchange.advance(Stage.REJECTED)
    return exchange


class MemorySink:
    """Keeps the lines of a trail."""

    name = "memory"
    last_line = b""
    fragment = b""

    def __init__(self) -> None:
        self.lines = b""

    @property
    def file(self) -> "MemorySink":
        return self

    def write(self, lines: bytes, *, may_wait: bool) -> int:
        self.lines += lines
        return len(lines)

    def cut_fragment(self) -> None: ...

    rotates = False
    is_full = False

    def rotate(self) -> bool:
        return False

    def sync(self) -> bool:
        return True

    def reopen(self) -> None: ...

    def last_lines(self, bytes_max: int) -> list[bytes]:
        return self.lines[-bytes_max:].splitlines()

    def close(self) -> None: ...
