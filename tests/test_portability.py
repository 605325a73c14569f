"""What the oldest Python that is promised does wrong is not used."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import sockproxy

MODULES = sorted(
    found.name for found in pkgutil.walk_packages(sockproxy.__path__, "sockproxy.") if "__main__" not in found.name
)
ONE_CHARACTER = {"IN", "LITERAL", "NOT_LITERAL", "ANY"}


def possessive_groups(items: object) -> Iterator[str]:
    """The operations in a parsed pattern that give wrong matches before Python 3.11.5: possessive repeats of more than a
    single character, and atomic groups."""
    for operation, argument in items:  # type: ignore[attr-defined]  # the parser's trees have no types
        name = str(operation)
        if name == "ATOMIC_GROUP":
            yield name
        if name == "POSSESSIVE_REPEAT":
            repeated = [str(inner) for inner, _ in argument[2]]
            if len(repeated) != 1 or repeated[0] not in ONE_CHARACTER:
                yield name
        for part in argument if isinstance(argument, tuple | list) else [argument]:
            for branch in part if isinstance(part, list) else [part]:
                if isinstance(branch, re._parser.SubPattern):  # type: ignore[attr-defined]  # there is no public one
                    yield from possessive_groups(branch)


def test_they_are_found() -> None:
    parse = re._parser.parse  # type: ignore[attr-defined]
    assert list(possessive_groups(parse("(?:a|(b(?:cd)*+))?x++"))) == ["POSSESSIVE_REPEAT"]
    assert list(possessive_groups(parse("[(]*+a++(?>b)"))) == ["ATOMIC_GROUP"]


@pytest.mark.parametrize("name", MODULES)
def test_no_pattern_has_a_possessive_group(name: str) -> None:
    patterns = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, re.Pattern)]
    for pattern in patterns:
        flags = pattern.flags & ~re.UNICODE  # the parser adds it where it belongs
        tree = re._parser.parse(pattern.pattern, flags)  # type: ignore[attr-defined]
        assert list(possessive_groups(tree)) == [], pattern.pattern
