"""One open stream with `when: motion`, for any camera: what is decoded builds on what was decoded, nothing is missed.

The source is a camera and a strict decoder in one: it refuses what a real one would show as rubbish. Its pictures are
still, but for a figure while something moves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvision_hub.config import Camera
from nvision_hub.status import Meter
from workers.camera.sentry import BEFORE_S, FOLLOWED_EVERY_S, KEYFRAMES_EVERY_S, RARE_S, Sentry
from workers.camera.source import Packet, StreamFacts
from workers.camera.viewing import Viewing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CALM_AFTER_S = 2.0


@cache
def picture(moved: int) -> NDArray[np.uint8]:
    """A room, with nobody in it for 0, and with somebody `moved` steps from the door."""
    seen = np.random.default_rng(1).integers(60, 160, (90, 160, 3)).astype(np.uint8)
    if moved:
        left = moved * 4 % 140
        seen[40:70, left : left + 12] += 90
    return seen


@dataclass(kw_only=True)
class StrictSource:
    """A camera of a rate and a GOP, where something moves from second to second."""

    fps: float
    gop: int
    seconds: float
    moves: Sequence[tuple[float, float]]
    size_bytes: int = 5_000  # of each packet while nothing moves
    constant: bool = False  # and while something does
    lost: frozenset[int] = frozenset()  # packets that the network has lost
    facts: StreamFacts = field(default_factory=lambda: StreamFacts(codec="h264", width=160, height=90, fps=None))
    began: float = field(default_factory=lambda: time.monotonic() + 1000)
    decoded: int = 0
    _last: int | None = None

    def packets(self) -> Iterator[Packet]:
        for number in range(round(self.seconds * self.fps)):
            if number not in self.lost:
                moves = any(begin <= number / self.fps < end for begin, end in self.moves)
                yield Packet(
                    payload=number,
                    arrived=self.began + number / self.fps + 0.03,
                    media_s=number / self.fps,
                    keyframe=number % self.gop == 0,
                    size_bytes=self.size_bytes * (3 if moves and not self.constant else 1),
                )

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:  # noqa: ARG002 - all are kept
        number = packet.payload
        if not packet.keyframe:
            before = next(n for n in range(number - 1, -1, -1) if n not in self.lost)
            assert self._last == before, f"{number} without {before}, which it builds on"
        self._last = number
        self.decoded += 1
        at = number / self.fps
        moved = next((1 + round((at - begin) * 5) for begin, end in self.moves if begin <= at < end), 0)
        return [(at, picture(moved))]

    def decode_alone(self, packet: Packet) -> Any:
        assert packet.keyframe
        ((_, seen),) = self.decode(packet)
        self._last = None
        return seen

    def close(self) -> None:
        """It holds nothing."""


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
            "motion": {"calm_after": CALM_AFTER_S, "idle_fps": idle_fps},
        }
    )
    outcome = Outcome()
    viewing = Viewing(
        source=source,
        fps=fps,
        meter=Meter(),
        show=lambda _picture, at, _behind: outcome.at.append(at - source.began - 0.03),
        wanted=lambda: True,
        sentry=Sentry(camera),
    )
    for packet in source.packets():
        viewing.take(packet, fps)
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
    lost=st.frozensets(st.integers(0, 900), max_size=3),
)


@settings(max_examples=60)
@given(case=cases)
def test_any_camera_at_any_rate(case: Case) -> None:
    # Who comes and goes between two keyframes leaves a trace only where sizes are not constant.
    lasts_s = max(case.lasts_s, 1.1 * case.gop_s + 1) if case.constant and case.gop_s <= RARE_S else case.lasts_s
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
    for begin, end in moves:
        seen = [begin, *(at for at in outcome.at if begin <= at < end), end]
        # What was decoded before the look that showed it is no more to be had: every one that was looked at is.
        rate = min(case.fps, 1 / FOLLOWED_EVERY_S)
        most = 2.2 / rate + (1 + len(case.lost)) / case.camera_fps
        assert max(later - earlier for earlier, later in pairwise(seen)) <= most


@pytest.mark.parametrize(("gop_s", "most"), [(2.0, 0.05), (4.0, 0.03), (1.0, 0.08), (0.5, 0.1), (10.0, 1.1)])
def test_what_stillness_costs(gop_s: float, most: float) -> None:
    source = StrictSource(fps=25, gop=round(gop_s * 25), seconds=600, moves=[])
    outcome = play(source, fps=5, idle_fps=0.1)
    assert outcome.share_decoded < most
    assert len(outcome.at) == pytest.approx(60 + 5 * CALM_AFTER_S, abs=3 + 5 * gop_s)


def test_the_time_before_the_alarm_is_sent() -> None:
    source = StrictSource(fps=25, gop=50, seconds=40, moves=[(20.5, 25)], constant=True)
    outcome = play(source, fps=5)
    # Seen at the keyframe of 22; the one of 20 showed nothing, and a second before it is sent, too.
    assert min(at for at in outcome.at if at > 18.2) == pytest.approx(20 - BEFORE_S, abs=0.21)
    assert len([at for at in outcome.at if 19 <= at < 25]) == pytest.approx(30, abs=1)


def test_keyframes_are_looked_at_once_a_second_at_most() -> None:
    source = StrictSource(fps=25, gop=13, seconds=200, moves=[])
    play(source, fps=5)
    assert source.decoded < 25 * (CALM_AFTER_S + 2) + 200 / KEYFRAMES_EVERY_S
