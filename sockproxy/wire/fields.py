"""Header and trailer fields: their grammar, and which of them belong to one hop only.

Owns how a section of fields is read and written, strictly, and the tables of the names that frame, route or judge a
message. Must not know start lines, bodies or limits' values (they are arguments), nor which side sent a section: what
is wrong raises BadRequest, and `http1` turns it into EngineError for the engine's heads.
Begin at `parse_fields`; `read_fields` is its plain form, which also finds out what is wrong.
Sources: RFC 9110, 5 to 7; RFC 9112, 5.
"""

import re
from collections.abc import Iterable, Sequence

from sockproxy.errors import BadRequest, BadRequestReason

Field = tuple[bytes, bytes]
"""A name as it was sent, and its value without surrounding blanks."""

# RFC 9110, 5.6.2: token = 1*tchar
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(_TCHAR + rb"++")

# RFC 9110, 5.5: field-value = *field-content, of VCHAR, obs-text, and SP and HTAB between them.
_FIELD_VALUE = re.compile(rb"[^\x00-\x08\n-\x1f\x7f]*+")

# RFC 9112, 5: field-line = field-name ":" OWS field-value OWS, each preceded and followed by a CRLF here. A value with
# blanks behind it does not match (the look-behind), and so goes the plain way.
_FIELD_LINES = re.compile(
    rb"\r\n(" + _TCHAR + rb"++):[ \t]*+((?:[^\x00-\x08\n-\x1f\x7f]*+(?<![ \t]))?)(?=\r\n)",
)

# RFC 9110, 5.6.1.2: #element => [ element ] *( OWS "," OWS [ element ] )
_TOKEN_LIST = re.compile(rb"(?:" + _TCHAR + rb"++)?(?:[ \t]*+,[ \t]*+(?:" + _TCHAR + rb"++)?)*")

LIST_ELEMENTS_MAX = 100
"""Members of a Connection or Trailer field; the docker clients that were looked at send one."""

ONLY_ONCE = {
    # RFC 9112, 3.2: 400 "to any request message that contains more than one Host header field line".
    b"host": (400, BadRequestReason.HOST),
    # RFC 9112, 6.3: several Content-Length lines may be read as one if they are equal. They are not here: readers that
    # take the first, the last or a list of them are known, and no known client sends two.
    b"content-length": (400, BadRequestReason.CONTENT_LENGTH),
    b"transfer-encoding": (400, BadRequestReason.TRANSFER_ENCODING),
    # RFC 9110, 8.3: with several, "recipients often attempt to handle this error by using the last syntactically valid
    # member of the list, leading to potential interoperability and security issues". The engine takes the first.
    b"content-type": (400, BadRequestReason.CONTENT_TYPE),
    b"expect": (417, BadRequestReason.EXPECT),
}
"""Fields that decide how a message is framed, routed or judged: two of them have two meanings."""

# RFC 9110, 7.6.1: "intermediaries SHOULD remove or replace fields that are known to require removal before forwarding,
# whether or not they appear as a connection-option"; Content-Length is among them here since framing is written anew.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)

# RFC 9110, 7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for all
# recipients of the content." Whoever names one of these wants the engine to get another request than the judged one.
NEVER_CONNECTION_OPTIONS = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"trailer",
        b"transfer-encoding",
        b"x-registry-auth",
        b"x-registry-config",
    }
)

# RFC 9110, 6.5.1: "Many fields cannot be processed outside the header section because their evaluation is necessary
# prior to receiving the content, such as those that describe message framing, routing, authentication, request
# modifiers, response controls, or content format."
NEVER_TRAILERS = (
    HOP_BY_HOP
    | NEVER_CONNECTION_OPTIONS
    | frozenset(
        {
            b"age",
            b"cache-control",
            b"content-range",
            b"date",
            b"expires",
            b"if-match",
            b"if-modified-since",
            b"if-none-match",
            b"if-range",
            b"if-unmodified-since",
            b"location",
            b"max-forwards",
            b"pragma",
            b"range",
            b"retry-after",
            b"set-cookie",
            b"vary",
            b"warning",
            b"www-authenticate",
        }
    )
)

_NO_OPTIONS: frozenset[bytes] = frozenset()

# What clients and engines send, read once: 0.04 us in place of 0.57 (timeit), and every Connection is looked at twice.
_COMMON_OPTIONS = {
    value: frozenset({value.lower()}) for value in (b"close", b"keep-alive", b"Keep-Alive", b"Upgrade", b"upgrade")
}


def parse_fields(raw: bytes, start: int, fields_max: int) -> list[Field]:
    """The fields of `raw` from `start`, where the CRLF of the line before them stands, to its end, a CRLFCRLF.

    Raises BadRequest for whatever else is there. hot: one `findall` finds as many lines as there are, or the plain
    form says why not. Four fields: 1.0 us, `read_fields` 3.7 us (timeit).
    """
    if not raw.endswith(b"\r\n\r\n"):
        raise BadRequest(400, BadRequestReason.INCOMPLETE, "the head has no empty line at its end")
    count = raw.count(b"\r\n", start) - 2
    if count > fields_max:
        raise BadRequest(431, BadRequestReason.TOO_MANY_FIELDS, f"more than {fields_max} header fields")
    # A match lies between one CRLF and the next, so as many matches as there are lines are all lines.
    fields: list[Field] = _FIELD_LINES.findall(raw, start)
    return fields if len(fields) == count else read_fields(raw[start + 2 : -2])


def read_fields(section: bytes) -> list[Field]:
    """The fields of a section of lines, each with its CRLF; the plain form. Raises BadRequest with what is wrong."""
    return [_read_field(line) for line in section.split(b"\r\n")[:-1]]


def _read_field(line: bytes) -> Field:
    check_line_end(line)
    # RFC 9112, 5.2: a server "MUST either reject the message by sending a 400 (Bad Request), [...] or replace each
    # received obs-fold". What is folded for one reader is a field of its own for the next.
    if line.startswith((b" ", b"\t")):
        raise BadRequest(400, BadRequestReason.FIELD_FOLDED, "a header field is folded or begins with a blank")
    name, colon, value = line.partition(b":")
    # RFC 9112, 5.1: "A server MUST reject, with a response status code of 400 (Bad Request), any received request
    # message that contains whitespace between a header field name and colon."
    if not colon or TOKEN.fullmatch(name) is None:
        raise BadRequest(400, BadRequestReason.FIELD_NAME, "a header field's name is no token")
    value = value.strip(b" \t")
    # RFC 9110, 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous, due to the varying
    # ways that implementations might parse and interpret those characters"; other controls "are also invalid".
    if _FIELD_VALUE.fullmatch(value) is None:
        raise BadRequest(400, BadRequestReason.FIELD_VALUE, "a header field's value has control characters")
    return name, value


def check_line_end(line: bytes) -> None:
    """Raises BadRequest if what stands between two CRLF has a CR or LF of its own."""
    # RFC 9112, 2.2: "a recipient MAY recognize a single LF as a line terminator". A reader that does sees more fields
    # than one that does not. "A recipient of such a bare CR MUST consider that element to be invalid".
    if b"\r" in line or b"\n" in line:
        raise BadRequest(400, BadRequestReason.LINE_END, "a line does not end with CRLF")


def by_name(fields: Sequence[Field]) -> dict[bytes, bytes]:
    """The values by lower-case name, repeated ones as one list; raises BadRequest if one of `ONLY_ONCE` is repeated."""
    named = {name.lower(): value for name, value in fields}
    if len(named) == len(fields):
        return named
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    for name, (status, reason) in ONLY_ONCE.items():
        if len(values.get(name, ())) > 1:
            raise BadRequest(status, reason, f"more than one {name.decode().title()}")
    # RFC 9110, 5.3: "A recipient MAY combine multiple field lines within a field section that have the same field name
    # into one field line [...] by appending each subsequent field line value to the initial field line value in order,
    # separated by a comma".
    return {name: b", ".join(several) for name, several in values.items()}


def field(fields: Iterable[Field], name: bytes) -> bytes | None:
    """The first value of `name`, which is given in lower case; None if there is none."""
    for sent, value in fields:
        if sent.lower() == name:
            return value
    return None


def connection_options(value: bytes | None) -> frozenset[bytes]:
    """The options of a Connection field in lower case; raises BadRequest if it is no list of names, or names a field of
    `NEVER_CONNECTION_OPTIONS`."""
    if value is None:
        return _NO_OPTIONS
    common = _COMMON_OPTIONS.get(value)
    if common is not None:
        return common
    options = _tokens(value, BadRequestReason.FIELD_VALUE, "Connection")
    if not options.isdisjoint(NEVER_CONNECTION_OPTIONS):
        raise BadRequest(400, BadRequestReason.FIELD_VALUE, "Connection names a field that is not of the connection")
    return options


def check_trailer_names(value: bytes | None) -> None:
    """Raises BadRequest if a Trailer field is no list of names, or announces one that a trailer section can't have."""
    if value is None:
        return
    if not _tokens(value, BadRequestReason.TRAILER, "Trailer").isdisjoint(NEVER_TRAILERS):
        raise BadRequest(400, BadRequestReason.TRAILER, "Trailer names a field that frames, routes or is judged")


def _tokens(value: bytes, reason: BadRequestReason, name: str) -> frozenset[bytes]:
    if value.count(b",") >= LIST_ELEMENTS_MAX or _TOKEN_LIST.fullmatch(value) is None:
        raise BadRequest(400, reason, f"{name} is no list of at most {LIST_ELEMENTS_MAX} names")
    return frozenset(option.strip(b" \t") for option in value.lower().split(b","))


def end_to_end(fields: Sequence[Field], *, keep_upgrade: bool) -> list[Field]:
    """The fields that go on to the next hop: without those of this hop, those that Connection names, and the framing.

    With `keep_upgrade` Upgrade goes on as well, and with it the option `upgrade` of Connection if it was there.
    """
    names = [name.lower() for name, _ in fields]
    options = _NO_OPTIONS
    dropped = HOP_BY_HOP
    if b"connection" in names:
        # RFC 9110, 7.6.1: "Intermediaries MUST [...] for each connection-option in this field, remove any header or
        # trailer field(s) from the message with the same name as the connection-option".
        options = connection_options(by_name(fields)[b"connection"])
        dropped = HOP_BY_HOP | options
    kept = [pair for pair, name in zip(fields, names, strict=True) if name not in dropped]
    if keep_upgrade and b"upgrade" in names:
        if b"upgrade" in options:
            kept.append((b"Connection", b"Upgrade"))
        kept += [pair for pair, name in zip(fields, names, strict=True) if name == b"upgrade"]
    return kept


def serialise_fields(fields: Iterable[Field]) -> bytes:
    """The field lines, each with its CRLF. The fields are parsed ones, or the proxy's own."""
    return b"".join([b"%b: %b\r\n" % pair for pair in fields])
