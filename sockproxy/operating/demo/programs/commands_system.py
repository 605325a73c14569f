"""Programs of the demo that tell of their surroundings or wait: ps, id, date, stty, sleep, kill and their like.

Each is a small part of its busybox namesake, with the same messages. Owns `COMMANDS`. Must not know the shell.
"""

import asyncio
import re
import signal
import time
from collections.abc import Callable

from sockproxy.operating.demo.programs.process import Invocation, Program, parse_signal

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


async def _true(_call: Invocation) -> int:
    return 0


async def _false(_call: Invocation) -> int:
    return 1


async def _sleep(call: Invocation) -> int:
    seconds = 0.0
    for word in call.arguments[1:]:
        found = re.fullmatch(r"([0-9]{0,9}\.?[0-9]{1,9})([smhd]?)", word, re.ASCII)
        if word == "infinity":
            await asyncio.Event().wait()
        if not found:
            await call.complain(f"sleep: invalid number '{word}'")
            return 1
        seconds += float(found[1]) * UNITS[found[2]]
    await asyncio.sleep(seconds)
    return 0


async def _ps(call: Invocation) -> int:
    own = " ".join(call.arguments)
    processes = [(process.pid, process.user, " ".join(process.arguments)) for process in call.surroundings.processes()]
    if call.arguments != call.process.arguments:
        processes.append((max(pid for pid, *_ in processes) + 1, call.process.user, own))
    await call.print("PID   USER     COMMAND", *(f"{pid:5} {user:8} {command}" for pid, user, command in processes))
    return 0


async def _env(call: Invocation) -> int:
    await call.print(*(f"{name}={value}" for name, value in call.environment.items()))
    return 0


async def _hostname(call: Invocation) -> int:
    await call.print(call.surroundings.hostname)
    return 0


async def _id(call: Invocation) -> int:
    number = _user_number(call)
    name = "(root)" if number == "0" else ""
    known = {"-u": number, "-g": number, "-un": "root" if name else number}
    wanted = "".join(call.arguments[1:2])
    await call.print(known.get(wanted, f"uid={number}{name} gid={number}{name} groups={number}{name}"))
    return 0


async def _whoami(call: Invocation) -> int:
    number = _user_number(call)
    if number != "0":
        await call.complain(f"whoami: unknown uid {number}")
        return 1
    await call.print("root")
    return 0


def _user_number(call: Invocation) -> str:
    user = call.process.user.partition(":")[0]
    return user if user.isascii() and user.isdigit() else {"root": "0"}.get(user, "1000")


async def _date(call: Invocation) -> int:
    """`date [+FORMAT]`, in UTC as in a container without a time zone."""
    seconds = call.surroundings.clock() // 1_000_000_000
    formats = [word[1:] for word in call.arguments[1:] if word.startswith("+")]
    form = formats[0].replace("%s", str(seconds)) if formats else "%a %b %e %H:%M:%S UTC %Y"
    await call.print(time.strftime(form, time.gmtime(seconds)))
    return 0


async def _pwd(call: Invocation) -> int:
    await call.print(call.directory)
    return 0


async def _uname(call: Invocation) -> int:
    parts = {"s": "Linux", "n": call.surroundings.hostname, "r": "6.1.0-demo", "m": "x86_64"}
    wanted = "".join(call.arguments[1:]).replace("-", "") or "s"
    await call.print(" ".join(parts[letter] for letter in ("snrm" if "a" in wanted else wanted) if letter in parts))
    return 0


async def _tty(call: Invocation) -> int:
    await call.print("/dev/pts/0" if call.process.terminal else "not a tty")
    return 0 if call.process.terminal else 1


async def _stty(call: Invocation) -> int:
    """`stty size`, and the settings raw, cooked, sane, echo, -echo."""
    terminal = call.process.terminal
    if terminal is None:
        await call.complain("stty: standard input: Inappropriate ioctl for device")
        return 1
    for word in call.arguments[1:] or ("-a",):
        if word == "size":
            await call.print(f"{terminal.rows} {terminal.columns}")
        elif word in ("echo", "-echo"):
            terminal.has_echo = word == "echo"
        elif word in ("raw", "-icanon", "cooked", "icanon", "sane"):
            terminal.is_cooked = word in ("cooked", "icanon", "sane")
            terminal.has_echo = terminal.has_echo or word == "sane"
        elif word == "-a":
            await call.print(f"speed 38400 baud; rows {terminal.rows}; columns {terminal.columns};")
        else:
            await call.complain(f"stty: invalid argument '{word}'")
            return 1
    return 0


async def _watch_size(call: Invocation) -> int:
    """Writes the size of the terminal, and again whenever it changes: what a resize does, to be seen."""
    terminal = call.process.terminal
    if terminal is None:
        await call.complain("watch-size: standard input: Inappropriate ioctl for device")
        return 1
    changed = asyncio.Event()
    call.process.listeners[signal.SIGWINCH] = changed.set
    while True:
        await call.print(f"{terminal.rows} {terminal.columns}")
        await changed.wait()
        changed.clear()


async def _kill(call: Invocation) -> int:
    """`kill [-SIGNAL] PID...`, within the container."""
    words = list(call.arguments[1:])
    try:
        number = parse_signal(words.pop(0)[1:]) if words and words[0].startswith("-") else signal.SIGTERM
    except ValueError:
        await call.complain(f"kill: bad signal name '{call.arguments[1][1:]}'")
        return 1
    processes = {str(process.pid): process for process in call.surroundings.processes()}
    for word in words:
        if word not in processes:
            await call.complain(f"kill: can't kill pid {word}: No such process")
            return 1
        processes[word].signal(number)
    await asyncio.sleep(0)
    return 0


async def _test(call: Invocation) -> int:
    """The comparisons of `test` and `[` with one operator."""
    words = list(call.arguments[1:])
    if call.arguments[0] == "[" and (not words or words.pop() != "]"):
        await call.complain("[: missing ]")
        return 2
    is_negated = bool(words) and words[0] == "!" and bool(words.pop(0))
    match words:
        case []:
            result = False
        case [word]:
            result = bool(word)
        case [sign, word] if sign in _UNARY:
            result = _UNARY[sign](call, word)
        case [left, sign, right] if sign in _BINARY:
            result = _BINARY[sign](left, right)
        case _:
            await call.complain(f"{call.arguments[0]}: the demo has only single comparisons")
            return 2
    return int(result == is_negated)


def _kind(call: Invocation, name: str) -> str | None:
    from_root = name if name.startswith("/") else f"{call.directory}/{name}"
    return call.surroundings.files.kind(from_root.replace("//", "/"))


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) else 0


_UNARY: dict[str, Callable[[Invocation, str], bool]] = {
    "-n": lambda _call, word: bool(word),
    "-z": lambda _call, word: not word,
    "-e": lambda call, word: _kind(call, word) is not None,
    "-f": lambda call, word: _kind(call, word) == "file",
    "-d": lambda call, word: _kind(call, word) == "directory",
    "-t": lambda call, _word: call.process.terminal is not None,
}
_BINARY: dict[str, Callable[[str, str], bool]] = {
    "=": lambda left, right: left == right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "-eq": lambda left, right: _number(left) == _number(right),
    "-ne": lambda left, right: _number(left) != _number(right),
    "-lt": lambda left, right: _number(left) < _number(right),
    "-le": lambda left, right: _number(left) <= _number(right),
    "-gt": lambda left, right: _number(left) > _number(right),
    "-ge": lambda left, right: _number(left) >= _number(right),
}

COMMANDS: dict[str, Program] = {
    ":": _true,
    "[": _test,
    "date": _date,
    "env": _env,
    "false": _false,
    "hostname": _hostname,
    "id": _id,
    "kill": _kill,
    "printenv": _env,
    "ps": _ps,
    "pwd": _pwd,
    "sleep": _sleep,
    "stty": _stty,
    "test": _test,
    "true": _true,
    "tty": _tty,
    "uname": _uname,
    "watch-size": _watch_size,
    "whoami": _whoami,
}
