"""Where audit lines go: a file, standard output.

Owns bytes that must not be torn, lost in silence, or mixed with another writer's. Must not know what a line says
(`event`). Begin at `open_sink`.

One trail has one writer. Several workers would not share a file: either each writes its own trail (to read them all is
to sort by time), or they hand their events to the one process that owns the trail, and wait for its word on those that
are owed. A shared chain would need a lock around each line and the last hash in shared memory, and a worker that dies
between the two would break it.
"""

import os
import stat

from sockproxy.recording.chain import Sink
from sockproxy.recording.sinks.file import (
    LINE_BYTES_MAX,
    NO_ROTATION,
    FileSink,
    Fsync,
    Rotation,
    keep_beside,
    open_file,
    read_beside,
)
from sockproxy.recording.sinks.stream import STANDARD_OUTPUT, STREAM_PATIENCE_MS, StreamSink

__all__ = [
    "LINE_BYTES_MAX",
    "NO_ROTATION",
    "STANDARD_OUTPUT",
    "STREAM_PATIENCE_MS",
    "FileSink",
    "Fsync",
    "Rotation",
    "StreamSink",
    "keep_beside",
    "open_sink",
    "read_beside",
]


def open_sink(file: str, rotation: Rotation = NO_ROTATION, fsync: Fsync = "never") -> Sink:
    """The sink that a configuration names: `-` is standard output, anything else a path. Raises ConfigError."""
    if file == STANDARD_OUTPUT:
        return StreamSink(STANDARD_OUTPUT, 1)
    fd = open_file(file)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return FileSink(file, fd, rotation, fsync)
    return StreamSink(file, fd)
