"""What a listener's TLS is made of: its files, read anew when they change.

Owns what a handshake here may agree on, and that files which cannot be used leave what there was. Must not know connections.
Begin at `ServerTls`.
"""

import os
import ssl

from sockproxy.forwarding.address import TlsFiles
from sockproxy.forwarding.downstream.tls.certificates import end_of_certificate


class ServerTls:
    """The TLS of a listener, as its files are now. Raises OSError with a text for people where they cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = _state(files)
        self._error = ""
        self.context, self.not_after = self._load()

    def refresh(self) -> bool:
        """Reads the files anew if they have changed; whether they had. Raises OSError as long as they cannot be used, and keeps
        what there was. Connections go on with what they began with."""
        seen = _state(self._files)
        if seen == self._seen:
            if self._error:
                raise OSError(self._error)
            return False
        self._seen = seen
        try:
            self.context, self.not_after = self._load()
        except OSError as error:
            self._error = str(error)
            raise
        self._error = ""
        return True

    def _load(self) -> tuple[ssl.SSLContext, float]:
        cert, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # a handshake costs us more than the client that asks for it
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0  # each connection shows its certificate anew, and it is verified by what holds then
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(cert, key, password=_no_password)
            not_after = end_of_certificate(_read(cert))
        except (OSError, ValueError) as error:
            raise OSError(f"cannot use the certificate {cert} with the key {key}: {_told(error)}") from error
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(client_ca)
            except (OSError, ValueError) as error:
                raise OSError(f"cannot use the authorities {client_ca}: {_told(error)}") from error
        return context, not_after


def _no_password() -> str:
    raise ValueError("the key is encrypted; a service has nobody to ask")


def _told(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError):
        return str(reason or "no PEM of that kind").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def _state(files: TlsFiles) -> object:
    """What changes when one of the files does."""
    return tuple(_state_of(file) for file in files if file is not None)


def _state_of(file: str) -> object:
    try:
        found = os.stat(file)
    except OSError as error:
        return error.errno  # lawful: that it is away is a state, too, and reading it says so
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read(file: str) -> str:
    with open(file, encoding="ascii", errors="replace") as opened:
        return opened.read()
