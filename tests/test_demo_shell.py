"""The demo shell and its commands: whole scripts with what they write and their exit codes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sockproxy.operating.demo.programs.shell_expansion import evaluate
from sockproxy.operating.demo.programs.shell_syntax import parse
from sockproxy.operating.demo.programs.shell_words import ShellSyntaxError
from tests.demo import Bench, ask, create, demo_engine, run


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
    ("seq 5 | tail -n 0; seq 5 | tail -n 2; seq 1 2 5 | head -1; seq 3 -1 2", "4\n5\n1\n3\n2\n", 0),
    ("head -c 3 /dev/zero | wc -c; cat /dev/null", "3\n", 0),
    ("id; whoami; hostname; uname; tty; stty size 2>&1",
     "uid=0(root) gid=0(root) groups=0(root)\nroot\nbox\nLinux\nnot a tty\n"
     "stty: standard input: Inappropriate ioctl for device\n", 1),
    ("ps | tail -n 1", "    2 root     ps\n", 0),
    ("cat /etc/hostname", "box\n", 0),
    ("date +%Y | wc -c; sleep 0; sleep x 2>/dev/null || echo $?", "5\n1\n", 0),
    ("echo 'echo $0 $1' > /tmp/s; sh /tmp/s x; sh /nope 2>&1", "sh x\nsh: can't open '/nope': No such file or directory\n", 2),
    ("echo 'echo lines; exit 3' | sh; echo $?", "lines\n3\n", 0),
    ("sh -c; sh -q; break; unset HOME; cd; pwd; shift 5 || echo $?", "/\n1\n", 0),
    ("exec nope 2>&1", "sh: exec: nope: not found\n", 127),
    ("false; for x in; do echo; done; echo $?; while false; do echo; done; echo $?", "0\n0\n", 0),
    ("trap x NOSUCH 2>&1; trap 'echo a' EXIT; trap - EXIT", "sh: trap: NOSUCH: invalid signal specification\n", 0),
    ("kill -X 1 2>&1; kill 99 2>&1", "kill: bad signal name 'X'\nkill: can't kill pid 99: No such process\n", 1),
    ("uname -a; id -u; printenv | grep HOME; whoami; set | grep HOME",
     "Linux box 6.1.0-demo x86_64\n0\nHOME=/root\nroot\nHOME='/root'\n", 0),
    ("mkdir /tmp/a; mkdir /tmp/a 2>&1; touch /no/x 2>&1; rm -f /none; rm /none 2>&1",
     "mkdir: can't create directory '/tmp/a': File exists\n"
     "touch: /no/x: No such file or directory\nrm: can't remove '/none': No such file or directory\n", 1),
    ("ls -l /etc/group; ls /bin | grep watch; ls -l / | grep -i tmp",
     "-rw-r--r--    1 root     root            10 Jan  1 00:00 /etc/group\nwatch-size\n"
     "drwxr-xr-x    2 root     root          4096 Jan  1 00:00 tmp\n", 0),
    ("wc /etc/group; wc -l /nope 2>&1; head /nope 2>&1; tail /nope 2>&1; grep a /nope 2>&1",
     "        1         1        10 /etc/group\nwc: can't open '/nope': No such file or directory\n"
     "head: can't open '/nope': No such file or directory\ntail: can't open '/nope': No such file or directory\n"
     "grep: can't open '/nope': No such file or directory\n", 2),
    ("seq x 2>&1; printf 2>&1; printf '%% %d\\n'",
     "BusyBox: usage: seq [FIRST [INC]] LAST\nBusyBox: usage: printf FORMAT [ARG]...\n% 0\n", 0),
    ("[ a 2>&1; test a b c d 2>&1; test -z '' && test x && ! test; echo $?",
     "[: missing ]\ntest: the demo has only single comparisons\n0\n", 0),
    ("echo a | { read x; echo $x; } 2>&1; help | head -1", "a\nThe programs of this container are imitations. There are:\n", 0),
    ("cat < /none 2>&1 || echo $?; (echo x) > /no/x || echo $?", "1\n1\n", 0),
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


GROWING = (  # (script, what it is stopped with)
    ("x=aaaaaaaaaaaaaaaa; while true; do x=$x$x || exit; done", "sh: word too long\n"),
    ("x=$(yes | head -c 65536); echo " + "$x " * 20, "sh: Argument list too long\n"),
    ("i=0; while true; do i=$((i+1)); export v$i=1 || exit; done", "sh: too many variables\n"),
    ("x=$(head -c 999999 /dev/zero); echo $? >&2", "141\n"),
    ("f=/tmp/f; while true; do yes | head -c 1M >> $f || exit; done", "head: write error: No space left on device\n"),
)


@pytest.mark.parametrize(("script", "error"), GROWING)
async def test_a_script_cannot_grow_for_ever(bench: Bench, script: str, error: str) -> None:
    outcome = await run(bench, "sh", "-c", script)
    assert (outcome.stdout, outcome.stderr) == ("", error)


async def test_a_script_that_calls_itself_for_ever_ends_alone(bench: Bench) -> None:
    outcome = await run(bench, "sh", "-c", 'export S=\'sh -c "$S"\'; sh -c "$S"')
    assert outcome.code != 0
    assert (await ask(bench, "GET", "/_ping")).status == 200


async def test_half_a_character_is_written_as_a_question_mark(bench: Bench) -> None:
    assert (await run(bench, "echo", "a\ud800b")).stdout == "a?b\n"
