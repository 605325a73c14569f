"""What there is on the demo engine and what happens to it. Begin at `state`, then `lifecycle`.

Must not know HTTP or connections. May import `programs`, never the other way round.
"""
