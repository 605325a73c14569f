"""Address: where to listen and where the engine is, as a URL; and where the files of a listener's TLS are.

Owns the forms `unix:///path`, `tcp://host:port` and `systemd://[name]`. Must not know sockets, nor what is in files.
"""

import re
from ipaddress import ip_address
from typing import Literal, NamedTuple

Scheme = Literal["unix", "tcp", "systemd"]

_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]*):([0-9]{1,5})/?", re.ASCII)
_SYSTEMD = re.compile(r"systemd://([A-Za-z0-9._-]*)", re.ASCII)
_UNIX_PATH_BYTES_MAX = 107  # unix(7): sun_path has 108 bytes with its final NUL


class Address(NamedTuple):
    """A place to listen on or to connect to. `path` is for unix (or the name of a handed-over socket), the rest for tcp."""

    scheme: Scheme
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{self.port}"
        return f"{self.scheme}://{self.path}"


class TlsFiles(NamedTuple):
    """Where a listener's certificate (with its chain), key, and the authorities of its clients are; PEM. Without
    authorities, no client is asked for a certificate."""

    cert: str
    key: str
    client_ca: str | None


def parse_address(text: str) -> Address:
    """The address that a URL names; a bare absolute path means `unix://`. Raises ValueError with one line for people."""
    if text.startswith("/"):
        text = f"unix://{text}"
    if text.startswith("unix://"):
        return _parse_unix(text)
    if found := _TCP.fullmatch(text):
        if not int(found[2]) <= 65535:
            raise ValueError(f"{text}: a port is at most 65535")
        return Address("tcp", host=found[1].strip("[]"), port=int(found[2]))
    if found := _SYSTEMD.fullmatch(text):
        return Address("systemd", path=found[1])
    raise ValueError(f"{text}: expected unix:///path, tcp://host:port or systemd://name")


def _parse_unix(text: str) -> Address:
    path = text.removeprefix("unix://")
    if not path.startswith("/"):
        raise ValueError(f"{text}: the path of a unix socket is absolute, as in unix:///run/docker.sock")
    if len(path.encode()) > _UNIX_PATH_BYTES_MAX:
        raise ValueError(f"{text}: the path of a unix socket has at most {_UNIX_PATH_BYTES_MAX} bytes")
    if "\0" in path:
        raise ValueError("a path holds no NUL")
    return Address("unix", path=path)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a listener on this host: an address of the loopback network, or localhost. Of
    other names nobody knows what they will stand for."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"  # lawful: it is a name, or nothing, which is every address
