"""Cameras that change what they send (cases 20 and 21): another size, codec or pixel format."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

import av
import pytest

from tests.support import clips, files
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from tests.support.rtsp import GstCamera
    from tests.support.watching import Picture, Watching

pytestmark = [pytest.mark.fault, pytest.mark.slow]

FULL: Final = clips.ClipSpec(codec="h264", width=1920, height=1080, gop_s=1.0, seconds=2)
HD: Final = clips.ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000, gop_s=1.0, seconds=2)
SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
H265: Final = clips.ClipSpec(codec="h265", width=640, height=360, kbit_s=600, gop_s=1.0, seconds=2)
CHROMA_422: Final = clips.ClipSpec(
    codec="h264", width=640, height=360, kbit_s=1200, gop_s=1.0, seconds=2, chroma="4:2:2"
)
LIKE_THE_CLIP_DB: Final = 32.0  # of the same picture encoded once more as a JPEG; the next picture is below 27


def decoded(spec: clips.ClipSpec) -> list[list[NDArray[np.float64]]]:
    """The planes of a clip's pictures in full range, as a JPEG should have them; chroma as in 4:2:0."""
    context = av.VideoCodecContext.create("hevc" if spec.codec == "h265" else "h264", "r")
    units = [av.Packet(unit) for unit in clips.access_units(spec)]
    frames = [frame for packet in (*units, None) for frame in context.decode(packet)]
    pictures = []
    for frame in frames:
        luma, *chroma = files.planes_of(frame.reformat(format="yuv420p"))
        pictures.append([(luma - 16) * 255 / 219, *((plane - 128) * 255 / 224 + 128 for plane in chroma)])
    return pictures


def worst_db(pictures: list[Picture], *specs: clips.ClipSpec) -> float:
    """How much the least faithful picture is like the one in the clip whose number it shows."""
    known = {(spec.width, spec.height): decoded(spec) for spec in specs}
    worst = float("inf")
    for picture in pictures:
        assert picture.number is not None
        expected = known[picture.frame.width, picture.frame.height][picture.number]
        worst = min(worst, files.psnr(files.planes_of_jpeg(picture.frame.jpeg), expected))
    return worst


@pytest.mark.long
def test_another_size_within_the_session(gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]) -> None:
    clips.make(HD)  # which takes its time, where this machine has none yet
    camera = gst_camera(FULL)
    watching = watch(camera.url(), fps=10, jpeg_quality=90)
    watching.wait_for(10)
    changed = time.monotonic()
    camera.go_over_to(HD)
    watching.wait_until(lambda: watching.pictures[-1].frame.width == HD.width, 10)
    took_s = next(picture.at for picture in watching.pictures if picture.frame.width == HD.width) - changed
    assert took_s < 2
    watching.wait_for(15)
    sizes = [(picture.frame.width, picture.frame.height) for picture in watching.pictures]
    changes = sum(earlier != later for earlier, later in itertools.pairwise(sizes))
    assert changes == 1
    assert watching.meter.total("camera_reconnects_total") == 0
    worst = worst_db(watching.pictures[2:], FULL, HD)
    assert worst > LIKE_THE_CLIP_DB
    measured(
        20,
        "resolution changes in session",
        injected="1080p to 720p from one picture to the next",
        target="right JPEG size within 2 s, no torn picture",
        measured=f"{took_s:.2f} s; {len(sizes)} pictures, the least like its original at {worst:.0f} dB",
    )


@pytest.mark.long
def test_another_codec_after_a_reboot(gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]) -> None:
    camera = gst_camera(SMALL)
    watching = watch(camera.url(), fps=5)
    watching.wait_for(5)
    camera.kill()
    camera.mounts = {"/cam": H265}
    camera.start()
    back = time.monotonic()
    watching.wait_for(1, 20)
    took_s = watching.pictures[-1].at - back
    assert took_s < 10
    watching.wait_for(5)
    assert worst_db(watching.pictures[-5:], H265) > LIKE_THE_CLIP_DB
    measured(
        21,
        "codec changes",
        injected="RTSP server back with H.265 in place of H.264",
        target="no crash; pictures within 10 s",
        measured=f"{took_s:.1f} s",
    )


@pytest.mark.long
def test_another_pixel_format_within_the_session(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera(CHROMA_422)
    watching = watch(camera.url(), fps=10, jpeg_quality=90)
    watching.wait_for(8)
    assert worst_db(watching.pictures[2:], CHROMA_422) > LIKE_THE_CLIP_DB
    before = len(watching.pictures)
    changed = time.monotonic()
    camera.go_over_to(SMALL)
    watching.wait_for(25)
    gap_s = max(
        later.at - earlier.at
        for earlier, later in zip(watching.pictures[before - 1 :], watching.pictures[before:], strict=False)
    )
    assert gap_s < 2
    # Whatever was on its way at the change has come by then.
    after = [picture for picture in watching.pictures if picture.at > changed + 1]
    worst = worst_db(after, SMALL)
    assert worst > LIKE_THE_CLIP_DB
    measured(
        21,
        "pixel format changes",
        injected="4:2:2 to 4:2:0 within the session",
        target="no crash; pictures within 10 s",
        measured=f"longest gap {gap_s:.2f} s; the least like its original at {worst:.0f} dB",
    )
