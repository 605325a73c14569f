"""Sinks: real files that fill up, are moved away or found torn, and real pipes whose reader is slow or gone."""

import contextlib
import fcntl
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sockproxy.errors import AuditRefused, ConfigError
from sockproxy.recording.audit import AuditTrail
from sockproxy.recording.chain import Sink
from sockproxy.recording.sinks import LINE_BYTES_MAX, STREAM_PATIENCE_MS, FileSink, StreamSink, open_sink
from sockproxy.recording.sinks.datagram import DatagramSink, unix_socket
from sockproxy.recording.sinks.outbox import Outbox
from sockproxy.recording.trail import verify
from tests.exchanges import LIST, START, decided, rejected

PATIENCE = STREAM_PATIENCE_MS
KIB8 = b"x" * 8192


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Within it a write beyond that size is short, then fails: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reader, writer), both closed in the end if they still are open."""
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):  # lawful: the test closed it
            os.close(fd)


def open_trail(path: Path) -> AuditTrail:
    return AuditTrail([(open_sink(str(path)), "deny-writes")], lambda flush: None, lambda sink, result, count: None)


# Files


def test_file_is_private_and_appended_to(path: Path) -> None:
    for lines in (b"a\n", b"b\nc\n"):
        sink = open_sink(str(path))
        assert sink.write(lines, may_wait=True) == len(lines)
        sink.close()
    assert path.read_bytes() == b"a\nb\nc\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_descriptor_is_not_inherited(path: Path) -> None:
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    inode = os.fstat(fd).st_ino
    os.close(fd)
    sink = open_sink(str(path))
    ours = [int(name) for name in os.listdir("/proc/self/fd") if _inode(int(name)) == inode]
    assert ours
    assert not any(os.get_inheritable(fd) for fd in ours)
    assert fcntl.fcntl(ours[0], fcntl.F_GETFL) & os.O_APPEND
    sink.close()


def _inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return 0  # the listing's own descriptor


ENDS = [  # content, last whole line, what stands behind it
    (b"", b"", b""),
    (b"a\n", b"a", b""),
    (b"a\nb\n", b"b", b""),
    (b"a\n\n", b"", b""),
    (b"a", b"", b"a"),
    (b"a\nb\nc", b"b", b"c"),
    (b"\n", b"", b""),
    (b"a\n" + b"b" * 200_000 + b"\n", b"b" * 200_000, b""),
    (b"a" * 200_000 + b"\n" + b"b" * 70_000, b"a" * 200_000, b"b" * 70_000),
    (b"a\n" + b"b" * (65536 - 1) + b"\n", b"b" * 65535, b""),
    (b"a\n" + b"b" * 65536 + b"\n", b"b" * 65536, b""),
]


@pytest.mark.parametrize(("content", "last_line", "fragment"), ENDS, ids=range(len(ENDS)))
def test_end_of_a_file(path: Path, content: bytes, last_line: bytes, fragment: bytes) -> None:
    path.write_bytes(content)
    sink = open_sink(str(path))
    assert (sink.last_line, sink.fragment) == (last_line, fragment)
    assert path.read_bytes() == content
    sink.cut_fragment()
    assert path.read_bytes() == content.removesuffix(fragment)
    sink.close()


def test_a_line_without_end_is_no_trail(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 * LINE_BYTES_MAX)
    with pytest.raises(ConfigError, match="not an audit trail"):
        open_sink(str(path))


UNUSABLE = [
    ("missing/audit.jsonl", "there is no folder"),
    (".", "cannot be opened"),
    ("file/audit.jsonl", "cannot be opened"),
]


@pytest.mark.parametrize(("name", "message"), UNUSABLE)
def test_what_cannot_be_opened(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=message) as error:
        open_sink(str(tmp_path / name))
    assert error.value.findings[0].file == str(tmp_path / name)


def test_a_trail_has_one_writer(path: Path) -> None:
    sink = open_sink(str(path))
    with pytest.raises(ConfigError, match="another process"):
        open_sink(str(path))
    sink.close()
    open_sink(str(path)).close()


def test_of_a_full_file_whole_lines_are_kept(path: Path) -> None:
    sink = open_sink(str(path))
    with file_size_limit(10):
        assert sink.write(b"abc\n", may_wait=True) == 4
        assert sink.write(b"def\nghi\njkl\n", may_wait=True) == 4
        assert path.read_bytes() == b"abc\ndef\n"
        assert sink.write(b"ghijk\n", may_wait=True) == 0
        assert path.read_bytes() == b"abc\ndef\n"
    assert sink.write(b"ghi\n", may_wait=True) == 4
    assert path.read_bytes() == b"abc\ndef\nghi\n"
    sink.close()


@pytest.fixture
def growing() -> Iterator[int]:
    """A file that cannot become shorter, whoever asks."""
    fd = os.memfd_create("growing", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    yield fd


def test_a_torn_line_that_cannot_be_cut_off_ends_the_trail(growing: int) -> None:
    sink = FileSink("growing", growing)
    with file_size_limit(6):
        assert sink.write(b"abc\ndef\n", may_wait=True) == 4
    assert sink.write(b"def\n", may_wait=True) == 0
    assert os.pread(growing, 100, 0) == b"abc\nde"
    sink.close()


def test_a_torn_line_that_cannot_be_cut_off_begins_none(growing: int) -> None:
    os.write(growing, b"abc\nde")
    sink = FileSink("growing", growing)
    with pytest.raises(ConfigError, match="cannot be cut off"):
        sink.cut_fragment()
    sink.close()


def test_a_file_that_somebody_emptied_is_gone_on_with(path: Path) -> None:
    sink = open_sink(str(path))
    sink.write(b"abc\n", may_wait=True)
    os.truncate(path, 0)
    with file_size_limit(6):
        assert sink.write(b"def\nghi\n", may_wait=True) == 4
    assert path.read_bytes() == b"def\n"
    sink.close()


def test_trail_survives_a_full_disk_and_a_restart(path: Path) -> None:
    trail = open_trail(path)
    trail.decided(decided(START, id="a-1"))
    with file_size_limit(path.stat().st_size + 300), pytest.raises(AuditRefused):
        trail.decided(decided(START, id="a-2"))
    assert verify([str(path)]).lines == 1
    trail.decided(decided(START, id="a-3"))
    trail.close()
    with path.open("ab") as file:
        file.write(b'{"v":1,"id":"a-4","seq":4,"ti')
    trail = open_trail(path)
    assert trail.cut_bytes == {str(path): 29}
    trail.decided(decided(START, id="a-5"))
    trail.close()
    report = verify([str(path)])
    assert (report.is_whole, report.lines, report.last_seq, report.trails) == (True, 4, 4, 1)


def test_trail_goes_on_over_a_rotation(path: Path) -> None:
    trail = open_trail(path)
    trail.decided(decided(START, id="a-1"))
    trail.decided(decided(LIST, id="a-2"))
    moved = path.rename(path.with_suffix(".1"))
    trail.decided(decided(START, id="a-3"))
    assert not path.exists()
    trail.decided(decided(LIST, id="a-4"))
    trail.reopen()
    trail.decided(decided(START, id="a-5"))
    trail.close()
    assert verify([str(moved)]).lines == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report = verify([str(moved), str(path)])
    assert (report.is_whole, report.lines, report.last_seq) == (True, 5, 5)


def test_nothing_happens_if_nothing_was_moved(path: Path) -> None:
    trail = open_trail(path)
    trail.decided(decided(START))
    trail.reopen()
    trail.decided(decided(START))
    trail.close()
    assert verify([str(path)]).lines == 2


def test_the_old_file_stays_if_the_new_one_is_unusable(path: Path) -> None:
    trail = open_trail(path)
    moved = path.rename(path.with_suffix(".1"))
    path.write_bytes(b"something else\n")
    with pytest.raises(ConfigError, match="holds something"):
        trail.reopen()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be opened"):
        trail.reopen()
    trail.decided(decided(START))
    trail.close()
    assert verify([str(moved)]).lines == 1


def test_a_moved_file_can_be_opened_by_the_next(path: Path) -> None:
    trail = open_trail(path)
    moved = path.rename(path.with_suffix(".1"))
    trail.reopen()
    open_sink(str(moved)).close()
    trail.close()


def test_a_device_that_takes_nothing_refuses_writes() -> None:
    trail = open_trail(Path("/dev/full"))
    trail.decided(decided(LIST))
    trail.flush()
    with pytest.raises(AuditRefused):
        trail.decided(decided(START))
    trail.close()


# Streams


def read_all(fd: int) -> bytes:
    pieces = []
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_tears_no_line(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    sink = StreamSink("-", writer)
    lines = b"".join(b"%06d %s\n" % (number, b"x" * 990) for number in range(150))
    rest, received = lines, b""
    while rest:
        kept = sink.write(rest, may_wait=False)
        rest = rest[kept:]
        assert kept > 0
        received += read_all(reader)
    assert received == lines
    assert os.get_blocking(writer) is blocking


SLOW = [  # may_wait, whether it takes bytes each time it is asked, KiB kept of each write, how long it was waited for
    ("nobody-waits", False, [False], [0], [0]),
    ("slow", True, [False, True, True], [8], [0, PATIENCE, 0]),
    ("slower", True, [False, True, False], [4], [0, PATIENCE, 0]),
    ("stuck", True, [False, False, False], [0, 0], [0, PATIENCE, 0]),
    (
        "stuck-until-it-moves",
        True,
        [False, False, True, False, False, True, True],
        [0, 4, 8],
        [0, PATIENCE, *[0] * 3, PATIENCE, 0],
    ),
]


@pytest.mark.parametrize(("id", "may_wait", "answers", "kept", "waits"), SLOW, ids=[row[0] for row in SLOW])
def test_a_slow_reader_is_waited_for(
    pipe: tuple[int, int], id: str, may_wait: bool, answers: list[bool], kept: list[int], waits: list[int]
) -> None:
    asked: list[int] = []
    answer = iter(answers)
    sink = StreamSink("-", pipe[1], lambda milliseconds: asked.append(milliseconds) or next(answer))
    assert [sink.write(KIB8, may_wait=may_wait) // 1024 for _ in kept] == kept
    assert asked == waits


def test_a_reader_that_is_gone_is_a_failure(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    assert StreamSink("-", writer).write(b"a\n", may_wait=True) == 0


def test_a_stream_is_locked_by_nobody_and_stays_open(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    sink = StreamSink("-", writer)
    sink.close()
    assert os.write(writer, b"still open") == 10


NO_FILES: list[Callable[[int], Sink]] = [
    lambda fd: StreamSink("no-file", fd),
    lambda fd: DatagramSink("no-file", unix_socket("/nobody"), lambda line: line, lambda count: None),
    lambda fd: Outbox("no-file", 1 << 20, lambda: None),
]


@pytest.mark.parametrize("new", NO_FILES, ids=["stream", "datagrams", "outbox"])
def test_what_is_no_file_is_asked_for_none_of_its_duties(pipe: tuple[int, int], new: Callable[[int], Sink]) -> None:
    trail = AuditTrail([(sink := new(pipe[1]), "deny-writes")], lambda flush: None, lambda sink, result, count: None)
    trail.completed(rejected(id="a"))
    trail.reopen()
    (state,) = trail.states(1 << 20)
    assert (sink.file, trail.sync()) == (None, ())
    assert (state.began_at, state.seq, state.cut_bytes, state.last_lines) == (0, 1, 0, [])


def test_standard_output_is_a_dash() -> None:
    assert isinstance(open_sink("-"), StreamSink)


def test_a_named_pipe_is_a_stream(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    sink = open_sink(str(tmp_path / "fifo"))
    assert isinstance(sink, StreamSink)
    assert sink.write(b"a\n", may_wait=True) == 2
    assert os.read(reader, 10) == b"a\n"
    sink.close()
    os.close(reader)


def test_trail_on_a_full_pipe_goes_on_when_it_is_read(pipe: tuple[int, int], path: Path) -> None:
    reader, writer = pipe
    trail = AuditTrail([(StreamSink("-", writer), "deny-writes")], lambda flush: None, lambda sink, result, count: None)
    with pytest.raises(AuditRefused):
        for number in range(200):
            exchange = decided(START, id=f"a-{number}")
            exchange.user_agent = "x" * 9000  # three pieces a line, and a pipe has sixteen places
            trail.decided(exchange)
    received = read_all(reader)
    assert not received.endswith(b"\n")
    trail.decided(decided(START, id="b-1"))
    path.write_bytes(received + read_all(reader))
    report = verify([str(path)])
    assert (report.is_whole, report.decided) == (True, report.last_seq)
    assert path.read_bytes().count(b'"id":"b-1"') == 1
