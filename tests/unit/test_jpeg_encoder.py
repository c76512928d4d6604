"""Encoding of every kind of frame to JPEG: range, colors, size, and the cheapest conversion."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import ColorRange

from nvision_hub.media import cv2_loader
from nvision_hub.media.encode.jpeg_encoder import (
    EncodeError,
    JpegEncoder,
    JpegFrame,
    JpegSettings,
    RangeExpander,
    has_end,
)
from tests.support import files

WIDTH, HEIGHT = 320, 180


@pytest.fixture(params=["with OpenCV", "without"], autouse=True)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with and without OpenCV. Without OpenCV, the results are equal but take longer."""
    cv2 = cv2_loader.load() if request.param == "with OpenCV" else None
    monkeypatch.setattr(cv2_loader, "loaded", lambda: cv2)


def test_every_level_becomes_the_nearest_of_the_full_range() -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    luma, blue, red = RangeExpander(cv2_loader.load()).expand((levels, levels[:, ::2], levels[:, ::-2]))
    exact = levels.astype(np.float64)
    assert np.array_equal(luma, np.clip(np.rint((exact - 16) * 255 / 219), 0, 255))
    chroma = np.clip((exact - 128) * 255 / 224 + 128, 0, 255)
    assert np.abs(blue - chroma[:, ::2]).max() <= 0.5
    assert np.abs(red - chroma[:, ::-2]).max() <= 0.5


def gradient(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a smooth RGB image of many colors."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (255 * np.stack([x, y, (x + y) / 2], axis=2)).round().astype(np.uint8)


def frame(pixel_format: str, color_range: ColorRange, width: int = WIDTH, height: int = HEIGHT) -> av.VideoFrame:
    """Return the gradient as a decoded frame."""
    made = av.VideoFrame.from_ndarray(gradient(width, height), format="rgb24").reformat(
        format=pixel_format,
        src_color_range=ColorRange.JPEG,
        dst_color_range=color_range,
        dst_colorspace="ITU601",
    )
    made.color_range = color_range
    made.pts, made.time_base = 0, Fraction(1, 25)
    return made


def shown(jpeg: JpegFrame) -> np.ndarray:
    """Decode a JPEG to RGB, as a viewer does."""
    return np.asarray(simplejpeg.decode_jpeg(jpeg.data, "RGB"))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return files.psnr([one.astype(np.float64)], [other.astype(np.float64)])


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "nv12", "yuv422p", "yuv444p", "yuv411p", "yuv420p10le", "yuv422p10le", "yuv444p12le"]
)
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("max_width", [None, 160])
def test_jpeg_colors_match_the_frame(pixel_format: str, color_range: ColorRange, max_width: int | None) -> None:
    jpeg = JpegEncoder(quality=95, max_width=max_width).encode(frame(pixel_format, color_range))
    assert (jpeg.width, jpeg.height) == ((160, 90) if max_width else (WIDTH, HEIGHT))
    assert shown(jpeg).shape == (jpeg.height, jpeg.width, 3)
    assert psnr(shown(jpeg), gradient(jpeg.width, jpeg.height)) > 35


def test_unspecified_range_is_limited() -> None:
    unspecified = frame("yuv420p", ColorRange.MPEG)
    unspecified.color_range = ColorRange.UNSPECIFIED
    assert psnr(shown(JpegEncoder(quality=95, max_width=None).encode(unspecified)), gradient()) > 35


def test_jpeg_planes_are_always_full_range() -> None:
    unspecified = frame("yuvj420p", ColorRange.JPEG)
    unspecified.color_range = ColorRange.UNSPECIFIED
    assert psnr(shown(JpegEncoder(quality=95, max_width=None).encode(unspecified)), gradient()) > 35


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le"])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_gray_frames_stay_gray(pixel_format: str, color_range: ColorRange) -> None:
    seen = shown(JpegEncoder(quality=95, max_width=None).encode(frame(pixel_format, color_range)))
    red, green, blue = gradient().astype(np.float64).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert psnr(seen, np.repeat(luma[:, :, None], 3, axis=2)) > 35


@pytest.mark.parametrize("size", [(321, 181), (319, 179), (64, 48), (17, 33), (1, 1), (2, 3)])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_frames_of_any_size_are_encoded(size: tuple[int, int], color_range: ColorRange) -> None:
    width, height = size
    jpeg = JpegEncoder(quality=95, max_width=None).encode(frame("yuv420p", color_range, width, height))
    assert (jpeg.width, jpeg.height) == size
    assert shown(jpeg).shape == (height, width, 3)
    if min(size) > 30:
        assert psnr(shown(jpeg), gradient(width, height)) > 30


@pytest.mark.parametrize(("max_width", "size"), [(159, (158, 88)), (160, (160, 90)), (320, (320, 180)), (16, (16, 8))])
def test_scaling_keeps_the_aspect_and_never_enlarges(max_width: int, size: tuple[int, int]) -> None:
    jpeg = JpegEncoder(quality=85, max_width=max_width).encode(frame("yuv420p", ColorRange.MPEG))
    assert (jpeg.width, jpeg.height) == size
    assert simplejpeg.decode_jpeg_header(jpeg.data)[:2] == (size[1], size[0])


def test_bgr_pixels_of_a_usb_camera_are_encoded_and_scaled() -> None:
    bgr = np.ascontiguousarray(gradient()[:, :, ::-1])
    assert psnr(shown(JpegEncoder(quality=95, max_width=None).encode(bgr)), gradient()) > 35
    scaled = JpegEncoder(quality=95, max_width=160).encode(bgr)
    assert psnr(shown(scaled), gradient(160, 90)) > 35


@pytest.mark.parametrize("subsampling", ["420", "422", "444", "Gray"])
def test_a_cameras_jpeg_passes_unchanged_unless_it_is_too_wide(subsampling: str) -> None:
    space = "GRAY" if subsampling == "Gray" else "RGB"
    pixels = gradient()[:, :, :1] if space == "GRAY" else gradient()
    original = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 95, space, subsampling)
    passed = JpegEncoder(quality=10, max_width=WIDTH).encode(original)
    assert passed == JpegFrame(data=original, width=WIDTH, height=HEIGHT)
    scaled = JpegEncoder(quality=95, max_width=160).encode(original)
    assert (scaled.width, scaled.height) == (160, 90)
    expected = np.repeat(gradient(160, 90)[:, :, :1], 3, axis=2) if space == "GRAY" else gradient(160, 90)
    assert psnr(shown(scaled), expected) > 33


@pytest.mark.parametrize("broken", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"no image at all", b"\x00" * 1000])
@pytest.mark.parametrize("max_width", [None, 160])
def test_a_broken_jpeg_is_reported(broken: bytes, max_width: int | None) -> None:
    with pytest.raises(EncodeError, match="broken"):
        JpegEncoder(quality=85, max_width=max_width).encode(broken)


def test_one_broken_frame_does_not_spoil_the_next() -> None:
    encoder = JpegEncoder(quality=85, max_width=160)
    original = simplejpeg.encode_jpeg(gradient(), 95, "RGB", "420")
    for _ in range(3):
        with pytest.raises(EncodeError):
            encoder.encode(original[:400])
        assert encoder.encode(original).width == 160


def test_a_camera_may_change_its_size_and_format_at_any_time() -> None:
    encoder = JpegEncoder(quality=95, max_width=None)
    for pixel_format, color_range, size in (
        ("yuv420p", ColorRange.MPEG, (320, 180)),
        ("yuv422p", ColorRange.MPEG, (64, 48)),
        ("yuv420p", ColorRange.JPEG, (160, 90)),
        ("yuv420p10le", ColorRange.MPEG, (320, 240)),
        ("yuv420p", ColorRange.MPEG, (320, 180)),
    ):
        jpeg = encoder.encode(frame(pixel_format, color_range, *size))
        assert psnr(shown(jpeg), gradient(*size)) > 33


def test_a_changed_quality_applies_to_the_next_frame() -> None:
    encoder = JpegEncoder(quality=95, max_width=None)
    large = len(encoder.encode(frame("yuv420p", ColorRange.JPEG)).data)
    encoder.settings = JpegSettings(quality=20, max_width=None)
    assert len(encoder.encode(frame("yuv420p", ColorRange.JPEG)).data) < large / 2


def test_a_jpeg_without_its_end_marker_is_not_sent() -> None:
    jpeg = simplejpeg.encode_jpeg(gradient())
    thumbnail = b"\xff\xe1" + (len(jpeg) + 2).to_bytes(2) + jpeg
    for whole in (jpeg, jpeg + b"\0trailing", jpeg[:2] + thumbnail + jpeg[2:], jpeg[:2] + b"\xff\xff" + jpeg[2:]):
        assert has_end(whole)
        assert JpegEncoder(quality=80, max_width=None).encode(whole).data == whole
        half = whole[: len(whole) - len(jpeg) // 2]
        assert not has_end(half)
        with pytest.raises(EncodeError, match="end too early"):
            JpegEncoder(quality=80, max_width=None).encode(half)
