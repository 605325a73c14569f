"""Which policy a question is about, and who asks: a policy that is named, that of a record, or the one that a listener of a
configuration has for who asks.

Owns the choice and how it is told. That the first client whose match holds counts is `judging.clients.first_of`, which the
proxy asks as well. Must not know what is asked. Begin at `choose`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import click

from sockproxy.data import builtin_policy_names
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.clients import Match, Resident, Wanted, first_of
from sockproxy.judging.compiling import in_shadow, policy_of_nobody
from sockproxy.judging.identity import Peer, PeerKind
from sockproxy.judging.policy import Policy
from sockproxy.operating.cli import parameters
from sockproxy.operating.config import Config, ListenerConfig
from sockproxy.operating.config.wording import did_you_mean, quoted
from sockproxy.recording import trail
from sockproxy.recording.event import Event


class Choice(NamedTuple):
    """A policy, who meets it, and for people which client of a listener that is; "" where no listener was asked."""

    policy: Policy
    peer: Peer
    client: str = ""


def choose(
    name: str | None, config: Config | None, listener: str | None, facts: Sequence[str], catalogue: Catalogue
) -> Choice:
    """The policy of that name, else the one that who has these facts meets at a listener of the configuration."""
    if name is None and config is not None:
        return _at_listener(config.listeners, listener, facts, catalogue)
    return Choice(_named(name or parameters.DEFAULT_POLICY, config, catalogue), parameters.parse_peer(facts))


def choose_recorded(name: str | None, config: Config | None, event: Event, catalogue: Catalogue) -> Choice:
    """The policy of that name, else the one that the request was recorded under."""
    peer, recorded = trail.peer_of(event), str(event["policy"] or "")
    if name is not None or not recorded:
        return Choice(_named(name or parameters.DEFAULT_POLICY, config, catalogue), peer)
    if config is not None and recorded in config.policies:
        return Choice(config.policies[recorded], peer)
    if recorded not in builtin_policy_names():
        raise click.UsageError(f"the policy was {quoted(recorded)}, which is not built in: give it by --policy FILE")
    policy = parameters.load_policy(recorded, catalogue)
    if event["policy_revision"] not in (policy.revision, in_shadow(policy, catalogue).revision):
        message = (
            f"the policy was {quoted(recorded)}, and not the built-in one as it is now: give one by --policy NAME|FILE"
        )
        raise click.UsageError(message)
    return Choice(policy, peer)


def _named(name: str, config: Config | None, catalogue: Catalogue) -> Policy:
    """Those of the configuration come first, as in the configuration itself."""
    if config is not None and name in config.policies:
        return config.policies[name]
    return parameters.load_policy(name, catalogue)


def _at_listener(
    listeners: Sequence[ListenerConfig], name: str | None, facts: Sequence[str], catalogue: Catalogue
) -> Choice:
    given = parameters.parse_facts(facts)
    at = _listener(listeners, name, parameters.kind_of(given))
    listener = listeners[at]
    peer = parameters.as_peer(given, _kinds(listener)[0], listener.name)
    introduced = peer._replace(is_introduced=True)  # all is known of who is made up
    index = first_of((client.match for client in listener.clients), introduced)
    if index is None:
        return Choice(policy_of_nobody(catalogue), peer, f"none of listeners[{at}].clients, at {listener.name}")
    client = listener.clients[index]
    who = (
        f"listeners[{at}].clients[{index}]: {_shown(client.match)}"
        if client.match.asked
        else f"listeners[{at}]: everybody"
    )
    return Choice(client.policy, peer, f"{who}, at {listener.name}")


def _listener(listeners: Sequence[ListenerConfig], name: str | None, kind: PeerKind | None) -> int:
    """The place of the one that is named, or of the only one that such a peer could have come in by."""
    names = [{one.name, str(one.address)} for one in listeners]
    if name is not None:
        found = [at for at, known in enumerate(names) if name in known]
        if not found:
            near = did_you_mean(name, [one.name for one in listeners]) or f"; there are {_listed(listeners)}"
            raise click.UsageError(f"no listener {quoted(name)}{near}")
        return found[0]
    fitting = [at for at, one in enumerate(listeners) if kind in (None, *_kinds(one))]
    if len(listeners) == 1 or len(fitting) == 1:
        return (fitting or [0])[0]
    raise click.UsageError(f"which listener? Choose one by --listener: {_listed(listeners)}")


def _kinds(listener: ListenerConfig) -> tuple[PeerKind, ...]:
    """How its clients may be connected, the usual way first."""
    if listener.address.scheme == "systemd" and listener.tls is None:
        return "unix", "tcp"
    return ("unix",) if listener.address.scheme == "unix" else ("tcp",)


def _listed(listeners: Sequence[ListenerConfig]) -> str:
    return ", ".join(one.name for one in listeners)


def _shown(match: Match) -> str:
    return " and ".join(f"{key} {_told(wanted)}" for key, wanted in match.asked)


def _told(wanted: Wanted) -> str:
    if isinstance(wanted, Resident):
        return " ".join([*filter(None, [wanted.name]), *(f"{name}={value}" for name, value in wanted.labels)])
    return ",".join(wanted) if isinstance(wanted, tuple) else str(wanted)
