"""The key by which secrets are marked in a record: from its file, which is made where there is none.

Owns that file. Must not know what is marked (`redaction`). Begin at `load_key`. Whoever has the key can try out which value a
mark stands for, and nobody else; who has lost it can no more tell whether an old mark and a new one stand for the same.
"""

import os
import secrets

from sockproxy.errors import ConfigError, Finding

KEY_BYTES = 32
"""Of a new key: as long as what it makes, an HMAC-SHA256 (RFC 2104, 3: no less)."""

KEY_BYTES_MIN = 16
"""A file with less is a mistake: what is short can be tried out."""

_FILE_BYTES_MAX = 4096


def new_key() -> bytes:
    """A key for a process that keeps none."""
    return secrets.token_bytes(KEY_BYTES)


def load_key(file: str) -> bytes:
    """The key in a file, which is made, readable for its owner only, if there is none. Raises OSError, and ConfigError where
    the file is no key."""
    try:
        return _read(file)
    except FileNotFoundError:
        pass  # lawful: it is made now
    draft = f"{file}.{os.getpid()}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as stream:
            stream.write(f"{new_key().hex()}\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(draft, file)  # whole or not at all, and never over one that another worker has just made
    except FileExistsError:
        pass  # lawful: that one counts
    finally:
        os.unlink(draft)
    return _read(file)


def _read(file: str) -> bytes:
    with open(file, "rb") as stream:
        key = stream.read(_FILE_BYTES_MAX).strip()
    if len(key) < KEY_BYTES_MIN:
        raise ConfigError((Finding(file, 0, "", f"is no key: it has less than {KEY_BYTES_MIN} bytes"),))
    return key
