"""Carrying bytes between clients and the engine: asyncio and sockets, no rules.

Rooms, in the order in which a request comes through; each knows those below it, never those above:
- `downstream`: how a client comes in, and who it is: sockets that listen, TLS, containers. Begin at `listener`.
- `serving`: its connection, and each request on it: the story. Begin at `connections`, then `proxy`.
- `upstream`: the engine: connections to it, what it is asked about clients, what its files are. Begin at `engine`.
- `moving`: bytes from one socket to another. Begin at `stream`, then `relay`.
Beside them stands what all of them are told: where (`address`), who meets what (`client`), how much and how long (`limits`),
and those who count that (`deadlines`, `holding`, `meter`, `turns`).
"""
