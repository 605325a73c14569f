"""What an allow rule may require of a request beyond its operation: one file a subject, facts -> met, or what fails.

Must not know policies, YAML, bytes or sockets. Begin at `facts.Facts`; the keys of `require:` are in `kinds.KINDS`.
"""
