"""`init`: a cameras.yaml to start from."""

from __future__ import annotations

import os
from pathlib import Path

import click

from nvision_hub.cli.cameras_yaml import DEFAULT
from nvision_hub.config.template import template
from nvision_hub.errors import HubError


@click.command(
    epilog="""\b
Examples:
  nvision-hub init
  nvision-hub init site-a/cameras.yaml
"""
)
@click.argument("path", type=click.Path(path_type=Path), default=DEFAULT)
def init(path: Path) -> None:
    """Write a commented cameras.yaml to PATH; an existing file is never overwritten.

    It runs as it is, with a demo camera and the service that comes along.
    """
    try:
        # For its owner alone: people write passwords into it, though they need not.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError as error:
        raise HubError(
            f"{path} is there already and stays as it is; name another file: nvision-hub init FILE"
        ) from error
    except OSError as error:
        raise HubError(f"{path} cannot be written ({error.strerror}); name a file in a folder that is yours") from error
    name = "" if str(path) == DEFAULT else f" {path}"
    print(f"{path} is written. Next:")
    print(f"  nvision-hub start{name}    run it as it is: a demo camera, a local service, results on Redis")
    print("  nvision-hub probe URL    see what your own camera sends")
    print(f"  nvision-hub check{name}    after every change: all mistakes at once, with line and column")
