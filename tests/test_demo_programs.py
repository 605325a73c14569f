"""What runs in the demo engine's containers besides the shell: servers, terminals; and pipes, logs, files, names."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sockproxy.operating.demo.objects import images, times
from sockproxy.operating.demo.objects.journal import PART_BYTES_MAX, Journal
from sockproxy.operating.demo.programs.files import Files, resolve
from sockproxy.operating.demo.programs.pipes import Pipe, ReaderGone
from sockproxy.operating.demo.programs.process import parse_signal
from sockproxy.operating.demo.programs.terminal import Terminal
from tests.demo import Bench, ask, attach, create, demo_engine, frame, run


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with demo_engine(tmp_path) as bench:
        yield bench


# --- servers and signals


async def test_imagined_servers_log_and_stop(bench: Bench) -> None:
    for name in ("web", "db"):
        assert (await ask(bench, "GET", f"/containers/{name}/logs?stdout=1")).body
        assert (await ask(bench, "POST", f"/containers/{name}/stop")).status == 204
        state = (await ask(bench, "GET", f"/containers/{name}/json")).document["State"]
        assert (state["ExitCode"], state["Running"]) == (0, False)


PROGRAMS = (  # (image, command, beginning of the output)
    ("nginx", ["nginx", "-v"], "nginx version: nginx/"),
    ("redis", ["redis-cli", "ping"], "PONG\n"),
    ("redis", ["redis-cli", "get", "x"], "(error) ERR"),
    ("hello-world", ["/hello"], "\nHello from the demo engine!\n"),
)


@pytest.mark.parametrize(("image", "command", "output"), PROGRAMS)
async def test_programs_of_other_images(bench: Bench, image: str, command: list[str], output: str) -> None:
    await ask(bench, "POST", f"/images/create?fromImage={image}")
    outcome = await run(bench, *command, Image=image)
    assert (outcome.code, (outcome.stdout + outcome.stderr).startswith(output)) == (0, True)


@pytest.mark.parametrize("image", ["postgres", "httpd", "gcr.io/google_containers/pause-amd64:3.0"])
async def test_servers_that_wait_to_be_stopped(bench: Bench, image: str) -> None:
    await ask(bench, "POST", f"/images/create?fromImage={image}")
    assert (await ask(bench, "POST", "/containers/create?name=job", {"Image": image})).status == 201
    for act in ("start", "stop"):
        assert (await ask(bench, "POST", f"/containers/job/{act}")).status == 204
    assert (await ask(bench, "GET", "/containers/job/json")).document["State"]["ExitCode"] == 0


async def test_a_command_that_waits_for_ever_is_an_idle_container(bench: Bench) -> None:
    for command in (["tail", "-f", "/dev/null"], ["sleep", "infinity"]):
        await create(bench, "idle", *command)
        assert (await ask(bench, "GET", "/containers/idle/json")).document["State"]["Running"]
        await ask(bench, "DELETE", "/containers/idle?force=1")


async def test_a_paused_program_writes_only_when_it_goes_on(bench: Bench) -> None:
    await create(bench, "job", "cat", OpenStdin=True, StdinOnce=True)
    client = await attach(bench, "job")
    await ask(bench, "POST", "/containers/job/pause")
    await client.say("held\n")
    assert (await ask(bench, "GET", "/containers/job/logs?stdout=1")).body == b""
    await ask(bench, "POST", "/containers/job/unpause")
    await client.hear(frame(1, b"held\n"))


SIGNALS = (("KILL", 9), ("SIGTERM", 15), ("hup", 1), ("15", 15), ("RTMIN", 34))


@pytest.mark.parametrize(("text", "number"), SIGNALS)
def test_signals_are_read(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "SIG", "BOGUS", "99", "-1", "TERM ", "_IGN", "٩"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(ValueError):
        parse_signal(text)


# --- the terminal

TYPED = (  # (typed, echo, lines that the program gets)
    (b"ab\r", b"ab\r\n", b"ab\n"),
    (b"ab\n", b"ab\r\n", b"ab\n"),
    (b"ab\x7fc\r", b"ab\b \bc\r\n", b"ac\n"),
    (b"\x7f\x08\r", b"\r\n", b"\n"),
    ("ä\x7fo\r".encode(), "ä\b \bo\r\n".encode(), b"o\n"),
    (b"abc\x15d\r", b"abc\b \b\b \b\b \bd\r\n", b"d\n"),
    (b"a\x1b[Ab\x1bOPc\x1b[1;5Cd\r", b"abcd\r\n", b"abcd\n"),
    (b"ab\x04", b"ab", b"ab"),
    (b"a\tb\x01\r", b"a\tb\r\n", b"a\tb\n"),
    (b"x" * 5000 + b"\r", b"x" * 4095 + b"\r\n", b"x" * 4095 + b"\n"),
)


@pytest.mark.parametrize(("typed", "echo", "line"), TYPED)
async def test_typing(typed: bytes, echo: bytes, line: bytes) -> None:
    for pieces in ([typed], [typed[at : at + 1] for at in range(len(typed))]):
        stdin = Pipe(1 << 16)
        terminal = Terminal(stdin, lambda number: None)
        assert b"".join(map(terminal.typed, pieces)) == echo
        assert await stdin.read() == line


async def test_keys_that_are_signals_or_the_end() -> None:
    signals: list[int] = []
    stdin = Pipe(1 << 16)
    terminal = Terminal(stdin, signals.append)
    assert terminal.typed(b"lost\x03\x1c") == b"lost^C\r\n^\\\r\n"
    assert signals == [signal.SIGINT, signal.SIGQUIT]
    terminal.typed(b"\x04more\r")
    assert [await stdin.read_line(), await stdin.read_line()] == [b"", b"more\n"]


async def test_a_raw_terminal_gives_bytes_as_they_come() -> None:
    stdin = Pipe(1 << 16)
    terminal = Terminal(stdin, lambda number: None)
    terminal.is_cooked = terminal.has_echo = False
    assert terminal.typed(b"\x03a") == b""
    assert await stdin.read() == b"\x03a"


# --- pipes, journal, files, times, references


async def test_a_full_pipe_makes_its_writer_wait() -> None:
    pipe = Pipe(4)
    await pipe.write(b"abcd")
    writing = asyncio.create_task(pipe.write(b"ef"))
    await asyncio.sleep(0)
    assert not writing.done()
    assert [await pipe.read(3), await pipe.read()] == [b"abc", b"d"]
    await writing
    pipe.end()
    assert [await pipe.read(), await pipe.read(), await pipe.read_line()] == [b"ef", b"", b""]
    pipe.abandon()
    with pytest.raises(ReaderGone):
        await pipe.write(b"x")


async def test_lines_are_cut_wherever_the_chunks_are() -> None:
    pipe = Pipe(1 << 10)
    for chunk in (b"a", b"b\nc", b"\n\n", b"d"):
        await pipe.write(chunk)
    pipe.end()
    assert [await pipe.read_line() for _ in range(5)] == [b"ab\n", b"c\n", b"\n", b"d", b""]


def test_a_journal_keeps_whole_lines_and_the_newest() -> None:
    journal = Journal(bytes_max=10)
    journal.append(1, b"a\nb", 1)
    journal.append(2, b"err\n", 2)
    journal.append(1, b"c\n", 3)
    assert [(line.number, line.stream, line.text) for line in journal.after(0)] == [
        (1, 1, b"a\n"),
        (2, 2, b"err\n"),
        (3, 1, b"bc\n"),
    ]
    journal.append(1, b"12345678", 4)
    journal.end_run(5)
    assert [line.text for line in journal.after(0)] == [b"12345678"]
    journal.append(1, b"x" * (PART_BYTES_MAX + 1), 6)
    assert [len(line.text) for line in journal.after(4)] == [PART_BYTES_MAX]


def test_files_are_layered_and_bounded() -> None:
    files = Files({"/etc/a": b"1", "/etc/d/b": b"2"}, bytes_max=100)
    files.write("/etc/a", b"new")
    files.remove("/etc/d")
    files.make_directory("/srv/x")
    assert [files.names("/etc"), files.names("/srv"), files.kind("/etc/d")] == [["a"], ["x"], None]
    assert [tuple(change) for change in files.changes()] == [
        ("/etc", 0), ("/etc/a", 0), ("/etc/d", 2), ("/etc/d/b", 2), ("/srv", 1), ("/srv/x", 1),
    ]  # fmt: skip
    for path, error in (("/nope/x", FileNotFoundError), ("/etc", IsADirectoryError), ("/etc/big", OSError)):
        with pytest.raises(error):
            files.write(path, b"x" * 200)
    with pytest.raises(FileExistsError):
        files.make_directory("/etc/a/b")


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [("/a", "b", "/a/b"), ("/a", "../../..", "/"), ("/", "//x/./y/", "/x/y"), ("/a", "/b/../c", "/c")],
)
def test_paths_never_leave_the_root(directory: str, path: str, expected: str) -> None:
    assert resolve(directory, path) == expected


AGES = (
    (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (125, "2 minutes"),
    (3600, "About an hour"), (7200, "2 hours"), (86400 * 3, "3 days"), (86400 * 20, "2 weeks"),
    (86400 * 100, "3 months"), (86400 * 800, "2 years"),
)  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), AGES)
def test_ages(seconds: float, text: str) -> None:
    assert times.age(int(seconds * times.SECOND_NS)) == text


def test_times() -> None:
    assert times.rfc3339(0) == "0001-01-01T00:00:00Z"
    assert times.rfc3339(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert times.rfc3339_padded(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.120000000Z"
    assert times.parse_unix_time("1700000000.12") == 1_700_000_000_120_000_000


REFERENCES = (
    ("busybox", "busybox:latest"),
    ("docker.io/library/busybox:1", "busybox:1"),
    ("host:5000/a/b", "host:5000/a/b:latest"),
    (f"a/b@sha256:{'0' * 64}", f"a/b@sha256:{'0' * 64}"),
)


@pytest.mark.parametrize(("text", "expected"), REFERENCES)
def test_references(text: str, expected: str) -> None:
    assert str(images.parse_reference(text)) == expected


@pytest.mark.parametrize("text", ["", "A", "a:", "a b", "a:b:c:d", "a@sha256:0", "-a", "a" * 300, "a:" + "t" * 200])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        images.parse_reference(text)
