"""`pause`, `resume`, `restart` and `set`: control the cameras of the running hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import ValidationError

from nvision_hub.cli.api_client import LABEL, ApiClient
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import command, complete_camera, json_option, unknown_name
from nvision_hub.cli.terminal import print_json
from nvision_hub.config.messages import expected
from nvision_hub.config.models import RuntimeSettings
from nvision_hub.config.schema import schema_at
from nvision_hub.control_characters import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_FROM_FILE: Final = object()  # marker for the value in cameras.yaml


def _control_command(name: str, outcome: str, explanation: str) -> click.Command:
    """Return a command that requests the action `name` for each given camera."""

    @command(
        f"nvision-hub {name} lobby",
        f"nvision-hub {name} lobby gate --json",
        f"nvision-hub {name} label:floor=1",
        name=name,
        help=f"{explanation}\n\nCAMERA is the id of a camera, or label:NAME=VALUE for all cameras with this label.",
    )
    @click.argument("cameras", metavar="CAMERA...", nargs=-1, required=True, shell_complete=complete_camera)
    @hub_options
    @json_option
    def control(cameras: tuple[str, ...], chosen: HubOptions, *, as_json: bool) -> None:
        with ApiClient(chosen) as api:
            updated = [api.call("POST", f"/cameras/{camera['id']}/{name}") for camera in api.select(cameras)]
        if as_json:
            print_json({"cameras": updated})
        else:
            for camera in updated:
                print(printable(f"{camera['id']} is {outcome}"))

    return control


pause = _control_command(
    "pause",
    "paused",
    "Pause cameras: disconnect each one and send no frames.\n\n"
    "The cameras stay paused until you resume them, even if the hub restarts.",
)
resume = _control_command("resume", "resuming", "Resume paused cameras.")
restart = _control_command("restart", "restarting", "Restart camera processes.")


@command(
    "nvision-hub set lobby fps=2",
    "nvision-hub set lobby fps=0.5 jpeg_quality=70 max_width=1280",
    "nvision-hub set label:floor=1 fps=1",
    "nvision-hub set lobby max_width=none confidence_threshold=0.4",
    "nvision-hub set lobby fps=file                 (the value in cameras.yaml)",
    name="set",
)
@click.argument("camera", shell_complete=complete_camera)
@click.argument("settings", metavar="NAME=VALUE...", nargs=-1, required=True)
@hub_options
@json_option
def set_(camera: str, settings: tuple[str, ...], chosen: HubOptions, *, as_json: bool) -> None:
    """Change settings of CAMERA without interrupting its stream.

    CAMERA is the id of a camera, or label:NAME=VALUE for all cameras with this label.

    \b
    fps                   frames per second to send, above 0 and up to 60
    jpeg_quality          1 to 100
    max_width             maximum width of frames in pixels, or none for no limit
    confidence_threshold  0 to 1; the minimum confidence of detections

    The changes stay in effect after a restart of the hub. The command does not modify cameras.yaml. NAME=file restores
    the value in cameras.yaml.
    """  # noqa: D301 - \b keeps the line breaks of the list
    values = parse_settings(settings)
    updated = []
    with ApiClient(chosen) as api:
        for current in api.select([camera]):
            in_file = current["run_time"]["file"]
            changes = {name: in_file[name] if value is _FROM_FILE else value for name, value in values.items()}
            updated.append(api.call("PATCH", f"/cameras/{current['id']}", json=changes))
    if as_json:
        print_json({"cameras": updated} if camera.startswith(LABEL) else updated[0])
        return
    for each in updated:
        overrides = sorted(each["run_time"]["set"].items())
        shown = ", ".join(f"{name} {'none' if value is None else f'{value:g}'}" for name, value in overrides)
        print(printable(f"{each['id']}: {shown or 'as in cameras.yaml'}"))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse settings such as `fps=2`. The value `file` becomes `_FROM_FILE`. Raises `UsageError` if one is invalid."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if name not in RuntimeSettings.model_fields:
            raise unknown_name(f"{name!r} is not a run-time setting", name, list(RuntimeSettings.model_fields))
        if not equals:
            raise click.UsageError(f"{name} needs a value, such as {name}={RuntimeSettings.model_fields[name].default}")
        if name in values:
            raise click.UsageError(f"{name} is given twice")
        values[name] = _FROM_FILE if text == "file" else _parse_value(name, text)
    return values


def _parse_value(name: str, text: str) -> Any:
    value = None if text.lower() in {"none", "null"} else text
    try:
        return RuntimeSettings.model_validate({name: value}).given()[name]
    except ValidationError as error:
        loc = ("nvision", name) if name == "confidence_threshold" else ("defaults", name)
        or_none = ", or none" if name == "max_width" else ""
        raise click.UsageError(f"{name} {expected(schema_at(loc))}{or_none}") from error
