"""Options that several verbs have, so that they are called and explained alike."""

from __future__ import annotations

import logging

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _as_level(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    return logging.getLevelNamesMapping()[value.upper()]


log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    callback=_as_level,
    help="The least important log lines shown.",
)
