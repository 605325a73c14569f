"""`sockproxy explain`: whether a policy lets a request pass, and why.

Owns how an answer is told; the answer itself is `asking`'s. Begin at `explain`. Ruled by: DESIGN, "The command line" (the
JSON object), and its exit codes: 0 allow, 1 deny.
"""

import re
from typing import IO

import click
import orjson

from sockproxy.judging.judge import IGNORED_BODY_BYTES
from sockproxy.judging.policy import Effect
from sockproxy.operating.cli import parameters, tables
from sockproxy.operating.cli.asking import Answer, ask
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.known import load_catalogue

_FACT = re.compile(r"[a-z_]+=.*", re.DOTALL)
_COLOURS = {Effect.ALLOW: "green", Effect.DENY: "red"}


@click.command(
    cls=parameters.ManyWords,
    many="--as",
    belongs=lambda word: _FACT.fullmatch(word) is not None,
    epilog=parameters.examples(
        "sockproxy explain POST /containers/web/pause",
        "sockproxy explain --policy readonly GET /v1.44/containers/web/export",
        "sockproxy explain --policy ./ci.yaml --as uid=1000 POST /containers/create",
        "sockproxy explain --format json GET /info",
    )
    + "\n\n\b\nExit codes: 0 allow, 1 deny, 2 wrong usage or an unreadable file.",
)
@click.option(
    "--policy",
    "-p",
    "policy_name",
    shell_complete=parameters.complete_policy,
    default=parameters.DEFAULT_POLICY,
    show_default=True,
    metavar="NAME|FILE",
    help="A built-in policy, or a file.",
)
@click.option("--body", type=click.File("rb"), metavar="FILE", help="The request's body; - is standard input.")
@click.option(
    "--as",
    "facts",
    multiple=True,
    metavar="K=V...",
    help=f"What is known of who asks. Keys: {', '.join(parameters.FACTS)}.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("method", shell_complete=parameters.complete_method)
@click.argument("target", shell_complete=parameters.complete_target)
def explain(
    policy_name: str, body: IO[bytes] | None, facts: tuple[str, ...], form: str, method: str, target: str
) -> int:
    """Say whether a policy lets the request METHOD TARGET pass, and why.

    The answer comes from the function that the running proxy enforces with. METHOD and TARGET are as on the wire:
    TARGET begins with a slash, with or without a version (/v1.44/info, /info).
    """
    has_body = body is not None and len(body.read()) > IGNORED_BODY_BYTES
    catalogue = load_catalogue()
    principal = parameters.parse_principal(facts)
    policy = parameters.load_policy(policy_name, catalogue)
    answer = ask(catalogue, policy, principal, method, target, has_body=has_body)
    if form == "json":
        click.echo(orjson.dumps(_as_object(answer)))
    else:
        click.echo("\n".join(_as_text(answer, method, body is not None)))
    return ExitCode.DONE if answer.effect is Effect.ALLOW else ExitCode.NO


def _as_object(answer: Answer) -> dict[str, object]:
    version = answer.target.version if answer.target else None
    return {
        "operation": answer.operation_id,
        "effect": answer.effect,
        "policy": answer.policy,
        "rule": answer.rule,
        "reason": answer.reason,
        "api_version": str(version) if version else None,
        "resource": {"kind": answer.classified.resource_kind, "name": answer.classified.resource_name},
    }


def _as_text(answer: Answer, method: str, has_body: bool) -> list[str]:
    """The answer in the first line, what it rests on below."""
    effect = click.style(f"{answer.effect:<5}", fg=_COLOURS[answer.effect], bold=True)
    because = f"rule {answer.rule}: {answer.reason}" if answer.rule else answer.reason
    if answer.shadow is Effect.DENY:
        because = f"only because of the mode shadow: {because}"
    grounds = _grounds(answer, method, has_body)
    return [
        f"{effect}  {answer.operation_id or 'unknown operation'}   {tables.printable(because)}",
        *(f"       {name:<9}  {tables.printable(value)}" for name, value in grounds if value),
    ]


def _grounds(answer: Answer, method: str, has_body: bool) -> list[tuple[str, str]]:
    operation, _, kind, name = answer.classified
    target = answer.target
    return [
        ("policy", answer.policy),
        ("mode", f"shadow: enforced, it would be {answer.shadow}" if answer.shadow else ""),
        ("api", str(target.version or "unversioned") if target else ""),
        ("access", f"{operation.access}, {operation.tag}" if operation else ""),
        ("resource", f"{kind} {name}".strip()),
        ("forwarded", f"{method} {target.canonical}" if target and answer.effect is Effect.ALLOW else ""),
        ("note", "methods are case-sensitive, as the engine has it" if method != method.upper() else ""),
        ("note", "no policy looks into bodies yet; of this one only counts that it is there" if has_body else ""),
    ]
