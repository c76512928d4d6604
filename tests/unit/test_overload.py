"""A machine that cannot decode what it is asked for: it sends fewer pictures, never older ones, and says so.

Ten minutes on a clock of its own; a decoder takes a fixed time for a picture, packets wait for it as in a socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from nvision_hub.status import Meter
from workers.camera import viewing
from workers.camera.planner import LATE_S
from workers.camera.source import Packet, StreamFacts
from workers.camera.viewing import Viewing

if TYPE_CHECKING:
    from collections.abc import Iterator

CAMERA_FPS = 25
FPS = 5.0
SECONDS = 600
BEGAN = 1000.0
DEMUX_S = 0.0005


@dataclass
class Clock:
    """Stands in for the `time` that a module has imported."""

    now: float = BEGAN

    def monotonic(self) -> float:
        return self.now


@dataclass(kw_only=True)
class SlowSource:
    """A camera on a machine that takes `decode_s` for a picture; its packets come over `way_s` of network."""

    clock: Clock
    gop_s: float
    decode_s: float
    stalls: bool = False  # the network, for two seconds of every six; then all that was held up comes at once
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

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:  # noqa: ARG002 - all are needed
        self.clock.now += self.decode_s
        return [(packet.media_s, "a picture")]

    def decode_alone(self, packet: Packet) -> Any:
        raise AssertionError(packet)

    def close(self) -> None:
        """It holds nothing."""


def watch(*, gop_s: float, decode_s: float, stalls: bool = False) -> tuple[list[float], float, str | None]:
    """The true age of each picture sent, how many were counted as late, and what is said at the end."""
    clock, meter, ages = Clock(), Meter(), list[float]()
    source = SlowSource(clock=clock, gop_s=gop_s, decode_s=decode_s, stalls=stalls)
    shown = list[float]()

    def show(_picture: Any, at: float, _behind: bool) -> None:  # noqa: FBT001 - as `Viewing` calls it
        shown.append(at)
        ages.append(clock.now - numbers[-1])

    numbers = list[float]()
    with mock.patch.object(viewing, "time", clock):
        view = Viewing(source=source, fps=FPS, meter=meter, show=show, wanted=lambda: True, sentry=None)
        for packet in source.packets():
            numbers.append(BEGAN + packet.payload / CAMERA_FPS)
            view.take(packet, FPS)
        return ages, meter.value("frames_dropped_total", reason="late"), view.lateness.sentence()


@pytest.mark.parametrize("gop_s", [0.4, 1.0, 2.0, 4.0])  # a GOP's last packets need not be decoded
@pytest.mark.parametrize("load", [1.8, 2.5, 4.0])
def test_it_sends_fewer_never_older_and_says_so(gop_s: float, load: float) -> None:
    ages, late, sentence = watch(gop_s=gop_s, decode_s=load / CAMERA_FPS)
    assert max(ages) < LATE_S + 0.3
    assert len(ages) > 0.1 * FPS * SECONDS / load
    assert len(ages) + late == pytest.approx(FPS * SECONDS, rel=0.01)
    assert sentence is not None
    assert sentence.startswith("this machine is too busy")


def test_one_that_is_too_slow_by_a_little_does_not_grow_late_a_little_each_time() -> None:
    # The most that GOPs of a second leave to be decoded is 21 of their 25 packets.
    ages, late, _ = watch(gop_s=1.0, decode_s=1.01 / 21)
    assert max(ages) < LATE_S + 0.3
    assert len(ages) + late == pytest.approx(FPS * SECONDS, rel=0.01)
    assert late > 0


def test_a_machine_that_keeps_up_has_nothing_to_say() -> None:
    ages, late, sentence = watch(gop_s=2.0, decode_s=0.5 / CAMERA_FPS)
    assert len(ages) == FPS * SECONDS
    assert late == 0
    assert sentence is None


def test_a_network_that_stalls_is_told_from_a_machine_that_is_too_busy() -> None:
    ages, late, sentence = watch(gop_s=2.0, decode_s=0.2 / CAMERA_FPS, stalls=True)
    assert max(ages) < LATE_S + 0.3
    assert len(ages) + late == pytest.approx(FPS * SECONDS, rel=0.01)
    assert sentence is not None
    assert "check the network" in sentence
