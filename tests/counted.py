"""sockproxy, with its instructions counted: `python -m tests.counted DESCRIPTOR serve ...`.

Owns the counting of Python instructions (bytecodes) that the process executes. On each SIGUSR1 it writes to DESCRIPTOR how
many there were since the last one, and begins anew. Must not know what they are spent on (`budget` does). Begin at `tell`.
"""

import os
import signal
import sys
from types import FrameType
from typing import Any

from sockproxy.operating.cli.root import main

descriptor = int(sys.argv[1])
executed = 0


def enter(frame: FrameType, event: str, argument: object) -> Any:
    """For each frame that is entered, a coroutine's that goes on as well."""
    if frame.f_code.co_filename == __file__:
        return None
    frame.f_trace_lines = False
    frame.f_trace_opcodes = True
    return count


def count(frame: FrameType, event: str, argument: object) -> Any:
    global executed
    if event == "opcode":
        executed += 1
    return count


def tell(number: int, frame: FrameType | None) -> None:
    global executed
    os.write(descriptor, b"%d\n" % executed)
    executed = 0
    sys.settrace(enter)


if __name__ == "__main__":
    if sys.gettrace() is not None:
        sys.exit("counted: somebody traces here already, coverage perhaps; there can be one only")
    signal.signal(signal.SIGUSR1, tell)
    sys.argv = ["sockproxy", *sys.argv[2:]]
    main()
