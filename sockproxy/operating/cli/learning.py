"""`sockproxy learn`: from a record to the policy that it needed.

Owns the options and what is said beside the policy. Which events count is `recording.learning`'s, what the file says is
`operating.learning`'s. Ruled by: DESIGN, "The command line".
"""

from contextlib import closing

import click

from sockproxy.data import builtin_policy_names
from sockproxy.judging.policy import UNKNOWN_SELECTOR
from sockproxy.operating.cli import parameters, querying
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config.wording import quoted
from sockproxy.operating.known import load_catalogue, load_known_bodies
from sockproxy.operating.learning import DEFAULT_NAME, learnt_policy
from sockproxy.operating.querying import Archive, needs_archive
from sockproxy.recording import trail
from sockproxy.recording.learning import Learner
from sockproxy.recording.needs import can_require


@click.command(
    epilog=parameters.examples(
        "sockproxy learn audit.jsonl.2.gz audit.jsonl.1 audit.jsonl > learnt.yaml",
        "sockproxy learn --requirements audit.jsonl > learnt.yaml",
        "sockproxy learn --against readonly --name dashboards audit.jsonl",
        "sockproxy audit show --format json --operation ImageList audit.jsonl |\n    sockproxy learn --filtered -",
    )
    + "\n\n\b\nExit codes: 0 the policy allows what was recorded (with --against: P does),\n"
    "1 it does not, or the record is broken, 2 wrong usage or an unreadable file."
)
@click.option(
    "--against",
    metavar="P",
    shell_complete=parameters.complete_policy,
    help="Print only what the policy P (built-in, or a file) lacks; exit code 1 if it lacks something.",
)
@click.option(
    "--name",
    type=parameters.parse_policy_name,
    default=DEFAULT_NAME,
    show_default=True,
    metavar="NAME",
    help="What the policy is called.",
)
@click.option("--denied", is_flag=True, help="Learn what was denied, too. Without it only what passed counts.")
@click.option("--unknown", is_flag=True, help="Allow what sockproxy does not know (@unknown), if that was asked for.")
@click.option(
    "--requirements",
    is_flag=True,
    help="Require what was seen, too: images, host paths, networks, capabilities, pod security. For records of level Request.",
)
@click.option("--filtered", is_flag=True, help="The record was filtered: do not check its chain.")
@querying.archive
@querying.memory
@querying.threads
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="AUDIT...",
    type=click.Path(),
    callback=lambda _context, _parameter, names: parameters.trail_files(names),
)
def learn(
    files: tuple[str, ...],
    against: str | None,
    name: str,
    denied: bool,
    unknown: bool,
    requirements: bool,
    filtered: bool,
    archive: bool,
    memory: str,
    threads: int | None,
) -> int:
    """Write the smallest policy that allows what was recorded.

    What passed counts, under shadow also what would have been denied. Files are audit trails in any order; - is
    standard input, *.gz is unpacked. The chain of each is checked, from wherever it begins; not that of what is read by
    DuckDB, which are directories and patterns of trails or of what `audit export` wrote, and URLs.
    """
    if name == against:
        raise click.UsageError(f"a policy of the name {quoted(name)} would extend itself: give it another by --name")
    catalogue = load_catalogue()
    policy = parameters.load_policy(against, catalogue) if against is not None else None
    looks_inside = requirements or (policy is not None and policy.looks_inside)
    bodies = load_known_bodies() if looks_inside else None
    learner = Learner(catalogue, policy, with_denied=denied, bodies=bodies)
    if archive or any(map(needs_archive, files)):
        with closing(Archive(files, memory=memory, threads=threads)) as opened:
            for alike in opened.alike(in_all=looks_inside):
                learner.add_alike(alike)
    else:
        for event in trail.read_events(files) if filtered else trail.read_verified(files):
            learner.add(event)
    _note(learner, unknown)
    if against is not None and not learner.sightings and not learner.lacks_version:
        click.echo(f"# {against} allows all of the {learner.seen.times} requests that were recorded.")
        return ExitCode.DONE
    extends = (against,) if against in builtin_policy_names() else ()
    text = learnt_policy(learner, name, extends=extends, with_unknown=unknown, with_requirements=requirements)
    click.echo(text, nl=False)
    is_enough = unknown or UNKNOWN_SELECTOR not in learner.sightings
    if requirements and _note_missing_bodies(learner):
        is_enough = False
    return ExitCode.DONE if is_enough and against is None else ExitCode.NO


def _note(learner: Learner, with_unknown: bool) -> None:
    """What is not in the policy, on standard error."""
    if not learner.seen.times:
        click.echo("sockproxy: there is nothing in the record to learn from", err=True)
    if learner.left_out:
        click.echo(
            f"sockproxy: left out what was denied, {_times(learner.left_out)}; --denied learns it, too", err=True
        )
    unknown = learner.sightings.get(UNKNOWN_SELECTOR)
    if unknown is not None and not with_unknown:
        click.echo(
            f"sockproxy: left out what sockproxy does not know, {_times(unknown.times)}; --unknown allows all of that kind",
            err=True,
        )
    for operation_id, rule in learner.forbidden.items():
        click.echo(f"sockproxy: {operation_id} is denied by {rule}, whatever allows it", err=True)


def _note_missing_bodies(learner: Learner) -> bool:
    """Names the operations of which nothing can be required; whether there are some."""
    lacking = {name: one.needs.without_body for name, one in learner.sightings.items() if can_require(name)}
    missing = {name: number for name, number in lacking.items() if number}
    for name, number in missing.items():
        click.echo(
            f"sockproxy: nothing is required of {name}: a body is not in the record, {_times(number)}; record at level Request",
            err=True,
        )
    return bool(missing)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
