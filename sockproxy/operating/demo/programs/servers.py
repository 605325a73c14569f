"""What can be run in a container, by image: the commands of a busybox, and a few servers that seem to work.

Owns the tables of programs. Must not know images or containers, only the names that they use.
"""

import asyncio
import itertools
import signal
import time

from sockproxy.operating.demo.programs import commands_system, commands_text
from sockproxy.operating.demo.programs.process import Invocation, Program
from sockproxy.operating.demo.programs.shell_commands import OWN_COMMANDS, sh

REQUEST_SECONDS = 5.0  # between two requests that the imagined nginx gets


async def _help(call: Invocation) -> int:
    names = sorted({*call.surroundings.programs, *OWN_COMMANDS})
    await call.print("The programs of this container are imitations. There are:", "  " + " ".join(names))
    return 0


async def _nginx(call: Invocation) -> int:
    """Logs its start as the image's entrypoint does, then a request now and then."""
    if "-v" in call.arguments:
        await call.complain("nginx version: nginx/1.27.0")
        return 0
    stop = _stop_on(call, signal.SIGTERM, signal.SIGQUIT)
    await call.stderr(b"/docker-entrypoint.sh: Configuration complete; ready for start up\n")
    await call.complain(f"{_stamp(call, '%Y/%m/%d %H:%M:%S')} [notice] 1#1: start worker processes")
    for path in itertools.cycle(("/", "/healthz", "/index.html")):
        status, size = {"/healthz": (404, 153)}.get(path, (200, 615))
        when = _stamp(call, "%d/%b/%Y:%H:%M:%S +0000")
        await call.print(f'172.17.0.1 - - [{when}] "GET {path} HTTP/1.1" {status} {size} "-" "curl/8.5.0" "-"')
        if await _happens_within(stop, REQUEST_SECONDS):
            break
    return 0


async def _entrypoint(call: Invocation) -> int:
    """A script that prepares something and then runs what stands behind it."""
    call.arguments = call.arguments[1:]
    program = call.surroundings.programs.get(call.arguments[0].rpartition("/")[2]) if call.arguments else None
    if program is None:
        await call.complain(f"exec: {call.arguments[:1]}: not found")
        return 127
    return await program(call)


async def _redis_server(call: Invocation) -> int:
    stop = _stop_on(call, signal.SIGTERM, signal.SIGINT)
    for sign, line in (
        ("*", "oO0OoO0OoO0Oo Redis is starting"),
        ("*", "Server initialized"),
        ("*", "Ready to accept connections tcp"),
    ):
        await call.print(f"1:M {_stamp(call, '%d %b %Y %H:%M:%S.000')} {sign} {line}")
    await stop.wait()
    await call.print(f"1:M {_stamp(call, '%d %b %Y %H:%M:%S.000')} # Redis is now ready to exit, bye bye...")
    return 0


async def _redis_cli(call: Invocation) -> int:
    """Knows PING alone."""
    words = [word.lower() for word in call.arguments[1:]]
    await call.print("PONG" if words[:1] == ["ping"] else "(error) ERR the demo knows only PING")
    return 0


async def _server(call: Invocation) -> int:
    """Any other server: says that it is ready, and waits to be stopped; httpd's signal for that is SIGWINCH."""
    stop = _stop_on(call, signal.SIGTERM, signal.SIGINT, signal.SIGWINCH)
    await call.print(f"{call.arguments[0].rpartition('/')[2]}: ready to accept connections")
    await stop.wait()
    return 0


async def _pause(call: Invocation) -> int:
    await _stop_on(call, signal.SIGTERM, signal.SIGINT).wait()
    return 0


async def _hello(call: Invocation) -> int:
    await call.print(
        "",
        "Hello from the demo engine!",
        "This message shows that a client reached it, and everything that stands in between.",
        "",
        "Nothing was downloaded, and no container runs: all this is an imitation in the memory of one program.",
        "",
    )
    return 0


def _stop_on(call: Invocation, *signals: int) -> asyncio.Event:
    stop = asyncio.Event()
    call.process.listeners.update(dict.fromkeys(signals, stop.set))
    return stop


async def _happens_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _stamp(call: Invocation, form: str) -> str:
    return time.strftime(form, time.gmtime(call.surroundings.clock() // 1_000_000_000))


_BUSYBOX: dict[str, Program] = {
    **commands_system.COMMANDS,
    **commands_text.COMMANDS,
    "ash": sh,
    "bash": sh,
    "help": _help,
    "sh": sh,
}

PROGRAMS: dict[str, dict[str, Program]] = {
    "busybox": _BUSYBOX,
    "nginx": {**_BUSYBOX, "docker-entrypoint.sh": _entrypoint, "nginx": _nginx},
    "redis": {**_BUSYBOX, "redis-server": _redis_server, "redis-cli": _redis_cli},
    "server": {**_BUSYBOX, "postgres": _server, "httpd-foreground": _server},
    "pause": {"pause": _pause},
    "hello": {"hello": _hello},
}
"""By `programs` of the image's kind (`images.KINDS`)."""
