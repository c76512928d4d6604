"""Privacy masks: no masked pixel affects the JPEG, for any polygon, size and pixel format.

The tests encode frames that differ only in masked pixels. The JPEGs must be identical.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import ColorRange
from hypothesis import assume, given
from hypothesis import strategies as st

from nvision_hub.media.encode.jpeg_encoder import JpegEncoder, JpegFrame
from nvision_hub.media.encode.privacy_masks import BLACK, covered
from tests.support import files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nvision_hub.media.encode.privacy_masks import Polygon

STAR = ((0.5, 0.1), (0.7, 0.9), (0.1, 0.4), (0.9, 0.4), (0.3, 0.9))  # crosses itself; winding number 5 at its center
RING = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2))
MCU = 16  # block size of a 4:2:0 JPEG in pixels

points = st.tuples(st.floats(0, 1), st.floats(0, 1))
polygons = st.lists(points, min_size=3, max_size=9)
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def winding(polygon: Polygon, x: float, y: float) -> int:
    """Return the winding number of a polygon around a point, calculated from the angles between its corners."""
    angles = [math.atan2(py - y, px - x) for px, py in polygon]
    turns = [(b - a + math.pi) % (2 * math.pi) - math.pi for a, b in zip(angles, angles[1:] + angles[:1], strict=True)]
    return round(sum(turns) / (2 * math.pi))


def distance(polygon: Polygon, x: float, y: float) -> float:
    """Return the distance from a point to the nearest side of the polygon."""
    nearest = math.inf
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        length = (bx - ax) ** 2 + (by - ay) ** 2
        along = 0.0 if length == 0 else min(1.0, max(0.0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length))
        nearest = min(nearest, math.hypot(ax + along * (bx - ax) - x, ay + along * (by - ay) - y))
    return nearest


@given(polygon=polygons, size=sizes, spot=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)))
def test_every_point_inside_is_covered_and_none_far_outside(
    polygon: Polygon, size: tuple[int, int], spot: tuple[float, float]
) -> None:
    width, height = size
    corners = [(x * width, y * height) for x, y in polygon]
    x, y = spot[0] * width, spot[1] * height
    away = distance(corners, x, y)
    assume(away > 1e-6)
    mask = covered(polygon, width, height)
    if winding(corners, x, y):
        assert mask[int(y), int(x)]
    elif away > math.sqrt(2):
        assert not mask[int(y), int(x)]


@pytest.mark.parametrize("size", [(64, 48), (1, 1), (33, 17)])
def test_a_polygon_of_the_whole_frame_covers_every_pixel(size: tuple[int, int]) -> None:
    assert covered([(0, 0), (1, 0), (1, 1), (0, 1)], *size).all()


def test_corners_of_the_frame_are_reached() -> None:
    mask = covered([(1, 1), (1, 0.9), (0.9, 1)], 100, 50)
    assert mask[-1, -1]
    assert not mask[:40].any()


def seeded_frame(pixel_format: str, width: int, height: int, polygon: Polygon, hidden: int) -> av.VideoFrame:
    """Return a frame with noise inside the polygon. Only this noise depends on the seed `hidden`."""
    frame = av.VideoFrame(width, height, pixel_format)
    frame.color_range = ColorRange.JPEG if pixel_format.startswith("yuvj") else ColorRange.MPEG
    seen, secret = np.random.default_rng(1), np.random.default_rng(hidden)
    mask = covered(polygon, width, height)
    for plane in frame.planes:
        line = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width]
        x, y = np.meshgrid(np.linspace(40, 200, plane.width), np.linspace(0, 30, plane.height))
        line[:] = np.clip(x + y + seen.integers(-6, 7, line.shape), 0, 255)
        inside = mask
        # A chroma sample shared by masked and visible pixels counts as masked.
        if plane.width < width:
            inside = np.pad(inside, ((0, 0), (0, width % 2)))
            inside = inside[:, ::2] | inside[:, 1::2]
        if plane.height < height:
            inside = np.pad(inside, ((0, height % 2), (0, 0)))
            inside = inside[::2] | inside[1::2]
        line[inside] = secret.integers(0, 256, line.shape)[inside]
    return frame


def luma_of(jpeg: JpegFrame) -> NDArray[np.float64]:
    return files.planes_of_jpeg(jpeg.data)[0]


@given(
    polygon=polygons,
    size=st.tuples(st.integers(16, 160), st.integers(16, 160)),
    pixel_format=st.sampled_from(["yuv420p", "yuvj420p", "yuv422p", "yuv444p"]),
    share=st.none() | st.floats(0.2, 1),
)
def test_masked_pixels_never_change_the_jpeg(
    polygon: Polygon, size: tuple[int, int], pixel_format: str, share: float | None
) -> None:
    width, height = size
    max_width = None if share is None else max(16, round(width * share))
    encoder = JpegEncoder(quality=90, max_width=max_width, masks=[polygon])
    one, other = (encoder.encode(seeded_frame(pixel_format, width, height, polygon, hidden)) for hidden in (2, 3))
    assert one == other


@given(polygon=polygons, size=st.tuples(st.integers(16, 160), st.integers(16, 160)))
def test_masked_areas_are_black_and_the_rest_is_unchanged(polygon: Polygon, size: tuple[int, int]) -> None:
    width, height = size
    frame = seeded_frame("yuvj420p", width, height, polygon, 2)
    masked = luma_of(JpegEncoder(quality=90, max_width=None, masks=[polygon]).encode(frame))
    plain = luma_of(JpegEncoder(quality=90, max_width=None).encode(frame))
    mask = covered(polygon, width, height)
    blocks_high, blocks_wide = -(-height // MCU), -(-width // MCU)
    near = np.zeros((height, width), np.bool_)  # pixels in blocks that contain or touch a masked pixel
    grown = np.pad(mask, 1)
    margin = np.logical_or.reduce([grown[y : y + height, x : x + width] for y in range(3) for x in range(3)])
    for row in range(blocks_high):
        for column in range(blocks_wide):
            block = np.s_[row * MCU : (row + 1) * MCU, column * MCU : (column + 1) * MCU]
            near[block] = margin[block].any()
            if margin[block].all():
                assert np.abs(masked[block] - BLACK[0]).max() <= 1
    assert np.array_equal(masked[~near], plain[~near])
    # At the edge, visible pixels may affect the mask through ringing, but masked pixels never affect visible pixels.
    assert masked[mask].max(initial=0) < 100


@pytest.mark.parametrize("polygon", [STAR, RING])
def test_polygons_that_cross_themselves_have_no_holes(polygon: Polygon) -> None:
    masked = luma_of(
        JpegEncoder(quality=90, max_width=None, masks=[polygon]).encode(seeded_frame("yuvj420p", 320, 240, polygon, 2))
    )
    assert masked[100, 160] < 20


def test_a_cameras_own_jpeg_and_pixels_are_masked_too() -> None:
    pixels = np.full((120, 160, 3), 200, np.uint8)
    polygon = [(0.25, 0.0), (0.75, 0.0), (0.75, 1.0), (0.25, 1.0)]
    encoder = JpegEncoder(quality=90, max_width=None, masks=[polygon])
    for subsampling in ("420", "422", "444"):
        own = simplejpeg.encode_jpeg(pixels, 95, "BGR", subsampling)
        shown = simplejpeg.decode_jpeg(encoder.encode(own).data, "GRAY")
        assert shown[:, 48:112].max() <= 2
        assert shown[:, :32].min() > 195
        assert shown[:, 128:].min() > 195
    usb = simplejpeg.decode_jpeg(encoder.encode(pixels).data, "GRAY")
    assert usb[:, 48:112].max() <= 2
    gray = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[:, :, :1]), 95, "GRAY", "Gray")
    assert simplejpeg.decode_jpeg(encoder.encode(gray).data, "GRAY")[:, 48:112].max() <= 2


def test_masks_follow_the_frames_size() -> None:
    polygon = [(0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0)]
    encoder = JpegEncoder(quality=90, max_width=None, masks=[polygon])
    for width, height in ((320, 240), (161, 121), (640, 360), (320, 240)):
        shown = luma_of(encoder.encode(seeded_frame("yuv420p", width, height, [(0, 0), (0, 0), (0, 0)], 2)))
        assert shown[height // 2 + MCU :, width // 2 + MCU :].max() <= 1
        assert shown[: height // 2 - MCU, : width // 2 - MCU].min() > 10


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_mask_does_not_change_reference_frames(tmp_path: Path, b_frames: int) -> None:
    """The encoder receives full-range planes without a copy, and the decoder may still use them as references."""
    files.write(tmp_path / "clip.mp4", full_range=True, frames=25, b_frames=b_frames)
    polygon = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7)]
    masked, plain = JpegEncoder(quality=90, max_width=None, masks=[polygon]), JpegEncoder(quality=90, max_width=None)
    with av.open(str(tmp_path / "clip.mp4")) as one, av.open(str(tmp_path / "clip.mp4")) as other:
        for a, b in zip(one.decode(video=0), other.decode(video=0), strict=True):
            shown, expected = luma_of(masked.encode(a)), luma_of(plain.encode(b))
            shown[96:264, 176:464] = expected[96:264, 176:464] = 0
            assert np.array_equal(shown, expected)
