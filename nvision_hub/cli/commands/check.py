"""`check`: validate cameras.yaml, and show what would run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nvision_hub.cli.camera_probe import known_certificates, probe_cameras, rounded
from nvision_hub.cli.options import command, config_argument, json_option, only_option, select_cameras, start_command
from nvision_hub.cli.terminal import columns, console, plural, print_json
from nvision_hub.config.include_pattern import matching_files
from nvision_hub.control_characters import printable
from nvision_hub.errors import EXIT_OK, EXIT_UNAVAILABLE, ConfigError
from nvision_hub.hub import override_store
from nvision_hub.hub.composition import plan
from nvision_hub.hub.preflight import missing_extras
from nvision_hub.hub.state_dir import read_endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvision_hub.cli.camera_probe import ProbeResult, StreamReport
    from nvision_hub.config.models import Camera, Config


@command(
    "nvision-hub check",
    "nvision-hub check --probe --only lobby",
    "nvision-hub check /etc/nvision-hub/cameras.yaml --json | jq .cameras",
)
@config_argument
@only_option
@click.option(
    "--probe",
    "opens",
    is_flag=True,
    help="Also open each camera and print its codec, frame size, frame rate and keyframe interval.",
)
@json_option
def check(config_path: Path, only: tuple[str, ...], *, opens: bool, as_json: bool) -> int:
    """Validate CONFIG (cameras.yaml) and show what would run, including changes that were made at run time.

    If CONFIG is invalid, `check` reports all problems at once, each with file:line:column, and exits with code 78. With
    --probe, the exit code is 69 if a camera sends no frames.
    """
    try:
        config, overrides = override_store.read(config_path)
        cameras = [overrides.applied_to(camera) for camera in select_cameras(config, only)]
        chosen = plan(config, only=only, overrides=overrides)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"ok": False, "problems": [diagnostic.as_dict() for diagnostic in error.diagnostics]})
        return error.exit_code
    warnings = [*chosen.warnings, *(f"the hub cannot start: {text}" for text in missing_extras(chosen))]
    probes = []
    if opens:
        probes = probe_cameras(cameras, read_endpoints(config.state_dir), known_certificates(config.state_dir))
    failures = sum(probe.error is not None for probe in probes)
    if as_json:
        facts: dict[str, object] = {
            "ok": not failures,
            "file": str(config.path),
            "included_files": _included_files(config),
            "site": config.site,
            "cameras": [camera.shown() for camera in cameras],
            "redis": config.redis.model_dump(mode="json"),
            "state_dir": str(config.state_dir),
            "warnings": warnings,
        }
        if opens:
            facts["probed"] = [rounded(probe) for probe in probes]
        print_json(facts)
    else:
        _print_plan(config, cameras, warnings)
        _print_probes(probes)
        console().print(f"\n{_summary(config_path, len(cameras), failures)}")
    return EXIT_UNAVAILABLE if failures else EXIT_OK


def _print_plan(config: Config, cameras: Sequence[Camera], warnings: Sequence[str]) -> None:
    out, err = console(), console(stderr=True)
    table = [("camera", "fps", "size", "service", "service URL", "camera URL")]
    for camera in cameras:
        size = "original" if camera.max_width is None else f"<= {camera.max_width} px"
        nvision = camera.nvision
        table.append((camera.id, f"{camera.fps:g}", size, nvision.service, nvision.url.shown, camera.address.shown))
    heading, *lines = columns(table)
    out.print(heading, style="bold")
    for line in lines:
        out.print(line)
    out.print(f"\nrequests  {sum(camera.fps for camera in cameras):g} per second in total, one per frame")
    out.print(f"results   {_results(config)}")
    out.print(f"state     {config.state_dir}")
    if config.include:
        included = _included_files(config)
        out.print(f"include   {plural(len(included), 'file')}: {', '.join(included) or 'none'}")
    for warning in warnings:
        err.print(f"warning: {warning}", style="yellow")


def _included_files(config: Config) -> list[str]:
    """Return the included files, relative to the folder of cameras.yaml."""
    return matching_files(config.path.parent, config.include)


def _results(config: Config) -> str:
    channel = f"{config.redis.prefix}:results:<camera>"
    if not config.redis.url.embedded:
        return f"{config.redis.url.shown}, channel {channel}"
    port = config.redis.embedded_port
    address = f"127.0.0.1:{port} (or the next free port)" if port else "a free port of 127.0.0.1"
    return f"embedded broker on {address}, channel {channel}"


def _print_probes(probes: Sequence[ProbeResult]) -> None:
    out = console()
    width = max((len(probe.id) for probe in probes), default=0)
    if probes:
        out.print()
    for probe in probes:
        if probe.found is not None:
            text, style = _stream(probe.found), "green"
        elif probe.error is not None:
            text, style = f"{probe.state}: {printable(probe.error)}", "red"
        else:
            text, style = f"not opened: {printable(probe.note or '')}", "dim"
        out.print(f"{probe.id:<{width}}  {text}", style=style)


def _stream(report: StreamReport) -> str:
    """Format a stream as `h264 1280x720, 25.0 fps, a keyframe every 2.0 s`."""
    rate = "" if report.fps is None else f", {report.fps:.1f} fps"
    interval_s = report.keyframe_interval_s
    keyframes = "" if interval_s is None else f", a keyframe every {interval_s:.1f} s"
    return f"{report.codec} {report.width}x{report.height}{rate}{keyframes}"


def _summary(path: Path, count: int, failures: int) -> str:
    if not failures:
        return f"{path.name} is valid ({plural(count, 'camera')}). Run the hub: {start_command(path)}"
    verb = "sends" if failures == 1 else "send"
    return f"{path.name} is valid, but {failures} of {plural(count, 'camera')} {verb} no frames."
