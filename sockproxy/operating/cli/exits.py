"""The exit codes of the command line, a contract with the scripts that call it.

Owns the numbers and their meaning, nothing else. Ruled by: DESIGN, "The command line".
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command tells its caller."""

    DONE = 0
    NO = 1  # the answer is no: denied, different, invalid, a broken chain
    USAGE = 2  # it was given what it cannot use: a wrong option, a file that cannot be read
    FAULT = 70  # a fault of ours; sysexits.h: EX_SOFTWARE
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    PIPE_CLOSED = 141  # 128 + SIGPIPE: the reader of our output went away first, as in `sockproxy matrix | head -1`
