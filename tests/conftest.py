"""What all tests share: asynchronous tests run on uvloop, as the proxy does."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

# A machine that is busy is no fault of an example; each test has a limit of its own.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bodies",
        type=int,
        default=40,
        help="how many generated bodies the real engine compares with their canonical form",
    )
    parser.addoption("--pictures", action="store_true", help="write the pictures of the page, docs/page-*.png")
