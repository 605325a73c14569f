"""Moving bytes from one socket to another, whatever they mean. Begin at `stream`, one connection, then `relay`, which moves a
body from one to another; `splice` and `scoop` are faster ways for large ones. `readiness` is for sockets without a stream."""
