"""Who asks: Peer -> Principal.

Owns what is known of the other end of a connection and how it is named. Must not know how these facts are gathered
(`forwarding.downstream`) nor what they permit (`policy`).
"""

from functools import lru_cache
from typing import Literal, NamedTuple

PeerKind = Literal["unix", "tcp"]


class Peer(NamedTuple):
    """The facts of one accepted connection. What the kind of the connection does not have is None."""

    listener: str
    kind: PeerKind
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    exe: str | None = None
    container: str | None = None
    tls_subject: str | None = None
    address: str | None = None
    tls_sans: tuple[str, ...] = ()
    """The certificate's alternative names, each with its kind: `DNS:ci.example.com`, `URI:spiffe://...`."""
    tls_fingerprint: str | None = None
    """The SHA-256 of the certificate, in hexadecimal."""
    container_name: str | None = None
    """As the engine knows it; like the labels only where a listener's clients are told apart by it."""
    container_labels: tuple[tuple[str, str], ...] = ()
    is_introduced: bool = False
    """The engine has said which of its containers this is, or that it is none of them."""


class Principal(NamedTuple):
    """Who is asking, for the record and for the limits. `key` is what connections are counted by."""

    kind: PeerKind
    uid: int | None
    gid: int | None
    pid: int | None
    exe: str | None
    container: str | None
    tls_subject: str | None
    address: str | None
    key: str


def identify(peer: Peer) -> Principal:
    """The principal behind a peer. A unix peer is counted by its uid; one with a client certificate by its subject, or by
    the certificate where that has none; another tcp peer by its address without the port."""
    # What a container is called and labelled is none of it, and is not kept when the connection has ended.
    return _identify(peer._replace(container_name=None, container_labels=()) if peer.container_labels else peer)


@lru_cache(maxsize=4096)  # all connections of a process have one, so that what is made of it is made once
def _identify(peer: Peer) -> Principal:
    if peer.kind == "unix":
        key = f"uid:{peer.uid}"
    elif peer.tls_subject or peer.tls_fingerprint:
        key = f"tls:{peer.tls_subject or peer.tls_fingerprint}"
    else:
        key = f"address:{host_of(peer.address or '')}"
    return Principal(
        peer.kind, peer.uid, peer.gid, peer.pid, peer.exe, peer.container, peer.tls_subject, peer.address, key
    )


def host_of(address: str) -> str:
    """A peer's address without its port."""
    return address.rpartition(":")[0]
