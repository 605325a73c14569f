"""What certificates say: whose they are, and when they end.

Owns how that is told, in the words of RFC 4514 and RFC 5280. Must not know who may come in by it. Nothing is verified here:
the handshake has done that. Begin at `client_facts` and `end_of_certificate`.
"""

import calendar
import ssl
import time
from hashlib import sha256
from typing import Any, NamedTuple

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

_ESCAPES = {c: f"\\{c}" for c in '"+,;<>\\'}  # RFC 4514, 2.4
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
