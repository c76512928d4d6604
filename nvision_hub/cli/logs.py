"""`logs`: what one camera's process said, and what the supervisor said of it, from the files that a hub keeps."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from nvision_hub.cli.cameras_yaml import complete_camera, config_option
from nvision_hub.cli.options import json_option
from nvision_hub.cli.terminal import console, harmless
from nvision_hub.config import load
from nvision_hub.config.suggestion import did_you_mean
from nvision_hub.errors import HubError
from nvision_hub.logs.files import members_in
from nvision_hub.logs.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from nvision_hub.config import Config

LOOKED_EVERY_S: Final = 0.2
LINES: Final = 50
_STYLES: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}
_CAMERA: Final = "camera:"


@click.command(
    epilog="""\b
Examples:
  nvision-hub logs lobby
  nvision-hub logs lobby -f
  nvision-hub logs hub -n 200              (the supervisor)
  nvision-hub logs lobby --json | jq -r 'select(.level != "info") | .message'
"""
)
@click.argument("camera", shell_complete=complete_camera)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@click.option("-n", "--lines", "count", metavar="N", type=click.IntRange(min=0), default=LINES, show_default=True,
              help="How many of the last lines to begin with.")  # fmt: skip
@config_option
@json_option
def logs(camera: str, count: int, config_path: Path, *, follow: bool, as_json: bool) -> None:
    """Show what was logged of CAMERA, whether or not a hub runs.

    CAMERA may also be one of the hub's other processes: hub (the supervisor), broker, service, demo, gateway, webhooks.
    Each line: when, the camera's state then, and what was said; what the supervisor said of it begins with `hub`.
    """
    config = load(config_path)
    directory = config.state_dir / "logs"
    member = _member(camera, config, members_in(directory))
    out = console()
    with contextlib.closing(Reader(directory, member)) as reader:
        entries = reader.last(count)
        _show(out, entries, member, as_json=as_json)
        if not follow:
            if count and not entries:
                raise HubError(
                    f"nothing is logged of {camera} in {directory}; a hub that runs it writes there: nvision-hub start"
                )
            return
        while True:
            time.sleep(LOOKED_EVERY_S)
            _show(out, reader.news(), member, as_json=as_json)


def _member(name: str, config: Config, logged: Sequence[str]) -> str:
    """The process that is meant. Raises `UsageError` for a name that neither cameras.yaml nor any file has."""
    cameras = [camera.id for camera in config.cameras]
    if name in cameras or f"{_CAMERA}{name}" in logged:  # one that was added while the hub ran is in no cameras.yaml
        return f"{_CAMERA}{name}"
    if name in logged:
        return name
    known = [*cameras, *(member.removeprefix(_CAMERA) for member in logged)]
    hint = did_you_mean(name, known) or f"; there are {', '.join(dict.fromkeys(known))}"
    raise click.UsageError(f"no camera is called {name!r}{hint}")


def _show(out: Console, entries: Sequence[dict[str, Any]], member: str, *, as_json: bool) -> None:
    for entry in entries:
        if as_json:
            print(json.dumps(entry, ensure_ascii=False), flush=True)
        else:
            out.print(_line(entry, member))


def _line(entry: dict[str, Any], member: str) -> Text:
    """`2026-11-22 14:00:00  streaming  sentence`."""
    level = str(entry.get("level"))
    with contextlib.suppress(ValueError, TypeError):
        entry = {**entry, "at": f"{datetime.fromisoformat(entry['at']).astimezone():%Y-%m-%d %H:%M:%S}"}
    line = Text(f"{harmless(str(entry.get('at')))}  ", style="dim")
    if entry.get("worker") != member:
        line.append(f"{harmless(str(entry.get('worker')))}  ", style="not dim cyan")
    elif entry.get("state"):
        line.append(f"{harmless(str(entry['state']))}  ", style="not dim")
    said = "\n".join(filter(None, (str(entry.get("message")), entry.get("traceback"))))
    line.append("\n".join(map(harmless, said.splitlines())), style=f"not dim {_STYLES.get(level, '')}")
    return line
