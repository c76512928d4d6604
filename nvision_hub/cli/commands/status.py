"""`status`: show the cameras and addresses of the running hub."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from nvision_hub.broker.embedded_users import BrokerUser
from nvision_hub.cli.api_client import ApiClient, subscriber_url
from nvision_hub.cli.camera_table import api_camera_row, api_process_rows, table_lines
from nvision_hub.cli.live_table import head_lines
from nvision_hub.cli.options import command, config_option, json_option, subscribe_command
from nvision_hub.cli.terminal import console, print_json
from nvision_hub.config.load import load
from nvision_hub.control_characters import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REFRESH_INTERVAL_S: Final = 1.0
_COPIED: Final = ("read ", "consume ")  # lines for the user to copy
_PIPE_WIDTH: Final = 200  # columns, if stdout is not a terminal


@command(
    "nvision-hub status",
    "nvision-hub status --watch",
    "nvision-hub status --json | jq '.cameras[] | {id, state, error}'",
)
@click.option("-w", "--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
@config_option
@json_option
def status(config_path: Path, *, watch: bool, as_json: bool) -> None:
    """Show the cameras of the running hub and the addresses of its results, service and page.

    \b
    in/s   frames per second that the camera sends
    out/s  frames per second sent to the service
    drops  frames not sent, such as frames replaced by a newer one
    age    time since the last frame was captured
    """  # noqa: D301 - \b keeps the line breaks of the list
    screen = console()
    if not screen.is_terminal:
        screen.width = _PIPE_WIDTH
    config = load(config_path)
    with ApiClient(config) as api:
        users = {user: subscriber_url(config, api.endpoints, user) for user in (BrokerUser.READER, BrokerUser.CONSUMER)}
        if as_json:
            while True:
                facts = {
                    "addresses": asdict(api.endpoints) | users,
                    "hub": api.call("GET", "/hub"),
                    "cameras": api.cameras(),
                }
                print_json(facts, indent=None if watch else 2)
                if not watch:
                    return
                time.sleep(REFRESH_INTERVAL_S)
        elif watch and screen.is_terminal:
            with Live(console=screen, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
                while True:
                    live.update(Group(*_lines(api, users, screen.width, screen.height - 1)), refresh=True)
                    time.sleep(REFRESH_INTERVAL_S)
        else:
            for line in _lines(api, users, screen.width):
                if line.plain.startswith(_COPIED):
                    line.no_wrap = False
                    screen.print(line, soft_wrap=True)  # the terminal wraps the line, so it can be copied
                else:
                    screen.print(line)


def _lines(api: ApiClient, users: Mapping[BrokerUser, str], width: int, height: int = sys.maxsize) -> list[Text]:
    """Return the header and the table as at most `height` lines."""
    hub, cameras, now, endpoints = api.call("GET", "/hub"), api.cameras(), time.time(), api.endpoints
    consumer = users[BrokerUser.CONSUMER]
    addresses = (
        ("results", endpoints.redis),
        ("read", subscribe_command(users[BrokerUser.READER], endpoints.prefix)),
        ("consume", None if consumer == endpoints.redis else consumer),
        ("service", endpoints.service),
        ("page", endpoints.gateway),
    )
    head = head_lines(f"{printable(hub['version'])}  {printable(hub['site'])}", addresses)
    if hub["reload_error"] is not None:
        text = f"reload of cameras.yaml failed: {printable(hub['reload_error'])}"
        head.append(Text(text, style="yellow", no_wrap=True, overflow="ellipsis"))
    rows = [api_camera_row(camera, now) for camera in cameras]
    room = max(3, height - len(head) - 1)
    return [*head, Text(), *table_lines(rows, api_process_rows(hub["processes"]), width=width, height=room)]
