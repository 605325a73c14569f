"""A serving process has in memory what it needs, and whoever asks for the rest still gets it."""

import subprocess
import sys

import pytest

from tests.uncovered import uncovered_environment

LOADED = (
    "import sys\nfrom sockproxy.operating.lean import LATER, load_lean\nload_lean('aiohttp.web')\nimport aiohttp.web\n"
)
METRICS = LOADED + "load_lean('sockproxy.recording.metrics')\nimport sockproxy.recording.metrics, prometheus_client\n"

ROWS = [
    ("the-listeners-half", "print('aiohttp.client' in sys.modules)", "False"),
    ("no-authorities-are-read", "print('aiohttp.connector' in sys.modules)", "False"),
    ("no-libstdc++", "print('libstdc++' in open('/proc/self/maps').read())", "False"),
    ("nothing-of-later", "print(*(name for name in LATER if name in sys.modules))", ""),
    ("a-module-is-a-module", "import aiohttp.abc; print(aiohttp.abc.__name__)", "aiohttp.abc"),
    ("what-there-is-not", "print(hasattr(aiohttp, 'nothing'), aiohttp.__version__ != '')", "False True"),
    ("who-asks-gets-the-client", "print(aiohttp.ClientSession.__name__)", "ClientSession"),
    ("by-name-too", "from aiohttp import ClientSession; print(ClientSession.__name__)", "ClientSession"),
    ("it-stays-one", "aiohttp.ClientSession; print(aiohttp.web is sys.modules['aiohttp.web'])", "True"),
    ("what-is-there-stays", "aiohttp.ClientSession; load_lean('aiohttp'); print('client' in vars(aiohttp))", "True"),
]

LATER_ROWS = [  # what stands for something does what that does
    ("a-content-type", "print(aiohttp.helpers.parse_content_type('a/b; charset=utf-8')[1]['charset'])", "utf-8"),
    ("proxies", "import os; os.environ['http_proxy'] = 'http://p'; print(*aiohttp.helpers.proxies_from_env())", "http"),
    (
        "another-alphabet",
        "import yarl; print(yarl.URL('http://b\u00fccher.example').raw_host)",
        "xn--bcher-kva.example",
    ),
    ("a-file", "print(type(aiohttp.web.FileResponse('/etc/hostname')).__name__)", "FileResponse"),
    ("a-page", "print(aiohttp.web_urldispatcher.html_escape('<'))", "&lt;"),
    ("what-holds-it-gets-the-rest", "print(aiohttp.web_urldispatcher.html.unescape('&lt;'))", "<"),
    ("the-module-comes-later", "import html; print(html.escape.__name__, type(html) is type(sys))", "escape True"),
    ("inside-a-package-too", "import email.parser; print(email.parser.HeaderParser.__name__)", "HeaderParser"),
    ("what-a-module-has-not", "print(hasattr(aiohttp.web_urldispatcher.html, 'nothing'))", "False"),
    ("a-file-of-a-form", "print(aiohttp.web_request.SpooledTemporaryFile(9).write(b'ab'))", "2"),
]

METRICS_ROWS = [
    ("no-server", "print('http.server' in sys.modules, 'wsgiref' in sys.modules)", "False False"),
    ("who-asks-gets-it", "print(prometheus_client.generate_latest(prometheus_client.CollectorRegistry()))", "b''"),
]


def printed(code: str) -> str:
    """By a process of its own."""
    command, bare = [sys.executable, "-c", code], uncovered_environment()
    return subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.mark.parametrize("code, expected", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_listener(code: str, expected: str) -> None:
    assert printed(LOADED + code) == expected


@pytest.mark.parametrize("code, expected", [row[1:] for row in LATER_ROWS], ids=[row[0] for row in LATER_ROWS])
def test_what_comes_later(code: str, expected: str) -> None:
    assert printed(LOADED + code) == expected


@pytest.mark.parametrize("code, expected", [row[1:] for row in METRICS_ROWS], ids=[row[0] for row in METRICS_ROWS])
def test_the_metrics(code: str, expected: str) -> None:
    assert printed(METRICS + code) == expected


def test_what_cannot_stand_for_something_is_imported_as_ever() -> None:
    # aiohttp makes a type of it at once: `netrc.netrc | None`
    later = "{'netrc': frozenset({'netrc'})}"
    told = printed(
        f"from sockproxy.operating.lean import load_lean\nload_lean('aiohttp.web', {later})\n"
        "import netrc, aiohttp.web\nprint(netrc.netrc.__name__, aiohttp.web.Response(text='a').text)"
    )
    assert told == "netrc a"
