"""`when: motion` on a scripted scene: every crossing is sent, and an idle scene costs little.

The clip runs at full speed through the real source, gate, planner and decoder, with the timestamps of a live camera.
The clip has a constant bitrate, so packet sizes do not reveal motion.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.decode.motion_gate import MotionGate
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.encode.jpeg_encoder import JpegEncoder
from nvision_hub.metrics.meter import Meter
from tests.support import clips, counter
from tests.support.clip_files import Clip, file_of, reordered

if TYPE_CHECKING:
    from pathlib import Path

CROSSINGS: Final = ((10.0, 15.0), (27.0, 33.0))
LINGERS_S: Final = 3.0  # the motion gate detects motion for up to this long after a person has left
COUNTER: Final = [[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]  # changes in every frame, but is not motion
COOLDOWN_S: Final = 3.0
FPS: Final = 5.0
IDLE_FPS: Final = 0.25
H264: Final = clips.ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000, seconds=40, crossings=CROSSINGS)
SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=500, seconds=40, noise=6, crossings=CROSSINGS)


@dataclass
class Sent:
    """Frames sent for a camera that plays the clip. Capture times are in seconds from the start of the clip."""

    at: list[float] = field(default_factory=list)
    behind: list[bool] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)
    moving: list[tuple[float, bool]] = field(default_factory=list)  # (time, moving) at each change
    meter: Meter = field(default_factory=Meter)

    def within(self, begin: float, end: float) -> list[float]:
        return [at for at in self.at if begin <= at < end]


def watch(source: Clip, **settings: Any) -> Sent:
    """Play the clip as a camera with these settings."""
    motion = {"cooldown": COOLDOWN_S, "idle_fps": IDLE_FPS, "ignore": [COUNTER], **settings.pop("motion", {})}
    camera = Camera.model_validate(
        {"id": "street", "url": "file:clip.mkv", "fps": FPS, "when": "motion", "motion": motion, **settings}
    )
    sent = Sent()
    encoder = JpegEncoder(quality=80, max_width=None)

    def show(frame: Any, at: float, behind: bool) -> None:  # noqa: FBT001 - as `DecodePipeline` calls it
        sent.at.append(at - source.began)
        sent.behind.append(behind)
        sent.numbers.append(counter.of_jpeg(encoder.encode(frame).data))

    with contextlib.closing(source):
        pipeline = DecodePipeline(
            source=source,
            fps=camera.fps,
            meter=sent.meter,
            on_frame=show,
            gate=MotionGate(camera),
        )
        for packet in source.packets():
            pipeline.push(packet, camera.fps)
            if not sent.moving or sent.moving[-1][1] != pipeline.is_moving:
                assert pipeline.is_moving is not None
                sent.moving.append((packet.arrived - source.began, pipeline.is_moving))
    return sent


def check_what_was_sent(
    sent: Sent, *, gop_s: float, camera_fps: int, rate: float = FPS, missing_at_start: int = 1
) -> None:
    """Assert that every crossing is sent at full rate from its start, each frame once and in order, and little else."""
    assert sent.at == sorted(set(sent.at))
    shown = [number for number in sent.numbers if number is not None]
    assert len(shown) == len(sent.at)
    # The number in each frame must match the frame's capture time.
    assert all(abs(number / camera_fps - at) < 0.15 for number, at in zip(shown, sent.at, strict=True))
    for begin, end in CROSSINGS:
        assert len(sent.within(begin, begin + 1)) >= rate - missing_at_start, f"the first second of {begin}"
        seen = [begin, *sent.within(begin, end), end]
        assert max(later - earlier for earlier, later in pairwise(seen)) <= 2 / rate + 0.3
        assert len(sent.within(begin, end)) >= 0.9 * rate * (end - begin)
    (_, still), (again, _) = CROSSINGS
    still += LINGERS_S + COOLDOWN_S + gop_s
    again -= 1 + gop_s
    assert len(sent.within(still, again)) <= max(0.0, IDLE_FPS * (again - still)) + 1


@pytest.mark.parametrize(
    "spec",
    [
        H264,
        replace(SMALL, gop_s=1.0),
        replace(SMALL, gop_s=4.0),
        replace(SMALL, codec="h265", fps=10, kbit_s=200, noise=2.5),  # at 25 fps, its encoding would take 10 s
        replace(SMALL, codec="mjpeg", noise=2.5),
    ],
    ids=["h264", "noisy", "GOP of four seconds", "h265", "mjpeg"],
)
def test_no_crossing_is_missed(spec: clips.ClipSpec, tmp_path: Path) -> None:
    sent = watch(file_of(spec, tmp_path))
    check_what_was_sent(sent, gop_s=0.04 if spec.codec == "mjpeg" else spec.gop_s, camera_fps=spec.fps)
    assert any(sent.behind)
    assert [moving for _, moving in sent.moving] == [True, False, True, False, True, False]


def test_sparse_keyframes_do_not_delay_motion_detection(tmp_path: Path) -> None:
    """If keyframes are sparse, the pipeline decodes every packet, but sends few frames while the scene is idle."""
    sent = watch(file_of(replace(SMALL, gop_s=20.0), tmp_path))
    check_what_was_sent(sent, gop_s=0.0, camera_fps=SMALL.fps)


@pytest.mark.long
def test_no_crossing_is_missed_in_streams_with_b_frames(tmp_path: Path) -> None:
    """With B-frames, a decoder usually returns a keyframe only after later packets, too late for the motion check."""
    sent = watch(reordered(replace(SMALL, noise=2.5), tmp_path))
    check_what_was_sent(sent, gop_s=SMALL.gop_s, camera_fps=SMALL.fps)
    assert any(sent.behind)


@pytest.mark.long
def test_no_crossing_is_missed_in_a_stream_without_keyframes(tmp_path: Path) -> None:
    """With intra-refresh, the pipeline decodes every packet, but sends few frames while the scene is idle."""
    refreshing = reordered(replace(SMALL, noise=2.5), tmp_path, options=":bframes=0:intra-refresh=1")
    sent = watch(refreshing)
    # The gate checks a few frames per second, so it sees the beginning of a crossing a little late.
    check_what_was_sent(sent, gop_s=SMALL.gop_s, camera_fps=SMALL.fps, missing_at_start=2)
    assert any(sent.behind)
