"""sockproxy: a judging, recording, streaming reverse proxy in front of the Docker Engine's socket.

The folders are the way of a request: `wire` reads it, `judging` names and decides it, `recording` tells of it,
`forwarding` carries it, `operating` is what people touch. Begin at `forwarding/serving/proxy.py`.
"""

__version__ = "0.1.0"
