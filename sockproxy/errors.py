"""The errors of sockproxy: one class for each answer that an error leads to.

    SockproxyError
    ├── BadRequest     status, reason   what the client sent cannot be read or is too much: answered, then closed
    ├── EngineError    status, reason   dockerd is away, slow, or answered what cannot be read: 502, 504
    ├── PeerGone       side             nobody is left to be answered: recorded
    ├── AuditRefused   sink             a sink did not take the record: 503, nothing reaches the engine
    └── ConfigError    findings         all that is wrong with a configuration, each with file, line and key

A denial is no error but a value (`judging.policy.Decision`). The reasons are closed sets, since they are metric labels.
Must not know anything else of the project.
"""

from enum import StrEnum
from typing import Literal, NamedTuple

Side = Literal["downstream", "upstream"]
"""The two peers of the proxy: the client, and the engine."""


class BadRequestReason(StrEnum):
    """Why a request cannot be read; the label `reason` of `sockproxy_bad_requests_total`."""

    REQUEST_LINE = "request-line"
    METHOD = "method"
    HTTP_VERSION = "http-version"
    TARGET = "target"
    TARGET_FORM = "target-form"
    PATH_NOT_CANONICAL = "path-not-canonical"
    PERCENT_ENCODING = "percent-encoding"
    QUERY = "query"
    API_VERSION = "api-version"
    LINE_END = "line-end"
    FIELD_NAME = "field-name"
    FIELD_VALUE = "field-value"
    FIELD_FOLDED = "field-folded"
    HOST = "host"
    CONTENT_LENGTH = "content-length"
    TRANSFER_ENCODING = "transfer-encoding"
    BOTH_LENGTHS = "both-lengths"
    CHUNK = "chunk"
    TRAILER = "trailer"
    EXPECT = "expect"
    CONTENT_TYPE = "content-type"
    BODY = "body"
    UNKNOWN_FIELD = "unknown-field"
    INCOMPLETE = "incomplete"
    HEAD_TOO_LARGE = "head-too-large"
    TARGET_TOO_LARGE = "target-too-large"
    TOO_MANY_FIELDS = "too-many-fields"
    BODY_TOO_LARGE = "body-too-large"
    TOO_MANY_BODIES = "too-many-bodies"
    HEAD_TOO_SLOW = "head-too-slow"
    BODY_TOO_SLOW = "body-too-slow"


class EngineErrorReason(StrEnum):
    """Why the engine did not answer; the label `reason` of `sockproxy_engine_errors_total`."""

    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"
    ANSWER_TIMEOUT = "answer-timeout"
    CLOSED = "closed"
    MALFORMED = "malformed"


class SockproxyError(Exception):
    """The root; never raised itself."""


class BadRequest(SockproxyError):
    """The request cannot be read or exceeds a limit. `detail` is one line for people and never repeats what was sent."""

    def __init__(self, status: int, reason: BadRequestReason, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class EngineError(SockproxyError):
    """The engine is away (502), too slow (504), or answered what cannot be read (502). `limit`: the name of the limit that
    was exceeded, if it was one."""

    def __init__(self, status: int, reason: EngineErrorReason, detail: str, limit: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.limit = limit


class PeerGone(SockproxyError):
    """A peer's connection ended where more was due: nobody is left to be answered, or half an answer is all there is."""

    def __init__(self, side: Side) -> None:
        super().__init__(f"{side} is gone")
        self.side = side


class AuditRefused(SockproxyError):
    """A sink whose `on_failure` forbids going on did not take the record."""

    def __init__(self, sink: str) -> None:
        super().__init__(f"the audit sink {sink} does not take records")
        self.sink = sink


class RecordingRefused(SockproxyError):
    """A session that has to be recorded cannot be."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the session cannot be recorded: {detail}")


class Finding(NamedTuple):
    """One thing that is wrong in a configuration. `line` counts from 1, 0 where no line can be named."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(SockproxyError):
    """All that is wrong with a configuration."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings
