"""`status` and `ps`: show the cameras and addresses of one running hub, and list all hubs of this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from nvision_hub.access.audit_log import user_name
from nvision_hub.broker.embedded_users import BrokerUser
from nvision_hub.cli.api_client import ApiClient
from nvision_hub.cli.broker_access import subscriber_url
from nvision_hub.cli.camera_table import api_camera_row, api_process_rows, table_lines
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.live_table import head_lines
from nvision_hub.cli.options import command, json_option, subscribe_command
from nvision_hub.cli.terminal import columns, console, print_json
from nvision_hub.control_characters import printable
from nvision_hub.hub.running_hubs import running_hubs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.hub.state_dir import Endpoints

REFRESH_INTERVAL_S: Final = 1.0
_COPIED: Final = ("read ", "consume ")  # lines for the user to copy
_PIPE_WIDTH: Final = 200  # columns, if stdout is not a terminal


@command(
    "nvision-hub status",
    "nvision-hub status --watch",
    "nvision-hub status --json | jq '.cameras[] | {id, state, error}'",
)
@click.option("-w", "--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
@hub_options
@json_option
def status(chosen: HubOptions, *, watch: bool, as_json: bool) -> None:
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
    with ApiClient(chosen) as api:
        users = {}
        if not api.hub.is_remote:  # only files on the hub's own machine contain the passwords
            users = {user: subscriber_url(api.hub, user) for user in (BrokerUser.READER, BrokerUser.CONSUMER)}
        if as_json:
            while True:
                hub = api.call("GET", "/hub")
                facts = {"addresses": asdict(_addresses(api, hub)) | users, "hub": hub, "cameras": api.cameras()}
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
                    screen.print(line, soft_wrap=True)  # only the terminal wraps the line, so the user can copy it
                else:
                    screen.print(line)


def _lines(api: ApiClient, users: Mapping[BrokerUser, str], width: int, height: int = sys.maxsize) -> list[Text]:
    """Return the header and the table, together at most `height` lines."""
    hub, cameras, now = api.call("GET", "/hub"), api.cameras(), time.time()
    endpoints = _addresses(api, hub)
    reader, consumer = users.get(BrokerUser.READER), users.get(BrokerUser.CONSUMER)
    addresses = (
        ("results", endpoints.redis),
        ("read", None if reader is None else subscribe_command(reader, endpoints.prefix)),
        ("consume", None if consumer == endpoints.redis else consumer),
        ("service", endpoints.service),
        ("page", endpoints.gateway),
    )
    head = head_lines(f"{printable(hub['version'])}  {printable(hub['site'])}", addresses)
    if hub["reload_error"] is not None:
        head.append(Text("reload of cameras.yaml rejected; the previous configuration stays active:", style="yellow"))
        problems = [printable(line) for line in hub["reload_error"].splitlines()]
        head += [Text(f"  {line}", style="yellow", no_wrap=True, overflow="ellipsis") for line in problems]
    rows = [api_camera_row(camera, now) for camera in cameras]
    room = max(3, height - len(head) - 1)
    return [*head, Text(), *table_lines(rows, api_process_rows(hub["processes"]), width=width, height=room)]


def _addresses(api: ApiClient, hub: Mapping[str, Any]) -> Endpoints:
    """Return the addresses of the hub. A hub on another machine reports only its site and the address of its Redis."""
    if not api.hub.is_remote:
        return api.endpoints
    return replace(api.endpoints, site=hub["site"], redis=hub["redis"] or "")


@command("nvision-hub ps", "sudo nvision-hub ps", "nvision-hub ps --json | jq -r '.hubs[].state_dir'")
@json_option
def ps(*, as_json: bool) -> None:
    """List the hubs that run on this machine and that you may control. Root sees the hubs of all users.

    Commands choose a hub by its site (--site) or its state directory (--state-dir).
    """
    hubs = running_hubs()
    if as_json:
        print_json({"hubs": [asdict(hub) for hub in hubs]})
        return
    if not hubs:
        text = f"{user_name()} runs no hub on this machine. Root sees the hubs of all users."
        console(stderr=True).print(text, style="dim")
        return
    table = [("site", "pid", "page", "state directory", "configuration")]
    for hub in hubs:
        folder, file, page = (printable(text or "none") for text in (hub.state_dir, hub.config, hub.gateway))
        table.append((printable(hub.site), str(hub.pid), page, folder, file))
    heading, *lines = columns(table)
    out = console()
    out.print(heading, style="bold")
    for line in lines:
        out.print(line, soft_wrap=True)
