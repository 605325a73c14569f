"""Client: some of a listener's clients, who they are and what holds for them.

Owns this value only. Must not know how it is written (`operating.config`) or kept (`shared`, `meter`).
"""

from typing import NamedTuple

from sockproxy.forwarding.limits import ClientLimits
from sockproxy.judging.clients import Match
from sockproxy.judging.policy import Policy


class Client(NamedTuple):
    """Those whom a match means: the policy that they meet, and how much each principal of them may ask for."""

    match: Match
    policy: Policy
    limits: ClientLimits = ClientLimits()
