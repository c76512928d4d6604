"""Actions that turn the running groups into the wanted groups. Performs no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class GroupAction(StrEnum):
    REMOVE = "remove"  # drain the actor and end its process
    CREATE = "create"  # the actor is missing
    APPLY = "apply"  # give the actor its current configuration
    AWAIT = "await"  # check again later: the actor does not respond, for example while Ray restarts it


def reconcile(wanted: Mapping[str, str], running: Mapping[str, str | None]) -> list[tuple[GroupAction, str]]:
    """Return (action, group) pairs that make `running` equal to `wanted`.

    Both arguments map groups to digests of their configurations. In `running`, a digest is None if the group does not
    respond, and empty if the group has no configuration yet. Removals come first, so that cameras can change groups.
    """
    actions = [(GroupAction.REMOVE, group) for group in sorted(running.keys() - wanted.keys())]
    for group, digest in sorted(wanted.items()):
        if group not in running:
            actions.append((GroupAction.CREATE, group))
        elif running[group] != digest:
            actions.append((GroupAction.AWAIT if running[group] is None else GroupAction.APPLY, group))
    return actions
