"""An overloaded machine sends fewer frames instead of older frames, and warns.

Each test runs for ten minutes on a simulated clock. The decoder takes a fixed time per frame. Packets wait for the
decoder as in a socket buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.media.decode.decode_planner import LATE_S
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.sources import Packet, StreamFacts
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

CAMERA_FPS = 25
FPS = 5.0
SECONDS = 600
BEGAN = 1000.0
DEMUX_S = 0.0005


@dataclass
class Clock:
    now: float = BEGAN


@dataclass(kw_only=True)
class SlowSource:
    """A camera on a machine that takes `decode_s` seconds to decode a frame."""

    clock: Clock
    gop_s: float
    decode_s: float
    stalls: bool = False  # the network stalls for 2 of every 6 s, then delivers all delayed packets at once
    facts: StreamFacts = field(default_factory=lambda: StreamFacts(codec="h264", width=160, height=90, fps=None))

    def packets(self) -> Iterator[Packet]:
        for number in range(SECONDS * CAMERA_FPS):
            at = BEGAN + number / CAMERA_FPS
            there = at + 2 - at % 6 if self.stalls and at % 6 < 2 else at
            self.clock.now = max(self.clock.now, there + 0.01) + DEMUX_S
            yield Packet(
                payload=number,
                arrived=self.clock.now,
                media_s=number / CAMERA_FPS,
                keyframe=number % round(self.gop_s * CAMERA_FPS) == 0,
                size_bytes=20_000,
            )

    def decode(
        self,
        packet: Packet,
        *,
        is_due: bool = True,  # noqa: ARG002 - all are needed
        is_alone: bool = False,
    ) -> list[tuple[float | None, Any]]:
        assert not is_alone
        self.clock.now += self.decode_s
        return [(packet.media_s, "a frame")]

    def close(self) -> None:
        """Do nothing."""


def play(*, gop_s: float, decode_s: float, stalls: bool = False) -> tuple[list[float], float, str | None]:
    """Return the true age of each sent frame, the number of frames dropped as late, and the final warning."""
    clock, meter, ages = Clock(), Meter(), list[float]()
    source = SlowSource(clock=clock, gop_s=gop_s, decode_s=decode_s, stalls=stalls)
    captured = list[float]()  # capture time of each packet

    def on_frame(_frame: Any, _at: float, _is_behind: bool) -> None:  # noqa: FBT001 - as `DecodePipeline` calls it
        ages.append(clock.now - captured[-1])

    pipeline = DecodePipeline(source=source, fps=FPS, meter=meter, on_frame=on_frame, now=lambda: clock.now)
    for packet in source.packets():
        captured.append(BEGAN + packet.payload / CAMERA_FPS)
        pipeline.push(packet, FPS)
    return ages, meter.value(catalogue.FRAMES_DROPPED_TOTAL, reason="late"), pipeline.lag.warning()


@pytest.mark.parametrize("gop_s", [0.4, 1.0, 2.0, 4.0])  # packets after a GOP's last due frame are not decoded
@pytest.mark.parametrize("load", [1.8, 2.5, 4.0])
def test_an_overloaded_machine_sends_fewer_frames_and_warns(gop_s: float, load: float) -> None:
    ages, late, warning = play(gop_s=gop_s, decode_s=load / CAMERA_FPS)
    assert max(ages) < LATE_S + 0.3
    assert len(ages) > 0.1 * FPS * SECONDS / load
    assert len(ages) + late == pytest.approx(FPS * SECONDS, rel=0.01)
    assert warning is not None
    assert warning.startswith("this machine is too busy")


def test_a_slightly_overloaded_machine_does_not_fall_further_behind() -> None:
    # The pipeline decodes at most 21 of the 25 packets in a GOP of one second.
    ages, late, _ = play(gop_s=1.0, decode_s=1.01 / 21)
    assert max(ages) < LATE_S + 0.3
    assert len(ages) + late == pytest.approx(FPS * SECONDS, rel=0.01)
    assert late > 0


def test_a_machine_that_keeps_up_gives_no_warning() -> None:
    ages, late, warning = play(gop_s=2.0, decode_s=0.5 / CAMERA_FPS)
    assert len(ages) == FPS * SECONDS
    assert late == 0
    assert warning is None


def test_a_stalling_network_is_distinguished_from_an_overloaded_machine() -> None:
    ages, late, warning = play(gop_s=2.0, decode_s=0.2 / CAMERA_FPS, stalls=True)
    assert max(ages) < LATE_S + 0.3
    assert len(ages) + late == pytest.approx(FPS * SECONDS, rel=0.01)
    assert warning is not None
    assert "check the network" in warning
