"""Video files with known pixels for `file:` cameras: colors of the full range, and a number in each frame."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.video.reformatter import ColorRange

from workers.demo import counter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH: Final = 640
HEIGHT: Final = 360
FPS: Final = 25


def write(path: Path, *, full_range: bool, frames: int = 50, b_frames: int = 0) -> None:
    """Write an H.264 clip with one keyframe per second. Luma and chroma vary smoothly over their full range."""
    low, high, chroma = (0, 255, 255) if full_range else (16, 235, 240)
    x, y = np.arange(WIDTH), np.arange(HEIGHT)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        stream.codec_context.options = {
            "crf": "12",
            "preset": "veryfast",
            "x264-params": f"keyint=25:bframes={b_frames}",
        }
        for number in range(frames):
            planes = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
            wave = (1 + np.sin((x[None, :] + 4 * number) / 90 + y[:, None] / 70)) / 2
            planes[:HEIGHT] = low + (high - low) * wave
            blue = np.broadcast_to((256 - chroma) + (2 * chroma - 256) * x[::2] / WIDTH, (HEIGHT // 2, WIDTH // 2))
            red = np.broadcast_to(((256 - chroma) + (2 * chroma - 256) * y[::2] / HEIGHT)[:, None], blue.shape)
            planes[HEIGHT:] = np.stack([blue, red]).astype(np.uint8).reshape(-1, WIDTH)
            counter.stamp(planes[:HEIGHT], number, levels=(low, high))
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base, frame.color_range = number, Fraction(1, FPS), stream.codec_context.color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def expected_jpeg_planes(path: Path, number: int, *, full_range: bool) -> list[NDArray[np.float64]]:
    """Return Y, Cb and Cr of one frame of the file in full range (BT.601, 2.5.1, but 0..255 as in JFIF)."""
    with av.open(str(path)) as container:
        frame = next(frame for index, frame in enumerate(container.decode(video=0)) if index == number)
    luma, blue, red = planes_of(frame)
    if full_range:
        return [luma, blue, red]
    return [(luma - 16) * 255 / 219, (blue - 128) * 255 / 224 + 128, (red - 128) * 255 / 224 + 128]


def planes_of_jpeg(jpeg: bytes) -> list[NDArray[np.float64]]:
    """Return the planes of a JPEG before any conversion to RGB."""
    (frame,) = av.VideoCodecContext.create("mjpeg", "r").decode(av.Packet(jpeg))
    return planes_of(frame)


def planes_of(frame: av.VideoFrame) -> list[NDArray[np.float64]]:
    """Return the planes of a planar frame without the padding of the rows."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width] / 1.0
        for plane in frame.planes
    ]


def psnr(one: list[NDArray[np.float64]], other: list[NDArray[np.float64]]) -> float:
    """Return the PSNR of two frames of equal size over all samples in dB; infinity if the frames are equal."""
    squares = [np.square(np.clip(a, 0, 255) - np.clip(b, 0, 255)) for a, b in zip(one, other, strict=True)]
    error = sum(float(square.sum()) for square in squares) / sum(square.size for square in squares)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
