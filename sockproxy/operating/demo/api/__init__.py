"""Requests to the demo engine and its answers. Begin at `routes`, the table of all operations.

`connection` and `calls` read, `answers` and `hijack` write, the other files hold the operations. May import `objects` and
`programs`, never the other way round.
"""
