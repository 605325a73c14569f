"""What two runs of the same command print, made comparable: names, ids, times and sizes become words."""

import re

VARYING = (
    (re.compile(r"docker-import-\d+"), "FOLDER"),
    (re.compile(r"sha256:[0-9a-f]{12,64}|\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"\b(Less than a second|About a minute|\d+ (milli)?seconds?)( ago)?"), "AGE"),
    (re.compile(r"\b\d{10}(\.\d+)?\b"), "EPOCH"),
    (re.compile(r"\b\d+(\.\d+)?(B|kB|MB|GB|MiB|KiB|s|ms)\b"), "SIZE"),
    # printed or not, as the client's own threads happen to run
    (re.compile(r'time="TIME" level=error msg="error waiting for container: context canceled"\n'), ""),
    (re.compile(r"SWMTKN-\S+"), "TOKEN"),
    (re.compile(r"\b[0-9a-z]{25}\b"), "NODE"),
)


def tidied(raw: bytes, name: str) -> str:
    """The text without what differs from run to run; `name` is what this run called its things."""
    text = raw.decode(errors="replace").replace(name, "NAME")
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text
