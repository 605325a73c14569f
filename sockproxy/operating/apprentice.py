"""A proxy that learns while it serves: what was asked for becomes a policy file.

Owns when the file is written, and that it is there whole or not at all. Must not know what counts (`recording.learning`)
nor what the file says (`operating.learning`). Begin at `Apprentice`.
"""

import logging
import os

from sockproxy.errors import ConfigError, Finding
from sockproxy.exchange import Exchange, Served
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.policy import UNKNOWN_SELECTOR
from sockproxy.operating.config import load_policy
from sockproxy.operating.config.source import read_text
from sockproxy.operating.learning import DEFAULT_NAME, LEARNT_MARK, learnt_policy
from sockproxy.operating.observers import Observers
from sockproxy.recording.event import completed_event, decided_event
from sockproxy.recording.learning import Learner

log = logging.getLogger("sockproxy")


class Apprentice:
    """Learns of what a proxy is told of, and keeps the policy in a file. What one that ran before has left there is kept.
    Raises OSError where the file cannot be written, ConfigError where there is one that was not learnt."""

    def __init__(self, file: str, catalogue: Catalogue) -> None:
        self.learner = Learner(catalogue)
        self.file = file
        self._name = DEFAULT_NAME
        self._written = ""
        if os.path.exists(file):
            self._name = self._keep(file, catalogue)
        self._with_unknown = UNKNOWN_SELECTOR in self.learner.sightings
        self._write(self._text())

    def _keep(self, file: str, catalogue: Catalogue) -> str:
        if not read_text(file).startswith(f"# {LEARNT_MARK}"):
            raise ConfigError((Finding(file, 0, "", "is there already, and was not learnt; choose another"),))
        before = load_policy(os.path.abspath(file), catalogue)
        self.learner.keep(before)
        return before.name

    def beside(self, observers: Observers) -> "LearningObservers":
        """These observers, and learning from what they are told."""
        return LearningObservers(observers, self.learner)

    def save(self) -> None:
        """Writes the policy if something was learnt since, or the file is gone."""
        text = self._text()
        if text == self._written and os.path.exists(self.file):
            return
        try:
            self._write(text)
        except OSError as error:
            # Lawful: what was learnt is still there, and is written with the next try; requests go on.
            log.error("learnt-not-written", extra={"file": self.file, "reason": str(error)})
        else:
            log.info("learnt-written", extra={"file": self.file, "rules": len(self.learner.sightings)})

    def _text(self) -> str:
        return learnt_policy(self.learner, self._name, with_unknown=self._with_unknown)

    def _write(self, text: str) -> None:
        write_whole(self.file, text)
        self._written = text


class LearningObservers:
    """The observers of a proxy that learns: an exchange counts once the others have taken it."""

    def __init__(self, observers: Observers, learner: Learner) -> None:
        self._observers = observers
        self._learner = learner
        self.account = observers.account
        self.limit_hit = observers.limit_hit

    def decided(self, exchange: Exchange) -> None:
        self._observers.decided(exchange)
        self._learner.add(decided_event(exchange))

    def completed(self, exchange: Exchange) -> None:
        self._observers.completed(exchange)
        self._learner.add(completed_event(exchange))

    def served(self, served: Served) -> None:
        raise RuntimeError("nothing goes the express way where all of it has to be seen")


def write_whole(file: str, text: str) -> None:
    """Writes a file such that a reader finds the old text or the new one, also after a crash."""
    draft = f"{file}.{os.getpid()}.new"
    try:
        # Its name can be foretold: where others may write to the folder, one of theirs must not lead elsewhere.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, file)
    except OSError:
        if os.path.lexists(draft):
            os.unlink(draft)
        raise
