"""Options that several verbs have, so that they are called and explained alike."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nvision_hub.logs import Form

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


def _as_form(_ctx: click.Context, _param: click.Parameter, value: str) -> Form:
    if value == "json" or (value == "auto" and not sys.stderr.isatty()):
        return "json"
    return "text"


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    envvar="NVISION_HUB_LOG_FORMAT",
    callback=_as_form,
    help="How log lines are written; auto is text on a terminal, JSON lines elsewhere.  [env: NVISION_HUB_LOG_FORMAT]",
)
