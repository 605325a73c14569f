"""What runs in the demo engine's containers: the shell, its commands, terminals, files and pipes."""

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
from sockproxy.operating.demo.programs.shell_expansion import evaluate
from sockproxy.operating.demo.programs.shell_syntax import parse
from sockproxy.operating.demo.programs.shell_words import ShellSyntaxError
from sockproxy.operating.demo.programs.terminal import Terminal
from tests.demo import Bench, ask, create, demo_engine, run, start_exec


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with demo_engine(tmp_path) as bench:
        yield bench


SCRIPTS = (  # (script, standard output, exit code)
    ("echo a  b 'c  d' \"e  f\"", "a b c  d e  f\n", 0),
    ("echo a\\ b; echo 'x'y\"z\"", "a b\nxyz\n", 0),
    ("echo -n a; echo -e 'b\\tc'", "ab\tc\n", 0),
    ("# nothing\necho a # b\n\n\necho a#b", "a\na#b\n", 0),
    ("false; echo $?; true; echo $?", "1\n0\n", 0),
    ("false && echo no || echo yes", "yes\n", 0),
    ("! false && echo yes", "yes\n", 0),
    ("exit 7; echo no", "", 7),
    ("false", "", 1),
    ("nope", "", 127),
    ("x=5; y='a b'; echo $x $y \"$y\" ${x}0", "5 a b a b 50\n", 0),
    ("x='a   b'; echo $x\"$x\"; for w in $x; do echo [$w]; done", "a ba   b\n[a]\n[b]\n", 0),
    ("echo \"$none\" $none end ${none:-default} ${x:=set} $x ${x:+other}", " end default set set other\n", 0),
    ("echo $(echo a; echo b) `echo c`", "a b c\n", 0),
    ("x=$(exit 3); echo $?", "3\n", 0),
    ("i=2; i=$((i*3+1)); echo $i $((7/2)) $((-7/2)) $((7%3)) $((1<2)) $((none))", "7 3 -3 1 1 0\n", 0),
    ("i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done", "0\n1\n2\n", 0),
    ("i=0; until [ $i = 2 ]; do i=$((i+1)); done; echo $i", "2\n", 0),
    ("for i in 1 2 3 4; do if [ $i = 2 ]; then continue; elif [ $i = 4 ]; then break; else echo $i; fi; done", "1\n3\n", 0),
    ("if false; then echo a; fi; echo $?", "0\n", 0),
    ("echo one | cat | wc -c", "4\n", 0),
    ("seq 3 | while read x; do echo [$x]; done", "[1]\n[2]\n[3]\n", 0),
    ("yes | head -n 2; echo $?", "y\ny\n0\n", 0),
    ("(x=1; cd /tmp; exit 3); echo $? $x; pwd", "3\n/\n", 0),
    ("{ echo a; echo b; } | cat", "a\nb\n", 0),
    ("echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f; cat /tmp/f | wc -l", "a\nb\n2\n", 0),
    ("{ echo a; echo b; } > /tmp/f; cat /tmp/f", "a\nb\n", 0),
    ("echo a >&2; echo b 2>&1; nope 2>/dev/null; echo c > /dev/null", "b\n", 0),
    ("nope 2>&1 | cat", "sh: nope: not found\n", 0),
    ("echo x > /nowhere/f || echo failed", "failed\n", 0),
    ("cd /etc/nginx 2>/dev/null || cd /etc; pwd; cd; pwd", "/etc\n/root\n", 0),
    ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n", 0),
    ("trap 'echo got' USR1; kill -USR1 $$; echo after", "got\nafter\n", 0),
    ("trap '' TERM; kill $$; echo alive", "alive\n", 0),
    ("kill -9 1", "", 137),
    ("kill $$; echo no", "", 143),
    ("export A=1; B=2; sh -c 'echo $A $B.'", "1 .\n", 0),
    ("A=1 env | grep A=", "A=1\n", 0),
    ("set -- a 'b c'; echo $# $1; for x; do echo [$x]; done; for x in \"$@\"; do echo $x; done; shift; echo $1",
     "2 a\n[a]\n[b c]\na\nb c\nb c\n", 0),
    ("exec echo last; echo no", "last\n", 0),
    ("printf '%s-%d\\n' a 1 b 2", "a-1\nb-2\n", 0),
    ("test -f /etc/passwd && [ -d /etc ] && [ ! -e /nope ] && [ 3 -gt 2 ] && [ a != b ] && echo all", "all\n", 0),
    ("touch /tmp/a; mkdir -p /tmp/d/e; ls /tmp; rm -r /tmp/d; ls /tmp", "a\nd\na\n", 0),
    ("grep -i ROOT /etc/group; grep -v root /etc/group; echo $?", "root:x:0:\n1\n", 0),
    ("seq 5 | tail -n 2; seq 1 2 5 | head -1; seq 3 -1 2", "4\n5\n1\n3\n2\n", 0),
    ("head -c 3 /dev/zero | wc -c; cat /dev/null", "3\n", 0),
    ("id; whoami; hostname; uname; tty; stty size 2>&1",
     "uid=0(root) gid=0(root) groups=0(root)\nroot\nbox\nLinux\nnot a tty\n"
     "stty: standard input: Inappropriate ioctl for device\n", 1),
    ("ps | tail -n 1", "    2 root     ps\n", 0),
    ("cat /etc/hostname", "box\n", 0),
    ("date +%Y | wc -c; sleep 0; sleep x 2>/dev/null || echo $?", "5\n1\n", 0),
    ("cat", "from outside\n", 0),
    ("read a b; echo $b-$a", "outside-from\n", 0),
)  # fmt: skip


@pytest.mark.parametrize(("script", "stdout", "code"), SCRIPTS)
async def test_scripts(bench: Bench, script: str, stdout: str, code: int) -> None:
    outcome = await run(bench, "sh", "-c", script, stdin=b"from outside\n", Hostname="box")
    assert (outcome.stdout, outcome.code) == (stdout, code)


async def test_errors_go_to_the_error_stream(bench: Bench) -> None:
    outcome = await run(bench, "sh", "-c", "nope; cat /nope; ls /nope; cd /nope; rm /etc; set -x; grep")
    assert outcome.stdout == ""
    assert outcome.stderr.splitlines() == [
        "sh: nope: not found",
        "cat: can't open '/nope': No such file or directory",
        "ls: /nope: No such file or directory",
        "sh: cd: can't cd to /nope: No such file or directory",
        "rm: can't remove '/etc': Is a directory",
        "sh: set: the demo shell has no option -x",
        "BusyBox: usage: grep [-ivq] TEXT [FILE]...",
    ]


async def test_lines_from_a_pipe_are_run_one_by_one(bench: Bench) -> None:
    script = b"echo a\nfor i in 1 2\ndo echo $i\ndone\ncat\nthe rest\n"
    outcome = await run(bench, "sh", stdin=script)
    assert outcome == (0, "a\n1\n2\nthe rest\n", "")


SYNTAX_ERRORS = (  # (script, whether more lines could mend it)
    ("echo 'a", True),
    ('echo "a', True),
    ("echo $(a", True),
    ("if true; then", True),
    ("while true; do echo", True),
    ("(echo", True),
    ("echo a &&", True),
    ("fi", False),
    ("if; then echo; fi", False),
    ("echo a; ; echo b", False),
    ("sleep 1 &", False),
    ("case x in esac", False),
    ("echo )", False),
    ("echo >", True),
    ("echo ${a!b}", False),
    ("(" * 100, False),
    ("x" * 70_000, False),
)


@pytest.mark.parametrize(("script", "is_unfinished"), SYNTAX_ERRORS)
def test_what_is_no_script(script: str, is_unfinished: bool) -> None:
    with pytest.raises(ShellSyntaxError) as caught:
        parse(script)
    assert caught.value.is_unfinished == is_unfinished


NO_EXPRESSIONS = ("1+", "a b", "2**9", "1<<9", "__import__('os')", "9" * 300, "1/0", "1,2", "'a'")


@pytest.mark.parametrize("text", NO_EXPRESSIONS)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ShellSyntaxError):
        evaluate(text, {})


def test_arithmetic_has_64_bits() -> None:
    assert evaluate("9223372036854775807 + 1", {}) == -9223372036854775808


async def test_a_script_without_pause_leaves_room_for_others(bench: Bench) -> None:
    await create(bench, "busy", "sh", "-c", "while true; do true; done")
    assert (await ask(bench, "GET", "/_ping")).status == 200
    assert (await ask(bench, "DELETE", "/containers/busy?force=1")).status == 204


async def test_subshells_inside_each_other_have_a_bound(bench: Bench) -> None:
    outcome = await run(bench, "sh", "-c", "(" * 30 + "echo deep" + ")" * 30)
    assert outcome == (2, "", "sh: too many subshells inside each other\n")


# --- servers and signals


async def test_imagined_servers_log_and_stop(bench: Bench) -> None:
    for name in ("web", "db"):
        assert (await ask(bench, "GET", f"/containers/{name}/logs?stdout=1")).body
        assert (await ask(bench, "POST", f"/containers/{name}/stop")).status == 204
        state = (await ask(bench, "GET", f"/containers/{name}/json")).document["State"]
        assert (state["ExitCode"], state["Running"]) == (0, False)


async def test_a_paused_program_writes_nothing(bench: Bench) -> None:
    await create(bench, "job", "sh", "-c", "read x; echo $x", OpenStdin=True, StdinOnce=True)
    await ask(bench, "POST", "/containers/job/pause")
    await ask(bench, "POST", "/containers/job/unpause")
    _, client = await start_exec(bench, "job", "ps")
    assert b"read x" in await client.hear_end()


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
