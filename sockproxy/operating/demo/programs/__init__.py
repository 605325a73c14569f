"""What runs in the demo engine's containers: nothing real, but with pipes, terminals, signals and exit codes.

Begin at `process`, then `servers.PROGRAMS`, the table of what can be run. Must not know containers or the API.
"""
