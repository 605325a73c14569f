"""What a person sees when a proxy has started: where it is, what holds there, and what to try.

Owns this text only. Must not start anything.
"""

from sockproxy.forwarding.address import Address
from sockproxy.operating.config import Config

# An operation that the policy allows, one that it denies, and the reason for the latter.
# The policy denies the ping by which newer clients find out the version, so they are told.
_THINGS_TO_TRY = (
    ("allowed", "DOCKER_API_VERSION={version} docker -H {url} ps"),
    ("denied", "DOCKER_API_VERSION={version} docker -H {url} pause web"),
    ("why", "{command} explain --policy {policy} POST /v{version}/containers/web/pause"),
)


def greeting(config: Config, metrics_url: str, *, api_version: str, command: str = "sockproxy") -> str:
    """The text for the first listener of a configuration; `api_version` is the engine's, `command` how this program is called
    here."""
    listener = config.listeners[0]
    url = str(listener.address)
    policy = listener.policy_names[0]
    lines = [
        f"sockproxy listens on   {url}",
        f"  policy               {policy}",
        f"  engine               {config.engine}",
        f"  metrics              {metrics_url}",
        *(f"  audit trail          {audit.file}" for audit in config.audit),
        "",
        "Three things to try:",
        *(
            f"  {label:8} {text.format(url=url, command=command, policy=policy, version=api_version)}"
            for label, text in _THINGS_TO_TRY
        ),
        "",
        *(f"Every request leaves its record: tail -f {audit.file}" for audit in config.audit),
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


def metrics_url(admin: Address | None) -> str:
    """Where the metrics are, as one would open it."""
    if admin is None:
        return "none (no admin listener)"
    return f"{str(admin).replace('tcp://', 'http://', 1)}/metrics"
