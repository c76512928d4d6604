"""`start`: the hub in the foreground; a live table on a terminal, log lines otherwise."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.text import Text

from nvision_hub import __version__, hub, logs
from nvision_hub.cli.cameras_yaml import chosen, config_argument, only_option
from nvision_hub.cli.live import LiveTable, TerminalLog
from nvision_hub.cli.options import log_format_option, log_level_option
from nvision_hub.cli.terminal import console
from nvision_hub.errors import EXIT_INTERRUPTED, EXIT_OK, UnavailableError
from nvision_hub.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from nvision_hub.hub import Addresses, Plan
    from nvision_hub.logs import Form

log = logging.getLogger("nvision_hub.cli")


@click.command(
    epilog="""\b
Examples:
  nvision-hub start
  nvision-hub start cameras.yaml --only lobby --only gate
  nvision-hub start /etc/nvision-hub/cameras.yaml 2>> hub.log
  nvision-hub start --engine ray --address 10.0.0.5:6379
"""
)
@config_argument
@only_option
@log_level_option
@log_format_option
@click.option(
    "--engine",
    type=click.Choice(["ray"]),
    help="Run the cameras on the machines of a Ray cluster; see docs/distributed.md.",
)
@click.option("--address", metavar="HOST:PORT", help="The Ray cluster; that of this machine where left out.")
@click.option("--insecure-cluster", is_flag=True, help="Put up with a Ray cluster that lets anybody in.")
@click.option("--drain", is_flag=True, help="End what runs on the Ray cluster, and return when nothing is sent.")
def start(
    config_path: Path,
    only: tuple[str, ...],
    log_level: int,
    log_format: Form,
    *,
    engine: str | None,
    address: str | None,
    insecure_cluster: bool,
    drain: bool,
) -> int:
    """Run every camera of CONFIG (cameras.yaml) until Ctrl-C or SIGTERM.

    On a terminal a table shows each camera: its state, the pictures a second that come in and go out, how many were
    dropped, the age of the last one and what was seen. Elsewhere there are log lines, on stderr.

    \b
    in/s   pictures a second that the camera sends
    out/s  pictures a second sent to the service
    drops  pictures not sent: a newer one was there, or the service was away
    age    since the last picture was taken
    """  # noqa: D301 - \b keeps the lines above as they are
    if engine is not None:
        if only:
            raise click.UsageError("--only is for one machine; --engine runs all cameras")
        logs.set_up(log_level, form=log_format)
        return _on_cluster(config_path, address, insecure=insecure_cluster, drain=drain)
    if address is not None or insecure_cluster or drain:
        raise click.UsageError("--address, --insecure-cluster and --drain go with --engine ray")
    config, run_time = hub.read(config_path)
    chosen(config, {*only} - {*run_time.removed})
    places = hub.Places(part=Part.taken_from(os.environ))
    plan = hub.plan(config, only=only, run_time=run_time, places=places)
    run = partial(hub.start, config, plan, only=only, run_time=run_time)
    screen = console()
    if screen.is_terminal and not screen.is_dumb_terminal:
        ended_by = _with_table(screen, plan, run, log_level, log_format)
    else:
        logs.set_up(log_level, form=log_format)
        _warn(plan)
        for name, text in _where(plan.addresses):
            log.info("%s: %s", name, text)
        ended_by = run()
    return EXIT_INTERRUPTED if ended_by is signal.SIGINT else EXIT_OK


def _on_cluster(config_path: Path, address: str | None, *, insecure: bool, drain: bool) -> int:
    try:
        from nvision_hub.engine import ray_engine  # noqa: PLC0415 - Ray is large, and no hub of one machine has it
    except ImportError as error:
        raise UnavailableError("--engine ray needs Ray; `pip install 'nvision-hub[ray]'` brings it") from error
    if drain:
        ray_engine.drain(config_path, address, insecure=insecure)
        return EXIT_OK
    ended_by = ray_engine.run(config_path, address, insecure=insecure)
    return EXIT_INTERRUPTED if ended_by is signal.SIGINT else EXIT_OK


def _with_table(
    screen: Console, plan: Plan, run: Callable[..., signal.Signals], log_level: int, log_format: Form
) -> signal.Signals:
    waiting = TerminalLog()
    # Where stderr goes elsewhere (`2>> hub.log`) the lines belong there.
    logs.set_up(log_level, waiting if sys.stderr.isatty() else None, form=log_format)
    _warn(plan)
    head = [
        Text.assemble(("nvision-hub", "bold"), f" {__version__}  {plan.addresses.site}  Ctrl-C ends it"),
        *(Text.assemble((f"{name:<8}", "dim"), text) for name, text in _where(plan.addresses)),
        Text(),
    ]
    with LiveTable(screen, waiting, head) as table:
        ended_by = run(watch=table.show)
    sent = sum(row.sent or 0 for row in table.rows)
    count = len(table.rows)
    screen.print(f"Ended; {count} camera{'' if count == 1 else 's'}, {sent:,} pictures sent.")
    return ended_by


def _warn(plan: Plan) -> None:
    for sentence in plan.warnings:
        log.warning("%s", sentence)


def _where(addresses: Addresses) -> list[tuple[str, str]]:
    """What to know to use this hub: names and texts."""
    channels = f"{addresses.prefix}:results:*"
    known = [("results", addresses.redis), ("read", f"redis-cli -u {addresses.redis} psubscribe '{channels}'")]
    if addresses.service is not None:
        known.append(("service", addresses.service))
    if addresses.gateway is not None:
        known.append(("page", addresses.gateway))
    return known
