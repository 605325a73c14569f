"""Taking a configuration anew while everything goes on: all of it, or nothing.

Owns what of it is taken, what is said of that, and that what cannot be taken leaves the old in force. Must not know when
that is asked for (a signal, or `watching`). Begin at `Reloading.reload`.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from sockproxy.errors import ConfigError, Finding
from sockproxy.forwarding.downstream.tls import ServerTls
from sockproxy.operating.config import Config, Files
from sockproxy.recording.event import rfc3339
from sockproxy.recording.metrics import Metrics

log = logging.getLogger("sockproxy")

_CONFIGURATION = "configuration"

Load = Callable[[Files], Config]
"""Reads the configuration, and tells of every file that it reads. Raises ConfigError."""


class Reloading:
    """What a process takes anew: clients, policies, certificates."""

    def __init__(
        self,
        config: Config,
        tls: Mapping[str, ServerTls],
        metrics: Metrics,
        take: Callable[[Config], int],
        reopen: Callable[[], None],
    ) -> None:
        """`config`: what the process was started with. `take` puts the clients of another one in force and tells how
        many streams go on by what held before; `reopen` opens the files of the record anew."""
        self._config = config
        self._tls = tls
        self._metrics = metrics
        self._take = take
        self._reopen = reopen
        self._failures: dict[str, str] = {}  # what could not be taken -> why
        self._changed: set[str] = set()  # files, since a configuration was last taken

    def reload(self, load: Load, changed: Sequence[str] = ()) -> Files:
        """Takes the clients and policies of a new configuration; whatever else has changed needs a restart, and is named.
        `changed`: because of these files; or because somebody has asked for it, who may have moved files of the record away.
        The files that were read."""
        files: Files = {}
        self._changed.update(changed)
        try:
            config = load(files)
            self._check_whole(changed, files)
            if not changed:
                self._reopen()
        except (ConfigError, OSError) as error:
            self._failed(_CONFIGURATION, error)  # lawful: the old configuration stays
            return files
        self._changed.clear()
        old_streams = self._take(config)
        self._failures.pop(_CONFIGURATION, None)
        self.refresh_tls()
        self._tell()
        needs_restart = _needs_restart(self._config, config)
        told = {"changed": ",".join(changed), "needs_restart": ",".join(needs_restart), "old_streams": old_streams}
        log.info("reloaded", extra={key: value for key, value in told.items() if value})
        return files

    def _check_whole(self, changed: Sequence[str], files: Files) -> None:
        """Whether what has changed can be whole. Half a policy is often a good one, without its last rules, and a disk that is
        full leaves half a file: nobody has said that this one is to be taken. Raises ConfigError."""
        cut = [file for file, seen in files.items() if file in self._changed and not seen.ends_with_line]
        if changed and cut:
            message = "ends within a line, as if it were not all there: end its last line, or send SIGHUP"
            raise ConfigError(tuple(Finding(file, 0, "", message) for file in cut))

    def refresh_tls(self) -> None:
        """Takes certificates whose files have changed."""
        for name, tls in self._tls.items():
            try:
                is_new = tls.refresh()
            except OSError as error:
                self._failed(name, error)  # lawful: the old certificates stay
                continue
            was_bad = self._failures.pop(name, None) is not None
            if is_new or was_bad:
                self._tell()
                log.info("certificate-reloaded", extra={"listener": name, "not_after": rfc3339(tls.not_after)})

    def _failed(self, what: str, error: Exception) -> None:
        """Says once why something new was not taken; the metric says it as long as it lasts."""
        if what == _CONFIGURATION or self._failures.get(what) != str(error):
            log.error("reload-failed", extra={"reason": str(error)})
        self._failures[what] = str(error)
        self._tell()

    def _tell(self) -> None:
        self._metrics.config_reload(success=not self._failures, time=time.time())


def _needs_restart(old: Config, new: Config) -> list[str]:
    names = ("engine", "admin", "admin_token_file", "audit", "audit_rules", "audit_key", "limits", "recordings")
    changed = [name for name in names if getattr(old, name) != getattr(new, name)]
    if [(one.address, one.tls) for one in old.listeners] != [(one.address, one.tls) for one in new.listeners]:
        changed.append("listeners")
    return changed
