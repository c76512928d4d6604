"""`logs`: show the log of a camera or another process, read from the hub's log files."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import click

from nvision_hub.cli.camera_table import CAMERA_PREFIX
from nvision_hub.cli.hub_choice import HubOptions, find_state_dir, hub_options
from nvision_hub.cli.live_table import log_line
from nvision_hub.cli.options import command, complete_camera, json_option, unknown_name
from nvision_hub.cli.terminal import console, local_time, print_json
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError, HubError
from nvision_hub.logs.files import processes_in
from nvision_hub.logs.tail import LogTail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.text import Text


@command(
    "nvision-hub logs lobby",
    "nvision-hub logs lobby -f",
    "nvision-hub logs hub -n 200              (the supervisor)",
    """nvision-hub logs lobby --json | jq -r 'select(.level != "info") | .message'""",
)
@click.argument("camera", shell_complete=complete_camera)
@click.option("-f", "--follow", is_flag=True, help="Show new log lines as they arrive, until Ctrl-C.")
@click.option("-n", "--lines", "count", metavar="N", type=click.IntRange(min=0), default=50,
              show_default=True, help="Number of earlier lines to show first.")  # fmt: skip
@hub_options
@json_option
def logs(camera: str, count: int, chosen: HubOptions, *, follow: bool, as_json: bool) -> None:
    """Show the log of CAMERA, even if no hub is running.

    CAMERA may also be another process of the hub: hub (the supervisor), broker, service, demo, gateway, webhooks, mqtt
    or relay. Each line shows the time, the camera's state at that time and the message. A line that the supervisor
    logged about the process shows `hub` instead of the state.
    """
    directory = find_state_dir(chosen) / "logs"
    process = _process_name(camera, processes_in(directory), chosen.file)
    out = console()
    with contextlib.closing(LogTail(directory, process)) as reader:
        entries = reader.last(count)
        if count and not entries and not follow:
            raise HubError(f"{directory} has no log of {camera}; start the hub: nvision-hub start")
        for entry in itertools.chain(entries, reader.follow() if follow else ()):
            if as_json:
                print_json(entry, indent=None)
            else:
                out.print(_entry_line(entry, process))


def _process_name(name: str, logged: Sequence[str], file: Path | None) -> str:
    """Return the full name of a process. Raises `UsageError` if neither the logs nor cameras.yaml contain `name`."""
    if f"{CAMERA_PREFIX}{name}" in logged:
        return f"{CAMERA_PREFIX}{name}"
    if name in logged:
        return name
    cameras = []
    if file is not None:  # the file also names cameras that have no log yet
        with contextlib.suppress(ConfigError):
            cameras = [camera.id for camera in load(file).cameras]
    if name in cameras:
        return f"{CAMERA_PREFIX}{name}"
    known = [*cameras, *(process.removeprefix(CAMERA_PREFIX) for process in logged)]
    raise unknown_name(f"no camera or process has the name {name!r}", name, [*dict.fromkeys(known)])


def _entry_line(entry: dict[str, Any], process: str) -> Text:
    """Format an entry as `2026-11-22 14:00:00  streaming  message`."""
    message = "\n".join(filter(None, (str(entry.get("message")), entry.get("traceback"))))
    is_own = entry.get("worker") == process
    tag = entry.get("state") or "" if is_own else entry.get("worker")
    at = local_time(entry.get("at"))
    return log_line(f"{at}  ", str(tag), str(entry.get("level")), message, tag_style="" if is_own else "cyan")
