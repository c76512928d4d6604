"""Which cameras run together where one machine is not enough: cameras in, groups out. Starts, reads and keeps nothing.

A camera that changes its group is for a while streamed by nobody, or by two; so none changes it unasked. A rule that
looks at today's cameras alone cannot promise that and bound the groups as well: if adding a camera moves no other,
whatever the others are, then a camera's group follows from that camera alone, and a group fills without end. So `group`
is also given where the cameras were (`former`), which its caller keeps, as a package manager keeps its lock file:

- a camera that has a group whose placement is still its own stays there, whatever else comes, goes or changes;
- any other goes to the fullest group of its placement that has room for it, and to a new one where none has.

Only newcomers fill a group up to its bound. One that outgrows it, since its own cameras were given more to do, is left
as it is: `Group.millicores` tells, and whoever gives it a machine asks for that much.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub import costs
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nvision_hub.config import Camera, Labels

MOST_MILLICORES: Final = 4000  # of one group, where nothing else is said: a small machine, or a part of a large one

# Codec, size and keyframes are not known before a camera is opened: all are reckoned as 1080p H.264 at 25 pictures a
# second, the dearest that is common.
_LEAST: Final = (
    40  # millicores of a process, whatever it does; and never more than a hundred cameras fail with one group
)
_PACKETS_PER_S: Final = 25
_ALL_DECODED_FROM_FPS: Final = 2.0  # below, packets that no picture needs are left out

_WORD: Final = re.compile(r"[a-z0-9]{1,20}")
_NAME: Final = re.compile(r"(?P<stem>[a-z][a-z0-9-]{0,49})-(?P<number>[1-9][0-9]{0,8})")
_ANYWHERE: Final = "any"
_STEM_CHARACTERS: Final = 40
_DIGEST_CHARACTERS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cameras that one hub runs. `name` (a DNS label of at most 60 characters) is unique among the groups."""

    name: str
    placement: Labels  # of each of its cameras
    cameras: tuple[str, ...]  # ids, sorted; never empty
    millicores: int  # what its cameras come to


def millicores(camera: Camera) -> int:
    """What a camera is reckoned to cost, in thousandths of a core; an upper bound for most.

    `when: motion` is no cheaper: what moves is found by decoding, and the cameras of one place tend to see movement at
    the same time.
    """
    if camera.url.kind in ("mjpeg", "snapshot"):
        codec, decoded_per_s = "mjpeg", camera.fps if _is_changed(camera) else 0.0
    else:
        share = 1.0 if camera.when == "motion" else min(1.0, camera.fps / _ALL_DECODED_FROM_FPS)
        codec, decoded_per_s = "h264", _PACKETS_PER_S * share
    decoding = decoded_per_s * costs.decoding_ms(codec, costs.FULL_HD)
    picture = costs.picture_ms(costs.FULL_HD, max_width=camera.max_width, passed_on=not decoded_per_s)
    return max(_LEAST, round(costs.PROCESS_MS_PER_S + decoding + camera.fps * picture))


def group(
    cameras: Iterable[Camera], *, former: Mapping[str, str] | None = None, most: int = MOST_MILLICORES
) -> tuple[Group, ...]:
    """All cameras in groups, each of one placement, sorted by name; the order of `cameras` makes no difference.

    `most` is what newcomers may fill a group up to, in millicores; a camera that is dearer has a group of its own.
    `former` is the group's name of each camera that had one. What it says of others is passed over. Two calls of which
    each is given the result of the one before (`assignment`) leave every camera that both know where it was, unless its
    placement is another now.
    """
    former = former or {}
    of_placement: dict[Labels, list[Camera]] = defaultdict(list)
    for camera in cameras:
        of_placement[camera.placement].append(camera)
    groups = (found for placement, those in of_placement.items() for found in _placed(placement, those, former, most))
    return tuple(sorted(groups, key=lambda found: _sort_key(found.name)))


def assignment(groups: Iterable[Group]) -> dict[str, str]:
    """The group's name of each camera: the next call's `former`."""
    return {camera: found.name for found in groups for camera in found.cameras}


def written(groups: Iterable[Group]) -> str:
    """An assignment as the text of a file, a line a group, so that a change can be reviewed."""
    lines = (f"{json.dumps(found.name)}: {json.dumps(found.cameras)}" for found in groups)
    return "{{\n  {}\n}}\n".format(",\n  ".join(lines))


def read(text: str) -> dict[str, str]:
    """An assignment from that text. Raises `HubError` for any other."""
    try:
        known = json.loads(text)
    except ValueError:
        known = None
    if not isinstance(known, dict) or not all(_NAME.fullmatch(name) and _is_ids(ids) for name, ids in known.items()):
        raise HubError("it does not hold groups of cameras as nvision-hub writes them; delete it to group anew")
    return {camera: name for name, ids in known.items() for camera in ids}


def _placed(placement: Labels, cameras: Iterable[Camera], former: Mapping[str, str], most: int) -> Iterator[Group]:
    """The groups of one placement."""
    stem = _stem(placement)
    members: dict[str, list[Camera]] = defaultdict(list)
    newcomers = []
    for camera in cameras:
        name = former.get(camera.id, "")
        if _is_of(stem, name):
            members[name].append(camera)
        else:
            newcomers.append(camera)
    weight = {name: sum(map(millicores, those)) for name, those in members.items()}
    # Sorted by what is left, then by name: the first that a newcomer fits into is the fullest.
    room = sorted((most - weight[name], *_sort_key(name)) for name in members)
    number = 0
    for camera in sorted(newcomers, key=lambda it: (-millicores(it), it.id)):
        cost = millicores(camera)
        place = bisect_left(room, (cost,))
        if place < len(room):
            left, *key = room.pop(place)
            name = f"{key[0]}-{key[1]}"
        else:
            number = next(n for n in range(number + 1, number + len(members) + 2) if f"{stem}-{n}" not in members)
            name, left = f"{stem}-{number}", most
            weight[name] = 0
        members[name].append(camera)
        weight[name] += cost
        insort(room, (left - cost, *_sort_key(name)))
    for name, those in members.items():
        ids = tuple(sorted(camera.id for camera in those))
        yield Group(name=name, placement=placement, cameras=ids, millicores=weight[name])


def _is_changed(camera: Camera) -> bool:
    """Whether a JPEG that the camera made cannot be passed on as it is."""
    return camera.max_width is not None or bool(camera.masks) or camera.when == "motion"


def _stem(placement: Labels) -> str:
    """What the names of all groups of a placement begin with: `site-east-zone-a`; another for each other placement.

    Labels are free texts. What no name can hold, or what would not tell where a key ends, is told apart by a digest.
    """
    if not placement:
        return _ANYWHERE
    items = sorted(placement.items())
    plain = "-".join(part for item in items for part in item)
    if all(_WORD.fullmatch(part) for item in items for part in item) and _fits(plain):
        return plain
    digest = hashlib.sha256(json.dumps(items).encode()).hexdigest()[:_DIGEST_CHARACTERS]
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    kept = words[: _STEM_CHARACTERS - len(digest) - 3].strip("-")
    return f"p-{kept}-{digest}" if kept else f"p-{digest}"


def _fits(stem: str) -> bool:
    """As it is: short enough, begun by a letter, and like none of those that this module makes up."""
    return len(stem) <= _STEM_CHARACTERS and stem[0].isalpha() and not stem.startswith("p-")


def _is_of(stem: str, name: str) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and found["stem"] == stem


def _sort_key(name: str) -> tuple[str, int]:
    """By number, not by digits: 10 comes after 9."""
    stem, _, number = name.rpartition("-")
    return stem, int(number)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
