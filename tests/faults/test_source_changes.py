"""Cases 20 and 21: cameras that change the size, codec or pixel format of their stream."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

import av
import pytest

from nvision_hub.metrics import catalogue
from tests.support import clips, files
from tests.support.patience import is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from tests.support.rtsp import GstCamera
    from tests.support.watching import CapturedFrame, Watching

pytestmark = [pytest.mark.fault, pytest.mark.slow]

FULL: Final = clips.ClipSpec(codec="h264", width=1920, height=1080, gop_s=1.0, seconds=2)
HD: Final = clips.ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000, gop_s=1.0, seconds=2)
SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
H265: Final = clips.ClipSpec(codec="h265", width=640, height=360, kbit_s=600, gop_s=1.0, seconds=2)
CHROMA_422: Final = clips.ClipSpec(
    codec="h264", width=640, height=360, kbit_s=1200, gop_s=1.0, seconds=2, chroma="4:2:2"
)
LIKE_THE_CLIP_DB: Final = 32.0  # minimum PSNR of the same frame re-encoded as JPEG; the next frame has less than 27


def decoded(spec: clips.ClipSpec) -> list[list[NDArray[np.float64]]]:
    """Return the planes of a clip's frames as in a JPEG: full range, with 4:2:0 chroma."""
    context = av.VideoCodecContext.create("hevc" if spec.codec == "h265" else "h264", "r")
    units = [av.Packet(unit) for unit in clips.access_units(spec)]
    frames = [frame for packet in (*units, None) for frame in context.decode(packet)]
    expected = []
    for frame in frames:
        luma, *chroma = files.planes_of(frame.reformat(format="yuv420p"))
        expected.append([(luma - 16) * 255 / 219, *((plane - 128) * 255 / 224 + 128 for plane in chroma)])
    return expected


def worst_db(frames: list[CapturedFrame], *specs: clips.ClipSpec) -> float:
    """Return the lowest PSNR of a frame, compared with the frame of the same number in its clip."""
    known = {(spec.width, spec.height): decoded(spec) for spec in specs}
    worst = float("inf")
    for frame in frames:
        assert frame.number is not None
        expected = known[frame.frame.width, frame.frame.height][frame.number]
        worst = min(worst, files.psnr(files.planes_of_jpeg(frame.frame.jpeg), expected))
    return worst


@pytest.mark.long
def test_a_changed_size_within_the_session_is_followed(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    clips.make(HD)  # encode the clip before the camera starts, because this takes seconds
    camera = gst_camera(FULL)
    watching = watch(camera.url(), fps=10, jpeg_quality=90)
    watching.wait_for(10)
    changed = time.monotonic()
    camera.switch_clip(HD)
    watching.wait_until(lambda: watching.frames[-1].frame.width == HD.width)
    took_s = next(it.at for it in watching.frames if it.frame.width == HD.width) - changed
    assert is_on_time(took_s, 2)
    watching.wait_for(15)
    sizes = [(it.frame.width, it.frame.height) for it in watching.frames]
    changes = sum(earlier != later for earlier, later in itertools.pairwise(sizes))
    assert changes == 1
    assert watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL) == 0
    worst = worst_db(watching.frames[2:], FULL, HD)
    assert worst > LIKE_THE_CLIP_DB
    measured(
        20,
        "resolution changes in session",
        injected="1080p to 720p between two frames",
        target="correct JPEG size within 2 s, no corrupt frame",
        measured=f"{took_s:.2f} s; {len(sizes)} frames, lowest PSNR {worst:.0f} dB",
    )


@pytest.mark.long
def test_a_changed_codec_after_a_reboot_is_followed(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(SMALL)
    watching = watch(camera.url(), fps=5)
    watching.wait_for(5)
    camera.kill()
    camera.mounts = {"/cam": H265}
    camera.start()
    back = time.monotonic()
    watching.wait_for(1)
    took_s = watching.frames[-1].at - back
    assert is_on_time(took_s, 10)
    watching.wait_for(5)
    assert worst_db(watching.frames[-5:], H265) > LIKE_THE_CLIP_DB
    measured(
        21,
        "codec changes",
        injected="RTSP server restarted with H.265 instead of H.264",
        target="no crash; frames within 10 s",
        measured=f"{took_s:.1f} s",
    )


@pytest.mark.long
def test_a_changed_pixel_format_within_the_session_is_followed(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(CHROMA_422)
    watching = watch(camera.url(), fps=10, jpeg_quality=90)
    watching.wait_for(8)
    assert worst_db(watching.frames[2:], CHROMA_422) > LIKE_THE_CLIP_DB
    before = len(watching.frames)
    changed = time.monotonic()
    camera.switch_clip(SMALL)
    watching.wait_for(25)
    gap_s = max(
        later.at - earlier.at
        for earlier, later in zip(watching.frames[before - 1 :], watching.frames[before:], strict=False)
    )
    assert is_on_time(gap_s, 2)
    # A second after the change, no frame from before the change is still in transit.
    after = [it for it in watching.frames if it.at > changed + 1]
    worst = worst_db(after, SMALL)
    assert worst > LIKE_THE_CLIP_DB
    measured(
        21,
        "pixel format changes",
        injected="4:2:2 to 4:2:0 within the session",
        target="no crash; frames within 10 s",
        measured=f"longest gap {gap_s:.2f} s; lowest PSNR {worst:.0f} dB",
    )
