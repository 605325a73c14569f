"""The shape of a configuration file: its keys, their types, what they mean.

Owns every key and its description, from which the JSON Schema for editors comes. Must not know what the values lead to:
addresses, selectors and the names of policies are text here (`building` and `policies` read them). Begin at `Document`.
The prose is in `config/sockproxy.yaml`.
"""

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from sockproxy.forwarding.limits import Limits

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

FORMAT_VERSION = 1
POLICY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
API_VERSION = r"^(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})$"
SOCKET_MODE = r"^0?[0-7]{3}$"

PolicyName = Annotated[str, Field(pattern=POLICY_NAME)]
ApiVersionText = Annotated[str, Field(pattern=API_VERSION, examples=["1.24"])]
Text = Annotated[str, Field(min_length=1)]


class RuleDocument(BaseModel):
    """A rule: the operations that it selects."""

    model_config = ConfigDict(title="Rule", **_STRICT)

    operations: list[Text] = Field(
        min_length=1,
        description="Which operations: an operationId, a pattern over them (Container*), @Tag, @read, @write, @tunnel, "
        "or @unknown for what sockproxy does not know.",
    )
    reason: Text | None = Field(default=None, description="Why, in one line; a denied client is told.")


class ApiVersionsDocument(BaseModel):
    """The API versions that may be asked for."""

    model_config = ConfigDict(title="API versions", **_STRICT)

    min: ApiVersionText | None = Field(default=None, description='The oldest API version, in quotes: "1.24".')
    max: ApiVersionText | None = Field(default=None, description='The newest API version, in quotes: "1.44".')
    unversioned: Literal["allow", "deny"] | None = Field(
        default=None,
        description="Paths without a version, which the engine reads by its newest one. "
        "Default: allow; with a max, deny.",
    )


class PolicyDocument(BaseModel):
    """A policy. What no allow rule selects is denied; what a deny rule selects is denied, whatever allows it."""

    model_config = ConfigDict(title="Policy", **_STRICT)

    extends: list[PolicyName] = Field(
        default=[], description="Policies, built-in or of this file, whose rules are added to this one's."
    )
    api_versions: ApiVersionsDocument | None = Field(
        default=None, description="Default: those that all extended policies admit; every version if there are none."
    )
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="shadow: everything passes, and what would be denied is counted and recorded."
    )
    allow: list[RuleDocument] = Field(default=[], description="What is allowed.")
    deny: list[RuleDocument] = Field(default=[], description="What is denied, whatever allows it.")


class ListenerDocument(BaseModel):
    """Where clients connect, and the policy that they meet there."""

    model_config = ConfigDict(title="Listener", **_STRICT)

    address: Text = Field(
        description="unix:///path, tcp://host:port, or systemd://name for a socket handed over by systemd."
    )
    policy: Text = Field(
        description="A built-in policy, one of this file, or a file (FILE.yaml, FILE.yaml#name), relative to this file."
    )
    name: Text | None = Field(
        default=None, max_length=64, description="Its name in metrics and audit. Default: the address."
    )
    mode: str | None = Field(
        default=None, pattern=SOCKET_MODE, description='Permissions of a unix socket, in quotes. Default: "0660".'
    )
    owner: str | int | None = Field(default=None, description="Owner of a unix socket, by name or number.")
    group: str | int | None = Field(default=None, description="Group of a unix socket, by name or number.")


class AuditDocument(BaseModel):
    """Where the record of every request goes."""

    model_config = ConfigDict(title="Audit sink", **_STRICT)

    file: Text = Field(description='A file to append to, relative to this one; "-" is standard output.')
    level: Literal["Metadata"] = Field(default="Metadata", description="How much of a request is recorded.")
    on_failure: Literal["deny-writes", "deny-all", "continue"] = Field(
        default="deny-writes", description="What is refused with 503 while the record cannot be written."
    )


def _limit(kind: object, default: object) -> Any:
    if kind is int:
        return (Annotated[int, Field(ge=0)], default)
    return (Annotated[float, Field(ge=0, allow_inf_nan=False)], default)


# One definition of the limits: the one that the data path keeps.
LimitsDocument = create_model(
    "LimitsDocument",
    __config__=ConfigDict(title="Limits", **_STRICT),
    __doc__="Bounds of the data path. Sizes in bytes, times in seconds; a time of 0 is unlimited.",
    **{field.name: _limit(field.type, field.default) for field in fields(Limits)},
)


class Document(BaseModel):
    """A configuration file of sockproxy; with `version` and `policies` only, a policy file."""

    model_config = ConfigDict(title="sockproxy configuration", **_STRICT)

    version: int = Field(
        ge=1, le=1, json_schema_extra={"const": FORMAT_VERSION}, description="The version of this format."
    )  # a Literal[1] would take true and 1.0, too
    engine: Text = Field(
        default="unix:///var/run/docker.sock", description="The engine: unix:///path or tcp://host:port."
    )
    listeners: list[ListenerDocument] = Field(default=[], description="Where clients connect.")
    admin: Text | None = Field(default=None, description="Where metrics and health are served. Default: nowhere.")
    audit: list[AuditDocument] = Field(default=[], description="Where the record goes. Default: there is none.")
    limits: LimitsDocument | None = Field(  # type: ignore[valid-type]  # made above, of a dataclass
        default=None, description="Bounds of the data path; a key that is left out keeps its default."
    )
    policies: dict[PolicyName, PolicyDocument] = Field(default={}, description="Policies by their names.")
