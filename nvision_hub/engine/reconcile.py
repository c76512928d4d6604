"""What is to be done: the groups there should be and those that run in, actions out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Create:
    """There is no actor of this group."""

    group: str


@dataclass(frozen=True, slots=True)
class Apply:
    """It runs something else than it should."""

    group: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Drain it, and let its actor go."""

    group: str


@dataclass(frozen=True, slots=True)
class Wait:
    """It does not answer, as while Ray starts it anew; to be looked at again."""

    group: str


Action = Create | Apply | Remove | Wait


def reconcile(wanted: Mapping[str, str], running: Mapping[str, str | None]) -> list[Action]:
    """The actions that make `running` into `wanted`, none where they are the same.

    Both are digests by group; that of a group which does not answer is None, of one that has nothing yet "". Those that
    are to end come first: a camera that moves is let go before it is taken up.
    """
    ending: list[Action] = [Remove(group) for group in sorted(running.keys() - wanted.keys())]
    going: list[Action] = []
    for group, digest in sorted(wanted.items()):
        if group not in running:
            going.append(Create(group))
        elif running[group] is None:
            going.append(Wait(group))
        elif running[group] != digest:
            going.append(Apply(group))
    return ending + going
