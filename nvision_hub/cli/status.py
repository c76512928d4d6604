"""`status`: the fleet of a hub that runs, as its own page shows it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from nvision_hub.cli import table
from nvision_hub.cli.cameras_yaml import config_option
from nvision_hub.cli.fleet import RESULT_IS_OLD_S, Peer, Row
from nvision_hub.cli.options import json_option
from nvision_hub.cli.running import Api
from nvision_hub.cli.terminal import ago, console, counted, harmless
from nvision_hub.config import load
from nvision_hub.link import REPORT_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvision_hub.hub import Addresses

EVERY_S: Final = 1.0
_WIDE: Final = 200  # where nobody's terminal sets a width
_RUNNING: Final = "running"


@click.command(
    epilog="""\b
Examples:
  nvision-hub status
  nvision-hub status --watch
  nvision-hub status --json | jq '.cameras[] | {id, state, error}'
"""
)
@click.option("-w", "--watch", is_flag=True, help="Show it anew each second, until Ctrl-C.")
@config_option
@json_option
def status(config_path: Path, *, watch: bool, as_json: bool) -> None:
    """Show the cameras of the hub that runs with this configuration, and where its results are.

    \b
    in/s   pictures a second that the camera sends
    out/s  pictures a second sent to the service
    drops  pictures not sent: a newer one was there, or the service was away
    age    since the last picture was taken
    """  # noqa: D301 - \b keeps the lines above as they are
    config = load(config_path)
    with Api(config) as api:
        if as_json:
            print(json.dumps(_facts(api), indent=None if watch else 2), flush=True)
            while watch:
                time.sleep(EVERY_S)
                print(json.dumps(_facts(api)), flush=True)
        elif watch and console().is_terminal:
            _watch(api)
        else:
            for line in _lines(api):
                console().print(line)


def _facts(api: Api) -> dict[str, Any]:
    return {"addresses": asdict(api.addresses), "hub": api.hub(), "cameras": api.cameras()}


def _watch(api: Api) -> None:
    screen = console()
    with Live(console=screen, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
        while True:
            live.update(Group(*_lines(api, height=screen.height - 1)), refresh=True)
            time.sleep(EVERY_S)


def _lines(api: Api, height: int | None = None) -> list[Text]:
    """The head and the table; as many lines as there are where `height` is None."""
    hub, cameras, now = api.hub(), api.cameras(), time.time()
    screen = console()
    width = screen.width if screen.is_terminal else _WIDE
    head = [Text.assemble(("nvision-hub", "bold"), f" {harmless(hub['version'])}  {harmless(hub['site'])}")]
    head += [Text.assemble((f"{name:<8}", "dim"), text) for name, text in _where(api.addresses)]
    if hub["reload_error"] is not None:
        head.append(Text(f"a change of cameras.yaml is not taken up: {harmless(hub['reload_error'])}", style="yellow"))
    rows = [row(camera, now) for camera in cameras]
    room = 10 * (len(rows) + 1) if height is None else max(3, height - len(head) - 1)
    for line in head:
        line.truncate(width, overflow="ellipsis")
    return [*head, Text(), *table.lines(rows, peers(hub["processes"]), width=width, height=room)]


def _where(addresses: Addresses) -> list[tuple[str, str]]:
    known = [("results", addresses.redis), ("service", addresses.service), ("page", addresses.gateway)]
    return [(name, text) for name, text in known if text is not None]


def row(camera: dict[str, Any], now: float) -> Row:
    """One camera of the API as the table has it. `now` is in seconds since the epoch."""
    taken, result = _seconds(camera["last_picture_at"]), _seconds(camera["last_result_at"])
    seen = ""
    if result is not None:
        seen = counted(camera["seen"]) or "nothing"
        if now - result > RESULT_IS_OLD_S:
            seen += f" ({ago(now - result)} ago)"
    return Row(
        camera=camera["id"],
        state=camera["state"],
        rate_in=camera["rate_in"],
        rate_out=camera["rate_out"],
        dropped=sum(camera["dropped"].values()),
        sent=camera["sent"],
        # Told once a second: until it is told anew, nothing is known to have stopped.
        age_s=None if taken is None else max(0.0, now - taken - REPORT_EVERY_S),
        seen=seen,
        trouble=None if camera["error"] is None else harmless(camera["error"]),
    )


def peers(processes: Sequence[dict[str, Any]]) -> list[Peer]:
    """The other processes that are not well."""
    return [
        Peer(name=each["name"], state=each["phase"], trouble=None if each["error"] is None else harmless(each["error"]))
        for each in processes
        if not each["name"].startswith("camera:") and (each["phase"] != _RUNNING or each["error"] is not None)
    ]


def _seconds(instant: str | None) -> float | None:
    return None if instant is None else datetime.fromisoformat(instant).timestamp()
