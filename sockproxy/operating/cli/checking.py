"""`sockproxy check` and `schema`: what helps those who write configuration files.

Owns nothing but the telling: what is right or wrong is `operating.config`'s. Ruled by: DESIGN, "The command line", and the
form of a finding, `file:line: key: what is wrong; did you mean "X"?`.
"""

import click
import orjson

from sockproxy.errors import ConfigError
from sockproxy.operating.cli import parameters
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config import check_config, json_schema
from sockproxy.operating.known import load_catalogue


@click.command(
    epilog=parameters.examples("sockproxy check /etc/sockproxy/sockproxy.yaml", "sockproxy check policies/*.yaml")
    + "\n\n\b\nExit codes: 0 all are valid, 1 something is wrong, 2 a file cannot be read."
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
def check(files: tuple[str, ...]) -> int:
    """Validate configuration files.

    Every error of every file is told at once on standard error, one a line, with its place and the nearest right word. A
    file that is valid may get a warning or a note there, which change nothing.
    """
    code = ExitCode.DONE
    catalogue = load_catalogue()
    for file in files:
        try:
            advice = check_config(file, catalogue)
        except ConfigError as error:
            click.echo(str(error), err=True)
            code = max(code, ExitCode.USAGE if isinstance(error.__cause__, OSError) else ExitCode.NO)
        else:
            click.echo(f"{file}: valid")
            for one in advice:
                click.echo(str(one), err=True)
    return code


@click.command(epilog=parameters.examples("sockproxy schema > sockproxy.schema.json"))
def schema() -> int:
    """Print the JSON Schema of the configuration file, for editors.

    \b
    An editor with YAML support uses it after this first line of a file:
      # yaml-language-server: $schema=sockproxy.schema.json
    """
    click.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2))
    return ExitCode.DONE
