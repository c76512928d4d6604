"""`pause`, `resume`, `restart` and `set`: what an operator does with cameras while the hub runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import ValidationError

from nvision_hub.cli.cameras_yaml import complete_camera, config_option
from nvision_hub.cli.options import json_option
from nvision_hub.cli.running import Api
from nvision_hub.config import RunTimeSettings, load
from nvision_hub.config.schema import schema_at
from nvision_hub.config.suggestion import did_you_mean
from nvision_hub.config.wording import expected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvision_hub.config import Config

_AS_IN_FILE: Final = "file"
_NONE: Final = frozenset({"none", "null"})

_cameras_argument = click.argument(
    "cameras", metavar="CAMERA...", nargs=-1, required=True, shell_complete=complete_camera
)


@click.command(
    epilog="""\b
Examples:
  nvision-hub pause lobby
  nvision-hub pause lobby gate --json
"""
)
@_cameras_argument
@config_option
@json_option
def pause(cameras: tuple[str, ...], config_path: Path, *, as_json: bool) -> None:
    """Pause cameras: nothing more is sent, and each camera is let go of.

    They stay paused, also when the hub is started again, until they are resumed.
    """
    _control(load(config_path), cameras, "pause", "{} is paused", as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  nvision-hub resume lobby
  nvision-hub resume lobby gate
"""
)
@_cameras_argument
@config_option
@json_option
def resume(cameras: tuple[str, ...], config_path: Path, *, as_json: bool) -> None:
    """Let paused cameras go on."""
    _control(load(config_path), cameras, "resume", "{} goes on", as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  nvision-hub restart lobby
"""
)
@_cameras_argument
@config_option
@json_option
def restart(cameras: tuple[str, ...], config_path: Path, *, as_json: bool) -> None:
    """End the processes of cameras, and start others in their place."""
    _control(load(config_path), cameras, "restart", "{} starts anew", as_json=as_json)


@click.command(
    name="set",
    epilog="""\b
Examples:
  nvision-hub set lobby fps=2
  nvision-hub set lobby fps=0.5 jpeg_quality=70 max_width=1280
  nvision-hub set lobby max_width=none confidence_threshold=0.4
  nvision-hub set lobby fps=file                 (as cameras.yaml has it)
""",
)
@click.argument("camera", shell_complete=complete_camera)
@click.argument("settings", metavar="NAME=VALUE...", nargs=-1, required=True)
@config_option
@json_option
def set_(camera: str, settings: tuple[str, ...], config_path: Path, *, as_json: bool) -> None:
    """Change settings of CAMERA while it runs, without interrupting it.

    \b
    fps                   pictures per second sent, above 0 and up to 60
    jpeg_quality          1 to 100
    max_width             wider pictures are scaled down to it, or none
    confidence_threshold  0 to 1; what is less certain is not reported

    They stay so, also when the hub is started again, until they are set otherwise; cameras.yaml stays as it is, and
    NAME=file goes back to it.
    """  # noqa: D301 - \b keeps the lines above as they are
    values = parsed(settings)
    with Api(load(config_path)) as api:
        (known,) = api.known([camera])
        of_file = known["run_time"]["file"]
        now = api.tune(camera, {name: of_file[name] if value is _FILE else value for name, value in values.items()})
    if as_json:
        print(json.dumps(now, indent=2))
        return
    changed = now["run_time"]["set"]
    shown = ", ".join(f"{name} {_shown(value)}" for name, value in sorted(changed.items()))
    print(f"{camera}: {shown or 'as in cameras.yaml'}")


class _File:
    """Stands for the value that the file has."""


_FILE: Final = _File()


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """`fps=2` and so on, as values; `_FILE` for those of the file. Raises `UsageError` for what cannot be."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if name not in RunTimeSettings.model_fields:
            known = list(RunTimeSettings.model_fields)
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise click.UsageError(f"{name!r} cannot be set while a camera runs{hint}")
        if not equals:
            raise click.UsageError(f"{name} needs a value, such as {name}={RunTimeSettings.model_fields[name].default}")
        if name in values:
            raise click.UsageError(f"{name} is given twice")
        values[name] = _FILE if text == _AS_IN_FILE else _value(name, text)
    return values


def _value(name: str, text: str) -> Any:
    value = None if text.lower() in _NONE else text
    try:
        return RunTimeSettings.model_validate({name: value}).given()[name]
    except ValidationError as error:
        loc = ("nvision", name) if name == "confidence_threshold" else ("defaults", name)
        or_none = ", or none" if name == "max_width" else ""
        raise click.UsageError(f"{name} {expected(schema_at(loc))}{or_none}") from error


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}"


def _control(config: Config, wanted: Sequence[str], verb: str, done: str, *, as_json: bool) -> None:
    with Api(config) as api:
        ids = [camera["id"] for camera in api.known(wanted)]
        now = [api.control(camera_id, verb) for camera_id in ids]
    if as_json:
        print(json.dumps({"cameras": now}, indent=2))
    else:
        print("\n".join(done.format(camera_id) for camera_id in ids))
