"""Limits: every bound of the data path in one place, with its unit in its name and its reason beside it.

All of `Limits` can be set under `limits:` in the configuration, `ClientLimits` at a listener and its clients. Must not
know who keeps them. The reasons name the precedent or what was measured.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the data path. Sizes in bytes, times in seconds; a time of 0 means that it is not limited."""

    head_bytes_max: int = 1 << 20
    """A request's head; the engine's own limit (Go's DefaultMaxHeaderBytes). Above: 431."""

    target_bytes_max: int = 256 << 10
    """A request's target, which is decoded and encoded anew; builds with many arguments have some 10 KiB. Above: 431."""

    fields_max: int = 1000
    """Header fields of a request; BuildKit sends dozens, the engine takes any number. Above: 431."""

    engine_head_bytes_max: int = 1 << 20
    """The engine's head, as symmetric as the clients'. Above: 502."""

    judged_body_bytes_max: int = 1 << 20
    """A body that a rule asks for, which is held until it is judged; creates have some KiB, a secret half a MiB. Above: 413."""

    judged_bodies_bytes_max: int = 64 << 20
    """All bodies that are held at a time, of one principal a quarter of it: who sends them slowly can fill neither the memory
    nor the place of others. Above: 503."""

    audited_body_bytes_max: int = 64 << 10
    """A body that is recorded, of a request or an answer; creates have some KiB. Above: the record says so, and it passes."""

    discarded_body_bytes_max: int = 256 << 10
    """What is read of the body of a request that is denied, so that its connection can stay open. Above: it is closed."""

    connections_max: int = 20_000
    """Open client connections of all listeners; two descriptors each fit in the usual hard limit of a service. Above: 503."""

    connections_per_principal_max: int = 15_000
    """Open client connections of one uid or address, so that one client cannot take all places. Above: 503."""

    head_seconds: float = 60.0
    """From the first byte of a head (or the connection's start) to its end; Apache gives 40, HAProxy's users 10. Above: 408."""

    handshake_seconds: float = 10.0
    """From a TLS connection's start to the end of its handshake: four messages, on any network. Above: closed."""

    handshakes_max: int = 256
    """Handshakes under way; each takes a millisecond of CPU or two, so more would be too late; and as many connections
    of which the engine is asked which container they come from. Above: closed."""

    keep_alive_seconds: float = 600.0
    """A connection without a request; longer than the idle timeout of every known client. Then: closed."""

    body_idle_seconds: float = 600.0
    """A request's body of which no byte comes while the engine waits for it. Then: both sides are closed."""

    connect_seconds: float = 5.0
    """Connecting to the engine; a local socket takes microseconds. Above: 502."""

    engine_read_answer_seconds: float = 600.0
    """Until the engine's head for a unary read; `system df` of a large host takes minutes. Above: 504."""

    engine_write_answer_seconds: float = 3600.0
    """Until the engine's head for a unary write: a stop waits as long as it was asked to, a prune takes minutes. Above: 504."""

    inquiry_seconds: float = 10.0
    """All that is asked of the engine to judge one request; an inspect waits for a start of its container. Above: denied."""

    inquiry_bytes_max: int = 4 << 20
    """The engine's answers to all that is asked for one request; an inspect has some 5 KiB. Above: denied."""

    inquiry_questions_max: int = 64
    """What is asked for one request: containers, volumes, paths; nobody mounts more. Above: denied."""

    tunnel_idle_seconds: float = 7 * 86400.0
    """A tunnel on which no byte moves either way; a terminal is left over a weekend on purpose, not for longer."""

    linger_seconds: float = 2.0
    """How long a closing connection is still read, so that the client gets the answer before a reset destroys it."""

    drain_seconds: float = 30.0
    """What is in flight when a stop is asked for; below the 90 seconds that systemd waits."""

    engine_idle_connections_max: int = 1024
    """Kept engine connections without a request, each some 4 KiB here and a goroutine there; a burst of more opens new ones."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of each principal among some clients of a listener; 0 means that it is not limited. Above: 429."""

    requests_per_second: float = 0.0
    """Requests that the policy allows, or asks the engine about, on average; a dashboard makes some, a build some hundred
    within a second."""

    burst: int = 0
    """How many of them may come at once; 0: as many as in a second."""

    concurrent: int = 0
    """Requests under way at once, without streams: a pull or a build counts as long as it lasts."""

    streams: int = 0
    """Streams and tunnels at once: logs, events, stats, attach, exec."""
