"""The decode pipeline with `when: motion`: for any camera, it never skips a reference frame and never misses motion.

The source acts as the camera and as a strict decoder. This decoder fails on packets that a real decoder would decode to
corrupt frames. The scene is static except for a moving figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvision_hub.config.models import Camera
from nvision_hub.media.decode.decode_planner import BUDGET_EXCESS, BUDGET_WINDOW_S
from nvision_hub.media.decode.motion_gate import (
    FRAME_CHECK_INTERVAL_S,
    KEYFRAME_CHECK_INTERVAL_S,
    MAX_KEYFRAME_INTERVAL_S,
    PRE_ROLL_S,
    MotionGate,
)
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.sources import Packet, StreamFacts
from nvision_hub.metrics.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

COOLDOWN_S = 2.0


@cache
def frame(moved: int) -> NDArray[np.uint8]:
    """Draw a room. If `moved` is 0, the room is empty. Otherwise, a person stands `moved` steps from the door."""
    seen = np.random.default_rng(1).integers(60, 160, (90, 160, 3)).astype(np.uint8)
    if moved:
        left = moved * 4 % 140
        seen[40:70, left : left + 12] += 90
    return seen


@dataclass(kw_only=True)
class StrictSource:
    """A camera. `gop` is the length of a GOP in packets. Motion occurs in the intervals `moves`, in seconds."""

    fps: float
    gop: int
    seconds: float
    moves: Sequence[tuple[float, float]]
    size_bytes: int = 5_000  # size of each packet while the scene is idle
    constant: bool = False  # the size stays the same during motion
    lost: frozenset[int] = frozenset()  # numbers of the packets that the network loses
    facts: StreamFacts = field(default_factory=lambda: StreamFacts(codec="h264", width=160, height=90, fps=None))
    began: float = 1000.0
    now: float = began  # simulated time
    decoded: int = 0
    _last: int | None = None

    def packets(self) -> Iterator[Packet]:
        for number in range(round(self.seconds * self.fps)):
            self.now = self.began + number / self.fps + 0.03
            if number not in self.lost:
                moves = any(begin <= number / self.fps < end for begin, end in self.moves)
                yield Packet(
                    payload=number,
                    arrived=self.now,
                    media_s=number / self.fps,
                    keyframe=number % self.gop == 0,
                    size_bytes=self.size_bytes * (3 if moves and not self.constant else 1),
                )

    def decode(
        self,
        packet: Packet,
        *,
        is_due: bool = True,  # noqa: ARG002 - all are kept
        is_alone: bool = False,
    ) -> list[tuple[float | None, Any]]:
        number = packet.payload
        assert packet.keyframe or not is_alone
        if not packet.keyframe:
            before = next(n for n in range(number - 1, -1, -1) if n not in self.lost)
            assert self._last == before, f"{number} without {before}, which it builds on"
        self._last = None if is_alone else number
        self.decoded += 1
        at = number / self.fps
        moved = next((1 + round((at - begin) * 5) for begin, end in self.moves if begin <= at < end), 0)
        return [(at, frame(moved))]

    def close(self) -> None:
        """Do nothing."""


# Length of a GOP in seconds, and the maximum share of packets decoded in an idle scene.
GOP_COSTS = [(2.0, 0.05), (MAX_KEYFRAME_INTERVAL_S - 0.04, 0.03), (1.0, 0.08), (0.5, 0.1), (10.0, 1.1)]


@dataclass
class Outcome:
    at: list[float] = field(default_factory=list)
    share_decoded: float = 0.0


def play(source: StrictSource, *, fps: float, idle_fps: float = 0.2) -> Outcome:
    camera = Camera.model_validate(
        {
            "id": "room",
            "url": "rtsp://10.0.0.5/x",
            "fps": fps,
            "when": "motion",
            "motion": {"cooldown": COOLDOWN_S, "idle_fps": idle_fps},
        }
    )
    outcome = Outcome()
    pipeline = DecodePipeline(
        source=source,
        fps=fps,
        meter=Meter(),
        on_frame=lambda _frame, at, _behind: outcome.at.append(at - source.began - 0.03),
        gate=MotionGate(camera),
        now=lambda: source.now,
    )
    for packet in source.packets():
        pipeline.push(packet, fps)
    outcome.share_decoded = source.decoded / (source.seconds * source.fps)
    return outcome


@dataclass(frozen=True, kw_only=True)
class Case:
    camera_fps: float
    gop: int
    fps: float
    idle_fps: float
    begin: float
    lasts_s: float
    size_bytes: int
    constant: bool
    lost: frozenset[int]

    @property
    def gop_s(self) -> float:
        return self.gop / self.camera_fps


cases = st.builds(
    Case,
    camera_fps=st.sampled_from([5.0, 12.5, 25.0]),
    gop=st.integers(1, 300),
    fps=st.sampled_from([2.0, 5.0]),
    idle_fps=st.sampled_from([0.1, 0.5, 2.0]),
    begin=st.floats(15, 20),
    lasts_s=st.floats(1, 8),
    size_bytes=st.sampled_from([2_000, 100_000]),
    constant=st.booleans(),
    # The first packet is never lost, because nothing can be decoded before a keyframe.
    lost=st.frozensets(st.integers(1, 900), max_size=3),
)


@settings(max_examples=60)
@given(case=cases)
def test_motion_is_sent_for_any_camera_at_any_rate(case: Case) -> None:
    # Only packet sizes can reveal motion between two keyframes. With constant sizes, only longer motion is detected.
    lasts_s = (
        max(case.lasts_s, 1.1 * case.gop_s + 1)
        if case.constant and case.gop_s <= MAX_KEYFRAME_INTERVAL_S
        else case.lasts_s
    )
    moves = [(case.begin, case.begin + lasts_s), (case.begin + 17, case.begin + 17 + lasts_s)]
    source = StrictSource(
        fps=case.camera_fps,
        gop=case.gop,
        seconds=50,
        moves=moves,
        size_bytes=case.size_bytes,
        constant=case.constant,
        lost=case.lost,
    )
    outcome = play(source, fps=case.fps, idle_fps=case.idle_fps)
    assert outcome.at == sorted(set(outcome.at))
    # The budget includes frames sent while the scene is idle.
    for begin in outcome.at:
        sent = sum(begin <= at <= begin + BUDGET_WINDOW_S for at in outcome.at)
        assert sent <= case.fps * BUDGET_WINDOW_S * BUDGET_EXCESS + 1
    for begin, end in moves:
        seen = [begin, *(at for at in outcome.at if begin <= at < end), end]
        # Frames decoded before motion is detected cannot be sent later, except for the checked frames.
        rate = min(case.fps, 1 / FRAME_CHECK_INTERVAL_S)
        most = 2.2 / rate + (1 + len(case.lost)) / case.camera_fps
        assert max(later - earlier for earlier, later in pairwise(seen)) <= most


@pytest.mark.parametrize(
    ("gop_s", "most"), [(2.0, 0.05), (MAX_KEYFRAME_INTERVAL_S - 0.04, 0.03), (1.0, 0.08), (0.5, 0.1), (10.0, 1.1)]
)
def test_an_idle_scene_decodes_few_packets(gop_s: float, most: float) -> None:
    source = StrictSource(fps=25, gop=round(gop_s * 25), seconds=600, moves=[])
    outcome = play(source, fps=5, idle_fps=0.1)
    assert outcome.share_decoded < most
    assert len(outcome.at) == pytest.approx(60 + 5 * COOLDOWN_S, abs=3 + 5 * gop_s)


def test_the_time_before_motion_is_sent() -> None:
    source = StrictSource(fps=25, gop=50, seconds=40, moves=[(20.5, 25)], constant=True)
    # While nothing moves, every third keyframe is sent. If the keyframe at 20 s were sent, it would end the pre-roll.
    outcome = play(source, fps=5, idle_fps=1 / 6)
    # Motion shows in the keyframe at 22 s, but not yet at 20 s. The pre-roll is the second before 20 s.
    assert min(at for at in outcome.at if at > 18.2) == pytest.approx(20 - PRE_ROLL_S, abs=0.21)
    assert len([at for at in outcome.at if 19 <= at < 25]) == pytest.approx(30, abs=1)


def test_keyframes_are_checked_once_a_second_at_most() -> None:
    source = StrictSource(fps=25, gop=13, seconds=200, moves=[])
    play(source, fps=5)
    assert source.decoded < 25 * (COOLDOWN_S + 2) + 200 / KEYFRAME_CHECK_INTERVAL_S
