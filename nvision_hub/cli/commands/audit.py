"""`audit`: show the changes to the hub and the refused attempts, read from the audit log."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Final

import click

from nvision_hub.access.audit_log import AUDIT
from nvision_hub.cli.hub_choice import HubOptions, find_state_dir, hub_options
from nvision_hub.cli.options import command, json_option
from nvision_hub.cli.terminal import console, local_time, print_json
from nvision_hub.control_characters import printable
from nvision_hub.errors import HubError
from nvision_hub.logs.tail import LogTail

_STYLES: Final = {"done": "green", "refused": "red", "failed": "yellow"}


@command(
    "nvision-hub audit",
    "nvision-hub audit -f",
    "nvision-hub audit --json | jq 'select(.outcome == \"refused\")'",
)
@click.option("-f", "--follow", is_flag=True, help="Show new entries as they arrive, until Ctrl-C.")
@click.option("-n", "--lines", "count", metavar="N", type=click.IntRange(min=0), default=50,
              show_default=True, help="Number of earlier entries to show first.")  # fmt: skip
@hub_options
@json_option
def audit(count: int, chosen: HubOptions, *, follow: bool, as_json: bool) -> None:
    """Show who changed the hub through its API or was refused, even if no hub is running.

    Each line shows the time, the outcome, the client (the token's name, or the user of a proxy), its address, and the
    action with its camera or webhook. Repeated refusals of one client share an entry, which counts them.
    """
    out, err = console(), console(stderr=True)
    folder = find_state_dir(chosen)
    with contextlib.closing(LogTail(folder, AUDIT)) as reader:
        try:
            entries = reader.last(count)
        except OSError as error:
            problem = f"the audit log in {folder} cannot be read ({error.strerror}); run the command as the hub's user"
            raise HubError(problem) from error
        if count and not entries and not follow:
            err.print("The audit log is empty.", style="dim")
        for entry in itertools.chain(entries, reader.follow() if follow else ()):
            if as_json:
                print_json(entry, indent=None)
            else:
                outcome = str(entry.get("outcome"))
                out.print(f"{local_time(entry.get('at'))}  ", end="")
                out.print(f"{printable(outcome):<7}", style=_STYLES.get(outcome), end="")
                out.print(f"  {_summary(entry)}")


def _summary(entry: dict[str, Any]) -> str:
    """Format an entry as `ops (control) from 10.0.0.7: camera_set lobby fps=2`."""
    actor, role = entry.get("actor") or "unknown", entry.get("role")
    client = f"{actor} ({role})" if role and not entry.get("token") else str(actor)
    origin = f" from {entry['address']}" if entry.get("address") else " on this machine"
    values = entry.get("values")
    changed = [f"{key}={value}" for key, value in values.items()] if isinstance(values, dict) else []
    target = [entry.get(key) for key in ("camera", "webhook", "token")]
    reason = entry.get("code") or (entry.get("status") if entry.get("outcome") == "failed" else None)
    more = f"{entry['suppressed']} more tries without an entry" if entry.get("suppressed") else None
    words = [str(entry.get("action")), *(str(each) for each in target if each), *changed]
    notes = ", ".join(str(note) for note in (reason, more) if note)
    return printable(f"{client}{origin}: {' '.join(words)}{f' ({notes})' if notes else ''}")
