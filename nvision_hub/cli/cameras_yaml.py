"""How verbs are told of a cameras.yaml, and of cameras and webhooks in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from nvision_hub.config.load import as_written
from nvision_hub.config.suggestion import did_you_mean
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.config import Camera, Config, Webhook

DEFAULT: Final = "cameras.yaml"
VARIABLE: Final = "NVISION_HUB_CONFIG"

config_argument = click.argument("config_path", metavar="[CONFIG]", type=click.Path(path_type=Path), default=DEFAULT,
                                 envvar=VARIABLE)  # fmt: skip
config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=DEFAULT,
    envvar=VARIABLE,
    help=f"The configuration.  [default: {DEFAULT}; env: {VARIABLE}]",
)


def complete_camera(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The ids that begin so, for a shell; none where the file cannot be read. Variables need not be set for it."""
    path = Path(context.params.get("config_path") or os.environ.get(VARIABLE) or DEFAULT)
    try:
        tree, _ = as_written(path)
    except ConfigError:
        return []
    cameras = tree.plain().get("cameras")
    entries = cameras if isinstance(cameras, list) else []
    ids = [str(entry.get("id")) for entry in entries if isinstance(entry, dict)]
    return [camera_id for camera_id in ids if camera_id.startswith(incomplete)]


only_option = click.option(
    "--only",
    metavar="ID",
    multiple=True,
    shell_complete=complete_camera,
    help="Only this camera; may be given more than once.",
)


def chosen(config: Config, only: Iterable[str]) -> list[Camera]:
    """The cameras of `only`, or all of them where it is empty. An unknown one is an error of usage."""
    known = [camera.id for camera in config.cameras]
    wanted = set(only)
    if unknown := sorted(wanted - set(known)):
        hint = did_you_mean(unknown[0], known) or f"; there are {', '.join(known)}"
        raise click.UsageError(f"{config.path.name} has no camera {unknown[0]!r}{hint}")
    return [camera for camera in config.cameras if not wanted or camera.id in wanted]


def chosen_webhook(config: Config, webhook_id: str) -> Webhook:
    """The webhook of that id. An unknown one is an error of usage."""
    known = [webhook.id for webhook in config.webhooks]
    if webhook_id not in known:
        hint = did_you_mean(webhook_id, known) or (f"; there are {', '.join(known)}" if known else "; it has none")
        raise click.UsageError(f"{config.path.name} has no webhook {webhook_id!r}{hint}")
    return config.webhooks[known.index(webhook_id)]
