"""How a client comes in, and who it is, until its connection is served. Begin at `listener`, which accepts on what `binding`
makes and asks `peers` who it is; then either `handshakes` (with TLS, which is `tls`), `introductions` (of clients that are told
apart by their containers), or nothing more."""
