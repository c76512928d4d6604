"""Interlaced video: frames of two fields (H.264) and fields (H.265), with an object that moves between the fields."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import simplejpeg
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from nvision_hub.cli.camera_probe import measure
from nvision_hub.config.models import Camera
from nvision_hub.media.encode.jpeg_encoder import JpegEncoder
from nvision_hub.media.interlacing import even_lines
from nvision_hub.media.sources import KnownCertificates, open_source

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
        field = even_lines(frame)
        assert np.array_equal(field.to_ndarray(), frame.to_ndarray()[: frame.height // 2 * 2 : 2])


def field_pictures() -> Iterator[av.Packet[Any]]:
    """Yield H.265 in which each picture is a field, first the one of the even lines."""
    encoder = VideoCodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT // 2, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(50), Fraction(1, 50)
    encoder.color_range = ColorRange.MPEG
    encoder.options = {"preset": "ultrafast", "crf": "10", "x265-params": "bframes=0:interlace=tff:log-level=none"}
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(field(number)[number % 2 :: 2], format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 50)
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def camera_of(packets: Iterator[av.Packet[Any]], codec: str, folder: Path) -> Camera:
    """Return a camera that plays the packets from a file."""
    raw, file = folder / f"raw.{codec}", folder / "clip.mkv"
    raw.write_bytes(b"".join(map(bytes, packets)))
    with av.open(str(raw), format=codec) as source, av.open(str(file), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            target.mux(packet)
    return Camera.model_validate({"id": "cam", "url": f"file:{file}"})


@pytest.mark.parametrize("max_width", [None, WIDTH // 2])
def test_a_field_picture_is_sent_at_the_full_height(tmp_path: Path, max_width: int | None) -> None:
    encoder = JpegEncoder(quality=95, max_width=max_width)
    with contextlib.closing(open_source(camera_of(field_pictures(), "hevc", tmp_path))) as source:
        frames = (frame for packet in islice(source.packets(), FRAMES - 1) for _, frame in source.decode(packet))
        jpegs = [encoder.encode(frame) for frame in frames]
    assert len(jpegs) > FRAMES // 2
    for number, jpeg in enumerate(jpegs):
        assert (jpeg.width, jpeg.height) == ((WIDTH, HEIGHT) if max_width is None else (WIDTH // 2, HEIGHT // 2))
        shown = simplejpeg.decode_jpeg(jpeg.data, "RGB")
        scene = field(number)[:: HEIGHT // jpeg.height, :: WIDTH // jpeg.width]
        assert np.abs(shown.astype(int) - scene).mean() < 4


@pytest.mark.parametrize(("codec", "interlaced"), [("h264", False), ("h264", True), ("hevc", True)])
def test_probe_reports_interlaced_video(tmp_path: Path, codec: str, *, interlaced: bool) -> None:
    packets = encoded(interlaced=interlaced) if codec == "h264" else field_pictures()
    report = measure(camera_of(packets, codec, tmp_path), 0.2, KnownCertificates())
    assert report.interlaced is interlaced
    assert (report.width, report.height) == (WIDTH, HEIGHT)
