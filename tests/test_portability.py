"""What the oldest Python that is promised does wrong is not used."""

import re
from pathlib import Path

import pytest

import sockproxy

PACKAGE = Path(sockproxy.__file__).parent


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_pattern_has_a_possessive_group(path: Path) -> None:
    # Before 3.11.5, `(...)*+` and its like give wrong matches where the group backtracks.
    code = "\n".join(
        line.split("  # ")[0] for line in path.read_text().splitlines() if not line.lstrip().startswith("#")
    )
    assert re.findall(r"(?<!\\)\)(?:[*+?]\+|\{\d+(?:,\d*)?\}\+)|\(\?>", code) == []
