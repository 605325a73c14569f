"""Commands that end as no command should, for the tests of the border at which exceptions become exit codes."""

import click

from sockproxy.errors import ConfigError, Finding

_FINDING = Finding("a.yaml", 3, "policies.ci", "is wrong")


@click.command()
def fault() -> None:
    raise KeyError("a fault\nof ours")


@click.command()
def interrupt() -> None:
    raise KeyboardInterrupt


@click.command()
def taken() -> None:
    raise OSError(98, "Address already in use", "/run/sockproxy/docker.sock")


@click.command()
def nameless() -> None:
    raise OSError("the engine's socket is no socket")


@click.command()
def wrong() -> None:
    raise ConfigError((_FINDING, _FINDING._replace(line=4)))


@click.command()
def unreadable() -> None:
    raise ConfigError((_FINDING,)) from PermissionError(13, "Permission denied")


@click.command()
def quiet() -> None:
    """Ends without an exit code."""
