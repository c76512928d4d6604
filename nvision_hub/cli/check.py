"""`check`: everything that is wrong with a cameras.yaml, or what it would run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nvision_hub import hub
from nvision_hub.cli.cameras_yaml import chosen, config_argument, only_option
from nvision_hub.cli.options import json_option
from nvision_hub.cli.terminal import console
from nvision_hub.config import load
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvision_hub.config import Camera, Config


@click.command(
    epilog="""\b
Examples:
  nvision-hub check
  nvision-hub check /etc/nvision-hub/cameras.yaml --json | jq .cameras
"""
)
@config_argument
@only_option
@json_option
def check(config_path: Path, only: tuple[str, ...], *, as_json: bool) -> int:
    """Check CONFIG (cameras.yaml) and print what it would run. Opens no camera.

    Mistakes are told all at once, each with file:line:column, and end with exit code 78.
    """
    try:
        config = load(config_path)
        cameras = chosen(config, only)
        warnings = hub.plan(config, only=only).warnings
    except ConfigError as error:
        if not as_json:
            raise
        print(json.dumps({"ok": False, "problems": error.problems}, indent=2, ensure_ascii=False))
        return error.exit_code
    if as_json:
        print(json.dumps(_facts(config, cameras, warnings), indent=2, ensure_ascii=False))
    else:
        _show(config, cameras, warnings)
    return 0


def _facts(config: Config, cameras: Sequence[Camera], warnings: Sequence[str]) -> dict[str, Any]:
    return {
        "ok": True,
        "file": str(config.path),
        "site": config.site,
        "cameras": [camera.shown() for camera in cameras],
        "redis": config.redis.model_dump(mode="json"),
        "state_dir": str(config.state_dir),
        "warnings": warnings,
    }


def _show(config: Config, cameras: Sequence[Camera], warnings: Sequence[str]) -> None:
    out, err = console(), console(stderr=True)
    header = ("camera", "pictures/s", "size", "service", "at", "from")
    lines = [header, *(_line(camera) for camera in cameras)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        shown = "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        out.print(shown.rstrip(), style="bold" if number == 0 else "")
    out.print()
    out.print(f"pictures  {sum(camera.fps for camera in cameras):g} a second in all, each a request to the service")
    out.print(f"results   {_results(config)}")
    out.print(f"state     {config.state_dir}")
    for warning in warnings:
        err.print(f"warning: {warning}", style="yellow")
    count = f"{len(cameras)} camera{'' if len(cameras) == 1 else 's'}"
    out.print(f"{config.path.name} is good: {count}; `nvision-hub start` runs {'it' if len(cameras) == 1 else 'them'}.")


def _line(camera: Camera) -> tuple[str, ...]:
    size = "as sent" if camera.max_width is None else f"<= {camera.max_width} px"
    return (
        camera.id,
        f"{camera.fps:g}",
        size,
        camera.nvision.service,
        camera.nvision.url.shown,
        camera.address.shown,
    )


def _results(config: Config) -> str:
    channel = f"{config.redis.prefix}:results:<camera>"
    if not config.redis.url.embedded:
        return f"{config.redis.url.shown}, channel {channel}"
    port = config.redis.embedded_port
    where = f"port {port} of 127.0.0.1, or the next free one" if port else "a free port of 127.0.0.1"
    return f"embedded broker on {where}, channel {channel}"
