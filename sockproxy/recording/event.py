"""What an audit event says: Exchange -> event, and the form in which events are chained.

Owns the keys of a line, their values, the canonical form and its hash. Must not know sinks (`chain` gives a line its place
and a sink) nor files (`trail` reads them). Begin at `decided_event`.

An event is one line of JSON with the keys of `FIELDS`, sorted, so that a line is its own canonical form but for the hash
in its middle, and needs to be serialised only once. What is not known yet, or does not exist, is null:
of a decided event `status`, `bytes_in`, `bytes_out`, `duration_ms` and `engine_ms`; of a completed one `status` if the
client got no answer and `engine_ms` if the engine gave none. `body` is null at level Metadata, and where there is none; from
level Request on it is the body without its secrets, or a text that says why it is not here (`levels`).
Three keys are there only where there is something to tell: `traceparent`, if the client sent one, and `recording` (file,
sha256, bytes, is_cut), if a session was recorded, and `response_body`, of the kind of `body`, at level RequestResponse.
Milliseconds have at most three decimals, and no point if there are none: all writers of JSON write them alike.

The chain: `seq` counts a trail's lines from 1, `prev` is the `hash` of the line before (64 zeros in the first), and
`hash` is the SHA-256, in hexadecimal, of the bytes of `prev` followed by the canonical form of the line without `hash`:
UTF-8, keys sorted at every level, no blanks. Anybody can check one line `$l`, or a whole trail:

    printf %s%s "$(jq -r .prev <<<"$l")" "$(jq -cS 'del(.hash)' <<<"$l")" | sha256sum

    previous, seq = "0" * 64, 0
    for event in map(json.loads, open("audit.jsonl", encoding="utf-8")):
        claimed = event.pop("hash")
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        actual = hashlib.sha256((event["prev"] + text).encode()).hexdigest()
        assert (event["prev"], event["seq"], claimed) == (previous, seq + 1, actual), event["seq"]
        previous, seq = claimed, seq + 1
    print(seq, previous)

What the chain cannot show: whoever may write the file can cut off its end, or write all of it anew. Both show against a
hash that was noted elsewhere: `sockproxy audit verify` prints the last one, and takes it back as what is expected.
"""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from sockproxy.exchange import Exchange
from sockproxy.judging.catalogue import Classified
from sockproxy.judging.policy import Effect

Event = dict[str, object]

EVENT_VERSION = 1
GENESIS = "0" * 64
"""`prev` of a trail's first line."""

BAD_REQUEST = "bad-request"
"""`reason` of a request that could not be read, and so was never judged."""

FIELDS = (
    *("v", "id", "seq", "time", "stage", "listener", "principal", "operation", "method", "target", "api_version"),
    *("resource", "effect", "reason", "rule", "policy", "policy_revision", "shadow", "status", "bytes_in", "bytes_out"),
    *("duration_ms", "engine_ms", "user_agent", "body", "prev", "hash"),
)
RESPONSE_BODY = "response_body"
"""A key that a line has only where there is something to say under it."""

PRINCIPAL_FIELDS = ("kind", "uid", "gid", "pid", "exe", "container", "tls_subject", "address")

_BODY = b',"body":'
_UNREAD = (Effect.DENY, None, BAD_REQUEST, "", "", "", None, (), "")  # in the place of a Decision


def decided_event(exchange: Exchange) -> Event:
    """The event of stage `decided`, with neither `seq`, `prev` nor `hash`."""
    return _event(exchange, "decided", exchange.decided_at)


def completed_event(exchange: Exchange) -> Event:
    """The event of stage `completed`, with neither `seq`, `prev` nor `hash`."""
    event = _event(exchange, "completed", exchange.completed_at)
    event["status"] = exchange.status or None
    event["bytes_in"] = exchange.bytes_in
    event["bytes_out"] = exchange.bytes_out
    event["duration_ms"] = milliseconds(exchange.completed_at - exchange.received_at)
    if exchange.recording is not None:
        event["recording"] = exchange.recording._asdict()
    if exchange.answered_at and exchange.forwarded_at:
        event["engine_ms"] = milliseconds(exchange.answered_at - exchange.forwarded_at)
    return event


def _event(exchange: Exchange, stage: str, happened_at: float) -> Event:
    kind, uid, gid, pid, exe, container, tls_subject, address, _ = exchange.principal
    operation_id, resource_kind, resource_name = _names(exchange.classified)
    effect, _, reason, rule, policy, policy_revision, shadow, _, _ = exchange.decision or _UNREAD
    version = exchange.api_version
    # hot: in the order in which they are written, so that there is nothing to sort: 0.4 us in place of 0.7 (timeit).
    event: Event = {
        "api_version": None if version is None else f"{version[0]}.{version[1]}",
        "body": None,
        "bytes_in": None,
        "bytes_out": None,
        "duration_ms": None,
        "effect": effect,
        "engine_ms": None,
        "id": exchange.id,
        "listener": exchange.listener,
        "method": exchange.method,
        "operation": operation_id,
        "policy": policy,
        "policy_revision": policy_revision,
        "prev": "",
        "principal": {
            "address": address,
            "container": container,
            "exe": exe,
            "gid": gid,
            "kind": kind,
            "pid": pid,
            "tls_subject": tls_subject,
            "uid": uid,
        },
        "reason": reason,
        "resource": {"kind": resource_kind, "name": resource_name},
        "rule": rule,
        "seq": 0,
        "shadow": shadow,
        "stage": stage,
        "status": None,
        "target": exchange.target,
        "time": rfc3339(exchange.received_time + (happened_at - exchange.received_at)),
        "user_agent": exchange.user_agent,
        "v": EVENT_VERSION,
    }
    if exchange.traceparent is not None:
        event["traceparent"] = str(exchange.traceparent)
    return event


def _names(classified: Classified | None) -> tuple[str, str, str]:
    if classified is None:
        return "", "", ""
    operation_id = "" if classified.operation is None else classified.operation.operation_id
    return operation_id, classified.resource_kind, classified.resource_name


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC with microseconds."""
    second, microsecond = divmod(int(seconds * 1e6), 1_000_000)
    return f"{_rfc3339_second(second)}.{str(1_000_000 + microsecond)[1:]}Z"  # hot: half the time of `:06d`


@lru_cache(maxsize=16)  # nearly all events of a second share it, and formatting costs ten times the look-up
def _rfc3339_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def milliseconds(seconds: float) -> int | float:
    """Seconds as milliseconds with three decimals; whole ones as an integer, for which all writers of JSON agree."""
    microseconds = round(seconds * 1e6)
    return microseconds / 1000 if microseconds % 1000 else microseconds // 1000


def canonical(event: Event) -> bytes:
    """The form that is hashed: JSON in UTF-8 with sorted keys and no blanks."""
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS)


def with_hash(text: bytes, own_hash: bytes) -> bytes:
    """The line of a canonical event without a body: the hash is put in its sorted place."""
    # Only a key begins with a bare quote behind a comma, and no nested object has an `id` that is not its first key.
    place = text.index(b',"id":')
    return b'%b,"hash":"%b"%b\n' % (text[:place], own_hash, text[place:])


def with_hash_behind_body(text: bytes, own_hash: bytes) -> bytes:
    """The same of an event with a body, in which any names may stand."""
    body = orjson.dumps(orjson.loads(text)["body"], option=orjson.OPT_SORT_KEYS)
    place = text.index(b',"id":', text.index(_BODY) + len(_BODY) + len(body))
    return b'%b,"hash":"%b"%b\n' % (text[:place], own_hash, text[place:])


def chain_hash(prev: str, event: Event) -> str:
    """The hash of an event that follows the line whose hash is `prev`; `event` holds `prev` and no `hash`."""
    return hash_of(prev, canonical(event))


def hash_of(prev: str, text: bytes) -> str:
    """The same of an event in canonical form."""
    return hashlib.sha256(prev.encode() + text).hexdigest()


def encodable(event: Event) -> Event:
    """The same without what UTF-8 cannot say: lone surrogates, from undecodable file names or header bytes."""
    return {key: _encodable_value(value) for key, value in event.items()}


def _encodable_value(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return encodable(value)
    if isinstance(value, list):
        return [_encodable_value(one) for one in value]
    return value
