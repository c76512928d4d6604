"""The real decoder with B-frames and open GOPs at every rate: each due frame is sent, and none is corrupt."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.encode.jpeg_encoder import JpegEncoder
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.support import clips, counter
from tests.support.clip_files import Clip, opened, reordered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS: Final = 20
SPEC: Final = clips.ClipSpec(codec="h264", width=320, height=180, kbit_s=400, gop_s=1.0, seconds=SECONDS)
QUIET: Final = ":log-level=none"
CORRUPT_LEVELS: Final = 6.0  # mean luma difference above which a frame is corrupt; coding errors stay below this value


@dataclass
class Sent:
    at: list[float] = field(default_factory=list)  # capture times in seconds of the clip
    numbers: list[int | None] = field(default_factory=list)
    corrupt: list[int | None] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)


@pytest.fixture(scope="module", params=["h264", "h264-open", "h265", "h265-open"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a clip of 25 fps with one keyframe per second."""
    folder = tmp_path_factory.mktemp(request.param)
    open_gop = int(request.param.endswith("open"))
    h265 = request.param.startswith("h265")
    # With four B-frames in a row, an open GOP's keyframe (frame 25) is coded before B-frames that are shown earlier.
    options = f":bframes=4:open-gop={open_gop}" + (QUIET if h265 else "")
    reordered(SPEC, folder, encoder="libx265" if h265 else "libx264", options=options).close()
    return folder / "b.mkv"


@pytest.fixture(scope="module")
def whole(clip: Path) -> dict[int, np.ndarray[Any, Any]]:
    """Return the luma of each frame by its number, from a decoder that receives every packet."""
    frames = {}
    source = opened(clip)
    with contextlib.closing(source):
        for packet in source.packets():
            for media_s, frame in source.decode(packet):
                assert media_s is not None
                frames[round(media_s * SPEC.fps)] = luma(frame)
    return frames


def luma(frame: Any) -> np.ndarray[Any, Any]:
    return frame.reformat(format="gray").to_ndarray().astype(np.int16)  # type: ignore[no-any-return]


def watch(
    clip: Path,
    whole: dict[int, np.ndarray[Any, Any]],
    fps: Callable[[float], float],
    late: Callable[[float], bool] = lambda _: False,
) -> Sent:
    """Play the clip. At second `t`, `fps(t)` is the rate, and `late(t)` is true if packets arrive too late."""
    sent, source = Sent(), opened(clip)
    encoder = JpegEncoder(quality=80, max_width=None)

    def show(frame: Any, at: float, _behind: bool) -> None:  # noqa: FBT001 - as `DecodePipeline` calls it
        number = counter.of_jpeg(encoder.encode(frame).data)
        sent.at.append(at - source.began)
        sent.numbers.append(number)
        if number is None or (number in whole and np.abs(luma(frame) - whole[number]).mean() > CORRUPT_LEVELS):
            sent.corrupt.append(number)

    with contextlib.closing(source):
        assert isinstance(source, Clip)
        assert source.facts.reorders
        pipeline = DecodePipeline(source=source, fps=fps(0.0), meter=sent.meter, on_frame=show)
        for packet in source.packets():
            arrived = packet.arrived + (2 if late(packet.arrived - source.began) else 0)
            pipeline.push(replace(packet, arrived=arrived), fps(packet.media_s or 0.0))
    return sent


def check_frames(sent: Sent) -> None:
    """Assert that each frame is sent once, in order, uncorrupted, and with its own capture time."""
    assert sent.corrupt == []
    numbers = [number for number in sent.numbers if number is not None]
    assert numbers == sorted(set(numbers))
    # Packets arrive before their presentation time, so capture times differ from the clip's times by a constant.
    shifts = [at - number / SPEC.fps for at, number in zip(sent.at, numbers, strict=True)]
    assert max(shifts) - min(shifts) < 2.5 / SPEC.fps


@pytest.mark.parametrize("fps", [0.2, 0.5, 0.96, 1.0, 2.0, 5.0])
def test_frames_are_sent_as_they_are_due(clip: Path, whole: dict[int, np.ndarray[Any, Any]], fps: float) -> None:
    sent = watch(clip, whole, lambda _: fps)
    check_frames(sent)
    assert len(sent.at) == pytest.approx(SECONDS * fps, abs=1.01)
    if fps <= 1:  # the first GOP may be decoded completely, because its length is unknown
        assert sent.meter.value(catalogue.FRAMES_DECODED_TOTAL) <= len(sent.at) + SPEC.fps * SPEC.gop_s


@pytest.mark.parametrize("change_s", [7.0, 7.3, 7.9])
def test_complete_gops_follow_keyframes_only_without_a_corrupt_frame(
    clip: Path, whole: dict[int, np.ndarray[Any, Any]], change_s: float
) -> None:
    """The rate rises above the rate of the keyframes and falls again."""
    sent = watch(clip, whole, lambda at: 5.0 if change_s <= at < change_s + 6 else 0.5)
    check_frames(sent)
    assert len([at for at in sent.at if change_s <= at < change_s + 6]) == pytest.approx(30, abs=3)
    assert len(sent.at) == pytest.approx(30 + (SECONDS - 6) / 2, abs=4)


def test_no_frame_that_builds_on_a_dropped_packet_is_sent(clip: Path, whole: dict[int, np.ndarray[Any, Any]]) -> None:
    """B-frames after an open GOP's keyframe refer to the previous GOP, whose last packets are dropped as late here."""
    sent = watch(clip, whole, lambda _: 25.0, late=lambda at: 0.3 < at % 2 < 0.7)
    check_frames(sent)
    assert len(sent.at) >= 0.4 * 25 * SECONDS
