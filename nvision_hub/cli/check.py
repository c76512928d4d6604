"""`check`: everything that is wrong with a cameras.yaml, or what it would run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nvision_hub import hub
from nvision_hub.cli.cameras_yaml import chosen, config_argument, only_option
from nvision_hub.cli.look import look_at
from nvision_hub.cli.options import json_option
from nvision_hub.cli.progress import progress
from nvision_hub.cli.survey import rounded
from nvision_hub.cli.terminal import console, harmless
from nvision_hub.config import load
from nvision_hub.errors import EXIT_OK, EXIT_UNAVAILABLE, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvision_hub.cli.look import Look
    from nvision_hub.cli.survey import Survey
    from nvision_hub.config import Camera, Config


@click.command(
    epilog="""\b
Examples:
  nvision-hub check
  nvision-hub check --probe --only lobby
  nvision-hub check /etc/nvision-hub/cameras.yaml --json | jq .cameras
"""
)
@config_argument
@only_option
@click.option("--probe", "opens", is_flag=True, help="Also open every camera, and tell what it sends.")
@json_option
def check(config_path: Path, only: tuple[str, ...], *, opens: bool, as_json: bool) -> int:
    """Check CONFIG (cameras.yaml) and print what it would run.

    Mistakes are told all at once, each with file:line:column, and end with exit code 78. Cameras are opened only with
    --probe; where one gives no pictures then, the exit code is 69.
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
    looks = _looks(config, cameras) if opens else None
    dark = [look for look in looks or () if look.trouble is not None]
    if as_json:
        facts = _facts(config, cameras, warnings)
        if looks is not None:
            facts |= {"ok": not dark, "probed": [_probed(look) for look in looks]}
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _show(config, cameras, warnings)
        _show_looks(looks or ())
        _conclude(config, cameras, len(dark))
    return EXIT_UNAVAILABLE if dark else EXIT_OK


def _looks(config: Config, cameras: Sequence[Camera]) -> list[Look]:
    """What each camera sends, in the order of the file."""
    running = hub.addresses_of(config.state_dir)
    found = {look.camera: look for look in progress(look_at(cameras, running), len(cameras), "cameras")}
    return [found[camera.id] for camera in cameras]


def _probed(look: Look) -> dict[str, Any]:
    found = None if look.found is None else rounded(asdict(look.found))
    return {"id": look.camera, "state": look.state, "found": found, "error": look.trouble, "note": look.note}


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


def _show_looks(looks: Sequence[Look]) -> None:
    out = console()
    width = max((len(look.camera) for look in looks), default=0)
    if looks:
        out.print()
    for look in looks:
        if look.found is None:
            style = "red" if look.trouble is not None else "dim"
            out.print(
                f"{look.camera:<{width}}  {look.state or '-'}: {harmless(look.trouble or look.note or '')}", style=style
            )
        else:
            out.print(f"{look.camera:<{width}}  {_sent(look.found)}", style="green")


def _sent(found: Survey) -> str:
    """`h264 1280x720, 25.0 a second, a keyframe every 2.0 s`."""
    told = [f"{found.codec} {found.width}x{found.height}"]
    if found.fps is not None:
        told.append(f"{found.fps:.1f} a second")
    if found.keyframe_interval_s is not None:
        told.append(f"a keyframe every {found.keyframe_interval_s:.1f} s")
    return ", ".join(told)


def _conclude(config: Config, cameras: Sequence[Camera], dark: int) -> None:
    count = f"{len(cameras)} camera{'' if len(cameras) == 1 else 's'}"
    if dark:
        console().print(f"{config.path.name} is good; {dark} of {count} give{'s' if dark == 1 else ''} no pictures.")
    else:
        them = "it" if len(cameras) == 1 else "them"
        console().print(f"{config.path.name} is good: {count}; `nvision-hub start` runs {them}.")


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
