"""Reader of the frame counter in JPEGs and decoded frames, which matches received frames with sent frames."""

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
    """Return the number in a JPEG; None if the image has no number."""
    return counter.read(np.asarray(simplejpeg.decode_jpeg(jpeg, "GRAY"))[:, :, 0])


def of_frame(frame: av.VideoFrame) -> int | None:
    """Return the number in a decoded planar YUV frame; None if the frame has no number."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return counter.read(rows[: frame.height, : frame.width])


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """One frame that a camera sent. `at` is CLOCK_MONOTONIC just before the send."""

    serial: int  # number of the frame since the camera's start, across loops of the clip
    number: int  # the counter in the frame
    at: float


def pushes(log: Path, mount: str) -> list[Push]:
    """Return the frames that the camera at `mount` has sent so far in order. Ignore an incomplete last line."""
    lines = log.read_text().split("\n")[:-1]
    records = [json.loads(line) for line in lines]
    return [
        Push(serial=record["serial"], number=record["number"], at=record["at"])
        for record in records
        if record["mount"] == mount
    ]


class Unwrapper:
    """Matcher of received frames of a looping clip with the frames that the camera sent.

    Frames must arrive in the order in which they were sent, less than one loop of the clip apart. The first received
    frame matches the latest sent frame with the same number.
    """

    def __init__(self, sent: Sequence[Push]) -> None:
        self._sent = sent
        self._next: int | None = None

    def find(self, number: int, seen_at: float) -> Push:
        """Return the frame with `number`, received at `seen_at` (CLOCK_MONOTONIC), or raise `LookupError`."""
        if self._next is None:
            latest = bisect_right([push.at for push in self._sent], seen_at)
            candidates: Sequence[int] = range(latest - 1, -1, -1)
        else:
            candidates = range(self._next, len(self._sent))
        for index in candidates:
            if self._sent[index].number == number:
                self._next = index + 1
                return self._sent[index]
        raise LookupError(f"no frame with the number {number} was sent")
