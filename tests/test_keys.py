"""The key of the marks: made once, for its owner only, and the same for all who come later."""

import os
import stat
from pathlib import Path

import pytest

from sockproxy.errors import ConfigError
from sockproxy.operating.config import load_config
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.service import load_audit_key
from sockproxy.recording.keys import KEY_BYTES_MIN, load_key


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "key"
    key = load_key(str(file))
    assert load_key(str(file)) == key == file.read_bytes().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    assert load_key(str(tmp_path / "other")) != key


def test_what_is_too_short_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"k" * (KEY_BYTES_MIN - 1) + b"\n")
    with pytest.raises(ConfigError, match="is no key"):
        load_key(str(file))


# (what the configuration says, which file there is then)
CHOICES = [
    ("audit: [{file: a.jsonl}]", "a.key"),
    ("audit: [{file: '-'}, {file: a.jsonl}]", "a.key"),
    ("audit: [{file: a.jsonl}]\naudit_key: k", "k"),
    ("audit: [{file: '-'}]", None),
    ("audit: [{file: pipe}]", None),
    ("audit: [{file: none/a.jsonl}]", None),
    ("", None),
]


@pytest.mark.parametrize(("keys", "made"), CHOICES)
def test_where_it_is_kept(tmp_path: Path, keys: str, made: str | None) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = tmp_path / "sockproxy.yaml"
    file.write_text(f"version: 1\nlisteners: [{{address: /a, policy: readonly}}]\n{keys}\n")
    config = load_config(str(file), load_catalogue())
    keys_read = {load_audit_key(config), load_audit_key(config)}
    assert len(keys_read) == (1 if made else 2)  # without a file each process makes its own
    assert {entry.name for entry in tmp_path.iterdir()} - {"pipe", "sockproxy.yaml"} == ({made} if made else set())


def test_one_that_was_asked_for_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "sockproxy.yaml"
    file.write_text("version: 1\nlisteners: [{address: /a, policy: readonly}]\naudit_key: none/k\n")
    with pytest.raises(OSError, match="none/k"):
        load_audit_key(load_config(str(file), load_catalogue()))
