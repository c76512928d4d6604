"""`doctor`: everything that a start needs, looked at in turn, and how to mend what is missing."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from nvision_hub import hub
from nvision_hub.cli.cameras_yaml import chosen, config_argument, only_option
from nvision_hub.cli.checkup import clock, machine, ports
from nvision_hub.cli.checkup.finding import Finding, Verdict, attempted, failed, ok
from nvision_hub.cli.checkup.service import services
from nvision_hub.cli.look import look_at
from nvision_hub.cli.options import json_option
from nvision_hub.cli.progress import progress
from nvision_hub.cli.terminal import console, harmless
from nvision_hub.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE, ConfigError, HubError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nvision_hub.cli.look import Look
    from nvision_hub.config import Camera, Config

_STYLES: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}
_CONFIG: Final = "cameras.yaml"
_VERDICT_WIDTH: Final = max(map(len, Verdict))


@click.command(
    epilog="""\b
Examples:
  nvision-hub doctor
  nvision-hub doctor --no-cameras                 (opens none)
  nvision-hub doctor --json | jq '.findings[] | select(.verdict != "ok")'
"""
)
@config_argument
@only_option
@click.option("--cameras/--no-cameras", "opens", default=True, show_default=True, help="Also open every camera.")
@json_option
def doctor(config_path: Path, only: tuple[str, ...], *, opens: bool, as_json: bool) -> int:
    """Check everything that a start of CONFIG (cameras.yaml) needs, and say how to mend what is missing.

    \b
    cameras.yaml, OpenCV, demo cameras, embedded broker or Redis, the folder for
    data and its room, the limit of open files, the ports, the Nvision service and
    its key, the clock, and each camera with its password

    Exit code 0 where nothing has failed, 69 where something has, 78 where cameras.yaml cannot be used.
    """  # noqa: D301 - \b keeps the lines above as they are
    findings, shown = list[Finding](), console()
    for finding in _examine(config_path, only, opens=opens):
        findings.append(finding)
        if not as_json:
            _show(finding, shown.width)
    verdicts = Counter(finding.verdict for finding in findings)
    if as_json:
        facts = {"ok": not verdicts[Verdict.FAILED], "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        shown.print(f"\n{_summary(verdicts)}")
    if any(finding.name == _CONFIG and finding.verdict is Verdict.FAILED for finding in findings):
        return EXIT_CONFIG
    return EXIT_UNAVAILABLE if verdicts[Verdict.FAILED] else EXIT_OK


def _examine(config_path: Path, only: Sequence[str], *, opens: bool) -> Iterator[Finding]:
    try:
        config, run_time = hub.read(config_path)
        cameras = chosen(config, only)
        plan = hub.plan(config, only=only, run_time=run_time)
    except ConfigError as error:
        yield from (failed(_CONFIG, problem) for problem in error.problems)
        yield attempted("OpenCV", machine.opencv_version, needed=False)  # what can be told without it
        return
    except HubError as error:  # no free port
        yield failed("ports", str(error))
        return
    running = hub.addresses_of(config.state_dir)
    count = f"{len(cameras)} camera{'' if len(cameras) == 1 else 's'}"
    yield ok(_CONFIG, f"{config.path} is good: {count}")
    yield from machine.libraries(plan)
    yield from machine.state_dir(config)
    yield machine.open_files(len(plan.children))
    yield ports.gateway(config, running)
    ahead_s: dict[str, float] = {}
    if config.redis.url.embedded:
        yield ports.broker(config, running)
    else:
        yield attempted("Redis", lambda: _redis(config, ahead_s))
    yield from services(cameras)
    for address in {camera.nvision.url for camera in cameras}:
        if (ahead := clock.of_service(address)) is not None:
            ahead_s[address.shown] = ahead
    yield clock.judge(ahead_s)
    if opens:
        yield from _cameras(cameras, running)


def _redis(config: Config, ahead_s: dict[str, float]) -> str:
    where = config.redis.url.shown
    ahead = hub.ask_redis(config)
    if ahead is not None:
        ahead_s[f"Redis at {where}"] = ahead
    return f"{where} answers"


def _cameras(cameras: Sequence[Camera], running: hub.Addresses | None) -> Iterator[Finding]:
    looks = {look.camera: look for look in progress(look_at(cameras, running), len(cameras), "cameras")}
    yield from (_camera(looks[camera.id]) for camera in cameras)


def _camera(look: Look) -> Finding:
    name = f"camera {look.camera}"
    if look.found is not None:
        video = look.found
        return ok(name, f"sends {video.codec}, {video.width}x{video.height}, opened in {video.opened_s:.1f} s")
    return failed(name, look.trouble) if look.trouble is not None else ok(name, look.note or "")


def _show(finding: Finding, width: int) -> None:
    """`failed   Redis: sentence`, wrapped to the width under its name."""
    head = f"{finding.verdict:<{_VERDICT_WIDTH}}  "
    indent = " " * len(head)
    text = harmless(f"{finding.name}: {finding.sentence}")
    lines = textwrap.wrap(text, max(40, width), initial_indent=indent, subsequent_indent=indent + "  ")
    line = Text(head, style=_STYLES[finding.verdict])
    line.append("\n".join(lines).removeprefix(indent), style="default")
    console().print(line)


def _summary(verdicts: Counter[Verdict]) -> str:
    if not verdicts[Verdict.FAILED] and not verdicts[Verdict.WARNING]:
        return "All is well: `nvision-hub start` will run."
    told = [f"{verdicts[each]} {text}" for each, text in _COUNTED.items() if verdicts[each]]
    return f"{', '.join(told)}, {verdicts[Verdict.OK]} ok."


_COUNTED: Final = {Verdict.FAILED: "failed", Verdict.WARNING: "to know of"}
