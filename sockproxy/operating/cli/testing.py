"""`sockproxy test`: do policies say what their tests expect.

Owns how a difference is told; the file is `operating.config.testfile`'s, the answers are `asking`'s. Ruled by: DESIGN, "The
command line", and the form of a finding.
"""

from typing import Any, NamedTuple

import click
import orjson

from sockproxy.errors import ConfigError, Finding
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.policy import UNKNOWN_SELECTOR
from sockproxy.operating.cli import parameters
from sockproxy.operating.cli.asking import ask, shadow_note
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config.testfile import PolicyTest, PolicyTests, load_tests
from sockproxy.operating.known import load_catalogue


class Outcome(NamedTuple):
    """What came of a test. `actual` has all that can be expected."""

    test: PolicyTest
    actual: dict[str, str]

    @property
    def differences(self) -> list[str]:
        """What is not as expected, a part of a sentence each."""
        return [
            f"expected {key} {_shown(expected)}, got {_shown(self.actual[key])}"
            for key, expected in self.test.expected.items()
            if self.actual[key] != expected
        ]


@click.command(
    "test",
    epilog=parameters.examples("sockproxy test ci.test.yaml", "sockproxy test --format json policies/tests/*.yaml")
    + "\n\n\b\nExit codes: 0 all is as expected, 1 something is not, or a file is wrong,\n2 a file cannot be read.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
def test(files: tuple[str, ...], form: str) -> int:
    """Run the tests of policies: requests, and what is expected of them.

    \b
      version: 1
      policy: ci.yaml
      tests:
        - name: builds start containers
          request: POST /v1.41/containers/web/start
          as: {uid: 1000}
          expect: allow

    A test may also say which operation, rule and reason it expects, in the words of explain. Expected is what the
    rules say, also of a policy in mode shadow.
    """
    code = ExitCode.DONE
    catalogue = load_catalogue()
    told: list[dict[str, Any]] = []
    for file in files:
        try:
            tests = load_tests(file, catalogue)
        except ConfigError as error:
            click.echo(str(error), err=True)
            code = max(code, ExitCode.USAGE if isinstance(error.__cause__, OSError) else ExitCode.NO)
            continue
        outcomes = [_run(tests, one, catalogue) for one in tests.tests]
        failed = sum(bool(one.differences) for one in outcomes)
        code = max(code, ExitCode.NO if failed else ExitCode.DONE)
        told.append(_as_object(tests, outcomes))
        if form == "text":
            _tell(tests, outcomes, failed)
    if form == "json":
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    return code


def _run(tests: PolicyTests, test: PolicyTest, catalogue: Catalogue) -> Outcome:
    answer = ask(catalogue, tests.policy, test.principal, test.method, test.target, body=test.body, found=test.found)
    return Outcome(
        test,
        {
            "effect": answer.verdict,
            "operation": answer.operation_id or UNKNOWN_SELECTOR,
            "rule": answer.rule,
            "reason": answer.reason,
        },
    )


def _tell(tests: PolicyTests, outcomes: list[Outcome], failed: int) -> None:
    if note := shadow_note(tests.policy.name, tests.policy):
        click.echo(note, err=True)
    for outcome in outcomes:
        test, actual = outcome
        if differences := outcome.differences:
            because = f"rule {actual['rule']}: {actual['reason']}" if actual["rule"] else actual["reason"]
            message = f"{'; '.join(differences)} ({because})"
            click.echo(str(Finding(tests.file, test.line, test.name, message)), err=True)
    passed = len(outcomes) - failed
    click.echo(f"{tests.file}: {passed} passed" + f", {failed} failed" * bool(failed))


def _as_object(tests: PolicyTests, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "file": tests.file,
        "policy": tests.policy.name,
        "policy_revision": tests.policy.revision,
        "tests": [
            {
                "name": one.test.name,
                "line": one.test.line,
                "passed": not one.differences,
                "expected": dict(one.test.expected),
                "actual": one.actual,
            }
            for one in outcomes
        ],
    }


def _shown(value: str) -> str:
    return f'"{value}"' if " " in value else str(value) or "none"
