"""Checkpoints: lines of a trail that sign all lines before them.

Owns what a checkpoint says, when one is due, and its signature. Must not know sinks nor chains (`chain`). Begin at `Seal`.
Only who configures a key pays for it: `cryptography` is imported when a key is loaded.

A checkpoint is a line of the trail and chained like every other, so that whoever checks the chain need not know it; its
`stage` is `checkpoint`, and it has the keys of `CHECKPOINT_FIELDS`, not those of an event. `signature` is Ed25519 (RFC
8032), in hexadecimal, over the line's canonical form without `hash` and `signature`. `prev` is in there, and with it every
line before.

Whoever has no key can neither change nor remove a line in front of a checkpoint without removing that checkpoint and all
behind it. What is left then ends behind an older one, with few lines or none: `every` and `seconds`, which are signed too,
say how many there may be. So a forger can only cut off the end. That shows against the newest checkpoint where it is kept a
second time (`FILE.checkpoint`, or wherever that is copied to), not in the file itself. The lines behind the newest checkpoint
are as good as unsigned until the next one; one whose writer was killed is signed at the next start, with `cause` "start".
"""

import hashlib
import os
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.recording.event import EVENT_VERSION, Event, canonical, encodable, hash_of, rfc3339
from sockproxy.recording.prepared import Place

Cause = Literal["start", "interval", "rotate", "end"]
"""Why it was written: behind lines of a process that did not end well; because it was time; as the last of a file; as the
last of a process."""

STAGE = "checkpoint"

CHECKPOINT_FIELDS = (
    *("v", "seq", "time", "stage", "trail", "cause", "every", "seconds"),
    *("key", "signature", "prev", "hash"),
)

MISSING = "cryptography is not installed; it comes with sockproxy[signing]"


class Signer(NamedTuple):
    """A private key. `key`: what its public half is called in a checkpoint."""

    key: str
    sign: Callable[[bytes], bytes]


class Verifier(NamedTuple):
    """A public key, and whether a signature of it fits a text."""

    key: str
    is_signed: Callable[[bytes, bytes], bool]


class Terms(NamedTuple):
    """After how many lines, and after how many seconds, lines that are not signed yet are signed."""

    every: int = 1000
    seconds: int = 10


class Seal:
    """When a trail is signed, and the lines that do it.

    `keep` gets each checkpoint that the sink has taken, to be kept a second time; it says whether it was."""

    def __init__(
        self,
        signer: Signer,
        trail: str,
        terms: Terms,
        keep: Callable[[bytes], bool] = lambda line: True,
        kept: bytes = b"",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`kept`: the checkpoint that was kept last, if there is one."""
        self._signer = signer
        self._trail = trail
        self._terms = terms
        self._keep = keep
        self._kept = kept
        self._clock = clock
        self._monotonic = monotonic
        self._signed_seq = 0
        self._unsigned_since: float | None = None
        self._newest = b""  # not kept a second time yet

    def begin(self, end: Place, last_line: bytes) -> Place:
        """Where the trail goes on whose file ends at `end`. The checkpoint that was kept may be one of later lines: they were
        cut off, or moved away. The chain goes on behind them, so that whoever does not have them misses them."""
        self._signed_seq = end.seq if is_checkpoint(_read(last_line)) else 0
        event = _read(self._kept)
        seq, own_hash = event.get("seq"), event.get("hash")
        is_ours = event.get("trail") == self._trail and is_own(event, self._signer)
        if not (is_ours and isinstance(seq, int) and isinstance(own_hash, str) and seq > end.seq):
            return end
        self._signed_seq = seq
        return Place(seq, own_hash)

    def is_due(self, seq: int) -> bool:
        """Whether it is time to sign, now that the trail has come to `seq`."""
        unsigned = seq - self._signed_seq
        if unsigned <= 0:
            return False
        if not self._signed_seq:
            return True  # the first lines of a trail, so that there is none without a promise of when it is signed
        now = self._monotonic()
        if self._unsigned_since is None:
            self._unsigned_since = now
        return unsigned >= self._terms.every or now - self._unsigned_since >= self._terms.seconds

    def is_open(self, seq: int) -> bool:
        """Whether there are lines that are not signed yet."""
        return seq > self._signed_seq

    def checkpoint(self, cause: Cause, place: Place) -> tuple[bytes, Place]:
        """The line that signs the trail as far as `place`, and where the trail is behind it."""
        event: Event = {
            "v": EVENT_VERSION,
            "seq": place.seq + 1,
            "time": rfc3339(self._clock()),
            "stage": STAGE,
            "trail": self._trail,
            "cause": cause,
            "every": self._terms.every,
            "seconds": self._terms.seconds,
            "key": self._signer.key,
            "prev": place.prev,
        }
        event = encodable(event)
        event["signature"] = self._signer.sign(canonical(event)).hex()
        own_hash = hash_of(place.prev, canonical(event))
        event["hash"] = own_hash
        self._signed_seq, self._unsigned_since = place.seq + 1, None
        self._newest = canonical(event) + b"\n"
        return self._newest, Place(place.seq + 1, own_hash)

    def keep(self) -> bool:
        """Keeps the newest checkpoint a second time; the trail has it. False if that failed, and is worth another try."""
        if self._newest and self._keep(self._newest):
            self._newest = b""
        return not self._newest


def is_checkpoint(event: Event) -> bool:
    """Whether a line is a checkpoint, and no event."""
    return event.get("stage") == STAGE


def signed_text(event: Event) -> bytes:
    """What the signature of a checkpoint is over."""
    return canonical({key: value for key, value in event.items() if key not in ("hash", "signature")})


def is_own(event: Event, signer: Signer) -> bool:
    """Whether a checkpoint was signed with this key. Ed25519 signs the same text always alike."""
    return event.get("signature") == signer.sign(signed_text(event)).hex()


def is_signed_by(event: Event, verifier: Verifier) -> bool:
    """Whether a checkpoint was signed with the private half of this key."""
    try:
        signature = bytes.fromhex(str(event["signature"]))
    except ValueError:
        return False
    return verifier.is_signed(signature, signed_text(event))


def name_of_trail(file: str) -> str:
    """What a trail is called in its checkpoints: whose it is, and which."""
    is_path = file != "-" and "://" not in file
    return f"{os.uname().nodename}:{os.path.abspath(file) if is_path else file}"


def load_signer(file: str) -> Signer:
    """The private key of a PEM file (PKCS 8), as openssl makes one. Raises ConfigError."""
    try:
        # Imported here: 11 MiB and 17 ms that only who signs has to pay.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise _unusable(file, MISSING) from error
    try:
        key = load_pem_private_key(_read_file(file), None)
    except (ValueError, TypeError) as error:
        raise _unusable(file, "is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(file, "is no Ed25519 key")
    return Signer(_key_id(key.public_key().public_bytes_raw()), key.sign)


def load_verifier(file: str) -> Verifier:
    """The public key of a PEM file. Raises ConfigError."""
    try:
        # Imported here: only who checks signatures needs it.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise _unusable(file, MISSING) from error
    try:
        key = load_pem_public_key(_read_file(file))
    except ValueError as error:
        raise _unusable(file, "is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _unusable(file, "is no Ed25519 key")

    def is_signed(signature: bytes, text: bytes) -> bool:
        try:
            key.verify(signature, text)
        except InvalidSignature:
            return False
        return True

    return Verifier(_key_id(key.public_bytes_raw()), is_signed)


def _key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _read_file(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}") from error


def _read(line: bytes) -> Event:
    """A line as it was written by ourselves; empty for anything else."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _unusable(file: str, message: str) -> ConfigError:
    return ConfigError((Finding(file, 0, "", message),))
