"""Address: which URLs name a place, and that writing one back gives the same place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockproxy.forwarding.address import Address, parse_address

GOOD = [
    ("unix:///run/docker.sock", Address("unix", path="/run/docker.sock")),
    ("/run/docker.sock", Address("unix", path="/run/docker.sock")),
    ("tcp://0.0.0.0:2375", Address("tcp", host="0.0.0.0", port=2375)),
    ("tcp://[::1]:2375", Address("tcp", host="::1", port=2375)),
    ("tcp://:2375", Address("tcp", host="", port=2375)),
    ("tcp://localhost:2375/", Address("tcp", host="localhost", port=2375)),
    ("systemd://", Address("systemd", path="")),
    ("systemd://docker", Address("systemd", path="docker")),
]
BAD = [
    "",
    "docker.sock",
    "unix://run/docker.sock",
    "unix:///" + "x" * 107,
    "unix:///a\0b",
    "tcp://localhost",
    "tcp://localhost:99999",
    "tcp://local host:1",
    "http://localhost:2375",
    "npipe:////./pipe/docker_engine",
]


@pytest.mark.parametrize(("text", "address"), GOOD)
def test_good(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
