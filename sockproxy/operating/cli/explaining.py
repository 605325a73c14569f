"""`sockproxy explain`: whether a policy lets a request pass, and why.

Owns how an answer is told, and which request is meant: one that is typed, or one that was recorded. The answer itself is
`asking`'s, which policy is asked `choosing`'s, which rules were tried is `judging.trial`'s. Begin at `explain`. Ruled by:
DESIGN, "The command line" (the JSON object), and its exit codes: 0 allow, 1 deny.
"""

import glob
import re
from collections.abc import Sequence
from typing import IO, NamedTuple

import click
from click.shell_completion import CompletionItem

from sockproxy.data import load_secrets
from sockproxy.judging.catalogue import UNKNOWN, Catalogue, Target
from sockproxy.judging.identity import Principal, identify
from sockproxy.judging.judge import IGNORED_BODY_BYTES
from sockproxy.judging.policy import Effect, Policy, ask_rule
from sockproxy.judging.requirements.facts import NOTHING_FOUND, Findings
from sockproxy.judging.requirements.facts import Question as Ask
from sockproxy.judging.trial import Trial, try_rules
from sockproxy.operating.cli import parameters, tables
from sockproxy.operating.cli.asking import BAD_REQUEST, Answer, ask
from sockproxy.operating.cli.choosing import Choice, choose, choose_recorded
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config import Config, load_config
from sockproxy.operating.config.found import read_findings
from sockproxy.operating.config.wording import quoted
from sockproxy.operating.known import load_catalogue
from sockproxy.recording import trail
from sockproxy.recording.event import Event
from sockproxy.recording.learning import has_body
from sockproxy.recording.recorded import body_of, opaque
from sockproxy.recording.redaction import Redactor, hide_all

_FACT = re.compile(r"[a-z_]+=.*", re.DOTALL)
_COLOURS = {Effect.ALLOW: "green", Effect.DENY: "red"}


class Question(NamedTuple):
    """A request, as it is asked about. `recorded`: the event that it was found in. `client`: which of a
    listener's clients asks, for people."""

    method: str
    raw_target: str
    principal: Principal
    has_body: bool
    body: bytes | None = None
    recorded: Event | None = None
    client: str = ""
    found: Findings = NOTHING_FOUND


def complete_words(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """A method, then a target; files behind --audit."""
    words = context.params.get("words") or ()
    if context.params.get("exchange_id") is not None:
        return [CompletionItem(begun, type="file")]
    if not words:
        return parameters.complete_method(context, parameter, begun)
    return parameters.complete_target(words[0], begun) if len(words) == 1 else []


@click.command(
    cls=parameters.ManyWords,
    many="--as",
    belongs=lambda word: _FACT.fullmatch(word) is not None,
    epilog=parameters.examples(
        "sockproxy explain POST /containers/web/pause",
        "sockproxy explain --policy readonly GET /v1.44/containers/web/export",
        "sockproxy explain --policy ./ci.yaml --as uid=1000 POST /containers/create",
        "sockproxy explain --config ./all.yaml --as tls_subject=CN=ci-7 GET /info",
        "sockproxy explain --policy ./ci.yaml --audit 01f3a9-42 audit.jsonl",
        "sockproxy explain --format json GET /info",
    )
    + "\n\n\b\nExit codes: 0 allow, 1 deny, 2 wrong usage or an unreadable file.",
)
@click.option(
    "--policy",
    "-p",
    "policy_name",
    shell_complete=parameters.complete_policy,
    metavar="NAME|FILE",
    help=f"A built-in policy, one of --config, or a file. [default: {parameters.DEFAULT_POLICY}; with --audit the "
    "recorded one, if it is built in or of --config]",
)
@click.option(
    "--config",
    "-c",
    "config_file",
    metavar="FILE",
    help="A configuration: without --policy, whoever asks meets the policy that its listener has for them.",
)
@click.option("--listener", "listener", metavar="NAME|URL", help="Which listener of --config, where it has several.")
@click.option("--body", type=click.File("rb"), metavar="FILE", help="The request's body; - is standard input.")
@click.option(
    "--found",
    type=click.File("rb"),
    metavar="FILE",
    help='What the engine has, where a rule asks for it: JSON as {"container": {"web": {...}}}, with what it shows of each '
    "object, or null.",
)
@click.option(
    "--as",
    "facts",
    multiple=True,
    metavar="K=V...",
    help=f"What is known of who asks, behind blanks or commas. Keys: {', '.join(parameters.FACTS)}.",
)
@click.option(
    "--audit",
    "exchange_id",
    metavar="ID",
    help="Ask about the recorded request of that id (Sockproxy-Request-Id), which is in the files AUDIT.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("words", nargs=-1, metavar="METHOD TARGET | AUDIT...", shell_complete=complete_words)
def explain(
    policy_name: str | None,
    config_file: str | None,
    listener: str | None,
    body: IO[bytes] | None,
    found: IO[bytes] | None,
    facts: tuple[str, ...],
    exchange_id: str | None,
    form: str,
    words: tuple[str, ...],
) -> int:
    """Say whether a policy lets the request METHOD TARGET pass, and why.

    The answer comes from the function that the running proxy enforces with. METHOD and TARGET are as on the wire:
    TARGET begins with a slash, with or without a version (/v1.44/info, /info). With --config it is also told which of
    the listener's clients who asks is. With --audit the request is one that was recorded in the files AUDIT, or in
    those that --config names, and the answer what the policy says of it now.
    """
    catalogue = load_catalogue()
    config = None if config_file is None else load_config(config_file, catalogue)
    if listener is not None and (config is None or policy_name is not None or exchange_id is not None):
        raise click.UsageError("--listener is for --config, and without --policy and --audit")
    if exchange_id is not None:
        if body is not None or facts:
            raise click.UsageError("--audit says it all: neither --as nor --body can stand beside it")
        event = _recorded(exchange_id, words or _trails_of(config))
        choice = choose_recorded(policy_name, config, event, catalogue)
        question = _asked_again(event, choice)
    else:
        method, target = _two(words)
        choice = choose(policy_name, config, listener, facts, catalogue)
        question = _typed(method, target, choice, body)
    if found is not None:
        question = question._replace(found=_findings(found))
    policy = choice.policy
    answer = _answer(question, policy, catalogue)
    if form == "json":
        click.echo(tables.json_text(_as_object(answer)))
    else:
        trials = try_rules(policy, answer.classified, answer.facts) if answer.is_read else []
        click.echo("\n".join([*_as_text(answer, question, trials), *_not_evaluated(answer, question, trials)]))
    return ExitCode.DONE if answer.effect is Effect.ALLOW else ExitCode.NO


def _two(words: Sequence[str]) -> Sequence[str]:
    if len(words) < 2:
        raise click.UsageError(f"Missing argument '{('METHOD', 'TARGET')[len(words)]}'.")
    if len(words) > 2:
        raise click.UsageError(f"Got unexpected extra argument ({words[2]})")
    return words


def _typed(method: str, target: str, choice: Choice, body: IO[bytes] | None) -> Question:
    sent = b"" if body is None else body.read()
    return Question(method, target, identify(choice.peer), len(sent) > IGNORED_BODY_BYTES, sent, client=choice.client)


def _findings(file: IO[bytes]) -> Findings:
    try:
        return read_findings(file.read())
    except ValueError as error:
        raise click.UsageError(f"--found: {error}") from error


def _asked_again(event: Event, choice: Choice) -> Question:
    # Where the record does not say what the body was, what is required of one is not met.
    body = body_of(event)
    is_body = has_body(event) if body is None else len(body) > IGNORED_BODY_BYTES
    return Question(
        str(event["method"]), str(event["target"]), identify(choice.peer), is_body, body, event, choice.client
    )


def _trails_of(config: Config | None) -> Sequence[str]:
    """The files that a configuration records in, those of all its workers."""
    names = [] if config is None else [one.file for one in config.audit if one.file != "-" and one.collector is None]
    return [file for name in names for file in (name, *sorted(glob.glob(f"{glob.escape(name)}.[0-9]*")))]


def _recorded(exchange_id: str, files: Sequence[str]) -> Event:
    if not files:
        raise click.UsageError("Missing argument 'AUDIT...'.")
    found: Event | None = None
    for event in trail.read_events(parameters.trail_files(files)):
        if event["id"] == exchange_id:
            found = event
            if event["stage"] == "completed":  # which knows of the body as well
                break
    if found is None:
        raise click.UsageError(f"no request {quoted(exchange_id)} in {', '.join(files)}")
    return found


def _answer(question: Question, policy: Policy, catalogue: Catalogue) -> Answer:
    method, raw_target, principal, is_body, body, recorded, _, found = question
    if recorded is not None and recorded["reason"] == BAD_REQUEST:
        reason = f"{BAD_REQUEST}: it could not be read, and no policy was asked"
        return Answer(Effect.DENY, None, UNKNOWN, policy.name, "", reason, None)
    return ask(catalogue, policy, principal, method, raw_target, has_body=is_body, body=body, found=found)


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


def _as_text(answer: Answer, question: Question, trials: Sequence[Trial]) -> list[str]:
    """The answer in the first line, what it rests on below."""
    effect = click.style(f"{answer.effect:<5}", fg=_COLOURS[answer.effect], bold=True)
    because = f"rule {answer.rule}: {answer.reason}" if answer.rule else answer.reason
    if answer.shadow is Effect.DENY:
        because = f"only because of shadow: {because}"
    grounds = [*_grounds(answer, question), *(("tried", f"{one.rule.name}: {one.why}") for one in trials)]
    return [
        f"{effect}  {answer.operation_id or 'unknown operation'}   {tables.printable(because)}",
        *(f"       {name:<9}  {tables.printable(value)}" for name, value in grounds if value),
    ]


def _not_evaluated(answer: Answer, question: Question, trials: Sequence[Trial]) -> list[str]:
    """What cannot be told of a recorded request."""
    event = question.recorded
    if event is None or answer.facts is None:
        return []
    asked = [one.rule for one in trials if answer.operation_id in one.rule.operations]
    unmet = [fails for rule in asked for fails in ask_rule(rule, answer.facts)]
    return [
        f"       note       {tables.printable(field)} is a mark in the record: what is required of it cannot be evaluated"
        for field in opaque(event, unmet)
    ]


def _grounds(answer: Answer, question: Question) -> list[tuple[str, str]]:
    operation, _, kind, name = answer.classified
    target, method = answer.target, question.method
    forwarded = f"{method} {_without_secrets(target)}" if target and answer.effect is Effect.ALLOW else ""
    note = (
        ""
        if answer.facts or not answer.is_read
        else "no rule that may decide looks into the body; it counts only that there is one"
    )
    return [
        ("recorded", _history(question.recorded) if question.recorded else ""),
        ("client", question.client),
        ("policy", answer.policy),
        ("shadow", f"enforced, it would be {answer.shadow}" if answer.shadow else ""),
        ("api", str(target.version or "unversioned") if target else ""),
        ("access", f"{operation.access}, {operation.tag}" if operation else ""),
        ("resource", f"{kind} {name}".strip()),
        ("forwarded", forwarded),
        ("note", "methods are case-sensitive, as the engine has it" if method != method.upper() else ""),
        ("note", note if question.has_body else ""),
        ("asks", f"the engine for {_told(answer.questions)}; answer it by --found FILE" if answer.questions else ""),
        ("note", f"links on the way of {', '.join(answer.assumed)} were not followed" if answer.assumed else ""),
    ]


def _told(questions: Sequence[Ask]) -> str:
    return ", ".join(map(str, questions))


def _without_secrets(target: Target) -> str:
    """A target without its secrets: what is printed may be kept."""
    return Redactor(load_secrets(), hide_all).target(target.canonical)


def _history(event: Event) -> str:
    """What was decided then."""
    rule = f"rule {event['rule']}: " if event["rule"] else ""
    would = f" (shadow: {event['shadow']})" if event["shadow"] else ""
    policy = f" by policy {event['policy']}" if event["policy"] else ""
    return f"{event['time']} {event['effect']}{would}{policy}: {rule}{event['reason']}; {trail.principal_of(event)}"
