"""`sockproxy import`: from the settings of another proxy to a policy file.

Owns the reading and what is said beside the policy. What settings mean is `operating.migration`'s. Ruled by: DESIGN, "The
command line".
"""

import click

from sockproxy.judging.versions import ANY_API_VERSION
from sockproxy.operating.cli import parameters
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config.files import FILE_BYTES_MAX
from sockproxy.operating.config.writing import policy_file
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.migration import PROXIES, migrate, read_settings

STANDARD_INPUT = "standard input"


@click.command(
    "import",
    epilog=parameters.examples(
        "sockproxy import tecnativa proxy.env > policy.yaml",
        "docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' NAME |\n    sockproxy import linuxserver -",
    )
    + "\n\n\b\nExit codes: 0 the policy allows what the settings did, 1 not all of it, or a\n"
    "line is no setting, 2 wrong usage or an unreadable file.",
)
@click.option(
    "--name",
    type=parameters.parse_policy_name,
    metavar="NAME",
    help="What the policy is called. [default: the proxy's name]",
)
@click.argument("proxy", type=click.Choice(list(PROXIES)))
@click.argument("file", type=click.Path(), default="-", metavar="[FILE]")
def import_(proxy: str, file: str, name: str | None) -> int:
    """Write the policy that allows the operations which the settings of another socket proxy allow.

    The settings are lines of the form NAME=value, or as they stand in a Compose file; without FILE they come from
    standard input. Comments say where they let through more than their names tell; what has no effect, and what there
    is no such setting for, is told on standard error.
    """
    settings = read_settings(_read(file), STANDARD_INPUT if file == "-" else file)
    migration = migrate(PROXIES[proxy], settings, load_catalogue())
    head = [
        f"The operations that {proxy} allows with {' '.join(f'{one}=1' for one in migration.settings) or 'nothing on'}.",
        "Operations are named one by one. What was allowed because its path looked like one of these, without being an "
        "operation of the engine, is denied here.",
    ]
    text = policy_file(name or proxy, head=head, allow=migration.rules, api_versions=ANY_API_VERSION)
    click.echo(text, nl=False)
    for note in migration.notes:
        click.echo(f"sockproxy: {note}", err=True)
    return ExitCode.DONE if migration.is_whole else ExitCode.NO


def _read(file: str) -> str:
    with click.open_file(file, "rb") as stream:
        raw: bytes = stream.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise click.UsageError(f"{file} is larger than {FILE_BYTES_MAX >> 20} MiB: no settings")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is no UTF-8 text") from error
