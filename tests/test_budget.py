"""What a request costs stays within what was recorded, in tests/cases/budget.json: system calls and Python instructions.

They are counted of a real proxy process (`budget`), one request at a time, so that they are the same on a machine that is
slow or busy. What becomes dearer fails here; what becomes much cheaper as well, so that the budget follows. To make what
is counted now the budget: `python -m tests.budget --record`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .budget import BUDGET, WAYS
from .uncovered import uncovered_environment

ROOT = Path(__file__).parent.parent
BUDGETED: dict[str, Any] = json.loads(BUDGET.read_text(encoding="utf-8"))
BELOW_MAX = 0.25  # a count that is lower by more than this lowers the budget
SPARE = 0.01  # of instructions: other versions of the libraries; system calls are counted exactly
RECORD = "python -m tests.budget --record"
COUNT_SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    """All counts, made by a process of its own: coverage in this one, and in its children, would be counted, too."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.budget"],
        cwd=ROOT,
        env=uncovered_environment(),
        capture_output=True,
        text=True,
        timeout=COUNT_SECONDS_MAX,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    counts: dict[str, Any] = json.loads(told.stdout)
    return counts


@pytest.mark.parametrize("way", WAYS)
def test_system_calls(counted: dict[str, Any], way: str) -> None:
    if reason := counted["not_traced"]:
        if os.environ.get("CI") or os.environ.get("SOCKPROXY_REQUIRE_ENGINE") == "1":
            pytest.fail(f"system calls have to be counted here: {reason}", pytrace=False)
        pytest.skip(f"system calls cannot be counted: {reason}")
    now, budgeted = counted["system_calls"][way], BUDGETED["system_calls"][way]
    finding = compare(sum(now.values()), sum(budgeted.values()), 0.0)
    assert not finding, f"{way}: {finding}: {differences(now, budgeted)}; {RECORD}"


@pytest.mark.parametrize("way", WAYS)
def test_instructions(counted: dict[str, Any], way: str) -> None:
    if counted["python"] != BUDGETED["python"]:
        pytest.skip(f"instructions are budgeted for Python {BUDGETED['python']}, this is {counted['python']}")
    finding = compare(counted["instructions"][way], BUDGETED["instructions"][way], SPARE)
    assert not finding, f"{way}: {finding}; {RECORD}"


@pytest.mark.parametrize(
    ("now", "budgeted", "spare", "finding"),
    [
        (9, 9, 0.0, ""),
        (10, 9, 0.0, "10 is above the budget of 9"),
        (1010, 1000, 0.01, ""),
        (1011, 1000, 0.01, "1011 is above the budget of 1000"),
        (9, 12, 0.0, ""),
        (8, 12, 0.0, "8 is far below the budget of 12, which should be lowered"),
    ],
)
def test_what_is_found(now: int, budgeted: int, spare: float, finding: str) -> None:
    assert compare(now, budgeted, spare) == finding


def compare(now: int, budgeted: int, spare: float) -> str:
    """What is wrong with a count, if anything."""
    if now > budgeted * (1 + spare):
        return f"{now} is above the budget of {budgeted}"
    if now < budgeted * (1 - BELOW_MAX):
        return f"{now} is far below the budget of {budgeted}, which should be lowered"
    return ""


def differences(now: dict[str, int], budgeted: dict[str, int]) -> str:
    """The system calls that are more or fewer, as `write +1`."""
    more = {call: now.get(call, 0) - budgeted.get(call, 0) for call in sorted({*now, *budgeted})}
    return ", ".join(f"{call} {count:+}" for call, count in more.items() if count)
