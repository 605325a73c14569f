"""What an engine is said to have, in a file: findings for `explain` and `test`, which ask no engine.

Owns the form. Must not know who reads it. Begin at `read_findings`. JSON, kind by kind and name by name, with what the engine
shows when it is asked for the object, or null where it has none:

    {"container": {"web": {"Id": "...", "Config": {"Labels": {"owner": "ci"}}}}, "volume": {"data": null}}
"""

from typing import Any, get_args

import orjson

from sockproxy.judging.requirements.facts import Finding, Findings, Question, QuestionKind
from sockproxy.operating.config.wording import did_you_mean, quoted

KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)


def read_findings(text: str | bytes) -> Findings:
    """The findings. Raises ValueError, with a text for people, for what is none."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError("expected an object with the kinds of what was found")
    found: dict[Question, Finding] = {}
    for kind, named in given.items():
        if kind not in KINDS:
            raise ValueError(f"no kind {quoted(kind)}{did_you_mean(kind, KINDS)}; there are {', '.join(KINDS)}")
        if not isinstance(named, dict):
            raise ValueError(f"{kind}: expected an object with names")
        found |= {Question(kind, name): _finding(kind, name, value) for name, value in named.items()}
    return found


def _finding(kind: str, name: str, value: Any) -> Finding:
    if value is None:
        return Finding(absent=f"No such {kind}: {name}")
    if not isinstance(value, dict):
        raise ValueError(f"{kind}: {quoted(name)}: expected what the engine shows of it, or null")
    return Finding(value)
