"""The picture of the README: a real terminal session, drawn as docs/session.svg.

Owns what is typed (`SESSION`) and how it looks. Starts the embedded engine, so that it needs no Docker; the docker command
must be on the PATH, and port 9323 free. Nothing is made up: what the picture shows is what came out.

    .venv/bin/python docs/make_picture.py
"""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURE = Path(__file__).with_name("session.svg")
COLUMNS = 120

SESSION = (
    "sockproxy serve --policy readonly --listen unix://$PWD/docker.sock --audit audit.jsonl 2>proxy.log &",
    "export DOCKER_HOST=unix://$PWD/docker.sock",
    "docker ps",
    "docker pause web",
    "sockproxy explain --policy readonly POST /v1.41/containers/web/pause",
    "sockproxy audit show --effect deny --stage decided audit.jsonl",
    "sockproxy audit verify audit.jsonl",
    "curl -s 127.0.0.1:9323/metrics | grep no-rule",
)
"""What is typed, in this order."""

_SERVES = "until curl -s -o nothing 127.0.0.1:9323/readyz; do sleep 0.05; done"
"""Between the first command and the second: a person is slower than a proxy."""

_ENGINE = (
    "import asyncio, sockproxy.operating.demo.engine as demo\n"
    "async def main():\n"
    "    await demo.start_demo_engine('engine.sock')\n"
    "    await asyncio.Event().wait()\n"
    "asyncio.run(main())\n"
)
_END_OF_OUTPUT = "\x1e"  # ASCII's record separator
_START_SECONDS = 10.0
_GREY, _RED, _GREEN, _YELLOW = (110, 118, 129), (255, 123, 114), (63, 185, 80), (210, 153, 34)
_BLUE, _PURPLE, _CYAN, _WHITE = (88, 166, 255), (188, 140, 255), (57, 197, 207), (240, 246, 252)
_THEME = TerminalTheme((22, 27, 34), (201, 209, 217), [_GREY, _RED, _GREEN, _YELLOW, _BLUE, _PURPLE, _CYAN, _WHITE])
_FONT = '"DejaVu Sans Mono", Menlo, Consolas, monospace'


def main() -> int:
    """Makes the picture anew; the exit code."""
    if shutil.which("docker") is None:
        print("make_picture: the docker command is not on the PATH", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sockproxy-picture-") as folder:
        outputs = record(Path(folder))
    PICTURE.write_text(draw(outputs), encoding="utf-8")
    print(PICTURE)
    return 0


def record(folder: Path) -> list[str]:
    """What each command of the session wrote to its terminal."""
    script = folder / "session.sh"
    first, *others = (f"{command}\nprintf '\\036'\n" for command in SESSION)
    script.write_text(f"{first}{_SERVES}\n{''.join(others)}kill %1 && wait\n")
    programs = str(Path(sys.executable).parent)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TERM": "xterm-256color",
        "DOCKER_HOST": f"unix://{folder}/engine.sock",
    }
    engine = subprocess.Popen([sys.executable, "-c", _ENGINE], cwd=folder)  # noqa: S603  # our own program
    try:
        _wait_for(folder / "engine.sock")
        time.sleep(1)  # else `docker ps` tells that everything is less than a second old
        written = _run_in_terminal(["bash", "session.sh"], folder, environment)
    finally:
        engine.terminate()
        engine.wait()
    *outputs, _ = written.replace("\r\n", "\n").split(_END_OF_OUTPUT)
    return outputs


def draw(outputs: list[str]) -> str:
    """The session as SVG, without fonts from elsewhere."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        for command, output in zip(SESSION, outputs, strict=True):
            console.print(Text("$ ", "bold green").append(command, "bold white"), soft_wrap=True)
            if output:
                console.print(Text.from_ansi(output.rstrip("\n")).append("\n"), soft_wrap=True)
        drawn = console.export_svg(title="sockproxy", theme=_THEME, unique_id="session")
    drawn = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", _FONT)
    return "\n".join(line.rstrip() for line in drawn.splitlines() if line.strip()) + "\n"


def _wait_for(path: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path} does not appear")
        time.sleep(0.05)


def _run_in_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What a command writes to a terminal of COLUMNS columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, COLUMNS, 0, 0))
    running = subprocess.Popen(  # noqa: S603  # the session above
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break  # lawful: how a terminal says that nobody has it open any more
        if not piece:
            break
        written += piece
    os.close(ours)
    running.wait()
    return written.decode()


if __name__ == "__main__":
    sys.exit(main())
