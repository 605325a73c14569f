"""TLS of a listener: its certificates, its part of a connection, and what a client's certificate says.

Owns contexts and when they are read anew, the handshake, and half-close within TLS. Must not know who may come in by what
it tells (`judging.clients`), nor what the bytes mean. Begin at `ServerTls`; `Secured` is what a `Stream` writes to.

The TLS of asyncio and uvloop ends a connection as soon as its client has finished sending (close_notify): the rest of the
answer is lost, and `docker exec -i` with it. TLS knows half-close (RFC 8446, 6.1: each side closes its own direction), and
docker's client and engine use it. So the layer here is our own, of the ssl module's objects without a socket.
"""

import asyncio
import calendar
import os
import ssl
import time
from collections import deque
from contextlib import suppress
from hashlib import sha256
from socket import socket
from typing import Any, NamedTuple

from sockproxy.forwarding.address import TlsFiles
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.stream import Stream

_READ_BYTES = 64 << 10
_SENT_TO_NO_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nsockproxy: this is a TLS listener, and that was no TLS\n"
)


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


# --- a connection


class Secured(asyncio.Protocol, asyncio.Transport):
    """TLS between a connection and its `Stream`: protocol of the one, transport of the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, stream: Stream) -> None:
        super().__init__()
        self._loop = loop
        self._context = context
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.handshake: asyncio.Future[None] = loop.create_future()
        self._below: asyncio.Transport | None = None
        self._held: deque[bytes] = deque()  # was read before somebody took it
        self._is_paused = False
        self._saw_end = False  # the client's close_notify
        self._is_closing = False

    # --- what the loop calls, from below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = transport  # type: ignore[assignment]  # both loops hand a stream socket's Transport

    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._saw_end:
            return  # what comes behind the end is nothing
        self._incoming.write(data)
        if not self.handshake.done():
            self._shake_hands()
        if self.handshake.done() and not self._is_closing:
            self._deliver()

    def eof_received(self) -> bool:
        if not self._saw_end:
            # RFC 8446, 6.1: without a close_notify it was cut off, by whomever: what came must not look like all of it.
            self._break(ConnectionResetError("the connection ended without the end of its TLS"))
        return not self._is_closing

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        if not self.handshake.done():
            self.handshake.set_exception(exc or ConnectionResetError("the client is gone"))
        elif not self.handshake.cancelled() and self.handshake.exception() is None:
            self._stream.connection_lost(exc)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    # --- TLS

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            # Lawful: whoever waits for the handshake is told. The client gets the alert that says what was wrong.
            if error.reason == "HTTP_REQUEST" and self._below is not None:
                self._below.write(_SENT_TO_NO_TLS)
            self._flush()
            self.close()
            if not self.handshake.done():
                self.handshake.set_exception(error)
            return
        self._flush()
        self.handshake.set_result(None)
        self._stream.connection_made(self)

    def _deliver(self) -> None:
        """Gives on what can be read, as long as somebody takes it."""
        while not (self._is_paused or self._is_closing or self._saw_end):
            try:
                data = self._held.popleft() if self._held else self._read()
            except ssl.SSLError as error:
                self._break(error)  # lawful: the stream is told, and ends with it
                return
            if data is None:
                break
            if data:
                self._stream.data_received(data)
            else:
                self._saw_end = True
                self._stream.eof_received()
        self._flush()  # a key update is to be answered

    def _read(self) -> bytes | None:
        """What has come next, b"" for the client's end, None where the rest of a record is still to come."""
        try:
            return self.tls.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return None  # lawful: as said
        except ssl.SSLZeroReturnError:
            return b""  # lawful: as said

    def _hold(self) -> None:
        """Reads what has come and nobody takes yet: one piece of the connection's, at most."""
        with suppress(ssl.SSLError):  # lawful: who reads on meets it again
            while (data := self._read()) is not None:
                self._held.append(data)
                if not data:
                    break

    def _flush(self) -> None:
        if self._outgoing.pending and self._below is not None and not self._below.is_closing():
            self._below.write(self._outgoing.read())

    def _break(self, error: Exception) -> None:
        self._is_closing = True
        self._stream.error = self._stream.error or error
        if self._below is not None:
            self._below.abort()

    def _notify_end(self) -> None:
        """Says that nothing more will be sent. The client's own end is not waited for."""
        with suppress(ssl.SSLError):  # lawful: it asks for the other end, which comes when it comes
            self.tls.unwrap()
        self._flush()

    # --- what the stream calls, from above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not len(data):
            return
        try:
            self.tls.write(data)
        except ssl.SSLError as error:
            self._break(error)  # lawful: as above
            return
        self._flush()

    def write_eof(self) -> None:
        self._deliver()
        if not self._is_closing:
            self._hold()  # once our end is sent, OpenSSL looks for the other end, and takes anything else for a fault
            self._notify_end()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0 if self._below is None else self._below.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._notify_end()
        if self._below is not None:
            self._below.close()

    def abort(self) -> None:
        self._is_closing = True
        if self._below is not None:
            self._below.abort()

    def pause_reading(self) -> None:
        self._is_paused = True
        if self._below is not None and not self._below.is_closing():
            self._below.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._below is not None and not self._below.is_closing():
            self._below.resume_reading()
            self._loop.call_soon(self._deliver)  # what came while nobody wanted it; not at once, as no transport does

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._context
        return default if self._below is None else self._below.get_extra_info(name, default)


async def open_secured(
    loop: asyncio.AbstractEventLoop, hangups: HangupWatch, sock: socket, context: ssl.SSLContext, seconds: float
) -> tuple[Stream, ssl.SSLObject]:
    """The stream of a bare socket whose client speaks TLS, once hands were shaken (0 seconds: however long it takes), and
    what is known of that. Raises OSError, and then the socket is closed or about to be."""
    stream = Stream(loop, hangups)
    secured = Secured(loop, context, stream)
    await loop.connect_accepted_socket(lambda: secured, sock)
    try:
        async with asyncio.timeout(seconds or None):
            await secured.handshake
    except ssl.SSLError:
        raise  # it closes by itself, behind the alert
    except BaseException:
        secured.abort()
        raise
    return stream, secured.tls


# --- what certificates say

_TYPES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""RFC 4514, 3: the short names of attribute types; others go by OpenSSL's long ones."""

_SAN_KINDS = {"IP Address": "IP"}  # of the ssl module's words, those that are too long


class ClientFacts(NamedTuple):
    """What is known of a client by its certificate; None and nothing where it has none."""

    tls_subject: str | None
    tls_sans: tuple[str, ...]
    tls_fingerprint: str | None


def client_facts(tls: ssl.SSLObject) -> ClientFacts:
    """What the certificate says that the client has shown, and that was verified."""
    binary = tls.getpeercert(binary_form=True)
    certificate: dict[str, Any] = tls.getpeercert() or {}
    if binary is None or not certificate:
        return ClientFacts(None, (), None)
    sans = tuple(f"{_SAN_KINDS.get(kind, kind)}:{name}" for kind, name in certificate.get("subjectAltName", ()))
    return ClientFacts(subject_text(certificate.get("subject", ())), sans, sha256(binary).hexdigest())


def subject_text(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A subject, as the ssl module tells it, in the form of RFC 4514: the last part first."""
    parts = (
        "+".join(f"{_TYPES.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in reversed(subject)
    )
    return ",".join(parts)


def _escaped(value: str) -> str:
    # RFC 4514, 2.4. Control characters as well, so that a line of a record stays one.
    escaped = "".join(
        _ESCAPES.get(c, c) if c.isprintable() else "".join(f"\\{b:02x}" for b in c.encode()) for c in value
    )
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if escaped.endswith(" ") and len(value) > 1 else escaped


_ESCAPES = {c: f"\\{c}" for c in '"+,;<>\\'}


def end_of_certificate(pem: str) -> float:
    """When the first certificate of a PEM text ends, in seconds since the epoch. Raises ValueError if there is none."""
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    end = pem.find("-----END CERTIFICATE-----", begin)
    if begin < 0 or end < 0:
        raise ValueError("no certificate in it")
    try:
        return _end_of(ssl.PEM_cert_to_DER_cert(f"{pem[begin:end]}-----END CERTIFICATE-----\n"))
    except IndexError as error:
        raise ValueError("no certificate in it") from error


def _end_of(der: bytes) -> float:
    # RFC 5280, 4.1: Certificate { TBSCertificate { [0] version, serial, signature, issuer, validity { from, to }, ...
    _, certificate, _ = _element(der)
    _, rest, _ = _element(certificate)
    tag, _, behind = _element(rest)
    if tag == 0xA0:  # the version, which may be left out
        rest = behind
    for _ in ("serial", "signature", "issuer"):
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, behind = _element(validity)
    tag, moment, _ = _element(behind)
    form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"  # UTCTime, GeneralizedTime
    return float(calendar.timegm(time.strptime(moment.decode("ascii"), form)))


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The first element: its tag, its content, and what stands behind it. Raises IndexError."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise IndexError("an element that is cut off")
    return tag, der[start : start + length], der[start + length :]
