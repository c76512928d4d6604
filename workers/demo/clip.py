"""A scene as the file that a demo camera serves: H.264 in MP4, as a camera would encode it, cached on disk.

Owns the encoder's settings and the cache; knows nothing of who draws or serves. A clip appears under its name only
when it is complete, so readers, a killed renderer and two processes rendering at once never meet half a file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from nvision_hub import opencv
from nvision_hub.errors import UnavailableError
from workers.demo import counter

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from numpy.typing import NDArray

VERSION: Final = 1  # raise it when scenes, counter or encoding change: old clips are then drawn anew
GOP_S: Final = 2
LIMITED_RANGE: Final = (16, 235)  # luma of black and of white
_GRAIN_MEAN: Final = 2  # so that unsigned numbers can darken too
_DRAFT: Final = ".draft-"
_ABANDONED_S: Final = 600  # a renderer writes every second or is dead
_NOISE_LEVELS: Final = 0.5  # a sensor by daylight; more of it would cost bits and hide nothing else
_ENCODER: Final = {
    "preset": "ultrafast",  # the quickest to draw at first use, and to decode ever after
    # Cameras send a keyframe on the beat and none between, and no B-frames: those would cost them latency.
    "x264-params": "scenecut=0:bframes=0:ref=1:force-cfr=1",
    "crf": "24",
    "maxrate": "1500k",
    "bufsize": "1500k",
}


def path(cache_dir: Path, scene: str) -> Path:
    """Where the clip of `scene` lies, or will."""
    return cache_dir / f"v{VERSION}" / f"{scene}.mp4"


class RenderingStopped(Exception):  # noqa: N818 - what was asked for happened; nothing failed
    """`stop` was set before the clip was complete; nothing is left of it."""


def render(cache_dir: Path, scene: str, stop: threading.Event | None = None) -> Path:
    """The clip of `scene`, drawn and encoded now where the cache holds none; takes some seconds of one core.

    Raises `UnavailableError` where the cache cannot be written or OpenCV cannot be loaded, `RenderingStopped` within
    a picture's time of `stop` being set.
    """
    target = path(cache_dir, scene)
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(target.parent)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=_DRAFT, delete=False) as unfinished:
            draft = Path(unfinished.name)
        try:
            _encode(draft, scene, stop)
            with draft.open("rb") as complete:
                os.fsync(complete)  # or a power cut may leave the name with nothing behind it
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"The demo camera's clip cannot be written to {target.parent} ({error.strerror or error}); "
            "make room there, or let this user write to it."
        ) from error
    return target


def _sweep(directory: Path) -> None:
    """Remove what killed renderers left behind."""
    for draft in directory.glob(f"{_DRAFT}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _ABANDONED_S:
                draft.unlink()


def _encode(draft: Path, scene: str, stop: threading.Event | None) -> None:
    opencv.load()
    from workers.demo.scene import FPS  # noqa: PLC0415 - draws with OpenCV, which must have been loaded first

    with av.open(draft, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODER)
        context = stream.codec_context
        stream.pix_fmt = "yuv420p"
        context.gop_size = FPS * GOP_S
        context.max_b_frames = 0
        context.thread_count = 1  # scenes are encoded side by side; each has its core
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.SMPTE170M
        context.color_primaries = ColorPrimaries.SMPTE170M
        context.color_trc = ColorTrc.SMPTE170M
        for number, planes in enumerate(_pictures(scene)):
            if stop is not None and stop.is_set():
                raise RenderingStopped
            if number == 0:
                stream.height, stream.width = planes.shape[0] * 2 // 3, planes.shape[1]
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            frame.color_range = ColorRange.MPEG
            frame.colorspace = Colorspace.SMPTE170M
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(scene: str) -> Iterator[NDArray[np.uint8]]:
    """Every picture of the loop as I420 planes, limited range, BT.601; the same array each time."""
    import cv2  # noqa: PLC0415 - after opencv.load()

    from workers.demo.scene import FRAMES, SCENES  # noqa: PLC0415 - likewise

    view = SCENES[scene]
    backdrop = view.backdrop()
    picture = np.empty_like(backdrop)
    height, width = backdrop.shape[:2]
    planes = np.empty((height * 3 // 2, width), np.uint8)
    random = np.random.default_rng(0)
    margin = 64
    grain = (
        random.normal(_GRAIN_MEAN, _NOISE_LEVELS, (height + margin, width + margin)).round().clip(0, 4).astype(np.uint8)
    )
    for number in range(FRAMES):
        np.copyto(picture, backdrop)
        view.draw(picture, number)
        cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420, planes)
        luma = planes[:height]
        top, left = random.integers(margin, size=2)
        cv2.addWeighted(luma, 1, grain[top : top + height, left : left + width], 1, -_GRAIN_MEAN, luma)
        counter.stamp(luma, number, levels=LIMITED_RANGE)
        yield planes
