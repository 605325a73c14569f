"""Exchange: the one record of a request, from its head to its outcome.

Owns the facts that the observers (audit, metrics) tell of, and the order in which an exchange may go through its stages.
Must not know sockets, rules, metrics or files: `forwarding.serving.proxy` fills it, `recording` reads it.
A mutable slots class on purpose: one lives as long as its request, and `replace()` of a frozen one costs ten times as much.
"""

from enum import IntEnum, auto
from typing import Any, NamedTuple

from sockproxy.errors import BadRequestReason, EngineErrorReason
from sockproxy.judging.catalogue import ApiVersion, Classified
from sockproxy.judging.identity import Principal
from sockproxy.judging.policy import Decision
from sockproxy.wire.tracing import Traceparent


class Stage(IntEnum):
    """Where an exchange is. What is audited: DECIDED (stage `decided`), and every last stage (`completed`). An IntEnum, since
    a plain Enum hashes in Python, which eight look-ups a request would feel (2 us)."""

    RECEIVED = auto()
    REJECTED = auto()  # could not be read: answered 4xx (or with nothing), never judged
    DECIDED = auto()
    DENIED = auto()
    # Allowed, but above a limit, or without record or engine: answered 429, 502, 503, 504 by the proxy.
    REFUSED = auto()
    FORWARDED = auto()
    ANSWERED = auto()
    FAILED = auto()  # a peer went away in the middle


STAGES = {
    Stage.RECEIVED: frozenset({Stage.REJECTED, Stage.DECIDED}),
    Stage.DECIDED: frozenset({Stage.DENIED, Stage.REFUSED, Stage.FORWARDED}),
    Stage.FORWARDED: frozenset({Stage.ANSWERED, Stage.REFUSED, Stage.FAILED}),
}
"""From -> to; what is not here is a fault of ours."""

LAST_STAGES = frozenset({Stage.REJECTED, Stage.DENIED, Stage.REFUSED, Stage.ANSWERED, Stage.FAILED})


class Level(IntEnum):
    """How much of an exchange is recorded; the levels of Kubernetes."""

    NONE = auto()
    METADATA = auto()
    REQUEST = auto()  # and the body of the request
    REQUEST_RESPONSE = auto()  # and that of the answer


class Extent:
    """What is recorded of an exchange beside its facts. `wants_*`: what has to be kept for it while it passes. `is_alike`:
    whoever asks with the same head, the same is recorded, and nothing of bodies."""

    __slots__ = ("answer", "body", "is_alike", "level", "told", "wants_answer", "wants_body")

    def __init__(self, level: Level, *, wants_body: bool, wants_answer: bool, is_alike: bool) -> None:
        self.level = level
        self.wants_body = wants_body
        self.wants_answer = wants_answer
        self.is_alike = is_alike
        self.body: bytes | str = b""  # as it came; a text says why it is not here
        self.answer: bytes | str = b""
        self.told: Any = None  # the body as it may be told, once it was made


def exchange_id(prefix: str, number: int) -> str:
    """The id of an exchange: the prefix is that of the process."""
    return f"{prefix}-{number:x}"


Served = tuple[Any, int, Principal, float, float, float, float, int, int]
"""What is told of an exchange on the express way: the account of its kind, its number, the principal; received, forwarded,
answered and completed at (seconds of the monotonic clock); status, length of the answer's body. A bare tuple: naming its
parts would cost as much as all else that is done to tell it."""


class Recorded(NamedTuple):
    """The recording of a session that has ended. `is_cut`: it ends before the session did."""

    file: str
    sha256: str
    bytes: int
    is_cut: bool


class Exchange:
    """One request and its outcome. Times: `*_at` are seconds of the monotonic clock, 0.0 where it did not happen;
    `received_time` is seconds since the epoch. Byte counts are of bodies and tunnels, without heads and chunk framing."""

    __slots__ = (
        "answered_at",
        "api_version",
        "bad_request_reason",
        "bytes_in",
        "bytes_out",
        "classified",
        "completed_at",
        "decided_at",
        "decision",
        "detail",
        "engine_error_reason",
        "extent",
        "forwarded_at",
        "id",
        "is_tunnel",
        "listener",
        "method",
        "principal",
        "received_at",
        "received_time",
        "recording",
        "stage",
        "status",
        "target",
        "traceparent",
        "user_agent",
    )

    def __init__(self, id: str, listener: str, principal: Principal, received_at: float, received_time: float) -> None:
        self.id = id
        self.listener = listener  # its name in the configuration
        self.principal = principal
        self.received_at = received_at
        self.received_time = received_time
        self.stage = Stage.RECEIVED
        self.method = ""  # as sent, once it is known to be a token
        self.target = ""  # the canonical one that the engine gets, without secrets
        self.user_agent = ""
        self.traceparent: Traceparent | None = None  # that the client sent
        self.api_version: ApiVersion | None = None  # None: unversioned, or not read
        self.classified: Classified | None = None
        self.decision: Decision | None = None
        self.bad_request_reason: BadRequestReason | None = None
        self.engine_error_reason: EngineErrorReason | None = None
        self.detail = ""  # one line for people: what was wrong, for whatever did not end well
        self.status = 0  # what the client was answered; 0: nothing
        self.extent: Extent | None = None  # None: no more than the facts, if anything
        self.is_tunnel = False  # the answer became a tunnel
        self.recording: Recorded | None = None  # of its session
        self.bytes_in = 0
        self.bytes_out = 0
        self.decided_at = 0.0
        self.forwarded_at = 0.0  # the head went to the engine
        self.answered_at = 0.0  # the engine's (last) head came
        self.completed_at = 0.0

    def advance(self, stage: Stage) -> None:
        """Goes on to `stage`; raises RuntimeError for a step that `STAGES` does not know."""
        if stage not in STAGES.get(self.stage, ()):
            raise RuntimeError(f"an exchange cannot go from {self.stage.name} to {stage.name}")
        self.stage = stage
