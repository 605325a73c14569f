"""Processes of which coverage must not know: it would import and count much that is its own."""

import os


def uncovered_environment() -> dict[str, str]:
    """The environment without the variables by which coverage follows children."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_CORE_"))}
