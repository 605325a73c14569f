"""`sockproxy serve` and `demo`: what runs until it is stopped.

Owns how options become a Config, and what they are where they are not given. Must not know how a proxy is composed
(`operating.app`) nor what the demo shows (`operating.demo`).
"""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import click

from sockproxy.errors import ConfigError
from sockproxy.judging.catalogue import Catalogue
from sockproxy.judging.compiling import in_shadow
from sockproxy.operating import logs
from sockproxy.operating.cli import parameters
from sockproxy.operating.cli.exits import ExitCode
from sockproxy.operating.config import Config, Files, config_from_options, load_config
from sockproxy.operating.known import load_catalogue
from sockproxy.operating.lean import load_lean
from sockproxy.operating.ports import ADMIN, is_taken

log = logging.getLogger("sockproxy")

SOCKET_OF_ROOT = "/run/sockproxy/docker.sock"
ENGINE_OF_ROOT = "unix:///var/run/docker.sock"
NOWHERE = "none"
COMMAND_LINE = "command line"
"""The file that findings about options name."""


@dataclass(frozen=True, slots=True)
class Single:
    """The options that say by themselves what a configuration file says otherwise. None or empty: not given."""

    listen: tuple[str, ...]
    engine: str | None
    policy: str | None
    admin: str | None
    audit: tuple[str, ...]
    insecure: bool = False

    def names(self) -> list[str]:
        """Those that were given, as they are typed."""
        return [f"--{name}" for name in self.__slots__ if getattr(self, name) not in (None, (), False)]


@click.command(
    epilog=parameters.examples(
        "sockproxy serve",
        "sockproxy serve --policy readonly --listen tcp://127.0.0.1:2375",
        "sockproxy serve --policy ./ci.yaml --audit /var/log/sockproxy/audit.jsonl",
        "sockproxy serve --config /etc/sockproxy/sockproxy.yaml",
        "sockproxy serve --learn learnt.yaml",
    )
    + "\n\n\b\nSIGTERM, SIGINT: finish what is in flight, then end.\n"
    "SIGHUP: read the policies anew, reopen audit files; what changes in\ntheir files is taken without it, too."
)
@click.option("--config", "-c", "file", metavar="FILE", help="All of it from a file; stands alone.")
@click.option(
    "--listen",
    "-l",
    multiple=True,
    metavar="URL",
    help="Where clients connect: unix:///path, tcp://host:port or systemd://name. "
    "[default: unix:///run/sockproxy/docker.sock, or in $XDG_RUNTIME_DIR]",
)
@click.option(
    "--engine", "-e", metavar="URL", help="The engine. [default: $DOCKER_HOST, or unix:///var/run/docker.sock]"
)
@click.option(
    "--policy",
    "-p",
    shell_complete=parameters.complete_policy,
    metavar="NAME|FILE",
    help=f"A built-in policy, or a file. [default: {parameters.DEFAULT_POLICY}]",
)
@click.option(
    "--admin",
    metavar="URL",
    help=f"Where metrics and health are; {NOWHERE}: nowhere. [default: {ADMIN}, if it is free]",
)
@click.option(
    "--audit",
    "-a",
    multiple=True,
    metavar="FILE",
    help="Where the record goes; - is standard output. [default: there is none]",
)
@click.option(
    "--insecure", is_flag=True, help="Plain tcp beyond loopback is meant: neither encrypted nor asked who it is."
)
@click.option(
    "--learn",
    metavar="FILE",
    help="Deny nothing, and write the smallest policy that allows what was asked for to FILE: every few seconds, on "
    "SIGHUP, and at the end.",
)
@click.option(
    "--no-watch", is_flag=True, help="Read the policies anew on SIGHUP only, and not when their files have changed."
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N", help="Processes.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="auto: text on a terminal, JSON elsewhere.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def serve(
    file: str | None,
    listen: tuple[str, ...],
    engine: str | None,
    policy: str | None,
    admin: str | None,
    audit: tuple[str, ...],
    insecure: bool,
    learn: str | None,
    no_watch: bool,
    workers: int,
    log_format: logs.LogFormat,
    log_level: str,
) -> int:
    """Run the proxy in front of a Docker engine, until it is told to stop.

    Without options it stands before the engine of this machine with the policy kubernetes-1.4. What a configuration
    file says and what the single options say are two ways to the same thing: give one or the other.
    """
    single = Single(listen, engine, policy, admin, audit, insecure)
    if file is not None and single.names():
        raise click.UsageError(f"--config says it all: {', '.join(single.names())} cannot stand beside it")
    is_without_admin = file is None and admin is None and is_taken()
    if is_without_admin:
        single = replace(single, admin=NOWHERE)
    if learn is not None and workers > 1:
        raise click.UsageError("--learn needs all requests in one process: --workers cannot stand beside it")
    environment = dict(os.environ)

    def load(files: Files) -> Config:
        if file is not None:
            config = load_config(file, load_catalogue(), files)
        else:
            config = from_options(single, environment, os.geteuid(), files)
        return config if learn is None else letting_pass(config, load_catalogue())

    files: Files = {}
    try:
        config = load(files)
    except ConfigError as error:
        if any(finding.file != COMMAND_LINE for finding in error.findings):
            raise
        click.echo(str(error), err=True)
        return ExitCode.USAGE
    logs.set_up(log_format, log_level)
    if is_without_admin:
        log.warning("admin-taken", extra={"address": ADMIN})
    # Imported here: uvloop, aiohttp and the metrics take half a second, and who mistyped an option should not wait.
    load_lean("sockproxy.operating.app")
    from sockproxy.operating.app import serve as serve_config

    try:
        return serve_config(config, load, workers=workers, learn=learn, files=None if no_watch else files)
    except LookupError as error:  # the owner or group of a socket is not on this machine
        raise click.UsageError(" ".join(map(str, error.args))) from error


@click.command(epilog=parameters.examples("sockproxy demo", "sockproxy demo --tour"))
@click.option("--tour", is_flag=True, help="A guided tour that ends by itself.")
def demo(tour: bool) -> int:
    """Try it out: an embedded engine with the proxy in front, without Docker and without root.

    It prints what to try and runs until Ctrl-C.
    """
    # Imported here, since aiohttp, in which the embedded engine is written, takes longer than all the rest.
    from sockproxy.operating.demo.tour import run_demo, run_tour

    logs.set_up("auto", "error" if tour else "warning")  # denials are part of the tour, and news in the demo
    return run_tour(click.echo) if tour else run_demo(click.echo, how_called(sys.argv[0]))


def from_options(single: Single, environment: Mapping[str, str], euid: int, files: Files | None = None) -> Config:
    """The configuration that the single options stand for, with what is usual where they say nothing."""
    admin = single.admin or ADMIN
    return config_from_options(
        load_catalogue(),
        listen=single.listen or (default_socket(environment, euid),),
        engine=single.engine or environment.get("DOCKER_HOST") or ENGINE_OF_ROOT,
        policy=single.policy or parameters.DEFAULT_POLICY,
        admin=None if admin == NOWHERE else admin,
        audit=single.audit,
        insecure=single.insecure,
        files=files,
    )


def default_socket(environment: Mapping[str, str], euid: int) -> str:
    """Where to listen if nobody said: as the system's service, or as an ordinary user beside the user's other sockets."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    path = (
        f"{runtime}{SOCKET_OF_ROOT.removeprefix('/run')}" if euid != 0 and runtime.startswith("/") else SOCKET_OF_ROOT
    )
    return f"unix://{path}"


def how_called(program: str) -> str:
    """What to type for this program, given its argv[0]."""
    if os.path.basename(program) != "sockproxy":
        return f"{sys.executable} -m sockproxy"
    # Imported here: it brings three kinds of compression along, which who serves need not have.
    import shutil

    found = shutil.which("sockproxy")
    return "sockproxy" if found is not None and os.path.samefile(found, program) else program


def letting_pass(config: Config, catalogue: Catalogue) -> Config:
    """The same configuration with every policy in mode shadow."""
    policies = {name: in_shadow(policy, catalogue) for name, policy in config.policies.items()}
    listeners = tuple(
        replace(one, clients=tuple(each._replace(policy=in_shadow(each.policy, catalogue)) for each in one.clients))
        for one in config.listeners
    )
    return replace(config, listeners=listeners, policies=policies)
