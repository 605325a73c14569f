"""Programs of the demo that move text and files: echo, cat, head, grep and their like.

Each is a small part of its busybox namesake, with the same messages. Owns `COMMANDS`. Must not know the shell.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator

from sockproxy.operating.demo.programs.files import resolve
from sockproxy.operating.demo.programs.process import Invocation, Program, encode

BLOCK_BYTES = 64 << 10
LINES_MAX = 200  # what `tail` keeps
ENDLESS = "/dev/zero"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "a": "\a", "b": "\b", "e": "\x1b", "0": "\0"}


async def _echo(call: Invocation) -> int:
    words = list(call.arguments[1:])
    options = ""
    while words and re.fullmatch(r"-[neE]+", words[0]):
        options += words.pop(0)[1:]
    text = " ".join(words)
    if "e" in options:
        text = _unescape(text)
    await call.stdout(encode(text if "n" in options else f"{text}\n"))
    return 0


async def _printf(call: Invocation) -> int:
    if len(call.arguments) < 2:
        await call.complain("BusyBox: usage: printf FORMAT [ARG]...")
        return 1
    template, values = _unescape(call.arguments[1]), list(call.arguments[2:])
    count = len(re.findall(r"%[sd]", template))
    output = ""
    while True:
        output += re.sub(r"%([sd%])", lambda found: _formatted(found[1], values), template)
        if not values or not count or len(output) > BLOCK_BYTES:
            break
    await call.stdout(encode(output))
    return 0


def _formatted(kind: str, values: list[str]) -> str:
    if kind == "%":
        return "%"
    value = values.pop(0) if values else ""
    return value if kind == "s" else value or "0"


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text, flags=re.DOTALL)


async def _cat(call: Invocation) -> int:
    status = 0
    for name in call.arguments[1:] or ("-",):
        try:
            async for chunk in _chunks(call, name):
                await call.stdout(chunk)
        except OSError as fault:
            status = await _cannot_open(call, name, fault)
    return status


async def _head(call: Invocation) -> int:
    """`head [-n LINES] [-c BYTES] [FILE]`, also as `-LINES`."""
    options, names = _counts(call.arguments[1:])
    name = names[0] if names else "-"
    try:
        if "c" in options:
            await _copy_bytes(call, name, options["c"])
        else:
            await _copy_lines(call, name, options.get("n", 10))
    except OSError as fault:
        return await _cannot_open(call, name, fault)
    return 0


async def _copy_bytes(call: Invocation, name: str, count: int) -> None:
    async for chunk in _chunks(call, name):
        await call.stdout(chunk[:count])
        count -= len(chunk)
        if count <= 0:
            return


async def _copy_lines(call: Invocation, name: str, count: int) -> None:
    if count > 0:
        async for line in _lines(call, name):
            await call.stdout(line)
            count -= 1
            if not count:
                return


async def _tail(call: Invocation) -> int:
    """`tail [-n LINES] [-f] [FILE]`; following never ends, and a file that is followed does not grow here."""
    options, names = _counts(tuple(word for word in call.arguments[1:] if word not in ("-f", "-F")))
    name = names[0] if names else "-"
    kept: deque[bytes] = deque(maxlen=min(options.get("n", 10), LINES_MAX))
    try:
        if name != "/dev/null":
            async for line in _lines(call, name):
                kept.append(line)
    except OSError as fault:
        return await _cannot_open(call, name, fault)
    await call.stdout(b"".join(kept))
    if {"-f", "-F"} & set(call.arguments):
        await asyncio.Event().wait()
    return 0


async def _grep(call: Invocation) -> int:
    """`grep [-ivq] TEXT [FILE]...`; the text is a plain one, not a pattern."""
    options = "".join(word[1:] for word in call.arguments[1:] if word.startswith("-"))
    words = [word for word in call.arguments[1:] if not word.startswith("-")]
    if not words:
        await call.complain("BusyBox: usage: grep [-ivq] TEXT [FILE]...")
        return 2
    wanted = encode(words[0])
    is_found = False
    for name in words[1:] or ["-"]:
        try:
            async for line in _lines(call, name):
                matches = wanted.lower() in line.lower() if "i" in options else wanted in line
                if matches == ("v" not in options):
                    is_found = True
                    await (_quiet if "q" in options else call.stdout)(line)
        except OSError as fault:
            return 1 + await _cannot_open(call, name, fault)
    return 0 if is_found else 1


async def _quiet(_line: bytes) -> None:
    """Where `grep -q` writes."""


async def _wc(call: Invocation) -> int:
    """`wc [-lc] [FILE]`."""
    options = "".join(word[1:] for word in call.arguments[1:] if word.startswith("-"))
    names = [word for word in call.arguments[1:] if not word.startswith("-")]
    lines = words = size = 0
    try:
        async for line in _lines(call, names[0] if names else "-"):
            lines, words, size = lines + line.count(b"\n"), words + len(line.split()), size + len(line)
    except OSError as fault:
        return await _cannot_open(call, names[0], fault)
    numbers = {"l": lines, "w": words, "c": size}
    shown = [str(numbers[option]) for option in "lwc" if option in options]
    await call.print(" ".join([*(shown or [f"{number:9}" for number in numbers.values()]), *names[:1]]))
    return 0


async def _seq(call: Invocation) -> int:
    numbers = [word for word in call.arguments[1:] if re.fullmatch(r"-?[0-9]{1,9}", word, re.ASCII)]
    if len(numbers) != len(call.arguments) - 1 or not 1 <= len(numbers) <= 3:
        await call.complain("BusyBox: usage: seq [FIRST [INC]] LAST")
        return 1
    first, last = (int(numbers[0]) if len(numbers) > 1 else 1), int(numbers[-1])
    step = (int(numbers[1]) if len(numbers) > 2 else 1) or 1
    for start in range(first, last + (1 if step > 0 else -1), step * 1000):
        end = min(last, start + step * 999) if step > 0 else max(last, start + step * 999)
        await call.print(*map(str, range(start, end + (1 if step > 0 else -1), step)))
    return 0


async def _yes(call: Invocation) -> int:
    """Writes without end; who reads slowly makes it slow, and a log alone is fed in small portions."""
    line = encode(" ".join(call.arguments[1:] or ("y",))) + b"\n"
    block = line * max(1, 4096 // len(line))
    while True:
        await call.stdout(block)
        await asyncio.sleep(0.0005)


async def _touch(call: Invocation) -> int:
    for name in call.arguments[1:]:
        path = resolve(call.directory, name)
        try:
            if call.surroundings.files.kind(path) is None:
                call.surroundings.files.write(path, b"")
        except OSError as fault:
            await call.complain(f"touch: {name}: {_reason(fault)}")
            return 1
    return 0


async def _rm(call: Invocation) -> int:
    options = "".join(word[1:] for word in call.arguments[1:] if word.startswith("-"))
    for name in [word for word in call.arguments[1:] if not word.startswith("-")]:
        path = resolve(call.directory, name)
        kind = call.surroundings.files.kind(path)
        if kind is None and "f" in options:
            continue
        if kind is None or path == "/" or (kind == "directory" and not {"r", "R"} & set(options)):
            await call.complain(
                f"rm: can't remove '{name}': {'Is a directory' if kind else 'No such file or directory'}"
            )
            return 1
        call.surroundings.files.remove(path)
    return 0


async def _mkdir(call: Invocation) -> int:
    for name in [word for word in call.arguments[1:] if not word.startswith("-")]:
        path = resolve(call.directory, name)
        try:
            if call.surroundings.files.kind(path) and "-p" not in call.arguments:
                raise FileExistsError(path)
            call.surroundings.files.make_directory(path)
        except OSError as fault:
            await call.complain(f"mkdir: can't create directory '{name}': {_reason(fault)}")
            return 1
    return 0


async def _ls(call: Invocation) -> int:
    options = "".join(word[1:] for word in call.arguments[1:] if word.startswith("-"))
    names = [word for word in call.arguments[1:] if not word.startswith("-")] or ["."]
    status = 0
    for name in names:
        path = resolve(call.directory, name)
        kind = call.surroundings.files.kind(path)
        if kind is None:
            status = await _complaint(call, f"{call.arguments[0]}: {name}: No such file or directory")
            continue
        if len(names) > 1 and kind == "directory":
            await call.print(f"{name}:")
        await call.print(*_listing(call, path, name, is_long="l" in options))
    return status


def _listing(call: Invocation, path: str, name: str, *, is_long: bool) -> list[str]:
    files = call.surroundings.files
    names = files.names(path) if files.kind(path) == "directory" else [name]
    if path == "/bin":
        names = sorted({*names, *call.surroundings.programs})
    if not is_long:
        return names
    return [_long(files.kind(resolve(path, entry)), call, resolve(path, entry), entry) for entry in names]


def _long(kind: str | None, call: Invocation, path: str, name: str) -> str:
    if kind == "directory":
        return f"drwxr-xr-x    2 root     root          4096 Jan  1 00:00 {name}"
    size = len(call.surroundings.files.read(path)) if kind == "file" else 0
    return f"-rw-r--r--    1 root     root     {size:9} Jan  1 00:00 {name}"


async def _chunks(call: Invocation, name: str) -> AsyncIterator[bytes]:
    """The bytes of a file, or of the standard input for `-`. Raises OSError."""
    if name == "-":
        while chunk := await call.stdin.read():
            yield chunk
        return
    while name == ENDLESS:
        yield bytes(BLOCK_BYTES)
        await asyncio.sleep(0)
    content = b"" if name == "/dev/null" else call.surroundings.files.read(resolve(call.directory, name))
    for start in range(0, len(content), BLOCK_BYTES):
        yield content[start : start + BLOCK_BYTES]


async def _lines(call: Invocation, name: str) -> AsyncIterator[bytes]:
    if name == "-":
        while line := await call.stdin.read_line():
            yield line
        return
    async for chunk in _chunks(call, name):
        for line in chunk.splitlines(keepends=True):
            yield line


def _counts(arguments: tuple[str, ...]) -> tuple[dict[str, int], list[str]]:
    """The numbers of `-n 5`, `-n5`, `-5` and `-c 5k`, and the names."""
    counts: dict[str, int] = {}
    names: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in ("-n", "-c") and words:
            word += words.pop(0)
        found = re.fullmatch(r"-([nc]?)([0-9]{1,12})([kMG]?)", word, re.ASCII)
        if found:
            counts[found[1] or "n"] = int(found[2]) << {"": 0, "k": 10, "M": 20, "G": 30}[found[3]]
        else:
            names.append(word)
    return counts, names


async def _cannot_open(call: Invocation, name: str, fault: OSError) -> int:
    what = f"can't open '{name}'" if type(fault) in _REASONS else "write error"
    return await _complaint(call, f"{call.arguments[0]}: {what}: {_reason(fault)}")


async def _complaint(call: Invocation, message: str) -> int:
    await call.complain(message)
    return 1


def _reason(fault: OSError) -> str:
    return _REASONS.get(type(fault), str(fault))


_REASONS: dict[type, str] = {
    FileExistsError: "File exists",
    FileNotFoundError: "No such file or directory",
    IsADirectoryError: "Is a directory",
}

COMMANDS: dict[str, Program] = {
    "cat": _cat,
    "echo": _echo,
    "grep": _grep,
    "head": _head,
    "ls": _ls,
    "mkdir": _mkdir,
    "printf": _printf,
    "rm": _rm,
    "seq": _seq,
    "tail": _tail,
    "touch": _touch,
    "wc": _wc,
    "yes": _yes,
}
