"""The demo shell's own commands, which change the shell itself, and the program `sh`.

Owns `OWN_COMMANDS` (POSIX, 2.14, as far as the demo goes) and how `sh` reads its arguments. Must not know the grammar.
Begin at `sh`.
"""

import signal
from functools import partial

from sockproxy.operating.demo.programs.files import resolve
from sockproxy.operating.demo.programs.process import Invocation, parse_signal
from sockproxy.operating.demo.programs.shell import NOT_FOUND, ON_EXIT, Exit, LeaveLoop, OwnCommand, Shell


async def sh(call: Invocation) -> int:
    """`sh -c SCRIPT [NAME [ARGUMENT...]]`, `sh FILE [ARGUMENT...]`, or the lines of the standard input."""
    options, operands = _split_options(call.arguments[1:])
    unknown = set(options) - set("cilse")
    if unknown:
        await call.complain(f"sh: illegal option -{min(unknown)}")
        return 2
    if "c" in options:
        if not operands:
            await call.complain("sh: -c requires an argument")
            return 2
        return await Shell(call, OWN_COMMANDS, operands[2:]).run_script(operands[0])
    if operands and "s" not in options:
        return await _run_file(call, operands)
    return await Shell(call, OWN_COMMANDS, operands).run_lines()


async def _run_file(call: Invocation, operands: tuple[str, ...]) -> int:
    try:
        script = call.surroundings.files.read(resolve(call.directory, operands[0]))
    except OSError:
        await call.complain(f"sh: can't open '{operands[0]}': No such file or directory")
        return 2
    return await Shell(call, OWN_COMMANDS, operands[1:]).run_script(script.decode(errors="surrogateescape"))


def _split_options(arguments: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    options = ""
    for at, argument in enumerate(arguments):
        if not argument.startswith("-") or len(argument) < 2:
            return options, arguments[at:]
        options += argument[1:]
    return options, ()


async def _cd(shell: Shell, call: Invocation) -> int:
    wanted = call.arguments[1] if len(call.arguments) > 1 else shell.variables.get("HOME", "/")
    path = resolve(shell.directory, wanted)
    if call.surroundings.files.kind(path) != "directory":
        await call.complain(f"sh: cd: can't cd to {wanted}: No such file or directory")
        return 2
    shell.assign({"OLDPWD": shell.directory, "PWD": path})
    shell.directory = path
    return 0


async def _exit(shell: Shell, call: Invocation) -> int:
    raise Exit(_number(call, shell.status))


async def _break(shell: Shell, _call: Invocation) -> int:
    if shell.loops:
        raise LeaveLoop(goes_on=False)
    return 0


async def _continue(shell: Shell, _call: Invocation) -> int:
    if shell.loops:
        raise LeaveLoop(goes_on=True)
    return 0


async def _export(shell: Shell, call: Invocation) -> int:
    for argument in call.arguments[1:]:
        name, has_value, value = argument.partition("=")
        shell.assign({name: value if has_value else shell.variables.get(name, "")})
        shell.exported[name] = shell.variables[name]
    return 0


async def _unset(shell: Shell, call: Invocation) -> int:
    for name in call.arguments[1:]:
        shell.variables.pop(name, None)
        shell.exported.pop(name, None)
    return 0


async def _read(shell: Shell, call: Invocation) -> int:
    names = [name for name in call.arguments[1:] if name != "-r"] or ["REPLY"]
    line = await call.stdin.read_line()
    values = line.decode(errors="surrogateescape").strip().split(maxsplit=len(names) - 1)
    shell.assign(dict(zip(names, [*values, *[""] * len(names)], strict=False)))
    return 0 if line.endswith(b"\n") else 1


async def _shift(shell: Shell, call: Invocation) -> int:
    count = _number(call, 1)
    if count > len(shell.positional):
        return 1
    shell.positional = shell.positional[count:]
    return 0


async def _set(shell: Shell, call: Invocation) -> int:
    """`set -- ARGUMENT...`; without arguments the variables. Options are not imitated, and refused."""
    if len(call.arguments) == 1:
        await call.print(*(f"{name}='{value}'" for name, value in sorted(shell.variables.items())))
        return 0
    if call.arguments[1] != "--":
        await call.complain(f"sh: set: the demo shell has no option {call.arguments[1]}")
        return 2
    shell.positional = call.arguments[2:]
    return 0


async def _trap(shell: Shell, call: Invocation) -> int:
    """`trap SCRIPT SIGNAL...`; an empty script ignores the signal, `-` goes back to what it does by itself."""
    script, *names = call.arguments[1:] or ("-",)
    for name in names:
        try:
            number = ON_EXIT if name in ("EXIT", "0") else parse_signal(name)
        except ValueError:
            await call.complain(f"sh: trap: {name}: invalid signal specification")
            return 1
        shell.traps.pop(number, None)
        call.process.listeners.pop(number, None)
        if script != "-":
            shell.traps[number] = script
        if script != "-" and number != ON_EXIT:
            call.process.listeners[signal.Signals(number)] = partial(_remember, shell, number)
    return 0


def _remember(shell: Shell, number: int) -> None:
    if script := shell.traps.get(number):
        shell.pending.append(script)


async def _exec(shell: Shell, call: Invocation) -> int:
    """Runs a program in the shell's place; with redirections alone it does nothing here."""
    if len(call.arguments) == 1:
        return 0
    call.arguments = call.arguments[1:]
    program = call.surroundings.programs.get(call.arguments[0].rpartition("/")[2])
    if program is None:
        await call.complain(f"sh: exec: {call.arguments[0]}: not found")
        raise Exit(NOT_FOUND)
    shell.traps.clear()
    raise Exit(await program(call))


def _number(call: Invocation, default: int) -> int:
    text = call.arguments[1] if len(call.arguments) > 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


OWN_COMMANDS: dict[str, OwnCommand] = {
    "break": _break,
    "cd": _cd,
    "continue": _continue,
    "exec": _exec,
    "exit": _exit,
    "export": _export,
    "read": _read,
    "set": _set,
    "shift": _shift,
    "trap": _trap,
    "unset": _unset,
}
