"""TLS of a listener: its certificates, its part of a connection, and what a client's certificate says.

Must not know who may come in by what that says (`judging.clients`), nor what the bytes mean. Begin at `contexts.ServerTls`,
a listener's files as they are now; `secured` is a connection, `certificates` reads what is in one.
"""

from sockproxy.forwarding.downstream.tls.certificates import client_facts
from sockproxy.forwarding.downstream.tls.contexts import ServerTls
from sockproxy.forwarding.downstream.tls.secured import open_secured

__all__ = ["ServerTls", "client_facts", "open_secured"]
