"""Numbers of decoded and sent frames for several packet histories. A change in CPU cost makes these tests fail.

Decoding causes most of a camera's cost. The numbers are exact, because the pipeline runs on a simulated clock. They
come from an earlier version, in which the gate and the planner did not own their buffers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.decode.motion_gate import MotionGate
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.sources import Packet, StreamFacts
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SECONDS = 60
FPS = 25
BEGAN = 1000.0
MOTION = (20.5, 26.0)
RATES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
EMPTY = np.random.default_rng(1).integers(60, 160, (90, 160, 3)).astype(np.uint8)


def scene(at: float) -> NDArray[np.uint8]:
    if not MOTION[0] <= at < MOTION[1]:
        return EMPTY
    frame = EMPTY.copy()
    left = round((at - MOTION[0]) * 20)
    frame[40:70, left : left + 12] += 90
    return frame


@dataclass(kw_only=True)
class History:
    """A camera's packets. `stalls`: the network stalls for 2 of every 15 s. `reorders`: the decoder delays frames."""

    gop: int
    reorders: bool = False
    stalls: bool = False
    now: float = BEGAN
    pending: list[tuple[float | None, Any]] = field(default_factory=list)
    facts: StreamFacts = field(init=False)

    def __post_init__(self) -> None:
        self.facts = StreamFacts(codec="h264", width=160, height=90, fps=None, reorders=self.reorders)

    def packets(self) -> Iterator[Packet]:
        for number in range(SECONDS * FPS):
            media_s = number / FPS
            stall_s = max(0.0, 2 - media_s % 15) if self.stalls else 0.0
            self.now = max(self.now, BEGAN + media_s + stall_s)
            yield Packet(
                payload=media_s, arrived=self.now, media_s=media_s, keyframe=number % self.gop == 0, size_bytes=5_000
            )

    def decode(self, packet: Packet, *, is_due: bool = True, is_alone: bool = False) -> list[tuple[float | None, Any]]:
        if is_alone:
            self.pending.clear()
            return [(packet.media_s, scene(packet.payload))]
        if packet.discontinuity:
            self.pending.clear()
        if is_due or packet.keyframe or round(packet.payload * FPS) % 2:
            self.pending.append((packet.media_s, scene(packet.payload)))
        ready = max(0, len(self.pending) - (2 if self.reorders else 0))
        frames, self.pending = self.pending[:ready], self.pending[ready:]
        return frames

    def close(self) -> None:
        """Do nothing."""


def play(history: History, fps: float, *, motion: bool) -> tuple[int, int]:
    """Return the numbers of decoded and sent frames."""
    settings = {"id": "a", "url": "rtsp://10.0.0.5/x", "fps": fps, "when": "motion"}
    camera = Camera.model_validate(settings | {"motion": {"cooldown": 3.0, "idle_fps": 0.2}})
    meter, sent = Meter(), list[float]()
    pipeline = DecodePipeline(
        source=history,
        fps=fps,
        meter=meter,
        on_frame=lambda _frame, at, _is_behind: sent.append(at),
        gate=MotionGate(camera) if motion else None,
        now=lambda: history.now,
    )
    for packet in history.packets():
        pipeline.push(packet, fps)
    return round(meter.value(catalogue.FRAMES_DECODED_TOTAL)), len(sent)


HISTORIES = {
    "GOP of 1 s": History(gop=25),
    "GOP of 2 s": History(gop=50),
    "GOP of 2 s, B-frames": History(gop=50, reorders=True),
    "GOP of 10 s": History(gop=250),
    "every packet a keyframe": History(gop=1),
    "stalls": History(gop=50, stalls=True),
}
# Key: history, and whether `when: motion` is set. Value: numbers of decoded and sent frames at each of `RATES`.
RECORDED: dict[tuple[str, bool], list[tuple[int, int]]] = {
    ("GOP of 1 s", False): [(12, 12), (30, 30), (60, 60), (493, 120), (782, 300), (1122, 600)],
    ("GOP of 1 s", True): [(71, 12), (84, 18), (99, 26), (209, 43), (283, 94), (375, 179)],
    ("GOP of 2 s", False): [(12, 12), (30, 30), (432, 60), (666, 120), (842, 300), (1171, 600)],
    ("GOP of 2 s", True): [(93, 12), (106, 18), (182, 27), (253, 44), (302, 95), (390, 180)],
    ("GOP of 2 s, B-frames", False): [(12, 12), (30, 30), (462, 60), (757, 120), (1113, 300), (1498, 600)],
    ("GOP of 2 s, B-frames", True): [(91, 12), (106, 18), (203, 27), (295, 44), (387, 95), (470, 179)],
    ("GOP of 10 s", False): [(386, 12), (630, 30), (720, 60), (810, 120), (890, 300), (1194, 600)],
    ("GOP of 10 s", True): [(627, 12), (962, 21), (1080, 36), (1162, 66), (1219, 154), (1366, 302)],
    ("every packet a keyframe", False): [(12, 12), (30, 30), (60, 60), (120, 120), (300, 300), (600, 600)],
    ("every packet a keyframe", True): [(129, 13), (140, 19), (150, 28), (164, 41), (204, 86), (270, 159)],
    ("stalls", False): [(9, 9), (23, 23), (373, 50), (589, 100), (730, 250), (1004, 500)],
    ("stalls", True): [(76, 11), (92, 16), (167, 23), (248, 37), (286, 79), (358, 149)],
}


@pytest.mark.parametrize(("name", "motion"), RECORDED)
def test_decode_counts_match_the_recorded_ones(name: str, motion: bool) -> None:  # noqa: FBT001 - a case
    counts = []
    for fps in RATES:
        history = HISTORIES[name]
        counts.append(play(replace(history, pending=[]), fps, motion=motion))
    assert counts == RECORDED[name, motion]
