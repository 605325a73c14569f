"""Is the chain whole, and who has signed it?

Owns what is wrong with a line or before it, up to the first break. Must not know files (`lines`), nor how a checkpoint is
signed (`checkpoint`). Begin at `verify`, then `Verifier.check`.

A trail that begins anew behind the end of another (a stream's, with each process; a file's, after it was moved away and
the process ended before its next event) is counted in `trails`, and no break: a cut end shows in no case by itself. It
shows against a place that was noted elsewhere (`Expected`), and with a public key if too much of it is unsigned.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import cast

import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.recording.checkpoint import Verifier as PublicKey
from sockproxy.recording.checkpoint import is_checkpoint, is_signed_by
from sockproxy.recording.event import GENESIS, Event, chain_hash
from sockproxy.recording.sinks.file import CHECKPOINT_SUFFIX, LINE_BYTES_MAX
from sockproxy.recording.trail.breaks import Break, BreakKind, Expected, Report
from sockproxy.recording.trail.lines import (
    TOO_LONG,
    Line,
    has_double_keys,
    in_order,
    number_of,
    parse_line,
    read_lines,
    text_of,
)

OPEN_IDS_MAX = 100_000
"""Exchanges that are decided and not completed, remembered while reading; more than the proxy may have connections."""

ANYWHERE = ""
"""In the place of a previous hash: a trail whose older files are not at hand, and of which nothing is known."""

UNSIGNED_LINES_SPARE = 256
"""What may stand behind the newest checkpoint beside `every` lines: what is written at once, 64 KiB of lines."""

UNSIGNED_SECONDS_SPARE = 60.0
"""The same of `seconds`: a process that was stopped for a while, a clock that was set."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def verify(
    paths: Sequence[str],
    *,
    expected_last_hash: str = "",
    previous_hash: str = GENESIS,
    public_keys: Sequence[PublicKey] = (),
    expected: Sequence[Expected] = (),
) -> Report:
    """Checks the chain over the files, in whatever order they are given. Those that end with `.checkpoint` say which line has
    to be there, and so do those beside the others. `previous_hash`: that of the line before the first, if older files are not
    at hand. `public_keys`: one of them has to fit each checkpoint. Raises ConfigError for a file that cannot be read."""
    trails = [path for path in paths if not path.endswith(CHECKPOINT_SUFFIX)]
    kept = {path if path.endswith(CHECKPOINT_SUFFIX) else path + CHECKPOINT_SUFFIX for path in paths}
    # Read before the trail: of one that is being written, the checkpoint may only be older then.
    noted = (*expected, *(one for path in sorted(kept) if path in paths or os.path.exists(path) for one in _kept(path)))
    verifier = Verifier(previous_hash, public_keys, noted)
    for line in read_lines(in_order(trails)):
        verifier.check(line)
        if verifier.report.broken:
            break
    else:
        verifier.end(expected_last_hash, ", ".join(paths))
    verifier.report.files = len(trails)
    verifier.report.unfinished = verifier.unfinished
    return verifier.report


def _kept(path: str) -> Iterator[Expected]:
    """The newest checkpoint, as it was kept a second time. Raises ConfigError if it cannot be read."""
    for line in read_lines([path]):
        event = parse_line(line.raw)
        if isinstance(event, str) or not is_checkpoint(event):
            raise ConfigError((Finding(path, line.number, "", "is no checkpoint"),))
        yield Expected(int(number_of(event, "seq")), text_of(event, "hash"), path)


def read_events(paths: Sequence[str]) -> Iterator[Event]:
    """All events, one after the other. Raises ConfigError for what cannot be read; a torn last line is left out."""
    for line in read_lines(paths):
        if len(line.raw) > LINE_BYTES_MAX:
            raise ConfigError((Finding(line.file, line.number, "", TOO_LONG),))
        if not line.raw.endswith(b"\n"):
            continue
        event = parse_line(line.raw)
        if isinstance(event, str):
            raise ConfigError((Finding(line.file, line.number, "", event),))
        if not is_checkpoint(event):
            yield event


def read_verified(paths: Sequence[str]) -> Iterator[Event]:
    """All events, and the chain of each file is checked on the way, from wherever the file begins. Raises ConfigError for
    the first break, and for what cannot be read; a torn last line is left out."""
    for path in paths:
        verifier = Verifier(ANYWHERE)
        for line in read_lines([path]):
            is_torn = not line.raw.endswith(b"\n") and len(line.raw) <= LINE_BYTES_MAX
            if is_torn:
                continue
            event = verifier.check(line)
            if event is None:
                raise ConfigError((verifier.finding(),))
            if not is_checkpoint(event):
                yield event


class Verifier:
    """The place in the chain, and what was seen on the way to it."""

    def __init__(
        self, previous_hash: str, public_keys: Sequence[PublicKey] = (), expected: Sequence[Expected] = ()
    ) -> None:
        self.report = Report()
        self.file = ""
        self.line = 0
        self._hash = previous_hash
        self._seq = 0 if previous_hash == GENESIS else None
        self._public_keys = {one.key: one for one in public_keys}
        self._expected = {one.hash: one for one in expected if one.hash != previous_hash}
        self._first_hashes = _Recent(OPEN_IDS_MAX)
        self._open_ids = _Recent(OPEN_IDS_MAX)
        self._tail = _Tail()
        self._trail = ""  # what the checkpoints of this file call the trail in it
        self._begins_behind = ""  # the same, once a chain begins behind them
        self._is_anywhere = previous_hash == ANYWHERE
        self._has_checkpoint = False  # the trail that is being read
        self._last_place = ("", 0)  # file and line of the line before

    @property
    def unfinished(self) -> int:
        return self._open_ids.forgotten + len(self._open_ids)

    def finding(self) -> Finding:
        """The break, as what is wrong with a file."""
        broken = self.report.broken or Break(self.file, self.line, BreakKind.UNREADABLE, "")
        return Finding(broken.file, broken.line, "", f"{broken.kind.value}: {broken.message}")

    def check(self, line: Line) -> Event | None:
        """Goes one line on, or puts the break into the report and returns None."""
        if line.file != self.file:
            self._trail = self._begins_behind = ""
        self.file, self.line, raw = line
        if len(raw) > LINE_BYTES_MAX:
            self._break(BreakKind.UNREADABLE, TOO_LONG)
            return None
        if not raw.endswith(b"\n"):
            self._break(BreakKind.TORN, "ends within a line: its writer was interrupted, or the rest was removed")
            return None
        event = parse_line(raw)
        if isinstance(event, str):
            self._break(BreakKind.UNREADABLE, event)
            return None
        claimed, prev = text_of(event, "hash"), text_of(event, "prev")
        if not _carries_own_hash(raw, event, claimed, prev):
            self._break(BreakKind.CHANGED, f"seq {event['seq']} does not carry its own hash", event)
            return None
        self._hash = self._hash or prev
        if not self._is_linked(event, prev, claimed):
            return None
        if is_checkpoint(event) and not self._is_signed(event):
            return None
        self._count(event, claimed)
        return event

    def end(self, expected_last_hash: str, files: str) -> None:
        """What only shows at the end of all files."""
        report = self.report
        self.file = self.file or files
        if expected_last_hash and report.last_hash != expected_last_hash:
            self._break(
                BreakKind.END, f"the last hash is {report.last_hash or 'missing'}, expected {expected_last_hash}"
            )
        for one in self._expected.values():
            if one.seq >= report.first_seq and report.is_whole:
                self._missing_end(one)
        if report.lines and report.is_whole:
            self._check_tail()

    def _missing_end(self, one: Expected) -> None:
        last = self.report.last_seq
        if one.seq <= last:
            self._break(
                BreakKind.END, f"seq {one.seq} is another line than {one.source} names: the trail was written anew"
            )
            return
        message = f"ends with seq {last}, and {one.source} names seq {one.seq}: {_lines(last + 1, one.seq)} cut off"
        self._break(BreakKind.END, message, None, (last + 1, one.seq))

    def _check_tail(self) -> None:
        """That no more is unsigned than may be: whoever writes lines anew cannot sign them."""
        if not self._public_keys:
            return
        if not self._has_checkpoint:
            self._break(BreakKind.UNSIGNED, "there is no checkpoint, so nobody has signed a line")
        elif why := self._tail.excess():
            self._break(BreakKind.UNSIGNED, f"seq {self.report.signed_seq} is the last that is signed, and {why}")

    def _is_linked(self, event: Event, prev: str, claimed: str) -> bool:
        seq = cast("int", event["seq"])  # an integer, as parse_line made sure
        if seq == 1 and prev == GENESIS and self._seq is not None:
            return self._begins(claimed)
        if prev == self._hash and (self._seq is None or seq == self._seq + 1):
            return True
        expected = (self._seq or 0) + 1
        if prev == self._hash:
            self._break(BreakKind.SEQ_GAP, f"seq {seq} follows by its hash, but seq {expected} is due", event)
        elif seq < expected:
            hint = _APART if self._is_anywhere and self.line == 1 else ""
            self._break(BreakKind.DUPLICATE, f"seq {seq} comes again or too late, seq {expected} is due{hint}", event)
        elif seq > expected and self._seq is None:
            self._break(BreakKind.REMOVED, "another line stood before it than the one whose hash was given", event)
        elif seq > expected:
            hint = _OLDER if not self.report.lines else _APART if self._is_anywhere and self.line == 1 else ""
            message = f"{_lines(expected, seq - 1)} missing here{hint}"
            self._break(BreakKind.REMOVED, message, event, (expected, seq - 1))
        else:
            message = f"seq {seq} was written behind another line than the one that stands here"
            self._break(BreakKind.CHANGED, message, event)
        return False

    def _begins(self, claimed: str) -> bool:
        if claimed in self._first_hashes:
            self._break(BreakKind.DUPLICATE, "a trail begins here for the second time: is a file given twice?")
            return False
        self._first_hashes.add(claimed)
        self._begins_behind = self._trail
        return not self.report.lines or self._ends_here()

    def _ends_here(self) -> bool:
        """Whether nothing is missing at the end of the trail before this one, as at that of the last (`end`)."""
        here = self.file, self.line
        self.file, self.line = self._last_place
        for one in self._expected.values():
            if one.source == self.file + CHECKPOINT_SUFFIX and self.report.is_whole:
                self._missing_end(one)
        if self.report.is_whole:
            self._check_tail()
        if self.report.is_whole:
            self.file, self.line = here
            self._tail, self._has_checkpoint = _Tail(), False
        return self.report.is_whole

    def _is_signed(self, event: Event) -> bool:
        trail = text_of(event, "trail")
        if self._begins_behind not in ("", trail):
            # Whoever cuts off an end may put a whole trail of another place there, which was signed with the same key.
            message = f"seq {event['seq']} is of the trail {trail}, behind lines of {self._begins_behind}"
            self._break(BreakKind.SIGNATURE, message, event)
            return False
        self._trail, self._begins_behind = trail, ""
        if not self._public_keys:
            return True
        name = text_of(event, "key")
        key = self._public_keys.get(name)
        if key is not None and is_signed_by(event, key):
            return True
        others = " or ".join(self._public_keys)
        why = f"was signed with the key {name}, not with {others}" if key is None else "does not fit its signature"
        self._break(BreakKind.SIGNATURE, f"seq {event['seq']} {why}", event)
        return False

    def _count(self, event: Event, claimed: str) -> None:
        report = self.report
        seq = cast("int", event["seq"])  # an integer, as parse_line made sure
        time = str(event["time"])
        if not report.lines:
            report.first_seq, report.first_time = seq, time
        report.trails += 1 if seq == 1 or not report.lines else 0
        report.lines += 1
        report.last_seq = self._seq = seq
        report.last_hash = self._hash = claimed
        report.last_time = time
        self._last_place = self.file, self.line
        if self._expected:
            self._expected.pop(claimed, None)
        stage = event["stage"]
        if stage == "decided":
            report.decided += 1
            self._open_ids.add(str(event["id"]))
            self._tail.add(time)
        elif stage == "completed":
            report.completed += 1
            self._open_ids.remove(str(event["id"]))
            self._tail.lines += 1
        else:
            report.checkpoints += 1
            report.signed_late += event["cause"] == "start"
            report.signed_seq, report.signed_time = seq, time
            self._has_checkpoint = True
            self._tail = _Tail(int(number_of(event, "every")), number_of(event, "seconds"))

    def _break(
        self, kind: BreakKind, message: str, event: Event | None = None, missing: tuple[int, int] | None = None
    ) -> None:
        after = self.report.last_time
        before = "" if event is None else text_of(event, "time")
        # What a forged line says of its time is shown on a terminal.
        times = [time if _TIME.fullmatch(time) else "" for time in (after, before)]
        self.report.broken = Break(self.file, self.line, kind, message, missing, *times)


_OLDER = "; older files that are gone for good: --previous-hash any"
_APART = "; trails of several workers whose older files are gone are verified one by one"


def _lines(first: int, last: int) -> str:
    return f"seq {first} is" if first == last else f"seq {first} to {last} ({last - first + 1} lines) are"


class _Tail:
    """The lines behind the newest checkpoint, and what that has promised of them. Times are those of decisions: the time of an
    outcome is counted from its request on, which may be days."""

    __slots__ = ("_every", "_first", "_last", "_seconds", "lines")

    def __init__(self, every: int = 0, seconds: float = 0.0) -> None:
        self._every = every
        self._seconds = seconds
        self._first = ""
        self._last = ""
        self.lines = 0

    def add(self, time: str) -> None:
        self.lines += 1
        self._first = self._first or time
        self._last = time

    def excess(self) -> str:
        """Why there are too many, or ""."""
        if self.lines > self._every + UNSIGNED_LINES_SPARE:
            return f"{self.lines} lines follow, though a checkpoint is due each {self._every}"
        seconds = _seconds_between(self._first, self._last)
        if seconds > self._seconds + UNSIGNED_SECONDS_SPARE:
            return f"lines of {seconds:.0f} seconds follow, though a checkpoint is due after {self._seconds:.0f}"
        return ""


def _seconds_between(first: str, last: str) -> float:
    try:
        return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    except (ValueError, TypeError):
        return 0.0  # lawful: there is no second line, or one that says no time, whose number counts


def _carries_own_hash(raw: bytes, event: Event, claimed: str, prev: str) -> bool:
    # hot: a line as it was written is its own canonical form with the hash in its middle, so that it need not be written
    # once more without: 170,000 lines a second instead of 145,000. That it is this form shows that no key stands twice.
    text = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
    if len(text) + 1 == len(raw) and raw.startswith(text):
        front, _, back = text.partition(b'"hash":"%b",' % claimed.encode())
        if sha256(b"%b%b%b" % (prev.encode(), front, back)).hexdigest() == claimed:
            return True
    without = {key: value for key, value in event.items() if key != "hash"}
    return not has_double_keys(raw, event) and claimed == chain_hash(prev, without)


class _Recent:
    """A set of strings that forgets the oldest when there are too many, and counts those."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._items: OrderedDict[str, None] = OrderedDict()
        self.forgotten = 0

    def __contains__(self, item: str) -> bool:
        return item in self._items

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: str) -> None:
        self._items[item] = None
        if len(self._items) > self._size_max:
            self._items.popitem(last=False)
            self.forgotten += 1

    def remove(self, item: str) -> None:
        self._items.pop(item, None)
