"""Renderer of the cached clip of a demo camera: an MP4 file with H.264, encoded like the video of a real camera.

A clip gets its final name only when it is complete. Readers and concurrent renderers therefore never see a partial
file, even if a renderer is killed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from nvision_hub.errors import UnavailableError
from nvision_hub.media import cv2_loader
from workers.demo import counter

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from workers.demo.scene import Scene

# Increment when the scenes, the counter or the encoding change, so that the clips are rendered again.
VERSION: Final = 2
GOP_S: Final = 2
_GRAIN_MEAN: Final = 2  # offset of the unsigned noise, which allows the noise to also darken pixels
_DRAFT: Final = ".draft-"
_MAX_DRAFT_AGE_S: Final = 600  # much longer than rendering takes
# Standard deviation of sensor noise in daylight; stronger noise would only raise the bitrate.
_NOISE_LEVELS: Final = 0.5
_ENCODER: Final = {
    "preset": "ultrafast",  # the preset that encodes and decodes fastest
    # Like real cameras: keyframes only at a fixed interval, and no B-frames, because these add latency.
    "x264-params": "scenecut=0:bframes=0:ref=1:force-cfr=1",
    "crf": "24",
    "maxrate": "1500k",
    "bufsize": "1500k",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip in memory. Its frames are evenly spaced and in display order."""

    units: tuple[tuple[bytes, bool], ...]  # each frame's bytes as in the file, and whether the frame is a keyframe
    frame_interval_s: float


def load(path: Path) -> Clip:
    with av.open(path) as container:
        stream = container.streams.video[0]
        if stream.average_rate is None:
            raise ValueError(f"{path} has no frame rate")
        units = tuple((bytes(packet), packet.is_keyframe) for packet in container.demux(stream) if packet.size)
        return Clip(units=units, frame_interval_s=float(1 / stream.average_rate))


def path(cache_dir: Path, scene: str) -> Path:
    """Return the path of a scene's clip, which may not exist yet."""
    return cache_dir / f"v{VERSION}" / f"{scene}.mp4"


class RenderingStopped(Exception):  # noqa: N818 - not a failure
    """Rendering was stopped before the clip was complete. No file remains."""


def render(cache_dir: Path, scene: str, stop: threading.Event | None = None) -> Path:
    """Return the path of a scene's clip. Rendering a missing clip takes a few seconds on one core.

    Raises `UnavailableError` if the cache is not writable or OpenCV cannot be loaded. Raises `RenderingStopped` within
    one frame after `stop` is set.
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
                os.fsync(complete)  # without the sync, a power failure could leave an empty file with the final name
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"The demo camera's clip cannot be written to {target.parent} ({error.strerror or error}); "
            "free disk space, or make the folder writable."
        ) from error
    return target


def _sweep(directory: Path) -> None:
    """Remove the drafts of killed renderers."""
    for draft in directory.glob(f"{_DRAFT}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _MAX_DRAFT_AGE_S:
                draft.unlink()


def _encode(draft: Path, scene: str, stop: threading.Event | None) -> None:
    cv2_loader.load()
    from workers.demo.scene import FPS, FRAMES, SCENES  # noqa: PLC0415 - imports OpenCV, which must be loaded first

    with av.open(draft, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODER)
        context = stream.codec_context
        stream.pix_fmt = "yuv420p"
        context.gop_size = FPS * GOP_S
        context.thread_count = 1  # the worker renders scenes in parallel, one per core
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.SMPTE170M
        context.color_primaries = ColorPrimaries.SMPTE170M
        context.color_trc = ColorTrc.SMPTE170M
        for number, planes in enumerate(_frames(SCENES[scene], FRAMES)):
            if stop is not None and stop.is_set():
                raise RenderingStopped
            if number == 0:
                stream.height, stream.width = planes.shape[0] * 2 // 3, planes.shape[1]
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(scene: Scene, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield each frame as I420 planes (limited range, BT.601) in an array that the next frame overwrites."""
    cv2 = cv2_loader.load()
    backdrop = scene.backdrop()
    image = np.empty_like(backdrop)
    height, width = backdrop.shape[:2]
    planes = np.empty((height * 3 // 2, width), np.uint8)
    luma = planes[:height]
    random = np.random.default_rng(0)
    margin = 64
    noise = random.normal(_GRAIN_MEAN, _NOISE_LEVELS, (height + margin, width + margin))
    grain = noise.round().clip(0, 4).astype(np.uint8)
    for number in range(count):
        np.copyto(image, backdrop)
        scene.draw(image, number)
        cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420, planes)
        top, left = random.integers(margin, size=2)
        cv2.addWeighted(luma, 1, grain[top : top + height, left : left + width], 1, -_GRAIN_MEAN, luma)
        counter.stamp(luma, number, levels=(16, 235))  # luma of black and white in limited range
        yield planes
