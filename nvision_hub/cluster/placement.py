"""Assignment of cameras to groups, each of which fits on one machine. Performs no I/O.

Moving a camera to another group interrupts its stream, so adding, changing or removing a camera must not move other
cameras. An assignment that depends only on the current cameras cannot both prevent moves and limit group sizes.
`group_cameras` therefore takes the previous assignment, which the caller stores like a lock file:

- A camera stays in its group as long as its placement matches the group's placement.
- Every other camera joins the fullest group that has the same placement and enough room, or a new group.

The size limit applies only when a camera joins a group. If cameras become costlier, a group may exceed the limit. The
launcher must therefore request the group's `millicores` rather than the limit.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from nvision_hub.cluster.cost_model import camera_millicores
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nvision_hub.config.models import Camera
    from nvision_hub.config.value_types import Labels

MAX_MILLICORES: Final = 4000  # default size limit of a group: a small machine or part of a large machine

_WORD: Final = re.compile(r"[a-z0-9]{1,20}")
_NAME: Final = re.compile(r"(?P<stem>[a-z][a-z0-9-]{0,49})-(?P<number>[1-9][0-9]{0,8})")
_ASSIGNMENT: Final = TypeAdapter(dict[str, list[str]])
_MAX_STEM_CHARACTERS: Final = 40


@dataclass(frozen=True, kw_only=True)
class CameraGroup:
    """Cameras that one hub runs. `name` is a unique DNS label of at most 60 characters."""

    name: str
    placement: Labels  # shared by all cameras of the group
    cameras: tuple[str, ...]  # sorted ids; never empty
    millicores: int  # sum over the cameras of the group


def group_cameras(
    cameras: Iterable[Camera], *, previous: Mapping[str, str] | None = None, max_millicores: int = MAX_MILLICORES
) -> tuple[CameraGroup, ...]:
    """Return groups sorted by name. The order of `cameras` does not matter.

    New cameras fill a group up to `max_millicores`. A camera that costs more than `max_millicores` gets its own group.
    `previous` is the `assignment` of an earlier result and may contain cameras that no longer exist.
    """
    by_placement: dict[Labels, list[Camera]] = defaultdict(list)
    for camera in cameras:
        by_placement[camera.placement].append(camera)
    groups = (
        group
        for placement, members in by_placement.items()
        for group in _groups(placement, members, previous or {}, max_millicores)
    )
    return tuple(sorted(groups, key=lambda group: _sort_key(group.name)))


def assignment(groups: Iterable[CameraGroup]) -> dict[str, str]:
    """Return the group name of each camera id. Pass the result as `previous` to the next `group_cameras`."""
    return {camera: group.name for group in groups for camera in group.cameras}


def format_assignment(groups: Iterable[CameraGroup]) -> str:
    """Return an assignment as JSON with one group per line, which makes changes easy to review."""
    lines = (f"{json.dumps(group.name)}: {json.dumps(group.cameras)}" for group in groups)
    return "{{\n  {}\n}}\n".format(",\n  ".join(lines))


def parse_assignment(text: str) -> dict[str, str]:
    """Parse the output of `format_assignment`. Raises `HubError` for any other string."""
    try:
        groups = _ASSIGNMENT.validate_json(text)
    except ValidationError:
        groups = None
    if groups is None or not all(map(_NAME.fullmatch, groups)):
        raise HubError("not an assignment of cameras to groups by nvision-hub; delete it to assign all cameras again")
    return {camera: name for name, ids in groups.items() for camera in ids}


def _groups(
    placement: Labels, cameras: Iterable[Camera], previous: Mapping[str, str], max_millicores: int
) -> Iterator[CameraGroup]:
    stem = _stem(placement)
    members: dict[str, list[Camera]] = defaultdict(list)
    new: list[Camera] = []
    for camera in cameras:
        name = previous.get(camera.id, "")
        parsed = _NAME.fullmatch(name)
        (members[name] if parsed and parsed["stem"] == stem else new).append(camera)
    costs = {name: sum(map(camera_millicores, group)) for name, group in members.items()}
    # Sort by remaining room. The first group with enough room for a camera is then the fullest.
    room = sorted((max_millicores - cost, *_sort_key(name)) for name, cost in costs.items())
    number = 0
    for camera in sorted(new, key=lambda it: (-camera_millicores(it), it.id)):
        cost = camera_millicores(camera)
        index = bisect_left(room, (cost,))
        if index < len(room):
            left, *key = room.pop(index)
            name = f"{key[0]}-{key[1]}"
        else:
            number = next(n for n in range(number + 1, number + len(members) + 2) if f"{stem}-{n}" not in members)
            name, left = f"{stem}-{number}", max_millicores
            costs[name] = 0
        members[name].append(camera)
        costs[name] += cost
        insort(room, (left - cost, *_sort_key(name)))
    for name, group in members.items():
        ids = tuple(sorted(camera.id for camera in group))
        yield CameraGroup(name=name, placement=placement, cameras=ids, millicores=costs[name])


def _stem(placement: Labels) -> str:
    """Return a name that is unique to the placement, such as `site-east-zone-a`.

    Labels are arbitrary strings. If they do not fit into a DNS label or are ambiguous, the name contains a digest.
    """
    if not placement:
        return "any"
    items = sorted(placement.items())
    words = [word for item in items for word in item]
    plain = "-".join(words)
    if (
        all(map(_WORD.fullmatch, words))
        and len(plain) <= _MAX_STEM_CHARACTERS
        and plain[0].isalpha()
        and not plain.startswith("p-")  # names with a digest start with this prefix
    ):
        return plain
    digest = hashlib.sha256(json.dumps(items).encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    readable = readable[: _MAX_STEM_CHARACTERS - len(digest) - 3].strip("-")
    return f"p-{readable}-{digest}" if readable else f"p-{digest}"


def _sort_key(name: str) -> tuple[str, int]:
    """Return a key that sorts group 10 after group 9."""
    stem, _, number = name.rpartition("-")
    return stem, int(number)
