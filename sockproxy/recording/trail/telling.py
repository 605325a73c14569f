"""What an event tells, as words for people.

Must not know files (`lines`) nor the chain (`verifying`). Begin at `describe`.
"""

from typing import Any, cast

from sockproxy.judging.identity import Peer, PeerKind
from sockproxy.recording.event import PRINCIPAL_FIELDS, Event
from sockproxy.recording.trail.lines import number_of, text_of


def describe(event: Event) -> str:
    """One event as one line for people."""
    outcome = ""
    if event["stage"] == "completed":
        outcome = f" {text_of(event, 'status') or 'unanswered'} {number_of(event, 'duration_ms')} ms"
    would = f" (shadow: {text_of(event, 'shadow')})" if event["shadow"] else ""
    rule = f"{text_of(event, 'rule')}: " if event["rule"] else ""
    text = (
        f"{text_of(event, 'time')} {text_of(event, 'stage'):9} {text_of(event, 'effect'):5}{would}{outcome} "
        f"{operation_of(event)} {principal_of(event)} {text_of(event, 'method')} {text_of(event, 'target')} "
        f"[{rule}{text_of(event, 'reason')}]"
    )
    # A TLS subject, or a forged line, may hold what a terminal would obey.
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def operation_of(event: Event) -> str:
    """The operation's name, "unknown" where the catalogue knew none."""
    return text_of(event, "operation") or "unknown"


def peer_of(event: Event) -> Peer:
    """Who asked, as the judge was told."""
    principal = cast("dict[str, Any]", event["principal"])  # an object, as parse_line made sure
    facts: dict[str, Any] = {key: principal.get(key) for key in PRINCIPAL_FIELDS if key != "kind"}
    kind: PeerKind = "tcp" if principal.get("kind") == "tcp" else "unix"
    return Peer(text_of(event, "listener"), kind, **facts)


def principal_of(event: Event) -> str:
    """Who asked, as short as it is telling: TLS subject, container, uid, or address without its port."""
    principal = cast("dict[str, object]", event["principal"])  # an object, as parse_line made sure
    for key in ("tls_subject", "container"):
        if principal.get(key):
            return str(principal[key])
    if principal.get("uid") is not None:
        return f"uid:{principal['uid']}"
    return str(principal.get("address") or "").rpartition(":")[0] or "unknown"
