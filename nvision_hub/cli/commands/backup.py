"""`backup` and `restore`: save the state directory to one file, and restore it."""

from __future__ import annotations

from pathlib import Path

import click

from nvision_hub.cli.hub_choice import HubOptions, find_state_dir, hub_options
from nvision_hub.cli.options import command
from nvision_hub.cli.terminal import console
from nvision_hub.control_characters import printable
from nvision_hub.hub.state_backup import restore_backup, write_backup

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@command(
    "nvision-hub backup hub-2026-12-01.zip",
    "sudo nvision-hub backup hub.zip --state-dir /var/lib/nvision-hub",
)
@_FILE
@hub_options
def backup(file: Path, chosen: HubOptions) -> None:
    """Write the state of a hub to FILE, even while the hub runs.

    The backup contains the usage of images and the changes made at run time. If no hub runs, it also contains the
    results and track events that wait for Redis. FILE must not exist. It is private (mode 0600), because run-time
    changes may contain passwords.
    """
    content = write_backup(find_state_dir(chosen), file)
    for name in content.files:
        print(printable(name))
    if content.is_hub_running:
        text = "Results and track events that wait for Redis are not in the backup, because the hub runs."
        console(stderr=True).print(text, style="dim")


@command(
    "nvision-hub restore hub-2026-12-01.zip",
    "sudo nvision-hub restore hub.zip --state-dir /var/lib/nvision-hub",
)
@_FILE
@hub_options
def restore(file: Path, chosen: HubOptions) -> None:
    """Restore the state of a hub from FILE, which `backup` wrote. Stop the hub first.

    The command replaces the usage of images and the changes made at run time. Images that were sent after the backup
    are missing from the usage. Results and track events in the backup are delivered again, unless they are older than
    redis.spool_max_age. If others wait for Redis now, the command changes nothing.
    """
    content = restore_backup(file, find_state_dir(chosen))
    for name in content.files:
        print(printable(name))
    console(stderr=True).print(f"Restored the state of {content.created_at}.", style="dim")
