"""The decode pipeline with motion that the camera reports: what is decoded, sent and skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nvision_hub.media.decode.event_gate import EventGate
from nvision_hub.media.decode.motion_gate import PRE_ROLL_S
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.metrics.meter import Meter
from tests.unit.test_decode_pipeline import StrictSource

if TYPE_CHECKING:
    from collections.abc import Sequence

COOLDOWN_S = 2.0
FPS = 5.0


def play(source: StrictSource, events: Sequence[tuple[float, float]]) -> tuple[list[float], list[float], list[int]]:
    """Return the capture times of sent frames, the times at which they were sent, and how much each packet decoded.

    The camera reports motion in the intervals `events`, in seconds.
    """

    def moved_at(now: float) -> float:
        at = now - source.began
        if any(begin <= at < end for begin, end in events):
            return now
        return source.began + max((end for _, end in events if end <= at), default=0.0)

    captured, sent, decoded = [], [], []

    def on_frame(_frame: object, at: float, _is_behind: bool) -> None:  # noqa: FBT001 - as the pipeline calls it
        captured.append(at - source.began - 0.03)
        sent.append(source.now - source.began)

    pipeline = DecodePipeline(
        source=source,
        fps=FPS,
        meter=Meter(),
        on_frame=on_frame,
        gate=EventGate(cooldown_s=COOLDOWN_S, moved_at=moved_at),
        now=lambda: source.now,
    )
    for packet in source.packets():
        before = source.decoded
        pipeline.push(packet, FPS)
        decoded.append(source.decoded - before)
    return captured, sent, decoded


@pytest.mark.parametrize("gop", [1, 10, 25, 50, 100])
@pytest.mark.parametrize("begin", [20.0, 20.5, 21.96])
def test_nothing_is_sent_or_decoded_until_the_camera_reports_motion(gop: int, begin: float) -> None:
    source = StrictSource(fps=25, gop=gop, seconds=40, moves=[])
    captured, sent, decoded = play(source, [(begin, begin + 3)])
    gop_s = gop / 25
    idle = slice(round((COOLDOWN_S + 2 * gop_s + 0.1) * 25), round(begin * 25))
    assert sum(decoded[idle]) == 0
    during = [at for at in sent if COOLDOWN_S + 2 * gop_s < at]
    assert begin <= during[0] < begin + 0.1, "the first frame is sent with the next packet"
    pre_roll = min(at for at in captured if at > COOLDOWN_S + 2 * gop_s)
    assert pre_roll == pytest.approx(begin - PRE_ROLL_S, abs=0.3)
    assert max(captured) == pytest.approx(begin + 3 + COOLDOWN_S, abs=gop_s + 0.3)
    assert captured == sorted(captured)


def test_a_gop_that_is_too_large_is_not_kept() -> None:
    source = StrictSource(fps=25, gop=250, seconds=35, moves=[], size_bytes=200_000)
    captured, _, _ = play(source, [(18.0, 30.0)])
    assert min(at for at in captured if at > COOLDOWN_S + 10) == pytest.approx(20.0, abs=0.1), "at the next keyframe"


def test_lost_packets_break_no_reference() -> None:
    source = StrictSource(fps=25, gop=50, seconds=40, moves=[], lost=frozenset({500, 550, 700, 710}))
    captured, _, _ = play(source, [(20.5, 23.0), (28.5, 31.0)])
    assert max(captured) > 30
