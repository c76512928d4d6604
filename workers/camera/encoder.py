"""A decoded picture to JPEG, by the cheapest right path.

JPEG is full-range BT.601. Most cameras send limited range, and their planes passed straight on look washed out (30 dB
against the right picture, 42 dB with the range expanded). Where that is all that is wanted, OpenCV does it in half of
swscale's time. One swscale pass does scaling, range and subsampling together; pictures that need none of it go to the
encoder as they are, without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
import simplejpeg
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from nvision_hub.errors import HubError
from workers.camera.expansion import Expansion
from workers.camera.limits import MAX_PIXELS
from workers.camera.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.camera.expansion import Planes
    from workers.camera.masks import Polygon

_JPEG_PLANES: Final = "yuvj420p"


@dataclass(frozen=True, kw_only=True, slots=True)
class Jpeg:
    """One encoded picture and its size in pixels."""

    data: bytes
    width: int
    height: int


class Encoder:
    """One camera's encoder. Keeps one reformatter, and what it writes to: one picture of the camera's size."""

    def __init__(self, *, quality: int, max_width: int | None, masks: Sequence[Polygon] = ()) -> None:
        self.quality = quality  # 1..100; used from the next picture on
        self.max_width = max_width  # None: never scaled
        self._masks = Masks(masks)
        self._reformatter = VideoReformatter()
        self._expansion = Expansion.of_opencv()
        self._jpeg_decoder: av.VideoCodecContext | None = None

    def encode(self, picture: av.VideoFrame | np.ndarray[Any, Any] | bytes) -> Jpeg:
        """The JPEG of a frame, of BGR pixels of shape (height, width, 3), or of a JPEG that the camera made.

        A camera's own JPEG is passed on as it is unless it has to be scaled or masked. Raises `EncodeError` for one
        that is broken.
        """
        if isinstance(picture, bytes):
            return self._pass_on(picture)
        if isinstance(picture, np.ndarray):
            picture = av.VideoFrame.from_ndarray(picture, format="bgr24")
        width, height = self._size(picture.width, picture.height)
        return Jpeg(data=self._compress(self._planes(picture, width, height)), width=width, height=height)

    def _pass_on(self, data: bytes) -> Jpeg:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
        except ValueError as error:
            raise EncodeError("the camera sent a JPEG that is broken") from error
        if width * height > MAX_PIXELS:
            raise EncodeError(f"the camera sent a JPEG of {width} x {height} pixels, which is beyond any camera")
        if not self._masks and self._size(width, height) == (width, height):
            return Jpeg(data=data, width=width, height=height)
        if self._jpeg_decoder is None:
            self._jpeg_decoder = av.VideoCodecContext.create("mjpeg", "r")
            self._jpeg_decoder.thread_count = 1
        try:
            frames = self._jpeg_decoder.decode(av.Packet(data))
        except av.error.FFmpegError as error:
            raise EncodeError("the camera sent a JPEG that is broken") from error
        if not frames:
            raise EncodeError("the camera sent a JPEG that is broken")
        return self.encode(frames[0])

    def _size(self, width: int, height: int) -> tuple[int, int]:
        if self.max_width is None or width <= self.max_width:
            return width, height
        # Even, because chroma planes are half as large.
        return self.max_width & ~1, max(2, round(height * self.max_width / width) & ~1)

    def _planes(self, frame: av.VideoFrame, width: int, height: int) -> Planes:
        # What a stream does not say is limited, as H.264 has it (E.2.1); RGB is full by nature.
        full = frame.format.is_rgb or frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        fits = frame.format.name in {"yuv420p", _JPEG_PLANES} and (width, height) == (frame.width, frame.height)
        if fits and full:
            if self._masks:
                frame.make_writable()  # the decoder may need it as it was, for pictures that build on it
            return _arrays(frame)
        if fits and self._expansion is not None:
            return self._expansion.expand(_arrays(frame))
        return _arrays(
            self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=_JPEG_PLANES,
                src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=Interpolation.AREA,
                threads=1,
            )
        )

    def _compress(self, planes: Planes) -> bytes:
        luma, blue, red = planes
        if self._masks:
            self._masks.blank((luma, blue, red))
        if luma.shape[0] % 2 or luma.shape[1] % 2:
            # turbojpeg.c reads luma in pairs: beyond an odd edge would be whatever lies in memory there.
            luma = np.pad(luma, ((0, 1), (0, 1)), "edge")[: luma.shape[0], : luma.shape[1]]
        return bytes(simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality=self.quality))


def _arrays(frame: av.VideoFrame) -> Planes:
    luma, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    return luma, blue, red


class EncodeError(HubError):
    """One picture that cannot be made into a JPEG; the next may."""
