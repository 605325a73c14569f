"""The command `sockproxy`: its sub-commands as a table, and the border at which errors become lines and exit codes.

Must not know what a command does: a command is a function that returns its exit code, in a module
that is imported when the command is asked for, so that `explain` never waits for what only `serve` needs.
Begin at `main`.
"""

import importlib
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from sockproxy import __version__
from sockproxy.errors import ConfigError
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.cli.tables import printable_lines

COMMANDS = {  # name -> (its module and its name there, the line in `sockproxy --help`)
    "serve": ("sockproxy.operating.cli.running:serve", "Run the proxy in front of a Docker engine."),
    "check": ("sockproxy.operating.cli.checking:check", "Validate configuration files; name every error at once."),
    "explain": ("sockproxy.operating.cli.explaining:explain", "Say whether a policy lets a request pass, and why."),
    "test": ("sockproxy.operating.cli.testing:test", "Run the tests of policies."),
    "matrix": ("sockproxy.operating.cli.comparing:matrix", "Show all operations against policies."),
    "diff": ("sockproxy.operating.cli.comparing:diff", "Show what one policy allows that another does not."),
    "versions": ("sockproxy.operating.cli.comparing:versions", "List Docker releases with their API versions."),
    "learn": (
        "sockproxy.operating.cli.learning:learn",
        "Write the smallest policy that allows what was recorded.",
    ),
    "import": (
        "sockproxy.operating.cli.importing:import_",
        "Turn the settings of another socket proxy into a policy.",
    ),
    "audit": ("sockproxy.operating.cli.audit:audit", "Verify, read, count and query audit trails."),
    "schema": ("sockproxy.operating.cli.checking:schema", "Print the JSON Schema of the configuration, for editors."),
    "demo": ("sockproxy.operating.cli.running:demo", "Try it out: an embedded engine with the proxy in front."),
}


class Root(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, _, name = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            # Imported here: it brings YAML and the policies along, which `sockproxy --help` need not wait for.
            from sockproxy.operating.config.wording import did_you_mean, quoted

            ctx.fail(f"no command {quoted(name)}{did_you_mean(name, self.table)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(n, help=line) for n, (_, line) in self.table.items() if n.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """The exit code of a command, if it has one."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()  # else a closed pipe shows only when the interpreter ends, as a traceback
        except BrokenPipeError:  # here and not at the border: click's `main` would make an exit code 1 of it
            _forget_output()
            return ExitCode.PIPE_CLOSED
        return code

    def main(  # type: ignore[override]  # click's own never returns either when it ends the process
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Runs a command line and ends the process with its exit code."""
        extra["standalone_mode"] = False  # click's own border knows neither our errors nor our exit codes
        if os.environ.get("NO_COLOR"):
            extra["color"] = False
        sys.exit(self._run_within_border(args, prog_name or "sockproxy", extra))

    def _run_within_border(self, args: Sequence[str] | None, prog_name: str, extra: dict[str, Any]) -> int:
        """The exit code. All exceptions end here: nobody is shown a traceback."""
        try:
            code = super().main(args, prog_name, **extra)
        except click.UsageError as error:
            click.echo(_usage(error), err=True)
            return ExitCode.USAGE
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except ConfigError as error:
            click.echo(printable_lines(str(error)), err=True)
            return ExitCode.USAGE if isinstance(error.__cause__, OSError) else ExitCode.NO
        except (KeyboardInterrupt, click.Abort):
            return ExitCode.INTERRUPTED
        except OSError as error:
            click.echo(printable_lines(f"sockproxy: {_one_line(error)}"), err=True)
            return ExitCode.USAGE
        except Exception as error:  # noqa: BLE001  # the last border: a fault of ours, told in a line with its place
            click.echo(printable_lines(f"sockproxy: a fault of its own: {_fault(error)}"), err=True)
            return ExitCode.FAULT
        return code if isinstance(code, int) else ExitCode.DONE


def _usage(error: click.UsageError) -> str:
    if error.ctx is None or isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    command = error.ctx.command_path
    return f"{command}: {error.format_message()}\n{command} --help tells how it is used."


def _forget_output() -> None:
    # The interpreter flushes standard output once more when it ends, and would print what comes of it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def _fault(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({os.path.basename(place.filename)}:{place.lineno})"


@click.group(
    "sockproxy",
    cls=Root,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
\b
Examples:
  sockproxy serve --policy readonly --listen tcp://127.0.0.1:2375
  sockproxy explain POST /containers/web/pause
  sockproxy diff kubernetes-1.3 kubernetes-1.4

\b
Exit codes: 0 done; 1 the answer is no (denied, different, invalid,
broken chain); 2 wrong usage or a file that cannot be read.

\b
Completion of commands, policies and operations (bash; zsh, fish alike):
  eval "$(_SOCKPROXY_COMPLETE=bash_source sockproxy)"
""",
)
@click.version_option(__version__, prog_name="sockproxy", message="%(prog)s %(version)s")
def root() -> None:
    """A reverse proxy in front of the Docker Engine's socket.

    It names every request by the Engine API operation that it is, decides it by a policy, forwards exactly what it
    judged, and leaves a metric and an audit record of everything.
    """


def main() -> NoReturn:
    """The entry point of the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that cannot be encoded is shown, and no fault of ours.
            stream.reconfigure(errors="backslashreplace")
    root.main()
