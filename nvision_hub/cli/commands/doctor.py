"""`doctor`: check everything that the hub needs to start, and explain how to fix problems."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from nvision_hub.broker.redis_check import check_redis, failover_warning
from nvision_hub.cli.camera_probe import BASIC_WARNING, known_certificates, probe_cameras
from nvision_hub.cli.checks import (
    CheckResult,
    CheckStatus,
    failed,
    machine,
    passed,
    run_check,
    service_and_clocks,
    warning,
)
from nvision_hub.cli.options import command, config_argument, json_option, only_option, select_cameras, start_command
from nvision_hub.cli.terminal import console, plural, print_json
from nvision_hub.cluster.identity import HubIdentity
from nvision_hub.control_characters import printable
from nvision_hub.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE, ConfigError, HubError
from nvision_hub.hub import composition, override_store
from nvision_hub.hub.gateway_access import access_warnings
from nvision_hub.hub.plan_warnings import include_warnings, login_warning, tls_warning
from nvision_hub.hub.state_dir import read_endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nvision_hub.cli.camera_probe import ProbeResult
    from nvision_hub.config.redis_section import Redis

_STYLES: Final = {CheckStatus.PASSED: "green", CheckStatus.WARNING: "yellow", CheckStatus.FAILED: "red"}
_CONFIG: Final = "cameras.yaml"
_STATUS_WIDTH: Final = max(map(len, CheckStatus))


@command(
    "nvision-hub doctor",
    "nvision-hub doctor --no-cameras",
    """nvision-hub doctor --json | jq '.checks[] | select(.status != "passed")'""",
)
@config_argument
@only_option
@click.option("--cameras/--no-cameras", "opens", default=True, show_default=True, help="Also open each camera.")
@json_option
def doctor(config_path: Path, only: tuple[str, ...], *, opens: bool, as_json: bool) -> int:
    """Check this machine and CONFIG (cameras.yaml), and explain how to fix problems.

    \b
    Checks cameras.yaml, OpenCV, demo cameras, Redis or the embedded broker, the
    sandbox of the camera workers, /dev/shm, the state directory and its disk
    space, the limit of open files, the ports, the Nvision service and its key,
    the clock, and each camera with its password.

    The exit code is 0 if no check failed, 69 if a check failed, and 78 if cameras.yaml is invalid.
    """  # noqa: D301 - \b keeps the line breaks of the list
    results, out = list[CheckResult](), console()
    for result in _run_checks(config_path, only, opens=opens):
        results.append(result)
        if not as_json:
            out.print(_result_text(result, out.width))
    counts = Counter(result.status for result in results)
    if as_json:
        print_json({"ok": not counts[CheckStatus.FAILED], "checks": [asdict(result) for result in results]})
    else:
        out.print(f"\n{_summary(counts, config_path)}")
    if any(result.name == _CONFIG and result.status is CheckStatus.FAILED for result in results):
        return EXIT_CONFIG
    return EXIT_UNAVAILABLE if counts[CheckStatus.FAILED] else EXIT_OK


def _run_checks(config_path: Path, only: Sequence[str], *, opens: bool) -> Iterator[CheckResult]:
    try:
        config, changes = override_store.read(config_path)
        cameras = select_cameras(config, only)
        plan = composition.plan(config, only=only, overrides=changes)
    except ConfigError as error:
        yield from (failed(_CONFIG, str(diagnostic)) for diagnostic in error.diagnostics)
        yield run_check("OpenCV", machine.opencv_version, required=False)
        return
    except HubError as error:  # no port is free
        yield failed("ports", str(error))
        return
    running = read_endpoints(config.state_dir)
    yield passed(_CONFIG, f"{config.path} is valid ({plural(len(cameras), 'camera')})")
    yield from (warning("included files", sentence) for sentence in include_warnings(config))
    yield from machine.check_libraries(plan)
    yield run_check("sandbox", machine.sandbox_status, required=False)
    yield run_check("semaphores", machine.semaphore_status)
    yield from machine.check_state_dir(config)
    yield machine.check_open_files(len(plan.children))
    yield machine.check_gateway_port(config, running)
    yield from (warning("gateway access", sentence) for sentence in access_warnings(config))
    ahead_s: dict[str, float] = {}
    if config.redis.url.embedded:
        yield machine.check_broker_port(config, running)
        if config.redis.embedded_open:
            message = next(each for each in plan.warnings if "redis.embedded_open" in each)
            yield warning("broker's access", message)
    else:
        reached = run_check("Redis", lambda: _check_redis(config.redis, ahead_s))
        yield reached
        if reached.status is CheckStatus.PASSED and (loss := failover_warning(config.redis)) is not None:
            yield warning("Redis failover", loss)
        yield machine.check_fleet_key(config, is_in_fleet=HubIdentity.from_environ(os.environ) is not None)
    yield from service_and_clocks.check_services(cameras)
    for address in {camera.nvision.url for camera in cameras}:
        if (offset_s := service_and_clocks.service_offset_s(address)) is not None:
            ahead_s[address.shown] = offset_s
    yield service_and_clocks.check_clock(ahead_s)
    yield from (warning(f"TLS of camera {camera.id}", text) for camera in cameras if (text := tls_warning(camera)))
    if (no_login := login_warning(config, cameras, changes)) is not None:
        yield warning("added cameras", no_login)
    if opens:
        yield from map(_camera_result, probe_cameras(cameras, running, known_certificates(config.state_dir)))


def _check_redis(redis: Redis, ahead_s: dict[str, float]) -> str:
    """Connect to Redis, and add the offset of its clock to `ahead_s`. Raises `UnavailableError`."""
    if (offset_s := check_redis(redis)) is not None:
        ahead_s[f"Redis at {redis.url.shown}"] = offset_s
    return f"{redis.url.shown} responds"


def _camera_result(probe: ProbeResult) -> CheckResult:
    name = f"camera {probe.id}"
    if (video := probe.found) is not None:
        message = f"sends {video.codec}, {video.width}x{video.height}; opened in {video.opened_s:.1f} s"
        return warning(name, f"{message}. {BASIC_WARNING}") if video.sends_plain_password else passed(name, message)
    return failed(name, probe.error) if probe.error is not None else passed(name, probe.note or "")


def _result_text(result: CheckResult, width: int) -> Text:
    """Format a result as `failed   Redis: message`. A long message continues on indented lines."""
    head = f"{result.status:<{_STATUS_WIDTH}}  "
    indent = " " * len(head)
    text = printable(f"{result.name}: {result.message}")
    wrapped = textwrap.fill(text, max(40, width), initial_indent=indent, subsequent_indent=indent + "  ")
    return Text.assemble((head, _STYLES[result.status]), (wrapped.removeprefix(indent), "default"))


def _summary(counts: Counter[CheckStatus], config_path: Path) -> str:
    failures, warnings = counts[CheckStatus.FAILED], counts[CheckStatus.WARNING]
    if not failures and not warnings:
        return f"All checks passed. Run the hub: {start_command(config_path)}"
    failure_text = f"{failures} failed" if failures else ""
    warning_text = plural(warnings, "warning") if warnings else ""
    return ", ".join(filter(None, (failure_text, warning_text, f"{counts[CheckStatus.PASSED]} passed")))
