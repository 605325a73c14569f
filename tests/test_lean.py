"""The listener's half of aiohttp comes without the client, and whoever wants the client still gets it."""

import subprocess
import sys

import pytest

DEFERRED = "from sockproxy.operating.lean import defer_client\ndefer_client()\nimport sys, aiohttp.web\n"

ROWS = [
    ("the-listeners-half", "print('aiohttp.client' in sys.modules)", "False"),
    ("no-authorities-are-read", "print('aiohttp.connector' in sys.modules)", "False"),
    ("no-libstdc++", "print('libstdc++' in open('/proc/self/maps').read())", "False"),
    ("a-module-is-a-module", "import aiohttp.abc; print(aiohttp.abc.__name__)", "aiohttp.abc"),
    ("what-there-is-not", "print(hasattr(aiohttp, 'nothing'), aiohttp.__version__ != '')", "False True"),
    ("who-asks-gets-the-client", "print(aiohttp.ClientSession.__name__)", "ClientSession"),
    ("by-name-too", "from aiohttp import ClientSession; print(ClientSession.__name__)", "ClientSession"),
    ("it-stays-one", "aiohttp.ClientSession; print(aiohttp.web is sys.modules['aiohttp.web'])", "True"),
    ("what-is-there-stays", "aiohttp.ClientSession; defer_client(); print('client' in vars(aiohttp))", "True"),
]


@pytest.mark.parametrize("code, printed", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_in_a_process_of_its_own(code: str, printed: str) -> None:
    command = [sys.executable, "-c", DEFERRED + code]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip() == printed
