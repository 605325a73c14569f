"""The engine's own reading of a request's body and query, as canonical data that a policy can ask.

Owns the rule that what is judged is what the engine gets: a body is read as Go's encoding/json reads it into the engine's
own types, and written again in one form that no two readers can take for different things. What they could is refused.
Must not know policies, heads or sockets. Begin at `bodies.Bodies.read_payload`; then `text` (JSON of which nothing is
lost), `types` (names and values as Go takes them), `create` (a HostConfig at the top), `query`. Sources: the engine's
request types from 1.9 to 29.7, as data in `sockproxy/data/bodies.json`; Go's encoding/json, asked by differential tests.
"""

from sockproxy.judging.payload.bodies import Bodies, Payload
from sockproxy.judging.payload.query import Query, read_query
from sockproxy.judging.payload.types import UnknownFields

__all__ = ["Bodies", "Payload", "Query", "UnknownFields", "read_query"]
