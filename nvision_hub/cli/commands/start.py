"""`start`: run the hub in the foreground, with a live table on a terminal and log lines otherwise."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from nvision_hub import __version__
from nvision_hub.cli.live_table import LiveTable, TerminalLog, head_lines
from nvision_hub.cli.options import (
    command,
    config_argument,
    log_options,
    only_option,
    select_cameras,
    subscribe_command,
)
from nvision_hub.cli.terminal import console, plural
from nvision_hub.cluster.identity import HubIdentity
from nvision_hub.errors import EXIT_INTERRUPTED, EXIT_OK, HubError, UnavailableError
from nvision_hub.hub import run
from nvision_hub.hub.resolver import Resolver
from nvision_hub.hub.secret_variables import secret_variables
from nvision_hub.logs.setup import set_up
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from nvision_hub.config.models import Config
    from nvision_hub.hub.active_config import ActiveConfig
    from nvision_hub.hub.composition import PublicPlan
    from nvision_hub.hub.runtime_overrides import Overrides
    from nvision_hub.logs.formatters import LogFormat

log = logging.getLogger("nvision_hub.cli")


@command(
    "nvision-hub start",
    "nvision-hub start cameras.yaml --only lobby --only gate",
    "nvision-hub start /etc/nvision-hub/cameras.yaml 2>> hub.log",
    "nvision-hub start --engine ray --address 10.0.0.5:6379",
)
@config_argument
@only_option
@log_options
@click.option("--engine", type=click.Choice(["ray"]), help="Run the cameras on a Ray cluster; see docs/distributed.md.")
@click.option("--address", metavar="HOST:PORT", help="Address of the Ray cluster.  [default: this machine's]")
@click.option("--insecure-cluster", is_flag=True, help="Allow a Ray cluster without authentication.")
@click.option("--drain", is_flag=True, help="Stop the hub on the Ray cluster, and wait until it sends no more frames.")
def start(
    config_path: Path,
    only: tuple[str, ...],
    log_level: int,
    log_format: LogFormat,
    *,
    engine: str | None,
    address: str | None,
    insecure_cluster: bool,
    drain: bool,
) -> int:
    """Run the hub with the cameras in CONFIG (cameras.yaml), until Ctrl-C or SIGTERM.

    On a terminal, a live table shows the state, rates and last result of each camera. Otherwise, the hub writes log
    lines to stderr.

    \b
    in/s   frames per second that the camera sends
    out/s  frames per second sent to the service
    drops  frames not sent, such as frames replaced by a newer one
    age    time since the last frame was captured
    """  # noqa: D301 - \b keeps the line breaks of the list
    if engine is not None:
        if only:
            raise click.UsageError("--only cannot be used with --engine, which runs all cameras")
        set_up(log_level, form=log_format)
        return _on_cluster(config_path, address, insecure=insecure_cluster, drain=drain)
    if address is not None or insecure_cluster or drain:
        raise click.UsageError("--address, --insecure-cluster and --drain require --engine ray")
    # Only the real program may replace its process. A test that calls this function must keep running.
    variables = secret_variables(config_path) if click.get_current_context().obj.is_program else None
    resolver = Resolver(config_path, only=only, identity=HubIdentity.from_environ(os.environ), variables=variables)
    screen = console()
    terminal_log = TerminalLog() if screen.is_terminal and not screen.is_dumb_terminal else None
    # If the user redirects stderr (`2>> hub.log`), the log lines belong in that file.
    set_up(log_level, terminal_log if sys.stderr.isatty() else None, form=log_format)
    plan = resolver.start(partial(_check_only, only), passed_errors=(HubError, click.UsageError))
    _warn(plan)
    if terminal_log is not None:
        ended_by = _with_table(screen, terminal_log, resolver, plan)
    else:
        for name, text in _endpoints(plan, resolver.inspect(_shown_subscribe_command)):
            if text is not None:
                log.info("%s: %s", name, text, extra={"event": "hub_endpoint"})
        ended_by = run.start(resolver, plan)
    return EXIT_INTERRUPTED if ended_by is signal.SIGINT else EXIT_OK


def _check_only(only: tuple[str, ...], config: Config, overrides: Overrides) -> None:
    select_cameras(config, {*only} - {*overrides.removed})


def _on_cluster(config_path: Path, address: str | None, *, insecure: bool, drain: bool) -> int:
    try:
        from nvision_hub.cluster.ray import driver  # noqa: PLC0415 - an optional, large dependency
    except ImportError as error:
        raise UnavailableError("--engine ray needs Ray; install it: pip install 'nvision-hub[ray]'") from error
    run_or_drain = driver.drain if drain else driver.run
    ended_by = run_or_drain(config_path, address, insecure=insecure)
    return EXIT_INTERRUPTED if ended_by is signal.SIGINT else EXIT_OK


def _with_table(screen: Console, terminal_log: TerminalLog, resolver: Resolver, plan: PublicPlan) -> signal.Signals:
    resolver.inspect(_print_subscribe_command)
    endpoints = _endpoints(plan, "the command above, or the one that nvision-hub status shows")
    head = head_lines(f"{__version__}  {plan.endpoints.site}  press Ctrl-C to stop", endpoints)
    with LiveTable(screen, terminal_log, head) as table:
        ended_by = run.start(resolver, plan, on_tick=table.show)
    sent = sum(row.info.sent or 0 for row in table.rows)
    screen.print(f"Stopped. {plural(len(table.rows), 'camera')}, {sent:,.0f} frames sent.")
    return ended_by


def _warn(plan: PublicPlan) -> None:
    for sentence in plan.warnings:
        log.warning("%s", sentence, extra={"event": "configuration_warning"})


def _endpoints(plan: PublicPlan, read: str) -> list[tuple[str, str | None]]:
    endpoints = plan.endpoints
    return [
        ("results", endpoints.redis),
        ("read", read),
        ("service", endpoints.service),
        ("page", endpoints.gateway),
    ]


def _print_subscribe_command(active: ActiveConfig) -> None:
    """Print the command that includes the reader's password. Only a short-lived process may know the password."""
    with open(1, "w", closefd=False, encoding="utf-8") as stdout:
        stdout.write(f"{_subscribe_command(active)}\n")


def _shown_subscribe_command(active: ActiveConfig) -> str:
    """Return the command without the password, because log lines may go to a file. `status` shows the password."""
    return redact(_subscribe_command(active))


def _subscribe_command(active: ActiveConfig) -> str:
    return subscribe_command(active.plan.reader_url, active.plan.endpoints.prefix)
