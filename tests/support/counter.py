"""The burnt-in counter as tests meet it: read from JPEGs and decoded frames, unwrapped, and turned into an age."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg

from workers.demo import counter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import av


def of_jpeg(jpeg: bytes) -> int | None:
    """The number in a JPEG, None where it shows none."""
    return counter.read(np.asarray(simplejpeg.decode_jpeg(jpeg, "GRAY"))[:, :, 0])


def of_frame(frame: av.VideoFrame) -> int | None:
    """The number in a decoded frame of planar YUV, None where it shows none."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return counter.read(rows[: frame.height, : frame.width])


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """One picture as its camera sent it: `at` is CLOCK_MONOTONIC just before it left."""

    serial: int  # counts from the camera's start, through every turn of the clip
    number: int  # what the picture shows
    at: float


def pushes(log: Path, mount: str) -> list[Push]:
    """What the camera at `mount` has sent so far, in order; a line still being written is left for the next time."""
    lines = log.read_text().split("\n")[:-1]
    records = [json.loads(line) for line in lines]
    return [
        Push(serial=record["serial"], number=record["number"], at=record["at"])
        for record in records
        if record["mount"] == mount
    ]


class Unwrapper:
    """Tells which sent picture each seen one is, though the clip's numbers come round again and again.

    Pictures must be given in the order they were sent and less than one turn of the clip apart; the first is taken
    for the latest of its number that had been sent when it was seen.
    """

    def __init__(self, sent: Sequence[Push]) -> None:
        self._sent = sent
        self._next: int | None = None

    def find(self, number: int, seen_at: float) -> Push:
        """The picture that shows `number`, seen at `seen_at` (CLOCK_MONOTONIC). Raises `LookupError` for none."""
        if self._next is None:
            latest = bisect_right([push.at for push in self._sent], seen_at)
            candidates: Sequence[int] = range(latest - 1, -1, -1)
        else:
            candidates = range(self._next, len(self._sent))
        for place in candidates:
            if self._sent[place].number == number:
                self._next = place + 1
                return self._sent[place]
        raise LookupError(f"no picture that shows {number} had been sent")
