"""Interlaced video: real H.264 frames of two fields, in which an object moves between the fields."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import simplejpeg
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from nvision_hub.cli.camera_probe import measure
from nvision_hub.config.models import Camera
from nvision_hub.media.encode.jpeg_encoder import JpegEncoder, top_field
from nvision_hub.media.sources import KnownCertificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH, HEIGHT, FRAMES = 320, 176, 8


def field(number: int) -> np.ndarray[Any, Any]:
    """Return the scene at one of 50 moments per second: a red bar that moves by 12 pixels each time."""
    scene = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    scene[:, 20 + 12 * number : 60 + 12 * number] = (220, 30, 30)
    return scene


def encoded(*, interlaced: bool, pixel_format: str = "yuv420p") -> Iterator[av.Packet[Any]]:
    encoder = VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, pixel_format
    encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)
    encoder.color_range = ColorRange.MPEG
    encoder.options = {"preset": "ultrafast", "crf": "10", "x264-params": f"bframes=0:tff={int(interlaced)}"}
    for number in range(FRAMES):
        scene = field(2 * number)
        if interlaced:
            scene[1::2] = field(2 * number + 1)[1::2]
        frame = av.VideoFrame.from_ndarray(scene, format="rgb24").reformat(format=pixel_format)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def decoded(*, interlaced: bool, pixel_format: str = "yuv420p") -> Iterator[av.VideoFrame]:
    decoder = VideoCodecContext.create("h264", "r")
    for packet in encoded(interlaced=interlaced, pixel_format=pixel_format):
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def combing(image: np.ndarray[Any, Any]) -> float:
    """Return how much more adjacent lines differ than lines of the same field. A positive value means combing."""
    luma = image.astype(np.int32).mean(axis=2)
    return float(np.abs(luma[:-2] - luma[1:-1]).mean() - np.abs(luma[:-2] - luma[2:]).mean())


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p"])
def test_an_interlaced_frame_is_sent_without_combs(pixel_format: str) -> None:
    frames = list(decoded(interlaced=True, pixel_format=pixel_format))
    assert len(frames) == FRAMES
    for number, frame in enumerate(frames):
        assert frame.interlaced_frame
        assert combing(frame.to_ndarray(format="rgb24")) > 1
        jpeg = JpegEncoder(quality=95, max_width=None).encode(frame)
        assert (jpeg.width, jpeg.height) == (WIDTH, HEIGHT)
        shown = simplejpeg.decode_jpeg(jpeg.data, "RGB")
        assert combing(shown) < 0.5
        assert np.abs(shown.astype(int) - field(2 * number)).mean() < 4


def test_a_progressive_frame_keeps_all_lines() -> None:
    for frame in decoded(interlaced=False):
        assert not frame.interlaced_frame


def test_a_field_has_the_even_lines_of_every_plane() -> None:
    for height in (4, 6, 7):
        frame = av.VideoFrame.from_ndarray(np.arange(height * 3 // 2 * 8, dtype=np.uint8).reshape(-1, 8), format="gray")
        field = top_field(frame)
        assert np.array_equal(field.to_ndarray(), frame.to_ndarray()[: frame.height // 2 * 2 : 2])


@pytest.mark.parametrize("interlaced", [False, True])
def test_probe_reports_interlaced_video(tmp_path: Path, *, interlaced: bool) -> None:
    raw, file = tmp_path / "raw.h264", tmp_path / "clip.mkv"
    raw.write_bytes(b"".join(bytes(packet) for packet in encoded(interlaced=interlaced)))
    with av.open(str(raw)) as source, av.open(str(file), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            target.mux(packet)
    camera = Camera.model_validate({"id": "cam", "url": f"file:{file}"})
    assert measure(camera, 0.2, KnownCertificates()).interlaced is interlaced
