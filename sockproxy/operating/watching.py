"""Whether the files of a configuration have changed.

Owns when and how they are looked at. Must not know what is in them, nor what is done then (`reloading`). Begin at
`FileWatch.look`.

Files are looked at again and again instead of being told of by the kernel (inotify), which tells of the inode that was there:
not of a change on the other side of a network or overlay file system, not of a link behind a link, as Kubernetes swaps them
in a volume, and of a file that an editor replaces only to who watches its folder. A look costs a microsecond or two a file.

They are looked at by a thread of their own: where a file system hangs, nobody but that thread waits for it.
"""

import threading
from collections.abc import Callable

from sockproxy.operating.config.files import Files, Looks, look_at, see

LOOK_SECONDS = 1.0
"""How often. A change is taken when two looks in a row have seen the same: a file that is being written is not."""


class FileWatch:
    """Looks at the files that were taken last. `on_change` is called by its thread, with the files that have changed."""

    def __init__(self, on_change: Callable[[list[str]], None], seconds: float = LOOK_SECONDS) -> None:
        self._on_change = on_change
        self._seconds = seconds
        self._files: Files = {}
        self._last: dict[str, Looks | None] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def take(self, files: Files) -> None:
        """From now on these are the files; whatever they were like when they were read is no change."""
        with self._lock:
            self._files = dict(files)

    def start(self) -> None:
        """Looks until `stop`. A daemon: a look at a file system that hangs must not hold up the end of the process."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            if changed := self.look():
                self._on_change(changed)

    def look(self) -> list[str]:
        """The files in which something else stands than what was taken, and has for two looks. Each change is told once; what
        was only touched is none."""
        files = self._files
        now = {file: look_at(file) for file in files}
        is_settled, self._last = now == self._last, now
        touched = [file for file in files if now[file] != files[file].looks]
        if not touched or not is_settled:
            return []
        seen = {file: see(file) for file in touched}
        with self._lock:
            if self._files is not files:
                return []  # others were taken meanwhile
            self._files = files | seen
        return [file for file in touched if seen[file].digest != files[file].digest]
